"""ping and pong (BIP31)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.serialize import Reader


@dataclass(frozen=True, slots=True)
class Ping:
    """A nonce to be echoed; peers up to version 60000 send none (None) and expect no pong."""

    command: ClassVar[str] = "ping"
    max_size: ClassVar[int] = 1_000

    nonce: int | None

    @classmethod
    def decode(cls, payload: bytes) -> Ping:
        return cls(Reader(payload).u64() if payload else None)

    def encode(self) -> bytes:
        return b"" if self.nonce is None else self.nonce.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Pong:
    """The nonce of a ping; None when the payload was too short to hold one (`size` bytes)."""

    command: ClassVar[str] = "pong"
    max_size: ClassVar[int] = 1_000

    nonce: int | None
    size: int = 8

    @classmethod
    def decode(cls, payload: bytes) -> Pong:
        return cls(int.from_bytes(payload[:8], "little") if len(payload) >= 8 else None, len(payload))

    def encode(self) -> bytes:
        return b"" if self.nonce is None else self.nonce.to_bytes(8, "little")
