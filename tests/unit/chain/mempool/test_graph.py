"""Clusters, linearizations and fee-rate diagrams, against definitions worked out by brute force."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

import pytest

from chain.mempool.entries import MempoolEntry
from chain.mempool.graph import (
    ClusterGraph,
    ancestors,
    chunk,
    components,
    descendants,
    improves_diagram,
    linearize,
)
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint


def entry(number: int, fee: int, weight: int) -> MempoolEntry:
    tx = Transaction.build(2, [TxIn(OutPoint(number.to_bytes(36, "big")))], [TxOut(Amount(0), b"")], number)
    return MempoolEntry(
        tx,
        fee=fee,
        modified_fee=fee,
        weight=weight,
        adjusted_weight=weight,
        sigop_cost=0,
        time=0,
        height=0,
        sequence=number,
        spends_coinbase=False,
        has_relative_lock=False,
    )


def random_graph(rng: random.Random, count: int, links: int) -> tuple[ClusterGraph, list[MempoolEntry]]:
    graph = ClusterGraph()
    entries: list[MempoolEntry] = []
    for number in range(count):
        new = entry(number, rng.randrange(1, 50), rng.randrange(1, 20))
        graph.add(new, set(rng.sample(entries, rng.randint(0, min(links, len(entries))))))
        entries.append(new)
    return graph, entries


def topological_orders(entries: list[MempoolEntry]) -> Iterator[tuple[MempoolEntry, ...]]:
    for order in permutations(entries):
        seen: set[MempoolEntry] = set()
        for item in order:
            if not item.parents <= seen:
                break
            seen.add(item)
        else:
            yield order


def test_chain_and_its_relations() -> None:
    graph = ClusterGraph()
    a, b, c = entry(1, 1, 1), entry(2, 1, 1), entry(3, 1, 1)
    graph.add(a, [])
    graph.add(b, [a])
    graph.add(c, [b])
    assert (ancestors(c), descendants(a)) == ({a, b}, {b, c})
    assert list(graph.clusters) == [a.cluster]
    graph.remove([b])
    assert (a.children, c.parents) == (set(), set())
    assert {frozenset(cluster.entries) for cluster in graph.clusters} == {frozenset([a]), frozenset([c])}


def test_child_pays_for_parents_in_one_chunk() -> None:
    parents = [entry(1, 0, 400), entry(2, 10, 400)]
    graph = ClusterGraph()
    for parent in parents:
        graph.add(parent, [])
    child = entry(3, 10_000, 400)
    graph.add(child, parents)
    (only,) = graph.chunks_of(child.cluster)
    assert (only.fee, only.size, only.entries[-1]) == (10_010, 1200, child)


def test_two_children_together_pay_for_a_parent() -> None:
    parent, left, right = entry(1, 0, 1000), entry(2, 900, 100), entry(3, 800, 100)
    graph = ClusterGraph()
    graph.add(parent, [])
    graph.add(left, [parent])
    graph.add(right, [parent])
    assert [(piece.fee, piece.size) for piece in graph.chunks_of(parent.cluster)] == [(1700, 1200)]


def test_best_ancestor_set_goes_first(rng: random.Random) -> None:
    for _ in range(200):
        _, entries = random_graph(rng, rng.randrange(2, 8), 3)
        order = linearize(entries)
        assert sorted(order, key=id) == sorted(entries, key=id)
        seen: set[MempoolEntry] = set()
        for item in order:
            assert item.parents <= seen
            seen.add(item)
        best = max(
            Fraction(
                sum(e.modified_fee for e in ancestors(item) | {item}),
                sum(e.adjusted_weight for e in ancestors(item) | {item}),
            )
            for item in entries
        )
        first = chunk(order)[0]
        assert Fraction(first.fee, first.size) >= best


def test_order_depends_on_nothing_but_the_transactions(rng: random.Random) -> None:
    _, entries = random_graph(rng, 20, 3)
    expected = linearize(entries)
    for _ in range(5):
        rng.shuffle(entries)
        assert linearize(set(entries)) == expected


def test_chunks_partition_and_fall(rng: random.Random) -> None:
    for _ in range(100):
        _, entries = random_graph(rng, rng.randrange(1, 30), 2)
        chunks = chunk(linearize(entries))
        rates = [Fraction(piece.fee, piece.size) for piece in chunks]
        assert rates == sorted(rates, reverse=True)
        assert sum(piece.fee for piece in chunks) == sum(e.modified_fee for e in entries)
        assert sum(len(piece.entries) for piece in chunks) == len(entries)


def test_diagram_is_close_to_the_best_possible(rng: random.Random) -> None:
    """Ancestor selection is a heuristic; of small clusters nearly all diagrams must be optimal and none better than
    the best."""
    optimal = total = 0
    for _ in range(60):
        _, entries = random_graph(rng, rng.randrange(2, 6), 2)
        ours = [(piece.fee, piece.size) for piece in chunk(linearize(entries))]
        others = [[(p.fee, p.size) for p in chunk(order)] for order in topological_orders(entries)]
        assert any(other == ours for other in others)
        optimal += not any(improves_diagram(ours, other) for other in others)
        total += 1
    assert optimal >= total * 0.9


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        ([], [(1, 1)], True),
        ([(1, 1)], [], False),
        ([(10, 10)], [(10, 10)], False),
        ([(10, 10)], [(11, 10)], True),
        ([(10, 10)], [(10, 9)], True),
        ([(10, 10)], [(10, 11)], False),
        ([(10, 5), (10, 10)], [(20, 15)], False),
        ([(20, 15)], [(10, 5), (10, 10)], True),
        ([(100, 10)], [(60, 5), (30, 10)], False),  # better early, worse in the end
        ([(10, 10), (1, 1)], [(12, 11)], True),
        ([(0, 100)], [(0, 1)], False),
        ([(5, 5)], [(5, 5), (1, 100)], True),
        ([(5, 5)], [(5, 5), (-1, 1)], False),
    ],
)
def test_comparing_diagrams(before: list[tuple[int, int]], after: list[tuple[int, int]], better: bool) -> None:
    assert improves_diagram(before, after) is better


def test_mining_order_merges_clusters_by_rate(rng: random.Random) -> None:
    graph, entries = random_graph(rng, 200, 1)
    chunks = graph.mining_order()
    rates = [Fraction(piece.fee, piece.size) for piece in chunks]
    assert rates == sorted(rates, reverse=True)
    seen: set[MempoolEntry] = set()
    for piece in chunks:
        for item in piece.entries:
            assert item.parents <= seen
            seen.add(item)
    assert seen == set(entries)


def test_worst_chunk_follows_every_change(rng: random.Random) -> None:
    graph, entries = random_graph(rng, 60, 2)
    number = len(entries)
    while entries:
        worst = graph.worst_chunk()
        rate = Fraction(worst.fee, worst.size)
        assert rate == min(Fraction(p.fee, p.size) for c in graph.clusters for p in graph.chunks_of(c))
        action = rng.randrange(4)
        if action == 0 and number < 200:
            new = entry(number, rng.randrange(1, 50), rng.randrange(1, 20))
            number += 1
            graph.add(new, set(rng.sample(entries, min(2, len(entries)))))
            entries.append(new)
        elif action == 1:
            changed = rng.choice(entries)
            changed.modified_fee = rng.randrange(1, 50)
            graph.fee_changed(changed)
        else:
            graph.remove(worst.entries)
            entries = [item for item in entries if item not in worst.entries]
        assert {frozenset(c.entries) for c in graph.clusters} == {frozenset(part) for part in components(entries)}


def test_oversized_cluster_keeps_its_best_part() -> None:
    graph = ClusterGraph()
    root = entry(0, 1, 100)
    graph.add(root, [])
    leaves = [entry(n, 100 * n, 100) for n in range(1, 10)]
    for leaf in leaves:
        graph.add(leaf, [root])
    assert graph.oversized(10, 10_000) == []
    assert set(graph.oversized(4, 10_000)) == set(leaves[:6])
    assert set(graph.oversized(10, 350)) == set(leaves[:7])
