"""Which outbound connection to open next. Sans-I/O: the manager asks, connects, and asks again."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from p2p.addrman import AddrMan
from p2p.config import P2PConfig
from p2p.constants import FEELER_INTERVAL_S, MAX_BLOCK_RELAY_ONLY, MAX_OUTBOUND_FULL_RELAY, Services
from p2p.netaddress import NetAddress
from p2p.peer import ConnectionType, Peer

ATTEMPT_INTERVAL_S = 600  #: the same address is not tried more often
TRIES = 100
DNS_DELAY_S = 11
DNS_DELAY_MANY_S = 300
MANY_ADDRESSES = 1000
WANTED_SERVICES = Services.NETWORK | Services.WITNESS


class Wanted(NamedTuple):
    """An address and what the connection to it is for."""

    address: NetAddress
    connection_type: ConnectionType


class OutboundPlan:
    """Counts what is there and picks what is missing: 8 full-relay and 2 block-relay-only peers in distinct network
    groups, and a feeler now and then."""

    def __init__(
        self,
        config: P2PConfig,
        addrman: AddrMan,
        clock: Callable[[], float],
        rng: random.Random,
        peers: Mapping[int, Peer],
    ) -> None:
        self._addrman = addrman
        self._clock = clock
        self._rng = rng
        self._peers = peers
        self.max_full_relay = min(MAX_OUTBOUND_FULL_RELAY, config.max_connections)
        self.max_block_relay = min(MAX_BLOCK_RELAY_ONLY, max(config.max_connections - self.max_full_relay, 0))
        self._seed_nodes = list(config.seed_nodes)
        self._next_feeler = clock() + rng.expovariate(1 / FEELER_INTERVAL_S)

    def _count(self, connection_type: ConnectionType) -> int:
        return sum(p.connection_type == connection_type for p in self._peers.values())

    def enough_peers(self) -> bool:
        """Whether asking DNS would gain nothing."""
        full = (
            p
            for p in self._peers.values()
            if p.connection_type == ConnectionType.OUTBOUND_FULL_RELAY and p.handshake_done
        )
        return sum(1 for _ in full) >= 2

    def dns_delay_s(self) -> float:
        """How long to try the addresses that we know before asking DNS, which tells others that we are here."""
        known = len(self._addrman)
        return 0 if not known else DNS_DELAY_MANY_S if known >= MANY_ADDRESSES else DNS_DELAY_S

    def seed_nodes_to_ask(self) -> list[str]:
        """Once, and only while the address book is empty."""
        if not self._seed_nodes or len(self._addrman):
            return []
        asked, self._seed_nodes = self._seed_nodes, []
        return asked

    def next_connection(self, pending: Collection[str]) -> Wanted | None:
        """What to open now, or None if nothing is missing or no suitable address is known."""
        now = self._clock()
        opening = len(pending)
        if self._count(ConnectionType.OUTBOUND_FULL_RELAY) + opening < self.max_full_relay:
            connection_type = ConnectionType.OUTBOUND_FULL_RELAY
        elif self._count(ConnectionType.BLOCK_RELAY) + opening < self.max_block_relay:
            connection_type = ConnectionType.BLOCK_RELAY
        elif now > self._next_feeler:
            self._next_feeler = now + self._rng.expovariate(1 / FEELER_INTERVAL_S)
            connection_type = ConnectionType.FEELER
        else:
            return None
        groups = {p.address.group for p in self._peers.values() if p.address is not None and not p.inbound}
        for _ in range(TRIES):
            seen = self._addrman.select(new_only=connection_type == ConnectionType.FEELER)
            if seen is None:
                return None
            address = seen.address
            if not address.is_ip or not address.is_valid or str(address) in pending:
                continue
            unsuitable = address.group in groups or seen.services & WANTED_SERVICES != WANTED_SERVICES
            if unsuitable and connection_type != ConnectionType.FEELER:
                continue
            if now - self._addrman.last_attempt(address) < ATTEMPT_INTERVAL_S:
                continue
            return Wanted(address, connection_type)
        return None
