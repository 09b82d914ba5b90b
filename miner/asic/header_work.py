"""What a board that searches one header at a time is told, and what it is heard to say: Icarus, Avalon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Work:
    """A header (80 bytes, nonce ignored) to search; `owner`: what the caller wants back with each nonce."""

    header: bytes
    owner: Any = None


class Outcome(Enum):
    """What a reply turned out to be."""

    GOOD = "good"
    DUPLICATE = "duplicate"
    STALE = "stale"  #: of work that has been withdrawn
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class NonceFound:
    """A true nonce (little-endian integer of header bytes 76..79) of a work; `number`: the hash as an integer; `late`:
    of a work that is searched no longer."""

    work: Work
    nonce: int
    number: int
    late: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no board, or none any more; one line why."""

    reason: str
