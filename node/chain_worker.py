"""What the writer thread does: Chainstate and Mempool kept in step, and everything that happens to them told onward.

Synchronous and single-threaded: every method runs in the writer thread. RPC methods that touch the chain run there too
and use this object directly.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from chain.chainstate import Chainstate
from chain.consensus.deployments import VersionBits
from chain.consensus.errors import BlockResult, ConsensusError
from chain.events import BlockConnected, BlockDisconnected, BlockRejected, Event, HeaderTipChanged, TipChanged
from chain.index import BlockIndexEntry
from chain.indexes.follow import IndexSet
from chain.interfaces import BlockOutcome, HeaderInfo, HeadersOutcome, MempoolTransaction, TransactionOutcome, Verdict
from chain.mempool.entries import AcceptResult, MempoolEntry, RemovedTx
from chain.mempool.errors import MissingInputs, PolicyError, TransactionRefused, TxResult
from chain.mempool.packages import PackageResult
from chain.mempool.pool import Mempool
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, LocalFault
from chain.primitives.header import BlockHeader
from chain.primitives.target import difficulty
from chain.primitives.transaction import Transaction, TxIn
from chain.primitives.types import BlockHash, hash_to_hex
from chain.snapshot.format import SnapshotMetadata
from chain.snapshot.load import LoadProgress
from node.pruning import prune_chain

log = logging.getLogger("pickaxe.node")
validation = logging.getLogger("pickaxe.validation")
mempool_log = logging.getLogger("pickaxe.mempool")
mempoolrej_log = logging.getLogger("pickaxe.mempoolrej")

BACKGROUND_LOG_BLOCKS: Final = 2000  #: of background validation between two lines of the log (Core)
RECENT_BLOCKS: Final = 6  #: whose transactions count as recently confirmed; Core's filter holds about as many
MAX_READDED_BLOCKS: Final = 10  #: Core's invalidateblock brings back the transactions of so many blocks
_RECENT_TIP_S: Final = 2 * 3600
WITNESS_COMMITMENT: Final = bytes.fromhex("6a24aa21a9ed")

_VERDICTS: Final = {
    BlockResult.CONSENSUS: Verdict.INVALID,
    BlockResult.INVALID_HEADER: Verdict.INVALID,
    BlockResult.CACHED_INVALID: Verdict.CACHED_INVALID,
    BlockResult.INVALID_PREV: Verdict.INVALID,
    BlockResult.MISSING_PREV: Verdict.MISSING_PARENT,
    BlockResult.TIME_FUTURE: Verdict.TOO_EARLY,
    BlockResult.MUTATED: Verdict.MUTATED,
    BlockResult.HEADER_LOW_WORK: Verdict.LOW_WORK,
}


@dataclass(slots=True)
class Notice:
    """What one call changed, for the event loop. Blocks oldest first."""

    tip: HeaderInfo | None = None
    header_tip: HeaderInfo | None = None
    connected: list[BlockHash] = field(default_factory=list)
    disconnected: list[BlockHash] = field(default_factory=list)
    accepted: list[MempoolTransaction] = field(default_factory=list)
    removed: list[tuple[bytes, bytes, str]] = field(default_factory=list)
    rejected: list[tuple[BlockHash, Verdict, str]] = field(default_factory=list)


class ChainWorker:
    """See the module. `notify` receives a Notice after each change; it is called in the writer thread."""

    def __init__(
        self,
        chain: Chainstate,
        mempool: Mempool,
        clock: Callable[[], float],
        notify: Callable[[Notice], None],
    ) -> None:
        self.chain = chain
        self.mempool = mempool
        self.clock = clock
        self._notify = notify
        self._in_ibd = True
        self._recent: deque[set[bytes]] = deque(maxlen=RECENT_BLOCKS)
        self._last_progress_log = 0.0
        self._version_bits = VersionBits(chain.params)
        self._warnings = self._find_warnings()
        self.connected_now: set[bytes] = set()  #: hashes of the blocks that the last `submit` connected
        self.extras: dict[str, object] = {}  #: what RPC keeps beside the chain, in its thread
        self.indexes = IndexSet(chain)

    # ------------------------------------------------------------------ reads, safe from any thread

    def info(self, entry: BlockIndexEntry) -> HeaderInfo:
        prev = entry.prev
        return HeaderInfo(
            entry.hash,
            BlockHash(bytes(32)) if prev is None else prev.hash,
            entry.height,  # type: ignore[arg-type]
            entry.time,
            entry.nbits,
            entry.chainwork,
            entry.raw,
            entry.have_data,
            entry.failed,
            self.chain.index.in_active(entry),
        )

    def is_initial_block_download(self) -> bool:
        """Core's latch: once out of it, always out of it."""
        if self._in_ibd and not self.chain.is_initial_block_download:
            self._in_ibd = False
            log.info("Leaving InitialBlockDownload (latching to false)")
        return self._in_ibd

    def recently_confirmed(self, identifier: bytes) -> bool:
        return any(identifier in ids for ids in tuple(self._recent))

    @staticmethod
    def view(entry: MempoolEntry) -> MempoolTransaction:
        """What relay needs of a mempool entry."""
        tx = entry.tx
        rate = entry.fee * 1000 // entry.vsize if entry.vsize else 0
        parents = [parent.txid for parent in tuple(entry.parents)]
        return MempoolTransaction(
            tx.txid, tx.wtxid, tx.raw, entry.vsize, entry.fee, rate, float(entry.time), entry.sequence, parents
        )

    # ------------------------------------------------------------------ blocks

    def process_headers(self, raw_headers: Sequence[bytes], *, min_pow_checked: bool = True) -> HeadersOutcome:
        """Accept headers that build on each other. The outcome names the first that was refused."""
        before = len(self.chain.index)
        try:
            headers = [BlockHeader.parse(raw) for raw in raw_headers]
        except DecodeError as error:
            return HeadersOutcome(Verdict.INVALID, reason=str(error))
        last: BlockIndexEntry | None = None
        try:
            last = self.chain.accept_headers(headers, min_pow_checked=min_pow_checked)
        except ConsensusError as error:
            for header in headers:
                entry = self.chain.index.get(header.hash)
                if entry is None or entry.failed:
                    break
                last = entry
            self._publish_header_tip()
            return HeadersOutcome(
                _VERDICTS[error.result],
                self.info(last) if last is not None else None,
                str(error),
                len(self.chain.index) - before,
            )
        self._publish_header_tip()
        return HeadersOutcome(
            Verdict.ACCEPTED, self.info(last) if last is not None else None, "", len(self.chain.index) - before
        )

    def process_block(self, raw: bytes, *, requested: bool = True) -> BlockOutcome:
        """Judge a serialized block, connect it if it leads to a better chain, and follow with the mempool.

        DecodeError when the bytes are no block: a malformed message, like any other.
        """
        block = Block.parse(raw, allow_trailing=True)
        known = self.chain.index.get(block.hash)
        had_data = known is not None and known.have_data
        refusal = self.submit(block, requested=requested)
        if refusal is not None:
            return BlockOutcome(_VERDICTS[refusal.result], block.hash, str(refusal))
        entry = self.chain.index.get(block.hash)
        if entry is not None and entry.failed:
            return BlockOutcome(Verdict.INVALID, block.hash, "invalid")
        if had_data:
            return BlockOutcome(Verdict.DUPLICATE, block.hash)
        if entry is None or not entry.have_data:
            return BlockOutcome(Verdict.REFUSED, block.hash, "not requested")
        return BlockOutcome(Verdict.ACCEPTED, block.hash)

    def submit(self, block: Block, *, requested: bool = True) -> ConsensusError | None:
        """Process a parsed block. Returns why it is invalid, None when it is not (it need not have become part of the
        active chain)."""
        self.connected_now.clear()
        try:
            events = self.chain.process_block(block, requested=requested)
        except ConsensusError as error:
            if error.result is BlockResult.MUTATED:
                validation.debug("Block mutated: %s", error)
            else:
                validation.debug("%s, %s", hash_to_hex(block.hash), error)
            self.follow(self.chain.drain_events())
            return error
        self.follow(events)
        if self.chain.background is not None:
            self._notify(Notice())  # the block may be what the background chain waits for
        return None

    def follow(self, events: Iterable[Event], *, max_readded_blocks: int | None = None) -> None:
        """Bring the mempool to where the chain is now and tell the loop what happened."""
        events = list(events)
        if not events:
            return
        self.indexes.note(events)
        waiting = set(self.mempool.unbroadcast)
        change = self.mempool.handle(events, max_readded_blocks=max_readded_blocks)
        for gone in change.removed if waiting else ():
            if gone.entry.txid in waiting:
                mempool_log.debug(
                    "Removed %s from set of unbroadcast txns before confirmation that txn was sent out",
                    hash_to_hex(gone.entry.txid),
                )
        notice = Notice()
        for event in events:
            match event:
                case BlockConnected(entry, block):
                    notice.connected.append(entry.hash)
                    self.connected_now.add(entry.hash)
                    ids: set[bytes] = set()
                    for tx in block.transactions:
                        ids.add(tx.txid)
                        ids.add(tx.wtxid)
                    self._recent.append(ids)
                case BlockDisconnected(entry):
                    notice.disconnected.append(entry.hash)
                    self._recent.clear()
                case TipChanged(entry):
                    notice.tip = self.info(entry)
                    self._log_tip(entry)
                case HeaderTipChanged(entry):
                    notice.header_tip = self.info(entry)
                case BlockRejected(entry, error):
                    validation.info("Block validation error: %s", error)
                    validation.info(
                        "InvalidChainFound: invalid block=%s height=%d", hash_to_hex(entry.hash), entry.height
                    )
                    notice.rejected.append((entry.hash, _VERDICTS[error.result], str(error)))
        if notice.tip is not None or notice.rejected:
            self._warnings = self._find_warnings()
        self._note_removals(notice, change.removed)
        self._notify(notice)

    @staticmethod
    def _note_removals(notice: Notice, removed: Iterable[RemovedTx]) -> None:
        for gone in removed:
            notice.removed.append((gone.entry.txid, gone.entry.wtxid, str(gone.reason)))

    def _note_removed(self, removed: Iterable[RemovedTx]) -> None:
        notice = Notice()
        self._note_removals(notice, removed)
        if notice.removed:
            self._notify(notice)

    def _publish_header_tip(self) -> None:
        events = self.chain.drain_events()
        if events:
            self.follow(events)

    def _log_tip(self, entry: BlockIndexEntry) -> None:
        now = time.monotonic()
        in_ibd = self.is_initial_block_download()
        if in_ibd and now - self._last_progress_log < 1.0 and entry.height % 1000:
            return
        self._last_progress_log = now
        log.info(
            "UpdateTip: new best=%s height=%d version=0x%08x difficulty=%.6g tx=%d date='%s' progress=%.6f",
            hash_to_hex(entry.hash),
            entry.height,
            entry.version & 0xFFFFFFFF,
            difficulty(entry.nbits),
            entry.chain_tx_count,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.time)),
            self.verification_progress(entry),
        )

    def verification_progress(self, entry: BlockIndexEntry) -> float:
        """Core's GuessVerificationProgress: transactions up to here as a share of those estimated to exist by now."""
        data = self.chain.params.chain_tx_data
        if not entry.chain_tx_count:
            return 0.0
        now = self.clock()
        best = self.chain.index.best_header
        behind = best.height - entry.height
        end = float(entry.time)
        if abs(now - entry.time) <= _RECENT_TIP_S and behind >= 0:
            end = now - behind * self.chain.params.block_interval_s  # heights tell more than the miner's clock here
        if entry.chain_tx_count <= data.tx_count:
            total = data.tx_count + (now - data.time) * data.tx_per_s
        else:
            total = entry.chain_tx_count + (now - end) * data.tx_per_s
        return min(entry.chain_tx_count / total, 1.0) if total > 0 else 1.0

    def add_witness_nonce(self, block: Block) -> Block:
        """Core's UpdateUncommittedBlockStructures: a block with a witness commitment whose coinbase lacks its nonce
        gets the usual zero one."""
        if not block.transactions or block.header.prev_hash not in self.chain.index:
            return block
        coinbase = block.transactions[0]
        commits = any(s[:6] == WITNESS_COMMITMENT and len(s) >= 38 for s in coinbase.scripts)
        if not coinbase.is_coinbase or coinbase.has_witness or not commits:
            return block
        only = coinbase.inputs[0]
        with_nonce = Transaction.build(
            coinbase.version,
            [TxIn(only.prevout, only.script_sig, only.sequence, (bytes(32),))],
            coinbase.outputs,
            coinbase.locktime,
        )
        return Block.build(block.header, [with_nonce, *block.transactions[1:]])

    # ------------------------------------------------------------------ transactions

    def process_transaction(self, raw: bytes) -> TransactionOutcome:
        """Judge a transaction from a peer and take it into the mempool if policy agrees."""
        try:
            tx = Transaction.parse(raw)
        except DecodeError as error:
            return TransactionOutcome(Verdict.INVALID, reason=f"tx decode failed: {error}")
        try:
            result = self.accept(tx)
        except MissingInputs as error:
            missing = list(dict.fromkeys(outpoint[:32] for outpoint in error.missing))
            return TransactionOutcome(
                Verdict.MISSING_PARENT,
                tx.txid,
                tx.wtxid,
                error.reason,
                missing,  # type: ignore[arg-type]
            )
        except TransactionRefused as error:
            if isinstance(error, PolicyError):
                self._note_removed(error.removed)
            duplicate = error.result is TxResult.CONFLICT and "already" in error.reason
            stripped = error.result in (TxResult.WITNESS_STRIPPED, TxResult.WITNESS_MUTATED)
            mempoolrej_log.debug("%s was not accepted: %s", hash_to_hex(tx.txid), error)
            return TransactionOutcome(
                Verdict.DUPLICATE if duplicate else Verdict.REFUSED,
                tx.txid,
                tx.wtxid,
                str(error),
                witness_may_be_stripped=stripped,
            )
        except ConsensusError as error:
            mempoolrej_log.debug("%s was not accepted: %s", hash_to_hex(tx.txid), error)
            return TransactionOutcome(
                Verdict.INVALID, tx.txid, tx.wtxid, str(error), witness_may_be_stripped=tx.has_witness
            )
        return TransactionOutcome(
            Verdict.ACCEPTED, tx.txid, tx.wtxid, replaced=[gone.entry.tx for gone in result.replaced]
        )

    def accept(
        self, tx: Transaction, *, max_fee_rate_sat_per_kvb: int | None = None, local: bool = False
    ) -> AcceptResult:
        """Mempool.accept with its consequences told onward. Raises as it does. A `local` one is announced until a peer
        asked for it."""
        result = self.mempool.accept(tx, max_fee_rate_sat_per_kvb=max_fee_rate_sat_per_kvb)
        if local and tx.txid in self.mempool:
            self.mempool.unbroadcast.add(tx.txid)
        self.announce_accepted([result])
        return result

    def announce_again(self, entry: MempoolEntry) -> None:
        """Tell peers of a transaction that is in the mempool already."""
        self._notify(Notice(accepted=[self.view(entry)]))

    def submit_package(
        self, txs: Sequence[Transaction], *, max_fee_rate_sat_per_kvb: int | None = None
    ) -> PackageResult:
        """Mempool.submit_package with its consequences told onward."""
        result = self.mempool.submit_package(txs, max_fee_rate_sat_per_kvb=max_fee_rate_sat_per_kvb)
        notice = Notice(accepted=[self.view(added.entry) for added in result.added if added.entry.txid in self.mempool])
        for transaction in notice.accepted:
            self.mempool.unbroadcast.add(transaction.txid)
        self._note_removals(notice, (*result.replaced, *result.evicted))
        if notice.accepted or notice.removed:
            self._notify(notice)
        return result

    def load_mempool(self, path: Path, **options: bool) -> bool:
        """Take in a mempool.dat; whether it could be read."""
        result = self.mempool.load(path, **options)
        self.announce_accepted(result.results)
        if result.error:
            log.info("Failed to deserialize mempool data on file: %s. Continuing anyway.", result.error)
            return False
        log.info(
            "Imported mempool transactions from file: %d succeeded, %d failed, %d expired, %d already there, %d waiting"
            " for initial broadcast",
            result.accepted,
            result.failed,
            result.expired,
            result.already_there,
            result.unbroadcast,
        )
        return True

    def announce_accepted(self, results: Iterable[AcceptResult]) -> None:
        notice = Notice()
        for result in results:
            if result.added is not None and result.txid in self.mempool:
                notice.accepted.append(self.view(result.added.entry))
            self._note_removals(notice, (*result.replaced, *result.evicted))
        if notice.accepted or notice.removed:
            self._notify(notice)

    def expire_mempool(self) -> None:
        """Drop what is too old or too much; run now and then."""
        self._note_removed(self.mempool.limit_size())

    # ------------------------------------------------------------------ the operator's hand

    def invalidate(self, block_hash: BlockHash) -> None:
        self.follow(self.chain.invalidate_block(block_hash), max_readded_blocks=MAX_READDED_BLOCKS)

    def reconsider(self, block_hash: BlockHash) -> None:
        self.follow(self.chain.reconsider_block(block_hash))

    def precious(self, block_hash: BlockHash) -> None:
        self.follow(self.chain.precious_block(block_hash))

    def save_mempool(self, path: Path) -> int:
        """LocalFault when the disk does not take it; the old file stays then."""
        try:
            return self.mempool.save(path)
        except OSError as error:
            raise LocalFault(f"the mempool could not be saved to {path}: {error.strerror}") from error

    # ------------------------------------------------------------------ UTXO snapshots

    def load_snapshot(self, file: BinaryIO, metadata: SnapshotMetadata) -> Iterator[LoadProgress]:
        """Chainstate.load_snapshot with its consequences told onward."""
        steps = self.chain.load_snapshot(file, metadata, mempool_is_empty=lambda: not len(self.mempool.entries))
        for progress in steps:
            if progress.loaded == progress.total or not progress.loaded % 1_000_000:
                log.info(
                    "[snapshot] %d coins loaded, %d checked, of %d", progress.loaded, progress.hashed, progress.total
                )
            yield progress
        log.info("[snapshot] successfully activated snapshot %s", hash_to_hex(metadata.base_hash))
        self.follow(self.chain.drain_events())

    def advance_background(self) -> None:
        """Validate a loaded UTXO snapshot for a moment. LocalFault if it proves wrong."""
        background = self.chain.background
        if background is None:
            return
        before, was_hashing = background.tip, background.hashing
        self.follow(self.chain.advance_background())
        if background.hashing and not was_hashing:
            log.info("[snapshot] computing UTXO stats for background chainstate to validate snapshot")
        if self.chain.background is None:
            log.info(
                "[snapshot] snapshot beginning at %s has been fully validated. The coins that validated it are removed"
                " from the disk at the next start.",
                hash_to_hex(background.base.hash),
            )
            self._notify(Notice())
        elif background.tip.height // BACKGROUND_LOG_BLOCKS != before.height // BACKGROUND_LOG_BLOCKS:
            log.info(
                "[background validation] height=%d of %d progress=%.6f",
                background.tip.height,
                background.base.height,
                background.progress,
            )

    # ------------------------------------------------------------------ care

    def warnings(self) -> list[str]:
        """What the operator should know, for getblockchaininfo and its kin; as of the last new tip. Safe from any
        thread."""
        return list(self._warnings)

    def _find_warnings(self) -> list[str]:
        found = [f"Unknown new rules activated (versionbit {bit})" for bit in self._unknown_rules()]
        invalid = self.chain.index.best_invalid
        if invalid is not None and invalid.chainwork > self.chain.tip.chainwork + 6 * _block_work(self.chain.tip):
            found.append(
                "Warning: Found invalid chain more than 6 blocks longer than our best chain."
                " This could be due to database corruption or consensus incompatibility with peers."
            )
        return found

    def _unknown_rules(self) -> list[int]:
        """Bits of soft forks that miners activated and this version does not know (BIP9)."""
        tip = self.chain.tip
        if self._in_ibd:
            return []
        return [bit for bit, active in self._version_bits.unknown_activations(tip) if active]

    def prune_height(self) -> int:
        """The lowest height from which every block is on disk."""
        height = 0
        for entry in reversed(self.chain.index.active):
            if not entry.have_data:
                height = entry.height + 1
                break
        return height

    def prune(self, height: int) -> int:
        """Delete the block files whose blocks all lie at or below `height` and deep enough; the last height that is
        gone, -1 for none."""
        return prune_chain(self.chain, height, self.indexes.prune_limit())

    def verify_chain(self, level: int, count: int) -> bool:
        """Check the last `count` blocks on disk (0 or less: all) as thoroughly as `level` (0 to 4) says; what is wrong
        goes to the log."""
        return self.find_damage(level, count) is None

    def find_damage(self, level: int, count: int) -> LocalFault | None:
        """verify_chain, with what it found."""
        kept = self.chain.tip.height + 1 - self.prune_height()
        blocks = min(count, kept) if count > 0 else kept
        if not blocks:  # at the block of a UTXO snapshot
            return None
        log.info("Verifying last %d blocks at level %d", blocks, level)
        try:
            self.chain.verify_chain(level, blocks)
        except LocalFault as fault:
            log.error("Verification error: %s", fault)
            return fault
        return None


def _block_work(entry: BlockIndexEntry) -> int:
    return entry.chainwork - (entry.prev.chainwork if entry.prev is not None else 0)
