"""Random life of a mempool: whatever is offered, mined, replaced, reorganised or reloaded, it stays consistent with
the chain and with itself, and every template made from it is a valid block."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chain.consensus.constants import COINBASE_MATURITY
from chain.consensus.errors import ConsensusError
from chain.mempool.errors import TransactionRefused
from chain.mempool.policy import MempoolLimits, MempoolPolicy
from chain.mempool.pool import Mempool
from chain.primitives.coin import coin_height, coin_is_coinbase, coin_value
from chain.primitives.transaction import SEQUENCE_FINAL, Transaction, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.templates.assembler import assemble, assemble_exact
from tests.support.mempool_check import check
from tests.support.regtest import RegtestNode, solve
from tests.support.signing import Spendable, p2tr, p2wpkh, spend

LOCKS = [p2wpkh(b"a"), p2wpkh(b"b"), p2tr(b"c")]


class Life:
    """One node, all coins that ever were, and things that can happen."""

    def __init__(self, node: RegtestNode, rng: random.Random, folder: Path) -> None:
        self.node = node
        self.rng = rng
        self.folder = folder
        self.coins: dict[OutPoint, Spendable] = {coin.outpoint: coin for coin in node.coinbases}
        self.invalid: list[bytes] = []
        self.counts: dict[str, int] = {}

    def story(self) -> list[Callable[[], str]]:
        """300 things that happen: each as often as here, in any order."""
        times = {
            self.offer: 200,
            self.offer_package: 27,
            self.mine: 20,
            self.mine_something_else: 13,
            self.reorganise: 10,
            self.reconsider: 7,
            self.prioritise: 13,
            self.wait: 7,
            self.reload: 3,
        }
        actions = [action for action, count in times.items() for _ in range(count)]
        self.rng.shuffle(actions)
        return actions

    def step(self, action: Callable[[], str]) -> None:
        done = action()
        name = f"{action.__name__}: {done}"
        self.counts[name] = self.counts.get(name, 0) + 1

    def transaction(self, known: list[Spendable]) -> Transaction:
        rng = self.rng
        coins = rng.sample(known, min(len(known), rng.choice([1, 1, 1, 2, 3])))
        total = sum(coin_value(coin.coin) for coin in coins)
        fee = rng.choice([0, 50, 200, 1_000, 5_000, 20_000, 100_000])
        share = max(total - fee, 0) // (count := rng.choice([1, 2, 2, 3]))
        outs = [TxOut(Amount(share), rng.choice(LOCKS).script) for _ in range(count)]
        sequence = rng.choice([SEQUENCE_FINAL] * 4 + [0xFFFFFFFE, 0, 1, 3, (1 << 22) | 1])
        locktime = rng.choice([0] * 5 + [self.node.chain.tip.height + rng.randint(-1, 1)])
        version = rng.choice([2] * 14 + [1, 3])
        return spend(coins, outs, sequence=sequence, locktime=locktime, version=version)

    def learn(self, tx: Transaction) -> None:
        for n, script in enumerate(tx.scripts):
            lock = next((lock for lock in [*LOCKS, self.node.lock] if lock.script == script), None)
            if lock is not None:
                self.coins[tx.outpoint(n)] = self.node.output(tx, n, lock)

    def candidates(self) -> list[Spendable]:
        """Coins that exist, spent in the mempool or not, rarely immature; the newest are likelier, so that chains
        grow."""
        pool, rng = self.node.mempool, self.rng
        young = self.node.chain.tip.height + 1 - COINBASE_MATURITY
        existing = []
        for coin in self.coins.values():
            found = pool.get_coin(coin.outpoint)
            if found is None or (coin_is_coinbase(found) and coin_height(found) > young and rng.random() < 0.99):
                continue
            existing.append(coin)
        return existing[-20:] if rng.random() < 0.7 else existing

    def offer(self) -> str:
        tx = self.transaction(self.candidates())
        pool = self.node.mempool
        before = set(pool.entries)
        try:
            result = pool.accept(tx)
        except (ConsensusError, TransactionRefused) as refused:
            reason = getattr(refused, "reason", "")
            if reason != "mempool full":
                assert set(pool.entries) == before
            return reason
        self.learn(tx)
        gone = {removed.entry.txid for removed in (*result.replaced, *result.evicted)}
        assert set(pool.entries) == (before | {tx.txid}) - gone
        return "replaced" if result.replaced else "accepted"

    def offer_package(self) -> str:
        parent = self.transaction(self.candidates())
        pair = [self.node.output(parent, 0, next(lock for lock in LOCKS if lock.script == parent.scripts[0]))]
        child = self.transaction(pair)
        result = self.node.mempool.submit_package([parent, child])
        for added in result.added:
            self.learn(added.entry.tx)
        return result.error.split(",")[0] or "accepted"

    def mine(self) -> str:
        node = self.node
        node.time += 60
        limit = self.rng.choice([4_000_000, 4_000_000, 12_000])
        extra = self.rng.randbytes(4)
        template = assemble(
            node.chain, node.mempool, node.lock.script, max_weight=limit, coinbase_extra=extra, check=True
        )
        block = solve(template.block)
        node.follow(node.chain.process_block(block))
        assert node.chain.tip.hash == block.hash
        self.learn(block.transactions[0])
        return "block"

    def mine_something_else(self) -> str:
        node = self.node
        confirmed = [coin for coin in self.coins.values() if node.chain.get_coin(coin.outpoint) is not None]
        tx = self.transaction(confirmed)
        node.time += 60
        extra = self.rng.randbytes(4)
        block = solve(assemble_exact(node.chain, [tx], node.lock.script, now=node.time, coinbase_extra=extra).block)
        try:
            node.chain.test_block_validity(block, check_pow=True)
        except ConsensusError:
            return "not valid"
        node.follow(node.chain.process_block(block))
        self.learn(tx)
        self.learn(block.transactions[0])
        return "block"

    def reorganise(self) -> str:
        node = self.node
        depth = self.rng.randint(1, 4)
        victim = node.chain.tip.ancestor(node.chain.tip.height - depth + 1)
        assert victim is not None
        self.invalid.append(victim.hash)
        limit = self.rng.choice([None, None, 2])
        change = node.mempool.handle(node.chain.invalidate_block(victim.hash), max_readded_blocks=limit)
        return "came back" if change.added else "nothing came back"

    def reconsider(self) -> str:
        if not self.invalid:
            return "nothing"
        before = self.node.chain.tip
        victim = self.invalid.pop(self.rng.randrange(len(self.invalid)))
        self.node.follow(self.node.chain.reconsider_block(victim))
        return "moved" if self.node.chain.tip is not before else "stayed"

    def prioritise(self) -> str:
        pool = self.node.mempool
        if not pool.entries:
            return "nothing"
        pool.prioritise(self.rng.choice(list(pool.entries)), self.rng.randint(-2_000, 20_000))
        return "done"

    def wait(self) -> str:
        self.node.time += self.rng.choice([600, 86_400, 15 * 86_400])
        return "expired" if self.node.mempool.limit_size() else "nothing expired"

    def reload(self) -> str:
        node = self.node
        path = self.folder / "mempool.dat"
        saved = node.mempool.save(path)
        fresh = Mempool(node.chain, node.mempool.policy, node.now)
        result = fresh.load(path)
        assert result.error == ""
        assert result.tried == saved
        check(fresh)
        node.mempool = fresh
        return "done"


@pytest.mark.parametrize(
    ("network", "policy"),
    [
        ("regtest", MempoolPolicy()),
        ("regtest", replace(MempoolPolicy(), max_mempool_bytes=20_000, limits=MempoolLimits.cluster_only(8))),
        ("dev", replace(MempoolPolicy(), max_mempool_bytes=40_000)),
    ],
    ids=["usual", "small", "dev"],
)
def test_random_life(tmp_path: Path, rng: random.Random, network: str, policy: MempoolPolicy) -> None:
    with RegtestNode(tmp_path / "chain", network, policy=policy) as node:
        node.mine(130)
        life = Life(node, rng, tmp_path)
        for action in life.story():
            life.step(action)
            check(node.mempool)
        template = assemble(node.chain, node.mempool, node.lock.script, check=True)
        assert template.fees == sum(item.fee for item in template.transactions)
        # The walk must have been places, or the checks above show little.
        assert life.counts.get("offer: accepted", 0) > 15, life.counts
        assert life.counts.get("mine: block", 0) > 3, life.counts
        assert any(name.startswith("reorganise") for name in life.counts), life.counts
