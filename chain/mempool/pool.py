"""The mempool: unconfirmed transactions that could be in the next block (Core's txmempool.cpp).

Owned by the chain's writer thread, like the `Chainstate` it stands on; nothing here is thread safe or calls anyone
back. Every entry spends coins of the active chain or outputs of other entries, no two spend the same, and each could
be mined next (final, mature, sequence locks satisfied).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chain.consensus.deployments import block_script_flags
from chain.events import BlockConnected, BlockDisconnected, Event
from chain.index import BlockIndexEntry
from chain.mempool import accept as acceptance
from chain.mempool import graph as relations
from chain.mempool import packages, persistence
from chain.mempool.entries import (
    MEMPOOL_HEIGHT,
    AcceptResult,
    AddedTx,
    MempoolChange,
    MempoolEntry,
    MempoolInfo,
    RemovalReason,
    RemovedTx,
)
from chain.mempool.graph import Chunk, ClusterGraph
from chain.mempool.policy import MempoolPolicy
from chain.mempool.reorg import DisconnectedTransactions, stale_entries
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction
from chain.primitives.types import ZERO_HASH, OutPoint, PackedCoin, Txid, Wtxid

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

ROLLING_FEE_HALFLIFE_S: Final = 12 * 3600  #: how fast the minimum fee of a full mempool falls again once blocks come
_MAX_I64: Final = (1 << 63) - 1


class Mempool:
    """See the module. `entries` is read by others and changed only here.

    `policy` holds the operator's limits, `clock` returns Unix seconds. What passes the script checks here goes into
    `chain.script_cache`.
    """

    def __init__(
        self,
        chain: Chainstate,
        policy: MempoolPolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain = chain
        self.policy = policy if policy is not None else MempoolPolicy()
        self.clock = clock
        self.entries: dict[Txid, MempoolEntry] = {}
        self.graph = ClusterGraph()
        self.deltas: dict[Txid, int] = {}  #: priority deltas in satoshi, also of transactions that are not here (yet)
        self.unbroadcast: set[Txid] = set()  #: submitted here and not yet asked for by any peer
        self.loaded = False  #: whether `load` has been tried (getmempoolinfo)
        self.sequence = 1  #: counts every transaction that enters or leaves (ZMQ, getrawmempool)
        self.transactions_updated = 0  #: changes whenever a new template could differ (getblocktemplate longpoll)
        self.total_vsize = 0
        self.total_fee = 0  #: without deltas
        self.usage = 0  #: bytes that count against the memory limit
        self._by_wtxid: dict[Wtxid, MempoolEntry] = {}
        self._spenders: dict[OutPoint, MempoolEntry] = {}
        self._oldest_time = float("inf")  # no entry arrived before it
        self._rolling_fee_rate = 0.0
        self._rolling_updated = self.clock()
        self._block_since_bump = False
        self._flags_tip: BlockIndexEntry | None = None
        self._flags = 0

    # ------------------------------------------------------------------ accepting

    def accept(
        self,
        tx: Transaction,
        *,
        test_only: bool = False,
        max_fee_rate_sat_per_kvb: int | None = None,
        bypass_limits: bool = False,
        entry_time: int | None = None,
    ) -> AcceptResult:
        """Judge one transaction and, unless `test_only`, take it in.

        Raises ConsensusError (invalid in any block), MissingInputs (cannot be judged) or PolicyError (this node does
        not want it), with Core's reasons. `max_fee_rate_sat_per_kvb` guards a local sender against absurd fees ("max
        feerate exceeded"). `bypass_limits` is for transactions that were in a block: neither fees nor TRUC rules are
        asked of them. `entry_time` in Unix seconds, now by default.
        """
        options = acceptance.Options(
            test_only=test_only,
            bypass_limits=bypass_limits,
            max_fee_rate=max_fee_rate_sat_per_kvb,
            entry_time=entry_time,
        )
        return acceptance.accept_single(self, tx, options)

    def test_accept(
        self, txs: Sequence[Transaction], *, max_fee_rate_sat_per_kvb: int | None = None
    ) -> packages.PackageResult:
        """What would become of these transactions, parents first, judged together (testmempoolaccept). Nothing
        changes. Never raises for what the transactions do: see PackageResult."""
        return packages.test_accept(self, txs, max_fee_rate_sat_per_kvb)

    def submit_package(
        self, txs: Sequence[Transaction], *, max_fee_rate_sat_per_kvb: int | None = None
    ) -> packages.PackageResult:
        """Take in a child with its unconfirmed parents, child last, whose fees are weighed together where need be
        (submitpackage)."""
        return packages.submit(self, txs, max_fee_rate_sat_per_kvb)

    # ------------------------------------------------------------------ following the chain

    def handle(self, events: Iterable[Event], *, max_readded_blocks: int | None = None) -> MempoolChange:
        """Follow what `Chainstate` did; call it with all events of one activation, right after it.

        Confirmed transactions leave, and so does what conflicts with them. Transactions of disconnected blocks come
        back if they still could be mined; what became unfinal, immature or orphaned leaves. With `max_readded_blocks`
        only those of so many disconnected blocks, counted from the old tip, come back (Core's `invalidateblock` uses
        10).
        """
        removed: list[RemovedTx] = []
        added: list[AddedTx] = []
        disconnected = DisconnectedTransactions()
        blocks_lost = 0
        for event in events:
            if isinstance(event, BlockConnected):
                disconnected.confirm(event.block.transactions)
                removed += self._remove_for_block(event.block)
            elif isinstance(event, BlockDisconnected):
                blocks_lost += 1
                wanted = max_readded_blocks is None or blocks_lost <= max_readded_blocks
                for tx in disconnected.add_block(event.block.transactions, wanted=wanted):
                    removed += self._remove_with_descendants_of(tx, RemovalReason.REORG)
        if blocks_lost:
            self._rejoin(disconnected, added, removed)
        return MempoolChange(added, removed)

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, txid: object) -> bool:
        return txid in self.entries

    def get(self, txid: bytes) -> MempoolEntry | None:
        """The entry with this txid."""
        return self.entries.get(Txid(txid))

    def get_by_wtxid(self, wtxid: bytes) -> MempoolEntry | None:
        """The entry with this wtxid."""
        return self._by_wtxid.get(Wtxid(wtxid))

    def spender(self, outpoint: bytes) -> MempoolEntry | None:
        """The entry that spends this 36-byte outpoint."""
        return self._spenders.get(OutPoint(outpoint))

    def ancestors(self, entry: MempoolEntry) -> set[MempoolEntry]:
        """All its unconfirmed ancestors, itself not included."""
        return relations.ancestors(entry)

    def descendants(self, entry: MempoolEntry) -> set[MempoolEntry]:
        """All its descendants, itself not included."""
        return relations.descendants(entry)

    def cluster(self, entry: MempoolEntry) -> list[Chunk]:
        """The chunks of its cluster, in mining order."""
        return self.graph.chunks_of(entry.cluster)

    def mining_order(self) -> list[MempoolEntry]:
        """All entries as a miner would take them, parents before children."""
        return [entry for chunk in self.graph.mining_order() for entry in chunk.entries]

    def get_coin(self, outpoint: bytes) -> PackedCoin | None:
        """The coin behind an outpoint, created by an entry (its height is MEMPOOL_HEIGHT) or by the chain, whether or
        not an entry spends it. Use `spender` to know that."""
        parent = self.entries.get(Txid(outpoint[:32]))
        if parent is None:
            return self.chain.get_coin(OutPoint(outpoint))
        index = int.from_bytes(outpoint[32:], "little")
        tx = parent.tx
        if index >= len(tx.values):
            return None
        return pack_coin(tx.values[index], tx.scripts[index], MEMPOOL_HEIGHT, False)

    def min_fee_rate(self) -> int:
        """Satoshi per kvB below which nothing enters at the moment because the mempool was full lately; 0 when it was
        not. The relay minimum of the policy holds besides. It halves every 12 hours once a block came, faster while
        the mempool is not even half full."""
        if not self._block_since_bump or not self._rolling_fee_rate:
            return int(self._rolling_fee_rate + 0.5)
        now = self.clock()
        if now > self._rolling_updated + 10:
            halflife: float = ROLLING_FEE_HALFLIFE_S
            if self.usage < self.policy.max_mempool_bytes // 4:
                halflife /= 4
            elif self.usage < self.policy.max_mempool_bytes // 2:
                halflife /= 2
            self._rolling_fee_rate /= 2 ** ((now - self._rolling_updated) / halflife)
            self._rolling_updated = now
            if self._rolling_fee_rate < self.policy.incremental_relay_fee_rate / 2:
                self._rolling_fee_rate = 0.0
                return 0
        return max(int(self._rolling_fee_rate + 0.5), self.policy.incremental_relay_fee_rate)

    def info(self) -> MempoolInfo:
        """Totals for getmempoolinfo."""
        return MempoolInfo(
            size=len(self.entries),
            bytes=self.total_vsize,
            usage=self.usage,
            total_fee=self.total_fee,
            max_mempool=self.policy.max_mempool_bytes,
            mempool_min_fee=max(self.min_fee_rate(), self.policy.min_relay_fee_rate),
            min_relay_fee=self.policy.min_relay_fee_rate,
            incremental_relay_fee=self.policy.incremental_relay_fee_rate,
            unbroadcast_count=len(self.unbroadcast),
            sequence=self.sequence,
            loaded=self.loaded,
        )

    # ------------------------------------------------------------------ the operator's hand

    def prioritise(self, txid: bytes, fee_delta: int) -> None:
        """Add satoshi to what a transaction counts as paying, here or when it comes; deltas add up, and a sum of 0 is
        forgotten."""
        key = Txid(txid)
        delta = max(-_MAX_I64 - 1, min(_MAX_I64, self.deltas.get(key, 0) + fee_delta))
        if delta:
            self.deltas[key] = delta
        else:
            self.deltas.pop(key, None)
        entry = self.entries.get(key)
        if entry is not None:
            entry.modified_fee = max(-_MAX_I64 - 1, min(_MAX_I64, entry.modified_fee + fee_delta))
            self.graph.fee_changed(entry)
            self.transactions_updated += 1

    def limit_size(self) -> list[RemovedTx]:
        """Drop what is too old, then the worst paying chunks until the memory limit holds. `accept` does it by
        itself."""
        return self.expire() + self._trim()

    def expire(self) -> list[RemovedTx]:
        """Drop what came more than the policy's expiry ago, with its descendants."""
        oldest_kept = int(self.clock()) - self.policy.expiry_s
        if self._oldest_time >= oldest_kept:
            return []
        expired: set[MempoolEntry] = set()
        for entry in self.entries.values():
            if entry.time < oldest_kept and entry not in expired:
                expired.add(entry)
                expired |= relations.descendants(entry)
        removed = self._remove(expired, RemovalReason.EXPIRY)
        self._oldest_time = min((entry.time for entry in self.entries.values()), default=float("inf"))
        return removed

    def save(self, path: Path) -> int:
        """Write mempool.dat (Core's format), replacing the file only when the new one is complete; returns the number
        of transactions. OSError when the disk does not take it."""
        return persistence.save(self, path)

    def load(
        self,
        path: Path,
        *,
        use_current_time: bool = False,
        apply_fee_deltas: bool = True,
        apply_unbroadcast: bool = True,
    ) -> persistence.LoadResult:
        """Take in a mempool.dat. An absent or malformed file is reported in the result, never raised."""
        result = persistence.LoadResult()
        for result in self.load_steps(  # noqa: B007 - the last one is wanted
            path,
            use_current_time=use_current_time,
            apply_fee_deltas=apply_fee_deltas,
            apply_unbroadcast=apply_unbroadcast,
        ):
            pass
        return result

    def load_steps(
        self,
        path: Path,
        *,
        use_current_time: bool = False,
        apply_fee_deltas: bool = True,
        apply_unbroadcast: bool = True,
    ) -> Iterator[persistence.LoadResult]:
        """`load` in steps of some ten milliseconds, so that other work can be done in between; yields the same, growing
        result each time. `loaded` is set when it is exhausted."""
        yield from persistence.load_steps(
            self,
            path,
            use_current_time=use_current_time,
            apply_fee_deltas=apply_fee_deltas,
            apply_unbroadcast=apply_unbroadcast,
        )
        self.loaded = True

    # ------------------------------------------------------------------ for the other modules of this package

    def insert(self, entry: MempoolEntry, parents: Collection[MempoolEntry]) -> AddedTx:
        """Add an entry that has passed every check. `parents` are its parents among the entries."""
        tx = entry.tx
        self.entries[entry.txid] = entry
        self._by_wtxid[entry.wtxid] = entry
        for outpoint in tx.prevouts:
            self._spenders[outpoint] = entry
        self.graph.add(entry, parents)
        self.total_vsize += entry.vsize
        self.total_fee += entry.fee
        self.usage += entry.usage
        self.transactions_updated += 1
        self._oldest_time = min(self._oldest_time, entry.time)
        added = AddedTx(entry, self.sequence)
        self.sequence += 1
        return added

    def next_block_flags(self) -> int:
        """The flags under which the next block's scripts will run."""
        tip = self.chain.tip
        if self._flags_tip is not tip:
            self._flags_tip = tip
            self._flags = int(block_script_flags(ZERO_HASH, tip.height + 1, self.chain.params))
        return self._flags

    def remove(self, entries: Collection[MempoolEntry], reason: RemovalReason) -> list[RemovedTx]:
        """Take entries out; the caller includes their descendants unless these stay valid."""
        return self._remove(entries, reason)

    # ------------------------------------------------------------------ details

    def _remove(self, entries: Collection[MempoolEntry], reason: RemovalReason) -> list[RemovedTx]:
        if not entries:
            return []
        self.graph.remove(entries)
        removed = []
        for entry in sorted(entries, key=_arrival):
            del self.entries[entry.txid]
            del self._by_wtxid[entry.wtxid]
            for outpoint in entry.tx.prevouts:
                del self._spenders[outpoint]
            self.unbroadcast.discard(entry.txid)
            self.total_vsize -= entry.vsize
            self.total_fee -= entry.fee
            self.usage -= entry.usage
            removed.append(RemovedTx(entry, reason, self.sequence))
            self.sequence += 1
        self.transactions_updated += len(removed)
        return removed

    def _remove_for_block(self, block: Block) -> list[RemovedTx]:
        confirmed: list[MempoolEntry] = []
        conflicts: set[MempoolEntry] = set()
        entries, spenders, deltas = self.entries, self._spenders, self.deltas
        if entries or deltas:
            for tx in block.transactions:
                entry = entries.get(tx.txid)
                if entry is not None:
                    confirmed.append(entry)
                else:
                    for outpoint in tx.prevouts:
                        rival = spenders.get(outpoint)
                        if rival is not None and rival not in conflicts:
                            conflicts.add(rival)
                            conflicts |= relations.descendants(rival)
                            deltas.pop(rival.txid, None)
                if deltas:
                    deltas.pop(tx.txid, None)
        removed = self._remove(confirmed, RemovalReason.BLOCK)
        removed += self._remove(conflicts, RemovalReason.CONFLICT)
        self._rolling_updated = self.clock()
        self._block_since_bump = True
        return removed

    def _remove_with_descendants_of(self, tx: Transaction, reason: RemovalReason) -> list[RemovedTx]:
        """Remove a transaction, or if it is not here whatever builds on it."""
        entry = self.entries.get(tx.txid)
        roots = [entry] if entry is not None else self._spenders_of(tx)
        doomed: set[MempoolEntry] = set(roots)
        for root in roots:
            doomed |= relations.descendants(root)
        return self._remove(doomed, reason)

    def _spenders_of(self, tx: Transaction) -> list[MempoolEntry]:
        spenders = self._spenders
        found = (spenders.get(tx.outpoint(index)) for index in range(len(tx.values)))
        return list(dict.fromkeys(entry for entry in found if entry is not None))

    def _rejoin(self, disconnected: DisconnectedTransactions, added: list[AddedTx], removed: list[RemovedTx]) -> None:
        """Bring back what a reorg left unconfirmed and make the mempool consistent with the new tip
        (MaybeUpdateMempoolForReorg)."""
        options = acceptance.Options(bypass_limits=True)
        for tx, wanted in disconnected.oldest_first():
            result = None
            if wanted and not tx.is_coinbase:
                result = acceptance.try_accept(self, tx, options)
            if result is None or result.added is None:
                if tx.txid not in self.entries:
                    removed += self._remove_with_descendants_of(tx, RemovalReason.REORG)
                continue
            added.append(result.added)
            removed += result.replaced
            for child in self._spenders_of(tx):  # they arrived while it was confirmed
                self.graph.link(result.added.entry, child)
        limits = self.policy.limits
        excess = self.graph.oversized(limits.cluster_count, limits.cluster_vsize * 4)
        removed += self._remove(excess, RemovalReason.SIZELIMIT)
        doomed: set[MempoolEntry] = set()
        for entry in stale_entries(self):
            doomed.add(entry)
            doomed |= relations.descendants(entry)
        removed += self._remove(doomed, RemovalReason.REORG)
        removed += self.limit_size()

    def _trim(self) -> list[RemovedTx]:
        removed: list[RemovedTx] = []
        limit = self.policy.max_mempool_bytes
        while self.usage > limit and self.entries:
            chunk = self.graph.worst_chunk()
            # Newcomers must beat what left by the incremental rate, or the same bytes could be relayed for free again
            # and again.
            rate = chunk.fee * 1000 // ((chunk.size + 3) // 4) + self.policy.incremental_relay_fee_rate
            if rate > self._rolling_fee_rate:
                self._rolling_fee_rate = float(rate)
                self._block_since_bump = False
            removed += self._remove(chunk.entries, RemovalReason.SIZELIMIT)
        return removed


def _arrival(entry: MempoolEntry) -> tuple[int, bytes]:
    return entry.sequence, entry.txid
