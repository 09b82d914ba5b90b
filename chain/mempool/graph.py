"""The mempool's graph: clusters of connected transactions, and the order in which a miner would take them.

A cluster is a connected component. Its linearization is a topological order made greedily: of all ancestor sets the
one with the best fee rate first, and so on. Cut into chunks (neighbours merge while the later one pays the better
rate), it gives falling fee rates within the cluster, and the chunks of all clusters sorted by fee rate are the mining
order of the whole mempool. Block assembly takes them from the top, the size limit from the bottom, and replacement
compares the diagrams of before and after (the ideas of Core's txgraph, `cluster_linearize.h`; this code uses
ancestor-set selection, which is not always optimal). Fees are modified fees, sizes are sigop-adjusted weights.

Nothing is computed until someone asks: a change marks its clusters, and only those are linearized again.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from chain.mempool.entries import MempoolEntry


class Chunk(NamedTuple):
    """Transactions that are mined together or not at all: satoshi, sigop-adjusted weight, members in topological
    order."""

    fee: int
    size: int
    entries: list[MempoolEntry]


class Cluster:
    """A connected component. `chunks` is None while it waits to be linearized; `size` is its sigop-adjusted weight."""

    __slots__ = ("chunks", "entries", "size", "stamp")

    def __init__(self, entries: set[MempoolEntry], size: int) -> None:
        self.entries = entries
        self.size = size
        self.chunks: list[Chunk] | None = None
        self.stamp = -1  #: which item of the eviction heap is the valid one; -1 when none


class ClusterGraph:
    """All clusters of a mempool."""

    def __init__(self) -> None:
        self.clusters: dict[Cluster, None] = {}  # in order of making, so that equal fee rates have one order
        self._worst: list[
            tuple[float, int, Cluster]
        ] = []  # lazy heap of last chunks: items with an old stamp are skipped
        self._unranked: dict[Cluster, None] = {}  # clusters whose last chunk is not in the heap
        self._stamps = count()

    def add(self, entry: MempoolEntry, parents: Collection[MempoolEntry]) -> None:
        """Insert an entry that spends outputs of `parents` (all of them in the graph) and has no children there."""
        cluster = Cluster({entry}, entry.adjusted_weight)
        entry.cluster = cluster
        self.clusters[cluster] = None
        self._unranked[cluster] = None
        for parent in parents:
            self.link(parent, entry)

    def link(self, parent: MempoolEntry, child: MempoolEntry) -> None:
        """Record that `child` spends an output of `parent`. After a reorg this can join clusters beyond their limit:
        see `oversized`."""
        parent.children.add(child)
        child.parents.add(parent)
        keep, merge = parent.cluster, child.cluster
        if keep is not merge:
            if len(keep.entries) < len(merge.entries):
                keep, merge = merge, keep
            keep.entries |= merge.entries
            keep.size += merge.size
            for entry in merge.entries:
                entry.cluster = keep
            self._drop(merge)
        self._touch(keep)

    def remove(self, entries: Collection[MempoolEntry]) -> None:
        """Take entries out, whatever their relations, and split the clusters that they held together."""
        affected: set[Cluster] = set()
        for entry in entries:
            cluster = entry.cluster
            affected.add(cluster)
            cluster.entries.discard(entry)
            cluster.size -= entry.adjusted_weight
            for parent in entry.parents:
                parent.children.discard(entry)
            for child in entry.children:
                child.parents.discard(entry)
            entry.parents = set()
            entry.children = set()
        for cluster in affected:
            rest = cluster.entries
            if len(rest) < 2:
                if rest:
                    self._touch(cluster)
                else:
                    self._drop(cluster)
                continue
            parts = components(rest)
            if len(parts) == 1:
                self._touch(cluster)
                continue
            self._drop(cluster)
            for part in parts:
                split = Cluster(part, sum(entry.adjusted_weight for entry in part))
                for entry in part:
                    entry.cluster = split
                self.clusters[split] = None
                self._unranked[split] = None

    def fee_changed(self, entry: MempoolEntry) -> None:
        """Forget the order of a cluster whose fees changed."""
        self._touch(entry.cluster)

    def oversized(self, max_count: int, max_size: int) -> list[MempoolEntry]:
        """After a reorg: the entries to remove, so that every cluster has at most `max_count` members and `max_size`
        weight.

        Walks an offending cluster in mining order and keeps what still fits, never a child without its parents.
        """
        excess: list[MempoolEntry] = []
        for cluster in self.clusters:
            if len(cluster.entries) <= max_count and cluster.size <= max_size:
                continue
            groups: dict[MempoolEntry, tuple[set[MempoolEntry], int]] = {}
            for entry in linearize(cluster.entries):
                joined = {id(groups[p][0]): groups[p] for p in entry.parents if p in groups}
                members = sum(len(group[0]) for group in joined.values()) + 1
                size = sum(group[1] for group in joined.values()) + entry.adjusted_weight
                if (
                    len(entry.parents) > sum(p in groups for p in entry.parents)
                    or members > max_count
                    or size > max_size
                ):
                    excess.append(entry)
                    continue
                merged = {entry}
                for group in joined.values():
                    merged |= group[0]
                for member in merged:
                    groups[member] = (merged, size)
        return excess

    def chunks_of(self, cluster: Cluster) -> list[Chunk]:
        """The chunks of one cluster, best first."""
        chunks = cluster.chunks
        if chunks is None:
            members = cluster.entries
            if len(members) == 1:
                (entry,) = members
                chunks = [Chunk(entry.modified_fee, entry.adjusted_weight, [entry])]
            else:
                chunks = chunk(linearize(members))
            cluster.chunks = chunks
        return chunks

    def mining_order(self) -> list[Chunk]:
        """All chunks, best fee rate first; chunks of one cluster keep their order (their rates never rise, and
        sorting is stable)."""
        chunks: list[Chunk] = []
        for cluster in self.clusters:
            ready = cluster.chunks
            chunks += ready if ready is not None else self.chunks_of(cluster)
        # A quotient of integers is rounded correctly, hence monotone: equal rates never come out in the wrong order.
        chunks.sort(key=_fee_rate, reverse=True)
        return chunks

    def worst_chunk(self) -> Chunk:
        """The chunk that a miner would take last. The graph must not be empty."""
        heap = self._worst
        for cluster in self._unranked:
            cluster.stamp = next(self._stamps)
            heapq.heappush(heap, (_fee_rate(self.chunks_of(cluster)[-1]), cluster.stamp, cluster))
        self._unranked.clear()
        while True:
            _, stamp, cluster = heap[0]
            if stamp == cluster.stamp:
                return self.chunks_of(cluster)[-1]
            heapq.heappop(heap)

    def _touch(self, cluster: Cluster) -> None:
        cluster.chunks = None
        cluster.stamp = -1
        self._unranked[cluster] = None

    def _drop(self, cluster: Cluster) -> None:
        cluster.stamp = -1
        self.clusters.pop(cluster, None)
        self._unranked.pop(cluster, None)


def components(entries: Collection[MempoolEntry]) -> list[set[MempoolEntry]]:
    """The connected components of the graph that `entries` span, looking at relations among them only."""
    left = set(entries)
    parts = []
    while left:
        first = left.pop()
        part = {first}
        frontier = [first]
        while frontier:
            entry = frontier.pop()
            for near in (entry.parents, entry.children):
                for other in near:
                    if other in left:
                        left.remove(other)
                        part.add(other)
                        frontier.append(other)
        parts.append(part)
    return parts


def ancestors(entry: MempoolEntry) -> set[MempoolEntry]:
    """All unconfirmed ancestors, without the entry itself."""
    return ancestors_of(entry.parents)


def ancestors_of(parents: Iterable[MempoolEntry]) -> set[MempoolEntry]:
    """The parents and all their ancestors."""
    found = set(parents)
    frontier = list(found)
    while frontier:
        for parent in frontier.pop().parents:
            if parent not in found:
                found.add(parent)
                frontier.append(parent)
    return found


def descendants(entry: MempoolEntry) -> set[MempoolEntry]:
    """All descendants, without the entry itself."""
    found: set[MempoolEntry] = set()
    frontier = [entry]
    while frontier:
        for child in frontier.pop().children:
            if child not in found:
                found.add(child)
                frontier.append(child)
    return found


def linearize(
    entries: Collection[MempoolEntry], extra_parents: dict[MempoolEntry, set[MempoolEntry]] | None = None
) -> list[MempoolEntry]:
    """A topological order of `entries`, best ancestor set first (relations to others are ignored).

    `extra_parents` stands in for the `parents` of entries that are not in the graph yet. Equal rates go by smaller
    set, then by txid, so that the order depends on nothing but the transactions. Cost: quadratic in the number of
    entries.
    """
    if len(entries) == 1:
        return list(entries)
    order = _topological(entries, extra_parents)
    position = {entry: i for i, entry in enumerate(order)}
    masks: list[int] = []  # bit i: order[i] is an ancestor, or the entry itself
    for i, entry in enumerate(order):
        mask = 1 << i
        for parent in _parents(entry, extra_parents):
            at = position.get(parent)
            if at is not None:
                mask |= masks[at]
        masks.append(mask)
    fees = [entry.modified_fee for entry in order]
    sizes = [entry.adjusted_weight for entry in order]
    left = list(range(len(order)))
    set_fees = [sum(fees[j] for j in _bits(mask)) for mask in masks]
    set_sizes = [sum(sizes[j] for j in _bits(mask)) for mask in masks]
    result: list[MempoolEntry] = []
    while left:
        best = left[0]
        for i in left:
            difference = set_fees[i] * set_sizes[best] - set_fees[best] * set_sizes[i]
            if difference > 0 or (
                difference == 0 and (set_sizes[i], order[i].txid) < (set_sizes[best], order[best].txid)
            ):
                best = i
        taken = masks[best]
        result += [order[j] for j in _bits(taken)]  # lower bits come earlier in a topological order
        left = [i for i in left if not taken >> i & 1]
        for i in left:
            shared = masks[i] & taken
            if shared:
                masks[i] &= ~taken
                for j in _bits(shared):
                    set_fees[i] -= fees[j]
                    set_sizes[i] -= sizes[j]
    return result


def chunk(order: Iterable[MempoolEntry]) -> list[Chunk]:
    """Cut a linearization into chunks of falling fee rate."""
    chunks: list[Chunk] = []
    for entry in order:
        fee, size, members = entry.modified_fee, entry.adjusted_weight, [entry]
        while chunks and fee * chunks[-1].size > chunks[-1].fee * size:
            last = chunks.pop()
            fee += last.fee
            size += last.size
            members = last.entries + members
        chunks.append(Chunk(fee, size, members))
    return chunks


def improves_diagram(before: Iterable[tuple[int, int]], after: Iterable[tuple[int, int]]) -> bool:
    """Whether `after` is strictly better: its cumulative fee is nowhere lower and somewhere higher (Core's
    CompareChunks).

    Both are (fee, size) chunks; each is sorted by falling rate here. Beyond its last chunk a diagram stays level.
    """
    old, new = _diagram(before), _diagram(after)
    better = False
    for points, others, sign in ((new, old, 1), (old, new, -1)):
        for size, fee in points:
            difference = sign * _compare_at(others, size, fee)
            if difference < 0:
                return False
            better = better or difference > 0
    return better


def _diagram(chunks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    points = [(0, 0)]
    for fee, size in sorted(chunks, key=lambda c: Fraction(c[0], c[1]), reverse=True):
        points.append((points[-1][0] + size, points[-1][1] + fee))
    return points


def _compare_at(points: list[tuple[int, int]], size: int, fee: int) -> int:
    """The sign of `fee` less the diagram's height at `size`."""
    previous = points[0]
    for point in points[1:]:
        if point[0] >= size:
            span = point[0] - previous[0]
            difference = (fee - previous[1]) * span - (point[1] - previous[1]) * (size - previous[0])
            return (difference > 0) - (difference < 0)
        previous = point
    return (fee > previous[1]) - (fee < previous[1])


def _fee_rate(item: Chunk) -> float:
    return item.fee / item.size


def _bits(mask: int) -> list[int]:
    positions = []
    while mask:
        low = mask & -mask
        positions.append(low.bit_length() - 1)
        mask ^= low
    return positions


def _parents(
    entry: MempoolEntry, extra_parents: dict[MempoolEntry, set[MempoolEntry]] | None
) -> Collection[MempoolEntry]:
    if extra_parents is not None and entry in extra_parents:
        return extra_parents[entry]
    return entry.parents


def _topological(
    entries: Collection[MempoolEntry], extra_parents: dict[MempoolEntry, set[MempoolEntry]] | None
) -> list[MempoolEntry]:
    """Parents before children; ties in the order of txids."""
    members = set(entries)
    waiting: dict[MempoolEntry, int] = {}
    children: dict[MempoolEntry, list[MempoolEntry]] = {}
    for entry in members:
        inside = [parent for parent in _parents(entry, extra_parents) if parent in members]
        waiting[entry] = len(inside)
        for parent in inside:
            children.setdefault(parent, []).append(entry)
    ready = sorted(
        (entry for entry, missing in waiting.items() if not missing), key=lambda entry: entry.txid, reverse=True
    )
    order = []
    while ready:
        entry = ready.pop()
        order.append(entry)
        freed = []
        for child in children.get(entry, ()):
            waiting[child] -= 1
            if not waiting[child]:
                freed.append(child)
        ready += sorted(freed, key=lambda e: e.txid, reverse=True)
    return order
