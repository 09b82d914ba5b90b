"""The state of one peer: what it told us, what it knows, what we asked it for. No I/O: bytes leave through `sink`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from chain.interfaces import HeaderInfo
from chain.primitives.types import BlockHash, Wtxid
from p2p import log
from p2p.constants import HEADER_SIZE, Services
from p2p.messages.base import Message
from p2p.messages.inventory import Inv
from p2p.messages.registry import KNOWN_COMMANDS, OTHER
from p2p.netaddress import NetAddress, TimedAddress
from p2p.permissions import Permission
from p2p.rolling import RollingSet
from p2p.transport_v1 import TransportV1, frame

KNOWN_TX_CAPACITY = 50_000
KNOWN_ADDR_CAPACITY = 5_000


class ConnectionType(StrEnum):
    """Why a connection exists; the values are getpeerinfo's connection_type."""

    INBOUND = "inbound"
    MANUAL = "manual"
    OUTBOUND_FULL_RELAY = "outbound-full-relay"
    BLOCK_RELAY = "block-relay-only"
    FEELER = "feeler"
    ADDR_FETCH = "addr-fetch"


@dataclass(slots=True)
class SyncState:
    """Headers and blocks. Times are clock seconds; 0 means never, or not now."""

    best_known: HeaderInfo | None = None  #: the header with the most work that the peer is known to have
    last_unknown: BlockHash | None = None  #: the last hash that it announced and we do not know
    best_sent: HeaderInfo | None = None  #: the last header that we sent it
    started: bool = False  #: we asked it for headers as our sync peer
    inv_triggered_getheaders: bool = False
    last_getheaders: float = 0.0
    headers_timeout: float | None = None  #: None: not running (never started, or caught up)
    in_flight: dict[BlockHash, HeaderInfo] = field(default_factory=dict)  #: insertion order is request order
    downloading_since: float = 0.0
    stalling_since: float = 0.0
    wants_download: bool = True  #: something changed since we last looked for blocks to request
    preferred_download: bool = False
    last_announcement: float = 0.0  #: of a header with more work than our tip
    #: outbound peers must follow our work (Core's ChainSyncTimeoutState)
    chain_timeout: float = 0.0
    chain_work_header: HeaderInfo | None = None
    chain_sent_getheaders: bool = False
    chain_protected: bool = False
    announce: list[BlockHash] = field(default_factory=list)  #: blocks to announce by headers
    announce_by_inv: list[BlockHash] = field(default_factory=list)
    continuation: BlockHash | None = None  #: last hash of a full getblocks answer; serving it triggers the next inv
    provides_compact: bool = False
    wants_compact: bool = False  #: asked us for cmpctblock announcements (high bandwidth from)
    compact_to: bool = False  #: we asked it for them


@dataclass(slots=True)
class TxState:
    """Transaction relay with a peer that wants it."""

    relay: bool = True
    known: RollingSet = field(
        default_factory=lambda: RollingSet(KNOWN_TX_CAPACITY)
    )  #: txids or wtxids, as the peer speaks
    to_send: dict[Wtxid, None] = field(default_factory=dict)
    next_send: float = 0.0
    last_sequence: int = 1  #: of the mempool when we last announced: entries below it may be asked for
    send_mempool: bool = False
    fee_filter: int = 0  #: received, satoshi per 1,000 vbytes


@dataclass(slots=True)
class AddrState:
    """Address gossip."""

    enabled: bool = False
    known: RollingSet = field(default_factory=lambda: RollingSet(KNOWN_ADDR_CAPACITY))
    to_send: list[TimedAddress] = field(default_factory=list)
    next_send: float = 0.0
    getaddr_sent: bool = False
    getaddr_received: bool = False
    tokens: float = 1.0
    tokens_time: float = 0.0
    processed: int = 0
    rate_limited: int = 0


@dataclass(slots=True)
class FilterRange:
    """What remains to be sent of a getcfilters."""

    next_height: int
    stop_height: int
    stop: BlockHash


class Peer:
    """One connection. Created by the manager (or a test), filled in by the handshake, driven by the engine."""

    def __init__(
        self,
        peer_id: int,
        *,
        magic: bytes,
        address: NetAddress | None,
        name: str,
        connection_type: ConnectionType,
        sink: Callable[[bytes], None],
        now: float,
        nonce: int,
        permissions: Permission = Permission.NONE,
        bind: str = "",
        our_services: int = Services.NONE,
        inbound_onion: bool = False,
        log_ips: bool = False,
    ) -> None:
        self.id = peer_id
        self.address = address
        self.name = name
        self.bind = bind
        self.connection_type = connection_type
        self.permissions = permissions
        self.inbound_onion = inbound_onion
        self.nonce = nonce  #: ours, in the version message that we send
        self.our_services = our_services
        self.magic = magic
        self.transport = TransportV1(magic)
        self._sink = sink
        self._log_ips = log_ips
        self.disconnecting = False
        self.on_disconnect: Callable[[], None] | None = None
        self.should_discourage = False

        self.version_sent = False
        self.version = 0
        self.common_version = 0
        self.services = 0
        self.user_agent = ""
        self.start_height = -1
        self.address_local: NetAddress | None = None  #: how the peer sees us
        self.time_offset = 0
        self.relays_txs = False
        self.wtxid_relay = False
        self.wants_addr_v2 = False
        self.prefers_headers = False
        self.sent_sendheaders = False
        self.handshake_done = False
        self.presynced_height = -1  #: of a low-work headers sync in progress

        self.sync = SyncState()
        self.tx: TxState | None = None
        self.addr = AddrState(tokens_time=now)
        self.getdata_queue: deque[Inv] = deque()
        self.filter_queue: deque[FilterRange] = deque()

        self.ping_nonce = 0  #: of the ping that waits for its pong; 0: none does
        self.ping_start = 0.0
        self.ping_queued = False
        self.last_ping: float | None = None
        self.min_ping: float | None = None
        self.fee_filter_sent = 0
        self.next_fee_filter = 0.0

        self.connected_at = now
        self.last_send = 0.0
        self.last_receive = 0.0
        self.last_tx = 0.0
        self.last_block = 0.0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.sent_per_message: Counter[str] = Counter()
        self.received_per_message: Counter[str] = Counter()

    @property
    def has_requests(self) -> bool:
        """Something that it asked for has still to be sent."""
        return bool(self.getdata_queue or self.filter_queue)

    # --- what kind of peer

    @property
    def inbound(self) -> bool:
        """It connected to us."""
        return self.connection_type == ConnectionType.INBOUND

    @property
    def block_relay_only(self) -> bool:
        return self.connection_type == ConnectionType.BLOCK_RELAY

    @property
    def outbound_or_block_relay(self) -> bool:
        """An automatic outbound connection that must earn its place."""
        return self.connection_type in (ConnectionType.OUTBOUND_FULL_RELAY, ConnectionType.BLOCK_RELAY)

    @property
    def serves_blocks(self) -> bool:
        """It has blocks, at least the last 288."""
        return bool(self.services & (Services.NETWORK | Services.NETWORK_LIMITED))

    @property
    def serves_witnesses(self) -> bool:
        return bool(self.services & Services.WITNESS)

    @property
    def limited(self) -> bool:
        """It has only the last 288 blocks (BIP159)."""
        return not self.services & Services.NETWORK and bool(self.services & Services.NETWORK_LIMITED)

    @property
    def is_local(self) -> bool:
        return self.address is not None and self.address.is_local

    def may(self, permission: Permission) -> bool:
        """Whether it has all bits of a permission."""
        return self.permissions & permission == permission

    # --- log texts

    def __str__(self) -> str:
        return f"peer={self.id}, peeraddr={self.name}" if self._log_ips else f"peer={self.id}"

    @property
    def disconnect_text(self) -> str:
        """Core's DisconnectMsg."""
        return f"disconnecting {self}"

    # --- sending

    def send(self, message: Message, now: float) -> None:
        """Queue a message. Nothing is sent once the peer is being disconnected."""
        self.send_raw(message.command, message.encode(), now)

    def send_raw(self, command: str, payload: bytes, now: float) -> None:
        """Queue a message of any name."""
        if self.disconnecting:
            return
        data = frame(self.magic, command, payload)
        log.net.debug("sending %s (%d bytes) peer=%d", command, len(payload), self.id)
        self.last_send = now
        self.bytes_sent += len(data)
        self.sent_per_message[command if command in KNOWN_COMMANDS else OTHER] += len(data)
        self._sink(data)

    def count_received(self, command: str | None, size: int) -> None:
        """Account a message of `size` payload bytes; None for one that was dropped unread."""
        self.received_per_message[command if command in KNOWN_COMMANDS else OTHER] += size + HEADER_SIZE

    def disconnect(self) -> None:
        """Mark for disconnection; what is queued still goes out, nothing new does, and nothing more is handled."""
        if not self.disconnecting:
            self.disconnecting = True
            if self.on_disconnect is not None:
                self.on_disconnect()
