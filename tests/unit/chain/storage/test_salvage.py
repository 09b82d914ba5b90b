"""A store whose coins are damaged gives up its header tree, and never shows half of its coins."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest

from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage.index_store import IndexStore, Mark, read_mark
from chain.storage.journal import JOURNAL_FILE, CommitJournal, Piece
from chain.storage.layout import COINS_DB, INDEX_DB, INDEX_RECORD, KEY_SUMS, META_DB
from chain.storage.page_checksums import DATA_FILE, SUMS_FILE, DatabaseDamage, PageChecksums
from chain.storage.store import ChainStore

GENESIS = b"g" * 32
TIP = b"t" * 32


def make_store(folder: Path, rng: random.Random) -> dict[BlockHash, bytes]:
    """A closed store of 3,000 coins; its header tree."""
    index = {BlockHash(rng.randbytes(32)): INDEX_RECORD.pack(rng.randbytes(80), n, 5, 1, 0, n, n) for n in range(200)}
    coins = {OutPoint(rng.randbytes(36)): PackedCoin(rng.randbytes(40)) for _ in range(3000)}
    store = ChainStore(folder, GENESIS)
    store.commit(tip=TIP, position=(1, 2), index=index, deleted=[], added=coins)
    store.close()
    return index


def damage(folder: Path, rng: random.Random, tree: bytes) -> None:
    """Flip a bit in a leaf of a named tree."""
    sums = PageChecksums(folder, repair="", read_only=True)
    sums.verify()
    with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=4) as env, env.begin() as txn:
        keys = [key for key, _ in txn.cursor(env.open_db(tree, txn, create=False))]
    path = folder / DATA_FILE
    data = bytearray(path.read_bytes())
    pages = [n for n, used in enumerate(sums._sums) if used and n > 1]
    wanted = rng.choice(keys)
    page = next(n for n in pages if data[n * 4096 + 10] == 2 and wanted in data[n * 4096 : (n + 1) * 4096])
    data[data.index(wanted, page * 4096)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("journal", ["none", "whole", "torn"])
def test_coins_alone_are_given_up(tmp_path: Path, rng: random.Random, journal: str) -> None:
    index = make_store(tmp_path, rng)
    if journal != "none":
        piece = Piece(additions=[(rng.randbytes(36), rng.randbytes(40))])
        CommitJournal(tmp_path).write([piece, Piece(tip=b"u" * 32, position=(3, 4))])
    if journal == "torn":
        (tmp_path / JOURNAL_FILE).write_bytes((tmp_path / JOURNAL_FILE).read_bytes()[:-1])
    damage(tmp_path, rng, COINS_DB)
    with pytest.raises(DatabaseDamage, match="start with --reindex-chainstate to rebuild"):
        ChainStore(tmp_path, GENESIS)
    for _ in range(2):  # what comes next, wiping the coins, may not come to be
        store = ChainStore(tmp_path, GENESIS, without_coins=True)
        assert store.tip is None
        assert store.count_coins() == 0
        assert store.position == (1, 2)
        assert dict(store.load_index()) == index
        store.close()
    store = ChainStore(tmp_path, GENESIS)
    assert (store.tip, store.count_coins()) == (None, 0)
    store.close()


def test_a_torn_journal_is_dropped_with_the_coins(tmp_path: Path, rng: random.Random) -> None:
    """Half of its pieces may have been carried out: the coins go first, then the journal."""
    make_store(tmp_path, rng)
    CommitJournal(tmp_path).write([Piece(additions=[(b"k" * 36, b"v" * 40)]), Piece(tip=b"u" * 32, position=(3, 4))])
    (tmp_path / JOURNAL_FILE).write_bytes((tmp_path / JOURNAL_FILE).read_bytes()[:-1])
    with pytest.raises(LocalFault, match="--reindex"):
        ChainStore(tmp_path, GENESIS)
    store = ChainStore(tmp_path, GENESIS, without_coins=True)
    assert (store.tip, store.count_coins()) == (None, 0)
    store.close()


def test_lost_checksums_are_damage(tmp_path: Path, rng: random.Random) -> None:
    """Else a flipped bit beside them would pass. A store of a version that kept none is taken as it is."""
    make_store(tmp_path, rng)
    (tmp_path / SUMS_FILE).unlink()
    for _ in range(2):
        with pytest.raises(DatabaseDamage, match=r"pages\.sum are missing.*start with --reindex to rebuild"):
            ChainStore(tmp_path, GENESIS)
    with lmdb.open(str(tmp_path), max_dbs=4) as env, env.begin(write=True) as txn:
        txn.delete(KEY_SUMS, db=env.open_db(META_DB, txn))
    ChainStore(tmp_path, GENESIS).close()
    assert (tmp_path / SUMS_FILE).exists()
    (tmp_path / SUMS_FILE).unlink()
    with pytest.raises(DatabaseDamage, match="are missing"):
        ChainStore(tmp_path, GENESIS)


def test_a_damaged_header_tree_takes_more(tmp_path: Path, rng: random.Random) -> None:
    make_store(tmp_path, rng)
    damage(tmp_path, rng, INDEX_DB)
    for without_coins in (False, True):
        with pytest.raises(DatabaseDamage, match="start with --reindex to rebuild"):
            ChainStore(tmp_path, GENESIS, without_coins=without_coins)
    ChainStore(tmp_path, GENESIS, recreate=True).close()


def test_a_damaged_index_is_named_and_built_anew(tmp_path: Path, rng: random.Random) -> None:
    store = IndexStore(tmp_path, b"an index")
    entries: dict[bytes, bytes | None] = {rng.randbytes(32): rng.randbytes(40) for _ in range(2000)}
    store.commit(Mark(BlockHash(TIP), 7), entries)
    store.close()
    IndexStore(tmp_path, b"an index").close()
    damage(tmp_path, rng, b"entries")
    for read in (lambda: IndexStore(tmp_path, b"an index"), lambda: read_mark(tmp_path)):
        with pytest.raises(LocalFault, match=r"is damaged .*pickaxe index remove"):
            read()
    store = IndexStore(tmp_path, b"an index", wipe=True)
    assert store.mark is None
    store.close()
