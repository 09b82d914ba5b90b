"""Whole networks of engines, in memory and in simulated time: they end up with the same chain and mempool whatever the
links and the liars do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from p2p.config import P2PConfig
from p2p.messages import BlockMessage, Headers
from p2p.peer import ConnectionType
from tests.support.fake_node import FakeNode, make_block, make_transaction
from tests.support.simnet import Script, SimHost, SimNet, ready

Body = Callable[[SimNet], Awaitable[None]]


def simulate(rng: random.Random, body: Body) -> None:
    async def main() -> None:
        await body(SimNet(rng))

    asyncio.run(main())


def agreed(hosts: list[SimHost]) -> bool:
    return len({h.node.tip().hash for h in hosts}) == 1


def test_a_new_node_syncs_from_several(rng: random.Random) -> None:
    async def body(net: SimNet) -> None:
        sources = [net.add(FakeNode()) for _ in range(3)]
        hashes = sources[0].node.extend(600)
        for source in sources[1:]:
            for block_hash in hashes:
                source.node.accept_block(make_from(sources[0], block_hash))
        new = net.add(FakeNode())
        new.node.initial_download = True
        for source in sources:
            net.connect(new, source)
        assert await net.run(120, lambda: agreed([*sources, new]))
        assert len(set(new.node.requested_flags)) == 1  # everything was asked for, nothing twice
        assert len(new.node.requested_flags) == 600

    simulate(rng, body)


def make_from(host: SimHost, block_hash: bytes):  # type: ignore[no-untyped-def]
    from chain.primitives.block import Block

    return Block.parse(host.node.entries[block_hash].raw or b"")


def test_one_source_stalls(rng: random.Random) -> None:
    async def body(net: SimNet) -> None:
        good, bad = net.add(FakeNode()), net.add(FakeNode())
        hashes = good.node.extend(1500, time=int(net.now) - 3600)  # recent: headers are asked of everyone
        for block_hash in hashes:
            bad.node.accept_block(make_from(good, block_hash))
        new = net.add(FakeNode())
        new.node.initial_download = True
        at_new, at_bad = net.connect(new, bad)
        net.connect(new, good)
        assert await net.run(60, lambda: bool(at_new.sync.in_flight))
        net.stalled.add(at_new)  # nothing that bad says arrives any more
        assert await net.run(300, lambda: agreed([good, new]))
        assert at_new.disconnecting
        assert at_bad.disconnecting

    simulate(rng, body)


def test_blocks_spread_through_a_ring(rng: random.Random) -> None:
    async def body(net: SimNet) -> None:
        hosts = [net.add(FakeNode()) for _ in range(6)]
        for i, host in enumerate(hosts):
            net.connect(host, hosts[(i + 1) % 6])
        await net.run(2)
        for _ in range(5):
            miner = rng.choice(hosts)
            miner.node.extend(1, time=int(net.now) - 10)
            assert await net.run(30, lambda: agreed(hosts))
        assert hosts[0].node.tip().height == 5

    simulate(rng, body)


def test_a_partition_heals(rng: random.Random) -> None:
    async def body(net: SimNet) -> None:
        left = [net.add(FakeNode()) for _ in range(2)]
        right = [net.add(FakeNode()) for _ in range(2)]
        net.connect(left[0], left[1])
        net.connect(right[0], right[1])
        await net.run(2)
        left[0].node.extend(30, time=int(net.now) - 600, salt=1)
        right[0].node.extend(37, time=int(net.now) - 600, salt=2)
        assert await net.run(60, lambda: agreed(left) and agreed(right))
        best = right[0].node.tip().hash
        net.connect(left[1], right[1])
        assert await net.run(60, lambda: agreed(left + right))
        assert left[0].node.tip().hash == best

    simulate(rng, body)


def test_transactions_reach_everybody(rng: random.Random) -> None:
    async def body(net: SimNet) -> None:
        hosts = [net.add(FakeNode()) for _ in range(5)]
        for host in hosts:
            host.node.extend(1, time=int(net.now) - 60)
        for i in range(5):
            for j in range(i):
                if rng.random() < 0.7 or j == i - 1:
                    net.connect(hosts[i], hosts[j])
        await net.run(5)
        txs = [make_transaction(salt, witness=bool(salt % 2)) for salt in range(40)]
        for tx in txs:
            rng.choice(hosts).node.add_transaction(tx)
        wanted = {tx.wtxid for tx in txs}
        assert await net.run(300, lambda: all(set(h.node.pool) == wanted for h in hosts))

    simulate(rng, body)


def test_liars_lose_their_connections_and_no_one_else_does(rng: random.Random) -> None:
    """Peers that send garbage, invalid blocks or headers without work, while honest ones sync."""

    async def body(net: SimNet) -> None:
        honest = [net.add(FakeNode()) for _ in range(3)]
        honest[0].node.extend(50, time=int(net.now) - 6000)
        for a, b in ((1, 0), (2, 1), (2, 0)):
            net.connect(honest[a], honest[b])
        await net.run(0.5)  # a silent liar that came first could delay the sync by a quarter of an hour, as in Core
        liars = []
        for host in honest:
            for _ in range(3):
                liars.append(await ready(Script(net, host, ConnectionType.INBOUND)))
        rounds = 0
        while rounds < 30:
            rounds += 1
            await net.run(0.5)
            if rounds % 10 == 0:
                honest[0].node.extend(1, time=int(net.now) - 5)
            liar = rng.choice(liars)
            if liar.peer.disconnecting:
                continue
            host = liar.host
            match rng.randrange(4):
                case 0:
                    await liar.say_bytes(rng.randbytes(rng.randrange(1, 200)))
                case 1:
                    block = make_block(
                        host.node.active[-1].header, host.node.tip().height + 1, int(net.now), salt=rounds
                    )
                    host.node.bad_blocks.add(block.hash)
                    await liar.say(BlockMessage(block.raw))
                case 2:
                    header = make_block(host.node.active[-1].header, 1, int(net.now), salt=rounds).header
                    await liar.say(Headers((header, header)))
                case _:
                    tip = host.node.active[-1].header
                    orphan = make_block(
                        make_block(tip, 1, int(net.now), salt=rounds).header, 2, int(net.now), salt=rounds
                    )
                    await liar.say(BlockMessage(orphan.raw))
        assert await net.run(120, lambda: agreed(honest))
        assert honest[0].node.tip().height == 53
        for host in honest:
            assert sum(not p.disconnecting for p in host.engine.peers.values() if p not in {x.peer for x in liars}) == 2

    simulate(rng, body)


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_chunk_sizes_do_not_matter(rng: random.Random, chunk: int) -> None:
    async def main() -> None:
        net = SimNet(rng, chunk=chunk)
        a, b = net.add(FakeNode()), net.add(FakeNode(), P2PConfig(compact_blocks=False))
        a.node.extend(5, time=int(net.now) - 60)
        net.connect(b, a)
        assert await net.run(30, lambda: agreed([a, b]))

    asyncio.run(main())
