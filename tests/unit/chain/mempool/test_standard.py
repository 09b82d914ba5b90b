"""Standardness: for each rule a transaction that breaks it and nothing else, and one just inside the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chain.crypto.hashes import hash160, sha256
from chain.mempool.errors import PolicyError, TxResult
from chain.mempool.policy import MempoolPolicy, check_standard, dust_threshold
from chain.mempool.pool import Mempool
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount
from chain.script.script import push_data
from chain.script.standard import multisig, nulldata, p2pkh, p2sh, p2tr, p2wpkh, p2wsh
from tests.support.refusals import refusal, why
from tests.support.regtest import OWNER, RegtestNode
from tests.support.signing import Lock, Unlocked, spend

KEY = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
ANYONE = Lock("anyone", b"\x51", lambda txdata, index, value: Unlocked())


def out(value: int, script: bytes) -> TxOut:
    return TxOut(Amount(value), script)


def pay(node: RegtestNode, outputs: Sequence[TxOut], **options: int) -> Transaction:
    return node.transfer(node.mature()[:1], 100_000, extra=outputs, **options)


def with_policy(node: RegtestNode, **changes: object) -> Mempool:
    return Mempool(node.chain, replace(MempoolPolicy(), **changes), node.now)  # type: ignore[arg-type]


def check_accepted(pool: Mempool, tx: Transaction, fee: int) -> None:
    """It gets in, and is there as what it is."""
    result = pool.accept(tx)
    assert (result.txid, result.fee, result.weight) == (tx.txid, fee, tx.weight)
    entry = pool.get(tx.txid)
    assert entry is not None
    assert (entry.tx.raw, entry.fee) == (tx.raw, fee)
    assert result.vsize == entry.vsize == (max(tx.weight, 20 * entry.sigop_cost) + 3) // 4


@pytest.mark.parametrize("version", [0, 4, 0xFFFFFFFF])
def test_version(node: RegtestNode, version: int) -> None:
    assert why(node.mempool, pay(node, [], version=version)) == "version"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_standard_versions(node: RegtestNode, version: int) -> None:
    assert node.mempool.accept(pay(node, [], version=version)).vsize == 110


def test_weight_at_and_over_the_limit(node: RegtestNode) -> None:
    empty = pay(node, [out(0, nulldata(b"x" * 80_000))])
    fitting = pay(node, [out(0, nulldata(b"x" * (80_000 + (400_000 - empty.weight) // 4)))])
    too_big = pay(node, [out(0, nulldata(b"x" * (80_001 + (400_000 - empty.weight) // 4)))])
    assert fitting.weight <= 400_000 < too_big.weight
    assert why(node.mempool, too_big) == "tx-size"
    check_accepted(node.mempool, fitting, 100_000)


def test_scriptsig_size(node: RegtestNode) -> None:
    tx = pay(node, [])
    stuffed = Transaction.build(2, [tx.inputs[0]._replace(script_sig=push_data(b"\0" * 1648))], tx.outputs, 0)
    assert len(stuffed.script_sigs[0]) == 1651
    assert why(node.mempool, stuffed) == "scriptsig-size"
    shorter = Transaction.build(2, [tx.inputs[0]._replace(script_sig=push_data(b"\0" * 1647))], tx.outputs, 0)
    assert "scriptsig" not in why(node.mempool, shorter)


def test_scriptsig_not_pushonly(node: RegtestNode) -> None:
    tx = pay(node, [])
    odd = Transaction.build(2, [tx.inputs[0]._replace(script_sig=b"\x61")], tx.outputs, 0)
    assert why(node.mempool, odd) == "scriptsig-not-pushonly"


@pytest.mark.parametrize(
    "script",
    [b"\x51", b"", b"\x76\x76", multisig(1, [KEY] * 4), b"\x6a\x61", b"\x6a\x05abc"],
    ids=["true", "empty", "dup dup", "1-of-4", "op_return nop", "op_return truncated"],
)
def test_scriptpubkey(node: RegtestNode, script: bytes) -> None:
    assert why(node.mempool, pay(node, [out(100_000, script)])) == "scriptpubkey"


@pytest.mark.parametrize(
    "script",
    [
        p2pkh(hash160(KEY)),
        p2sh(hash160(KEY)),
        p2wpkh(hash160(KEY)),
        p2wsh(sha256(KEY)),
        p2tr(KEY[1:]),
        push_data(KEY) + b"\xac",
        multisig(1, [KEY]),
        multisig(3, [KEY] * 3),
        nulldata(b"data"),
        b"\x6a",
        b"\x51\x02\x4e\x73",
        b"\x52\x20" + KEY[1:],
    ],
    ids=lambda script: script.hex()[:12],
)
def test_standard_scripts(node: RegtestNode, script: bytes) -> None:
    check_accepted(node.mempool, pay(node, [out(100_000, script)]), 100_000)


def test_bare_multisig_can_be_switched_off(node: RegtestNode) -> None:
    tx = pay(node, [out(100_000, multisig(1, [KEY]))])
    assert why(with_policy(node, permit_bare_multisig=False), tx) == "bare-multisig"
    check_accepted(node.mempool, tx, 100_000)


def test_datacarrier_limit_is_shared_by_all_outputs(node: RegtestNode) -> None:
    pool = with_policy(node, max_datacarrier_bytes=83)
    assert why(pool, pay(node, [out(0, nulldata(b"x" * 81))])) == "datacarrier"
    assert why(pool, pay(node, [out(0, nulldata(b"x" * 40)), out(0, nulldata(b"x" * 40))])) == "datacarrier"
    check_accepted(pool, pay(node, [out(0, nulldata(b"x" * 40)), out(0, nulldata(b"x" * 39))]), 100_000)


def test_datacarrier_can_be_switched_off(node: RegtestNode) -> None:
    assert why(with_policy(node, max_datacarrier_bytes=None), pay(node, [out(0, b"\x6a")])) == "datacarrier"


@pytest.mark.parametrize(
    ("script", "threshold"),
    [
        (p2pkh(bytes(20)), 546),
        (p2sh(bytes(20)), 540),
        (p2wpkh(bytes(20)), 294),
        (p2wsh(bytes(32)), 330),
        (p2tr(bytes(32)), 330),
        (b"\x51\x02\x4e\x73", 240),
        (nulldata(b""), 0),
        (push_data(KEY) + b"\xac", 576),
    ],
)
def test_dust_thresholds(script: bytes, threshold: int) -> None:
    # Core's tests and documentation name these values for 3000 sat/kvB.
    assert dust_threshold(script, 3000) == threshold


def test_two_dust_outputs_are_nonstandard(node: RegtestNode) -> None:
    script = p2wpkh(bytes(20))
    assert why(node.mempool, pay(node, [out(293, script)] * 2)) == "dust"
    check_accepted(node.mempool, pay(node, [out(294, script)] * 2), 100_000)


def test_one_dust_output_must_pay_no_fee(node: RegtestNode) -> None:
    tx = pay(node, [out(293, p2wpkh(bytes(20)))])
    assert why(node.mempool, tx) == "dust, tx with dust output must be 0-fee"


def test_dust_without_fee_is_judged_by_its_fee(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 0, extra=[out(1, p2wpkh(bytes(20)))])
    assert why(node.mempool, tx).startswith("min relay fee not met")
    node.mempool.prioritise(tx.txid, 1_000)
    assert why(node.mempool, tx) == "dust, tx with dust output must be 0-fee"


def test_tx_size_small(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, ANYONE.script)])
    node.mine_transactions([fund])
    coin = node.output(fund, 0, ANYONE)
    small = spend([coin], [out(90_000, b"\x6a" + b"\x03abc")])
    assert small.base_size == 64 + 1
    tiny = spend([coin], [out(90_000, b"\x6a" + b"\x02ab")])
    assert tiny.base_size == 64
    pool = with_policy(node, require_standard=False)
    assert why(pool, tiny) == "tx-size-small"
    check_accepted(pool, small, 10_000)


def test_nothing_but_size_is_asked_without_standardness(node: RegtestNode) -> None:
    pool = with_policy(node, require_standard=False)
    check_accepted(pool, pay(node, [out(1, b"\x76"), out(0, nulldata(b"x" * 100_500))], version=77), 100_000)


def test_spending_an_unknown_script(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, b"\x51")])
    node.mine_transactions([fund])
    tx = spend([node.output(fund, 0, ANYONE)], [out(90_000, OWNER.script)])
    error = refusal(node.mempool, tx)
    assert str(error) == "bad-txns-nonstandard-inputs, input 0 script unknown"
    assert isinstance(error, PolicyError)
    assert error.result is TxResult.INPUTS_NOT_STANDARD


def test_spending_an_undefined_witness_program(node: RegtestNode) -> None:
    script = b"\x52\x20" + bytes(32)
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, script)])
    node.mine_transactions([fund])
    tx = spend([node.output(fund, 0, replace(ANYONE, script=script))], [out(90_000, OWNER.script)])
    assert why(node.mempool, tx) == "bad-txns-nonstandard-inputs, input 0 witness program is undefined"


def p2sh_lock(redeem_script: bytes, *values: bytes) -> Lock:
    script_sig = b"".join(map(push_data, values)) + push_data(redeem_script)
    return Lock("p2sh", p2sh(hash160(redeem_script)), lambda txdata, index, value: Unlocked(script_sig))


def test_p2sh_sigops(node: RegtestNode) -> None:
    for sigops, expected in (
        (16, "bad-txns-nonstandard-inputs, p2sh redeemscript sigops exceed limit (input 0: 16 > 15)"),
        (15, None),
    ):
        lock = p2sh_lock(b"\x00\x63" + b"\xac" * sigops + b"\x68\x51")
        fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, lock.script)])
        node.mine_transactions([fund])
        tx = spend([node.output(fund, 0, lock)], [out(90_000, OWNER.script)])
        if expected:
            assert why(node.mempool, tx) == expected
        else:
            check_accepted(node.mempool, tx, 10_000)


@pytest.mark.parametrize(
    ("script_sig", "debug"),
    [
        (b"", "input 0 P2SH redeemscript missing"),
        (push_data(b"x" * 521), "p2sh scriptsig malformed (input 0: Push value size limit exceeded)"),
        (b"\x50", "p2sh scriptsig malformed (input 0: Opcode missing or not understood)"),
    ],
)
def test_malformed_p2sh_spend(node: RegtestNode, script_sig: bytes, debug: str) -> None:
    lock = Lock("p2sh", p2sh(bytes(20)), lambda txdata, index, value: Unlocked(script_sig))
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, lock.script)])
    node.mine_transactions([fund])
    tx = spend([node.output(fund, 0, lock)], [out(90_000, OWNER.script)])
    assert why(node.mempool, tx) == f"bad-txns-nonstandard-inputs, {debug}"


def test_legacy_sigops_of_bip54(node: RegtestNode) -> None:
    redeem_script = b"\x00\x63" + b"\x5f\xae" + b"\x68\x51"  # one CHECKMULTISIG of 15 keys, in a branch not taken
    lock = p2sh_lock(redeem_script)
    count = 2500 // 15 + 1
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(1_000, lock.script)] * count)
    node.mine_transactions([fund])
    coins = [node.output(fund, n, lock) for n in range(count)]
    tx = spend(coins, [out(100_000, OWNER.script)])
    assert why(node.mempool, tx) == "bad-txns-nonstandard-inputs, non-witness sigops exceed bip54 limit"
    node.mempool.accept(spend(coins[1:], [out(100_000, OWNER.script)]))


def witness_lock(script: bytes, *witness: bytes, script_sig: bytes = b"") -> Lock:
    return Lock("witness", script, lambda txdata, index, value: Unlocked(script_sig, witness))


def long_script(size: int) -> bytes:
    """Takes one value off the stack and succeeds; few operations, so that its size alone can be at fault."""
    script = (push_data(b"x" * 520) + b"\x75") * 6
    return script + push_data(b"x" * (size - len(script) - 6)) + b"\x75\x75\x51"


def p2wsh_lock(script: bytes, *values: bytes) -> Lock:
    return witness_lock(p2wsh(sha256(script)), *values, script)


@pytest.mark.parametrize(
    "lock",
    [
        witness_lock(b"\x51\x02\x4e\x73", b"x"),
        witness_lock(p2pkh(bytes(20)), b"x"),
        p2wsh_lock(long_script(3601), b"x"),
        p2wsh_lock(b"\x6d" * 50 + b"\x75" + b"\x51", *[b""] * 101),
        p2wsh_lock(b"\x75\x51", b"x" * 81),
        witness_lock(p2tr(KEY[1:]), b"s" * 64, b"\x50"),
        witness_lock(p2tr(KEY[1:]), b"x" * 81, b"\x75\x51", b"\xc0" + KEY[1:]),
        witness_lock(p2sh(bytes(20)), b"x", script_sig=push_data(b"\x51")),
        witness_lock(p2sh(bytes(20)), b"x"),
    ],
    ids=["anchor", "p2pkh", "script", "items", "item", "annex", "tapscript item", "p2sh", "p2sh empty"],
)
def test_nonstandard_witness(node: RegtestNode, lock: Lock) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, lock.script)])
    node.mine_transactions([fund])
    tx = spend([node.output(fund, 0, lock)], [out(90_000, OWNER.script)])
    if lock.script == p2sh(bytes(20)) and not tx.script_sigs[0]:
        assert why(node.mempool, tx).startswith("bad-txns-nonstandard-inputs")
        return
    error = refusal(node.mempool, tx)
    assert str(error) == "bad-witness-nonstandard"
    assert isinstance(error, PolicyError)
    assert error.result is TxResult.WITNESS_MUTATED


@pytest.mark.parametrize(
    "lock",
    [
        p2wsh_lock(long_script(3600), b"x"),
        p2wsh_lock(b"\x6d" * 50 + b"\x51", *[b""] * 100),
        p2wsh_lock(b"\x75\x51", b"x" * 80),
    ],
    ids=["script", "items", "item"],
)
def test_standard_witness_at_the_limits(node: RegtestNode, lock: Lock) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(100_000, lock.script)])
    node.mine_transactions([fund])
    check_accepted(node.mempool, spend([node.output(fund, 0, lock)], [out(90_000, OWNER.script)]), 10_000)


def test_too_many_sigops(node: RegtestNode) -> None:
    """16,000 units of sigop cost: 200 P2WSH inputs of 80 operations each are the most that is standard."""
    script = b"\x00\x63" + b"\xae" * 5 + b"\x68\x51"  # counts 100, 20 for each CHECKMULTISIG without a number before it
    lock = p2wsh_lock(script)
    fund = node.transfer(node.mature()[:1], 100_000, extra=[out(10_000, lock.script)] * 161)
    node.mine_transactions([fund])
    coins = [node.output(fund, n, lock) for n in range(161)]
    assert why(node.mempool, spend(coins, [out(100_000, OWNER.script)])) == "bad-txns-too-many-sigops, 16100"
    result = node.mempool.accept(spend(coins[:160], [out(100_000, OWNER.script)]))
    assert result.vsize == 16_000 * 20 // 4


def test_missing_witness_is_told_apart(node: RegtestNode) -> None:
    tx = pay(node, [])
    stripped = Transaction.build(2, [tx.inputs[0]._replace(witness=())], tx.outputs, 0)
    error = refusal(node.mempool, stripped)
    assert isinstance(error, PolicyError)
    assert error.reason == "mempool-script-verify-flag-failed (Witness program hash mismatch)"
    assert error.result is TxResult.WITNESS_STRIPPED


def test_form_is_checked_without_coins() -> None:
    def form(version: int, value: int) -> str | None:
        inputs = [TxIn(b"\1" * 36)]  # type: ignore[arg-type]
        try:
            check_standard(Transaction.build(version, inputs, [out(value, OWNER.script)] * 2, 0), MempoolPolicy())
        except PolicyError as error:
            return error.reason
        return None

    assert [form(2, 1000), form(4, 1000), form(2, 1)] == [None, "version", "dust"]
