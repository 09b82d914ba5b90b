"""What the parts of the engine share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from chain.interfaces import NodeForPeers
from p2p.addrman import AddrMan
from p2p.banman import BanManager
from p2p.config import P2PConfig
from p2p.messages.base import Message
from p2p.peer import ConnectionType, Peer
from p2p.permissions import Permission


@dataclass(slots=True)
class Context:
    """Collaborators and the table of peers. `clock` gives unix seconds; `rng` is unpredictable outside tests."""

    node: NodeForPeers
    config: P2PConfig
    clock: Callable[[], float]
    rng: random.Random
    addrman: AddrMan
    bans: BanManager
    peers: dict[int, Peer] = field(default_factory=dict)

    def send(self, peer: Peer, message: Message) -> None:
        """Queue a message to a peer."""
        peer.send(message, self.clock())

    def exponential(self, mean_s: float) -> float:
        """A Poisson process's next gap, so that nobody can predict when we speak."""
        return self.rng.expovariate(1 / mean_s)

    def refuses_transactions(self, peer: Peer) -> bool:
        """Whether the peer must not send us transactions (Core: RejectIncomingTxs)."""
        if peer.connection_type in (ConnectionType.BLOCK_RELAY, ConnectionType.FEELER):
            return True
        return self.config.blocks_only and not peer.may(Permission.RELAY)
