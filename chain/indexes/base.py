"""What every optional index has in common: it takes the blocks of the active chain in order, remembers in its own store
which it took last, and undoes those that a reorganisation took away.

Changes gather in memory and reach the disk together with the mark of their block. They are never written ahead of what
the chain itself has made durable: after a crash, the block at the mark is in the chain's tree.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from chain.index import VALID_SCRIPTS, BlockIndexEntry
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from chain.primitives.types import PackedCoin, hash_to_hex
from chain.storage.index_store import IndexStore, Mark

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

log = logging.getLogger("pickaxe.node")

PENDING_BYTES: Final = 32 << 20  #: that wait in memory for a commit, about; bounds what is indexed again after a crash
COMMIT_INTERVAL_S: Final = 30.0
_ENTRY_OVERHEAD: Final = 150  #: of Python's objects, per change

Undo = Sequence[Sequence[PackedCoin]]


class Index(ABC):
    """Belongs to the chain's thread, like the Chainstate that it follows. LocalFault when the disk fails."""

    title: ClassVar[str]  #: in getindexinfo and in the log (Core's)
    option: ClassVar[str]  #: what turns it on
    folder: ClassVar[str]  #: below `indexes/`
    version: ClassVar[int]  #: of its layout: another one is built anew
    needs_undo: ClassVar[bool]  #: whether it wants the coins that a block spent
    rewinds: ClassVar[bool]  #: whether blocks that left the active chain are undone; else their entries just stay

    def __init__(self, chain: Chainstate, indexes_dir: Path, *, wipe: bool = False) -> None:
        """Open the index below `indexes_dir`, or begin one. With `wipe` it is begun anew."""
        self._chain = chain
        self.path = indexes_dir / self.folder
        identity = f"{self.title}/{self.version}/".encode() + chain.params.genesis_hash
        self._store = IndexStore(self.path, identity, wipe=wipe)
        mark = self._store.mark
        if mark is not None and mark.block_hash not in chain.index:
            log.info("%s: block %s is not known any more; building it anew", self.title, hash_to_hex(mark.block_hash))
            self._store.close()
            self._store = IndexStore(self.path, identity, wipe=True)
            mark = None
        self._pending: dict[bytes, bytes | None] = {}
        self._pending_bytes = 0
        self._at = None if mark is None else chain.index.get(mark.block_hash)
        self._committed = self._at
        self._last_commit = time.monotonic()
        self.ready = False  #: it has been at the tip once since it was opened
        self._resume(b"" if mark is None else mark.state)

    # What an index defines

    @abstractmethod
    def _connect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        """Take a block: `_put` and `_delete`."""

    def _disconnect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        """Take it back. Only called if the index `rewinds`."""
        raise LocalFault(f"{self.title} cannot go back")

    def _resume(self, state: bytes) -> None:
        """Go on from what `_state` gave at the mark; empty at the beginning."""
        if state:
            raise LocalFault(f"{self.path} holds what this index does not: remove it (`pickaxe index remove`)")

    def _state(self) -> bytes:
        """What the index keeps beside its entries."""
        return b""

    # Where it is

    @property
    def at(self) -> BlockIndexEntry | None:
        """The last block taken."""
        return self._at

    @property
    def height(self) -> int:
        """Of the last block taken; -1 before the first."""
        return -1 if self._at is None else self._at.height

    @property
    def synced(self) -> bool:
        """Whether the tip has been taken."""
        return self._at is self._chain.tip

    @property
    def full(self) -> bool:
        """Whether so much waits for a commit that nothing more should be taken."""
        return self._pending_bytes >= PENDING_BYTES

    def next_step(self) -> tuple[BlockIndexEntry, bool] | None:
        """The block to take next and True, or the one to take back and False; None at the tip."""
        index = self._chain.index
        at = self._at
        if at is self._chain.tip:
            return None
        if at is None:
            return index.active[0], True
        if not index.in_active(at):
            if self.rewinds:
                return at, False
            self._at = at = index.fork_point(at)
        following = 0 if at is None else at.height + 1
        return (index.active[following], True) if following < len(index.active) else None

    @staticmethod
    def has_block(entry: BlockIndexEntry) -> bool:
        """Whether the block was connected once and is on disk with what undoes it. Blocks below a snapshot of the coins
        come later."""
        return entry.have_data and (entry.have_undo or entry.prev is None)

    def first_lost(self) -> BlockIndexEntry | None:
        """The first block that the index still needs and that was connected and then deleted (pruned)."""
        step = self.next_step()
        if step is None:
            return None
        entry, forward = step
        below = self._chain.index.fork_point(entry) if not forward else entry.prev
        for wanted in self._chain.index.active[0 if below is None else below.height + 1 :]:
            if not self.has_block(wanted) and wanted.is_valid(VALID_SCRIPTS):
                return wanted
        return None

    def step(self, entry: BlockIndexEntry, block: Block, undo: Undo, *, forward: bool) -> None:
        """Do what next_step said."""
        if forward:
            self._connect(entry, block, undo)
            self._at = entry
        else:
            self._disconnect(entry, block, undo)
            self._at = entry.prev
        if not self.ready and self.synced:
            self.note_ready()

    def note_ready(self) -> None:
        """It is at the tip for the first time."""
        self.ready = True
        log.info("%s is enabled at height %d", self.title, self.height)

    # Entries

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value
        self._pending_bytes += len(key) + len(value) + _ENTRY_OVERHEAD

    def _delete(self, key: bytes) -> None:
        self._pending[key] = None
        self._pending_bytes += len(key) + _ENTRY_OVERHEAD

    def _get(self, key: bytes) -> bytes | None:
        if key in self._pending:
            return self._pending[key]
        return self._store.get(key)

    def _get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        pending = self._pending
        keys = set(keys)
        found = self._store.get_many(key for key in keys if key not in pending)
        found.update((key, value) for key in keys if (value := pending.get(key)) is not None)
        return found

    def _range(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` entries with `start` <= key < `end`, in order."""
        changed = {key: value for key, value in self._pending.items() if start <= key < end}
        if not changed:
            return self._store.range(start, end, limit)
        removed = sum(value is None for value in changed.values())
        merged: dict[bytes, bytes | None] = dict(self._store.range(start, end, limit + removed))
        merged.update(changed)
        return [(key, value) for key, value in sorted(merged.items()) if value is not None][:limit]

    # Life

    def commit(self) -> bool:
        """Make what was taken durable, unless the chain itself is not there yet; whether it was."""
        at = self._at
        if at is None:
            return False
        if at in self._chain.index.dirty:  # its record in the header tree is not on disk
            return False
        if at is not self._committed or self._pending:
            self._store.commit(Mark(at.hash, at.height, self._state()), self._pending)
            self._pending = {}
            self._pending_bytes = 0
            self._committed = at
        self._last_commit = time.monotonic()
        return True

    @property
    def commit_due(self) -> bool:
        """Whether it is time for a commit."""
        return self._at is not self._committed and (
            self.full or time.monotonic() - self._last_commit > COMMIT_INTERVAL_S
        )

    def size_on_disk(self) -> int:
        """Bytes in use."""
        return self._store.size_on_disk()

    def close(self) -> None:
        """Release the files. What was not committed is taken again at the next start."""
        self._store.close()
