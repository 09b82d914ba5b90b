"""Rules for one transaction: every reject reason, its bounds on both sides, and which of two faults is reported."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from chain.consensus.errors import ConsensusError
from chain.consensus.tx import (
    check_inputs,
    check_transaction,
    is_final,
    locks_met,
    missing_inputs,
    sequence_locks,
    sequence_locks_met,
)
from chain.index import HeaderIndex
from chain.params import REGTEST
from chain.primitives.amount import COIN, MAX_MONEY
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, OutPoint, make_outpoint
from tests.support.blocks import add_header, add_headers

FINAL = 0xFFFFFFFF


def outpoint(n: int) -> OutPoint:
    return make_outpoint(n.to_bytes(32, "little"), n)


def tx(
    values: Sequence[int] = (1,),
    inputs: Sequence[TxIn] | None = None,
    *,
    locktime: int = 0,
    version: int = 2,
    script: bytes = b"\x51",
) -> Transaction:
    ins = [TxIn(outpoint(1), b"", FINAL)] if inputs is None else inputs
    return Transaction.build(version, ins, [TxOut(Amount(value), script) for value in values], locktime)


def reason(transaction: Transaction) -> str | None:
    """Why it is refused; None if it passes."""
    try:
        check_transaction(transaction)
    except ConsensusError as error:
        return str(error)
    return None


def test_a_plain_transaction_passes() -> None:
    assert reason(tx()) is None
    assert reason(tx([0, MAX_MONEY])) is None
    assert reason(tx([1], [TxIn(outpoint(1)), TxIn(outpoint(2))])) is None


def test_each_fault_has_cores_reason() -> None:
    assert reason(tx(inputs=[])) == "bad-txns-vin-empty"
    assert reason(tx([])) == "bad-txns-vout-empty"
    assert reason(tx(script=bytes(1_000_000))) == "bad-txns-oversize"
    assert reason(tx([-1])) == "bad-txns-vout-negative"
    assert reason(tx([MAX_MONEY + 1])) == "bad-txns-vout-toolarge"
    assert reason(tx([MAX_MONEY, 1])) == "bad-txns-txouttotal-toolarge"
    assert reason(tx(inputs=[TxIn(outpoint(1)), TxIn(outpoint(2)), TxIn(outpoint(1))])) == "bad-txns-inputs-duplicate"
    assert reason(tx(inputs=[TxIn(outpoint(1)), TxIn(NULL_OUTPOINT)])) == "bad-txns-prevout-null"


def test_values_fail_in_their_order() -> None:
    assert reason(tx([MAX_MONEY, 1, -1])) == "bad-txns-txouttotal-toolarge"
    assert reason(tx([-1, MAX_MONEY + 1])) == "bad-txns-vout-negative"
    assert reason(tx([MAX_MONEY + 1, -1])) == "bad-txns-vout-toolarge"
    assert reason(tx([MAX_MONEY, -MAX_MONEY])) == "bad-txns-vout-negative"  # a harmless sum hides nothing


def test_size_limit_is_on_the_bytes_without_witness() -> None:
    base = tx(script=b"").base_size
    exact = 1_000_000 - base - 4  # the script's length takes five bytes instead of one
    assert reason(tx(script=bytes(exact))) is None
    assert reason(tx(script=bytes(exact + 1))) == "bad-txns-oversize"
    assert reason(tx(inputs=[TxIn(outpoint(1), b"", FINAL, (bytes(1_100_000),))])) is None


@pytest.mark.parametrize("size", [2, 3, 99, 100])
def test_coinbase_script_sizes(size: int) -> None:
    assert reason(tx(inputs=[TxIn(NULL_OUTPOINT, bytes(size))])) is None


@pytest.mark.parametrize("size", [0, 1, 101, 5_000])
def test_coinbase_script_sizes_refused(size: int) -> None:
    assert reason(tx(inputs=[TxIn(NULL_OUTPOINT, bytes(size))])) == "bad-cb-length"


def test_a_null_hash_with_another_index_is_no_coinbase() -> None:
    assert reason(tx(inputs=[TxIn(make_outpoint(bytes(32), 0)), TxIn(make_outpoint(bytes(32), 1))])) is None


def test_finality() -> None:
    waiting = [TxIn(outpoint(1), b"", FINAL - 1)]
    assert is_final(tx(inputs=waiting), 0, 0)
    assert not is_final(tx(inputs=waiting, locktime=100), 100, 1 << 40)
    assert is_final(tx(inputs=waiting, locktime=100), 101, 0)
    assert not is_final(tx(inputs=waiting, locktime=499_999_999), 1000, 1 << 40)  # still a height
    assert not is_final(tx(inputs=waiting, locktime=500_000_000), 1 << 40, 500_000_000)
    assert is_final(tx(inputs=waiting, locktime=500_000_000), 0, 500_000_001)
    assert is_final(tx(inputs=[TxIn(outpoint(1), b"", FINAL)], locktime=FINAL), 0, 0)
    assert not is_final(tx(inputs=[TxIn(outpoint(1), b"", FINAL), *waiting], locktime=FINAL), 0, 0)


def coin(value: int, height: int = 1, coinbase: bool = False) -> bytes:
    return pack_coin(value, b"\x51", height, coinbase)


def inputs_error(transaction: Transaction, spent: list[bytes], height: int) -> str:
    with pytest.raises(ConsensusError) as caught:
        check_inputs(transaction, spent, height)
    return str(caught.value)


def test_fees() -> None:
    assert check_inputs(tx([3, 4]), [coin(7)], 200) == 0
    assert check_inputs(tx([3, 4], [TxIn(outpoint(1)), TxIn(outpoint(2))]), [coin(7), coin(5)], 200) == 5
    assert check_inputs(tx([0]), [coin(MAX_MONEY)], 200) == MAX_MONEY


def test_more_out_than_in() -> None:
    error = "bad-txns-in-belowout, value in (0.00000007) < value out (0.00000008)"
    assert inputs_error(tx([8]), [coin(7)], 200) == error
    error = "bad-txns-in-belowout, value in (50.00) < value out (50.10)"
    assert inputs_error(tx([5_010_000_000]), [coin(50 * COIN)], 200) == error
    error = "bad-txns-in-belowout, value in (0.00) < value out (0.105)"
    assert inputs_error(tx([10_500_000]), [coin(0)], 200) == error


def test_coinbase_maturity() -> None:
    assert check_inputs(tx([1]), [coin(1, 100, True)], 200) == 0
    expected = "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99"
    assert inputs_error(tx([1]), [coin(1, 100, True)], 199) == expected
    assert check_inputs(tx([1]), [coin(1, 100, False)], 100) == 0


def test_input_values_out_of_range() -> None:
    two = [TxIn(outpoint(1)), TxIn(outpoint(2))]
    assert inputs_error(tx([1], two), [coin(MAX_MONEY), coin(1)], 200) == "bad-txns-inputvalues-outofrange"
    assert inputs_error(tx([1]), [coin(MAX_MONEY + 1)], 200) == "bad-txns-inputvalues-outofrange"
    # the first input at fault decides
    assert inputs_error(tx([1], two), [coin(1, 199, True), coin(MAX_MONEY + 1)], 200).startswith("bad-txns-premature")
    assert inputs_error(tx([1], two), [coin(MAX_MONEY + 1), coin(1, 199, True)], 200).startswith("bad-txns-inputvalues")


def test_missing_inputs_text() -> None:
    assert str(missing_inputs()) == "bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent"


def test_relative_locks() -> None:
    index = HeaderIndex(replace(REGTEST, block_interval_s=600))
    prev = add_headers(index, index.genesis, 50)
    time_lock = 1 << 22

    def locked(sequence: int, version: int = 2) -> Transaction:
        return tx(inputs=[TxIn(outpoint(1), b"", sequence)], version=version)

    # ten blocks after the coin at height 41: first possible in block 51, which follows 50
    assert sequence_locks(locked(10), [41], prev) == (50, -1)
    assert sequence_locks_met(locked(10), [coin(1, 41)], prev)
    assert not sequence_locks_met(locked(11), [coin(1, 41)], prev)
    assert sequence_locks_met(locked(11, version=1), [coin(1, 41)], prev)
    assert not sequence_locks_met(locked(11, version=0xFFFFFFFF), [coin(1, 41)], prev)  # versions are unsigned
    assert sequence_locks_met(locked(1 << 31 | 11), [coin(1, 41)], prev)
    assert sequence_locks_met(locked(0), [coin(1, 51)], prev)  # a coin of the same block
    assert not sequence_locks_met(locked(1), [coin(1, 51)], prev)
    # bits above the low 16 and the type flag carry no meaning
    assert sequence_locks(locked(10 | 1 << 17), [41], prev) == (50, -1)
    # 512-second units from the median time past before the coin's block: 40 at height 35's time, 50 at 45's
    base = index.genesis.time + 600 * 35
    before = prev.ancestor(40)
    assert before is not None
    assert before.median_time_past() == base
    assert sequence_locks(locked(time_lock | 3), [41], prev) == (-1, base + 3 * 512 - 1)
    assert prev.median_time_past() == base + 6_000
    assert sequence_locks_met(locked(time_lock | 11), [coin(1, 41)], prev)
    assert not sequence_locks_met(locked(time_lock | 12), [coin(1, 41)], prev)
    assert sequence_locks(locked(time_lock | 1), [0], prev) == (-1, index.genesis.time + 511)
    assert locks_met((-1, -1), prev)
    assert not locks_met((51, -1), prev)
    assert locks_met((50, -1), prev)


def test_relative_locks_take_the_latest_of_all_inputs(rng: random.Random) -> None:
    index = HeaderIndex(REGTEST)
    prev = index.genesis
    for _ in range(60):
        prev = add_header(index, prev, time=prev.time + rng.randrange(1, 2_000))
    for _ in range(200):
        heights = [rng.randrange(0, 62) for _ in range(3)]
        sequences = [rng.choice([0, 1 << 22, 1 << 31]) | rng.randrange(30) for _ in heights]
        spend = tx(inputs=[TxIn(outpoint(n), b"", sequence) for n, sequence in enumerate(sequences)])
        height = time = -1
        for sequence, at in zip(sequences, heights, strict=True):
            if sequence >> 31:
                continue
            if sequence >> 22 & 1:
                before = prev.ancestor(max(at - 1, 0))
                assert before is not None
                time = max(time, before.median_time_past() + 512 * (sequence & 0xFFFF) - 1)
            else:
                height = max(height, at + (sequence & 0xFFFF) - 1)
        assert sequence_locks(spend, heights, prev) == (height, time)
        met = height < 61 and time < prev.median_time_past()
        assert sequence_locks_met(spend, [coin(1, at) for at in heights], prev) is met
