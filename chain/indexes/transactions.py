"""-txindex: from a txid to the block that holds the transaction, and where in it.

The index forgets nothing: a transaction whose block was reorganised away is still found in that block, until it is
confirmed elsewhere (as in Core).
"""

from __future__ import annotations

import struct
from typing import Final

from chain.index import BlockIndexEntry
from chain.indexes.base import Index, Undo
from chain.primitives.block import Block
from chain.primitives.serialize import write_compact_size
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash

_RECORD: Final = struct.Struct("<32sII")  #: block hash, offset in the block's bytes, length
_HEADER_SIZE: Final = 80


class TransactionIndex(Index):
    """Key: txid. Value: see _RECORD."""

    title = "txindex"
    option = "txindex"
    folder = "txindex"
    version = 1
    needs_undo = False
    rewinds = False

    def _connect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        if not entry.height:
            return  # the genesis block's transaction is no ordinary one
        offset = _HEADER_SIZE + len(write_compact_size(len(block.transactions)))
        for tx in block.transactions:
            size = len(tx.raw)
            self._put(tx.txid, _RECORD.pack(entry.hash, offset, size))
            offset += size

    def find(self, txid: bytes) -> tuple[Transaction, BlockIndexEntry] | None:
        """A confirmed transaction and its block."""
        record = self._get(txid)
        if record is None:
            return None
        block_hash, offset, size = _RECORD.unpack(record)
        entry = self._chain.index.get(BlockHash(block_hash))
        if entry is None or not entry.have_data:
            return None
        raw = self._chain.read_block_raw(entry)
        return Transaction.parse(raw[offset : offset + size]), entry
