"""The chain's database: coins, header index and tip in one LMDB environment.

`commit` moves all of them in one write transaction, or in several through a journal (`chain.storage.journal`), so a
crash at any moment leaves the state before it or after it. LMDB is copy-on-write: a full disk fails the transaction and
leaves the state as it was.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar, cast

import lmdb

from chain.primitives.errors import LocalFault, UserError
from chain.primitives.types import BlockHash, OutPoint, PackedCoin, hash_to_hex
from chain.storage.faults import storage_fault
from chain.storage.journal import JOURNAL_FILE, CommitJournal, Piece, pieces_of
from chain.storage.layout import (
    COINS_DB,
    FORMAT_VERSION,
    INDEX_DB,
    INDEX_HEIGHT,
    KEY_FORMAT,
    KEY_HISTORICAL,
    KEY_NETWORK,
    KEY_POSITION,
    KEY_SNAPSHOT_VALIDATED,
    KEY_SUMS,
    KEY_TIP,
    META_DB,
    POSITION,
)
from chain.storage.mapped_pages import KEPT_LOOKUPS, MappedPages
from chain.storage.page_checksums import DATA_FILE, LAST_FILE, SUMS_FILE, DatabaseDamage, PageChecksums

#: Address space, not disk, but for Windows, which sets the file to this size at once. Doubled whenever it is full.
INITIAL_MAP_SIZE = 1 << (30 if sys.platform == "win32" else 34)

LOCK_FILE = "lock.mdb"

#: Pages that one transaction may change: 64 MiB, held in memory until it commits. A larger commit goes through the
#: journal.
ONE_TRANSACTION_PAGES = 1 << 14
JOURNAL_PIECE = 1 << 13  #: changes of a kind, deletions or additions, in each of its transactions

Item = TypeVar("Item")

_NEW_COINS_PER_PAGE = 30
_COINS_READ = 500_000  # in order: 40 MB of pages


class ChainStore:
    """One open environment. Reads are safe from any thread, `commit` belongs to one."""

    def __init__(
        self,
        path: Path,
        genesis: bytes,
        *,
        map_size: int = INITIAL_MAP_SIZE,
        recreate: bool = False,
        without_coins: bool = False,
    ) -> None:
        """Open or create the store at folder `path` for the chain of block `genesis`. With `recreate` what was
        there is deleted first. `without_coins` says that `wipe_coins` comes next: damage to them does not matter.

        UserError if it belongs to another chain or version, LocalFault if it cannot be opened or is damaged.
        """
        self.path = path
        self._iterators = 0  # of iterate_coins, under way
        self._frozen: set[FrozenCoins] = set()  # that are open
        self._journal = CommitJournal(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if recreate:
                for name in (DATA_FILE, LOCK_FILE, LAST_FILE, SUMS_FILE, JOURNAL_FILE):
                    (path / name).unlink(missing_ok=True)
            self._checksums = _verify(path, without_coins=without_coins)
            self._env = lmdb.open(str(path), map_size=map_size, max_dbs=4, readahead=False)
            pad_file(path / DATA_FILE, (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])
            self._env.set_mapsize(max(map_size, self._env.info()["map_size"]))
            self._pages = MappedPages(path / DATA_FILE)
            self._meta = self._env.open_db(META_DB)
            self._index = self._env.open_db(INDEX_DB)
            self._coins = self._env.open_db(COINS_DB)
        except (OSError, lmdb.Error) as error:
            raise storage_fault(error, "opening", path) from error
        try:
            self._check_identity(genesis)
            self._checksums.update()
            if self._get_meta(KEY_SUMS) is None:
                with self._env.begin(self._meta, write=True) as txn:
                    txn.put(KEY_SUMS, b"\x01")
                self._checksums.update()
            if self._journal.exists():
                try:
                    self._journal.check()
                except LocalFault:
                    if not without_coins:
                        raise
                    self.wipe_coins()  # first: half of a commit and its old tip must never stand alone
                    self._journal.remove()
                else:
                    self._carry_out_journal()
        except BaseException:
            self._env.close()
            raise

    def close(self) -> None:
        """Release the files. Everything committed is durable already."""
        self._env.close()

    @property
    def tip(self) -> BlockHash | None:
        """The block that the coins are at; None in a new store."""
        tip = self._get_meta(KEY_TIP)
        return None if tip is None else BlockHash(tip)

    @property
    def position(self) -> tuple[int, int]:
        """(block file number, bytes in use) when the tip was committed."""
        record = self._get_meta(KEY_POSITION)
        if record is None:
            return 0, 0
        number, end = POSITION.unpack(record)
        return number, end

    def get_coin(self, outpoint: bytes) -> PackedCoin | None:
        """The unspent coin at an outpoint."""
        try:
            with self._env.begin(self._coins) as txn:
                coin = txn.get(outpoint)
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error
        return None if coin is None else PackedCoin(coin)

    def get_coins(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        """Those of the coins that exist, looked up in key order."""
        try:
            with self._env.begin(self._coins) as txn:
                get = txn.get
                found: dict[OutPoint, PackedCoin] = {}
                for some in _parts(sorted(outpoints)):
                    found.update({op: PackedCoin(coin) for op in some if (coin := get(op)) is not None})
                    self._pages.touched(len(some))
                return found
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error

    def iterate_coins(self) -> Iterator[tuple[OutPoint, PackedCoin]]:
        """Every coin in key order, from one snapshot: commits meanwhile are not seen."""
        self._iterators += 1
        try:
            with self._env.begin(self._coins) as txn, txn.cursor() as cursor:
                for number, (outpoint, coin) in enumerate(cursor.iternext(keys=True, values=True)):
                    if not number % _COINS_READ:
                        self._pages.touched(KEPT_LOOKUPS)
                    yield OutPoint(outpoint), PackedCoin(coin)
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error
        finally:
            self._iterators -= 1

    def coins_after(self, outpoint: bytes, limit: int) -> list[tuple[OutPoint, PackedCoin]]:
        """At most `limit` coins in key order, the first above `outpoint` (b"": from the beginning)."""
        try:
            with self._env.begin(self._coins) as txn, txn.cursor() as cursor:
                if not cursor.set_range(outpoint + b"\0"):
                    return []
                pairs = islice(cursor.iternext(keys=True, values=True), limit)
                return [(OutPoint(key), PackedCoin(value)) for key, value in pairs]
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error

    def frozen_coins(self) -> FrozenCoins:
        """The coins as they are now, whatever is committed later; of no more use once the map has to grow."""
        if not self._iterators and not self._frozen:
            size = self._env.info()["map_size"]
            if self._env.info()["last_pgno"] * self._env.stat()["psize"] * 2 > size:
                self._grow()
        return FrozenCoins(self)

    def count_coins(self) -> int:
        """How many coins there are."""
        with self._env.begin() as txn:
            return int(txn.stat(self._coins)["entries"])

    def size_on_disk(self) -> int:
        """Bytes that the coins take in the database."""
        with self._env.begin() as txn:
            stat = txn.stat(self._coins)
        return int((stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"])

    def load_index(self) -> list[tuple[BlockHash, bytes]]:
        """(hash, INDEX_RECORD) of every stored block of the header tree, by height: parents come before children."""
        height_of = INDEX_HEIGHT.unpack
        try:
            with self._env.begin(self._index) as txn, txn.cursor() as cursor:
                rows = cast(list[tuple[BlockHash, bytes]], list(cursor.iternext(keys=True, values=True)))
            # One slot for every height, and room for what else is there: a sort would take longer than the reading.
            slots: list[tuple[BlockHash, bytes] | None] = [None] * len(rows)
            others = []
            for row in rows:
                (height,) = height_of(row[1])
                if height < len(slots) and slots[height] is None:
                    slots[height] = row
                else:
                    others.append(row)
        except (lmdb.Error, struct.error) as error:
            raise LocalFault(
                f"The block index in {self.path} is damaged ({error}); start with --reindex to rebuild it"
            ) from error
        ordered = [row for row in slots if row is not None]
        if others:
            ordered = sorted(ordered + others, key=lambda row: height_of(row[1]))
        return ordered

    def commit(
        self,
        *,
        tip: bytes,
        position: tuple[int, int],
        index: Mapping[BlockHash, bytes],
        deleted: Collection[bytes],
        added: Mapping[OutPoint, PackedCoin],
    ) -> None:
        """Write all of it, at once as far as anybody can tell: coins `deleted` first, then `added`. LocalFault if it
        cannot be done: then nothing was, or (a large commit) it will be when the store is opened again.
        """
        deletions = sorted(deleted)
        additions = sorted(added)
        tail = Piece(tip=tip, position=position, records=sorted(index.items()))
        if self._pages_changed(len(deletions) + len(additions)) <= ONE_TRANSACTION_PAGES:
            self._transact(lambda: chain(pieces_of(deletions, additions, added, KEPT_LOOKUPS), [tail]))
        else:
            self._journal.write(chain(pieces_of(deletions, additions, added, JOURNAL_PIECE), [tail]))
            self._carry_out_journal()

    def _carry_out_journal(self) -> None:
        for piece in self._journal.read():
            self._transact(partial(iter, [piece]))
        self._journal.remove()

    def _pages_changed(self, changes: int) -> int:
        """About how many pages so many changes, anywhere in the coins, have LMDB hold in memory."""
        with self._env.begin() as txn:
            pages = txn.stat(self._coins)["leaf_pages"]
        return int(min(changes, pages)) + changes // _NEW_COINS_PER_PAGE

    def _transact(self, pieces: Callable[[], Iterable[Piece]]) -> None:
        """Apply pieces in one transaction; asked for again if the map has to grow."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    for piece in pieces():
                        self._apply(txn, piece)
                self._checksums.update()
                return
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise storage_fault(error, "writing", self.path) from error

    def _apply(self, txn: lmdb.Transaction, piece: Piece) -> None:
        for keys in _parts(piece.deletions):
            for outpoint in keys:
                txn.delete(outpoint, db=self._coins)
            self._pages.touched(len(keys))
        for pairs in _parts(piece.additions):
            with txn.cursor(self._coins) as cursor:
                cursor.putmulti(pairs)
            self._pages.touched(len(pairs))
        if piece.tip is not None:
            with txn.cursor(self._index) as cursor:
                cursor.putmulti(piece.records)
            txn.put(KEY_POSITION, POSITION.pack(*piece.position), db=self._meta)
            txn.put(KEY_TIP, piece.tip, db=self._meta)

    @property
    def historical_position(self) -> tuple[int, int] | None:
        """(block file number, bytes in use) of the files with blocks below a UTXO snapshot, if there are such files."""
        record = self._get_meta(KEY_HISTORICAL)
        if record is None:
            return None
        number, end = POSITION.unpack(record)
        return number, end

    def set_historical_position(self, position: tuple[int, int] | None) -> None:
        """An old one does no harm: what was written since is found in the files. So it need not be of the moment of a
        commit.
        """
        try:
            with self._env.begin(self._meta, write=True) as txn:
                if position is None:
                    txn.delete(KEY_HISTORICAL)
                else:
                    txn.put(KEY_HISTORICAL, POSITION.pack(*position))
        except lmdb.Error as error:
            raise storage_fault(error, "writing", self.path) from error
        self._checksums.update()

    @property
    def snapshot_validated(self) -> BlockHash | None:
        """The base of the UTXO snapshot whose coins were proved right by the coins in this store."""
        base = self._get_meta(KEY_SNAPSHOT_VALIDATED)
        return None if base is None else BlockHash(base)

    def confirm_snapshot(self, base: bytes) -> None:
        """Remember that the UTXO snapshot of block `base` is right."""
        try:
            with self._env.begin(self._meta, write=True) as txn:
                txn.put(KEY_SNAPSHOT_VALIDATED, base)
        except lmdb.Error as error:
            raise storage_fault(error, "writing", self.path) from error
        self._checksums.update()

    def take_index(self, other: ChainStore) -> None:
        """Copy header tree and end of block files from another store, in one transaction."""
        while True:
            try:
                with (
                    self._env.begin(write=True) as txn,
                    other._env.begin(other._index) as source,
                    source.cursor() as rows,
                    txn.cursor(self._index) as cursor,
                ):
                    cursor.putmulti(rows.iternext(keys=True, values=True))
                    txn.put(KEY_POSITION, POSITION.pack(*other.position), db=self._meta)
                self._checksums.update()
                return
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise storage_fault(error, "writing", self.path) from error

    def wipe_coins(self) -> None:
        """Forget all coins and the tip: the first step of rebuilding them."""
        try:
            with self._env.begin(write=True) as txn:
                txn.drop(self._coins, delete=False)
                for key in (KEY_TIP, KEY_SNAPSHOT_VALIDATED, KEY_HISTORICAL):
                    txn.delete(key, db=self._meta)
        except lmdb.Error as error:
            raise storage_fault(error, "writing", self.path) from error
        self._checksums.update()

    def _grow(self) -> None:
        if self._iterators:  # the map must not move under a reader; all other reads end with their call
            raise LocalFault(f"{self.path} has to grow while all coins are being read: start again")
        for frozen in tuple(self._frozen):
            frozen.lose()
        try:
            self._env.set_mapsize(self._env.info()["map_size"] * 2)
            self._pages.moved()
        except lmdb.Error as error:
            raise storage_fault(error, "growing", self.path) from error

    def _get_meta(self, key: bytes) -> bytes | None:
        try:
            with self._env.begin(self._meta) as txn:
                return txn.get(key)
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error

    def _check_identity(self, genesis: bytes) -> None:
        stored = self._get_meta(KEY_FORMAT)
        if stored is None:
            try:
                with self._env.begin(self._meta, write=True) as txn:
                    txn.put(KEY_FORMAT, FORMAT_VERSION.to_bytes(4, "little"))
                    txn.put(KEY_NETWORK, genesis)
            except lmdb.Error as error:
                raise storage_fault(error, "writing", self.path) from error
            return
        version = int.from_bytes(stored, "little")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{self.path} has storage format {version}, not {FORMAT_VERSION}: start with --reindex to rebuild it"
            )
        network = self._get_meta(KEY_NETWORK)
        if network != genesis:
            raise UserError(
                f"{self.path} holds another chain (genesis block {hash_to_hex(network or b'')}): use another --datadir"
            )


class FrozenCoins:
    """All coins of a store at one moment. Belongs to the thread that made it; close it when done.

    Reading raises LocalFault if the store has had to grow: that goes first, for a reader may take his time.
    """

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        try:
            self._txn = store._env.begin(store._coins)
            self._count = int(self._txn.stat(store._coins)["entries"])
        except lmdb.Error as error:
            raise storage_fault(error, "reading", store.path) from error
        self._lost = False
        store._frozen.add(self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[OutPoint, PackedCoin]]:
        """In key order."""
        self._demand()
        pages = self._store._pages
        try:
            with self._txn.cursor(self._store._coins) as cursor:
                for number, (outpoint, coin) in enumerate(cursor.iternext(keys=True, values=True)):
                    if not number % _COINS_READ:
                        pages.touched(KEPT_LOOKUPS)
                    yield OutPoint(outpoint), PackedCoin(coin)
        except lmdb.Error as error:
            self._demand()
            raise storage_fault(error, "reading", self._store.path) from error

    def get_coins(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        """Those of the coins that exist."""
        self._demand()
        get = self._txn.get
        return {op: PackedCoin(coin) for op in sorted(outpoints) if (coin := get(op)) is not None}

    def lose(self) -> None:
        """The store needs what these coins hold up."""
        self._lost = True
        self.close()

    def close(self) -> None:
        """Let the store go on."""
        if self in self._store._frozen:
            self._store._frozen.remove(self)
            self._txn.abort()

    def _demand(self) -> None:
        if self._lost:
            raise LocalFault(f"{self._store.path} had to grow while all coins were being read: try again")


def _verify(path: Path, *, without_coins: bool) -> PageChecksums:
    """Compare all pages of the environment with their sums before LMDB, which trusts them, sees them. Where only the
    coins are damaged they can be rebuilt alone: DatabaseDamage says so, or, if that is under way, a database without
    them takes the place of the damaged one.
    """
    repair = "start with --reindex to rebuild it"
    if not (path / SUMS_FILE).exists():  # an older version's store, or one that lost them
        unwritten = PageChecksums(path, repair=repair, read_only=True)
        unwritten.verify()
        if unwritten.knows_pages and KEY_SUMS in dict(unwritten.rows(META_DB)):
            raise DatabaseDamage(path, f"its checksums in {SUMS_FILE} are missing", repair)
    checksums = PageChecksums(path, repair=repair)
    try:
        checksums.verify()
        return checksums
    except DatabaseDamage as damage:
        if damage.checksums is None:
            raise
        try:
            rows = {name: list(damage.checksums.rows(name)) for name in (META_DB, INDEX_DB)}
        except DatabaseDamage:
            raise damage from None
        if not without_coins:
            what = f"{damage.what}: among the coins"
            raise DatabaseDamage(path, what, "start with --reindex-chainstate to rebuild them") from None
    fresh = path / "rebuild"
    shutil.rmtree(fresh, ignore_errors=True)
    size = 1 << 24
    size += 4 * sum(len(key) + len(value) for pairs in rows.values() for key, value in pairs)
    with lmdb.open(str(fresh), map_size=size, max_dbs=4) as env:
        databases = {name: env.open_db(name) for name in (META_DB, INDEX_DB, COINS_DB)}
        with env.begin(write=True) as txn:
            for name, pairs in rows.items():
                for key, value in pairs:
                    if key not in (KEY_TIP, KEY_SUMS):  # neither is there before the coins, or the file, are
                        txn.put(key, value, db=databases[name])
    for file_name in (JOURNAL_FILE, LAST_FILE, SUMS_FILE, LOCK_FILE):  # a journal's coins would be the only ones
        (path / file_name).unlink(missing_ok=True)
    (fresh / DATA_FILE).replace(path / DATA_FILE)
    shutil.rmtree(fresh, ignore_errors=True)
    return _verify(path, without_coins=False)


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Consecutive parts that touch few enough pages to keep them mapped."""
    for start in range(0, len(items), KEPT_LOOKUPS):
        yield items[start : start + KEPT_LOOKUPS]


def pad_file(path: Path, size: int) -> None:
    """Fill a file up with zeros. LMDB may leave the last pages unwritten if nothing uses them; but where a truncated
    file lacks used ones, reading them would kill the process, while of zeros LMDB says that they are no pages.
    """
    if path.stat().st_size < size:
        os.truncate(path, size)
