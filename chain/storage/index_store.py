"""One LMDB environment for one optional index: keys, values, and the block that it has followed the chain to.

`commit` moves all of them in one write transaction: after a crash the index is at one block, whole. An index can always
be made anew from the chain, so one of another version or another chain is emptied, not refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import lmdb

from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash
from chain.storage.faults import DAMAGE, storage_fault
from chain.storage.page_checksums import DATA_FILE, LAST_FILE, SUMS_FILE, PageChecksums
from chain.storage.store import LOCK_FILE, pad_file

_ENTRIES_DB = b"entries"
_META_DB = b"meta"
_KEY_IDENTITY = b"identity"
_KEY_BEST = b"best"  #: block hash, u32 LE height, then the index's own state
_FIRST_MAP_SIZE = 1 << 28  #: address space, not disk; doubled whenever it is full
FILES = (DATA_FILE, LOCK_FILE, LAST_FILE, SUMS_FILE)
_REPAIR = "delete that folder (`pickaxe index remove`) and it is built again"


class Mark(NamedTuple):
    """Where an index is: the last block whose entries are in it, and what it needs to go on from there."""

    block_hash: BlockHash
    height: int
    state: bytes = b""


class IndexStore:
    """Reads are safe from any thread, `commit` belongs to one. Every method raises LocalFault when the disk fails."""

    def __init__(self, path: Path, identity: bytes, *, wipe: bool = False) -> None:
        """Open or create the store in folder `path`. `identity` names the index, its layout and its chain: a store
        with another one is emptied, as it is with `wipe`.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if wipe:
                for name in FILES:
                    (path / name).unlink(missing_ok=True)
            self._checksums = PageChecksums(path, repair=_REPAIR, durable=False)
            self._checksums.verify()
            self._env = lmdb.open(str(path), map_size=_FIRST_MAP_SIZE, max_dbs=2, readahead=False)
            pad_file(path / DATA_FILE, (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])
            self._env.set_mapsize(max(_FIRST_MAP_SIZE, self._env.info()["map_size"]))
            self._entries = self._env.open_db(_ENTRIES_DB)
            self._meta = self._env.open_db(_META_DB)
            with self._env.begin(self._meta) as txn:
                known = txn.get(_KEY_IDENTITY)
            if wipe or known != identity:
                with self._env.begin(write=True) as txn:
                    txn.drop(self._entries, delete=False)
                    txn.drop(self._meta, delete=False)
                    txn.put(_KEY_IDENTITY, identity, db=self._meta)
            self._checksums.update()
        except (OSError, lmdb.Error) as error:
            raise self._fault(error, "opening") from error

    @property
    def mark(self) -> Mark | None:
        """What the last commit left; None in a new index."""
        try:
            with self._env.begin(self._meta) as txn:
                found = txn.get(_KEY_BEST)
        except lmdb.Error as error:
            raise self._fault(error, "reading") from error
        return None if found is None else _unpack(found)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        try:
            with self._env.begin(self._entries) as txn:
                return txn.get(key)
        except lmdb.Error as error:
            raise self._fault(error, "reading") from error

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are there, looked up in order."""
        try:
            with self._env.begin(self._entries) as txn:
                return {key: value for key in sorted(keys) if (value := txn.get(key)) is not None}
        except lmdb.Error as error:
            raise self._fault(error, "reading") from error

    def range(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` entries with `start` <= key < `end`, in order."""
        found: list[tuple[bytes, bytes]] = []
        try:
            with self._env.begin(self._entries) as txn, txn.cursor() as cursor:
                if limit > 0 and cursor.set_range(start):
                    for key, value in cursor.iternext(keys=True, values=True):
                        if key >= end:
                            break
                        found.append((key, value))
                        if len(found) == limit:
                            break
        except lmdb.Error as error:
            raise self._fault(error, "reading") from error
        return found

    def commit(self, mark: Mark, changes: Mapping[bytes, bytes | None]) -> None:
        """Write entries (None deletes one) and the block they lead to, in one transaction."""
        ordered = sorted(changes.items())
        puts = [(key, value) for key, value in ordered if value is not None]
        deletions = [key for key, value in ordered if value is None]
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    with txn.cursor(self._entries) as cursor:
                        for key in deletions:
                            if cursor.set_key(key):
                                cursor.delete()
                        cursor.putmulti(puts)
                    packed = mark.block_hash + mark.height.to_bytes(4, "little") + mark.state
                    txn.put(_KEY_BEST, packed, db=self._meta)
                self._checksums.update()
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise self._fault(error, "writing") from error

    def size_on_disk(self) -> int:
        """Bytes in use."""
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def close(self) -> None:
        """Release the files."""
        self._env.close()

    def _fault(self, error: OSError | lmdb.Error, doing: str) -> LocalFault:
        if isinstance(error, DAMAGE):
            return LocalFault(f"The index in {self.path} is damaged ({error}); {_REPAIR}")
        return storage_fault(error, doing, self.path)


def read_mark(path: Path) -> Mark | None:
    """The mark of an index that no node has open; None without one. LocalFault if the store cannot be read."""
    if not (path / DATA_FILE).exists():
        return None
    PageChecksums(path, repair=_REPAIR, read_only=True).verify()
    try:
        with (
            lmdb.open(str(path), max_dbs=2, readonly=True, lock=False, readahead=False) as env,
            env.begin() as txn,
        ):
            found = txn.get(_KEY_BEST, db=env.open_db(_META_DB, txn, create=False))
    except lmdb.NotFoundError:
        return None
    except (OSError, lmdb.Error) as error:
        raise storage_fault(error, "reading", path) from error
    return None if found is None else _unpack(found)


def _unpack(packed: bytes) -> Mark:
    return Mark(BlockHash(packed[:32]), int.from_bytes(packed[32:36], "little"), packed[36:])
