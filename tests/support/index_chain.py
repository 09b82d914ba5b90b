"""Random chains with reorganisations, and what the optional indexes must say of them, computed from scratch."""

from __future__ import annotations

import random
from collections import defaultdict
from hashlib import sha256

from chain.block_filter import basic_elements, basic_filter, filter_hash, filter_header
from chain.chainstate import Chainstate
from chain.indexes.addresses import AddressIndex, ScriptTotals, script_hash_of
from chain.indexes.base import Index
from chain.indexes.coin_stats import CoinStatsIndex
from chain.indexes.filters import BlockFilterIndex
from chain.indexes.follow import IndexSet
from chain.indexes.transactions import TransactionIndex
from chain.primitives.coin import SCRIPT_OFFSET, coin_height, coin_is_coinbase, coin_value
from chain.primitives.transaction import TxOut
from chain.primitives.types import Amount
from chain.utxo_stats import UtxoHash
from tests.support.regtest import OWNER, RegtestNode
from tests.support.signing import p2wpkh

LOCKS = [OWNER, p2wpkh(b"second"), p2wpkh(b"third")]
ALL_KINDS: tuple[type[Index], ...] = (TransactionIndex, CoinStatsIndex, BlockFilterIndex, AddressIndex)


def open_all(chain: Chainstate, kinds: tuple[type[Index], ...] = ALL_KINDS) -> IndexSet:
    """The indexes where a node has them."""
    return IndexSet(chain, [kind(chain, chain.datadir / "indexes") for kind in kinds])


def catch_up(indexes: IndexSet) -> None:
    """Until nothing is left to do."""
    while indexes.work(0.001):
        pass


def grow(node: RegtestNode, rng: random.Random, blocks: int) -> None:
    """Mine blocks with payments: several outputs, unspendable ones, chains within a block."""
    for _ in range(blocks):
        coins = node.mature()
        transactions = []
        for coin in rng.sample(coins, min(len(coins), rng.randrange(4))):
            extra = [TxOut(Amount(rng.randrange(1000)), b"\x6a" + rng.randbytes(4))] if rng.random() < 0.3 else []
            lock = rng.choice(LOCKS)
            tx = node.transfer([coin], 1000, outputs=rng.randrange(1, 4), lock=lock, extra=extra)
            transactions.append(tx)
            if rng.random() < 0.5:
                transactions.append(node.transfer([node.output(tx, len(extra), lock)], 1000, lock=rng.choice(LOCKS)))
        node.mine_transactions(transactions, extra=rng.randbytes(4))


def reorganise(node: RegtestNode, rng: random.Random, depth: int) -> None:
    """Drop the last blocks and mine others, one more of them."""
    height = node.chain.tip.height - depth + 1
    dropped = node.chain.index.active[height].hash
    node.follow(node.chain.invalidate_block(dropped))
    grow(node, rng, depth + 1)


def check_all(indexes: IndexSet) -> None:
    """Every index against the chain itself."""
    transactions, stats = indexes.find(TransactionIndex), indexes.find(CoinStatsIndex)
    filters, addresses = indexes.find(BlockFilterIndex), indexes.find(AddressIndex)
    if transactions is not None:
        check_transactions(transactions)
    if filters is not None:
        check_filters(filters)
    if addresses is not None:
        check_addresses(addresses)
    if stats is not None:
        check_stats(stats)


def check_transactions(index: TransactionIndex) -> None:
    chain = index._chain
    assert index.synced
    for entry in chain.index.active[1:]:
        for tx in chain.read_block(entry).transactions:
            assert index.find(tx.txid) == (tx, entry)
    assert index.find(chain.params.genesis.transactions[0].txid) is None


def check_stats(index: CoinStatsIndex) -> None:
    chain = index._chain
    assert index.synced
    stats, totals = index.stats(chain.tip), chain.utxo_stats(UtxoHash.MUHASH)
    assert stats is not None
    assert (stats.muhash, stats.outputs, stats.bogo_size, stats.total_amount) == (
        totals.digest,
        totals.outputs,
        totals.bogo_size,
        totals.total_amount,
    )
    subsidy = 0
    for entry in chain.index.active:
        before, now = subsidy, index.stats(entry)
        assert now is not None
        subsidy += 50 * 100_000_000 >> entry.height // 150  # regtest
        made = now.new_outputs_ex_coinbase + now.coinbase + now.unspendable
        assert now.prevout_spent + subsidy - before == made
        assert now.total_amount + now.total_unspendable == subsidy


def check_filters(index: BlockFilterIndex) -> None:
    chain = index._chain
    assert index.synced
    header = bytes(32)
    for entry in chain.index.active:
        encoded = basic_filter(entry.hash, basic_elements(chain.read_block(entry), chain.read_undo(entry)))
        header = filter_header(filter_hash(encoded), header)
        assert index.filter(entry) == encoded
        assert index.header(entry) == (filter_hash(encoded), header)


def check_addresses(index: AddressIndex) -> None:
    chain = index._chain
    assert index.synced
    history: dict[bytes, list[tuple[int, int, bool, int, int, bytes]]] = defaultdict(list)
    for entry in chain.index.active[1:]:
        undo = chain.read_undo(entry)
        for position, tx in enumerate(chain.read_block(entry).transactions):
            for n, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True)):
                if script[:1] != b"\x6a":
                    history[script].append((entry.height, position, False, n, value, tx.txid))
            for n, coin in enumerate(undo[position - 1] if position else []):
                history[coin[SCRIPT_OFFSET:]].append((entry.height, position, True, n, -coin_value(coin), tx.txid))
    unspent: dict[bytes, set[tuple[int, bytes, int, bool]]] = defaultdict(set)
    for outpoint, coin in chain.iterate_coins():
        unspent[coin[SCRIPT_OFFSET:]].add((coin_height(coin), outpoint, coin_value(coin), coin_is_coinbase(coin)))
    stored = index._range(b"t", b"u", 1 << 20)
    assert {key[1:] for key, _ in stored} == {script_hash_of(script) for script in history}
    for script, deltas in history.items():
        script_hash = sha256(script).digest()[:20]
        deltas.sort()
        assert [delta[:6] for delta in index.history(script_hash, 1 << 20)] == deltas
        assert {coin[:4] for coin in index.unspent(script_hash, 1 << 20)} == unspent[script]
        assert index.totals(script_hash) == ScriptTotals(
            sum(delta[4] for delta in deltas),
            sum(max(delta[4], 0) for delta in deltas),
            len(deltas),
            len(unspent[script]),
        )
