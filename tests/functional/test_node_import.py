"""Real blocks: read from a file, checked, and served to a node that has none."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from chain.primitives.header import BlockHeader
from chain.primitives.types import hash_to_hex
from tests.functional.processes import Node, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional


def _block_file(vectors: Path, tmp_path: Path) -> tuple[Path, str]:
    """The first 256 blocks of Bitcoin's main chain as a block file, and the hash of the last."""
    path = tmp_path / "blocks.dat"
    data = bz2.decompress((vectors / "blocks/mainnet/blocks1-256.dat.bz2").read_bytes())
    path.write_bytes(data)
    at = last = 0
    while at < len(data):
        last, at = at, at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return path, hash_to_hex(BlockHeader(data[last + 8 : last + 88]).hash)


def test_256_blocks_are_imported_and_then_served_to_an_empty_node(vectors: Path, tmp_path: Path) -> None:
    path, tip_hex = _block_file(vectors, tmp_path)
    # A chain this short has far less work than a node of Bitcoin's asks for; both are told that it will do.
    options = ("--minimum-chain-work", "0")
    first = Node(tmp_path / "first", "bitcoin", "--connect", "0", *options)
    second = Node(tmp_path / "second", "bitcoin", *options)
    with nodes(first, second):
        first.start("--loadblock", str(path))
        answer = first.call("waitforblockheight", 255, 60_000)
        assert answer == {"hash": tip_hex, "height": 255}
        info = first.call("getblockchaininfo")
        assert (info["blocks"], info["headers"], info["chain"]) == (255, 255, "main")
        stats = first.call("gettxoutsetinfo")
        assert stats["height"] == 255
        second.start("--connect", first.address)
        second.wait_for_block(tip_hex)
        theirs = second.call("gettxoutsetinfo")
        assert theirs["hash_serialized_3"] == stats["hash_serialized_3"]
        peers = until("the peer is there", lambda: second.call("getpeerinfo"))
        assert peers[0]["synced_blocks"] == 255
        first.stop()
        first.start("--loadblock", str(path))  # known blocks are passed over
        assert first.call("getbestblockhash") == tip_hex


def test_a_truncated_file_gives_the_blocks_before_the_cut(vectors: Path, tmp_path: Path) -> None:
    path, _ = _block_file(vectors, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    node = Node(tmp_path / "node", "bitcoin", "--connect", "0")
    with nodes(node):
        node.start("--loadblock", str(path))
        height = until(
            "the import is done", lambda: node.call("getmempoolinfo")["loaded"] and node.call("getblockcount")
        )
        assert 100 < height < 255
        assert node.call("verifychain", 4, 0) is True
