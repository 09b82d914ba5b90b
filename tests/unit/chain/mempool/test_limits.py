"""How many unconfirmed transactions may hang together."""

from __future__ import annotations

from dataclasses import replace

from chain.mempool.policy import MempoolLimits, MempoolPolicy
from chain.mempool.pool import Mempool
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount, hash_to_hex
from chain.script.standard import nulldata
from tests.support.refusals import why
from tests.support.regtest import RegtestNode


def chain_of(node: RegtestNode, pool: Mempool, tx: Transaction, count: int) -> list[Transaction]:
    """`tx` and descendants one below the other, `count` in all, accepted."""
    txs = [tx]
    pool.accept(tx)
    while len(txs) < count:
        txs.append(node.transfer([node.output(txs[-1])], 1_000))
        pool.accept(txs[-1])
    return txs


def test_25_in_a_chain(node: RegtestNode) -> None:
    first = node.transfer(node.mature()[:1], 1_000)
    txs = chain_of(node, node.mempool, first, 25)
    assert why(node.mempool, node.transfer([node.output(txs[-1])], 1_000)) == (
        f"too-long-mempool-chain, too many descendants for tx {hash_to_hex(first.txid)} [limit: 25]"
    )


def test_ancestors_alone(node: RegtestNode) -> None:
    parents = []
    fund = node.transfer(node.mature()[:1], 10_000, outputs=25)
    node.mine_transactions([fund])
    for n in range(25):
        parents.append(node.transfer([node.output(fund, n)], 1_000))
        node.mempool.accept(parents[-1])
    assert why(node.mempool, node.transfer([node.output(tx) for tx in parents], 10_000)) == (
        "too-long-mempool-chain, too many unconfirmed ancestors [limit: 25]"
    )
    node.mempool.accept(node.transfer([node.output(tx) for tx in parents[:24]], 10_000))


def test_carve_out_lets_one_more_child_in(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 10_000, outputs=27)
    node.mempool.accept(parent)
    for n in range(25):  # the twenty-fifth is the extra one
        node.mempool.accept(node.transfer([node.output(parent, n)], 1_000))
    assert "too many descendants" in why(node.mempool, node.transfer([node.output(parent, 25)], 1_000))


def big(node: RegtestNode, coins: list, size: int, fee: int = 200_000) -> Transaction:
    return node.transfer(coins, fee, extra=[TxOut(Amount(0), nulldata(b"x" * size))])


def test_sizes_of_ancestors_and_descendants(node: RegtestNode) -> None:
    parent = big(node, node.mature()[:1], 60_000)
    node.mempool.accept(parent)
    child = big(node, [node.output(parent, 1)], 45_000)
    assert why(node.mempool, child) == (
        f"too-long-mempool-chain, exceeds descendant size limit for tx {hash_to_hex(parent.txid)} [limit: 101000]"
    )
    other = big(node, node.mature()[:1], 20_000)
    node.mempool.accept(other)
    both = big(node, [node.output(parent, 1), node.output(other, 1)], 21_000)
    assert why(node.mempool, both) == "too-long-mempool-chain, exceeds ancestor size limit [limit: 101000]"


def test_cluster_limits_of_core_31(node: RegtestNode) -> None:
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits.cluster_only()), node.now)
    txs = chain_of(node, pool, node.transfer(node.mature()[:1], 1_000), 64)
    assert why(pool, node.transfer([node.output(txs[-1])], 1_000)) == "too-large-cluster"
    parent = big(node, node.mature()[:1], 60_000)
    pool.accept(parent)
    assert why(pool, big(node, [node.output(parent, 1)], 41_000)) == "too-large-cluster"
    pool.accept(big(node, [node.output(parent, 1)], 40_000))


def test_joining_clusters_counts_both(node: RegtestNode) -> None:
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits.cluster_only(10)), node.now)
    first, second = node.mature()[:2]
    left = chain_of(node, pool, node.transfer([first], 1_000), 5)
    right = chain_of(node, pool, node.transfer([second], 1_000), 5)
    assert why(pool, node.transfer([node.output(left[-1]), node.output(right[-1])], 9_000)) == "too-large-cluster"
    assert len(pool.graph.clusters) == 2
