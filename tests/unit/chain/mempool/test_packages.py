"""Transactions judged together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.mempool.packages import PackageResult, is_child_with_parents, malformed
from chain.mempool.policy import MempoolLimits, MempoolPolicy
from chain.mempool.pool import Mempool
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount
from tests.support.regtest import OWNER, RegtestNode
from tests.support.signing import p2wsh_multisig, spend


def refused(result: PackageResult, tx: Transaction) -> str:
    return str(result.transactions[tx.wtxid].refused)


def test_shape_of_packages(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000, outputs=2)
    left = node.transfer([node.output(parent, 0)], 1_000)
    right = node.transfer([node.output(parent, 1)], 1_000)
    assert malformed([parent, left, right]) == ""
    assert malformed([left, parent]) == "package-not-sorted"
    assert malformed([parent, left, left]) == "package-contains-duplicates"
    assert malformed([left, node.transfer([node.output(parent, 0)], 2_000)]) == "conflict-in-package"
    assert malformed([Transaction.build(2, [], [], n) for n in range(26)]) == "package-too-many-transactions"
    large = TxOut(Amount(0), b"\x6a" + b"x" * 60_000)
    assert malformed([Transaction.build(2, [], [large], n) for n in range(2)]) == "package-too-large"
    assert malformed([Transaction.build(2, [], [], 0)]) == "conflict-in-package"
    assert not is_child_with_parents([parent])
    assert is_child_with_parents([parent, left])
    assert not is_child_with_parents([parent, left, right])


def test_child_pays_for_parent(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 0)
    child = node.transfer([node.output(parent)], 10_000)
    result = node.mempool.submit_package([parent, child])
    assert (result.error, len(result.added)) == ("", 2)
    for tx in (parent, child):
        accepted = result.transactions[tx.wtxid].accepted
        assert accepted is not None
        assert (accepted.effective_fee, accepted.effective_vsize) == (10_000, 220)
        assert accepted.effective_wtxids == (parent.wtxid, child.wtxid)
    assert node.mempool.entries[child.txid].parents == {node.mempool.entries[parent.txid]}
    assert [tx.txid for tx in node.mine()[0].transactions[1:]] == [parent.txid, child.txid]


def test_child_that_pays_too_little_for_both(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 0)
    child = node.transfer([node.output(parent)], 21)
    result = node.mempool.submit_package([parent, child])
    assert (result.error, result.policy_error) == ("transaction failed", False)
    assert refused(result, parent) == "min relay fee not met, 0 < 11"
    assert refused(result, child) == "min relay fee not met, 21 < 22"
    assert not node.mempool.entries


def test_parent_that_pays_for_itself_enters_alone(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000)
    child = node.transfer([node.output(parent)], 5)
    result = node.mempool.submit_package([parent, child])
    assert result.error == "transaction failed"
    assert refused(result, child) == "min relay fee not met, 5 < 11"
    assert list(node.mempool.entries) == [parent.txid]
    assert [added.entry.txid for added in result.added] == [parent.txid]


def test_members_known_before(node: RegtestNode) -> None:
    lock = p2wsh_multisig(b"two", 1, 2)
    fund = node.transfer(node.mature()[:1], 1_000, lock=lock)
    node.mine_transactions([fund])
    parent = spend([node.output(fund, 0, lock)], [TxOut(Amount(1_000_000), OWNER.script)])
    other = Transaction.build(2, [parent.inputs[0]._replace(witness=(b"\1",))], parent.outputs, 0)
    child = node.transfer([node.output(parent)], 1_000)
    node.mempool.accept(parent)
    result = node.mempool.submit_package([other, child])
    assert result.error == ""
    assert result.transactions[other.wtxid].other_witness is node.mempool.entries[parent.txid]
    assert result.transactions[child.wtxid].accepted is not None
    again = node.mempool.submit_package([parent, child])
    assert again.transactions[parent.wtxid].known is node.mempool.entries[parent.txid]
    assert again.transactions[child.wtxid].known is node.mempool.entries[child.txid]
    assert again.error == ""


def test_only_a_child_with_its_parents_is_submitted(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    txs = [node.transfer([first], 1_000), node.transfer([second], 1_000)]
    result = node.mempool.submit_package(txs)
    assert (result.error, result.policy_error, result.transactions) == ("package-not-child-with-parents", True, {})


def test_hopeless_member_spoils_the_fee_sharing(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    poor = node.transfer([first], 0)
    broken = node.transfer([second], 1_000, version=9)
    child = node.transfer([node.output(poor), node.output(broken)], 100_000)
    result = node.mempool.submit_package([poor, broken, child])
    assert result.error == "transaction failed"
    assert refused(result, broken) == "version"
    assert refused(result, child) == "bad-txns-inputs-missingorspent"
    assert not node.mempool.entries


def test_package_replaces_as_a_whole(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    old = node.transfer(coins, 1_000)
    node.mempool.accept(old)
    parent = node.transfer(coins, 0, version=3)
    child = node.transfer([node.output(parent)], 20_000, version=3)
    result = node.mempool.submit_package([parent, child])
    assert result.error == ""
    assert [gone.entry.txid for gone in result.replaced] == [old.txid]
    assert list(node.mempool.entries) == [parent.txid, child.txid]


@pytest.mark.parametrize(
    ("parent_fee", "child_fee", "error"),
    [
        (0, 999, "package RBF failed: insufficient anti-DoS fees"),
        (900, 1_000_000, ""),
        (0, 1_500, "package RBF failed: insufficient feerate: does not improve feerate diagram"),
    ],
)
def test_rules_of_package_replacement(node: RegtestNode, parent_fee: int, child_fee: int, error: str) -> None:
    coins = node.mature()[:1]
    node.mempool.accept(node.transfer(coins, 1_000))
    parent = node.transfer(coins, parent_fee)
    child = node.transfer([node.output(parent)], child_fee)
    result = node.mempool.submit_package([parent, child])
    assert result.error.startswith(error)
    assert (result.error == "") is (error == "")


def test_package_replacement_has_no_mempool_parents(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    node.mempool.accept(node.transfer([first], 1_000))
    known = node.transfer([second], 1_000)
    node.mempool.accept(known)
    parent = node.transfer([first], 0)
    child = node.transfer([node.output(parent), node.output(known)], 50_000)
    result = node.mempool.submit_package([parent, child])
    assert result.error == "package RBF failed: new transaction cannot have mempool ancestors"


def test_testing_a_chain_changes_nothing(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000)
    child = node.transfer([node.output(parent)], 2_000)
    result = node.mempool.test_accept([parent, child])
    assert result.error == ""
    assert [result.transactions[tx.wtxid].accepted.fee for tx in (parent, child)] == [1_000, 2_000]  # type: ignore[union-attr]
    assert not node.mempool.entries
    assert result.added == []


def test_testing_stops_at_the_first_failure(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 0)
    child = node.transfer([node.output(parent)], 2_000)
    result = node.mempool.test_accept([parent, child])
    assert result.error == "transaction failed"
    assert refused(result, parent) == "min relay fee not met, 0 < 11"
    assert child.wtxid not in result.transactions


def test_testing_reports_those_whose_scripts_passed(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    good = node.transfer([first], 1_000)
    bad = node.transfer([second], 1_000)
    bad = Transaction.build(2, [bad.inputs[0]._replace(witness=good.witnesses[0])], bad.outputs, 0)
    result = node.mempool.test_accept([good, bad])
    assert result.error == "transaction failed"
    assert result.transactions[good.wtxid].accepted is not None
    assert refused(result, bad).startswith("mempool-script-verify-flag-failed (")


def test_testing_several_allows_no_replacement(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    node.mempool.accept(node.transfer([first], 1_000))
    txs = [node.transfer([first], 5_000), node.transfer([second], 1_000)]
    result = node.mempool.test_accept(txs)
    assert refused(result, txs[0]) == "bip125-replacement-disallowed"
    alone = node.mempool.test_accept(txs[:1])
    assert alone.transactions[txs[0].wtxid].accepted is not None


def test_limits_of_packages(node: RegtestNode) -> None:
    node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits.cluster_only(2)), node.now)
    parent = node.transfer(node.mature()[:1], 1_000)
    child = node.transfer([node.output(parent)], 1_000)
    grandchild = node.transfer([node.output(child)], 1_000)
    assert node.mempool.test_accept([parent, child, grandchild]).error == "too-large-cluster"
    assert node.mempool.test_accept([parent, child]).error == ""
    node.mempool = Mempool(node.chain, replace(MempoolPolicy(), limits=MempoolLimits(ancestor_count=2)), node.now)
    result = node.mempool.test_accept([parent, child, grandchild])
    assert result.error == "package-mempool-limits, package count 3 exceeds ancestor count limit [limit: 2]"


def test_truc_rules_hold_within_packages(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000, version=3, outputs=2)
    left = node.transfer([node.output(parent, 0)], 1_000, version=3)
    right = node.transfer([node.output(parent, 1)], 1_000, version=3)
    assert node.mempool.test_accept([parent, left]).error == ""
    result = node.mempool.test_accept([parent, left, right])
    assert result.error.startswith("TRUC-violation, tx ")
    assert result.error.endswith("would exceed descendant count limit")
    mixed = node.transfer([node.output(parent, 0)], 1_000)
    assert "cannot spend from version=3" in node.mempool.test_accept([parent, mixed]).error


def test_max_fee_rate_in_packages(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 0)
    child = node.transfer([node.output(parent)], 10_000_000)
    result = node.mempool.submit_package([parent, child], max_fee_rate_sat_per_kvb=1_000_000)
    assert refused(result, child) == "max feerate exceeded"
    assert not node.mempool.entries


def test_max_fee_rate_of_packages_is_exact(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000)
    child = node.transfer([node.output(parent)], 1_000)
    result = node.mempool.submit_package([parent, child], max_fee_rate_sat_per_kvb=9_090)  # 1,000 for 110 is 9,090.9
    assert refused(result, parent) == "max feerate exceeded"
    assert refused(result, child) == "bad-txns-inputs-missingorspent"
    assert node.mempool.submit_package([parent, child], max_fee_rate_sat_per_kvb=9_091).error == ""


def test_unknown_inputs_alone(node: RegtestNode) -> None:
    tx = Transaction.build(2, [TxIn(b"\3" * 36)], [TxOut(Amount(1_000), OWNER.script)], 0)  # type: ignore[arg-type]
    result = node.mempool.submit_package([tx])
    assert refused(result, tx) == "bad-txns-inputs-missingorspent"
