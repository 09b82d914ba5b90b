"""Reading and writing Bitcoin's wire types, with bounds.

A `Reader` never allocates more than the bytes it was given, whatever lengths those bytes claim. Integers are
little-endian.
"""

from __future__ import annotations

import builtins

from chain.primitives.errors import DecodeError

MAX_SIZE = 0x02000000  #: Core's limit on any CompactSize that counts things (serialize.h)
MAX_U64 = (1 << 64) - 1
END_OF_DATA = "DataStream::read(): end of data"  #: Core's words, which its tests look for in the log


class Reader:
    """A cursor over one buffer. Every method raises DecodeError instead of reading past the end."""

    __slots__ = ("buf", "pos")

    def __init__(self, buf: bytes, pos: int = 0) -> None:
        self.buf = buf
        self.pos = pos

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self.buf) - self.pos

    def bytes(self, n: int) -> bytes:
        """The next n bytes."""
        end = self.pos + n
        if n < 0 or end > len(self.buf):
            raise DecodeError(f"{END_OF_DATA} ({n} bytes wanted, {len(self.buf) - self.pos} left)")
        data = self.buf[self.pos : end]
        self.pos = end
        return data

    def u8(self) -> int:
        return self.bytes(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.bytes(2), "little")

    def u16_be(self) -> int:
        """Ports in addresses are the one big-endian field of the protocol."""
        return int.from_bytes(self.bytes(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.bytes(4), "little")

    def i32(self) -> int:
        return int.from_bytes(self.bytes(4), "little", signed=True)

    def u64(self) -> int:
        return int.from_bytes(self.bytes(8), "little")

    def i64(self) -> int:
        return int.from_bytes(self.bytes(8), "little", signed=True)

    def compact_size(self, limit: int = MAX_SIZE) -> int:
        """A CompactSize of at most `limit`; a longer spelling than needed is refused, as Core does."""
        first = self.u8()
        if first < 0xFD:
            value = first
        elif first == 0xFD:
            value = self.u16()
            if value < 0xFD:
                raise DecodeError("non-canonical ReadCompactSize()")
        elif first == 0xFE:
            value = self.u32()
            if value < 0x10000:
                raise DecodeError("non-canonical ReadCompactSize()")
        else:
            value = self.u64()
            if value < 0x100000000:
                raise DecodeError("non-canonical ReadCompactSize()")
        if value > limit:
            raise DecodeError("ReadCompactSize(): size too large")
        return value

    def var_bytes(self, limit: int = MAX_SIZE) -> builtins.bytes:
        """A CompactSize, then that many bytes."""
        return self.bytes(self.compact_size(limit))

    def finish(self) -> None:
        """Refuse anything left over."""
        if self.pos != len(self.buf):
            raise DecodeError(f"{len(self.buf) - self.pos} bytes too many")


def write_compact_size(n: int) -> bytes:
    """The shortest CompactSize for 0 <= n < 2**64."""
    if n < 0xFD:
        return n.to_bytes(1, "little")
    if n < 0x10000:
        return b"\xfd" + n.to_bytes(2, "little")
    if n < 0x100000000:
        return b"\xfe" + n.to_bytes(4, "little")
    return b"\xff" + n.to_bytes(8, "little")


def var_bytes(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return write_compact_size(len(data)) + data


def read_compact_size_at(buf: bytes, pos: int) -> tuple[int, int]:
    """(value, next position), for parsers that keep their own cursor. Bounded by MAX_SIZE; raises DecodeError."""
    reader = Reader(buf, pos)
    value = reader.compact_size()
    return value, reader.pos
