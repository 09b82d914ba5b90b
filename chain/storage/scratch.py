"""Coins on disk for a while: what a rollback has changed, when memory does not hold it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import lmdb

from chain.primitives.types import OutPoint, PackedCoin
from chain.storage.faults import storage_fault
from chain.storage.store import INITIAL_MAP_SIZE


class ScratchCoins:
    """Outpoints to coins, or to None for a coin that is gone, in a folder of its own that `close` removes."""

    def __init__(self, path: Path) -> None:
        """LocalFault if the folder cannot be used. What an earlier process left there is deleted."""
        self.path = path
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            self._env = lmdb.open(str(path), map_size=INITIAL_MAP_SIZE, sync=False, readahead=False)
        except (OSError, lmdb.Error) as error:
            raise storage_fault(error, "opening", path) from error

    def put(self, changes: Mapping[OutPoint, PackedCoin | None]) -> None:
        """Enter all of them. LocalFault if the disk is full."""
        rows = sorted((outpoint, coin or b"") for outpoint, coin in changes.items())
        while True:
            try:
                with self._env.begin(write=True) as txn, txn.cursor() as cursor:
                    cursor.putmulti(rows)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)
            except lmdb.Error as error:
                raise storage_fault(error, "writing", self.path) from error

    def get(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin | None]:
        """Those that were entered."""
        with self._env.begin() as txn:
            get = txn.get
            found = {op: value for op in sorted(outpoints) if (value := get(op)) is not None}
        return {op: PackedCoin(value) if value else None for op, value in found.items()}

    def __iter__(self) -> Iterator[tuple[OutPoint, PackedCoin | None]]:
        """In key order. Enter nothing meanwhile."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            for outpoint, value in cursor.iternext(keys=True, values=True):
                yield OutPoint(outpoint), PackedCoin(value) if value else None

    def close(self) -> None:
        """Remove it from the disk."""
        self._env.close()
        shutil.rmtree(self.path, ignore_errors=True)
