"""-blockfilterindex: the BIP158 basic filter of every block, with its hash and the header that chains it to the filters
before it (BIP157).

Filters of blocks that left the active chain stay, as in Core.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from chain.block_filter import GENESIS_PREV_HEADER, basic_elements, basic_filter, filter_hash, filter_header
from chain.index import BlockIndexEntry
from chain.indexes.base import Index, Undo
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault

_HEADERS: Final = b"h"  #: + key of a block: filter hash, filter header
_FILTERS: Final = b"f"  #: + key of a block: the filter as it is served


class FilterHeader(NamedTuple):
    """What a block's filter is checked by."""

    hash: bytes  #: of the filter
    header: bytes  #: of it and all before it


class BlockFilterIndex(Index):
    """Keys: kind, height (u32 BE, so that blocks lie in order), block hash."""

    title = "basic block filter index"
    option = "blockfilterindex"
    folder = "blockfilter/basic"
    version = 1
    needs_undo = True
    rewinds = False

    def _connect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        prev_header = GENESIS_PREV_HEADER
        if entry.prev is not None:
            before = self.header(entry.prev)
            if before is None:
                raise LocalFault(f"{self.path} lacks a filter header: remove the index (`pickaxe index remove`)")
            prev_header = before.header
        encoded = basic_filter(entry.hash, basic_elements(block, undo))
        hash_ = filter_hash(encoded)
        key = _key(entry)
        self._put(_HEADERS + key, hash_ + filter_header(hash_, prev_header))
        self._put(_FILTERS + key, encoded)

    def header(self, entry: BlockIndexEntry) -> FilterHeader | None:
        """Of one block, active or not; None if it was not taken."""
        record = self._get(_HEADERS + _key(entry))
        return None if record is None else FilterHeader(record[:32], record[32:])

    def filter(self, entry: BlockIndexEntry) -> bytes | None:
        """The filter of one block, active or not; None if it was not taken."""
        return self._get(_FILTERS + _key(entry))


def _key(entry: BlockIndexEntry) -> bytes:
    return entry.height.to_bytes(4, "big") + entry.hash
