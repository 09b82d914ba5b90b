"""Unmapping a database's pages: the process gets smaller, the data stay."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from chain.primitives.types import OutPoint, PackedCoin
from chain.storage.mapped_pages import KEPT_LOOKUPS, MappedPages
from chain.storage.store import ChainStore

GENESIS = b"\x11" * 32


def _mapped_kib(path: Path) -> int:
    """How much of a file is mapped into this process, from /proc."""
    wanted, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            wanted = fields[-1] == str(path)
        elif wanted and fields[0] == "Rss:":
            total += int(fields[1])
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_all_of_a_store_keeps_little_of_it_mapped(tmp_path: Path, rng: random.Random) -> None:
    coins = {OutPoint(rng.randbytes(36)): PackedCoin(rng.randbytes(200)) for _ in range(60_000)}
    store = ChainStore(tmp_path / "store", GENESIS)
    try:
        store.commit(tip=GENESIS, position=(0, 0), index={}, deleted=(), added=coins)
        data = (tmp_path / "store" / "data.mdb").resolve()
        assert data.stat().st_size > 8 << 20
        found = store.get_coins(list(coins))
        assert _mapped_kib(data) * 1024 < data.stat().st_size / 2
        assert found == coins
        deleted = set(rng.sample(sorted(coins), 5000))
        added = {OutPoint(rng.randbytes(36)): PackedCoin(b"new") for _ in range(5000)}
        added |= {op: PackedCoin(b"again") for op in list(deleted)[:100]}
        store.commit(tip=GENESIS, position=(0, 0), index={}, deleted=deleted, added=added)
        expected = {op: coin for op, coin in coins.items() if op not in deleted} | added
        assert dict(store.iterate_coins()) == expected
        assert store.get_coins([*expected, *deleted]) == expected
    finally:
        store.close()


def test_a_file_that_is_not_mapped(tmp_path: Path) -> None:
    """Nothing happens, and nothing goes wrong."""
    path = tmp_path / "other"
    path.write_bytes(b"x")
    pages = MappedPages(path)
    pages.touched(KEPT_LOOKUPS)
    pages.moved()
    pages.touched(10 * KEPT_LOOKUPS)
    assert path.read_bytes() == b"x"
