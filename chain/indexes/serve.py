"""Compact filters as peers ask for them: by heights on the way to a block, active or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chain.index import BlockIndexEntry
from chain.indexes.filters import BlockFilterIndex
from chain.indexes.follow import IndexSet
from chain.primitives.types import BlockHash

if TYPE_CHECKING:
    from chain.chainstate import Chainstate


def block_filters(
    chain: Chainstate, indexes: IndexSet, stop: bytes, heights: Sequence[int]
) -> list[tuple[BlockHash, bytes]] | None:
    """See chain.interfaces.FilterReader."""
    index, entries = _entries(chain, indexes, stop, heights)
    if index is None:
        return None
    found = []
    for entry in entries:
        encoded = index.filter(entry)
        if encoded is None:
            return None
        found.append((entry.hash, encoded))
    return found


def filter_headers(
    chain: Chainstate, indexes: IndexSet, stop: bytes, heights: Sequence[int]
) -> list[tuple[bytes, bytes]] | None:
    """See chain.interfaces.FilterReader."""
    index, entries = _entries(chain, indexes, stop, heights)
    if index is None:
        return None
    found = []
    for entry in entries:
        header = index.header(entry)
        if header is None:
            return None
        found.append((header.hash, header.header))
    return found


def _entries(
    chain: Chainstate, indexes: IndexSet, stop: bytes, heights: Sequence[int]
) -> tuple[BlockFilterIndex | None, list[BlockIndexEntry]]:
    index, last = indexes.find(BlockFilterIndex), chain.index.get(stop)
    if index is None or last is None:
        return None, []
    indexes.until_synced(index)
    entries = [last.ancestor(height) for height in heights]
    known = [entry for entry in entries if entry is not None]
    return (index, known) if len(known) == len(entries) else (None, [])
