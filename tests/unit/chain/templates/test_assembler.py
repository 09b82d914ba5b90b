"""Block templates from real mempools; whatever comes out must be a valid block."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chain.consensus.errors import ConsensusError
from chain.consensus.subsidy import block_subsidy
from chain.mempool.policy import MempoolPolicy
from chain.mempool.pool import Mempool
from chain.primitives.merkle import merkle_branch, root_from_branch
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount
from chain.script.standard import nulldata
from chain.templates.assembler import assemble, assemble_exact
from chain.templates.template import BlockTemplate, dependencies, minimum_time
from tests.support.regtest import RegtestNode, solve


@pytest.fixture(params=["regtest", "dev"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegtestNode]:
    with RegtestNode(tmp_path / "chain", request.param) as fresh:
        fresh.mine(120)
        yield fresh


def build(node: RegtestNode, **options: int) -> BlockTemplate:
    return assemble(node.chain, node.mempool, node.lock.script, check=True, **options)  # type: ignore[arg-type]


def chosen(template: BlockTemplate) -> list[bytes]:
    return [item.tx.txid for item in template.transactions]


def test_empty(node: RegtestNode) -> None:
    template = build(node)
    height = node.chain.tip.height + 1
    assert (template.height, template.prev_hash, template.transactions) == (height, node.chain.tip.hash, ())
    assert template.coinbase_value == block_subsidy(height, node.params) == template.coinbase.values[0]
    assert template.coinbase.locktime == height - 1
    assert template.time == node.time
    assert template.min_time == node.chain.tip.median_time_past() + 1
    assert template.block.weight == template.weight < 8_000
    assert template.nbits == 0x207FFFFF
    assert template.target == 0x7FFFFF << 232


def test_fees_are_claimed_and_transactions_described(node: RegtestNode) -> None:
    parent = node.transfer(node.mature()[:1], 1_000, outputs=2)
    children = [node.transfer([node.output(parent, n)], 2_000) for n in range(2)]
    last = node.transfer([node.output(tx) for tx in children], 10_000)
    for tx in (parent, *children, last):
        node.mempool.accept(tx)
    template = build(node)
    assert template.fees == 15_000
    assert template.coinbase.values[0] == block_subsidy(template.height, node.params) + 15_000
    assert [item.depends for item in template.transactions] == [(), (1,), (1,), (2, 3)]
    assert dependencies([item.tx for item in template.transactions]) == [(), (1,), (1,), (2, 3)]
    assert [(item.fee, item.sigop_cost, item.weight) for item in template.transactions[::3]] == [
        (1_000, 1, parent.weight),
        (10_000, 2, last.weight),
    ]
    block = template.block
    branch = merkle_branch([tx.txid for tx in block.transactions], 0)
    assert block.header.merkle_root == root_from_branch(template.coinbase.txid, branch, 0)
    node.follow(node.chain.process_block(solve(block)))
    assert not node.mempool.entries


def test_best_fee_rate_first(node: RegtestNode) -> None:
    txs = {
        fee: node.transfer([coin], fee) for fee, coin in zip((3_000, 9_000, 1_000, 5_000), node.mature(), strict=False)
    }
    for tx in txs.values():
        node.mempool.accept(tx)
    assert chosen(build(node)) == [txs[fee].txid for fee in (9_000, 5_000, 3_000, 1_000)]
    node.mempool.prioritise(txs[1_000].txid, 100_000)
    template = build(node)
    assert chosen(template)[0] == txs[1_000].txid
    assert template.fees == 18_000  # a delta moves a transaction, it pays no one


def test_child_lifts_its_parent(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    parent = node.transfer([first], 100)
    child = node.transfer([node.output(parent)], 50_000)
    middle = node.transfer([second], 10_000)
    for tx in (parent, child, middle):
        node.mempool.accept(tx)
    template = build(node)
    assert chosen(template) == [parent.txid, child.txid, middle.txid]
    assert [fee for fee, _ in template.chunk_fee_rates] == [50_100, 10_000]


def test_minimum_fee_rate(node: RegtestNode) -> None:
    low, high = (node.transfer([coin], fee) for coin, fee in zip(node.mature(), (109, 110), strict=False))
    node.mempool.accept(low)
    node.mempool.accept(high)
    assert chosen(build(node, min_fee_rate_sat_per_kvb=1_000)) == [high.txid]
    free = node.transfer(node.mature()[:1], 0)
    node.mempool.accept(free, bypass_limits=True)
    assert free.txid not in chosen(build(node))


def padded(node: RegtestNode, coins: list, fee: int, size: int) -> Transaction:
    return node.transfer(coins, fee, extra=[TxOut(Amount(0), nulldata(b"x" * size))])


def test_weight_limit_skips_what_does_not_fit(node: RegtestNode) -> None:
    coins = node.mature()
    best = padded(node, coins[:1], 500_000, 20_000)
    large = padded(node, coins[1:2], 400_000, 20_000)
    small = padded(node, coins[2:3], 1_000, 100)
    for tx in (best, large, small):
        node.mempool.accept(tx)
    limit = 8_000 + best.weight + small.weight + 1
    template = build(node, max_weight=limit)
    assert chosen(template) == [best.txid, small.txid]
    assert template.block.weight <= limit
    assert chosen(build(node, max_weight=limit - 1)) == [best.txid]
    assert chosen(build(node, max_weight=0)) == []


def test_what_depends_on_something_skipped_is_skipped(node: RegtestNode) -> None:
    coins = node.mature()
    parent = padded(node, coins[:1], 500_000, 20_000)
    child = node.transfer([node.output(parent, 1)], 200)
    node.mempool.accept(parent)
    node.mempool.accept(child)
    assert chosen(build(node, max_weight=40_000)) == []
    assert chosen(build(node)) == [parent.txid, child.txid]


def test_sigop_limit(node: RegtestNode) -> None:
    txs = []
    for coin in node.mature()[:3]:
        txs.append(node.transfer([coin], 100_000, extra=[TxOut(Amount(100_000), b"\xac" * 3_999)]))
    pool = node.mempool = Mempool(node.chain, replace(MempoolPolicy(), require_standard=False), node.now)
    for tx in txs:
        assert pool.accept(tx).vsize == 15_997 * 20 // 4
    assert len(chosen(build(node, reserved_sigops=80_000 - 2 * 15_997))) == 1
    assert len(chosen(build(node, reserved_sigops=80_000 - 2 * 15_997 - 1))) == 2
    template = build(node)
    assert template.sigop_cost == 3 * 15_997


def test_full_block_stays_within_the_limits(node: RegtestNode, rng: random.Random) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, outputs=60)
    node.mine_transactions([fund])
    for n in range(60):
        node.mempool.accept(padded(node, [node.output(fund, n)], rng.randrange(10_000, 900_000), 18_000 + n))
    template = build(node)
    assert 3_900_000 < template.block.weight <= 4_000_000
    node.follow(node.chain.process_block(solve(template.block)))
    assert 0 < len(node.mempool) < 10


def test_coinbase_extra(node: RegtestNode) -> None:
    template = assemble(node.chain, node.mempool, b"\x51", coinbase_extra=b"/hello/", extranonce=b"\0" * 8, check=True)
    assert template.coinbase.script_sigs[0].endswith(b"\x08" + b"\0" * 8 + b"/hello/")
    assert template.coinbase.scripts[0] == b"\x51"


def test_exact_transactions_claim_no_fees(node: RegtestNode) -> None:
    tx = node.transfer(node.mature()[:1], 5_000)
    template = assemble_exact(node.chain, [tx], b"\x51", now=node.time)
    assert (template.fees, template.coinbase.values[0]) == (0, block_subsidy(template.height, node.params))
    node.chain.test_block_validity(template.block)
    broken = assemble_exact(node.chain, [tx, tx], b"\x51", now=node.time)
    with pytest.raises(ConsensusError):
        node.chain.test_block_validity(broken.block)


def test_time_moves_on(node: RegtestNode) -> None:
    template = build(node)
    assert template.at(template.time, node.params) is template
    later = template.at(template.time + 100, node.params)
    assert later.block.header.time == template.time + 100
    node.time += 100
    node.chain.test_block_validity(later.block)


def test_a_clock_beyond_what_a_header_holds_gives_its_last_second(node: RegtestNode) -> None:
    late = 0xFFFFFFFF + 1000
    assert build(node).at(late, node.params).block.header.time == 0xFFFFFFFF
    node.time = late
    assert build(node).block.header.time == 0xFFFFFFFF


def test_time_is_above_the_median_when_the_clock_is_behind(node: RegtestNode) -> None:
    node.time -= 50_000
    template = assemble(node.chain, node.mempool, b"\x51")
    assert template.time == template.min_time == node.chain.tip.median_time_past() + 1


def test_minimum_time_at_period_ends(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "dev", "dev") as dev:
        dev.mine(1, empty=True, interval_s=7_000)  # the clock runs ahead once
        first = dev.chain.tip
        interval = dev.params.retarget_interval
        while (dev.chain.tip.height + 1) % interval:
            dev.mine(1, empty=True, interval_s=1)
        tip = dev.chain.tip
        assert minimum_time(tip, dev.params) == max(tip.median_time_past() + 1, tip.time - 600)
        assert first.height == 1
        while (dev.chain.tip.height + 1) % 2016 != 2015:
            dev.mine(1, empty=True, interval_s=0)
        start = dev.chain.tip.ancestor(dev.chain.tip.height + 1 - 2015)
        assert start is not None
        assert minimum_time(dev.chain.tip, dev.params) >= start.time
        dev.mine(3, empty=True, interval_s=0)


def test_version_signals_what_is_being_decided(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "regtest") as regtest:
        regtest.mine(143, empty=True)
        assert build(regtest).version == 0x30000000  # testdummy, bit 28, from the second period on
        assert regtest.chain.tip.version == 0x20000000


def test_template_version_changes_with_the_mempool(node: RegtestNode) -> None:
    before = build(node).mempool_updates
    node.mempool.accept(node.transfer(node.mature()[:1], 1_000))
    assert build(node).mempool_updates != before
