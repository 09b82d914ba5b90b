"""Coin selection: what must hold for any coins and any payment."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script.standard import ScriptType, nulldata, p2pkh, p2sh, p2tr, p2wpkh, p2wsh
from wallet.coin_selection import (
    INPUT_WEIGHTS,
    SELECTORS,
    Candidate,
    InsufficientFunds,
    Request,
    TooManyInputs,
    dust_threshold,
    fee_for_weight,
    select_coins,
    sweep,
    transaction_weight,
)
from wallet.coin_selection.selectors import Goal, Priced, branch_and_bound

CHANGE = p2wpkh(bytes(20))
KINDS = [ScriptType.WITNESS_V0_KEYHASH, ScriptType.WITNESS_V1_TAPROOT, ScriptType.PUBKEYHASH]


def candidate(number: int, value: int, kind: ScriptType = ScriptType.WITNESS_V0_KEYHASH) -> Candidate:
    return Candidate(number.to_bytes(36, "big"), value, INPUT_WEIGHTS[kind], kind is not ScriptType.PUBKEYHASH)


pools = st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from(KINDS)), min_size=1, max_size=40).map(
    lambda items: [candidate(i, value, kind) for i, (value, kind) in enumerate(items)]
)
outputs = st.lists(
    st.tuples(
        st.integers(546, 10**9),
        st.sampled_from([p2wpkh(bytes(20)), p2tr(bytes(32)), p2pkh(bytes(20)), p2sh(bytes(20))]),
    ),
    min_size=1,
    max_size=4,
).map(lambda items: tuple(TxOut(Amount(v), s) for v, s in items))


@given(pools, outputs, st.integers(100, 300_000), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_selection_is_exact(pool: list[Candidate], payments: tuple[TxOut, ...], rate: int, seed: int) -> None:
    request = Request(payments, rate, CHANGE)
    try:
        found = select_coins(pool, request, random.Random(seed))
    except InsufficientFunds:
        worth = sum(max(0, c.value - fee_for_weight(c.weight, rate)) for c in pool)
        assert worth < request.payment + fee_for_weight(
            transaction_weight([], [o.script_pubkey for o in payments]) + 400, rate
        )
        return
    assert len({c.outpoint for c in found.inputs}) == len(found.inputs)
    assert set(found.inputs) <= set(pool)
    assert found.total == request.payment + found.fee + (found.change or 0)
    scripts = [o.script_pubkey for o in payments] + ([CHANGE] if found.change is not None else [])
    needed = fee_for_weight(transaction_weight(found.inputs, scripts), rate)
    if found.change is None:
        assert needed <= found.fee <= needed + request.cost_of_change + request.dust_limit
    else:
        assert found.fee == needed
        assert found.change >= request.dust_limit


@pytest.mark.parametrize("name", list(SELECTORS))
@given(pool=pools, payments=outputs, rate=st.integers(100, 50_000), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_each_selector_pays_at_least_the_rate(
    name: str, pool: list[Candidate], payments: tuple[TxOut, ...], rate: int, seed: int
) -> None:
    try:
        found = select_coins(pool, Request(payments, rate, CHANGE), random.Random(seed), selectors=[name])
    except InsufficientFunds:
        return
    scripts = [o.script_pubkey for o in payments] + ([CHANGE] if found.change is not None else [])
    assert found.fee >= fee_for_weight(transaction_weight(found.inputs, scripts), rate)
    assert found.selector == name


@given(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.integers(1, 200), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_branch_and_bound_finds_an_exact_set_when_there_is_one(values: list[int], target: int, tolerance: int) -> None:
    pool = [Priced(candidate(i, v), v, 1) for i, v in enumerate(values)]
    found = branch_and_bound(pool, Goal(target, tolerance, 10**9), random.Random(0))
    sums = [
        (n + sum(c) - target)
        for n in range(1, len(values) + 1)
        for c in combinations(values, n)
        if target <= sum(c) <= target + tolerance
    ]
    if not sums:
        assert found is None
    else:
        assert found is not None
        total = sum(p.effective for p in found)
        assert target <= total <= target + tolerance
        assert len(found) + total - target == min(sums)  # the least waste


@given(pools, st.integers(100, 100_000))
@settings(max_examples=100, deadline=None)
def test_sweep_leaves_nothing_but_dust(pool: list[Candidate], rate: int) -> None:
    script = p2tr(bytes(32))
    try:
        found = sweep(pool, script, rate)
    except InsufficientFunds:
        return
    assert found.change is None
    assert found.fee == fee_for_weight(transaction_weight(found.inputs, [script]), rate)
    left = [c for c in pool if c not in found.inputs]
    assert all(c.value <= fee_for_weight(c.weight, rate) for c in left)


def test_coins_that_cost_more_than_they_bring_are_left_alone() -> None:
    pool = [candidate(0, 600), candidate(1, 100_000)]
    found = select_coins(pool, Request((TxOut(Amount(50_000), CHANGE),), 10_000, CHANGE), random.Random(0))
    assert found.inputs == (pool[1],)
    with pytest.raises(InsufficientFunds):
        sweep(pool[:1], CHANGE, 10_000)


def test_must_spend_is_always_there() -> None:
    must = (candidate(7, 10_000),)
    pool = [candidate(i, 100_000) for i in range(3)]
    found = select_coins(
        pool, Request((TxOut(Amount(50_000), CHANGE),), 2_000, CHANGE, must_spend=must), random.Random(0)
    )
    assert must[0] in found.inputs
    alone = select_coins([], Request((TxOut(Amount(5_000), CHANGE),), 2_000, CHANGE, must_spend=must), random.Random(0))
    assert alone.inputs == must


def test_three_hundred_inputs_still_pay_the_rate() -> None:
    pool = [candidate(i, 10_000) for i in range(300)]
    request = Request((TxOut(Amount(2_700_000), CHANGE),), 1_000, CHANGE)
    found = select_coins(pool, request, random.Random(0))
    assert len(found.inputs) > 253
    scripts = [CHANGE, CHANGE] if found.change is not None else [CHANGE]
    assert found.fee >= fee_for_weight(transaction_weight(found.inputs, scripts), 1_000)


def test_dust_limits_are_cores() -> None:
    assert dust_threshold(p2pkh(bytes(20))) == 546
    assert dust_threshold(p2sh(bytes(20))) == 540
    assert dust_threshold(p2wpkh(bytes(20))) == 294
    assert dust_threshold(p2wsh(bytes(32))) == 330
    assert dust_threshold(p2tr(bytes(32))) == 330
    assert dust_threshold(nulldata(b"x")) == 0


@pytest.mark.parametrize(
    ("kind", "script_sig", "witness"),
    [
        (ScriptType.WITNESS_V0_KEYHASH, b"", (bytes(71), bytes(33))),
        (ScriptType.WITNESS_V1_TAPROOT, b"", (bytes(64),)),
        (ScriptType.PUBKEYHASH, b"\x47" + bytes(71) + b"\x21" + bytes(33), ()),
        (ScriptType.SCRIPTHASH, b"\x16" + bytes(22), (bytes(71), bytes(33))),
    ],
)
def test_weights_are_those_of_real_transactions(
    kind: ScriptType, script_sig: bytes, witness: tuple[bytes, ...]
) -> None:
    for count in (1, 2, 252, 253):
        inputs = [TxIn(OutPoint(bytes(36)), script_sig, 0, witness)] * count
        tx = Transaction.build(2, inputs, [TxOut(Amount(1), CHANGE)] * 2)
        assert transaction_weight([candidate(0, 1, kind)] * count, [CHANGE] * 2) == tx.weight


def test_what_no_node_would_relay_is_not_built() -> None:
    small = [candidate(i, 20_000) for i in range(2_000)]
    with pytest.raises(TooManyInputs):
        sweep(small, CHANGE, 1_000)
    with pytest.raises(TooManyInputs):
        select_coins(small, Request((TxOut(Amount(35_000_000), CHANGE),), 1_000, CHANGE), random.Random(0))
    with_large = [*small, candidate(9_999, 50_000_000)]
    found = select_coins(with_large, Request((TxOut(Amount(35_000_000), CHANGE),), 1_000, CHANGE), random.Random(0))
    assert with_large[-1] in found.inputs
