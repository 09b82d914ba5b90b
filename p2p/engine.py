"""What happens when a message comes, and what is due when none does. Sans-I/O: peers are fed transport events, answers
leave through their sinks.

Methods that wait do so only for the node (`chain.interfaces.NodeForPeers`). The caller feeds a peer its events one
after another and waits for each, so that a pong answers for everything before its ping, block validation included.
Source of the behaviour, the order of checks and the log lines: Core's PeerManagerImpl.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from chain.interfaces import HeaderInfo, MempoolTransaction, NodeForPeers, Verdict
from chain.primitives.amount import MAX_MONEY
from chain.primitives.errors import DecodeError, LocalFault
from chain.primitives.serialize import Reader
from chain.primitives.types import BlockHash, Txid, Wtxid, hash_to_hex
from p2p import log
from p2p.addr_relay import AddrRelay
from p2p.addrman import AddrMan
from p2p.banman import BanManager
from p2p.block_download import BlockDownload
from p2p.compact_blocks import CompactBlocks
from p2p.config import P2PConfig
from p2p.constants import (
    AVG_ADDRESS_BROADCAST_INTERVAL_S,
    BIP31_VERSION,
    MAX_BLOCKS_TO_ANNOUNCE,
    PING_INTERVAL_S,
    TIMEOUT_INTERVAL_S,
)
from p2p.context import Context
from p2p.errors import PeerDropped, PeerMisbehaviour
from p2p.filter_serving import FilterServing
from p2p.handshake import on_sendaddrv2, on_verack, on_version, on_wtxidrelay, send_version
from p2p.header_sync import HeaderSync, header_work, punish
from p2p.messages.addr import Addr, AddrV2
from p2p.messages.base import Message
from p2p.messages.block import BlockMessage
from p2p.messages.compact import BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct
from p2p.messages.counted import read_count
from p2p.messages.feefilter import FeeFilter
from p2p.messages.filters import GetCFCheckpt, GetCFHeaders, GetCFilters
from p2p.messages.headers import Headers
from p2p.messages.inventory import MSG_BLOCK, MSG_TX, MSG_WTX, GetData, InvMessage, NotFound
from p2p.messages.locators import GetBlocks, GetHeaders
from p2p.messages.ping import Ping, Pong
from p2p.messages.registry import COUNTED_LIMITS, MESSAGES
from p2p.messages.signals import GetAddr, MemPool, SendAddrV2, SendHeaders, VerAck, WtxidRelay
from p2p.messages.tx import TxMessage
from p2p.messages.version import Version
from p2p.netaddress import NetAddress
from p2p.peer import ConnectionType, Peer
from p2p.permissions import Permission
from p2p.serving import Serving
from p2p.transport_v1 import Broken, Corrupt, Event, Oversized, Received
from p2p.tx_relay import TxRelay

MAX_BLOCK_SOURCES = 2_000
BLOOM_COMMANDS = frozenset(
    {"filterload", "filteradd", "filterclear"}
)  #: BIP111: not for nodes that do not offer NODE_BLOOM
ADDR_FETCH_TIMEOUT_S = 10 * AVG_ADDRESS_BROADCAST_INTERVAL_S


class Engine:
    """All peers' protocol state."""

    def __init__(
        self,
        node: NodeForPeers,
        config: P2PConfig,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        addrman: AddrMan,
        bans: BanManager,
    ) -> None:
        self._ctx = ctx = Context(node, config, clock, rng, addrman, bans)
        self._node = node
        self.peers = ctx.peers
        self.headers = HeaderSync(ctx)
        self.download = BlockDownload(ctx)
        self.transactions = TxRelay(ctx)
        self.addresses = AddrRelay(ctx)
        self.serving = Serving(ctx, self.download, self.transactions)
        self.filters = FilterServing(ctx, self.serving.may_serve)
        self.compact = CompactBlocks(ctx, self.headers, self.download, self._process_compact)
        self.transactions.on_extra = self.compact.keep_extra
        self.headers.after_headers = self.download.direct_fetch
        self.download.use_compact = self.compact.usable
        self.download.headers_arriving = lambda: self.headers.storing > 0
        #: who sent a block that has not been connected yet, and whether it answers for it: (peer id, punish)
        self._sources: dict[BlockHash, tuple[int, bool]] = {}
        self._unread_tip: BlockHash | None = None
        self.disconnect_address: Callable[[NetAddress], None] = lambda address: None

    # --- connections

    def connected(self, peer: Peer) -> None:
        """A connection is up. Outbound ones introduce themselves."""
        self.peers[peer.id] = peer
        if not peer.inbound:
            send_version(self._ctx, peer)

    def disconnected(self, peer: Peer) -> None:
        """A connection is gone."""
        if self.peers.pop(peer.id, None) is None:
            return
        self.download.forget(peer)
        self.headers.forget(peer)
        self.transactions.forget_peer(peer)
        self.compact.forget(peer)
        if peer.address is not None and peer.handshake_done and not peer.inbound and not peer.block_relay_only:
            self._ctx.addrman.connected(peer.address)
        log.net.debug("Cleared nodestate for peer=%d", peer.id)

    def received_bytes(self, peer: Peer, count: int) -> None:
        """Bytes came in; they are handed to the peer's transport next."""
        peer.bytes_received += count
        peer.last_receive = self._ctx.clock()

    # --- messages

    async def handle(self, peer: Peer, event: Event) -> None:
        """Everything that one event leads to, in Core's order: the message, orphans it freed, then whatever is due for
        the peer.

        Whatever a peer sends ends here in an answer, a log line or its disconnection; only LocalFault is passed on.
        """
        if peer.disconnecting:
            return
        command, size = self._account(peer, event)
        try:
            await self._dispatch(peer, event)
            for other in list(self.peers.values()):  # what this peer sent may have freed the orphans of others
                if self.transactions.has_work(other):
                    await self.transactions.retry_orphans(other)
        except PeerMisbehaviour as error:
            self.misbehaving(peer, str(error))
        except PeerDropped as error:
            log.net.debug("%s, %s", error, peer.disconnect_text)
            peer.disconnect()
        except DecodeError as error:
            log.net.debug(
                "ProcessMessages(%s, %d bytes): Exception '%s' (%s) caught", command, size, error, type(error).__name__
            )
        except LocalFault:
            raise
        except Exception:
            # a bug of ours that this peer can trigger must not take down the others
            log.net.exception(
                "ProcessMessages(%s, %d bytes): unexpected error, %s", command, size, peer.disconnect_text
            )
            peer.disconnect()
        if not peer.disconnecting:
            self.tick(peer, idle=False)

    @staticmethod
    def _account(peer: Peer, event: Event) -> tuple[str, int]:
        if isinstance(event, Received | Oversized):
            peer.count_received(event.command, event.size)
            return event.command, event.size
        if isinstance(event, Corrupt):
            peer.count_received(None, event.size)
            return "", event.size
        return "", 0

    async def _dispatch(self, peer: Peer, event: Event) -> None:
        match event:
            case Broken(reason):
                log.net.debug("%s, peer=%d", reason, peer.id)
                peer.disconnect()
            case Corrupt(reason):
                log.net.debug("%s, peer=%d", reason, peer.id)
            case Oversized(command, head, size):
                self._oversized(command, head, size)
            case Received(command, payload, size):
                log.net.debug("received: %s (%d bytes) peer=%d", command, size, peer.id)
                await self._received(peer, command, payload)

    @staticmethod
    def _oversized(command: str, head: bytes, size: int) -> None:
        if command in COUNTED_LIMITS:
            read_count(Reader(head), command, 0)
        raise PeerMisbehaviour(f"{command} message of {size} bytes, at most {MESSAGES[command].max_size} are allowed")

    async def _received(self, peer: Peer, command: str, payload: bytes) -> None:
        ctx = self._ctx
        if command != "version" and not peer.version:
            log.net.debug('non-version message before version handshake. Message "%s" from peer=%d', command, peer.id)
            return
        if command not in HANDSHAKE_COMMANDS and not peer.handshake_done:
            log.net.debug('Unsupported message "%s" prior to verack from peer=%d', command, peer.id)
            return
        if command in BLOOM_COMMANDS:
            raise PeerDropped(f"{command} received despite not offering bloom services")
        message_type = MESSAGES.get(command)
        if command == "sendtxrcncl":
            log.net.debug(
                "sendtxrcncl from peer=%d ignored, as our node does not have txreconciliation enabled", peer.id
            )
            return
        if message_type is None:
            log.net.debug('Unknown message type "%s" from peer=%d', command, peer.id)
            return
        if command == "version" and peer.version:
            log.net.debug("redundant version message from peer=%d", peer.id)
            return
        message = message_type.decode(payload)
        match message:
            case Version():
                on_version(ctx, peer, message)
            case VerAck():
                on_verack(ctx, peer)
            case WtxidRelay():
                on_wtxidrelay(peer)
            case SendAddrV2():
                on_sendaddrv2(peer)
            case SendHeaders():
                peer.prefers_headers = True
            case SendCmpct():
                self.compact.on_sendcmpct(peer, message)
            case Ping():
                if peer.common_version > BIP31_VERSION:
                    ctx.send(peer, Pong(message.nonce or 0))
            case Pong():
                self._on_pong(peer, message)
            case _:
                await self._data_message(peer, message)

    async def _data_message(self, peer: Peer, message: Message) -> None:
        match message:
            case InvMessage():
                self._on_inv(peer, message)
            case Headers():
                await self.headers.on_headers(peer, message.headers)
            case BlockMessage():
                await self._on_block(peer, message)
            case TxMessage():
                await self.transactions.on_tx(peer, message.transaction)
            case GetData():
                self._on_getdata(peer, message)
            case NotFound():
                self.transactions.on_notfound(peer, message.items)
            case GetHeaders():
                self.serving.on_getheaders(peer, message)
            case GetBlocks():
                self.serving.on_getblocks(peer, message)
            case CmpctBlock():
                if self._ctx.config.compact_blocks:
                    await self.compact.on_cmpctblock(peer, message)
            case GetBlockTxn():
                await self.serving.on_getblocktxn(peer, message)
            case BlockTxn():
                await self.compact.on_blocktxn(peer, message.block_hash, message.transactions)
            case GetCFilters():
                self.filters.on_getcfilters(peer, message)
            case GetCFHeaders():
                await self.filters.on_getcfheaders(peer, message)
            case GetCFCheckpt():
                await self.filters.on_getcfcheckpt(peer, message)
            case Addr() | AddrV2():
                self.addresses.on_addresses(peer, message.command, message.addresses)
            case GetAddr():
                self.addresses.on_getaddr(peer)
            case MemPool():
                self._on_mempool(peer)
            case FeeFilter():
                if peer.tx is not None and 0 <= message.fee_rate_sat_per_kvb <= MAX_MONEY:
                    peer.tx.fee_filter = message.fee_rate_sat_per_kvb
                    log.net.debug(
                        "received: feefilter of %d sat/kvB from peer=%d", message.fee_rate_sat_per_kvb, peer.id
                    )

    def _on_pong(self, peer: Peer, message: Pong) -> None:
        problem = ""
        finished = False
        if message.nonce is None:
            problem, finished = "Short payload", True
        elif not peer.ping_nonce:
            problem = "Unsolicited pong without ping"
        elif message.nonce == peer.ping_nonce:
            finished = True
            elapsed = self._ctx.clock() - peer.ping_start
            if elapsed >= 0:
                peer.last_ping = elapsed
                peer.min_ping = elapsed if peer.min_ping is None else min(peer.min_ping, elapsed)
            else:
                problem = "Timing mishap"
        else:
            problem = "Nonce mismatch"
            if not message.nonce:
                problem, finished = "Nonce zero", True
        if problem:
            log.net.debug(
                "pong peer=%d: %s, %x expected, %x received, %d bytes",
                peer.id,
                problem,
                peer.ping_nonce,
                message.nonce or 0,
                message.size,
            )
        if finished:
            peer.ping_nonce = 0

    def _on_inv(self, peer: Peer, message: InvMessage) -> None:
        best: BlockHash | None = None
        for inv in message.items:
            if inv.type == (MSG_TX if peer.wtxid_relay else MSG_WTX):
                continue  # not what was agreed on (BIP339)
            if inv.type == MSG_BLOCK:
                block_hash = BlockHash(inv.hash)
                have = self._node.header(block_hash) is not None
                log.net.debug("got inv: %s %s peer=%d", inv, "have" if have else "new", peer.id)
                self.headers.announced(peer, block_hash)
                if not have and not self.download.requested(block_hash):
                    best = block_hash
            elif inv.is_tx:
                self.transactions.on_inv(peer, inv)
            else:
                log.net.debug('Unknown inv type "%s" received from peer=%d', inv, peer.id)
        if best is not None:
            self.headers.on_block_inv(peer, best)

    def _on_getdata(self, peer: Peer, message: GetData) -> None:
        log.net.debug("received getdata (%d invsz) peer=%d", len(message.items), peer.id)
        if message.items:
            log.net.debug("received getdata for: %s peer=%d", message.items[0], peer.id)
        peer.getdata_queue.extend(message.items)

    def _on_mempool(self, peer: Peer) -> None:
        if not peer.may(Permission.MEMPOOL):
            if not peer.may(Permission.NOBAN):
                raise PeerDropped("mempool request with bloom filters disabled")
        elif peer.tx is not None:
            peer.tx.send_mempool = True

    async def serve(self, peer: Peer) -> None:
        """Answer the next part of what the peer has asked for; call while it has requests and there is room to send."""
        try:
            if peer.getdata_queue:
                await self.serving.step(peer)
            else:
                await self.filters.step(peer)
        except PeerDropped as error:
            log.net.debug("%s, %s", error, peer.disconnect_text)
            peer.disconnect()

    # --- blocks

    async def _on_block(self, peer: Peer, message: BlockMessage) -> None:
        header = message.header
        block_hash = header.hash
        log.net.debug("received block %s peer=%d", hash_to_hex(block_hash), peer.id)
        requested = self.download.requested(block_hash)
        self.download.mark_received(block_hash, peer)
        parent = self._node.header(header.prev_hash)
        known = self._node.header(block_hash)
        work = int(parent.chainwork) + header_work(header) if parent is not None else 0
        if known is None and parent is not None and work < self.headers.anti_dos_work():
            log.validation.debug(
                "AcceptBlockHeader: not adding new block header %s, missing anti-dos proof-of-work validation",
                hash_to_hex(block_hash),
            )
            return
        await self._process(peer, message.raw, block_hash, requested=requested, answers_for_it=True)

    async def _process_compact(self, peer: Peer, raw: bytes, block_hash: BlockHash) -> None:
        await self._process(peer, raw, block_hash, requested=True, answers_for_it=False)

    async def _process(
        self, peer: Peer, raw: bytes, block_hash: BlockHash, *, requested: bool, answers_for_it: bool
    ) -> None:
        self._sources.setdefault(block_hash, (peer.id, answers_for_it))
        while len(self._sources) > MAX_BLOCK_SOURCES:
            del self._sources[next(iter(self._sources))]
        with self.download.with_the_chain(block_hash):
            outcome = await self._node.process_block(raw, requested=requested)
        verdict = outcome.verdict
        if verdict == Verdict.ACCEPTED:
            peer.last_block = self._ctx.clock()
            self.download.mark_received(block_hash)
            tip = self._node.tip()
            if tip.hash == block_hash and not self._node.is_initial_block_download() and not self.download.count:
                self.compact.on_valid_block(peer)
            return
        self._sources.pop(block_hash, None)
        if verdict == Verdict.MISSING_PARENT:
            log.validation.debug("AcceptBlock FAILED (%s)", outcome.reason)
        if verdict == Verdict.MUTATED:
            log.net.debug("Received mutated block from peer=%d", peer.id)
            if answers_for_it:
                raise PeerMisbehaviour("mutated block")
        elif punish(verdict, inbound=peer.inbound, via_compact_block=not answers_for_it):
            raise PeerMisbehaviour(outcome.reason)
        elif outcome.reason:
            log.net.debug("block %s from peer=%d: %s", hash_to_hex(block_hash), peer.id, outcome.reason)

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None:
        """A block that was stored earlier failed when it came to connecting it."""
        source = self._sources.pop(block_hash, None)
        peer = self.peers.get(source[0]) if source is not None else None
        if source is None or peer is None or peer.disconnecting:
            return
        if punish(verdict, inbound=peer.inbound, via_compact_block=not source[1]):
            self.misbehaving(peer, reason)

    # --- misbehaviour

    def misbehaving(self, peer: Peer, text: str) -> None:
        """Core's Misbehaving and MaybeDiscourageAndDisconnect in one."""
        if peer.disconnecting:
            return
        log.net.debug("Misbehaving: peer=%d%s", peer.id, f": {text}" if text else "")
        if peer.may(Permission.NOBAN):
            log.net.warning("Not punishing noban peer %d!", peer.id)
            return
        if peer.connection_type == ConnectionType.MANUAL:
            log.net.warning("Not punishing manually connected peer %d!", peer.id)
            return
        peer.should_discourage = True
        if peer.is_local or peer.address is None or peer.inbound_onion:
            kind = "inbound onion" if peer.inbound_onion else "local"
            log.net.debug("Warning: disconnecting but not discouraging %s peer %d!", kind, peer.id)
            peer.disconnect()
            return
        log.net.debug("Disconnecting and discouraging peer %d!", peer.id)
        self._ctx.bans.discourage(peer.address)
        peer.disconnect()
        self.disconnect_address(peer.address)

    # --- what is due

    def tick(self, peer: Peer, *, idle: bool) -> None:
        """Send what is due to a peer, and see whether it still earns its place. `idle`: all that it sent has been
        handled.

        To be called after every message, several times a second, and when the chain or the mempool have changed.
        """
        if peer.disconnecting:
            return
        if idle and self._inactive(peer):
            peer.disconnect()
            return
        if not peer.handshake_done:
            return
        if self._addr_fetch_is_over(peer) or not self._ping_due(peer):
            peer.disconnect()
            return
        self.addresses.send_due(peer)
        self.headers.maybe_sendheaders(peer)
        self.headers.start_if_due(peer, self.download.from_this_peer(peer))
        if not (peer.sync.wants_compact and self._unread_tip is not None):  # else it waits for the block, a moment
            self.headers.announce(peer, self._send_compact)
        self.transactions.announce_due(peer)
        if idle:
            self.download.check_timeouts(peer)
            self.headers.check_headers_timeout(peer)
        self.headers.consider_eviction(peer, idle=idle)
        if peer.disconnecting:
            return
        self.headers.resolve_unknown(peer)
        self.download.fill(peer)
        self.transactions.request_due(peer)
        self.transactions.maybe_feefilter(peer)

    def _inactive(self, peer: Peer) -> bool:
        """Core's InactivityCheck."""
        now, timeout = self._ctx.clock(), self._ctx.config.peer_timeout_s
        if peer.connected_at + timeout >= now:
            return False
        if not peer.last_receive or not peer.last_send:
            never = "" if peer.last_receive else ", never received from peer"
            never += "" if peer.last_send else ", never sent to peer"
            log.net.debug("socket no message in first %d seconds%s, %s", timeout, never, peer.disconnect_text)
        elif now > peer.last_send + TIMEOUT_INTERVAL_S:
            log.net.debug("socket sending timeout: %ds, %s", now - peer.last_send, peer.disconnect_text)
        elif now > peer.last_receive + TIMEOUT_INTERVAL_S:
            log.net.debug("socket receive timeout: %ds, %s", now - peer.last_receive, peer.disconnect_text)
        elif not peer.handshake_done:
            log.net.debug("version handshake timeout, %s", peer.disconnect_text)
        else:
            return False
        return True

    def _addr_fetch_is_over(self, peer: Peer) -> bool:
        if (
            peer.connection_type != ConnectionType.ADDR_FETCH
            or self._ctx.clock() - peer.connected_at <= ADDR_FETCH_TIMEOUT_S
        ):
            return False
        log.net.debug("addrfetch connection timeout, %s", peer.disconnect_text)
        return True

    def _ping_due(self, peer: Peer) -> bool:
        """Send a ping when one is due; False when the last was never answered."""
        ctx, now = self._ctx, self._ctx.clock()
        if (
            peer.ping_nonce
            and now > peer.ping_start + TIMEOUT_INTERVAL_S
            and now > peer.connected_at + ctx.config.peer_timeout_s
        ):
            log.net.debug("ping timeout: %fs, %s", now - peer.ping_start, peer.disconnect_text)
            return False
        if peer.ping_queued or (not peer.ping_nonce and now > peer.ping_start + PING_INTERVAL_S):
            peer.ping_queued = False
            peer.ping_start = now
            if peer.common_version > BIP31_VERSION:
                peer.ping_nonce = ctx.rng.getrandbits(64) or 1
                ctx.send(peer, Ping(peer.ping_nonce))
            else:
                ctx.send(peer, Ping(None))
        return True

    def _send_compact(self, peer: Peer, header: HeaderInfo) -> bool:
        raw = self.serving.recent(header.hash)
        if raw is None:
            return False
        log.net.debug("SendMessages sending header-and-ids %s to peer=%d", hash_to_hex(header.hash), peer.id)
        self._ctx.send(peer, self.serving.compact(raw))
        return True

    # --- what the node tells us

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        """The active chain moved. The caller then ticks every peer, which announces it."""
        self.download.on_blocks_connected(len(connected))
        self.compact.prune()
        self.download.look_again()
        for block_hash in connected:
            self._sources.pop(block_hash, None)
        if self._node.is_initial_block_download():
            return
        self.transactions.on_tip_changed()
        if connected:
            self._unread_tip = tip.hash
        for peer in self.peers.values():
            peer.sync.announce.extend(connected[-MAX_BLOCKS_TO_ANNOUNCE:])

    async def read_tip(self) -> None:
        """Read a new tip, so that it can be announced as a compact block and its transactions be forgotten. To be
        called after on_tip_changed."""
        block_hash = self._unread_tip
        if block_hash is None:
            return
        try:
            raw = await self._node.read_block(block_hash)
            if raw is not None:
                self.transactions.forget_transactions(self.serving.remember(block_hash, raw))
        finally:
            if self._unread_tip == block_hash:
                self._unread_tip = None

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        """Something entered the mempool, from wherever."""
        relay = self.transactions
        relay.mempool_sequence = max(relay.mempool_sequence, transaction.sequence + 1)
        relay.requests.forget(transaction.txid)
        relay.requests.forget(transaction.wtxid)
        relay.relay(transaction.txid, transaction.wtxid)

    def relay_transaction(self, txid: Txid, wtxid: Wtxid) -> None:
        """Announce a transaction of the mempool (again)."""
        self.transactions.relay(txid, wtxid)


HANDSHAKE_COMMANDS = frozenset(
    {"version", "verack", "wtxidrelay", "sendaddrv2", "sendheaders", "sendcmpct", "sendtxrcncl"}
)
