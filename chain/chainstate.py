"""The chain: header tree, block files, coins and the active tip, kept in step.

Everything here is synchronous and belongs to one thread. Reads of `index` (dictionary look-ups, `active`, `tip`)
and `read_block_raw` are safe from others. What happened is returned as events (`chain.events`).

Blocks and undo data go to their files at once; coins, index and tip reach the database together in `flush`, which
comes when the cache is full, after a while, and at `close`. After a crash the database is at the last flush, and
the blocks written since are found in the files and connected again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from chain import block_import, collector
from chain.coins import CoinsCache
from chain.coins_mover import CoinsMover
from chain.connect import connect_block
from chain.consensus.block import (
    accept_header,
    check_block,
    contextual_check_block,
    contextual_check_header,
    duplicate_invalid,
)
from chain.consensus.errors import BlockResult, ConsensusError, RejectReason
from chain.events import BlockConnected, BlockDisconnected, BlockRejected, Event, EventLog, HeaderTipChanged, TipChanged
from chain.index import VALID_SCRIPTS, BlockIndexEntry, HeaderIndex, any_pruned
from chain.params import AssumeUtxo, NetworkParams
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault, UserError
from chain.primitives.header import BlockHeader
from chain.primitives.types import BlockHash, OutPoint, PackedCoin, hash_to_hex
from chain.read_ahead import Item, ReadAhead
from chain.script_queue import ScriptCache
from chain.snapshot import folders
from chain.snapshot.background import BackgroundChain, SnapshotRefuted, refutation
from chain.snapshot.dump import DumpProgress, DumpResult, dump_snapshot
from chain.snapshot.format import SnapshotMetadata
from chain.snapshot.load import LoadProgress, load_snapshot
from chain.snapshot.opening import Stores, open_stores, restore_tree
from chain.storage.block_files import MAX_FILE_SIZE, BlockFiles
from chain.storage.layout import BLOCKS_DIR
from chain.storage.lock import DirectoryLock
from chain.storage.store import INITIAL_MAP_SIZE, ChainStore, FrozenCoins
from chain.stored_blocks import StoredBlocks
from chain.utxo_stats import UtxoHash, UtxoTotals, utxo_totals
from chain.verify_chain import verify_chain

DEFAULT_DBCACHE_BYTES = 450 << 20  #: Core's default
MIN_BLOCKS_TO_KEEP = 288  #: an unrequested block further ahead of the tip is not stored (Core)
DEFAULT_MAX_TIP_AGE_S = 24 * 60 * 60  #: with an older tip the node is still catching up (Core)
FLUSH_INTERVAL_S = 60.0  #: at the tip; bounds what a crash makes us connect again
SYNC_FLUSH_INTERVAL_S = 900.0  #: while catching up, where memory decides
BACKGROUND_STEP_S = 0.25  #: background validation lets others have the chain after so long
SIDE_CACHE_SHARE = 0.05  #: of the coin cache, for the chain that has less to do while there are two (Core)
STEP_BLOCKS = 32  #: blocks whose events are handed out together


class Chainstate:
    """One network's chain in one data directory."""

    def __init__(
        self,
        params: NetworkParams,
        datadir: Path,
        *,
        blocks_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
        dbcache_bytes: int = DEFAULT_DBCACHE_BYTES,
        script_threads: int | None = None,
        assumevalid: bytes | None = None,
        minimum_chain_work: int | None = None,
        max_tip_age_s: int = DEFAULT_MAX_TIP_AGE_S,
        reindex: bool = False,
        reindex_chainstate: bool = False,
        block_xor: bool = False,
        max_block_file_size: int = MAX_FILE_SIZE,
        map_size: int = INITIAL_MAP_SIZE,
    ) -> None:
        """Open the chain in `datadir` (the network's own folder), creating it if need be, and connect what a crash
        left behind.

        Block and undo files are in `blocks_dir` (default: a folder of `datadir`). `clock` gives seconds since 1970 (the
        node's mockable time). `script_threads` verify scripts beside the calling thread, which helps them at the end of
        a block (default: one fewer than there are cores). `assumevalid` is a block whose ancestors' scripts are not run
        (None: the network's; ZERO_HASH: none). A tip older than `max_tip_age_s` means initial block download. With
        `reindex` header tree and coins are forgotten, with `reindex_chainstate` the coins alone: call `reindex` next.
        Python's cycle collector is set up for the whole process (chain.collector).

        UserError if another node uses the directory, it holds another chain, or the blocks for `reindex_chainstate`
        were pruned; LocalFault if it is damaged or the
        disk fails.
        """
        self.params = params
        self.datadir = datadir
        self.index = HeaderIndex(params)
        self.script_cache = ScriptCache()
        self.minimum_chain_work = params.minimum_chain_work if minimum_chain_work is None else minimum_chain_work
        self._clock = clock
        self._max_tip_age_s = max_tip_age_s
        self._events = EventLog()
        self._caught_up = False
        self._fault = False
        self._reindex_from_files = reindex
        self._dbcache_bytes = dbcache_bytes
        self._map_size = map_size
        self._store: ChainStore  # header tree, and the coins of the chain that has been validated from genesis on
        self._coin_store: ChainStore  # the active chain's coins: another store while it stands on a UTXO snapshot
        self.background: BackgroundChain | None = None  #: validates the snapshot that the active chain stands on
        self.snapshot_base: BlockHash | None = None  #: of the UTXO snapshot that the active chain's coins came from
        self.loading_snapshot = False
        self.prune_locks: dict[str, int] = {}  #: who needs the blocks from which height on
        self.remarks: list[str] = []  #: what opening the chain did that the operator should know
        collector.tune()
        threads = (os.cpu_count() or 1) - 1 if script_threads is None else script_threads
        self.script_pool = ThreadPoolExecutor(threads, "script") if threads > 0 else None
        self._locks: list[DirectoryLock] = []
        try:
            for folder in (datadir,) if blocks_dir is None else (datadir, blocks_dir):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise UserError(
                        f"Cannot create directory {folder} ({error.strerror}): choose another --datadir"
                    ) from error
                self._locks.append(DirectoryLock(folder))
            self.files = BlockFiles(
                blocks_dir or datadir / BLOCKS_DIR,
                params.magic,
                max_file_size=max_block_file_size,
                xor=block_xor,
                first_block=params.genesis.raw,
                restore_key=reindex,
            )
            block_import.refuse_foreign(self.files, params)
            self._blocks = StoredBlocks(self.files, params)
            self._mover = CoinsMover(
                self.index,
                self._blocks,
                self.files,
                pool=self.script_pool,
                script_cache=self.script_cache,
                assumevalid=params.assumevalid if assumevalid is None else assumevalid,
                minimum_chain_work=self.minimum_chain_work,
            )
            stores = open_stores(
                datadir, params, map_size=map_size, recreate=reindex, drop_snapshot=reindex or reindex_chainstate
            )
            self._store, self._coin_store = stores.main, stores.coins
            self.remarks += stores.remarks
            if reindex:
                self.remarks += block_import.missing_files(self.files)
            self.coins = CoinsCache(self._coin_store, dbcache_bytes)
            self._last_flush = time.monotonic()
            if reindex_chainstate:
                if any_pruned(self._store.load_index()):
                    raise UserError(
                        f"The coins cannot be rebuilt from {self.files.blocks_dir}: blocks there were deleted by"
                        " pruning. Start with --reindex to download the chain again"
                    )
                self._store.wipe_coins()
            self._load(stores, scan=not reindex, activate=not reindex and not reindex_chainstate)
        except BaseException:
            self._release()
            raise

    # Life

    def __enter__(self) -> Chainstate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush and let go of the directory. After a LocalFault nothing more is written: what is on disk is whole."""
        try:
            if not self._fault:
                self.flush()
        finally:
            self._release()

    def flush(self) -> None:
        """Make the present state durable: block files first, then coins, index and tip in one transaction.
        LocalFault leaves the old state.
        """
        position = self.files.file_number, self.files.end
        index = {entry.hash: entry.packed() for entry in self.index.dirty}
        try:
            self.files.sync()
            if self.stands_on_snapshot:
                # Two stores, so two transactions. The header tree goes first: after a crash between them the blocks
                # that it knows beyond the tip are connected again.
                if self.background is not None:
                    self.background.coins.flush(tip=self.background.tip.hash, position=position, index=index)
                else:
                    tip = self._store.tip or self.params.genesis_hash
                    self._store.commit(tip=tip, position=position, index=index, deleted=(), added={})
                index = {}
                if self._store.historical_position != self.files.historical:
                    self._store.set_historical_position(self.files.historical)
            self.coins.flush(tip=self.tip.hash, position=position, index=index)
        except LocalFault:
            self._fault = True
            raise
        self.index.dirty.clear()
        self._share_cache()
        self._last_flush = time.monotonic()

    # Reading

    @property
    def tip(self) -> BlockIndexEntry:
        """The last block of the active chain."""
        return self.index.active[-1]

    @property
    def is_initial_block_download(self) -> bool:
        """Whether the tip is far behind what the network must have by now. Once False it stays so (Core:
        IsInitialBlockDownload).
        """
        if not self._caught_up:
            tip = self.tip
            oldest = self._clock() - self._max_tip_age_s
            self._caught_up = tip.chainwork >= self.minimum_chain_work and tip.time >= oldest
        return not self._caught_up

    @property
    def has_failed(self) -> bool:
        """Whether the disk failed in mid-change: nothing more will be written. Close and open again."""
        return self._fault

    @property
    def has_pruned_blocks(self) -> bool:
        """Whether blocks of the active chain were here once and were deleted."""
        return any(entry.tx_count and not entry.have_data for entry in self.index.active)

    def get_coin(self, outpoint: OutPoint) -> PackedCoin | None:
        """The unspent coin at an outpoint, as of the tip."""
        return self.coins.get(outpoint)

    def read_block_raw(self, entry: BlockIndexEntry) -> bytes:
        """The block's bytes from disk; LocalFault if they are not there."""
        return self._blocks.read_raw(entry)

    def read_block(self, entry: BlockIndexEntry, *, from_disk: bool = False) -> Block:
        """The block, from memory if it just arrived and not `from_disk`; LocalFault if the disk does not hold it."""
        recent = None if from_disk else self._blocks.recent(entry.hash)
        return recent or self._blocks.read(entry)

    def read_undo(self, entry: BlockIndexEntry) -> list[list[PackedCoin]]:
        """The coins that the block spent, by transaction (without the coinbase) and input; LocalFault if damaged."""
        return self._blocks.read_undo(entry)

    def iterate_coins(self) -> Iterator[tuple[OutPoint, PackedCoin]]:
        """Every unspent coin at the tip, ordered by outpoint bytes. Flushes first. Finish or drop the iterator
        before the next block.
        """
        self.flush()
        return self._coin_store.iterate_coins()

    def utxo_stats(self, kind: UtxoHash = UtxoHash.HASH_SERIALIZED_3) -> UtxoTotals:
        """Totals and hash over all unspent coins at the tip. Flushes first; reads every coin."""
        return utxo_totals(self.iterate_coins(), UtxoHash(kind))

    def verify_chain(self, level: int = 3, blocks: int = 6) -> None:
        """Check the last `blocks` blocks on disk (0: all) as thoroughly as `level` (0 to 4) says; LocalFault names the
        first thing that is wrong. See chain.verify_chain.
        """
        verify_chain(self, level, blocks)

    def coins_on_disk(self) -> tuple[int, int]:
        """(number of coins, bytes they take in the database) as of the last flush."""
        return self._coin_store.count_coins(), self._coin_store.size_on_disk()

    # Accepting headers and blocks

    def accept_headers(self, headers: Sequence[BlockHeader], *, min_pow_checked: bool = True) -> BlockIndexEntry:
        """Check headers, each building on the one before or on a known one, and enter them; the entry of the last.

        ConsensusError at the first that is wrong; those before it stay. Without `min_pow_checked` new headers are
        refused (the peer has not shown enough work yet).
        """
        entry = self.index.best_header
        for header in headers:
            entry = self._accept_header(header, min_pow_checked)
        return entry

    def accept_block(
        self, block: Block, *, requested: bool = True, min_pow_checked: bool = True
    ) -> tuple[BlockIndexEntry, bool]:
        """Check a block as far as possible without coins and store it; (its entry, whether it is newly stored).

        An unrequested block that is far ahead or has too little work is not stored. ConsensusError if it is
        invalid: the block itself is remembered as such only where the fault lies in what its header commits to.
        Call activate_best_chain next.
        """
        check_block(block, self.params)
        return self._accept_block(block, requested, min_pow_checked, None)

    def activate_best_chain(self, *, max_blocks: int = 0, meanwhile: Callable[[], None] | None = None) -> list[Event]:
        """Make the valid chain with the most work the active one, disconnecting and connecting as needed; what
        happened, oldest first.

        Blocks that prove invalid are reported as BlockRejected and the next best chain is tried. With `max_blocks`
        it returns after about that many blocks; call again until the tip stays. `meanwhile` is called, and is to raise
        nothing, while other threads verify the last block's scripts. LocalFault if the disk fails: the chain is at a
        valid tip and can be closed.
        """
        before = self.tip
        connected = 0
        while True:
            try:
                count = self._activate_step(meanwhile)
            except LocalFault:
                self._fault = True
                raise
            connected += count
            if count == 0 or (max_blocks and connected >= max_blocks):
                break
        if self.tip is not before:
            self._events.append(TipChanged(self.tip))
        interval = SYNC_FLUSH_INTERVAL_S if self.is_initial_block_download else FLUSH_INTERVAL_S
        if time.monotonic() - self._last_flush > interval:
            self.flush()
        return self.drain_events()

    def drain_events(self) -> list[Event]:
        """What happened and was not returned yet: header tips, and all of a process_block that raised."""
        return self._events.drain()

    def process_block(
        self,
        block: Block,
        *,
        requested: bool = True,
        min_pow_checked: bool = True,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Event]:
        """accept_block and activate_best_chain. ConsensusError if this very block is invalid, also when only its
        scripts or amounts are; the events (this block's BlockRejected among them) then wait in drain_events.
        """
        self.accept_block(block, requested=requested, min_pow_checked=min_pow_checked)
        events = self.activate_best_chain(meanwhile=meanwhile)
        for event in events:
            if isinstance(event, BlockRejected) and event.entry.hash == block.hash:
                self._events.restore(events)
                raise event.error
        return events

    def read_ahead(self, blocks: Iterable[Item], block_of: Callable[[Item], Block | None]) -> ReadAhead[Item]:
        """Blocks to come, for a loop that processes them with `meanwhile=….fetch`: each is read and checked while the
        one before is verified. `block_of` says which block an item holds, if any.
        """

        def check(item: Item) -> None:
            block = block_of(item)
            if block is not None:
                with contextlib.suppress(ConsensusError):  # its turn comes
                    check_block(block, self.params)

        return ReadAhead(blocks, check)

    def test_block_validity(self, block: Block, *, check_pow: bool = False, check_merkle: bool = True) -> None:
        """Whether `block` could be the next one; ConsensusError if not. Changes nothing (Core: TestBlockValidity)."""
        prev = self.tip
        if block.header.prev_hash != prev.hash:
            raise ConsensusError("inconclusive-not-best-prevblk")
        check_block(block, self.params, check_pow=check_pow, check_merkle=check_merkle)
        contextual_check_header(block.header, prev, self.params, self._now())
        contextual_check_block(block, prev, self.params)
        connect_block(block, prev, self.coins, self.params, pool=self.script_pool, script_cache=self.script_cache)

    # What a person may decide

    def invalidate_block(self, block_hash: bytes) -> list[Event]:
        """Treat a block, and all that build on it, as invalid. UserError, and nothing changed, if it is unknown, the
        genesis block, or below a block that was pruned; LocalFault if the disk fails.
        """
        entry = self._known(block_hash)
        if entry.prev is None:
            raise UserError("The genesis block cannot be invalidated")
        before = self.tip
        base = self.index.assumed_base
        if base is not None and base.ancestor(entry.height) is entry:
            raise UserError(
                f"Block {hash_to_hex(entry.hash)} at height {entry.height} belongs to the chain up to the UTXO snapshot"
                f" at height {base.height}, which is still being validated. Wait until getchainstates shows one"
                " chainstate"
            )
        if self.index.in_active(entry):
            lost = self._lost_above(entry.height - 1)
            if lost is not None:
                raise UserError(
                    f"Block {hash_to_hex(entry.hash)} at height {entry.height} cannot be invalidated: block"
                    f" {lost.height}, which would be taken back with it, was deleted by pruning. Choose one above it"
                )
            try:
                while self.index.in_active(entry):
                    self._disconnect_tip()
            except LocalFault:
                self._fault = True
                raise
        self.index.mark_failed(entry)
        self.index.rebuild_candidates()
        events = self.activate_best_chain()
        if self.tip is not before and not any(isinstance(event, TipChanged) for event in events):
            events.append(TipChanged(self.tip))
        return events

    def reconsider_block(self, block_hash: bytes) -> list[Event]:
        """Take back an invalidation of this block, its ancestors and descendants. UserError if it is unknown."""
        self.index.clear_failed(self._known(block_hash))
        return self.activate_best_chain()

    def precious_block(self, block_hash: bytes) -> list[Event]:
        """Treat a block as if it had come before others with the same work. UserError if it is unknown."""
        self.index.make_precious(self._known(block_hash))
        return self.activate_best_chain()

    # Import and reindex

    def load_block_file(self, path: Path) -> Iterator[block_import.ImportProgress]:
        """Import the blocks of a file in block-file format (--loadblock), in any order; see chain.block_import."""
        return block_import.load_block_file(self, path)

    def reindex(self) -> Iterator[block_import.ImportProgress]:
        """After opening with `reindex` or `reindex_chainstate`: rebuild from the block files, step by step."""
        return block_import.reindex(self, from_files=self._reindex_from_files)

    def accept_stored_block(self, block: Block, file_number: int, data_pos: int) -> tuple[BlockIndexEntry, bool]:
        """accept_block for a block that is in the block files already."""
        check_block(block, self.params)
        return self._accept_block(block, True, True, (file_number, data_pos))

    # UTXO snapshots

    @property
    def stands_on_snapshot(self) -> bool:
        """Whether the active chain's coins came from a UTXO snapshot; also after its validation, until the next
        start.
        """
        return self._coin_store is not self._store

    @property
    def validated(self) -> BlockIndexEntry:
        """The last block of the active chain up to which all blocks have been validated: the tip, but while a snapshot
        is being validated the place where that stands.
        """
        return self.tip if self.background is None else self.background.fork

    def load_snapshot(
        self, file: BinaryIO, metadata: SnapshotMetadata, *, mempool_is_empty: Callable[[], bool] = lambda: True
    ) -> Iterator[LoadProgress]:
        """Load the coins of a UTXO snapshot and go on from its block, step by step; see chain.snapshot.load. Then
        drain_events tells of the new tip, and advance_background is to be called whenever the background chain
        can advance.
        """
        return load_snapshot(self, file, metadata, mempool_is_empty=mempool_is_empty, map_size=self._map_size)

    def dump_snapshot(
        self, target: BlockIndexEntry, file: BinaryIO, *, scratch_dir: Path | None
    ) -> Iterator[DumpProgress | DumpResult]:
        """Write the coins at `target`, a block of the active chain, step by step; see chain.snapshot.dump."""
        return dump_snapshot(self, target, file, scratch_dir=scratch_dir)

    def frozen_coins(self) -> FrozenCoins:
        """The coins at the tip as they are now, to be read while the chain goes on. Flushes first; close it soon."""
        self.flush()
        return self._coin_store.frozen_coins()

    def adopt_snapshot(self, store: ChainStore, base: BlockIndexEntry, assumed: AssumeUtxo) -> None:
        """Make `base` the tip, with the coins in `store`, which are those of the network's table; what was the active
        chain becomes the background chain. For chain.snapshot.load.
        """
        self.flush()
        folders.activate(self.datadir, base.hash)
        self.background = BackgroundChain(self.coins, self._store, self.tip, base, assumed)
        self.files.part()
        self.snapshot_base = base.hash
        self._coin_store = store
        self.coins = CoinsCache(store, self._dbcache_bytes)
        self.index.set_tip(base)
        self.index.assume(base, assumed.chain_tx_count)
        self._share_cache()
        self._events.append(TipChanged(base))

    def advance_background(self, *, seconds: float = BACKGROUND_STEP_S) -> list[Event]:
        """Validate the snapshot for about so long; what happened to the active chain because of it.

        LocalFault, and nothing more is written, if the snapshot or a block below it proves wrong: its coins are set
        aside, and the next start goes on without them.
        """
        end = time.monotonic() + seconds
        try:
            while (background := self.background) is not None and background.can_advance:
                if background.advance(self._mover, self.flush):
                    self._confirm_snapshot(background)
                else:
                    self._relieve(background.coins)
                if time.monotonic() >= end:
                    break
        except SnapshotRefuted as refuted:
            raise self._drop_snapshot(refuted) from refuted
        except LocalFault:
            self._fault = True
            raise
        return self.drain_events()

    def _confirm_snapshot(self, background: BackgroundChain) -> None:
        self._store.confirm_snapshot(background.base.hash)
        self.background = None
        self.files.historical = None
        self.index.stop_assuming()
        self._share_cache()
        self._events.restore(self.activate_best_chain())

    def _drop_snapshot(self, refuted: SnapshotRefuted) -> LocalFault:
        """Set the snapshot's coins aside; what to tell the operator."""
        if refuted.block is not None:
            self.index.mark_failed(refuted.block)
        heights = self.tip.height, 0 if self.background is None else self.background.tip.height
        self.flush()
        self._fault = True
        self._coin_store.close()
        return refutation(str(refuted), *heights, folders.set_aside(self.datadir))

    def _share_cache(self) -> None:
        """Divide the coin cache between the chains: most goes to the active one while it is far behind, else to the
        other.
        """
        total = self._dbcache_bytes
        if self.background is None:
            self.coins.budget_bytes = total
            return
        side = int(total * SIDE_CACHE_SHARE)
        catching_up = self.is_initial_block_download
        self.coins.budget_bytes = total - side if catching_up else side
        self.background.coins.budget_bytes = side if catching_up else total - side

    # Inside

    def _now(self) -> int:
        return int(self._clock())

    def _known(self, block_hash: bytes) -> BlockIndexEntry:
        entry = self.index.get(block_hash)
        if entry is None:
            raise UserError("Block not found")
        return entry

    def _accept_header(self, header: BlockHeader, min_pow_checked: bool) -> BlockIndexEntry:
        index = self.index
        known = index.get(header.hash)
        if known is not None:
            if known.failed:
                raise duplicate_invalid(header.hash)
            return known
        accept_header(header, index.entries, self.params, self._now())
        if not min_pow_checked:
            raise ConsensusError(RejectReason.TOO_LITTLE_CHAINWORK, "", BlockResult.HEADER_LOW_WORK)
        best = index.best_header
        entry = index.add(header)
        if index.best_header is not best:
            self._events.replace_header_tip(HeaderTipChanged(index.best_header))
        return entry

    def _accept_block(
        self, block: Block, requested: bool, min_pow_checked: bool, stored: tuple[int, int] | None
    ) -> tuple[BlockIndexEntry, bool]:
        entry = self._accept_header(block.header, min_pow_checked)
        if entry.have_data:
            return entry, False
        if not requested:
            tip = self.tip
            if (
                entry.tx_count  # had it and pruned it
                or entry.chainwork < tip.chainwork
                or entry.height > tip.height + MIN_BLOCKS_TO_KEEP
                or entry.chainwork < self.minimum_chain_work
            ):
                return entry, False
        if entry.prev is not None:
            try:
                contextual_check_block(block, entry.prev, self.params)
            except ConsensusError as error:
                if error.result is not BlockResult.MUTATED:
                    self.index.mark_failed(entry)
                    if self.background is not None and self.background.needs(entry):
                        raise self._drop_snapshot(SnapshotRefuted.by_block(entry, error)) from error
                raise
        try:
            historical = self.background is not None and self.background.needs(entry)
            entry.file_number, entry.data_pos = stored or self.files.append_block(block.raw, historical=historical)
        except LocalFault:
            self._fault = True
            raise
        self.index.received(entry, block.transaction_count)
        if stored is None:
            self._blocks.remember(block)
        return entry, True

    def _activate_step(self, meanwhile: Callable[[], None] | None) -> int:
        """One move towards the best candidate; how many blocks were connected, disconnected or rejected. 0: nothing
        left to do.
        """
        index = self.index
        tip = self.tip
        target = index.best_candidate()
        if target is None or target is tip:
            return 0
        fork = index.fork_point(target)
        if fork is None:
            raise LocalFault("The block index does not reach back to genesis; start with --reindex to rebuild it")
        lost = self._lost_above(fork.height)
        if lost is not None:
            raise LocalFault(
                f"The chain with the most work leaves the present one above height {fork.height}, but block"
                f" {lost.height}, which would have to be taken back, was deleted by pruning; start with --reindex to"
                " download the chain again"
            )
        moves = 0
        while self.tip is not fork:
            self._disconnect_tip()
            moves += 1
        while self.tip is not target:
            entry = target.ancestor(self.tip.height + 1)
            if entry is None:
                break
            moves += 1
            following = target.ancestor(entry.height + 1)
            try:
                self._connect_tip(entry, partial(self._mover.read_ahead, following) if following else meanwhile)
            except ConsensusError as error:
                index.mark_failed(entry)
                index.rebuild_candidates()
                self._blocks.forget(entry.hash)
                self._events.append(BlockRejected(entry, error))
                break
            if moves >= STEP_BLOCKS and entry.chainwork > tip.chainwork:
                break
        index.prune_candidates()
        return moves

    def _connect_tip(self, entry: BlockIndexEntry, meanwhile: Callable[[], None] | None) -> None:
        block = self._mover.connect(entry, self.tip, self.coins, meanwhile)
        self.index.set_tip(entry)
        self._events.append(BlockConnected(entry, block, self.read_block))
        self._relieve(self.coins)

    def _relieve(self, coins: CoinsCache) -> None:
        if coins.over_budget:
            coins.trim()
            if coins.over_budget:
                self.flush()

    def _lost_above(self, height: int) -> BlockIndexEntry | None:
        """The highest block of the active chain above `height` that cannot be taken back, because it or what it spent
        is not on disk any more.
        """
        above = (self.index.active[at] for at in range(len(self.index.active) - 1, height, -1))
        return next((entry for entry in above if not (entry.have_data and entry.have_undo)), None)

    def _disconnect_tip(self) -> None:
        entry = self.tip
        block, prev = self._mover.disconnect(entry, self.coins)
        self.index.set_tip(prev)
        self._events.append(BlockDisconnected(entry, block, self.read_block))

    def _load(self, stores: Stores, *, scan: bool, activate: bool) -> None:
        """Header tree and tip as of the last flush, then the blocks that were written after it."""
        is_new, self.background = restore_tree(self.index, stores, self._dbcache_bytes)
        if self.background is not None:
            self.snapshot_base = self.background.base.hash
        self.files.set_position(*self._store.position, cut=False)
        self.files.historical = self._store.historical_position
        if scan:
            if is_new:  # whatever undo data are there, of Core's or of a database that is gone: nobody names them
                self.files.delete_undo()
            block_import.catch_up(self)  # with a new database too: block files may be there all the same
            self.store_genesis()
        if self.background is None:
            self.files.historical = None
        elif self.files.historical is None:
            self.files.part()
        if activate:
            while self.activate_best_chain(max_blocks=STEP_BLOCKS):
                pass
            self.flush()

    def store_genesis(self) -> None:
        """Write the genesis block to the block files, unless it was found in them or has been pruned."""
        genesis = self.index.genesis
        if not genesis.tx_count:
            genesis.file_number, genesis.data_pos = self.files.append_block(self.params.genesis.raw)
            self.index.received(genesis, len(self.params.genesis.transactions))
            genesis.raise_validity(VALID_SCRIPTS)

    def _release(self) -> None:
        if self.script_pool is not None:
            self.script_pool.shutdown()
        for name in ("_store", "_coin_store"):
            store = getattr(self, name, None)
            if store is not None:
                store.close()
        collector.release()
        for lock in self._locks:
            lock.release()
