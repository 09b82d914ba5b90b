"""getpeerinfo's view of a peer, by Core's field names."""

from __future__ import annotations

from typing import Any

from chain.interfaces import ChainReader
from p2p.constants import service_names
from p2p.peer import Peer
from p2p.permissions import permission_names


def peer_info(peer: Peer, chain: ChainReader, now: float) -> dict[str, Any]:
    """Plain values; `minfeefilter` is satoshi per 1,000 vbytes (RPC shows coins)."""
    sync, tx = peer.sync, peer.tx
    common = -1
    if sync.best_known is not None:
        common = _last_common_height(peer, chain)
    info: dict[str, Any] = {"id": peer.id, "addr": peer.name}
    if peer.bind:
        info["addrbind"] = peer.bind
    if peer.address_local is not None and peer.address_local.is_valid:
        info["addrlocal"] = str(peer.address_local)
    network = (
        "not_publicly_routable"
        if peer.address is None
        else "onion"
        if peer.inbound_onion
        else peer.address.network_name
    )
    info |= {
        "network": network,
        "services": f"{peer.services:016x}",
        "servicesnames": service_names(peer.services),
        "relaytxes": tx is not None and tx.relay,
        "last_inv_sequence": tx.last_sequence if tx is not None else 0,
        "inv_to_send": len(tx.to_send) if tx is not None else 0,
        "lastsend": int(peer.last_send),
        "lastrecv": int(peer.last_receive),
        "last_transaction": int(peer.last_tx),
        "last_block": int(peer.last_block),
        "bytessent": peer.bytes_sent,
        "bytesrecv": peer.bytes_received,
        "conntime": int(peer.connected_at),
        "timeoffset": peer.time_offset,
    }
    if peer.last_ping is not None and peer.last_ping > 0:
        info["pingtime"] = peer.last_ping
    if peer.min_ping is not None:
        info["minping"] = peer.min_ping
    if peer.ping_nonce and now > peer.ping_start:
        info["pingwait"] = now - peer.ping_start
    info |= {
        "version": peer.version,
        "subver": peer.user_agent,
        "inbound": peer.inbound,
        "bip152_hb_to": sync.compact_to,
        "bip152_hb_from": sync.wants_compact,
        "presynced_headers": peer.presynced_height,
        "synced_headers": sync.best_known.height if sync.best_known is not None else -1,
        "synced_blocks": common,
        "inflight": [header.height for header in sync.in_flight.values()],
        "addr_relay_enabled": peer.addr.enabled,
        "addr_processed": peer.addr.processed,
        "addr_rate_limited": peer.addr.rate_limited,
        "permissions": permission_names(peer.permissions),
        "minfeefilter": tx.fee_filter if tx is not None else 0,
        "bytessent_per_msg": dict(sorted(peer.sent_per_message.items())),
        "bytesrecv_per_msg": dict(sorted(peer.received_per_message.items())),
        "connection_type": peer.connection_type.value,
        "transport_protocol_type": peer.transport.name,
        "session_id": "",
    }
    return info


def _last_common_height(peer: Peer, chain: ChainReader) -> int:
    """Height of the last block that we share with the peer's best chain."""
    best = peer.sync.best_known
    if best is None:
        return -1
    high = min(int(best.height), int(chain.tip().height))
    low = 0  # genesis is shared: the header was connected to our tree
    while low < high:  # the shared blocks are a prefix of the chain
        middle = (low + high + 1) // 2
        theirs, ours = chain.ancestor(best.hash, middle), chain.header_at(middle)
        if theirs is not None and ours is not None and theirs.hash == ours.hash:
            low = middle
        else:
            high = middle - 1
    return low
