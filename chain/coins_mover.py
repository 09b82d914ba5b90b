"""Moving a set of coins along the chain: one block on, or one block back.

The active chain's coins move so, and beside them those of the chain that proves a UTXO snapshot right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from chain.coins import CoinsCache
from chain.connect import BlockEffect, connect_block, disconnect_block
from chain.consensus.block import check_block
from chain.consensus.errors import ConsensusError
from chain.index import HAVE_UNDO, VALID_SCRIPTS, BlockIndexEntry, HeaderIndex
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from chain.primitives.types import ZERO_HASH
from chain.script_queue import ScriptCache
from chain.storage.block_files import BlockFiles
from chain.stored_blocks import StoredBlocks, damaged

ASSUMED_VALID_BURIAL_S = 14 * 24 * 60 * 60  #: work that must lie on top of an assumed-valid block (Core)


class CoinsMover:
    """Belongs to the thread that writes the chain."""

    def __init__(
        self,
        index: HeaderIndex,
        blocks: StoredBlocks,
        files: BlockFiles,
        *,
        pool: ThreadPoolExecutor | None,
        script_cache: ScriptCache,
        assumevalid: bytes | None,
        minimum_chain_work: int,
    ) -> None:
        """`pool` runs the script checks. `assumevalid` is a block whose ancestors' scripts are not run (None or
        ZERO_HASH: none), where the best header's chain has `minimum_chain_work`.
        """
        self._index = index
        self._params = index.params
        self._blocks = blocks
        self._files = files
        self._pool = pool
        self._script_cache = script_cache
        self._assumevalid = assumevalid
        self._minimum_chain_work = minimum_chain_work

    def connect(
        self,
        entry: BlockIndexEntry,
        prev: BlockIndexEntry,
        coins: CoinsCache,
        meanwhile: Callable[[], None] | None = None,
    ) -> Block:
        """Check the block of `entry` against `coins`, the state at its parent `prev`, and apply it to them; writes its
        undo data. ConsensusError if it breaks a rule: the coins are as before. `meanwhile` is called while other
        threads are at the scripts.
        """
        block = self._blocks.recent(entry.hash) or self._read_checked(entry)
        undo: list[bytes] = []

        def while_scripts_run(effect: BlockEffect) -> None:
            if not entry.have_undo:
                undo.append(effect.encode_undo())
            if meanwhile is not None:
                meanwhile()

        effect = connect_block(
            block,
            prev,
            coins,
            self._params,
            check_scripts=not self._scripts_assumed_valid(entry),
            pool=self._pool,
            script_cache=self._script_cache,
            meanwhile=while_scripts_run,
        )
        if not entry.have_undo:
            entry.undo_pos = self._files.append_undo(entry.file_number, prev.hash, undo[0])
            entry.status |= HAVE_UNDO
        if self._params.bip30_exceptions.get(entry.hash) == entry.height:
            coins.overwrite(effect.created)
        coins.apply(effect.spent, effect.created)
        entry.raise_validity(VALID_SCRIPTS)
        self._index.dirty.add(entry)
        self._blocks.forget(entry.hash)
        return block

    def read_ahead(self, entry: BlockIndexEntry) -> None:
        """Read and check the block of `entry`, which is to be connected soon. What is wrong with it comes out then."""
        if self._blocks.recent(entry.hash) is None:
            with contextlib.suppress(LocalFault):
                self._blocks.remember(self._read_checked(entry))

    def _read_checked(self, entry: BlockIndexEntry) -> Block:
        block = self._blocks.read(entry)
        try:
            check_block(block, self._params, check_merkle=False)
        except ConsensusError as error:
            raise damaged(entry, str(error)) from error
        return block

    def disconnect(self, entry: BlockIndexEntry, coins: CoinsCache) -> tuple[Block, BlockIndexEntry]:
        """Take the block of `entry` off `coins`, which are at it; the block and its parent."""
        if entry.prev is None:
            raise LocalFault(
                "The genesis block cannot be disconnected: the block index is damaged; start with --reindex to rebuild"
            )
        block = self._blocks.recent(entry.hash) or self._blocks.read(entry)
        effect = disconnect_block(block, entry, self._blocks.read_undo(entry), coins, self._params)
        coins.apply(effect.spent, effect.created)
        return block, entry.prev

    def _scripts_assumed_valid(self, entry: BlockIndexEntry) -> bool:
        if not self._assumevalid or self._assumevalid == ZERO_HASH:
            return False
        assumed = self._index.get(self._assumevalid)
        best = self._index.best_header
        if assumed is None or assumed.ancestor(entry.height) is not entry or best.ancestor(entry.height) is not entry:
            return False
        if best.chainwork < self._minimum_chain_work:
            return False
        # The work on top of it, as time at the pace of the best header, guards against a forged chain made to skip
        # the scripts.
        prev = best.prev
        block_work = best.chainwork - prev.chainwork if prev is not None else best.chainwork
        return (best.chainwork - entry.chainwork) * self._params.block_interval_s > ASSUMED_VALID_BURIAL_S * block_work
