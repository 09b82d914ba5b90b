"""Following the chain: confirmation, conflict, and what a reorganisation undoes."""

from __future__ import annotations

from chain.mempool.entries import MempoolChange, RemovalReason
from chain.primitives.transaction import Transaction
from chain.primitives.types import hash_to_hex
from tests.support.mempool_check import check
from tests.support.regtest import RegtestNode


def removals(change: MempoolChange) -> dict[str, str]:
    return {hash_to_hex(gone.entry.txid): gone.reason.value for gone in change.removed}


def hexes(*txs: Transaction) -> list[str]:
    return [hash_to_hex(tx.txid) for tx in txs]


def test_confirmed_and_conflicting_leave(node: RegtestNode) -> None:
    first, second, third = node.mature()[:3]
    confirmed = node.transfer([first], 1_000)
    rival = node.transfer([second], 1_000)
    descendant = node.transfer([node.output(rival)], 1_000)
    bystander = node.transfer([third], 1_000)
    for tx in (confirmed, rival, descendant, bystander):
        node.mempool.accept(tx)
    node.mempool.prioritise(confirmed.txid, 10)
    node.mempool.prioritise(rival.txid, 10)
    node.mine_transactions([confirmed, node.transfer([second], 9_000)])
    assert removals(node.changes[-1]) == dict(
        zip(hexes(confirmed, rival, descendant), ["block", "conflict", "conflict"], strict=True)
    )
    assert list(node.mempool.entries) == [bystander.txid]
    assert node.mempool.deltas == {}
    check(node.mempool)


def test_child_of_a_confirmed_parent_stands_alone(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000)
    child = node.transfer([node.output(parent)], 1_000)
    node.mempool.accept(parent)
    node.mempool.accept(child)
    node.mine_transactions([parent])
    entry = node.mempool.entries[child.txid]
    assert (entry.parents, len(entry.cluster.entries)) == (set(), 1)
    check(node.mempool)


def test_transactions_of_a_lost_block_come_back(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 5_000)
    block = node.mine_transactions([parent])
    child = node.transfer([node.output(parent)], 1_000)
    node.mempool.accept(child)
    change = node.follow(node.chain.invalidate_block(block.hash))
    assert [added.entry.txid for added in change.added] == [parent.txid]
    assert change.removed == []
    entry = node.mempool.entries[child.txid]
    assert entry.parents == {node.mempool.entries[parent.txid]}
    assert node.mempool.entries[parent.txid].sequence == 0
    check(node.mempool)
    change = node.follow(node.chain.reconsider_block(block.hash))
    assert removals(change) == dict(zip(hexes(parent), ["block"], strict=True))
    check(node.mempool)


def test_fees_and_limits_are_not_asked_of_what_comes_back(node: RegtestNode) -> None:
    free = node.transfer(node.mature()[:1], 0)
    block = node.mine_transactions([free])
    change = node.follow(node.chain.invalidate_block(block.hash))
    assert [added.entry.txid for added in change.added] == [free.txid]


def test_a_long_confirmed_chain_comes_back_whole(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000)
    txs = [tx]
    while len(txs) < 40:
        txs.append(node.transfer([node.output(txs[-1])], 1_000))
    block = node.mine_transactions(txs)
    child = node.transfer([node.output(txs[-1])], 1_000)
    node.mempool.accept(child)
    node.follow(node.chain.invalidate_block(block.hash))
    assert list(node.mempool.entries) == [child.txid, *(tx.txid for tx in txs)]
    check(node.mempool)


def test_what_builds_on_a_lost_coinbase_leaves(node: RegtestNode) -> None:
    node.mine(1, extra=b"lost")
    lost = node.coinbases[-1]
    block_hash = node.chain.tip.hash
    node.mine(100, empty=True)
    tx = node.transfer([lost], 1_000)
    child = node.transfer([node.output(tx)], 1_000)
    node.mempool.accept(tx)
    node.mempool.accept(child)
    change = node.follow(node.chain.invalidate_block(block_hash))
    assert removals(change) == dict.fromkeys(hexes(tx, child), "reorg")
    assert not node.mempool.entries
    check(node.mempool)


def test_immature_spend_leaves(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[-1:], 1_000)  # matures with this very block
    child = node.transfer([node.output(tx)], 1_000)
    node.mempool.accept(tx)
    node.mempool.accept(child)
    change = node.follow(node.chain.invalidate_block(node.chain.tip.hash))
    assert removals(change) == dict.fromkeys(hexes(tx, child), "reorg")


def test_no_longer_final_leaves(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 1_000, locktime=node.chain.tip.height, sequence=0xFFFFFFFE)
    node.mempool.accept(tx)
    change = node.follow(node.chain.invalidate_block(node.chain.tip.hash))
    assert removals(change) == dict.fromkeys(hexes(tx), "reorg")


def test_sequence_lock_that_opens_again_leaves(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 1_000)
    node.mine_transactions([fund])
    node.mine(3, empty=True)
    tx = node.transfer([node.output(fund)], 1_000, sequence=4)
    node.mempool.accept(tx)
    change = node.follow(node.chain.invalidate_block(node.chain.tip.hash))
    assert removals(change) == dict.fromkeys(hexes(tx), "reorg")


def test_longer_branch_with_a_double_spend(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    fork = node.chain.tip
    ours = node.transfer(coins, 1_000)
    block = node.mine_transactions([ours])
    child = node.transfer([node.output(ours)], 1_000)
    node.mempool.accept(child)
    node.follow(node.chain.invalidate_block(block.hash))
    assert set(node.mempool.entries) == {ours.txid, child.txid}
    theirs = node.transfer(coins, 2_000)
    node.mine_transactions([theirs], extra=b"other branch")
    assert node.chain.tip.prev is fork
    node.mine(1, empty=True)
    assert not node.mempool.entries
    # The first branch becomes valid again but stays shorter: nothing moves.
    assert node.follow(node.chain.reconsider_block(block.hash)) == MempoolChange([], [])


def test_one_activation_with_a_fork_switch(node: RegtestNode) -> None:
    """Disconnect and connect in one batch of events: what both branches hold stays out of the mempool."""
    first, second = node.mature()[:2]
    common = node.transfer([first], 1_000)
    only_old = node.transfer([second], 1_000)
    old = node.mine_transactions([common, only_old])
    node.follow(node.chain.invalidate_block(old.hash))
    node.mine_transactions([common], extra=b"new")
    node.mine(1, empty=True, extra=b"new")
    new_tip = node.chain.tip
    # Back to the old branch, then let the longer one win again.
    node.follow(node.chain.invalidate_block(new_tip.ancestor(new_tip.height - 1).hash))  # type: ignore[union-attr]
    node.follow(node.chain.reconsider_block(old.hash))
    assert node.chain.tip.hash == old.hash
    assert not node.mempool.entries
    change = node.follow(node.chain.reconsider_block(new_tip.hash))
    assert node.chain.tip is new_tip
    assert [added.entry.txid for added in change.added] == [only_old.txid]
    check(node.mempool)


def test_blocks_beyond_the_limit_do_not_come_back(node: RegtestNode) -> None:
    txs = []
    for coin in node.mature()[:3]:
        txs.append(node.transfer([coin], 1_000))
        node.mine_transactions([txs[-1]])
    child = node.transfer([node.output(txs[0])], 1_000)
    node.mempool.accept(child)
    lowest = node.chain.tip.ancestor(node.chain.tip.height - 2)
    assert lowest is not None
    change = node.mempool.handle(node.chain.invalidate_block(lowest.hash), max_readded_blocks=2)
    assert {added.entry.txid for added in change.added} == {txs[1].txid, txs[2].txid}
    assert [gone.reason for gone in change.removed] == [RemovalReason.REORG]
    check(node.mempool)


def test_clusters_too_large_after_a_reorg_are_trimmed(node: RegtestNode) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, outputs=80)
    block = node.mine_transactions([fund])
    for n in range(80):
        node.mempool.accept(node.transfer([node.output(fund, n)], 1_000 + 100 * n))
    change = node.follow(node.chain.invalidate_block(block.hash))
    assert len(node.mempool) == 64
    assert {gone.reason for gone in change.removed} == {RemovalReason.SIZELIMIT}
    assert {gone.entry.fee for gone in change.removed} == {1_000 + 100 * n for n in range(17)}
    check(node.mempool)
