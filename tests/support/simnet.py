"""A network of engines in memory: seeded, with its own clock; links cut messages into odd pieces and delay them
differently.

No sockets and no real time: `SimNet.run` moves the clock from one delivery to the next, and every engine ticks in
between.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Sequence

from chain.interfaces import HeaderInfo, MempoolTransaction
from chain.primitives.types import BlockHash, Txid, Wtxid
from p2p.addrman import AddrMan
from p2p.banman import BanManager
from p2p.config import P2PConfig
from p2p.constants import Services
from p2p.engine import Engine
from p2p.messages.base import Message
from p2p.netaddress import NetAddress
from p2p.peer import ConnectionType, Peer
from p2p.permissions import Permission
from p2p.transport_v1 import Received, TransportV1
from tests.support.fake_node import FakeNode

START = 1_700_000_000.0


class SimHost:
    """One node with its engine."""

    def __init__(self, net: SimNet, index: int, node: FakeNode, config: P2PConfig) -> None:
        self.net = net
        self.node = node
        self.index = index
        self.config = config
        rng = random.Random(net.rng.getrandbits(64))
        clock = net.clock
        self.engine = Engine(node, config, clock=clock, rng=rng, addrman=AddrMan(clock, rng), bans=BanManager(clock))
        node.events = self
        self.tip_changed = False

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        self.engine.on_tip_changed(tip, connected, disconnected)
        self.tip_changed = True

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        self.engine.on_transaction_accepted(transaction)

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None:
        pass

    async def tick(self) -> None:
        if self.tip_changed:
            self.tip_changed = False
            await self.engine.read_tip()
        for peer in list(self.engine.peers.values()):
            self.engine.tick(peer, idle=not self.net.pending_for(peer))


class SimNet:
    """Hosts, links between them, and the queue of bytes under way."""

    def __init__(self, rng: random.Random, *, latency_s: tuple[float, float] = (0.01, 0.2), chunk: int = 4096) -> None:
        self.rng = rng
        self.now = START
        self.latency_s = latency_s
        self.chunk = chunk
        self.hosts: list[SimHost] = []
        self._queue: list[tuple[float, int, Endpoint, bytes]] = []
        self._sequence = 0
        self._next_id = 0
        self._endpoints: dict[Peer, Endpoint] = {}
        self.stalled: set[Peer] = set()  #: what these peers' other ends send is lost

    def clock(self) -> float:
        return self.now

    def add(self, node: FakeNode, config: P2PConfig | None = None) -> SimHost:
        host = SimHost(self, len(self.hosts), node, config or P2PConfig())
        self.hosts.append(host)
        return host

    def make_peer(
        self,
        host: SimHost,
        connection_type: ConnectionType,
        sink: Callable[[bytes], None],
        *,
        permissions: Permission = Permission.NONE,
        address: NetAddress | None = None,
    ) -> Peer:
        self._next_id += 1
        where = address or NetAddress.from_ip(f"8.{self._next_id}.7.6", 8333)
        return Peer(
            self._next_id,
            magic=host.node.params.magic,
            address=where,
            name=str(where),
            connection_type=connection_type,
            sink=sink,
            now=self.now,
            nonce=self.rng.getrandbits(64) | 1,
            permissions=permissions,
            our_services=host.config.services,
        )

    def connect(
        self,
        a: SimHost,
        b: SimHost,
        kind: ConnectionType = ConnectionType.OUTBOUND_FULL_RELAY,
        *,
        latency_s: float | None = None,
    ) -> tuple[Peer, Peer]:
        """a connects to b; returns (b as a sees it, a as b sees it)."""
        ends: list[Endpoint] = []
        at_a = self.make_peer(a, kind, lambda data: ends[1].push(data))
        at_b = self.make_peer(b, ConnectionType.INBOUND, lambda data: ends[0].push(data))
        delay = latency_s if latency_s is not None else self.rng.uniform(*self.latency_s)
        ends += [Endpoint(self, a, at_a, delay), Endpoint(self, b, at_b, delay)]
        ends[0].other, ends[1].other = ends[1], ends[0]
        self._endpoints[at_a], self._endpoints[at_b] = ends
        for end in ends:
            end.peer.on_disconnect = end.hang_up
        b.engine.connected(at_b)
        a.engine.connected(at_a)
        return at_a, at_b

    def push(self, end: Endpoint, data: bytes) -> None:
        position = 0
        while position < len(data):
            size = self.rng.randint(1, self.chunk)
            self._sequence += 1
            due = max(self.now + end.delay_s, end.last_due)  # a stream keeps its order
            end.last_due = due
            end.pending += 1
            heapq.heappush(self._queue, (due, self._sequence, end, data[position : position + size]))
            position += size

    def pending_for(self, peer: Peer) -> bool:
        end = self._endpoints.get(peer)
        return end is not None and end.pending > 0 and peer not in self.stalled

    async def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end_time = self.now + seconds
        next_tick = self.now
        while self.now < end_time:
            if until():
                return True
            if self._queue and self._queue[0][0] <= next_tick:
                due, _, end, data = heapq.heappop(self._queue)
                self.now = max(self.now, due)
                await end.deliver(data)
            else:
                self.now = next_tick
                for host in self.hosts:
                    await host.tick()
                next_tick = self.now + 0.1
        return until()


class Endpoint:
    """One end of a link: feeds what arrives to its host's engine."""

    def __init__(self, net: SimNet, host: SimHost, peer: Peer, delay_s: float) -> None:
        self.net = net
        self.host = host
        self.peer = peer
        self.delay_s = delay_s
        self.last_due = 0.0
        self.pending = 0
        self.closed = False
        self.other: Endpoint | None = None

    def push(self, data: bytes) -> None:
        if not self.closed and self.peer not in self.net.stalled:
            self.net.push(self, data)

    async def deliver(self, data: bytes) -> None:
        self.pending -= 1
        if self.closed:
            return
        self.host.engine.received_bytes(self.peer, len(data))
        for event in self.peer.transport.receive_data(data):
            await self.host.engine.handle(self.peer, event)
            while self.peer.has_requests and not self.peer.disconnecting:
                await self.host.engine.serve(self.peer)

    def hang_up(self) -> None:
        for end in (self, self.other):
            if end is not None and not end.closed:
                end.closed = True
                end.peer.disconnecting = True
                end.host.engine.disconnected(end.peer)


class Script:
    """A peer under the test's control, talking to one host: says what it is told to and records what it hears."""

    def __init__(
        self,
        net: SimNet,
        host: SimHost,
        kind: ConnectionType = ConnectionType.INBOUND,
        *,
        permissions: Permission = Permission.NONE,
        address: NetAddress | None = None,
    ) -> None:
        self.host = host
        self.heard: list[tuple[str, bytes]] = []
        self._listener = TransportV1(host.node.params.magic)
        self._speaker = TransportV1(host.node.params.magic)
        self.peer = net.make_peer(host, kind, self._hear, permissions=permissions, address=address)
        self.peer.on_disconnect = lambda: host.engine.disconnected(self.peer)
        host.engine.connected(self.peer)

    def _hear(self, data: bytes) -> None:
        for event in self._listener.receive_data(data):
            assert isinstance(event, Received)
            self.heard.append((event.command, event.payload))

    async def say(self, *messages: Message) -> None:
        for message in messages:
            await self.say_bytes(self._speaker.frame(message))

    async def say_bytes(self, data: bytes) -> None:
        engine = self.host.engine
        engine.received_bytes(self.peer, len(data))
        for event in self.peer.transport.receive_data(data):
            await engine.handle(self.peer, event)
            while self.peer.has_requests and not self.peer.disconnecting:
                await engine.serve(self.peer)

    def commands(self) -> list[str]:
        return [command for command, _ in self.heard]

    def last(self, command: str) -> bytes:
        return next(payload for name, payload in reversed(self.heard) if name == command)


def run(coroutine: object) -> None:
    """asyncio.run for tests."""
    asyncio.run(coroutine)  # type: ignore[arg-type]


async def ready(script: Script, *, services: int = Services.NETWORK | Services.WITNESS, relay: bool = True) -> Script:
    """Complete the handshake as a full node that speaks everything, then forget what was heard."""
    from p2p.messages import Pong, SendAddrV2, VerAck, Version, WtxidRelay

    await script.say(Version(70016, services, int(script.host.net.now), nonce=script.peer.id, relay=relay))
    await script.say(WtxidRelay(), SendAddrV2(), VerAck())
    await script.say(Pong(script.peer.ping_nonce))
    script.heard.clear()
    return script
