"""What happened to the chain, as values.

`Chainstate` calls nobody back: its methods return these, oldest first, and whoever owns it publishes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry
from chain.primitives.block import Block

BLOCKS_KEPT = 32  #: blocks that events of one activation hold in memory


class _BlockEvent:
    """A block came or went. In a long reorganisation only the newest events keep their block; the others read it again
    when asked (`read`), so that memory does not grow with the length of a reorganisation."""

    __match_args__ = ("entry", "block")
    __slots__ = ("_block", "_read", "entry")

    def __init__(self, entry: BlockIndexEntry, block: Block, read: Callable[[BlockIndexEntry], Block]) -> None:
        self.entry = entry
        self._block: Block | None = block
        self._read = read

    @property
    def block(self) -> Block:
        """The block, from memory or from disk; LocalFault if the disk has lost it."""
        return self._block if self._block is not None else self._read(self.entry)

    @property
    def in_memory(self) -> bool:
        """Whether the block need not be read."""
        return self._block is not None

    def let_go(self) -> None:
        """Keep the block no longer."""
        self._block = None


class BlockConnected(_BlockEvent):
    """`block` became part of the active chain; its coins are spent and created."""

    __slots__ = ()


class BlockDisconnected(_BlockEvent):
    """`block` left the active chain in a reorganisation or an invalidation; its transactions are unconfirmed again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TipChanged:
    """The active chain ends at `entry` now. One per activation, after the blocks that led there."""

    entry: BlockIndexEntry


@dataclass(frozen=True, slots=True)
class HeaderTipChanged:
    """`entry` is the best header known; its block may still be missing."""

    entry: BlockIndexEntry


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """The block of `entry` broke a rule when it was connected; it and all that build on it are invalid from now on."""

    entry: BlockIndexEntry
    error: ConsensusError


class EventLog:
    """Events that nobody has been told yet, oldest first."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._holding: deque[_BlockEvent] = deque()

    def append(self, event: Event) -> None:
        """Add one; of the blocks in events, only the newest BLOCKS_KEPT stay in memory."""
        self._events.append(event)
        if isinstance(event, _BlockEvent):
            self._holding.append(event)
            if len(self._holding) > BLOCKS_KEPT:
                self._holding.popleft().let_go()

    def replace_header_tip(self, event: HeaderTipChanged) -> None:
        """Add it instead of one that was added just before: only the last header tip matters."""
        if self._events and isinstance(self._events[-1], HeaderTipChanged):
            self._events.pop()
        self._events.append(event)

    def restore(self, events: list[Event]) -> None:
        """Put back what `drain` returned."""
        self._events = events + self._events

    def drain(self) -> list[Event]:
        """All of them, once."""
        events, self._events = self._events, []
        self._holding.clear()
        return events


Event: TypeAlias = BlockConnected | BlockDisconnected | TipChanged | HeaderTipChanged | BlockRejected
