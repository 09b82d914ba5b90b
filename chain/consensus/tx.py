"""Rules for a single transaction. These run for every transaction of every block: plain loops, nothing serialized or
hashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from chain.consensus.constants import (
    COINBASE_MATURITY,
    MAX_BASE_SIZE,
    MAX_COINBASE_SCRIPT_SIZE,
    MIN_COINBASE_SCRIPT_SIZE,
)
from chain.consensus.errors import ConsensusError, RejectReason
from chain.index import BlockIndexEntry
from chain.primitives.amount import MAX_MONEY, format_amount
from chain.primitives.transaction import (
    LOCKTIME_THRESHOLD,
    SEQUENCE_FINAL,
    SEQUENCE_LOCKTIME_DISABLE_FLAG,
    SEQUENCE_LOCKTIME_GRANULARITY,
    SEQUENCE_LOCKTIME_MASK,
    SEQUENCE_LOCKTIME_TYPE_FLAG,
    Transaction,
)
from chain.primitives.types import NULL_OUTPOINT

_coin_head = Struct("<QI").unpack_from  # of a packed coin: value, height << 1 | coinbase


def check_transaction(tx: Transaction) -> None:
    """What needs no context (Core's CheckTransaction). ConsensusError with an empty debug text."""
    prevouts = tx.prevouts
    values = tx.values
    if not prevouts:
        raise ConsensusError(RejectReason.BAD_TXNS_VIN_EMPTY)
    if not values:
        raise ConsensusError(RejectReason.BAD_TXNS_VOUT_EMPTY)
    if tx.base_size > MAX_BASE_SIZE:
        raise ConsensusError(RejectReason.BAD_TXNS_OVERSIZE)
    if min(values) < 0 or sum(values) > MAX_MONEY:
        _refuse_values(values)
    if len(prevouts) == 1:
        if (
            prevouts[0] == NULL_OUTPOINT
            and not MIN_COINBASE_SCRIPT_SIZE <= len(tx.script_sigs[0]) <= MAX_COINBASE_SCRIPT_SIZE
        ):
            raise ConsensusError(RejectReason.BAD_CB_LENGTH)
        return
    if len(set(prevouts)) != len(prevouts):  # CVE-2018-17144
        raise ConsensusError(RejectReason.BAD_TXNS_INPUTS_DUPLICATE)
    if NULL_OUTPOINT in prevouts:
        raise ConsensusError(RejectReason.BAD_TXNS_PREVOUT_NULL)


def _refuse_values(values: Sequence[int]) -> None:
    total = 0
    for value in values:
        if value < 0:
            raise ConsensusError(RejectReason.BAD_TXNS_VOUT_NEGATIVE)
        if value > MAX_MONEY:
            raise ConsensusError(RejectReason.BAD_TXNS_VOUT_TOOLARGE)
        total += value
        if total > MAX_MONEY:
            raise ConsensusError(RejectReason.BAD_TXNS_TXOUTTOTAL_TOOLARGE)


def is_final(tx: Transaction, height: int, time: int) -> bool:
    """Whether nLockTime lets the transaction into a block at `height` whose cut-off is `time` (median time past of the
    block before, BIP113).
    """
    locktime = tx.locktime
    if locktime == 0 or locktime < (height if locktime < LOCKTIME_THRESHOLD else time):
        return True
    return min(tx.sequences, default=SEQUENCE_FINAL) == SEQUENCE_FINAL


def missing_inputs() -> ConsensusError:
    """An input is not among the unspent coins."""
    return ConsensusError(RejectReason.BAD_TXNS_INPUTS_MISSINGORSPENT, "CheckTxInputs: inputs missing/spent")


def check_inputs(tx: Transaction, spent: Sequence[bytes], height: int) -> int:
    """The fee in satoshi of a transaction in a block at `height`; `spent` holds the packed coin of each input (Core's
    CheckTxInputs).

    `tx` has passed check_transaction. ConsensusError for an immature coinbase, amounts out of range, or more out than
    in.
    """
    value_in = 0
    for coin in spent:
        value, code = _coin_head(coin)
        if code & 1 and height - (code >> 1) < COINBASE_MATURITY:
            raise ConsensusError(
                RejectReason.BAD_TXNS_PREMATURE_SPEND_OF_COINBASE,
                f"tried to spend coinbase at depth {height - (code >> 1)}",
            )
        value_in += value
        if value_in > MAX_MONEY:  # so is any single value above it
            raise ConsensusError(RejectReason.BAD_TXNS_INPUTVALUES_OUTOFRANGE)
    value_out = sum(tx.values)
    if value_in < value_out:
        raise ConsensusError(
            RejectReason.BAD_TXNS_IN_BELOWOUT,
            f"value in ({_format_money(value_in)}) < value out ({_format_money(value_out)})",
        )
    return int(value_in - value_out)


def _format_money(value: int) -> str:
    """Core's FormatMoney: trailing zeros go, but two decimals stay."""
    text = format_amount(value)
    while text.endswith("0") and text[-3] != ".":
        text = text[:-1]
    return text


def sequence_locks(tx: Transaction, heights: Sequence[int], prev: BlockIndexEntry) -> tuple[int, int]:
    """The last height and the last median time past at which BIP68 keeps the transaction out; -1 for none (Core's
    CalculateSequenceLocks).

    `heights` are those of the coins spent, `prev` is the block before the one it would be in; a coin of that very block
    has height prev.height + 1.
    """
    min_height = min_time = -1
    if tx.version < 2:
        return min_height, min_time
    for sequence, coin_height in zip(tx.sequences, heights, strict=True):
        if sequence & SEQUENCE_LOCKTIME_DISABLE_FLAG:
            continue
        value = sequence & SEQUENCE_LOCKTIME_MASK
        if sequence & SEQUENCE_LOCKTIME_TYPE_FLAG:
            before = prev.ancestor(max(coin_height - 1, 0)) or prev
            min_time = max(min_time, before.median_time_past() + (value << SEQUENCE_LOCKTIME_GRANULARITY) - 1)
        else:
            min_height = max(min_height, coin_height + value - 1)
    return min_height, min_time


def locks_met(locks: tuple[int, int], prev: BlockIndexEntry) -> bool:
    """Whether a block after `prev` may hold a transaction with these sequence locks (Core's EvaluateSequenceLocks)."""
    return locks[0] < prev.height + 1 and locks[1] < prev.median_time_past()


def sequence_locks_met(tx: Transaction, spent: Sequence[bytes], prev: BlockIndexEntry) -> bool:
    """BIP68 for a transaction in a block after `prev`; `spent` holds the packed coin of each input."""
    if tx.version < 2 or min(tx.sequences) >= SEQUENCE_LOCKTIME_DISABLE_FLAG:
        return True
    return locks_met(sequence_locks(tx, [_coin_head(coin)[1] >> 1 for coin in spent], prev), prev)
