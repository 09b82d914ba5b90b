"""Keeps the optional indexes in step with the chain: in slices of bounded time, lowest index first, so that one reading
of a block serves all that are at the same height.

Nothing here happens on its own: `work` is called when the chain's thread has time, `until_synced` when somebody asks
an index that has been at the tip before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from chain.events import BlockConnected, BlockDisconnected, Event
from chain.index import BlockIndexEntry
from chain.indexes.base import Index, Undo
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, hash_to_hex

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

prune_log = logging.getLogger("pickaxe.prune")

INDEXES_DIR: Final = "indexes"
PRUNE_LOCK_BUFFER: Final = 10  #: blocks below an index's last one that pruning leaves, for a reorganisation (Core)
MAX_BLOCKS_TO_WAIT: Final = 64  #: that `until_synced` takes in one go; more would hold up validation
_FORCED_FLUSH_S: Final = 60.0
_RECENT_BLOCKS: Final = 4

AnyIndex = TypeVar("AnyIndex", bound=Index)


class IndexSet:
    """All indexes of one chain."""

    def __init__(self, chain: Chainstate, indexes: Iterable[Index] = ()) -> None:
        self._chain = chain
        self._indexes = tuple(indexes)
        self._blocks: dict[BlockHash, Block] = {}
        self._undo: dict[BlockHash, Undo] = {}
        self._last_forced = 0.0

    def __iter__(self) -> Iterator[Index]:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)

    def find(self, kind: type[AnyIndex]) -> AnyIndex | None:
        """The index of this class, if there is one."""
        for index in self._indexes:
            if isinstance(index, kind):
                return index
        return None

    # Work

    def note(self, events: Iterable[Event]) -> None:
        """Keep the newest blocks in memory: they are wanted next. Say which blocks pruning must leave from now on."""
        if not self._indexes:
            return
        for event in events:
            if isinstance(event, BlockConnected):
                _remember(self._blocks, event.entry.hash, event.block)
            elif isinstance(event, BlockDisconnected):
                below = event.entry.height - 1
                for index in self._indexes:
                    if index.height > below:
                        prune_log.debug("%s prune lock moved back to %d", index.title, below)

    def work(self, budget_s: float) -> bool:
        """Bring the lowest index on, and then the next, until all are at the tip (False) or the time is over (True).
        Takes at least one block, however long that lasts.
        """
        deadline = time.monotonic() + budget_s
        more = True
        while more:
            index = self._next()
            more = index is not None and self._advance(index)
            if time.monotonic() >= deadline:
                break
        for index in self._indexes:
            if index.commit_due:
                index.commit()
        return more

    def until_synced(self, index: Index) -> bool:
        """Bring an index that has been at the tip before to the tip again; whether it is there (Core:
        BlockUntilSyncedToCurrentChain). False while it is built, or far behind.
        """
        for _ in range(MAX_BLOCKS_TO_WAIT if index.ready else 0):
            if index.synced or not self._advance(index):
                break
        return index.ready and index.synced

    def _next(self) -> Index | None:
        waiting = [index for index in self._indexes if not index.synced]
        for index in sorted(waiting, key=lambda index: index.height):
            step = index.next_step()
            if step is not None and (index.has_block(step[0]) or not step[1]) and self._has_room(index):
                return index
        for index in self._indexes:
            if index.synced and not index.ready:
                index.note_ready()
        return None

    def _has_room(self, index: Index) -> bool:
        if not index.full or index.commit():
            return True
        now = time.monotonic()
        if now - self._last_forced > _FORCED_FLUSH_S and not self._chain.has_failed:
            self._last_forced = now
            self._chain.flush()
            return index.commit()
        return False

    def _advance(self, index: Index) -> bool:
        """One step of one index; whether there was one to do."""
        step = index.next_step()
        if step is None:
            return False
        entry, forward = step
        if not index.has_block(entry):
            if forward:
                return False
            raise LocalFault(
                f"The {index.title} is at block {hash_to_hex(entry.hash)}, which left the chain and was deleted since:"
                " remove the index (`pickaxe index remove`) and it is built again"
            )
        block = self._blocks.get(entry.hash)
        if block is None:
            block = self._chain.read_block(entry)
            _remember(self._blocks, entry.hash, block)
        undo: Undo = ()
        if index.needs_undo:
            found = self._undo.get(entry.hash)
            if found is None:
                found = self._chain.read_undo(entry)
                _remember(self._undo, entry.hash, found)
            undo = found
        index.step(entry, block, undo, forward=forward)
        return True

    # Pruning

    def first_lost(self) -> tuple[Index, BlockIndexEntry] | None:
        """The index that stands lowest and cannot go on because a block that it needs was pruned."""
        for index in sorted(self._indexes, key=lambda index: index.height):
            entry = index.first_lost()
            if entry is not None:
                return index, entry
        return None

    def prune_limit(self) -> tuple[str, int] | None:
        """(title of the index that stands lowest, the last height that it lets go); None without indexes."""
        if not self._indexes:
            return None
        lowest = min(self._indexes, key=lambda index: index.height)
        return lowest.title, max(1, lowest.height - PRUNE_LOCK_BUFFER - 1)

    # Life

    def close(self) -> None:
        """Make what was taken durable, as far as the chain is, and release the files."""
        fault: LocalFault | None = None
        for index in self._indexes:
            try:
                if not self._chain.has_failed:
                    index.commit()
            except LocalFault as error:
                fault = fault or error
            finally:
                index.close()
        if fault is not None:
            raise fault


T = TypeVar("T")


def _remember(cache: dict[BlockHash, T], block_hash: BlockHash, value: T) -> None:
    cache[block_hash] = value
    if len(cache) > _RECENT_BLOCKS:
        del cache[next(iter(cache))]
