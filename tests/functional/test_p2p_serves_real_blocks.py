"""Bitcoin's first blocks, from one real chain to another over loopback sockets: only chain and peers, no RPC."""

from __future__ import annotations

import asyncio
import bz2
import time
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.interfaces import Verdict
from chain.mempool.pool import Mempool
from chain.params import network
from chain.primitives.errors import LocalFault
from chain.primitives.types import hash_to_hex
from node.chain_service import ChainService
from node.chain_worker import ChainWorker
from p2p.config import Bind, P2PConfig
from p2p.manager import PeerManager

TIP_255 = "00000000d0a75c861fabf9ff7b92022f60e4afeed9331fe5aa073d8e4706fe3c"


def read_blocks(packed: Path) -> list[bytes]:
    """The blocks of a block file: magic, length, block, one after another."""
    data = bz2.decompress(packed.read_bytes())
    blocks, position = [], 0
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        blocks.append(data[position + 8 : position + 8 + size])
        position += 8 + size
    return blocks


class Node:
    """A chain in its thread, with peers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[LocalFault] = []
        self.service = ChainService(network("bitcoin"), self.faults.append)

    async def open(self, config: P2PConfig) -> None:
        self.folder.mkdir()

        def build(notify):  # type: ignore[no-untyped-def]
            # the real network's minimum work would make a chain of 256 blocks worth nothing
            chain = Chainstate(network("bitcoin"), self.folder, clock=time.time, minimum_chain_work=0)
            return ChainWorker(chain, Mempool(chain), time.time, notify)

        await self.service.open(build)
        self.peers = PeerManager(self.service, config)
        self.service.subscribe(self.peers)
        await self.peers.start()
        self.run = asyncio.create_task(self.peers.run())

    async def close(self) -> None:
        self.peers.stop()
        await self.run
        await self.service.call(self.service.worker.chain.close)
        await self.service.close()
        assert not self.faults


@pytest.mark.functional
def test_an_empty_chain_is_filled_by_another(tmp_path: Path, vectors: Path) -> None:
    blocks = read_blocks(vectors / "blocks" / "mainnet" / "blocks1-256.dat.bz2")

    async def main() -> None:
        server, client = Node(tmp_path / "server"), Node(tmp_path / "client")
        await server.open(P2PConfig(binds=(Bind("127.0.0.1", 0),), connect=()))
        for raw in blocks:
            outcome = await server.service.process_block(raw, requested=True)
            assert outcome.verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE), outcome.reason
        wanted = server.service.tip()
        host, port = server.peers.listening[0]
        await client.open(P2PConfig(connect=(f"{host}:{port}",)))
        async with asyncio.timeout(60):
            await client.service.wait_for_tip(lambda tip: tip.hash == wanted.hash, None)
        (info,) = client.peers.peer_info()
        assert info["synced_headers"] == wanted.height
        assert info["inflight"] == []
        await client.close()
        await server.close()
        assert (wanted.height, hash_to_hex(wanted.hash)) == (255, TIP_255)

    asyncio.run(main())
