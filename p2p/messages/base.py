"""What every message type has in common."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self


class Message(Protocol):
    """A value that travels as one protocol message.

    `decode` raises DecodeError for bytes that are not such a message (the message is then dropped, as Core does:
    bytes after a well-formed payload are ignored, so that later protocol versions can append fields) and
    PeerMisbehaviour for counts above the protocol's limits. `max_size` bounds the payload: a longer one is never
    buffered.
    """

    command: ClassVar[str]
    max_size: ClassVar[int]

    @classmethod
    def decode(cls, payload: bytes) -> Self: ...

    def encode(self) -> bytes: ...
