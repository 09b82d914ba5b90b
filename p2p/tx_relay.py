"""Transactions: announced, asked for, received, passed on. Source: Core's node/txdownloadman and SendMessages.

Announcements trickle: each peer gets a sorted batch at random times, five seconds apart on average inbound and two
outbound, so that an observer cannot tell who was first. What was rejected lately is not asked for again until the
next block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chain.interfaces import MempoolTransaction, TransactionOutcome, Verdict
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, Txid, Wtxid, hash_to_hex
from p2p import log
from p2p.constants import (
    AVG_FEEFILTER_BROADCAST_INTERVAL_S,
    FEE_FILTER_UNLIMITED,
    FEEFILTER_VERSION,
    GETDATA_TX_INTERVAL_S,
    INBOUND_INVENTORY_BROADCAST_INTERVAL_S,
    INVENTORY_BROADCAST_MAX,
    INVENTORY_BROADCAST_TARGET,
    MAX_FEEFILTER_CHANGE_DELAY_S,
    MAX_GETDATA_SIZE,
    MAX_INV_SIZE,
    MAX_PEER_TX_ANNOUNCEMENTS,
    MAX_PEER_TX_REQUEST_IN_FLIGHT,
    NONPREF_PEER_TX_DELAY_S,
    OUTBOUND_INVENTORY_BROADCAST_INTERVAL_S,
    OVERLOADED_PEER_TX_DELAY_S,
    TXID_RELAY_DELAY_S,
)
from p2p.context import Context
from p2p.errors import PeerDropped
from p2p.messages.feefilter import FeeFilter
from p2p.messages.inventory import MSG_TX, MSG_WITNESS_FLAG, MSG_WTX, GetData, Inv, InvMessage
from p2p.orphans import OrphanPool
from p2p.peer import Peer
from p2p.permissions import Permission
from p2p.rolling import RollingSet
from p2p.tx_request import TxAnnouncement, TxRequests

RECENT_REJECTS = 60_000
#: judged by what is spent alone: holds for every witness, so the txid may be remembered
WITNESS_INDEPENDENT = "bad-txns-nonstandard-inputs"
FILTER_STEP = 1.1  #: fee filters are rounded to powers of this, so that they do not fingerprint us


class TxRelay:
    """The part of the engine that handles transactions."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self.requests = TxRequests(ctx.rng)
        self.orphans = OrphanPool(ctx.rng, ctx.config.max_orphans)
        self._rejects = RollingSet(RECENT_REJECTS)
        self._next_inbound_send = 0.0  #: shared by inbound peers: connecting often does not help to time us
        self._filter_levels = _filter_levels()
        self.on_served: Callable[[Txid], None] = lambda txid: None  #: a peer fetched a transaction from us
        self.on_extra: Callable[[Transaction], None] = lambda tx: None  #: not in the mempool, but may be in a block
        self.mempool_sequence = 1  #: one above the highest entry that we have been told of

    # --- what we have

    def have(self, announcement: TxAnnouncement) -> bool:
        """In the mempool, confirmed, an orphan, or rejected lately."""
        by_wtxid, tx_hash = announcement
        if tx_hash in self.orphans or tx_hash in self._rejects or self._node.recently_confirmed(tx_hash):
            return True
        find = self._node.transaction_by_wtxid if by_wtxid else self._node.transaction_by_txid
        return find(tx_hash) is not None

    # --- announced to us

    def on_inv(self, peer: Peer, inv: Inv) -> None:
        """One transaction of an inv. PeerDropped if the peer must not announce any."""
        if self._ctx.refuses_transactions(peer):
            raise PeerDropped(f"transaction ({hash_to_hex(inv.hash)}) inv sent in violation of protocol")
        if peer.tx is not None:
            peer.tx.known.add(inv.hash)
        if self._node.is_initial_block_download():
            return
        announcement = TxAnnouncement(inv.type == MSG_WTX, inv.hash)
        already = self._announced(peer, announcement)
        log.net.debug("got inv: %s %s peer=%d", inv, "have" if already else "new", peer.id)

    def _announced(self, peer: Peer, announcement: TxAnnouncement) -> bool:
        if announcement.by_wtxid:
            orphan = self.orphans.get(announcement.hash)
            if orphan is not None:
                parents = self._missing_parents(parents_of(orphan))
                if parents and self._ask_for_parents(peer, orphan.wtxid, parents):
                    self.orphans.add_announcer(orphan.wtxid, peer.id)
                return True
        if self.have(announcement):
            return True
        if not peer.may(Permission.RELAY) and self.requests.count(peer.id) >= MAX_PEER_TX_ANNOUNCEMENTS:
            return False
        self.requests.announced(
            peer.id,
            announcement,
            peer.sync.preferred_download,
            self._ctx.clock() + self._delay(peer, announcement.by_wtxid),
        )
        return False

    def _delay(self, peer: Peer, by_wtxid: bool) -> float:
        delay = 0.0
        if not peer.sync.preferred_download:
            delay += NONPREF_PEER_TX_DELAY_S
        if not by_wtxid and any(p.wtxid_relay and p.handshake_done for p in self._ctx.peers.values()):
            delay += TXID_RELAY_DELAY_S
        if not peer.may(Permission.RELAY) and self.requests.count_in_flight(peer.id) >= MAX_PEER_TX_REQUEST_IN_FLIGHT:
            delay += OVERLOADED_PEER_TX_DELAY_S
        return delay

    def _missing_parents(self, parents: Iterable[Txid]) -> list[Txid]:
        return [p for p in parents if not self.have(TxAnnouncement(False, p))]

    def _ask_for_parents(self, peer: Peer, wtxid: Wtxid, parents: Sequence[Txid]) -> bool:
        """Whether the peer was made a candidate for the parents of an orphan that it announced."""
        if self.orphans.has_from(wtxid, peer.id):
            return False
        relay = peer.may(Permission.RELAY)
        if not relay and self.requests.count(peer.id) + len(parents) > MAX_PEER_TX_ANNOUNCEMENTS:
            return False
        when = self._ctx.clock() + self._delay(peer, by_wtxid=False)
        for parent in parents:
            self.requests.announced(peer.id, TxAnnouncement(False, parent), peer.sync.preferred_download, when)
        return True

    def request_due(self, peer: Peer) -> None:
        """Send getdata for what is this peer's turn."""
        if not self.requests.count(peer.id):
            return
        now = self._ctx.clock()
        chosen, expired = self.requests.requestable(peer.id, now)
        for peer_id, announcement in expired:
            kind = "wtx" if announcement.by_wtxid else "tx"
            log.net.debug("timeout of inflight %s %s from peer=%d", kind, hash_to_hex(announcement.hash), peer_id)
        wanted = []
        for announcement in chosen:
            if self.have(announcement):
                self.requests.forget(announcement.hash)
                continue
            kind = "wtx" if announcement.by_wtxid else "tx"
            log.net.debug("Requesting %s %s peer=%d", kind, hash_to_hex(announcement.hash), peer.id)
            flags = MSG_WITNESS_FLAG if peer.serves_witnesses else 0
            wanted.append(Inv(MSG_WTX if announcement.by_wtxid else MSG_TX | flags, announcement.hash))
            self.requests.requested(peer.id, announcement.hash, now + GETDATA_TX_INTERVAL_S)
        for start in range(0, len(wanted), MAX_GETDATA_SIZE):
            self._ctx.send(peer, GetData(tuple(wanted[start : start + MAX_GETDATA_SIZE])))

    def on_notfound(self, peer: Peer, items: Sequence[Inv]) -> None:
        """The next candidate gets its turn."""
        if len(items) <= MAX_PEER_TX_ANNOUNCEMENTS + 16:
            for inv in items:
                if inv.is_tx:
                    self.requests.answered(peer.id, inv.hash)

    # --- received

    async def on_tx(self, peer: Peer, tx: Transaction) -> None:
        """A transaction from a peer. PeerDropped if it must not send any."""
        if self._ctx.refuses_transactions(peer):
            raise PeerDropped("transaction sent in violation of protocol")
        if self._node.is_initial_block_download():
            return
        if peer.tx is not None:
            peer.tx.known.add(tx.wtxid if peer.wtxid_relay else tx.txid)
        self.requests.answered(peer.id, tx.txid)
        self.requests.answered(peer.id, tx.wtxid)
        if self.have(TxAnnouncement(True, tx.wtxid)):
            if peer.may(Permission.FORCERELAY):
                self._force_relay(peer, tx)
            return
        await self._process(peer, tx, first_time=True)

    def _force_relay(self, peer: Peer, tx: Transaction) -> None:
        txid, wtxid = hash_to_hex(tx.txid), hash_to_hex(tx.wtxid)
        if self._node.transaction_by_txid(tx.txid) is None:
            log.net.info(
                "Not relaying non-mempool transaction %s (wtxid=%s) from forcerelay peer=%d", txid, wtxid, peer.id
            )
        else:
            log.net.info("Force relaying tx %s (wtxid=%s) from peer=%d", txid, wtxid, peer.id)
            self.relay(tx.txid, tx.wtxid)

    async def _process(self, peer: Peer, tx: Transaction, *, first_time: bool) -> None:
        outcome = await self._node.process_transaction(tx.raw)
        if outcome.verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE):
            self.requests.forget(tx.txid)
            self.requests.forget(tx.wtxid)
            self.orphans.parent_accepted(tx.txid)
            self.orphans.remove(tx.wtxid)
            if outcome.verdict == Verdict.ACCEPTED:
                peer.last_tx = self._ctx.clock()
                for replaced in outcome.replaced:
                    self.on_extra(replaced)
            return
        log.mempoolrej.debug(
            "%s (wtxid=%s) from peer=%d was not accepted: %s",
            hash_to_hex(tx.txid),
            hash_to_hex(tx.wtxid),
            peer.id,
            outcome.reason,
        )
        if first_time and not outcome.witness_may_be_stripped:
            self.on_extra(tx)
        if outcome.verdict == Verdict.MISSING_PARENT:
            if first_time:
                self._on_orphan(peer, tx)
            return
        self._on_rejected(tx, outcome)

    def _on_orphan(self, peer: Peer, tx: Transaction) -> None:
        parents = parents_of(tx)
        if tx.wtxid in self._rejects or any(p in self._rejects for p in parents):
            log.mempool.debug(
                "not keeping orphan with rejected parents %s (wtxid=%s)", hash_to_hex(tx.txid), hash_to_hex(tx.wtxid)
            )
            self._rejects.add(tx.txid)
            self._rejects.add(tx.wtxid)
            self.requests.forget(tx.txid)
            self.requests.forget(tx.wtxid)
            return
        missing = self._missing_parents(parents)
        candidates = [peer.id, *self.requests.candidates(tx.txid), *self.requests.candidates(tx.wtxid)]
        for peer_id in dict.fromkeys(candidates):
            other = self._ctx.peers.get(peer_id)
            if other is not None and self._ask_for_parents(other, tx.wtxid, missing):
                self.orphans.add(tx, peer_id)
        if peer.tx is not None:
            for parent in parents:
                peer.tx.known.add(parent)
        self.requests.forget(tx.txid)
        self.requests.forget(tx.wtxid)

    def _on_rejected(self, tx: Transaction, outcome: TransactionOutcome) -> None:
        self.orphans.remove(tx.wtxid)
        if outcome.witness_may_be_stripped:
            return  # somebody may have cut or changed the witness of a good transaction
        self._rejects.add(tx.wtxid)
        self.requests.forget(tx.wtxid)
        if not tx.has_witness or outcome.reason.startswith(WITNESS_INDEPENDENT):
            self._rejects.add(tx.txid)
            self.requests.forget(tx.txid)

    async def retry_orphans(self, peer: Peer) -> None:
        """Try this peer's orphans whose parent has come, one after another."""
        while True:
            tx = self.orphans.next_work(peer.id)
            if tx is None:
                return
            await self._process(peer, tx, first_time=False)

    def has_work(self, peer: Peer) -> bool:
        return self.orphans.has_work(peer.id)

    # --- the chain and the mempool move

    def on_tip_changed(self) -> None:
        """What was refused may be acceptable now."""
        self._rejects.clear()

    def forget_transactions(self, transactions: Sequence[Transaction]) -> None:
        """They are in a block: nobody need be asked for them."""
        for tx in transactions:
            self.requests.forget(tx.txid)
            self.requests.forget(tx.wtxid)
        if len(self.orphans):
            self.orphans.forget_spent(transactions)

    def forget_peer(self, peer: Peer) -> None:
        self.requests.disconnected(peer.id)
        self.orphans.forget_peer(peer.id)

    def relay(self, txid: Txid, wtxid: Wtxid) -> None:
        """Queue an announcement to every peer that wants transactions and is not known to have it."""
        for peer in self._ctx.peers.values():
            tx = peer.tx
            if tx is None or not peer.handshake_done or not tx.next_send:
                continue
            if (wtxid if peer.wtxid_relay else txid) not in tx.known:
                tx.to_send[wtxid] = None

    # --- announced by us

    def announce_due(self, peer: Peer) -> None:
        """Send the peer's trickle when its time has come (at once to noban peers)."""
        tx = peer.tx
        if tx is None:
            return
        now = self._ctx.clock()
        trickle = peer.may(Permission.NOBAN)
        if tx.next_send < now:
            trickle = True
            if peer.inbound:
                if self._next_inbound_send < now:
                    self._next_inbound_send = now + self._ctx.exponential(INBOUND_INVENTORY_BROADCAST_INTERVAL_S)
                tx.next_send = self._next_inbound_send
            else:
                tx.next_send = now + self._ctx.exponential(OUTBOUND_INVENTORY_BROADCAST_INTERVAL_S)
        if not trickle:
            return
        if not tx.relay:
            tx.to_send.clear()
        announced: list[Inv] = []
        if tx.send_mempool:
            tx.send_mempool = False
            announced += [
                self._announce(peer, entry) for entry in self._node.all_transactions() if self._wants(peer, entry, True)
            ]
        if tx.to_send:
            announced += self._next_batch(peer)
        for start in range(0, len(announced), MAX_INV_SIZE):
            self._ctx.send(peer, InvMessage(tuple(announced[start : start + MAX_INV_SIZE])))
        tx.last_sequence = self.mempool_sequence

    def _next_batch(self, peer: Peer) -> list[Inv]:
        tx = peer.tx
        if tx is None:
            return []
        entries = [e for e in map(self._node.transaction_by_wtxid, tx.to_send) if e is not None]
        present = {e.wtxid for e in entries}
        for wtxid in [w for w in tx.to_send if w not in present]:
            del tx.to_send[wtxid]
        limit = min(INVENTORY_BROADCAST_MAX, INVENTORY_BROADCAST_TARGET + len(tx.to_send) // 1000 * 5)
        batch: list[Inv] = []
        for entry in topological(entries):
            if len(batch) >= limit:
                break
            del tx.to_send[entry.wtxid]
            if self._wants(peer, entry, False):
                batch.append(self._announce(peer, entry))
        return batch

    def _wants(self, peer: Peer, entry: MempoolTransaction, even_if_known: bool) -> bool:
        tx = peer.tx
        if tx is None or entry.fee * 1000 < tx.fee_filter * entry.vsize:
            return False
        return even_if_known or (entry.wtxid if peer.wtxid_relay else entry.txid) not in tx.known

    def _announce(self, peer: Peer, entry: MempoolTransaction) -> Inv:
        inv = Inv(MSG_WTX, entry.wtxid) if peer.wtxid_relay else Inv(MSG_TX, entry.txid)
        if peer.tx is not None:
            peer.tx.known.add(inv.hash)
            peer.tx.to_send.pop(entry.wtxid, None)
            self.mempool_sequence = max(self.mempool_sequence, entry.sequence + 1)
        return inv

    def find_for_getdata(self, peer: Peer, inv: Inv) -> MempoolTransaction | None:
        """A mempool transaction that we may give to the peer: not one newer than our last announcement to it, which
        would tell when it came."""
        find = self._node.transaction_by_wtxid if inv.type == MSG_WTX else self._node.transaction_by_txid
        entry = find(inv.hash)
        if entry is None or peer.tx is None or entry.sequence >= peer.tx.last_sequence:
            return None
        self.on_served(entry.txid)
        return entry

    # --- fee filter (BIP133)

    def maybe_feefilter(self, peer: Peer) -> None:
        """Tell the peer what we would refuse anyway."""
        config = self._ctx.config
        if (
            config.blocks_only
            or peer.common_version < FEEFILTER_VERSION
            or peer.may(Permission.FORCERELAY)
            or peer.block_relay_only
        ):
            return
        now = self._ctx.clock()
        initial = self._node.is_initial_block_download()
        current = FEE_FILTER_UNLIMITED if initial else self._node.minimum_fee_rate_sat_per_kvb()
        if not initial and peer.fee_filter_sent == int(self._filter_levels[-1]):
            peer.next_fee_filter = 0.0
        if now > peer.next_fee_filter:
            to_send = max(self._round(current, self._ctx.rng.random()), config.min_relay_fee_rate_sat_per_kvb)
            if to_send != peer.fee_filter_sent:
                self._ctx.send(peer, FeeFilter(to_send))
                peer.fee_filter_sent = to_send
            peer.next_fee_filter = now + self._ctx.exponential(AVG_FEEFILTER_BROADCAST_INTERVAL_S)
            return
        changed = not 3 * peer.fee_filter_sent / 4 <= current <= 4 * peer.fee_filter_sent / 3
        if changed and now + MAX_FEEFILTER_CHANGE_DELAY_S < peer.next_fee_filter:
            peer.next_fee_filter = now + self._ctx.rng.random() * MAX_FEEFILTER_CHANGE_DELAY_S

    def _round(self, fee_rate: int, draw: float) -> int:
        """The level at or below, or (one time in three, for `draw` above 2/3 … as Core) the one above."""
        levels = self._filter_levels
        index = next((i for i, level in enumerate(levels) if level >= fee_rate), len(levels))
        if index == len(levels) or (index and draw < 2 / 3):
            index -= 1
        return int(levels[index])


def _filter_levels() -> list[float]:
    """Core's FeeFilterRounder: zero, then from half the default incremental fee to 0.1 coin per kvB."""
    levels, level = [0.0], 50.0
    while level <= 1e7:
        levels.append(level)
        level *= FILTER_STEP
    return levels


def parents_of(tx: Transaction) -> list[Txid]:
    """The distinct txids that a transaction spends."""
    return [Txid(p) for p in dict.fromkeys(outpoint[:32] for outpoint in map(OutPoint, tx.prevouts))]


def topological(entries: Sequence[MempoolTransaction]) -> list[MempoolTransaction]:
    """Highest fee rate first, but never a child before a parent that is among them."""
    by_txid = {e.txid: e for e in entries}
    order: list[MempoolTransaction] = []
    done: set[Txid] = set()
    for entry in sorted(entries, key=lambda e: (-e.fee_rate_sat_per_kvb, e.sequence)):
        stack = [entry]
        while stack:
            top = stack[-1]
            waiting = [by_txid[p] for p in top.parents if p in by_txid and p not in done]
            if waiting and top.txid not in done:
                stack.extend(waiting)
                continue
            stack.pop()
            if top.txid not in done:
                done.add(top.txid)
                order.append(top)
    return order
