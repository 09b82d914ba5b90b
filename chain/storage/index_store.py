"""One LMDB environment for one optional index: keys, values, and the block that it has followed the chain to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lmdb

from chain.primitives.types import BlockHash
from chain.storage.faults import storage_fault

_ENTRIES_DB = b"entries"
_META_DB = b"meta"
_KEY_BEST = b"best"
_FIRST_MAP_SIZE = 1 << 28  #: address space, not disk; doubled whenever it is full


class IndexStore:
    """Reads are safe from any thread, `commit` belongs to one. Every method raises LocalFault when the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(path), map_size=_FIRST_MAP_SIZE, max_dbs=2, readahead=False)
            self._entries = self._env.open_db(_ENTRIES_DB)
            self._meta = self._env.open_db(_META_DB)
        except (OSError, lmdb.Error) as error:
            raise storage_fault(error, "opening", path) from error

    @property
    def best(self) -> BlockHash | None:
        """The last block whose entries were committed; None in a new index."""
        try:
            with self._env.begin(self._meta) as txn:
                found = txn.get(_KEY_BEST)
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error
        return None if found is None else BlockHash(found)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        try:
            with self._env.begin(self._entries) as txn:
                found = txn.get(key)
        except lmdb.Error as error:
            raise storage_fault(error, "reading", self.path) from error
        return None if found is None else bytes(found)

    def commit(self, best: BlockHash, entries: Mapping[bytes, bytes]) -> None:
        """Write entries and the block they lead to, in one transaction."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    with txn.cursor(self._entries) as cursor:
                        cursor.putmulti(sorted(entries.items()))
                    txn.put(_KEY_BEST, best, db=self._meta)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise storage_fault(error, "writing", self.path) from error

    def close(self) -> None:
        """Release the files."""
        self._env.close()
