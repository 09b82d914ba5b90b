"""Acceptance: known transactions, missing and spent coins, finality, maturity, fees and scripts, each with Core's
words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chain.consensus.errors import ConsensusError
from chain.mempool.accept import Options, accept_single
from chain.mempool.entries import RemovalReason
from chain.mempool.errors import MissingInputs, PolicyError, TxResult
from chain.mempool.policy import MempoolPolicy
from chain.mempool.pool import Mempool
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, OutPoint, hash_to_hex
from chain.script.flags import STANDARD_FLAGS
from tests.support.refusals import refusal, why
from tests.support.regtest import OWNER, RegtestNode
from tests.support.signing import KINDS, Spendable, p2wpkh, p2wsh_multisig, spend


def out(value: int, script: bytes = OWNER.script) -> TxOut:
    return TxOut(Amount(value), script)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_usual_kind_of_output_is_accepted_spent_and_mined(node: RegtestNode, kind: str) -> None:
    lock = KINDS[kind](b"someone")
    fund = node.transfer(node.mature()[:1], 1_000, outputs=2, lock=lock)
    funded = node.mempool.accept(fund)
    assert (funded.fee, funded.vsize, funded.weight) == (1_000, fund.vsize, fund.weight)
    claim = spend([node.output(fund, 0, lock), node.output(fund, 1, lock)], [out(1_000_000)])
    claimed = node.mempool.accept(claim)
    assert claimed.fee == sum(fund.values) - 1_000_000
    assert node.mempool.ancestors(node.mempool.entries[claim.txid]) == {node.mempool.entries[fund.txid]}
    block = node.mine()[0]
    assert [tx.txid for tx in block.transactions[1:]] == [fund.txid, claim.txid]
    assert not node.mempool.entries


def test_test_accept_changes_nothing(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    before = node.mempool.info()
    result = node.mempool.accept(tx, test_only=True)
    assert (result.added, result.fee) == (None, 1_000)
    assert node.mempool.info() == before


def test_same_transaction_twice(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    node.mempool.accept(tx)
    error = refusal(node.mempool, tx)
    assert str(error) == "txn-already-in-mempool"
    assert error.result is TxResult.CONFLICT


def test_same_transaction_with_another_witness(node: RegtestNode) -> None:
    lock = p2wsh_multisig(b"two", 1, 2)
    fund = node.transfer(node.mature()[:1], 1_000, lock=lock)
    node.mine_transactions([fund])
    tx = spend([node.output(fund, 0, lock)], [out(1_000_000)])
    node.mempool.accept(tx)
    other = Transaction.build(2, [tx.inputs[0]._replace(witness=(b"", *tx.witnesses[0]))], tx.outputs, 0)
    assert (other.txid, other.wtxid != tx.wtxid) == (tx.txid, True)
    assert why(node.mempool, other) == "txn-same-nonwitness-data-in-mempool"


def test_confirmed_transaction_is_known(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    node.mine_transactions([tx])
    assert why(node.mempool, tx) == "txn-already-known"


def test_missing_inputs_are_listed(node: RegtestNode) -> None:
    coin = node.mature()[0]
    unknown = Spendable(OutPoint(b"\7" * 36), pack_coin(1_000_000, OWNER.script, 1, False), OWNER)
    tx = node.transfer([coin, unknown], 1_000)
    error = refusal(node.mempool, tx)
    assert isinstance(error, MissingInputs)
    assert str(error) == "bad-txns-inputs-missingorspent"
    assert error.missing == [unknown.outpoint]


def test_output_index_beyond_a_mempool_transaction_is_missing(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    node.mempool.accept(tx)
    beyond = replace(node.output(tx), outpoint=tx.outpoint(7))
    assert isinstance(refusal(node.mempool, node.transfer([beyond], 1_000)), MissingInputs)


def test_coin_spent_by_a_block_is_missing(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    node.mine_transactions([node.transfer(coins, 1_000)])
    assert isinstance(refusal(node.mempool, node.transfer(coins, 2_000)), MissingInputs)


def test_coinbase_is_refused(node: RegtestNode) -> None:
    tx = Transaction.build(2, [TxIn(NULL_OUTPOINT, b"\1\2\3")], [out(1)], 0)
    error = refusal(node.mempool, tx)
    assert isinstance(error, ConsensusError)
    assert str(error) == "coinbase"


def test_consensus_failures_are_consensus_errors(node: RegtestNode) -> None:
    coin = node.mature()[0]
    doubled = spend([coin, coin], [out(1_000)])
    assert why(node.mempool, doubled) == "bad-txns-inputs-duplicate"
    negative = Transaction.build(2, [TxIn(coin.outpoint)], [out(-1)], 0)
    assert why(node.mempool, negative) == "bad-txns-vout-negative"
    empty = Transaction.build(2, [TxIn(coin.outpoint)], [], 0)
    assert why(node.mempool, empty) == "bad-txns-vout-empty"
    inflating = node.transfer([coin], -1)
    error = refusal(node.mempool, inflating)
    assert isinstance(error, ConsensusError)
    assert str(error) == "bad-txns-in-belowout, value in (50.00) < value out (50.00000001)"


def test_immature_coinbase(node: RegtestNode) -> None:
    height = node.chain.tip.height + 1
    young = next(coin for coin in node.coinbases if height - (int.from_bytes(coin.coin[8:12], "little") >> 1) == 99)
    assert why(node.mempool, node.transfer([young], 1_000)) == (
        "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99"
    )
    node.mine(empty=True)
    node.mempool.accept(node.transfer([young], 1_000))


@pytest.mark.parametrize("by_time", [False, True], ids=["height", "time"])
def test_locktime(node: RegtestNode, by_time: bool) -> None:
    tip = node.chain.tip
    last_final = tip.median_time_past() - 1 if by_time else tip.height
    coins = node.mature()[:1]
    early = node.transfer(coins, 1_000, locktime=last_final + 1, sequence=0xFFFFFFFE)
    error = refusal(node.mempool, early)
    assert str(error) == "non-final"
    assert error.result is TxResult.PREMATURE_SPEND
    node.mempool.accept(node.transfer(coins, 1_000, locktime=last_final + 1))
    node.mempool.accept(node.transfer(coins, 5_000, locktime=last_final, sequence=0xFFFFFFFE))


def test_relative_lock_by_height(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 1_000)
    node.mine_transactions([fund])
    coin = replace(node.output(fund), coin=pack_coin(fund.values[0], OWNER.script, node.chain.tip.height, False))
    assert why(node.mempool, node.transfer([coin], 1_000, sequence=2)) == "non-BIP68-final"
    node.mempool.accept(node.transfer([coin], 1_000, sequence=1))


def test_relative_lock_on_unconfirmed_coin(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 1_000)
    node.mempool.accept(fund)
    assert why(node.mempool, node.transfer([node.output(fund)], 1_000, sequence=1)) == "non-BIP68-final"
    node.mempool.accept(node.transfer([node.output(fund)], 1_000, sequence=0))


def test_relative_lock_by_time(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 1_000)
    node.mine_transactions([fund])
    tx = node.transfer([node.output(fund)], 1_000, sequence=(1 << 22) | 1)  # 512 seconds
    assert why(node.mempool, tx) == "non-BIP68-final"
    node.mine(11, empty=True, interval_s=60)
    node.mempool.accept(tx)


def test_min_relay_fee_is_exact_and_rounded_up(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    tx = node.transfer(coins, 10)
    assert tx.vsize == 110  # at 100 sat/kvB: 11 satoshi
    error = refusal(node.mempool, tx)
    assert str(error) == "min relay fee not met, 10 < 11"
    assert isinstance(error, PolicyError)
    assert (error.result, error.modified_fee, error.vsize) == (TxResult.RECONSIDERABLE, 10, 110)
    node.mempool.accept(node.transfer(coins, 11))


def test_priority_delta_counts_as_fee(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 0)
    assert why(node.mempool, tx) == "min relay fee not met, 0 < 11"
    node.mempool.prioritise(tx.txid, 11)
    result = node.mempool.accept(tx)
    assert (result.fee, result.modified_fee) == (0, 11)
    node.mempool.prioritise(tx.txid, -11)
    assert node.mempool.deltas == {}
    assert node.mempool.entries[tx.txid].modified_fee == 0


def test_max_fee_rate(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 110_001)
    with pytest.raises(PolicyError, match=r"^max feerate exceeded$"):
        node.mempool.accept(tx, max_fee_rate_sat_per_kvb=1_000_000)
    assert not node.mempool.entries
    modest = node.transfer(node.mature()[:1], 110_000)
    node.mempool.prioritise(modest.txid, 1_000_000)  # counts for much more than it pays
    node.mempool.accept(modest, max_fee_rate_sat_per_kvb=1_000_000)


def test_wrong_signature(node: RegtestNode) -> None:
    coin = node.mature()[0]
    tx = node.transfer([replace(coin, lock=p2wpkh(b"thief"))], 1_000)
    good = node.transfer([coin], 2_000)
    forged = Transaction.build(2, [tx.inputs[0]._replace(witness=good.witnesses[0])], tx.outputs, 0)
    where = (
        f"input 0 of {hash_to_hex(forged.txid)} (wtxid {hash_to_hex(forged.wtxid)}), "
        f"spending {hash_to_hex(coin.outpoint[:32])}:0"
    )
    # A wrong but well-formed signature breaks NULLFAIL, which is policy alone.
    assert why(node.mempool, forged) == (
        "mempool-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation), " + where
    )


def test_passed_scripts_are_remembered_for_blocks(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    cache = node.chain.script_cache
    assert not cache.contains(tx.wtxid, int(STANDARD_FLAGS))
    node.mempool.accept(tx)
    assert cache.contains(tx.wtxid, int(STANDARD_FLAGS))
    assert cache.contains(tx.wtxid, node.mempool.next_block_flags())


def test_entry_remembers_how_it_came(node: RegtestNode) -> None:
    node.time += 5
    tx = node.transfer(node.mature()[:1], 1_000)
    node.mempool.accept(tx)
    entry = node.mempool.entries[tx.txid]
    assert (entry.time, entry.height, entry.sequence, entry.spends_coinbase) == (node.time, 120, 1, True)
    child = node.transfer([node.output(tx)], 1_000)
    node.mempool.accept(child, entry_time=node.time - 100)
    entry = node.mempool.entries[child.txid]
    assert (entry.time, entry.spends_coinbase, entry.parents) == (
        node.time - 100,
        False,
        {node.mempool.entries[tx.txid]},
    )
    assert node.mempool.get_by_wtxid(child.wtxid) is entry
    assert node.mempool.spender(tx.outpoint(0)) is entry


def test_expiry_takes_descendants_along(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    old = node.transfer([first], 1_000)
    node.mempool.accept(old)
    node.time += 1_000
    child = node.transfer([node.output(old)], 1_000)
    node.mempool.accept(child)
    node.time += 336 * 3600 - 1_000
    assert node.mempool.expire() == []
    node.time += 1
    result = node.mempool.accept(node.transfer([second], 1_000))
    assert [(removed.entry.txid, removed.reason) for removed in result.evicted] == [
        (old.txid, RemovalReason.EXPIRY),
        (child.txid, RemovalReason.EXPIRY),
    ]
    assert len(node.mempool) == 1


def test_full_mempool_evicts_the_worst_and_raises_its_minimum(node: RegtestNode) -> None:
    probe = node.transfer(node.mature()[:1], 1_000)
    node.mempool.accept(probe)
    one = node.mempool.usage
    pool = Mempool(node.chain, replace(MempoolPolicy(), max_mempool_bytes=3 * one), node.now)
    coins = node.mature()
    fees = [4_000, 1_100, 3_000, 2_000]
    txs = [node.transfer([coin], fee) for coin, fee in zip(coins, fees, strict=False)]
    for tx in txs[:3]:
        pool.accept(tx)
    result = pool.accept(txs[3])
    assert [(gone.entry.txid, gone.reason) for gone in result.evicted] == [(txs[1].txid, RemovalReason.SIZELIMIT)]
    assert pool.min_fee_rate() == 10_000 + 100
    assert pool.info().mempool_min_fee == 10_100
    assert why(pool, node.transfer([coins[4]], 1_110)) == "mempool min fee not met, 1110 < 1111"
    with pytest.raises(PolicyError, match=r"^mempool full$") as caught:
        pool.accept(node.transfer([coins[4]], 1_112))
    assert caught.value.result is TxResult.RECONSIDERABLE
    assert len(pool) == 3


def test_minimum_fee_decays_only_after_a_block(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    node.mempool.accept(node.transfer([first], 1_100))
    room = node.mempool.usage + 1000
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), max_mempool_bytes=room), node.now)
    pool.accept(node.transfer([first], 1_100))
    pool.accept(node.transfer([second], 2_000))
    assert pool.min_fee_rate() == 10_100
    node.time += 30 * 86_400
    assert pool.min_fee_rate() == 10_100
    node.mine()
    assert (len(pool), pool.min_fee_rate()) == (0, 10_100)
    node.time += 3 * 3600  # an empty mempool: a quarter of the half-life of twelve hours
    assert pool.min_fee_rate() == 5_050
    node.time += 6 * 3600
    assert pool.min_fee_rate() == 1_263
    node.time += 12 * 3600
    assert pool.min_fee_rate() == 100  # not below the incremental rate
    node.time += 6 * 3600
    assert pool.min_fee_rate() == 0


def test_bip54_sigops_are_consensus_on_our_networks(tmp_path: Path) -> None:
    from tests.unit.chain.mempool.test_standard import p2sh_lock

    with RegtestNode(tmp_path / "dev", "dev") as dev:
        dev.mine(101)
        lock = p2sh_lock(b"\x00\x63" + b"\x5f\xae" + b"\x68\x51")
        count = 2500 // 15 + 1
        fund = dev.transfer(dev.mature()[:1], 100_000, extra=[out(1_000, lock.script)] * count)
        dev.mine_transactions([fund])
        tx = spend([dev.output(fund, n, lock) for n in range(count)], [out(100_000)])
        pool = Mempool(dev.chain, replace(MempoolPolicy(), require_standard=False), dev.now)
        error = refusal(pool, tx)
        assert isinstance(error, ConsensusError)
        assert error.reason == "bad-txns-legacy-sigops"


def test_mining_order_is_by_fee_rate(node: RegtestNode) -> None:
    poor, rich = (node.transfer([coin], fee) for coin, fee in zip(node.mature(), (1_000, 5_000), strict=False))
    node.mempool.accept(poor)
    node.mempool.accept(rich)
    assert node.mempool.mining_order() == [node.mempool.entries[tx.txid] for tx in (rich, poor)]


def test_options_default_to_a_plain_submission(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    result = accept_single(node.mempool, tx, Options())
    assert result.added is not None
    assert result.effective_fee_rate_sat_per_kvb == 1_000 * 1000 // 110
