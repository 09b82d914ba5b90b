"""Replacing unconfirmed transactions by better paying ones (Core 31's policy/rbf.cpp: full RBF, no signalling asked
for; texts letter for letter).

The rules, with their old BIP125 numbers: pay at least what all that is removed paid (3), and the incremental relay
fee for the newcomer's own size on top (4); disturb no more than 100 clusters (5); and leave the mempool's fee-rate
diagram strictly better, which replaces BIP125's rules 1 and 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from chain.mempool.entries import MempoolEntry
from chain.mempool.graph import Cluster, ClusterGraph, chunk, components, descendants, improves_diagram, linearize
from chain.mempool.policy import fee_at
from chain.primitives.amount import format_amount
from chain.primitives.types import hash_to_hex

MAX_REPLACEMENT_CANDIDATES: Final = 100
MAX_BIP125_RBF_SEQUENCE: Final = 0xFFFFFFFD

DIAGRAM_FAILURE: Final = "insufficient feerate: does not improve feerate diagram"


def signals_rbf(sequences: Iterable[int]) -> bool:
    """Whether a transaction with these sequence numbers opts in to replacement (BIP125). Reported by RPCs; no rule
    here asks."""
    return any(sequence <= MAX_BIP125_RBF_SEQUENCE for sequence in sequences)


def too_many_replacements(txid: bytes, conflicts: Collection[MempoolEntry]) -> str | None:
    """Rule 5, counted in clusters that the direct conflicts lie in."""
    clusters = len({entry.cluster for entry in conflicts})
    if clusters > MAX_REPLACEMENT_CANDIDATES:
        return (
            f"rejecting replacement {hash_to_hex(txid)}; too many conflicting clusters "
            f"({clusters} > {MAX_REPLACEMENT_CANDIDATES})"
        )
    return None


def with_descendants(conflicts: Iterable[MempoolEntry]) -> set[MempoolEntry]:
    """The direct conflicts and all that must leave with them."""
    removed: set[MempoolEntry] = set()
    for entry in conflicts:
        if entry not in removed:
            removed.add(entry)
            removed |= descendants(entry)
    return removed


def does_not_pay(original_fees: int, replacement_fees: int, vsize: int, relay_rate: int, txid: bytes) -> str | None:
    """Rules 3 and 4. Fees in satoshi, `vsize` in virtual bytes, `relay_rate` in satoshi per kvB."""
    if replacement_fees < original_fees:
        return (
            f"rejecting replacement {hash_to_hex(txid)}, less fees than conflicting txs; "
            f"{_money(replacement_fees)} < {_money(original_fees)}"
        )
    additional, needed = replacement_fees - original_fees, fee_at(relay_rate, vsize)
    if additional < needed:
        return (
            f"rejecting replacement {hash_to_hex(txid)}, not enough additional fees to relay; "
            f"{_money(additional)} < {_money(needed)}"
        )
    return None


def staged_clusters(
    removed: set[MempoolEntry], added: dict[MempoolEntry, set[MempoolEntry]]
) -> tuple[set[Cluster], list[set[MempoolEntry]]]:
    """The clusters that a change touches, and the components that would be there instead.

    `added` maps each new entry (not in the graph) to its parents, in the graph or new themselves.
    """
    before = {entry.cluster for entry in removed}
    for parents in added.values():
        before.update(parent.cluster for parent in parents if parent not in added)
    rest = {entry for cluster in before for entry in cluster.entries if entry not in removed}
    if not added:
        return before, components(rest)
    # Components of the old part first: a new entry then joins those that hold its parents.
    groups = components(rest)
    for entry, parents in added.items():
        joined = {entry}
        apart = []
        for group in groups:
            if parents.isdisjoint(group):
                apart.append(group)
            else:
                joined |= group
        groups = [*apart, joined]
    return before, groups


def improves(
    graph: ClusterGraph,
    before: set[Cluster],
    after: list[set[MempoolEntry]],
    added: dict[MempoolEntry, set[MempoolEntry]],
) -> bool:
    """Whether the change makes the mempool's fee-rate diagram strictly better (clusters that it does not touch cancel
    out)."""
    old = [(piece.fee, piece.size) for cluster in before for piece in graph.chunks_of(cluster)]
    new = [(piece.fee, piece.size) for group in after for piece in chunk(linearize(group, added))]
    return improves_diagram(old, new)


def _money(value: int) -> str:
    """Core's FormatMoney: at least two decimals, no more zeros than that."""
    text = format_amount(value)
    whole, decimals = text.split(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"
