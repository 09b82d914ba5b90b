"""A block: header and transactions, parsed in one pass from one buffer.

By Python at first; once `use_compiled` has been called, a block of some size is read by compiled code, which holds no
GIL, finds the ids on the way, and leaves the fields of each transaction to whoever asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from chain.primitives.errors import DecodeError
from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import read_compact_size_at, write_compact_size
from chain.primitives.transaction import WITNESS_SCALE_FACTOR, Transaction, unread_transactions
from chain.primitives.types import ZERO_HASH, BlockHash

if TYPE_CHECKING:
    from chain.primitives.native.tables import BlockTables

_compiled: ModuleType | None = None
_fewest = 9  # transactions of a block that is worth a call of compiled code, which costs some microseconds


def use_compiled(fewest: int = _fewest) -> None:
    """Read blocks of so many transactions or more by compiled code from now on. Loading it takes up to a second."""
    global _compiled, _fewest
    from chain.primitives.native import tables

    _compiled, _fewest = tables, fewest


class Block:
    """An immutable block; `raw` is its full serialization (BIP144)."""

    __slots__ = ("_base_size", "_tables", "_transactions", "checked_for", "header", "raw")

    def __init__(
        self, header: BlockHeader, transactions: list[Transaction] | None, raw: bytes, tables: BlockTables | None = None
    ) -> None:
        """`transactions` may be left to `tables`."""
        self.header = header
        self.raw = raw
        self._transactions = transactions
        self.checked_for: object = None  #: the network whose check_block it has passed in full
        self._base_size = 0
        self._tables = tables

    @classmethod
    def parse(cls, data: bytes, *, allow_trailing: bool = False) -> Block:
        """From a buffer that holds exactly one block, or with `allow_trailing` begins with one (what follows is
        dropped, as Core does with messages); DecodeError otherwise."""
        if len(data) <= HEADER_SIZE:
            raise DecodeError(f"a block has more than {HEADER_SIZE} bytes, not {len(data)}")
        header = BlockHeader(data[:HEADER_SIZE])
        count, pos = read_compact_size_at(data, HEADER_SIZE)
        if _compiled is not None and count >= _fewest and not allow_trailing:
            tables = _compiled.read_block(data, pos, count)
            if tables is not None:
                return cls(header, None, data, tables)
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
    def transactions(self) -> list[Transaction]:
        """All of them, the coinbase first."""
        if self._transactions is None:
            self._transactions = self._unread(self.transaction_count)
        return self._transactions

    @property
    def transaction_count(self) -> int:
        """How many there are."""
        if self._transactions is None and self._tables is not None:
            return len(self._tables.transactions)
        return len(self.transactions)

    @property
    def coinbase(self) -> Transaction:
        """The first transaction, of which there must be one."""
        return (self._unread(1) if self._transactions is None else self._transactions)[0]

    def _unread(self, count: int) -> list[Transaction]:
        if self._tables is None:
            raise RuntimeError("a block without transactions or tables")
        return unread_transactions(self.raw, self._tables.places(count), self._tables.ids[: 64 * count].tobytes())

    @property
    def tables(self) -> BlockTables | None:
        """For compiled loops over the whole block; None where those are not loaded or not worth their call."""
        if self._tables is None and _compiled is not None and self.transaction_count >= _fewest:
            pos = HEADER_SIZE + len(write_compact_size(self.transaction_count))
            self._tables = _compiled.read_block(self.raw, pos, self.transaction_count)
        return self._tables

    @property
    def total_size(self) -> int:
        """Bytes with witnesses."""
        return len(self.raw)

    @property
    def base_size(self) -> int:
        """Bytes without witnesses."""
        if not self._base_size:
            if self._tables is not None:
                self._base_size = len(self.raw) - self._tables.witness_size()
            else:
                count = len(write_compact_size(len(self.transactions)))
                self._base_size = HEADER_SIZE + count + sum([tx.base_size for tx in self.transactions])
        return self._base_size

    @property
    def weight(self) -> int:
        """BIP141 weight units."""
        return self.base_size * (WITNESS_SCALE_FACTOR - 1) + len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.header.raw)

    def __repr__(self) -> str:
        return f"Block({self.hash[::-1].hex()}, {self.transaction_count} transactions)"


def block_merkle_root(block: Block) -> tuple[bytes, bool]:
    """(root over txids, mutated); see merkle_root."""
    if block.tables is not None:
        return block.tables.txid_root()
    return merkle_root([tx.txid for tx in block.transactions])


def witness_merkle_root(block: Block) -> bytes:
    """Root over wtxids with the coinbase's taken as zero (BIP141)."""
    if block.tables is not None:
        return block.tables.wtxid_root()
    return merkle_root([ZERO_HASH, *[tx.wtxid for tx in block.transactions[1:]]])[0]
