"""-txindex: from a txid to the block that holds the transaction, and where in it.

The index follows the active chain and forgets nothing: a transaction whose block was reorganised away is still found in
that block, until it is
confirmed elsewhere (as in Core).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chain.index import BlockIndexEntry
from chain.primitives.block import Block
from chain.primitives.serialize import write_compact_size
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash
from chain.storage.index_store import IndexStore

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

_RECORD: Final = struct.Struct("<32sII")  #: block hash, offset in the block's bytes, length
_HEADER_SIZE: Final = 80
_FLUSH_ENTRIES: Final = 20_000  #: bounds memory, and what a crash makes us index again


class TransactionIndex:
    """Belongs to the chain's thread, like the Chainstate that it follows. LocalFault when the disk fails."""

    def __init__(self, chain: Chainstate, path: Path) -> None:
        self._chain = chain
        self._store = IndexStore(path)
        self._pending: dict[bytes, bytes] = {}
        best = self._store.best
        entry = chain.index.get(best) if best is not None else None
        self._at: BlockIndexEntry | None = entry

    @property
    def height(self) -> int:
        """Of the last block indexed; -1 before the first."""
        return -1 if self._at is None else self._at.height

    @property
    def synced(self) -> bool:
        """Whether the tip is indexed."""
        return self._at is self._chain.tip

    def catch_up(self, max_blocks: int = 100) -> bool:
        """Index up to so many blocks on the way to the tip; whether it has been reached."""
        chain = self._chain
        for _ in range(max_blocks):
            if self.synced:
                return True
            fork = None if self._at is None else chain.index.fork_point(self._at)
            entry = chain.index.active[0 if fork is None else fork.height + 1]
            if not entry.have_data:  # pruned: there is nothing to index
                self._at = entry
                continue
            self._add(entry, chain.read_block(entry))
        return self.synced

    def connected(self, entry: BlockIndexEntry, block: Block) -> None:
        """A block became the tip. Without effect while the index is still behind: `catch_up` will come to it."""
        if entry.prev is self._at or (self._at is not None and entry.prev is not None and self._covers(entry.prev)):
            self._add(entry, block)

    def _covers(self, entry: BlockIndexEntry) -> bool:
        """Whether `entry` is on the way to the last block indexed: after a reorganisation its successor comes next."""
        return self._at is not None and self._at.ancestor(entry.height) is entry

    def _add(self, entry: BlockIndexEntry, block: Block) -> None:
        offset = _HEADER_SIZE + len(write_compact_size(len(block.transactions)))
        for tx in block.transactions:
            size = len(tx.raw)
            if entry.height:  # the genesis block's transaction is no ordinary one
                self._pending[tx.txid] = _RECORD.pack(entry.hash, offset, size)
            offset += size
        self._at = entry
        if len(self._pending) >= _FLUSH_ENTRIES:
            self.flush()

    def find(self, txid: bytes) -> tuple[Transaction, BlockIndexEntry] | None:
        """A confirmed transaction and its block."""
        record = self._pending.get(txid) or self._store.get(txid)
        if record is None:
            return None
        block_hash, offset, size = _RECORD.unpack(record)
        entry = self._chain.index.get(BlockHash(block_hash))
        if entry is None or not entry.have_data:
            return None
        raw = self._chain.read_block_raw(entry)
        return Transaction.parse(raw[offset : offset + size]), entry

    def flush(self) -> None:
        """Make what was indexed durable."""
        if self._at is not None and (self._pending or self._store.best != self._at.hash):
            self._store.commit(self._at.hash, self._pending)
            self._pending = {}

    def close(self) -> None:
        """Flush and release the files."""
        try:
            self.flush()
        finally:
            self._store.close()
