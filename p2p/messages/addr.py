"""addr and addrv2 (BIP155): gossip about where nodes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.serialize import Reader, write_compact_size
from p2p.constants import MAX_ADDR_TO_SEND
from p2p.messages.counted import read_count
from p2p.netaddress import TimedAddress


@dataclass(frozen=True, slots=True)
class Addr:
    """Up to 1,000 addresses of 30 bytes."""

    command: ClassVar[str] = "addr"
    max_size: ClassVar[int] = 9 + 30 * MAX_ADDR_TO_SEND

    addresses: tuple[TimedAddress, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Addr:
        reader = Reader(payload)
        count = read_count(reader, cls.command, MAX_ADDR_TO_SEND)
        return cls(tuple(TimedAddress.decode_v1(reader) for _ in range(count)))

    def encode(self) -> bytes:
        return write_compact_size(len(self.addresses)) + b"".join(a.encode_v1() for a in self.addresses)


@dataclass(frozen=True, slots=True)
class AddrV2:
    """Up to 1,000 addresses of any network."""

    command: ClassVar[str] = "addrv2"
    max_size: ClassVar[int] = 9 + (4 + 9 + 1 + 3 + 512 + 2) * MAX_ADDR_TO_SEND

    addresses: tuple[TimedAddress, ...]

    @classmethod
    def decode(cls, payload: bytes) -> AddrV2:
        reader = Reader(payload)
        count = read_count(reader, cls.command, MAX_ADDR_TO_SEND)
        return cls(tuple(TimedAddress.decode_v2(reader) for _ in range(count)))

    def encode(self) -> bytes:
        return write_compact_size(len(self.addresses)) + b"".join(a.encode_v2() for a in self.addresses)
