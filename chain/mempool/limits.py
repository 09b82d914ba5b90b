"""How many unconfirmed transactions may hang together, so that work on the mempool's graph stays bounded.

Two regimes, see `MempoolLimits`: clusters, as Core 31 ("too-large-cluster"), and ancestors and descendants, as Core
up to 30 ("too-long-mempool-chain", texts letter for letter).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from chain.mempool.entries import MempoolEntry
from chain.mempool.errors import PolicyError, TxResult
from chain.mempool.graph import ancestors_of, descendants
from chain.mempool.policy import MempoolLimits
from chain.primitives.types import hash_to_hex

if TYPE_CHECKING:
    from chain.mempool.pool import Mempool

#: Beyond the descendant limits one more child of at most this size with a single ancestor is let in, so that either
#: party of a contract can bump a shared transaction (Core's carve-out).
EXTRA_DESCENDANT_VSIZE: Final = 10_000


def check(pool: Mempool, entry: MempoolEntry, parents: Collection[MempoolEntry], *, chains: bool = True) -> None:
    """Whether a newcomer with these parents, replacing nothing, keeps the limits; PolicyError if not. Without `chains`
    only the cluster limits are asked: what was in a block already is not lost for its relatives."""
    if not parents:
        check_sizes(pool, 1, entry.adjusted_weight)
        return
    clusters = {parent.cluster for parent in parents}
    count = sum(len(cluster.entries) for cluster in clusters) + 1
    weight = sum(cluster.size for cluster in clusters) + entry.adjusted_weight
    if chains:
        check_chains(pool.policy.limits, entry, parents, frozenset(), count, weight)
    check_sizes(pool, count, weight)


def check_staged(
    pool: Mempool,
    entry: MempoolEntry,
    parents: Collection[MempoolEntry],
    removed: Collection[MempoolEntry],
    clusters: Sequence[Collection[MempoolEntry]],
) -> None:
    """The same for a newcomer that replaces `removed`; `clusters` are the components that would be there
    (`rbf.staged_clusters`)."""
    own = next(cluster for cluster in clusters if entry in cluster)
    weight = sum(member.adjusted_weight for member in own)
    check_chains(pool.policy.limits, entry, parents, removed, len(own), weight)
    check_sizes(pool, len(own), weight)


def check_sizes(pool: Mempool, count: int, weight: int) -> None:
    """Cluster limits for a cluster of `count` members and this sigop-adjusted weight."""
    limits = pool.policy.limits
    if count > limits.cluster_count or weight > limits.cluster_vsize * 4:
        raise PolicyError("too-large-cluster", "", TxResult.MEMPOOL_POLICY)


def check_chains(
    limits: MempoolLimits,
    entry: MempoolEntry,
    parents: Collection[MempoolEntry],
    removed: Collection[MempoolEntry],
    count: int,
    weight: int,
) -> None:
    """Ancestor and descendant limits, itself included. `count` and `weight` of its cluster bound all of them: mostly
    no walk is needed."""
    bounds = (limits.ancestor_count, limits.ancestor_vsize, limits.descendant_count, limits.descendant_vsize)
    counts = [bound for bound in (bounds[0], bounds[2]) if bound is not None]
    sizes = [bound for bound in (bounds[1], bounds[3]) if bound is not None]
    # A sum of rounded-up vsizes is at most 3/4 vbyte a member above the cluster's weight in vbytes.
    if count <= min(counts, default=count) and (weight + 3 * count) // 4 <= min(sizes, default=weight):
        return
    problem = _chain_problem(limits, entry, parents, removed, 0, 0)
    if problem is None:
        return
    if entry.vsize <= EXTRA_DESCENDANT_VSIZE and _carve_out(limits, entry, parents, removed):
        return
    raise PolicyError("too-long-mempool-chain", problem, TxResult.MEMPOOL_POLICY)


def check_package(
    limits: MempoolLimits,
    ancestors: Collection[MempoolEntry],
    added: Collection[MempoolEntry],
    removed: Collection[MempoolEntry],
) -> None:
    """Ancestor and descendant limits for a package, on the safe side: as if each member descended from all others and
    from all `ancestors` that the package has in the mempool (Core up to 30: CheckPackageLimits)."""
    count = len(added)
    vsize = sum(entry.vsize for entry in added)
    for bound, what in ((limits.ancestor_count, "ancestor"), (limits.descendant_count, "descendant")):
        if bound is not None and count > bound:
            raise _package_limit(f"package count {count} exceeds {what} count limit [limit: {bound}]")
    for bound, what in ((limits.ancestor_vsize, "ancestor"), (limits.descendant_vsize, "descendant")):
        if bound is not None and vsize > bound:
            raise _package_limit(f"package size {vsize} exceeds {what} size limit [limit: {bound}]")
    for ancestor in sorted(ancestors, key=lambda e: e.txid):
        below = [member for member in descendants(ancestor) if member not in removed]
        name = hash_to_hex(ancestor.txid)
        size = sum(member.vsize for member in below) + ancestor.vsize + vsize
        if limits.descendant_vsize is not None and size > limits.descendant_vsize:
            raise _package_limit(f"exceeds descendant size limit for tx {name} [limit: {limits.descendant_vsize}]")
        if limits.descendant_count is not None and len(below) + 1 + count > limits.descendant_count:
            raise _package_limit(f"too many descendants for tx {name} [limit: {limits.descendant_count}]")
    size = sum(ancestor.vsize for ancestor in ancestors) + vsize
    if limits.ancestor_vsize is not None and size > limits.ancestor_vsize:
        raise _package_limit(f"exceeds ancestor size limit [limit: {limits.ancestor_vsize}]")
    if limits.ancestor_count is not None and len(ancestors) + count > limits.ancestor_count:
        raise _package_limit(f"too many unconfirmed ancestors [limit: {limits.ancestor_count}]")


def _package_limit(problem: str) -> PolicyError:
    return PolicyError("package-mempool-limits", problem, TxResult.MEMPOOL_POLICY)


def _carve_out(
    limits: MempoolLimits,
    entry: MempoolEntry,
    parents: Collection[MempoolEntry],
    removed: Collection[MempoolEntry],
) -> bool:
    if len(ancestors_of(parents)) != 1:
        return False
    return _chain_problem(limits, entry, parents, removed, 1, EXTRA_DESCENDANT_VSIZE) is None


def _chain_problem(
    limits: MempoolLimits,
    entry: MempoolEntry,
    parents: Collection[MempoolEntry],
    removed: Collection[MempoolEntry],
    extra_count: int,
    extra_vsize: int,
) -> str | None:
    ancestors = ancestors_of(parents)
    for ancestor in sorted(ancestors, key=lambda e: e.txid):
        below = [member for member in descendants(ancestor) if member not in removed]
        name = hash_to_hex(ancestor.txid)
        vsize = sum(member.vsize for member in below) + ancestor.vsize + entry.vsize
        if limits.descendant_vsize is not None and vsize > limits.descendant_vsize + extra_vsize:
            return f"exceeds descendant size limit for tx {name} [limit: {limits.descendant_vsize}]"
        if limits.descendant_count is not None and len(below) + 2 > limits.descendant_count + extra_count:
            return f"too many descendants for tx {name} [limit: {limits.descendant_count}]"
    vsize = sum(ancestor.vsize for ancestor in ancestors) + entry.vsize
    if limits.ancestor_vsize is not None and vsize > limits.ancestor_vsize:
        return f"exceeds ancestor size limit [limit: {limits.ancestor_vsize}]"
    if limits.ancestor_count is not None and len(ancestors) + 1 > limits.ancestor_count:
        return f"too many unconfirmed ancestors [limit: {limits.ancestor_count}]"
    return None
