"""Compact blocks (BIP152, version 2: short ids over wtxids)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from chain.crypto.hashes import siphash24
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.serialize import Reader, write_compact_size
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash
from p2p.constants import CMPCTBLOCKS_VERSION, MAX_MESSAGE_SIZE

MAX_TRANSACTIONS = 0xFFFF  #: indexes are 16-bit in Core; a block of 4,000,000 weight holds at most 16,666 transactions
SHORT_ID_SIZE = 6


@dataclass(frozen=True, slots=True)
class SendCmpct:
    """Whether to announce blocks by cmpctblock at once (high bandwidth), and the version spoken."""

    command: ClassVar[str] = "sendcmpct"
    max_size: ClassVar[int] = 1_000

    high_bandwidth: bool
    version: int = CMPCTBLOCKS_VERSION

    @classmethod
    def decode(cls, payload: bytes) -> SendCmpct:
        reader = Reader(payload)
        return cls(reader.u8() != 0, reader.u64())

    def encode(self) -> bytes:
        return bytes([self.high_bandwidth]) + self.version.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class CmpctBlock:
    """A header, short ids of the block's transactions, and the transactions (with absolute index) that the peer is not
    expected to have."""

    command: ClassVar[str] = "cmpctblock"
    max_size: ClassVar[int] = MAX_MESSAGE_SIZE

    header: BlockHeader
    nonce: int
    short_ids: tuple[bytes, ...]
    prefilled: tuple[tuple[int, Transaction], ...]

    @classmethod
    def from_block(cls, block: Block, nonce: int) -> CmpctBlock:
        """Prefills the coinbase only, as Core does."""
        key = short_id_key(block.header, nonce)
        ids = tuple(short_id(key, tx.wtxid) for tx in block.transactions[1:])
        return cls(block.header, nonce, ids, ((0, block.transactions[0]),))

    @classmethod
    def decode(cls, payload: bytes) -> CmpctBlock:
        reader = Reader(payload)
        header, nonce = BlockHeader(reader.bytes(HEADER_SIZE)), reader.u64()
        count = reader.compact_size()
        body = reader.bytes(SHORT_ID_SIZE * count)
        ids = tuple(body[i : i + SHORT_ID_SIZE] for i in range(0, len(body), SHORT_ID_SIZE))
        prefilled = []
        index = -1
        for _ in range(reader.compact_size()):
            index += 1 + reader.compact_size()
            if index > MAX_TRANSACTIONS:
                raise DecodeError("differential value overflow")
            tx, reader.pos = Transaction.parse_from(payload, reader.pos)
            prefilled.append((index, tx))
        if len(ids) + len(prefilled) > MAX_TRANSACTIONS:
            raise DecodeError("indexes overflowed 16 bits")
        return cls(header, nonce, ids, tuple(prefilled))

    def encode(self) -> bytes:
        parts = [
            self.header.raw,
            self.nonce.to_bytes(8, "little"),
            write_compact_size(len(self.short_ids)),
            *self.short_ids,
        ]
        parts.append(write_compact_size(len(self.prefilled)))
        previous = -1
        for index, tx in self.prefilled:
            parts += [write_compact_size(index - previous - 1), tx.raw]
            previous = index
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class GetBlockTxn:
    """Asks for transactions of a block by absolute index, strictly increasing."""

    command: ClassVar[str] = "getblocktxn"
    max_size: ClassVar[int] = 32 + 9 + 3 * (MAX_TRANSACTIONS + 1)

    block_hash: BlockHash
    indexes: tuple[int, ...]

    @classmethod
    def decode(cls, payload: bytes) -> GetBlockTxn:
        reader = Reader(payload)
        block_hash, indexes, index = BlockHash(reader.bytes(32)), [], -1
        for _ in range(reader.compact_size()):
            index += 1 + reader.compact_size()
            if index > MAX_TRANSACTIONS:
                raise DecodeError("differential value overflow")
            indexes.append(index)
        return cls(block_hash, tuple(indexes))

    def encode(self) -> bytes:
        parts = [self.block_hash, write_compact_size(len(self.indexes))]
        previous = -1
        for index in self.indexes:
            parts.append(write_compact_size(index - previous - 1))
            previous = index
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class BlockTxn:
    """The transactions asked for by getblocktxn, in that order."""

    command: ClassVar[str] = "blocktxn"
    max_size: ClassVar[int] = MAX_MESSAGE_SIZE

    block_hash: BlockHash
    transactions: tuple[Transaction, ...]

    @classmethod
    def decode(cls, payload: bytes) -> BlockTxn:
        reader = Reader(payload)
        block_hash, transactions = BlockHash(reader.bytes(32)), []
        for _ in range(reader.compact_size()):
            tx, reader.pos = Transaction.parse_from(payload, reader.pos)
            transactions.append(tx)
        return cls(block_hash, tuple(transactions))

    def encode(self) -> bytes:
        return b"".join(
            [self.block_hash, write_compact_size(len(self.transactions)), *[tx.raw for tx in self.transactions]]
        )


def short_id_key(header: BlockHeader, nonce: int) -> tuple[int, int]:
    """The SipHash key of a compact block: two u64 from SHA-256(header || nonce)."""
    digest = sha256(header.raw + nonce.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def short_id(key: tuple[int, int], wtxid: bytes) -> bytes:
    """The 6-byte short id of a transaction."""
    return (siphash24(key[0], key[1], wtxid) & 0xFFFFFFFFFFFF).to_bytes(SHORT_ID_SIZE, "little")
