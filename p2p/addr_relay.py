"""Gossip about addresses: rate-limited in, passed on to one or two peers, and told at random times. Source: Core's
ProcessAddrs and MaybeSendAddr."""

from __future__ import annotations

from collections.abc import Sequence

from chain.crypto.hashes import sha256
from p2p import log
from p2p.constants import (
    AVG_ADDRESS_BROADCAST_INTERVAL_S,
    MAX_ADDR_RATE_PER_SECOND,
    MAX_ADDR_TO_SEND,
    MAX_PCT_ADDR_TO_SEND,
    ROTATE_ADDR_RELAY_DEST_INTERVAL_S,
    Services,
)
from p2p.context import Context
from p2p.errors import PeerDropped
from p2p.messages.addr import Addr, AddrV2
from p2p.netaddress import NetAddress, TimedAddress
from p2p.peer import ConnectionType, Peer
from p2p.permissions import Permission

RECENT_S = 600
CACHE_S = (
    24 * 3600
)  #: getaddr is answered from the same sample for about a day, so that asking often does not map our address book
MAX_CACHES = 32
TIME_PENALTY_S = 7200
EARLIEST_TIME = 100_000_000


class AddrRelay:
    """The part of the engine that handles addr, addrv2 and getaddr."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._salt = ctx.rng.getrandbits(64).to_bytes(8, "little")
        self._cache: dict[tuple[str, str], tuple[float, list[TimedAddress]]] = {}

    # --- received

    def on_addresses(self, peer: Peer, command: str, addresses: Sequence[TimedAddress]) -> None:
        """PeerDropped when an addr-fetch connection has delivered."""
        if peer.block_relay_only:
            log.net.debug("ignoring %s message from %s peer=%d", command, peer.connection_type.value, peer.id)
            return
        state, now = peer.addr, self._ctx.clock()
        state.enabled = True
        if state.tokens < MAX_ADDR_TO_SEND:
            state.tokens = min(
                state.tokens + max(now - state.tokens_time, 0.0) * MAX_ADDR_RATE_PER_SECOND, MAX_ADDR_TO_SEND
            )
        state.tokens_time = now
        processed = limited = 0
        good: list[TimedAddress] = []
        shuffled = list(addresses)
        self._ctx.rng.shuffle(shuffled)
        for seen in shuffled:
            if state.tokens >= 1.0:
                state.tokens -= 1.0
            elif not peer.may(Permission.ADDR):
                limited += 1
                continue
            if not seen.services & (Services.NETWORK | Services.NETWORK_LIMITED):
                continue
            if seen.time <= EARLIEST_TIME or seen.time > now + RECENT_S:
                seen = seen._replace(time=int(now) - 5 * 86400)
            state.known.add(seen.address.key)
            if self._ctx.bans.banned(seen.address) or self._ctx.bans.discouraged(seen.address):
                continue
            processed += 1
            if (
                seen.time > now - RECENT_S
                and not state.getaddr_sent
                and len(addresses) <= 10
                and seen.address.is_routable
            ):
                self._pass_on(peer, seen)
            if seen.address.is_ip:
                good.append(seen)
        state.processed += processed
        state.rate_limited += limited
        log.net.debug(
            "Received addr: %d addresses (%d processed, %d rate-limited) from peer=%d",
            len(addresses),
            processed,
            limited,
            peer.id,
        )
        self._ctx.addrman.add(good, source=peer.address, time_penalty_s=TIME_PENALTY_S)
        if len(addresses) < MAX_ADDR_TO_SEND:
            state.getaddr_sent = False
        if peer.connection_type == ConnectionType.ADDR_FETCH and len(addresses) > 1:
            raise PeerDropped("addrfetch connection completed")

    def _pass_on(self, origin: Peer, seen: TimedAddress) -> None:
        """To two peers (one, for networks that we cannot reach ourselves), the same two for a day: spreads wide and
        cannot be amplified."""
        day = (
            int(self._ctx.clock() + int.from_bytes(sha256(seen.address.key)[:8], "little"))
            // ROTATE_ADDR_RELAY_DEST_INTERVAL_S
        )
        seed = self._salt + seen.address.key + day.to_bytes(8, "little", signed=True)
        wanted = 2 if seen.address.is_ip else 1
        able = [
            p
            for p in self._ctx.peers.values()
            if p.addr.enabled and p.id != origin.id and self._compatible(p, seen.address)
        ]
        able.sort(key=lambda p: sha256(seed + p.id.to_bytes(8, "little")), reverse=True)
        for peer in able[:wanted]:
            self.queue(peer, seen)

    @staticmethod
    def _compatible(peer: Peer, address: NetAddress) -> bool:
        return peer.wants_addr_v2 or address.v1_bytes is not None

    def queue(self, peer: Peer, seen: TimedAddress) -> None:
        """Tell the peer in its next message, unless it knows."""
        state = peer.addr
        if not seen.address.is_valid or seen.address.key in state.known or not self._compatible(peer, seen.address):
            return
        if len(state.to_send) >= MAX_ADDR_TO_SEND:
            state.to_send[self._ctx.rng.randrange(MAX_ADDR_TO_SEND)] = seen
        else:
            state.to_send.append(seen)

    def on_getaddr(self, peer: Peer) -> None:
        """Answered once per inbound peer."""
        if not peer.inbound:
            log.net.debug('Ignoring "getaddr" from %s connection. peer=%d', peer.connection_type.value, peer.id)
            return
        state = peer.addr
        state.enabled = True
        if state.getaddr_received:
            log.net.debug('Ignoring repeated "getaddr". peer=%d', peer.id)
            return
        state.getaddr_received = True
        state.to_send.clear()
        for seen in self._answer(peer):
            self.queue(peer, seen)

    def _answer(self, peer: Peer) -> list[TimedAddress]:
        sample = self._ctx.addrman.sample
        if peer.may(Permission.ADDR):
            found = sample(MAX_ADDR_TO_SEND, MAX_PCT_ADDR_TO_SEND, None)
        else:
            now = self._ctx.clock()
            # one for each of our addresses and networks: else answers would tell that they belong to one node
            key = (peer.bind, "onion" if peer.inbound_onion or peer.address is None else peer.address.network_name)
            until, found = self._cache.get(key, (0.0, []))
            if now > until:
                found = sample(MAX_ADDR_TO_SEND, MAX_PCT_ADDR_TO_SEND, None)
                self._cache[key] = (now + CACHE_S * (0.875 + self._ctx.rng.random() / 4), found)
                while len(self._cache) > MAX_CACHES:
                    del self._cache[next(iter(self._cache))]
        return [s for s in found if not self._ctx.bans.banned(s.address) and not self._ctx.bans.discouraged(s.address)]

    # --- sent

    def send_due(self, peer: Peer) -> None:
        """Send what is queued, at random times."""
        state, now = peer.addr, self._ctx.clock()
        if not state.enabled or now <= state.next_send:
            return
        state.next_send = now + self._ctx.exponential(AVG_ADDRESS_BROADCAST_INTERVAL_S)
        fresh = [s for s in state.to_send if s.address.key not in state.known]
        state.to_send.clear()
        for seen in fresh:
            state.known.add(seen.address.key)
        if fresh:
            self._ctx.send(peer, AddrV2(tuple(fresh)) if peer.wants_addr_v2 else Addr(tuple(fresh)))
