"""A block: header and transactions, parsed in one pass from one buffer."""

from __future__ import annotations

from collections.abc import Iterable

from chain.primitives.errors import DecodeError
from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import read_compact_size_at, write_compact_size
from chain.primitives.transaction import WITNESS_SCALE_FACTOR, Transaction, hash_transactions
from chain.primitives.types import ZERO_HASH, BlockHash


class Block:
    """An immutable block; `raw` is its full serialization (BIP144)."""

    __slots__ = ("checked_for", "header", "raw", "transactions")

    def __init__(self, header: BlockHeader, transactions: list[Transaction], raw: bytes) -> None:
        self.header = header
        self.transactions = transactions
        self.raw = raw
        self.checked_for: object = None  #: the network whose check_block it has passed in full

    @classmethod
    def parse(cls, data: bytes, *, allow_trailing: bool = False) -> Block:
        """From a buffer that holds exactly one block, or with `allow_trailing` begins with one (what follows is
        dropped, as Core does with messages); DecodeError otherwise."""
        if len(data) <= HEADER_SIZE:
            raise DecodeError(f"a block has more than {HEADER_SIZE} bytes, not {len(data)}")
        header = BlockHeader(data[:HEADER_SIZE])
        count, pos = read_compact_size_at(data, HEADER_SIZE)
        parse_from = Transaction.parse_from
        transactions = []
        for _ in range(count):  # a lying count ends at the first transaction that is not there
            tx, pos = parse_from(data, pos)
            transactions.append(tx)
        if pos != len(data):
            if not allow_trailing:
                raise DecodeError(f"{len(data) - pos} bytes after the block")
            data = data[:pos]
        return cls(header, transactions, data)

    @classmethod
    def build(cls, header: BlockHeader, transactions: Iterable[Transaction]) -> Block:
        """From its parts."""
        txs = list(transactions)
        return cls(header, txs, b"".join([header.raw, write_compact_size(len(txs)), *[tx.raw for tx in txs]]))

    @property
    def hash(self) -> BlockHash:
        return self.header.hash

    @property
    def total_size(self) -> int:
        """Bytes with witnesses."""
        return len(self.raw)

    @property
    def base_size(self) -> int:
        """Bytes without witnesses."""
        return (
            HEADER_SIZE
            + len(write_compact_size(len(self.transactions)))
            + sum(tx.base_size for tx in self.transactions)
        )

    @property
    def weight(self) -> int:
        """BIP141 weight units."""
        return self.base_size * (WITNESS_SCALE_FACTOR - 1) + len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.header.raw)

    def __repr__(self) -> str:
        return f"Block({self.hash[::-1].hex()}, {len(self.transactions)} transactions)"


def block_merkle_root(block: Block) -> tuple[bytes, bool]:
    """(root over txids, mutated); see merkle_root."""
    hash_transactions(block.transactions)
    return merkle_root([tx.txid for tx in block.transactions])


def witness_merkle_root(block: Block) -> bytes:
    """Root over wtxids with the coinbase's taken as zero (BIP141)."""
    return merkle_root([ZERO_HASH, *[tx.wtxid for tx in block.transactions[1:]]])[0]
