"""A block's transactions found to keep the rules, in compiled calls that hold no GIL.

These are rules written a second time, for speed: `chain.consensus.tx`, `chain.consensus.block` and
`chain.script.script` have them in full. What is found right here needs no second look; what is not is left to those,
which alone ever say that a rule is broken, and which. `tests/property/test_native_rules.py` holds the two against each
other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chain.consensus.constants import (
    BIP54_MAX_TX_SIGOPS,
    COINBASE_MATURITY,
    MAX_BASE_SIZE,
    MAX_BLOCK_SIGOPS_COST,
    MAX_COINBASE_SCRIPT_SIZE,
    MIN_COINBASE_SCRIPT_SIZE,
)
from chain.crypto.compiled import BYTES, INT, INTS, TABLE, compiled, inner
from chain.primitives.amount import MAX_MONEY
from chain.primitives.native.layout import (
    COIN,
    FIRST_INPUT,
    INPUTS,
    LOCKTIME,
    OUTPUT_NUMBER,
    OUTPUTS,
    OUTPUTS_END,
    PREVOUT,
    SCRIPT_SIZE,
    SEQUENCE,
    SIGOPS,
    VALUE_OUT,
    VERSION,
    equal,
    read_compact_size,
    read_number,
)
from chain.primitives.native.tables import WITNESS_MARK, BlockTables
from chain.primitives.transaction import LOCKTIME_THRESHOLD, SEQUENCE_FINAL, WITNESS_SCALE_FACTOR
from chain.script.flags import ScriptFlags
from chain.script.native.sigops import input_legacy_sigops, input_sigop_cost, legacy_sigops

_MANY_INPUTS = 200  #: above, comparing each with each takes longer than a set of Python


@inner(BYTES, INT)
def _is_null(data: Any, at: Any) -> Any:
    """Whether the 36 bytes are the outpoint of a coinbase."""
    null = True
    for i in range(36):
        null = null and data[at + i] == (0 if i < 32 else 0xFF)
    return null


@inner(INTS)
def _base_size(row: Any) -> Any:
    size = row[OUTPUTS_END] - row[VERSION] + 4
    return size if row[OUTPUTS_END] == row[LOCKTIME] else size - WITNESS_MARK


@inner(BYTES, INTS, TABLE)
def _inputs_are_right(data: Any, row: Any, inputs: Any) -> Any:
    """No outpoint is spent twice, none is null but a coinbase's one, and that has a script of a fitting size."""
    first, count = row[FIRST_INPUT], row[INPUTS]
    if count == 1:
        size = inputs[first, SCRIPT_SIZE]
        return not _is_null(data, inputs[first, PREVOUT]) or (
            size >= MIN_COINBASE_SCRIPT_SIZE and size <= MAX_COINBASE_SCRIPT_SIZE
        )
    if count > _MANY_INPUTS:
        return False
    for n in range(first, first + count):
        at = inputs[n, PREVOUT]
        if _is_null(data, at):
            return False
        for other in range(first, n):
            place = inputs[other, PREVOUT]
            if data[place] == data[at] and data[place + 32] == data[at + 32] and equal(data, place, data, at, 36):
                return False
    return True


@inner(BYTES, INTS)
def _total_out(data: Any, row: Any) -> Any:
    """Satoshi of all outputs; -1 if one of them or a sum is out of range."""
    total = np.int64(0)
    pos: Any = row[OUTPUTS]
    for _ in range(row[OUTPUT_NUMBER]):
        value = read_number(data, pos, 8)
        total += value
        if value < 0 or value > MAX_MONEY or total > MAX_MONEY:
            return -1
        size, pos = read_compact_size(data, pos + 8)
        pos += size
    return total


@compiled(BYTES, TABLE, TABLE, INTS)
def _examine(data: Any, transactions: Any, inputs: Any, unproven: Any) -> Any:
    """Fills in VALUE_OUT and SIGOPS. The transactions that may break a rule go to `unproven`; returns their number."""
    found = 0
    for number in range(len(transactions)):
        row = transactions[number]
        row[SIGOPS] = legacy_sigops(data, row, inputs)
        row[VALUE_OUT] = _total_out(data, row)
        if (
            row[VALUE_OUT] < 0
            or row[OUTPUT_NUMBER] == 0
            or _base_size(row) > MAX_BASE_SIZE
            or not _inputs_are_right(data, row, inputs)
            or (number > 0 and _is_null(data, inputs[row[FIRST_INPUT], PREVOUT]))
        ):
            unproven[found] = number
            found += 1
    return found


def examine(tables: BlockTables) -> list[int]:
    """The transactions, by number, that may break a rule of `check_transaction`, or be a coinbase in a wrong place."""
    if tables.unproven is None:
        unproven = np.empty(len(tables.transactions), np.int64)
        found = _examine(tables.data, tables.transactions, tables.inputs, unproven)
        tables.unproven = unproven[:found].tolist()
    return tables.unproven


def total_legacy_sigops(tables: BlockTables) -> int:
    """Of all transactions, after `examine`; see `legacy_sigop_count`."""
    return int(tables.transactions[:, SIGOPS].sum())


@compiled(BYTES, TABLE, TABLE, INT, INT)
def _all_final(data: Any, transactions: Any, inputs: Any, height: Any, time: Any) -> Any:
    for number in range(len(transactions)):
        row = transactions[number]
        locktime = read_number(data, row[LOCKTIME], 4)
        if locktime == 0 or locktime < (height if locktime < LOCKTIME_THRESHOLD else time):
            continue
        for n in range(row[FIRST_INPUT], row[FIRST_INPUT] + row[INPUTS]):
            if read_number(data, inputs[n, SEQUENCE], 4) != SEQUENCE_FINAL:
                return False
    return True


def all_final(tables: BlockTables, height: int, time: int) -> bool:
    """Whether `is_final` holds for every transaction."""
    return bool(_all_final(tables.data, tables.transactions, tables.inputs, height, time))


class Spending(NamedTuple):
    """What a block's transactions spend, found right but for what is named."""

    fees: int  #: satoshi
    sigop_cost: int  #: of all but the coinbase
    unproven: list[int]  #: transactions with relative lock times to be met, or more operations than BIP54 may allow


@compiled(BYTES, TABLE, TABLE, INT, INT, INT, INTS, INTS)
def _check_spending(
    data: Any, transactions: Any, inputs: Any, height: Any, flags: Any, bip54: Any, totals: Any, unproven: Any
) -> Any:
    """Fees and cost go to `totals`; returns the number of unproven transactions, -1 if a rule may be broken."""
    found = 0
    fees, cost = np.int64(0), np.int64(0)
    for number in range(1, len(transactions)):
        row = transactions[number]
        relative = read_number(data, row[VERSION], 4) >= 2
        locked = False
        value_in, run_sigops = np.int64(0), np.int64(0)
        cost += WITNESS_SCALE_FACTOR * row[SIGOPS]
        for n in range(row[FIRST_INPUT], row[FIRST_INPUT] + row[INPUTS]):
            value = read_number(data, inputs[n, COIN], 8)
            code = read_number(data, inputs[n, COIN] + 8, 4)
            if code & 1 and height - (code >> 1) < COINBASE_MATURITY:
                return -1
            value_in += value
            if value < 0 or value > MAX_MONEY or value_in > MAX_MONEY:
                return -1
            locked = locked or not data[inputs[n, SEQUENCE] + 3] & 0x80  # SEQUENCE_LOCKTIME_DISABLE_FLAG, bit 31
            cost += input_sigop_cost(data, inputs[n], flags)
            if bip54:
                run_sigops += input_legacy_sigops(data, inputs[n])
        fees += value_in - row[VALUE_OUT]
        if value_in < row[VALUE_OUT] or fees > MAX_MONEY or cost > MAX_BLOCK_SIGOPS_COST:
            return -1
        if (relative and locked) or run_sigops > BIP54_MAX_TX_SIGOPS:
            unproven[found] = number
            found += 1
    totals[0], totals[1] = fees, cost
    return found


def check_spending(tables: BlockTables, height: int, flags: ScriptFlags, *, bip54: bool) -> Spending | None:
    """Whether the transactions of a block at `height` may spend the coins that its tables name; None if perhaps not.

    Looked at are the amounts, the maturity of coinbases and the signature operations, not whether the coins exist.
    """
    if examine(tables):
        return None
    totals, unproven = np.zeros(2, np.int64), np.empty(len(tables.transactions), np.int64)
    found = _check_spending(
        tables.data, tables.transactions, tables.inputs, height, int(flags), int(bip54), totals, unproven
    )
    if found < 0:
        return None
    return Spending(int(totals[0]), int(totals[1]), unproven[:found].tolist())
