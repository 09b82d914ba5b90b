"""The database: one transaction for all, growth, identity, and a disk that is full."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from chain.primitives.errors import LocalFault, UserError
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage.faults import DiskFull
from chain.storage.layout import INDEX_RECORD
from chain.storage.store import ChainStore
from tests.support.disk import file_size_limit

GENESIS = b"g" * 32


def coins(rng: random.Random, count: int) -> dict[OutPoint, PackedCoin]:
    return {OutPoint(rng.randbytes(36)): PackedCoin(rng.randbytes(34)) for _ in range(count)}


def commit(store: ChainStore, tip: bytes, added: dict[OutPoint, PackedCoin], deleted: list[OutPoint]) -> None:
    store.commit(tip=tip, position=(3, 99), index={}, deleted=deleted, added=added)


def test_the_header_tree_is_read_by_height(tmp_path: Path, rng: random.Random) -> None:
    heights = [0, 1, 2, 2, 3, 3, 3, 1000, 1000, 2**32 - 1]  # with forks, and gaps for somebody else to find
    index = {BlockHash(rng.randbytes(32)): INDEX_RECORD.pack(bytes(80), height, 5, 1, 2, 3, 4) for height in heights}
    with contextlib.closing(ChainStore(tmp_path, GENESIS)) as store:
        store.commit(tip=b"t" * 32, position=(1, 2), index=index, deleted=[], added={})
        rows = store.load_index()
        assert dict(rows) == index
        assert [INDEX_RECORD.unpack(record)[1] for _, record in rows] == heights
        broken = {BlockHash(rng.randbytes(32)): bytes(103)}
        store.commit(tip=b"t" * 32, position=(1, 2), index=broken, deleted=[], added={})
        with pytest.raises(LocalFault, match=r"block index .* is damaged .* start with --reindex"):
            store.load_index()


def test_a_commit_is_there_after_reopening(tmp_path: Path, rng: random.Random) -> None:
    store = ChainStore(tmp_path, GENESIS)
    assert store.tip is None
    assert store.position == (0, 0)
    some = coins(rng, 100)
    header = INDEX_RECORD.pack(bytes(80), 7, 5, 1, 2, 3, 4)
    lower = INDEX_RECORD.pack(bytes(80), 6, 5, 1, 2, 3, 4)
    index = {BlockHash(b"a" * 32): header, BlockHash(b"z" * 32): lower}
    store.commit(tip=b"t" * 32, position=(1, 2), index=index, deleted=[], added=some)
    store.close()
    store = ChainStore(tmp_path, GENESIS)
    assert (store.tip, store.position) == (b"t" * 32, (1, 2))
    assert store.load_index() == [(b"z" * 32, lower), (b"a" * 32, header)]
    assert dict(store.iterate_coins()) == some
    assert [op for op, _ in store.iterate_coins()] == sorted(some)
    gone = list(some)[:40]
    commit(store, b"u" * 32, {gone[0]: PackedCoin(b"again")}, [*gone, OutPoint(bytes(36))])
    assert store.count_coins() == 61
    assert store.get_coins(list(some)) == {**{op: c for op, c in some.items() if op not in gone}, gone[0]: b"again"}
    assert store.get_coin(gone[1]) is None
    store.close()


def test_the_map_grows_when_it_is_full(tmp_path: Path, rng: random.Random) -> None:
    store = ChainStore(tmp_path, GENESIS, map_size=256 * 1024)
    some = coins(rng, 20_000)
    commit(store, b"t" * 32, some, [])
    assert store.count_coins() == 20_000
    store.close()
    store = ChainStore(tmp_path, GENESIS, map_size=256 * 1024)  # reopened with a smaller wish than its size
    assert store.get_coins(list(some)) == some
    commit(store, b"u" * 32, coins(rng, 20_000), [])
    assert store.count_coins() == 40_000
    store.close()


def test_a_growing_map_does_not_wait_for_who_reads_all_coins(tmp_path: Path, rng: random.Random) -> None:
    with contextlib.closing(ChainStore(tmp_path, GENESIS, map_size=1 << 20)) as store:
        some = coins(rng, 1000)
        commit(store, b"t" * 32, some, [])
        frozen = store.frozen_coins()
        rest = iter(frozen)
        first = next(rest)
        commit(store, b"u" * 32, coins(rng, 10), list(some))
        assert dict([first, next(rest)]).items() <= some.items(), "as it was"
        commit(store, b"v" * 32, coins(rng, 20_000), [])
        with pytest.raises(LocalFault, match="had to grow while all coins were being read: try again"):
            list(rest)
        with pytest.raises(LocalFault, match="had to grow"):
            frozen.get_coins(list(some))
        with pytest.raises(LocalFault, match="had to grow"):
            list(frozen)
        frozen.close()
        assert store.count_coins() == 20_010


def test_full_disk_leaves_the_old_state(tmp_path: Path, rng: random.Random) -> None:
    store = ChainStore(tmp_path, GENESIS)
    some = coins(rng, 500)
    commit(store, b"t" * 32, some, [])
    size = (tmp_path / "data.mdb").stat().st_size
    with file_size_limit(size + 8192), pytest.raises(DiskFull, match="disk is full"):
        commit(store, b"u" * 32, coins(rng, 20_000), list(some)[:100])
    assert store.tip == b"t" * 32
    assert dict(store.iterate_coins()) == some
    more = coins(rng, 20_000)
    commit(store, b"u" * 32, more, [])  # space came back
    assert store.count_coins() == 20_500
    store.close()
    store = ChainStore(tmp_path, GENESIS)
    assert dict(store.iterate_coins()) == some | more
    store.close()


def test_another_chain_or_version_is_refused(tmp_path: Path) -> None:
    ChainStore(tmp_path, GENESIS).close()
    with pytest.raises(UserError, match="holds another chain"):
        ChainStore(tmp_path, b"h" * 32)
    ChainStore(tmp_path, GENESIS).close()  # the refusal left it as it was
    ChainStore(tmp_path, b"h" * 32, recreate=True).close()


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ChainStore(tmp_path, GENESIS).close()
    monkeypatch.setattr("chain.storage.store.FORMAT_VERSION", 2)
    with pytest.raises(UserError, match="storage format 1, not 2"):
        ChainStore(tmp_path, GENESIS)
