"""Everything that must hold for a mempool at any time, worked out again from nothing but its transactions and the
chain."""

from __future__ import annotations

from chain.consensus.tx import check_inputs, is_final
from chain.mempool.accept import relative_locks_met
from chain.mempool.graph import components
from chain.mempool.pool import Mempool


def check(pool: Mempool) -> None:
    """AssertionError if the mempool contradicts itself or the chain."""
    entries = pool.entries
    assert pool.total_fee == sum(entry.fee for entry in entries.values())
    assert pool.total_vsize == sum(entry.vsize for entry in entries.values())
    assert pool.usage == sum(entry.usage for entry in entries.values())
    assert set(pool._by_wtxid.values()) == set(entries.values())
    spends = {}
    tip = pool.chain.tip
    for txid, entry in entries.items():
        tx = entry.tx
        assert tx.txid == txid == entry.txid
        assert pool._by_wtxid[tx.wtxid] is entry
        parents = {entries[outpoint[:32]] for outpoint in tx.prevouts if outpoint[:32] in entries}  # type: ignore[index]
        assert entry.parents == parents
        for outpoint in tx.prevouts:
            assert outpoint not in spends, "two entries spend the same coin"
            spends[outpoint] = entry
        coins = [pool.get_coin(outpoint) for outpoint in tx.prevouts]
        spent = [coin for coin in coins if coin is not None]
        assert len(spent) == len(coins), "an entry spends what does not exist"
        assert check_inputs(tx, spent, tip.height + 1) == entry.fee
        assert entry.modified_fee == entry.fee + pool.deltas.get(txid, 0)
        assert is_final(tx, tip.height + 1, tip.median_time_past())
        assert relative_locks_met(tx, spent, tip)
    for entry in entries.values():
        assert entry.children == {child for child in entries.values() if entry in child.parents}
    assert pool._spenders == spends
    assert pool.unbroadcast <= set(entries)
    check_graph(pool)


def check_graph(pool: Mempool) -> None:
    """Clusters are the components, their linearizations topological, their chunks of falling rate, and the limits
    hold."""
    limits = pool.policy.limits
    parts = {frozenset(part) for part in components(list(pool.entries.values()))}
    assert {frozenset(cluster.entries) for cluster in pool.graph.clusters} == parts
    for cluster in pool.graph.clusters:
        assert all(entry.cluster is cluster for entry in cluster.entries)
        assert cluster.size == sum(entry.adjusted_weight for entry in cluster.entries)
        assert len(cluster.entries) <= limits.cluster_count
        assert cluster.size <= limits.cluster_vsize * 4
        seen = set()
        last = None
        for chunk in pool.graph.chunks_of(cluster):
            assert chunk.fee == sum(entry.modified_fee for entry in chunk.entries)
            assert chunk.size == sum(entry.adjusted_weight for entry in chunk.entries)
            assert last is None or last.fee * chunk.size >= chunk.fee * last.size
            last = chunk
            for entry in chunk.entries:
                assert entry.parents <= seen
                seen.add(entry)
        assert seen == cluster.entries
    order = pool.mining_order()
    assert len(order) == len(pool.entries)
    position = {entry: n for n, entry in enumerate(order)}
    assert all(position[parent] < position[entry] for entry in order for parent in entry.parents)
    if pool.entries:
        worst = pool.graph.worst_chunk()
        lowest = min(
            pool.graph.chunks_of(cluster)[-1].fee / pool.graph.chunks_of(cluster)[-1].size
            for cluster in pool.graph.clusters
        )
        assert worst.fee / worst.size == lowest
