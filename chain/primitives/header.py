"""The 80-byte block header.

Layout (all little-endian): i32 version, previous block hash, merkle root, u32 time, u32 nBits, u32 nonce.
"""

from __future__ import annotations

from hashlib import sha256

from chain.primitives.errors import DecodeError
from chain.primitives.types import BlockHash, Nbits

HEADER_SIZE = 80


class BlockHeader:
    """An immutable header over its 80 bytes; fields are read from them when asked for."""

    __slots__ = ("_hash", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._hash: BlockHash | None = None

    @classmethod
    def parse(cls, data: bytes) -> BlockHeader:
        """From exactly 80 bytes; DecodeError otherwise."""
        if len(data) != HEADER_SIZE:
            raise DecodeError(f"a block header has {HEADER_SIZE} bytes, not {len(data)}")
        return cls(bytes(data))

    @classmethod
    def build(
        cls, version: int, prev_hash: bytes, merkle_root: bytes, time: int, nbits: int, nonce: int
    ) -> BlockHeader:
        """From its fields; `version` may be given signed or as the same 32 bits unsigned."""
        return cls(
            (version & 0xFFFFFFFF).to_bytes(4, "little")
            + prev_hash
            + merkle_root
            + time.to_bytes(4, "little")
            + nbits.to_bytes(4, "little")
            + nonce.to_bytes(4, "little")
        )

    @property
    def hash(self) -> BlockHash:
        """SHA-256d of the 80 bytes."""
        if self._hash is None:
            self._hash = BlockHash(sha256(sha256(self.raw).digest()).digest())
        return self._hash

    @property
    def version(self) -> int:
        """Signed 32-bit, as Core reads it."""
        return int.from_bytes(self.raw[:4], "little", signed=True)

    @property
    def prev_hash(self) -> BlockHash:
        return BlockHash(self.raw[4:36])

    @property
    def merkle_root(self) -> bytes:
        return self.raw[36:68]

    @property
    def time(self) -> int:
        """Seconds since 1970."""
        return int.from_bytes(self.raw[68:72], "little")

    @property
    def nbits(self) -> Nbits:
        return Nbits(int.from_bytes(self.raw[72:76], "little"))

    @property
    def nonce(self) -> int:
        return int.from_bytes(self.raw[76:80], "little")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockHeader) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"BlockHeader({self.hash[::-1].hex()})"
