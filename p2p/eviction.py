"""Which inbound peer makes room for another when all slots are taken (Core: node/eviction.cpp).

Peers that would be hard for one attacker to own many of are protected, by criteria that he cannot fake all at once;
of the rest, the youngest in the network group with the most connections goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from p2p.netaddress import NetAddress, NetworkId
from p2p.peer import Peer
from p2p.permissions import Permission


@dataclass(frozen=True, slots=True)
class Candidate:
    """What counts about a peer. Times are clock seconds; 0 for never."""

    id: int
    connected_at: float
    min_ping: float
    last_block: float
    last_tx: float
    relevant_services: bool
    relay_txs: bool
    keyed_group: int
    prefer_evict: bool
    is_local: bool
    network: int
    noban: bool
    inbound: bool

    @classmethod
    def from_peer(cls, peer: Peer, keyed_group: Callable[[NetAddress], int]) -> Candidate:
        """As the peer is now."""
        address = peer.address
        return cls(
            id=peer.id,
            connected_at=peer.connected_at,
            min_ping=float("inf") if peer.min_ping is None else peer.min_ping,
            last_block=peer.last_block,
            last_tx=peer.last_tx,
            relevant_services=peer.serves_blocks and peer.serves_witnesses,
            relay_txs=peer.relays_txs,
            keyed_group=0 if address is None else keyed_group(address),
            prefer_evict=peer.should_discourage,
            is_local=peer.is_local,
            network=NetworkId.TORV3 if peer.inbound_onion else address.network if address is not None else 0,
            noban=peer.may(Permission.NOBAN),
            inbound=peer.inbound,
        )


_Sort = Callable[[Candidate], Any]


def _protect(
    candidates: list[Candidate], count: int, key: _Sort, only: Callable[[Candidate], bool] = lambda c: True
) -> list[Candidate]:
    """Take the `count` best by `key` (largest) out of the candidates, those of them that satisfy `only`."""
    ranked = sorted(candidates, key=key)
    keep = len(ranked) - min(count, len(ranked))
    return ranked[:keep] + [c for c in ranked[keep:] if not only(c)]


def _oldest_of(test: Callable[[Candidate], bool]) -> _Sort:
    return lambda c: (test(c), -c.connected_at)


def _protect_by_network(candidates: list[Candidate]) -> list[Candidate]:
    """Half of those left by uptime, up to half of these places reserved for networks that do badly by the other
    criteria."""
    total = len(candidates) // 2
    tests: list[Callable[[Candidate], bool]] = [
        lambda c: c.network == NetworkId.CJDNS,
        lambda c: c.network == NetworkId.I2P,
        lambda c: c.is_local,
        lambda c: c.network == NetworkId.TORV3,
    ]
    reserved = total // 2
    protected = 0
    tests.sort(key=lambda test: sum(map(test, candidates)))
    while protected < reserved:
        present = [test for test in tests if any(map(test, candidates))]
        if not present:
            break
        before = protected
        share = max((reserved - protected) // len(present), 1)
        for test in present:
            size = len(candidates)
            candidates = _protect(candidates, share, _oldest_of(test), test)
            protected += size - len(candidates)
            if protected >= reserved:
                break
        if protected == before:
            break
    return _protect(candidates, total - protected, lambda c: -c.connected_at)


def select_peer_to_evict(candidates: list[Candidate]) -> int | None:
    """The id of the peer to disconnect, or None if all are protected."""
    left = [c for c in candidates if c.inbound and not c.noban]
    left = _protect(left, 4, lambda c: c.keyed_group)
    left = _protect(left, 8, lambda c: -c.min_ping)
    left = _protect(left, 4, lambda c: (c.last_tx, c.relay_txs, -c.connected_at))
    left = _protect(
        left,
        8,
        lambda c: (not c.relay_txs, c.last_block, c.relevant_services, -c.connected_at),
        lambda c: not c.relay_txs and c.relevant_services,
    )
    left = _protect(left, 4, lambda c: (c.last_block, c.relevant_services, -c.connected_at))
    left = _protect_by_network(left)
    if not left:
        return None
    left = [c for c in left if c.prefer_evict] or left
    groups: dict[int, list[Candidate]] = {}
    for candidate in left:
        groups.setdefault(candidate.keyed_group, []).append(candidate)
    largest = max(groups.values(), key=lambda group: (len(group), max(c.connected_at for c in group)))
    return max(largest, key=lambda c: c.connected_at).id
