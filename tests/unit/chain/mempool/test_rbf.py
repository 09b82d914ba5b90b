"""Replacement, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.consensus.errors import ConsensusError
from chain.mempool.entries import RemovalReason
from chain.mempool.errors import PolicyError, TxResult
from chain.mempool.policy import MempoolLimits, MempoolPolicy
from chain.mempool.pool import Mempool
from chain.mempool.rbf import signals_rbf
from chain.primitives.types import hash_to_hex
from tests.support.refusals import refusal, why
from tests.support.regtest import RegtestNode


def test_full_rbf_needs_no_signal(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    final = node.transfer(coins, 1_000)
    assert not signals_rbf(final.sequences)
    node.mempool.accept(final)
    better = node.transfer(coins, 1_011)
    result = node.mempool.accept(better)
    assert [(gone.entry.txid, gone.reason) for gone in result.replaced] == [(final.txid, RemovalReason.REPLACED)]
    assert list(node.mempool.entries) == [better.txid]


def test_rule_3_no_less_fees_than_all_that_leaves(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    parent = node.transfer(coins, 1_000)
    child = node.transfer([node.output(parent)], 50_000)
    node.mempool.accept(parent)
    node.mempool.accept(child)
    tx = node.transfer(coins, 50_999)
    error = refusal(node.mempool, tx)
    assert str(error) == (
        f"insufficient fee, rejecting replacement {hash_to_hex(tx.txid)}, "
        "less fees than conflicting txs; 0.00050999 < 0.00051"
    )
    assert isinstance(error, PolicyError)
    assert error.result is TxResult.RECONSIDERABLE


def test_rule_4_pays_for_its_own_relay(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    node.mempool.accept(node.transfer(coins, 1_000))
    tx = node.transfer(coins, 1_010)
    assert why(node.mempool, tx) == (
        f"insufficient fee, rejecting replacement {hash_to_hex(tx.txid)}, "
        "not enough additional fees to relay; 0.0000001 < 0.00000011"
    )
    node.mempool.accept(node.transfer(coins, 1_011))


def test_rule_5_at_most_100_clusters(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, outputs=101)
    node.mine_transactions([fund])
    coins = [node.output(fund, n) for n in range(101)]
    for coin in coins:
        node.mempool.accept(node.transfer([coin], 100))
    tx = node.transfer(coins, 100_000)
    assert why(node.mempool, tx) == (
        f"too many potential replacements, rejecting replacement {hash_to_hex(tx.txid)}; "
        "too many conflicting clusters (101 > 100)"
    )
    result = node.mempool.accept(node.transfer(coins[1:], 100_000))
    assert len(result.replaced) == 100
    assert len(node.mempool) == 2


def test_diagram_must_improve(node: RegtestNode) -> None:
    """More in total but a lower rate than the small transaction that it replaces: a miner who fills a block loses."""
    coin = node.mature()[0]
    small = node.transfer([coin], 20_000)
    node.mempool.accept(small)
    large = node.transfer([coin], 30_000, outputs=20)
    assert large.vsize > 2 * small.vsize
    error = refusal(node.mempool, large)
    assert str(error) == "replacement-failed, insufficient feerate: does not improve feerate diagram"
    assert error.result is TxResult.RECONSIDERABLE


def test_spending_what_it_replaces(node: RegtestNode) -> None:
    coin = node.mature()[0]
    parent = node.transfer([coin], 1_000)
    node.mempool.accept(parent)
    tx = node.transfer([coin, node.output(parent)], 1_000_000)
    error = refusal(node.mempool, tx)
    assert isinstance(error, ConsensusError)
    assert str(error) == (
        f"bad-txns-spends-conflicting-tx, {hash_to_hex(tx.txid)} spends conflicting transaction "
        f"{hash_to_hex(parent.txid)}"
    )


def test_replacement_may_bring_new_unconfirmed_inputs(node: RegtestNode) -> None:
    """BIP125's rule 2 fell with the fee-rate diagram (Core 31)."""
    first, second = node.mature()[:2]
    parent = node.transfer([second], 1_000)
    node.mempool.accept(parent)
    node.mempool.accept(node.transfer([first], 1_000))
    tx = node.transfer([first, node.output(parent)], 100_000)
    node.mempool.accept(tx)
    assert node.mempool.entries[tx.txid].parents == {node.mempool.entries[parent.txid]}


def test_priority_deltas_count_on_both_sides(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    old = node.transfer(coins, 1_000)
    node.mempool.accept(old)
    node.mempool.prioritise(old.txid, 5_000)
    tx = node.transfer(coins, 2_000)
    assert "less fees than conflicting txs; 0.00002 < 0.00006" in why(node.mempool, tx)
    node.mempool.prioritise(tx.txid, 5_000)
    node.mempool.accept(tx)
    assert node.mempool.total_fee == 2_000


def test_what_is_replaced_frees_room_under_the_limits(node: RegtestNode) -> None:
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits.cluster_only(3)), node.now)
    parent = node.transfer(node.mature()[:1], 1_000, outputs=3)
    pool.accept(parent)
    pool.accept(node.transfer([node.output(parent, 0)], 1_000))
    pool.accept(node.transfer([node.output(parent, 1)], 1_000))
    assert why(pool, node.transfer([node.output(parent, 2)], 1_000)) == "too-large-cluster"
    pool.accept(node.transfer([node.output(parent, 1)], 2_000))
    assert why(pool, node.transfer([node.output(parent, 2), node.mature()[0]], 9_000)) == "too-large-cluster"
    pool.accept(node.transfer([node.output(parent, 0), node.output(parent, 2)], 9_000))
    assert len(pool) == 3


def test_limits_hold_for_replacements(node: RegtestNode) -> None:
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits.cluster_only(2)), node.now)
    first, second, third = node.mature()[:3]
    parents = [node.transfer([coin], 1_000) for coin in (first, second)]
    for parent in parents:
        pool.accept(parent)
    pool.accept(node.transfer([third], 1_000))
    tx = node.transfer([third, *(node.output(parent) for parent in parents)], 100_000)
    assert why(pool, tx) == "too-large-cluster"


@pytest.mark.parametrize(
    ("sequence", "signals"), [(0xFFFFFFFF, False), (0xFFFFFFFE, False), (0xFFFFFFFD, True), (0, True)]
)
def test_signalling(sequence: int, signals: bool) -> None:
    assert signals_rbf([0xFFFFFFFF, sequence]) is signals
