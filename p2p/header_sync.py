"""Headers first: which headers to ask for, what to make of those that come, and how we announce ours. Source: Core's
net_processing.cpp.

Headers are taken into the tree only when they connect, show proof of work, and lead to at least the work of our tip
less a day (or the network's minimum): a peer cannot fill memory with cheap ones. Chains that begin with less are
first followed without being stored (`p2p.headers_presync`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from chain.interfaces import HeaderInfo, HeadersOutcome, Verdict
from chain.primitives.header import BlockHeader
from chain.primitives.target import target_from_nbits, work_from_target
from chain.primitives.types import BlockHash, hash_to_hex
from p2p import log
from p2p.constants import (
    ANTI_DOS_WORK_BLOCKS,
    CHAIN_SYNC_TIMEOUT_S,
    HEADERS_DOWNLOAD_TIMEOUT_BASE_S,
    HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER_S,
    HEADERS_RESPONSE_TIME_S,
    MAX_BLOCKS_TO_ANNOUNCE,
    MAX_HEADERS_RESULTS,
    MAX_OUTBOUND_PEERS_TO_PROTECT,
    SENDHEADERS_VERSION,
)
from p2p.context import Context
from p2p.errors import PeerDropped, PeerMisbehaviour
from p2p.headers_presync import HeadersPresync
from p2p.messages.headers import Headers
from p2p.messages.inventory import MSG_BLOCK, Inv, InvMessage
from p2p.messages.locators import GetHeaders
from p2p.messages.signals import SendHeaders
from p2p.peer import ConnectionType, Peer
from p2p.permissions import Permission

DAY_S = 24 * 3600


def header_work(header: BlockHeader) -> int:
    """The work that a header claims; 0 for a nonsensical target."""
    target = target_from_nbits(header.nbits)
    return 0 if target is None else int(work_from_target(target))


def has_claimed_work(header: BlockHeader, pow_limit: int) -> bool:
    """Whether the hash meets the target that the header itself names."""
    target = target_from_nbits(header.nbits)
    return target is not None and target <= pow_limit and int.from_bytes(header.hash, "little") <= target


def punish(verdict: Verdict, *, inbound: bool, via_compact_block: bool = False) -> bool:
    """Whether a peer answers for such a verdict on what it sent (Core: MaybePunishNodeForBlock)."""
    if verdict in (Verdict.INVALID, Verdict.MUTATED):
        return not via_compact_block
    if verdict == Verdict.CACHED_INVALID:
        return not via_compact_block and not inbound
    return verdict == Verdict.MISSING_PARENT


class HeaderSync:
    """The part of the engine that handles headers."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self._presync: dict[int, HeadersPresync] = {}
        self.storing = 0  #: peers whose headers the chain is looking at right now
        self._last_inv_that_triggered_sync: BlockHash | None = None
        self.after_headers: Callable[[Peer, HeaderInfo], None] = lambda peer, last: None

    # --- what a peer is known to have

    def resolve_unknown(self, peer: Peer) -> None:
        """A hash that the peer announced may have become a header that we know."""
        sync = peer.sync
        if sync.last_unknown is not None:
            header = self._node.header(sync.last_unknown)
            if header is not None:
                sync.last_unknown = None
                self._raise_best(peer, header)

    def _raise_best(self, peer: Peer, header: HeaderInfo) -> None:
        sync = peer.sync
        if sync.best_known is None or header.chainwork >= sync.best_known.chainwork:
            sync.best_known = header
            sync.wants_download = True

    def announced(self, peer: Peer, block_hash: BlockHash) -> None:
        """The peer says that it has this block."""
        self.resolve_unknown(peer)
        header = self._node.header(block_hash)
        if header is not None:
            self._raise_best(peer, header)
        else:
            peer.sync.last_unknown = block_hash

    def peer_has(self, peer: Peer, header: HeaderInfo) -> bool:
        """Whether the peer has this header, because it told us of it or of a descendant, or we told it."""
        for known in (peer.sync.best_known, peer.sync.best_sent):
            if known is not None and known.height >= header.height:
                ancestor = self._node.ancestor(known.hash, header.height)
                if ancestor is not None and ancestor.hash == header.hash:
                    return True
        return False

    # --- asking

    def request(
        self, peer: Peer, from_hash: BlockHash | None = None, locator: Sequence[BlockHash] | None = None
    ) -> bool:
        """Send getheaders unless one is waiting for its answer; whether it was sent."""
        now = self._ctx.clock()
        if now - peer.sync.last_getheaders <= HEADERS_RESPONSE_TIME_S:
            return False
        chosen = self._node.locator(from_hash) if locator is None else locator
        self._ctx.send(peer, GetHeaders(tuple(chosen)))
        peer.sync.last_getheaders = now
        return True

    def on_block_inv(self, peer: Peer, block_hash: BlockHash) -> None:
        """An inv named a block that we do not know: ask for the headers that lead to it."""
        sync = peer.sync
        if not sync.started and (sync.inv_triggered_getheaders or block_hash == self._last_inv_that_triggered_sync):
            return
        if self.request(peer):
            log.net.debug("getheaders (%d) %s to %s", self._node.best_header().height, hash_to_hex(block_hash), peer)
        if not sync.started:
            sync.inv_triggered_getheaders = True
            self._last_inv_that_triggered_sync = block_hash

    def start_if_due(self, peer: Peer, sync_from_peer: bool) -> None:
        """Ask for headers for the first time: of one peer at once while we are far behind, of everyone when we are
        close to today."""
        sync = peer.sync
        if sync.started or not peer.serves_blocks:
            return
        best, now = self._node.best_header(), self._ctx.clock()
        alone = not any(p.sync.started for p in self._ctx.peers.values())
        if not ((alone and sync_from_peer) or best.time > now - DAY_S):
            return
        start = best
        if best.height > 0:
            start = (
                self._node.header(best.prev_hash) or best
            )  # so that an up-to-date peer's answer is not empty and tells what it has
        if self.request(peer, start.hash):
            log.net.debug("initial getheaders (%d) to %s", start.height, peer)
            sync.started = True
            spacing = self._node.params.block_interval_s
            expected = max(now - best.time, 0) / spacing
            sync.headers_timeout = (
                now + HEADERS_DOWNLOAD_TIMEOUT_BASE_S + HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER_S * expected
            )

    # --- receiving

    def anti_dos_work(self) -> int:
        """Chains with less work than this are not stored."""
        tip = self._node.tip()
        target = target_from_nbits(tip.nbits)
        work = int(work_from_target(target)) if target is not None else 0
        near_tip = int(tip.chainwork) - min(ANTI_DOS_WORK_BLOCKS * work, int(tip.chainwork))
        return max(near_tip, int(self._node.minimum_chain_work()))

    async def on_headers(
        self, peer: Peer, headers: Sequence[BlockHeader], *, via_compact_block: bool = False
    ) -> HeaderInfo | None:
        """Handle a headers message; the last header if the whole of it is in the tree now. PeerMisbehaviour and
        PeerDropped as Core has them."""
        if not headers:
            self.forget(peer)
            peer.sync.last_getheaders = 0.0
            return None
        self.check_form(headers)
        full = len(headers) == MAX_HEADERS_RESULTS
        trusted = False
        presync = self._presync.get(peer.id)
        if presync is not None:
            ready = self._continue_presync(peer, presync, headers, full)
            if ready is not None:
                if not ready:
                    return None
                headers, trusted = ready, True
        first = self._node.header(headers[0].prev_hash)
        if first is None:
            self._on_unconnecting(peer, headers)
            return None
        peer.sync.last_getheaders = 0.0
        known = self._node.header(headers[-1].hash)
        if known is not None and self._on_best_chain(known):
            trusted = True
        if peer.may(Permission.NOBAN):
            trusted = True
        if not trusted and self._low_work(peer, first, headers, full):
            return None
        last = await self.store(peer, headers, via_compact_block=via_compact_block)
        if last is None:
            return None
        if full and peer.id not in self._presync and self.request(peer, last.hash):
            log.net.debug("more getheaders (%d) to end to %s", last.height, peer)
        self._note_received(peer, last, new=known is None, more_may_come=full)
        self.after_headers(peer, last)
        return last

    async def store(
        self, peer: Peer, headers: Sequence[BlockHeader], *, via_compact_block: bool = False
    ) -> HeaderInfo | None:
        """Hand headers to the chain, whose work has been looked at; the last one if all were accepted. PeerMisbehaviour
        if they are invalid."""
        self.storing += 1
        try:
            outcome = await self._node.process_headers([h.raw for h in headers])
        finally:
            self.storing -= 1
        if outcome.verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE) and outcome.last is not None:
            if outcome.new and self._node.is_initial_block_download():
                self._log_progress(outcome.last)
            return outcome.last
        self._on_refused(peer, outcome, via_compact_block)
        return None

    def _log_progress(self, last: HeaderInfo) -> None:
        missing = max(self._ctx.clock() - last.time, 0) / self._node.params.block_interval_s
        percent = 100 * last.height / (last.height + missing) if last.height else 0.0
        log.validation.info("Synchronizing blockheaders, height: %d (~%.2f%%)", last.height, percent)

    def check_form(self, headers: Sequence[BlockHeader]) -> None:
        """PeerMisbehaviour unless they have their claimed work and build on each other."""
        pow_limit = self._node.params.pow_limit
        if not all(has_claimed_work(h, pow_limit) for h in headers):
            raise PeerMisbehaviour("header with invalid proof of work")
        if any(h.prev_hash != before.hash for before, h in pairwise(headers)):
            raise PeerMisbehaviour("non-continuous headers sequence")

    def _on_unconnecting(self, peer: Peer, headers: Sequence[BlockHeader]) -> None:
        """Perhaps a BIP130 announcement beyond what we know: ask for what lies between."""
        if self.request(peer):
            log.net.debug(
                "received header %s: missing prev block %s, sending getheaders (%d) to end (peer=%d)",
                hash_to_hex(headers[0].hash),
                hash_to_hex(headers[0].prev_hash),
                self._node.best_header().height,
                peer.id,
            )
        self.announced(peer, headers[-1].hash)

    def _on_best_chain(self, header: HeaderInfo) -> bool:
        best = self._node.best_header()
        if header.in_active_chain:
            return True
        ancestor = self._node.ancestor(best.hash, header.height) if header.height <= best.height else None
        return ancestor is not None and ancestor.hash == header.hash

    def _low_work(self, peer: Peer, first: HeaderInfo, headers: Sequence[BlockHeader], full: bool) -> bool:
        """Whether the headers were dealt with here, because their chain has too little work to be stored."""
        threshold = self.anti_dos_work()
        if int(first.chainwork) + sum(map(header_work, headers)) >= threshold:
            return False
        if full:
            presync = HeadersPresync(self._node.params, first, threshold, self._ctx.clock(), self._ctx.rng)
            self._presync[peer.id] = presync
            self._continue_presync(peer, presync, headers, full)
        else:
            log.net.debug("Ignoring low-work chain (height=%d) from %s", first.height + len(headers), peer)
        return True

    def _continue_presync(
        self, peer: Peer, presync: HeadersPresync, headers: Sequence[BlockHeader], full: bool
    ) -> list[BlockHeader] | None:
        """Headers that may be stored now (perhaps none yet); None when these do not belong to the sync, which is over
        then."""
        result = presync.process(headers, full=full)
        if result.success:
            peer.sync.last_getheaders = (
                0.0  # this was the answer: another request may go out, also when the sync is over
            )
        if result.request_more and result.success:
            self.request_at_once(peer, presync.locator(self._node.locator(presync.start.hash)))
        if presync.done:
            self.forget(peer)
        else:
            peer.presynced_height = presync.presync_height
        return result.ready if result.success else None

    def request_at_once(self, peer: Peer, locator: Sequence[BlockHash]) -> None:
        """The next part of a presync: the answer to the last request has just come."""
        peer.sync.last_getheaders = 0.0
        self.request(peer, locator=locator)

    def forget(self, peer: Peer) -> None:
        """The peer is gone, or its low-work sync is over."""
        self._presync.pop(peer.id, None)
        peer.presynced_height = -1

    def _on_refused(self, peer: Peer, outcome: HeadersOutcome, via_compact_block: bool) -> None:
        if outcome.verdict == Verdict.CACHED_INVALID and not peer.inbound:
            log.net.warning(
                "%s (received from %s). If this happens with all peers, consider database corruption "
                "(that -reindex may fix) or a potential consensus incompatibility.",
                outcome.reason,
                peer,
            )
        if outcome.verdict == Verdict.INVALID or punish(
            outcome.verdict, inbound=peer.inbound, via_compact_block=via_compact_block
        ):
            raise PeerMisbehaviour("invalid header received")
        log.net.debug("peer=%d: invalid header received (%s)", peer.id, outcome.reason)

    def _note_received(self, peer: Peer, last: HeaderInfo, *, new: bool, more_may_come: bool) -> None:
        sync, node = peer.sync, self._node
        self.announced(peer, last.hash)
        if new and last.chainwork > node.tip().chainwork:
            sync.last_announcement = self._ctx.clock()
        best = sync.best_known
        if best is None:
            return
        behind = node.is_initial_block_download() and best.chainwork < node.minimum_chain_work()
        if behind and not more_may_come and peer.outbound_or_block_relay:
            raise PeerDropped("outbound peer headers chain has insufficient work")
        if peer.connection_type == ConnectionType.OUTBOUND_FULL_RELAY and not sync.chain_protected:
            protected = sum(p.sync.chain_protected for p in self._ctx.peers.values())
            if protected < MAX_OUTBOUND_PEERS_TO_PROTECT and best.chainwork >= node.tip().chainwork:
                log.net.debug("Protecting outbound %s from eviction", peer)
                sync.chain_protected = True

    # --- what is due now and then

    def maybe_sendheaders(self, peer: Peer) -> None:
        """Ask for announcements by headers once the peer's chain is worth something; earlier ones would disturb the
        initial sync."""
        best = peer.sync.best_known
        if peer.sent_sendheaders or peer.common_version < SENDHEADERS_VERSION or best is None:
            return
        if best.chainwork > self._node.minimum_chain_work():
            self._ctx.send(peer, SendHeaders())
            peer.sent_sendheaders = True

    def check_headers_timeout(self, peer: Peer) -> None:
        """PeerDropped if our only sync peer does not deliver although others could."""
        sync, now = peer.sync, self._ctx.clock()
        if not sync.started or sync.headers_timeout is None:
            return
        if self._node.best_header().time > now - DAY_S:
            sync.headers_timeout = None  # caught up once: never again
            return
        peers = self._ctx.peers.values()
        only_one = sum(p.sync.started for p in peers) == 1
        others = sum(p.sync.preferred_download for p in peers) - sync.preferred_download
        if now <= sync.headers_timeout or not only_one or others < 1:
            return
        if not peer.may(Permission.NOBAN):
            log.net.info("Timeout downloading headers, %s", peer.disconnect_text)
            peer.disconnect()
            return
        log.net.info("Timeout downloading headers from noban peer, not %s", peer.disconnect_text)
        sync.started = False
        sync.headers_timeout = 0.0

    def consider_eviction(self, peer: Peer, *, idle: bool) -> None:
        """Disconnect an outbound peer whose chain has stayed behind ours (Core: ConsiderEviction); not while something
        that it sent waits to be handled."""
        sync, now, tip = peer.sync, self._ctx.clock(), self._node.tip()
        if sync.chain_protected or not peer.outbound_or_block_relay or not sync.started:
            return
        best, target = sync.best_known, sync.chain_work_header
        if best is not None and best.chainwork >= tip.chainwork:
            sync.chain_timeout, sync.chain_work_header, sync.chain_sent_getheaders = 0.0, None, False
        elif not sync.chain_timeout or (target is not None and best is not None and best.chainwork >= target.chainwork):
            sync.chain_timeout, sync.chain_work_header, sync.chain_sent_getheaders = (
                now + CHAIN_SYNC_TIMEOUT_S,
                tip,
                False,
            )
        elif now > sync.chain_timeout and target is not None:
            known = hash_to_hex(best.hash) if best is not None else "<none>"
            if sync.chain_sent_getheaders:
                if not idle:
                    return
                log.net.info("Outbound peer has old chain, best known block = %s, %s", known, peer.disconnect_text)
                peer.disconnect()
                return
            self.request(peer, target.prev_hash if target.height else target.hash)
            log.net.debug(
                "sending getheaders to outbound %s to verify chain work "
                "(current best known block:%s, benchmark blockhash: %s)",
                peer,
                known,
                hash_to_hex(target.hash),
            )
            sync.chain_sent_getheaders = True
            sync.chain_timeout = now + HEADERS_RESPONSE_TIME_S

    # --- announcing

    def announce(self, peer: Peer, send_compact: Callable[[Peer, HeaderInfo], bool]) -> None:
        """Tell the peer of new blocks: by cmpctblock or headers if it asked for them and they connect to what it has,
        else by inv."""
        sync = peer.sync
        if sync.announce:
            self.resolve_unknown(peer)
            pending, sync.announce = sync.announce, []
            by_headers = peer.prefers_headers or (sync.wants_compact and len(pending) == 1)
            headers = (
                self._connecting_headers(peer, pending)
                if by_headers and len(pending) <= MAX_BLOCKS_TO_ANNOUNCE
                else None
            )
            if headers and len(headers) == 1 and sync.wants_compact and send_compact(peer, headers[-1]):
                sync.best_sent = headers[-1]
            elif headers and peer.prefers_headers:
                log.net.debug(
                    "SendMessages: sending %d headers up to %s, to %s",
                    len(headers),
                    hash_to_hex(headers[-1].hash),
                    peer,
                )
                self._ctx.send(peer, Headers(tuple(BlockHeader(h.raw) for h in headers)))
                sync.best_sent = headers[-1]
            elif headers or headers is None:
                last = self._node.header(pending[-1])
                if last is not None and not self.peer_has(peer, last):
                    sync.announce_by_inv.append(last.hash)
                    log.net.debug("SendMessages: sending inv peer=%d hash=%s", peer.id, hash_to_hex(last.hash))
        if sync.announce_by_inv:
            self._ctx.send(peer, InvMessage(tuple(Inv(MSG_BLOCK, h) for h in sync.announce_by_inv)))
            sync.announce_by_inv.clear()

    def _connecting_headers(self, peer: Peer, hashes: Sequence[BlockHash]) -> list[HeaderInfo] | None:
        """The headers of these that the peer lacks, if they connect to one that it has; None if only an inv can tell
        it."""
        found: list[HeaderInfo] = []
        previous: HeaderInfo | None = None
        for block_hash in hashes:
            header = self._node.header(block_hash)
            if (
                header is None
                or not header.in_active_chain
                or (previous is not None and header.prev_hash != previous.hash)
            ):
                return None
            previous = header
            if found:
                found.append(header)
            elif self.peer_has(peer, header):
                continue
            else:
                parent = self._node.header(header.prev_hash)
                if parent is not None and not self.peer_has(peer, parent):
                    return None
                found.append(header)
        return found
