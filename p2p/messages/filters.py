"""BIP157: compact block filters, asked for and answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from chain.primitives.serialize import Reader, var_bytes, write_compact_size
from chain.primitives.types import BlockHash
from p2p.constants import MAX_GETCFHEADERS_SIZE, MAX_MESSAGE_SIZE
from p2p.messages.counted import read_count

BASIC_FILTER = 0
_CHECKPOINTS = 100_000  #: that we read from a peer: one each 1,000 blocks


@dataclass(frozen=True, slots=True)
class _RangeRequest:
    command: ClassVar[str]
    max_size: ClassVar[int] = 1 + 4 + 32

    filter_type: int
    start_height: int
    stop: BlockHash

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        return cls(reader.u8(), reader.u32(), BlockHash(reader.bytes(32)))

    def encode(self) -> bytes:
        return bytes([self.filter_type]) + self.start_height.to_bytes(4, "little") + self.stop


@dataclass(frozen=True, slots=True)
class GetCFilters(_RangeRequest):
    """Asks for the filters of up to 1,000 blocks, from a height to the block `stop`."""

    command: ClassVar[str] = "getcfilters"


@dataclass(frozen=True, slots=True)
class GetCFHeaders(_RangeRequest):
    """Asks for the hashes of up to 2,000 filters, from a height to the block `stop`."""

    command: ClassVar[str] = "getcfheaders"


@dataclass(frozen=True, slots=True)
class GetCFCheckpt:
    """Asks for every thousandth filter header on the way to the block `stop`."""

    command: ClassVar[str] = "getcfcheckpt"
    max_size: ClassVar[int] = 1 + 32

    filter_type: int
    stop: BlockHash

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        return cls(reader.u8(), BlockHash(reader.bytes(32)))

    def encode(self) -> bytes:
        return bytes([self.filter_type]) + self.stop


@dataclass(frozen=True, slots=True)
class CFilter:
    """One filter."""

    command: ClassVar[str] = "cfilter"
    max_size: ClassVar[int] = MAX_MESSAGE_SIZE

    filter_type: int
    block_hash: BlockHash
    filter: bytes

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        return cls(reader.u8(), BlockHash(reader.bytes(32)), reader.var_bytes(MAX_MESSAGE_SIZE))

    def encode(self) -> bytes:
        return bytes([self.filter_type]) + self.block_hash + var_bytes(self.filter)


@dataclass(frozen=True, slots=True)
class CFHeaders:
    """Filter hashes, and the filter header before the first: the receiver computes the headers between."""

    command: ClassVar[str] = "cfheaders"
    max_size: ClassVar[int] = 1 + 32 + 32 + 9 + 32 * MAX_GETCFHEADERS_SIZE

    filter_type: int
    stop: BlockHash
    prev_header: bytes
    hashes: tuple[bytes, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        filter_type, stop, prev_header = reader.u8(), BlockHash(reader.bytes(32)), reader.bytes(32)
        count = read_count(reader, cls.command, MAX_GETCFHEADERS_SIZE)
        return cls(filter_type, stop, prev_header, tuple(reader.bytes(32) for _ in range(count)))

    def encode(self) -> bytes:
        head = bytes([self.filter_type]) + self.stop + self.prev_header
        return head + write_compact_size(len(self.hashes)) + b"".join(self.hashes)


@dataclass(frozen=True, slots=True)
class CFCheckpt:
    """Filter headers at heights 1,000, 2,000, …, lowest first."""

    command: ClassVar[str] = "cfcheckpt"
    max_size: ClassVar[int] = 1 + 32 + 9 + 32 * _CHECKPOINTS

    filter_type: int
    stop: BlockHash
    headers: tuple[bytes, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        filter_type, stop = reader.u8(), BlockHash(reader.bytes(32))
        count = read_count(reader, cls.command, _CHECKPOINTS)
        return cls(filter_type, stop, tuple(reader.bytes(32) for _ in range(count)))

    def encode(self) -> bytes:
        head = bytes([self.filter_type]) + self.stop
        return head + write_compact_size(len(self.headers)) + b"".join(self.headers)
