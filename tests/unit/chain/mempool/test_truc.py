"""Version 3 transactions and ephemeral dust."""

from __future__ import annotations

from chain.mempool.errors import TxResult
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount, hash_to_hex
from chain.script.standard import nulldata
from tests.support.refusals import refusal, why
from tests.support.regtest import RegtestNode


def name(tx: Transaction) -> str:
    return f"{hash_to_hex(tx.txid)} (wtxid={hash_to_hex(tx.wtxid)})"


def data(size: int) -> list[TxOut]:
    return [TxOut(Amount(0), nulldata(b"x" * size))]


def test_versions_do_not_mix(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    three = node.transfer([first], 1_000, version=3)
    two = node.transfer([second], 1_000)
    node.mempool.accept(three)
    node.mempool.accept(two)
    tx = node.transfer([node.output(three)], 1_000)
    error = refusal(node.mempool, tx)
    assert str(error) == f"TRUC-violation, non-version=3 tx {name(tx)} cannot spend from version=3 tx {name(three)}"
    assert error.result is TxResult.MEMPOOL_POLICY
    tx = node.transfer([node.output(two)], 1_000, version=3)
    assert why(node.mempool, tx) == (
        f"TRUC-violation, version=3 tx {name(tx)} cannot spend from non-version=3 tx {name(two)}"
    )


def test_sizes(node: RegtestNode) -> None:
    coins = node.mature()[:1]
    tx = node.transfer(coins, 100_000, version=3, extra=data(10_000))
    assert why(node.mempool, tx) == (
        f"TRUC-violation, version=3 tx {name(tx)} is too big: {tx.vsize} > 10000 virtual bytes"
    )
    parent = node.transfer(coins, 100_000, version=3, extra=data(9_000))
    node.mempool.accept(parent)
    child = node.transfer([node.output(parent, 1)], 10_000, version=3, extra=data(1_000))
    assert why(node.mempool, child) == (
        f"TRUC-violation, version=3 child tx {name(child)} is too big: {child.vsize} > 1000 virtual bytes"
    )
    node.mempool.accept(node.transfer([node.output(parent, 1)], 10_000, version=3, extra=data(800)))


def test_two_generations_and_one_parent(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    parent = node.transfer([first], 1_000, version=3)
    child = node.transfer([node.output(parent)], 1_000, version=3)
    node.mempool.accept(parent)
    node.mempool.accept(child)
    grandchild = node.transfer([node.output(child)], 1_000, version=3)
    assert why(node.mempool, grandchild) == f"TRUC-violation, tx {name(grandchild)} would have too many ancestors"
    other = node.transfer([second], 1_000, version=3)
    node.mempool.accept(other)
    merging = node.transfer([node.output(other), node.output(parent)], 50_000, version=3)
    assert why(node.mempool, merging) == f"TRUC-violation, tx {name(merging)} would have too many ancestors"


def test_sibling_is_evicted_under_the_rules_of_replacement(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000, version=3, outputs=2)
    sibling = node.transfer([node.output(parent, 0)], 1_000, version=3)
    node.mempool.accept(parent)
    node.mempool.accept(sibling)
    poor = node.transfer([node.output(parent, 1)], 1_000, version=3)
    assert why(node.mempool, poor) == (
        f"insufficient fee (including sibling eviction), rejecting replacement {hash_to_hex(poor.txid)}, "
        "not enough additional fees to relay; 0.00 < 0.00000011"
    )
    rich = node.transfer([node.output(parent, 1)], 2_000, version=3)
    result = node.mempool.accept(rich)
    assert [gone.entry.txid for gone in result.replaced] == [sibling.txid]


def test_replacing_the_only_child_is_no_second_child(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000, version=3)
    node.mempool.accept(parent)
    node.mempool.accept(node.transfer([node.output(parent)], 1_000, version=3))
    node.mempool.accept(node.transfer([node.output(parent)], 2_000, version=3))
    assert len(node.mempool) == 2


def test_ephemeral_dust_must_be_spent_by_the_child(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 0, version=3, extra=[TxOut(Amount(0), b"\x51\x02\x4e\x73")])
    careless = node.transfer([node.output(parent, 1)], 10_000, version=3)
    result = node.mempool.submit_package([parent, careless])
    assert result.error == "unspent-dust"
    refused = result.transactions[careless.wtxid].refused
    assert str(refused) == f"missing-ephemeral-spends, tx {name(careless)} did not spend parent's ephemeral dust"
    from tests.support.signing import Lock, Unlocked

    anyone = Lock("anchor", b"\x51\x02\x4e\x73", lambda txdata, index, value: Unlocked())
    child = node.transfer([node.output(parent, 1), node.output(parent, 0, anyone)], 10_000, version=3)
    assert node.mempool.submit_package([parent, child]).error == ""
    assert set(node.mempool.entries) == {parent.txid, child.txid}
    node.mine()
    assert not node.mempool.entries
