"""What the drivers of boards that search one header at a time have in common: works that wait, nonces judged, frames
and events handed on. A driver itself then reads as its protocol.

Sans-I/O: call `start`, then `received` with what arrives and `tick` when `next_wakeup` has come; send `outgoing`, deal
with `events`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from miner.asic.header_work import Failed, NonceFound, Outcome, Work
from miner.kernels.reference import hash_number, header_hash

_SEEN_LIMIT = 1000  #: nonces of one work remembered against duplicates

E = TypeVar("E")  #: events of one kind of board, beside nonces and failure


@dataclass(slots=True, eq=False)
class Issued:
    """A work that the board has been sent, and when."""

    work: Work
    sent_at: float
    withdrawn: bool = False  #: by a new block
    seen: set[int] = field(default_factory=set)


class HeaderDriver(ABC, Generic[E]):
    """See the module. `zero_bits`: leading zero bits of a reported hash: 32 on real boards, fewer on scaled
    emulators."""

    asks_for_room = False  #: see LineDriver

    def __init__(self, zero_bits: int) -> None:
        self.totals: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.restarts = 0
        self.room: bool | None = None
        self._zero_bits = zero_bits
        self._queue: deque[Work] = deque()
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._events: list[NonceFound | Failed | E] = []
        self._wake: float | None = None
        self._heard_at = 0.0  # when the last true nonce came

    @abstractmethod
    def start(self, now: float) -> None:
        """The port is open: look for the board."""

    @abstractmethod
    def start_later(self, at: float) -> None:
        """Begin anew at that time."""

    @abstractmethod
    def stop(self) -> None:
        """Forget all work; the board rests as far as it can be told to."""

    @abstractmethod
    def set_work(self, works: Iterable[Work], now: float, *, clean: bool = False) -> None:
        """Search these instead of what is still waiting; `clean`: a new block, so whatever still comes for earlier work
        is stale."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Do what is due by now."""

    @abstractmethod
    def received(self, data: bytes, now: float) -> None:
        """Bytes from the board."""

    @abstractmethod
    def progress(self, now: float) -> float:
        """Hashes done by now."""

    def next_wakeup(self) -> float | None:
        """When `tick` wants to be called; None: not until bytes come or there is work."""
        return self._wake

    def outgoing(self) -> list[bytes]:
        """Frames to send now, each handed out once."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[NonceFound | Failed | E]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def _number_of(self, work: Work, wire: bytes) -> int | None:
        """The hash of a work under a nonce's four bytes, as an integer; None where it is nothing."""
        number = hash_number(header_hash(work.header[:76] + wire))
        return None if number >> 256 - self._zero_bits else number

    def _judge(self, issued: Issued, nonce: int, number: int, now: float, *, late: bool = False) -> bool:
        """Count a true nonce, and hand it on where it is a new one of work that is still wanted; whether it is."""
        self._heard_at = now
        if nonce in issued.seen:
            outcome = Outcome.DUPLICATE
        elif issued.withdrawn:
            outcome = Outcome.STALE
        else:
            outcome = Outcome.GOOD
            if len(issued.seen) < _SEEN_LIMIT:
                issued.seen.add(nonce)
            self._events.append(NonceFound(issued.work, nonce, number, late))
        self.totals[outcome] += 1
        return outcome is Outcome.GOOD
