"""version, verack and what may only come between them (BIP155 sendaddrv2, BIP339 wtxidrelay). Source: Core's
ProcessMessage.

The one who connects speaks first. Until its version has come, every other message is ignored; until its verack, all
but the feature messages.
"""

from __future__ import annotations

from p2p import log
from p2p.constants import (
    ADDRV2_VERSION,
    MAX_ADDR_TO_SEND,
    MIN_PEER_PROTO_VERSION,
    PROTOCOL_VERSION,
    SHORT_IDS_BLOCKS_VERSION,
    WTXID_RELAY_VERSION,
    Services,
)
from p2p.context import Context
from p2p.errors import PeerDropped
from p2p.messages.compact import SendCmpct
from p2p.messages.signals import GetAddr, SendAddrV2, VerAck, WtxidRelay
from p2p.messages.version import Version
from p2p.netaddress import UNSPECIFIED
from p2p.peer import ConnectionType, Peer, TxState
from p2p.permissions import Permission
from p2p.transport_v1 import sanitize

DESIRABLE = Services.NETWORK | Services.WITNESS
DESIRABLE_LIMITED = Services.NETWORK_LIMITED | Services.WITNESS
LIMITED_BLOCKS_AGE_S = 144 * 600  #: Core accepts pruned peers when our tip is at most about this old


def send_version(ctx: Context, peer: Peer) -> None:
    """Introduce ourselves."""
    tip = ctx.node.tip()
    relay = not ctx.refuses_transactions(peer)
    address = peer.address
    receiver = address if address is not None and address.is_routable and address.v1_bytes else UNSPECIFIED
    peer.version_sent = True
    message = Version(
        version=PROTOCOL_VERSION,
        services=peer.our_services,
        time=int(ctx.clock()),
        receiver=receiver,
        nonce=peer.nonce,
        user_agent=ctx.config.user_agent,
        start_height=tip.height,
        relay=relay,
        sender_services=peer.our_services,
    )
    ctx.send(peer, message)
    log.net.debug(
        "send version message: version %d, blocks=%d, txrelay=%d, %s", PROTOCOL_VERSION, tip.height, relay, peer
    )


def on_version(ctx: Context, peer: Peer, message: Version) -> None:
    """PeerDropped for peers that are of no use to us."""
    if peer.version:
        log.net.debug("redundant version message from %s", peer)
        return
    if not peer.inbound and peer.address is not None:
        ctx.addrman.set_services(peer.address, message.services)
    _check_services(ctx, peer, message)
    if message.version < MIN_PEER_PROTO_VERSION:
        raise PeerDropped(f"peer using obsolete version {message.version}")
    if peer.inbound and _is_ourselves(ctx, message.nonce):
        log.net.info("connected to self at %s, disconnecting", peer.name)
        peer.disconnect()
        return
    if peer.inbound:
        send_version(ctx, peer)
    peer.version = message.version
    peer.common_version = common = min(message.version, PROTOCOL_VERSION)
    peer.services = message.services
    peer.address_local = message.receiver
    peer.user_agent = sanitize(message.user_agent)
    peer.start_height = message.start_height
    peer.time_offset = message.time - int(ctx.clock())
    if peer.connection_type not in (ConnectionType.BLOCK_RELAY, ConnectionType.FEELER) and message.relay:
        peer.tx = TxState()
        peer.relays_txs = True
    log.net.debug(
        "receive version message: %s: version %d, blocks=%d, us=%s, txrelay=%d, %s",
        peer.user_agent or "<no user agent>",
        peer.version,
        peer.start_height,
        message.receiver,
        message.relay,
        peer,
    )
    if common >= WTXID_RELAY_VERSION:
        ctx.send(peer, WtxidRelay())
    if common >= ADDRV2_VERSION:
        ctx.send(peer, SendAddrV2())
    ctx.send(peer, VerAck())
    outbound_like = not peer.inbound or peer.may(Permission.NOBAN)
    peer.sync.preferred_download = (
        outbound_like and peer.connection_type != ConnectionType.ADDR_FETCH and peer.serves_blocks
    )
    if not peer.inbound:
        _after_outbound_version(ctx, peer)
    if peer.connection_type == ConnectionType.FEELER:
        raise PeerDropped("feeler connection completed")


def _check_services(ctx: Context, peer: Peer, message: Version) -> None:
    """Automatic outbound connections are for full nodes only."""
    if peer.connection_type in (ConnectionType.INBOUND, ConnectionType.MANUAL, ConnectionType.FEELER):
        return
    wanted = DESIRABLE
    recent = ctx.clock() - ctx.node.tip().time < LIMITED_BLOCKS_AGE_S
    if message.services & Services.NETWORK_LIMITED and recent:
        wanted = DESIRABLE_LIMITED
    if message.services & wanted != wanted:
        raise PeerDropped(
            f"peer does not offer the expected services ({message.services:08x} offered, {int(wanted):08x} expected)"
        )


def _is_ourselves(ctx: Context, nonce: int) -> bool:
    """One of our own outbound connections that waits for its version sent this nonce."""
    return any(not p.inbound and not p.handshake_done and p.nonce == nonce for p in ctx.peers.values())


def _after_outbound_version(ctx: Context, peer: Peer) -> None:
    if not peer.block_relay_only:
        peer.addr.enabled = True
        ctx.send(peer, GetAddr())
        peer.addr.getaddr_sent = True
        peer.addr.tokens += MAX_ADDR_TO_SEND  # room for the answer
    if peer.address is not None:
        ctx.addrman.good(peer.address)


def on_verack(ctx: Context, peer: Peer) -> None:
    """The peer is ready; from here on everything is handled."""
    if peer.handshake_done:
        log.net.debug("ignoring redundant verack message from %s", peer)
        return
    kind, transport = peer.connection_type.value, peer.transport.name
    text = f"New {kind} peer connected: transport: {transport}, version: {peer.version}, {peer}"
    if peer.inbound:
        log.net.debug(text)
    else:
        log.net.info(text)
    if peer.common_version >= SHORT_IDS_BLOCKS_VERSION and ctx.config.compact_blocks:
        ctx.send(peer, SendCmpct(high_bandwidth=False))
    peer.handshake_done = True


def on_wtxidrelay(peer: Peer) -> None:
    """Only before verack; PeerDropped after it."""
    if peer.handshake_done:
        raise PeerDropped("wtxidrelay received after verack")
    if peer.common_version < WTXID_RELAY_VERSION:
        log.net.debug("ignoring wtxidrelay due to old common version=%d from %s", peer.common_version, peer)
    elif peer.wtxid_relay:
        log.net.debug("ignoring duplicate wtxidrelay from %s", peer)
    else:
        peer.wtxid_relay = True


def on_sendaddrv2(peer: Peer) -> None:
    """Only before verack; PeerDropped after it."""
    if peer.handshake_done:
        raise PeerDropped("sendaddrv2 received after verack")
    peer.wants_addr_v2 = True
