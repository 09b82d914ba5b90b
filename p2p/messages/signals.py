"""Messages that are their name and nothing more."""

from __future__ import annotations

from typing import ClassVar, Self


class Signal:
    """A message without payload. Whatever follows the name is ignored, as Core does."""

    __slots__ = ()
    command: ClassVar[str]
    max_size: ClassVar[int] = 1_000

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls()

    def encode(self) -> bytes:
        return b""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(self.command)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class VerAck(Signal):
    """Ends the handshake."""

    __slots__ = ()
    command = "verack"


class SendHeaders(Signal):
    """BIP130: announce blocks to me by headers."""

    __slots__ = ()
    command = "sendheaders"


class WtxidRelay(Signal):
    """BIP339, between version and verack: announce transactions to me by wtxid."""

    __slots__ = ()
    command = "wtxidrelay"


class SendAddrV2(Signal):
    """BIP155, between version and verack: send me addrv2 instead of addr."""

    __slots__ = ()
    command = "sendaddrv2"


class GetAddr(Signal):
    """Asks for addresses of other nodes."""

    __slots__ = ()
    command = "getaddr"


class MemPool(Signal):
    """BIP35: asks for an inv of the whole mempool."""

    __slots__ = ()
    command = "mempool"


class FilterClear(Signal):
    """BIP37: drop my bloom filter. We do not offer bloom filters; peers that send it anyway are dropped."""

    __slots__ = ()
    command = "filterclear"
