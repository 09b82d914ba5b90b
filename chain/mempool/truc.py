"""TRUC transactions, "topologically restricted until confirmation": version 3 (BIP431; Core policy/truc_policy.cpp,
texts letter for letter).

An unconfirmed version 3 transaction has at most one unconfirmed parent, or one child, both of version 3, and a child
is small: replacing it is cheap to reason about. Reorgs may break these rules; nothing here assumes that they hold in
the mempool.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from chain.mempool.entries import MempoolEntry
from chain.mempool.graph import ancestors, descendants
from chain.primitives.transaction import Transaction
from chain.primitives.types import hash_to_hex

TRUC_VERSION: Final = 3
TRUC_ANCESTOR_LIMIT: Final = 2  #: itself included
TRUC_DESCENDANT_LIMIT: Final = 2
TRUC_MAX_VSIZE: Final = 10_000
TRUC_CHILD_MAX_VSIZE: Final = 1_000


def single_truc_violation(
    tx: Transaction, parents: Collection[MempoolEntry], conflicts: Collection[MempoolEntry], vsize: int
) -> tuple[str, MempoolEntry | None] | None:
    """What one transaction with these mempool parents breaks: (debug text, sibling that could be evicted instead), or
    None.

    `conflicts` are the entries that it replaces anyway. `vsize` is sigop-adjusted.
    """
    for parent in parents:
        mixed = _mixed_versions(tx, parent.tx)
        if mixed:
            return mixed, None
    if tx.version != TRUC_VERSION:
        return None
    if vsize > TRUC_MAX_VSIZE:
        return _too_big(tx, vsize), None
    if len(parents) + 1 > TRUC_ANCESTOR_LIMIT:
        return _too_many_ancestors(tx), None
    if not parents:
        return None
    parent = next(iter(parents))
    if len(ancestors(parent)) + 2 > TRUC_ANCESTOR_LIMIT:
        return _too_many_ancestors(tx), None
    if vsize > TRUC_CHILD_MAX_VSIZE:
        return _child_too_big(tx, vsize), None
    siblings = descendants(parent)
    if len(siblings) + 2 > TRUC_DESCENDANT_LIMIT and not any(sibling in conflicts for sibling in siblings):
        # With exactly one sibling, itself without other ancestors, replacing it is well defined; otherwise (after a
        # reorg) it is not.
        sibling = next(iter(siblings))
        evictable = len(siblings) == 1 and len(ancestors(sibling)) == 1
        return _too_many_descendants(parent.tx), sibling if evictable else None
    return None


def package_truc_violation(
    tx: Transaction, vsize: int, package: Sequence[Transaction], mempool_parents: Collection[MempoolEntry]
) -> str | None:
    """What `tx`, a member of a sorted package, breaks by its relations in package and mempool together: debug text,
    or None."""
    spends = {outpoint[:32] for outpoint in tx.prevouts}
    package_parents = []
    for member in package:
        if member is tx:
            break
        if member.txid in spends:
            package_parents.append(member)
    if tx.version != TRUC_VERSION:
        for parent in [*(entry.tx for entry in mempool_parents), *package_parents]:
            mixed = _mixed_versions(tx, parent)
            if mixed:
                return mixed
        return None
    if vsize > TRUC_MAX_VSIZE:
        return _too_big(tx, vsize)
    if len(mempool_parents) + len(package_parents) + 1 > TRUC_ANCESTOR_LIMIT:
        return _too_many_ancestors(tx)
    first = next(iter(mempool_parents), None)
    if first is not None and len(ancestors(first)) + len(package_parents) + 2 > TRUC_ANCESTOR_LIMIT:
        return _too_many_ancestors(tx)
    if first is None and not package_parents:
        return None
    if vsize > TRUC_CHILD_MAX_VSIZE:
        return _child_too_big(tx, vsize)
    parent_tx = first.tx if first is not None else package_parents[0]
    mixed = _mixed_versions(tx, parent_tx)
    if mixed:
        return mixed
    for member in package:
        if member is tx:
            continue
        for outpoint in member.prevouts:
            if outpoint[:32] == parent_tx.txid:
                return _too_many_descendants(parent_tx)
            if outpoint[:32] == tx.txid:
                return _too_many_ancestors(member)
    if first is not None and first.children:
        return _too_many_descendants(parent_tx)
    return None


def _name(tx: Transaction) -> str:
    return f"{hash_to_hex(tx.txid)} (wtxid={hash_to_hex(tx.wtxid)})"


def _mixed_versions(tx: Transaction, parent: Transaction) -> str | None:
    if tx.version != TRUC_VERSION and parent.version == TRUC_VERSION:
        return f"non-version=3 tx {_name(tx)} cannot spend from version=3 tx {_name(parent)}"
    if tx.version == TRUC_VERSION and parent.version != TRUC_VERSION:
        return f"version=3 tx {_name(tx)} cannot spend from non-version=3 tx {_name(parent)}"
    return None


def _too_big(tx: Transaction, vsize: int) -> str:
    return f"version=3 tx {_name(tx)} is too big: {vsize} > {TRUC_MAX_VSIZE} virtual bytes"


def _child_too_big(tx: Transaction, vsize: int) -> str:
    return f"version=3 child tx {_name(tx)} is too big: {vsize} > {TRUC_CHILD_MAX_VSIZE} virtual bytes"


def _too_many_ancestors(tx: Transaction) -> str:
    return f"tx {_name(tx)} would have too many ancestors"


def _too_many_descendants(parent: Transaction) -> str:
    return f"tx {_name(parent)} would exceed descendant count limit"
