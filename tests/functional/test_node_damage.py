"""A damaged data folder: the node says in one line what is damaged and what to do, and that repairs it.

The chain below it is damaged in every way in tests/property/test_damage.py.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.storage.page_checksums import PageChecksums
from tests.functional.processes import Node, nodes, pickaxe

pytestmark = pytest.mark.functional

ADDRESS = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def hit_block(folder: Path, rng: random.Random) -> None:
    """Somewhere in the last block but two."""
    path = folder / "blocks" / "blk00000.dat"
    flip(path, path.stat().st_size - 650)


def hit_coins(folder: Path, rng: random.Random) -> None:
    """Any page in use but the headers."""
    sums = PageChecksums(folder / "chainstate", repair="", read_only=True)
    sums.verify()
    page = rng.choice([number for number, used in enumerate(sums._sums) if used and number > 1])
    flip(folder / "chainstate" / "data.mdb", page * 4096 + rng.randrange(4096))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A stopped node's folder, and what it said of its coins."""
    folder = tmp_path_factory.mktemp("original")
    node = Node(folder, "regtest")
    with nodes(node):
        node.start()
        node.call("generatetoaddress", 40, ADDRESS)
        stats = node.call("gettxoutsetinfo")
        node.stop()
    return folder, stats


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (hit_block, "Block "),
        (hit_coins, "chainstate is damaged"),
    ],
)
def test_damage_is_named_at_the_start_and_repaired(
    tmp_path: Path,
    rng: random.Random,
    original: tuple[Path, dict[str, object]],
    damage: Callable[[Path, random.Random], None],
    named: str,
) -> None:
    folder, stats = original
    shutil.copytree(folder, tmp_path / "node")
    node = Node(tmp_path / "node", "regtest")
    damage(node.folder / "regtest", rng)
    start = (
        "node",
        "--network",
        "regtest",
        "--datadir",
        str(node.folder),
        "--rpc-port",
        str(node.rpc_port),
        "--no-listen",
    )
    failed = pickaxe(*start)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1
    assert named in failed.stderr
    repair = "--reindex-chainstate" if "--reindex-chainstate" in failed.stderr else "--reindex"
    assert f"start with {repair} to re" in failed.stderr
    with nodes(node):
        node.start(repair)
        after = node.call("gettxoutsetinfo")
        if damage is hit_block:  # it is gone, until a peer sends it
            assert 30 <= after["height"] < 40
        else:
            assert after["hash_serialized_3"] == stats["hash_serialized_3"]
        node.call("generatetoaddress", 1, ADDRESS)
        assert node.call("verifychain", 4, 0) is True
