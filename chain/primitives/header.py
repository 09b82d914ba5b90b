"""The 80-byte block header.

Layout (all little-endian): i32 version, previous block hash, merkle root, u32 time, u32 nBits, u32 nonce.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct

from chain.primitives.errors import DecodeError
from chain.primitives.types import BlockHash, Nbits

HEADER_SIZE = 80

_fields = Struct("<i32s32sIII").unpack


class BlockHeader:
    """An immutable header: its 80 bytes and the fields in them. `version` is signed 32-bit as Core reads it, `time` in
    seconds since 1970.
    """

    __slots__ = ("_hash", "merkle_root", "nbits", "nonce", "prev_hash", "raw", "time", "version")

    version: int
    prev_hash: BlockHash
    merkle_root: bytes
    time: int
    nbits: Nbits
    nonce: int

    def __init__(self, raw: bytes) -> None:
        """From exactly 80 bytes."""
        self.raw = raw
        self.version, self.prev_hash, self.merkle_root, self.time, self.nbits, self.nonce = _fields(raw)
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
        hash_ = self._hash
        if hash_ is None:
            hash_ = self._hash = BlockHash(sha256(sha256(self.raw).digest()).digest())
        return hash_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockHeader) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"BlockHeader({self.hash[::-1].hex()})"
