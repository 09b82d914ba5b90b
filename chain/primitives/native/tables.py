"""A block read in one compiled call that holds no GIL: where everything is in it, and all its ids."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, TABLE, compiled, copy
from chain.crypto.hash_native import HASHER, new_hasher, reduce_merkle, sha256d_into
from chain.primitives.native.layout import (
    COIN,
    COIN_SIZE,
    END,
    FIRST_INPUT,
    INPUT_COLUMNS,
    INPUTS,
    LOCKTIME,
    OUTPUTS,
    OUTPUTS_END,
    PREVOUT,
    TRANSACTION_COLUMNS,
    VERSION,
    read_transaction,
)
from chain.primitives.types import OutPoint

_MIN_INPUT, _MIN_TRANSACTION = 41, 60  #: bytes
WITNESS_MARK = 2  #: bytes of marker and flag
_SHARES = 8  #: of what is left of a block, one is the next part


class BlockTables:
    """Tables of a block's transactions and inputs (see `chain.primitives.native.layout`), for compiled loops only.

    `unproven` is what `chain.consensus.native.examine` has found, until Python has proven it.
    """

    __slots__ = ("data", "ids", "inputs", "transactions", "unproven")

    def __init__(self, data: Any, transactions: Any, inputs: Any, ids: Any) -> None:
        self.data = data  #: u8[]: the block, and behind it in tables `with_coins` those
        self.transactions = transactions  #: i64[transactions, TRANSACTION_COLUMNS]
        self.inputs = inputs  #: i64[inputs, INPUT_COLUMNS]
        self.ids = ids  #: u8[64 * transactions]: txid and wtxid of each
        self.unproven: list[int] | None = None  #: transactions that may break a rule that needs no context

    def with_coins(self, coins: Sequence[bytes]) -> BlockTables:
        """Tables that name `coins`, the packed coin of each input but the coinbase's. These here stay as they are."""
        data = np.frombuffer(bytearray().join((self.data, *coins)), np.uint8)
        inputs = self.inputs.copy()
        sizes = np.fromiter(map(len, coins), np.int64, len(coins))
        inputs[1:, COIN_SIZE] = sizes
        inputs[1:, COIN] = len(self.data) + np.cumsum(sizes) - sizes
        tables = BlockTables(data, self.transactions, inputs, self.ids)
        tables.unproven = self.unproven
        return tables

    def places(self, count: int) -> list[list[int]]:
        """For the first `count` transactions: where each begins, its outputs, what is behind them, its lock time; where
        it ends.
        """
        columns = (VERSION, OUTPUTS, OUTPUTS_END, LOCKTIME, END)
        found: list[list[int]] = self.transactions[:count, columns].tolist()
        return found

    def txids(self) -> list[bytes]:
        """Of all transactions."""
        ids = self.ids.tobytes()
        return [ids[at : at + 32] for at in range(0, len(ids), 64)]

    def txid_root(self) -> tuple[bytes, bool]:
        """(merkle root of the txids, mutated); see `chain.primitives.merkle.merkle_root`."""
        return self._root(0, 0)

    def wtxid_root(self) -> bytes:
        """Merkle root of the wtxids, that of the coinbase taken as zero (BIP141)."""
        return self._root(32, 1)[0]

    def _root(self, column: int, zeros: int) -> tuple[bytes, bool]:
        count = len(self.transactions)
        level = np.zeros((count + 1, 32), np.uint8)
        level[zeros:count] = self.ids.reshape(count, 64)[zeros:, column : column + 32]
        return reduce_merkle(level.reshape(-1), count)

    def witness_size(self) -> int:
        """Bytes of all witnesses, markers and flags included."""
        sizes = self.transactions[:, LOCKTIME] - self.transactions[:, OUTPUTS_END]
        return int(sizes.sum()) + WITNESS_MARK * int(np.count_nonzero(sizes))

    def outpoints(self, raw: bytes) -> list[OutPoint]:
        """Of each input but the coinbase's, which is the first. `raw` is the block."""
        return [raw[at : at + 36] for at in self.inputs[1:, PREVOUT].tolist()]  # type: ignore[misc]  # see pack_outputs

    def input_counts(self) -> list[int]:
        """How many inputs each transaction but the coinbase has."""
        found: list[int] = self.transactions[1:, INPUTS].tolist()
        return found

    def inputs_of(self, number: int) -> slice:
        """Which of the inputs, not counting the coinbase's, are those of a transaction."""
        first = int(self.transactions[number, FIRST_INPUT]) - 1
        return slice(first, first + int(self.transactions[number, INPUTS]))

    def ranges(self, most: int, fewest: int) -> list[tuple[int, int]]:
        """The transactions but the coinbase in parts, (first, last, excluded), of at most about `most` inputs, smaller
        towards the end down to about `fewest`: those who share them out are done at nearly the same time.
        """
        firsts = self.transactions[:, FIRST_INPUT].tolist()
        found = []
        start = 1
        while start < len(firsts):
            left = len(self.inputs) - firsts[start]
            size = max(fewest, min(most, left // _SHARES))
            end = bisect_left(firsts, firsts[start] + size, start + 1)
            found.append((start, end))
            start = end
        return found


@compiled(HASHER, BYTES, INT, TABLE, TABLE, BYTES, BYTES)
def _read_block(hasher: Any, data: Any, pos: Any, transactions: Any, inputs: Any, ids: Any, message: Any) -> Any:
    """Fill the tables from data[pos] on, and `ids` with txid and wtxid of each transaction; how many inputs there are.
    -1 if something is wrong. `message` is scratch of the size of `data`.
    """
    found = np.int64(0)
    for n in range(len(transactions)):
        row = transactions[n]
        pos = read_transaction(data, pos, len(data), inputs, found, row)
        if pos < 0:
            return -1
        found += row[INPUTS]
        start = row[VERSION]
        if row[OUTPUTS_END] == row[LOCKTIME]:
            sha256d_into(hasher, data, start, pos - start, ids, 64 * n)
            copy(ids, 64 * n, 32, ids, 64 * n + 32)
        else:
            size = copy(data, start, 4, message, 0)
            size = copy(data, start + 6, row[OUTPUTS_END] - start - 6, message, size)
            size = copy(data, row[LOCKTIME], 4, message, size)
            sha256d_into(hasher, message, 0, size, ids, 64 * n)
            sha256d_into(hasher, data, start, pos - start, ids, 64 * n + 32)
    return found


def read_block(raw: bytes, pos: int, count: int) -> BlockTables | None:
    """Tables of the `count` transactions that begin at raw[pos]; None if they are malformed, unusual, or not all of the
    rest.
    """
    if count > (len(raw) - pos) // _MIN_TRANSACTION + 1:
        return None
    data = np.frombuffer(bytearray(raw), np.uint8)  # compiled for one kind of memory, which can be written
    transactions = np.empty((count, TRANSACTION_COLUMNS), np.int64)
    inputs = np.empty(((len(raw) - pos) // _MIN_INPUT + 1, INPUT_COLUMNS), np.int64)
    ids, message = np.empty(64 * count, np.uint8), np.empty(len(raw), np.uint8)
    found = _read_block(new_hasher(), data, pos, transactions, inputs, ids, message)
    if found < 0 or transactions[-1, END] != len(raw):
        return None
    return BlockTables(data, transactions, inputs[:found].copy(), ids)
