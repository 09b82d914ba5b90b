"""Partial merkle trees (BIP37's merkleblock): proofs that transactions are in a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from chain.primitives.serialize import Reader, write_compact_size

MAX_TRANSACTIONS = 4_000_000 // 240  #: a block holds no more: a transaction weighs at least 240


def _hash_pair(left: bytes, right: bytes) -> bytes:
    return sha256(sha256(left + right).digest()).digest()


@dataclass(slots=True)
class MerkleProof:
    """Header (80 bytes), number of transactions, and the tree in depth-first order: hashes, and a bit for each node
    that says whether it
    leads to a proven transaction."""

    header: bytes
    total: int
    hashes: list[bytes]
    bits: list[bool]

    @property
    def block_hash(self) -> bytes:
        return sha256(sha256(self.header).digest()).digest()

    @classmethod
    def build(cls, header: bytes, txids: Sequence[bytes], wanted: set[bytes]) -> MerkleProof:
        """The proof for those of a block's `txids` that are `wanted`."""
        proof = cls(header, len(txids), [], [])
        matches = [txid in wanted for txid in txids]
        proof._grow(_height(len(txids)), 0, txids, matches)
        return proof

    def _grow(self, height: int, position: int, txids: Sequence[bytes], matches: list[bool]) -> None:
        first = position << height
        leads = any(matches[first : (position + 1) << height])
        self.bits.append(leads)
        if height == 0 or not leads:
            self.hashes.append(_node(height, position, txids))
            return
        self._grow(height - 1, position * 2, txids, matches)
        if position * 2 + 1 < _width(height - 1, self.total):
            self._grow(height - 1, position * 2 + 1, txids, matches)

    def serialize(self) -> bytes:
        flags = bytearray((len(self.bits) + 7) // 8)
        for position, bit in enumerate(self.bits):
            flags[position // 8] |= bit << position % 8
        return b"".join(
            [
                self.header,
                self.total.to_bytes(4, "little"),
                write_compact_size(len(self.hashes)),
                *self.hashes,
                write_compact_size(len(flags)),
                bytes(flags),
            ]
        )

    @classmethod
    def parse(cls, data: bytes) -> MerkleProof:
        """DecodeError when it is malformed."""
        reader = Reader(data)
        header = reader.bytes(80)
        total = reader.u32()
        hashes = [reader.bytes(32) for _ in range(reader.compact_size(len(data) // 32))]
        flags = reader.bytes(reader.compact_size(len(data)))
        reader.finish()
        return cls(header, total, hashes, [bool(byte >> bit & 1) for byte in flags for bit in range(8)])

    def extract(self) -> tuple[bytes | None, list[tuple[int, bytes]]]:
        """(merkle root, [(position, txid)]) of a well-formed proof; (None, []) otherwise."""
        if not 0 < self.total <= MAX_TRANSACTIONS or len(self.hashes) > self.total or len(self.bits) < len(self.hashes):
            return None, []
        walk = _Walk(self)
        root = walk.node(_height(self.total), 0)
        if walk.bad or (walk.bits_used + 7) // 8 != (len(self.bits) + 7) // 8 or walk.hashes_used != len(self.hashes):
            return None, []
        return root, walk.matched


class _Walk:
    def __init__(self, proof: MerkleProof) -> None:
        self.proof = proof
        self.bits_used = self.hashes_used = 0
        self.bad = False
        self.matched: list[tuple[int, bytes]] = []

    def node(self, height: int, position: int) -> bytes:
        proof = self.proof
        if self.bits_used >= len(proof.bits):
            self.bad = True
            return bytes(32)
        leads = proof.bits[self.bits_used]
        self.bits_used += 1
        if height == 0 or not leads:
            if self.hashes_used >= len(proof.hashes):
                self.bad = True
                return bytes(32)
            found = proof.hashes[self.hashes_used]
            self.hashes_used += 1
            if height == 0 and leads:
                self.matched.append((position, found))
            return found
        left = self.node(height - 1, position * 2)
        right = left
        if position * 2 + 1 < _width(height - 1, proof.total):
            right = self.node(height - 1, position * 2 + 1)
            if right == left:  # the two branches must never be the same (CVE-2012-2459)
                self.bad = True
        return _hash_pair(left, right)


def _width(height: int, total: int) -> int:
    return (total + (1 << height) - 1) >> height


def _height(total: int) -> int:
    height = 0
    while _width(height, total) > 1:
        height += 1
    return height


def _node(height: int, position: int, txids: Sequence[bytes]) -> bytes:
    if height == 0:
        return txids[position]
    left = _node(height - 1, position * 2, txids)
    right = left
    if position * 2 + 1 < _width(height - 1, len(txids)):
        right = _node(height - 1, position * 2 + 1, txids)
    return _hash_pair(left, right)
