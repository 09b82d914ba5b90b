"""The peer-to-peer layer as the node sees it: start it, ask it, tell it what happened. With connection.py the only
asyncio in this package.

Everything runs in one task group; `run` returns after `stop`, and raises LocalFault if this machine failed us.
Decisions are the engine's (`p2p.engine`), addresses `p2p.addrman`'s; here are sockets, timers and the calls that RPC
makes.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from chain.interfaces import HeaderInfo, MempoolTransaction, NodeForPeers, Verdict
from chain.primitives.errors import LocalFault, UserError
from chain.primitives.types import BlockHash, Txid, Wtxid
from p2p import log
from p2p.addrman import AddrMan
from p2p.banman import Ban, BanManager, Subnet, parse_subnet
from p2p.config import Bind, P2PConfig
from p2p.connection import Connection
from p2p.constants import (
    MAX_ADDNODE,
    MAX_BLOCK_RELAY_ONLY,
    MAX_OUTBOUND_FULL_RELAY,
    Services,
)
from p2p.engine import Engine
from p2p.errors import RequestRefused
from p2p.eviction import Candidate, select_peer_to_evict
from p2p.netaddress import NetAddress, TimedAddress, split_host_port
from p2p.outbound import OutboundPlan, Wanted
from p2p.peer import ConnectionType, Peer
from p2p.peerinfo import peer_info
from p2p.permissions import Permission

TICK_S = 0.1
DUMP_INTERVAL_S = 15 * 60
OPEN_INTERVAL_S = 0.5
ADDED_RETRY_S = 60
ADDED_IDLE_S = 2
DNS_TIMEOUT_S = 10
MAX_PENDING_CONNECTS = 8

Connector = Callable[[str, int], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Resolver = Callable[[str], Coroutine[Any, Any, list[str]]]


class PeerManager:
    """All peers. Not thread-safe: every method is called on the event loop that runs `run`."""

    def __init__(
        self,
        node: NodeForPeers,
        config: P2PConfig,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        connector: Connector | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """`clock` gives unix seconds and may be mocked; `rng` must be unpredictable outside tests (SystemRandom by
        default)."""
        self.node = node
        self.config = config
        self.params = node.params
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._connector = connector or self._open_tcp
        self._resolver = resolver or _resolve
        folder = config.datadir
        self.addrman = AddrMan(clock, self._rng, folder / "peers.dat" if folder else None)
        self.bans = BanManager(clock, folder / "banlist.json" if folder else None)
        self.engine = Engine(node, config, clock=clock, rng=self._rng, addrman=self.addrman, bans=self.bans)
        self.engine.disconnect_address = self._disconnect_address
        self._plan = OutboundPlan(config, self.addrman, clock, self._rng, self.engine.peers)
        self._default_port = config.default_port or self.params.default_port
        self._next_id = 0
        self._connections: dict[int, Connection] = {}
        self._added: dict[str, None] = dict.fromkeys(config.add_nodes)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._fault: LocalFault | None = None
        self._pending: set[str] = set()
        self._wake_added = asyncio.Event()
        self.network_active = True
        self.total_sent = 0
        self.total_received = 0

    # --- life

    async def start(self) -> None:
        """Bind the listening sockets. UserError in Core's words if one cannot be bound."""
        limit = max(self.config.max_receive_buffer // 2, 64 * 1024)
        for bind in self.config.binds:
            accept = self._acceptor(bind)
            try:
                server = await asyncio.start_server(
                    accept, bind.host, bind.port, limit=limit, reuse_address=True, backlog=128
                )
            except OSError as error:
                where = f"[{bind.host}]:{bind.port}" if ":" in bind.host else f"{bind.host}:{bind.port}"
                if error.errno == 98:
                    raise UserError(
                        f"Unable to bind to {where} on this computer. Pickaxe is probably already running."
                    ) from None
                raise UserError(
                    f"Unable to bind to {where} on this computer (bind returned error {error.strerror or error})"
                ) from None
            self._servers.append(server)
            for listening in server.sockets:
                log.net.info("Bound to %s", format_endpoint(listening.getsockname()))

    @property
    def listening(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket."""
        return [s.getsockname()[:2] for server in self._servers for s in server.sockets]

    async def run(self) -> None:
        """Serve until `stop`. Starts listening if `start` was not called. LocalFault if the chain's disk or memory
        failed."""
        if not self._servers:
            await self.start()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for work in (
                    self._tick_forever(),
                    self._open_outbound(),
                    self._open_added(),
                    self._dump_addresses(),
                    self._seed_from_dns(),
                ):
                    self._spawn(work)
                await self._stop.wait()
                for task in list(self._tasks):
                    task.cancel()
        finally:
            self._group = None
            for server in self._servers:
                server.close()
            self._servers.clear()
            self.addrman.save()
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Make `run` return: every connection is closed, the address book saved."""
        self._stop.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None or self._stop.is_set():
            work.close()
            return
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _local_fault(self, fault: LocalFault) -> None:
        self._fault = self._fault or fault
        self.stop()

    # --- accepting

    def _acceptor(self, bind: Bind) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accept(bind, reader, writer)

        return accept

    def _accept(self, bind: Bind, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peername = writer.get_extra_info("peername")
        refused = "not running"
        if peername and self._group is not None and not self._stop.is_set():
            address = NetAddress.from_ip(peername[0], peername[1])
            permissions = bind.permissions
            for entry in self.config.whitelist:
                if entry.inbound and entry.covers(address):
                    permissions |= entry.permissions
            refused = self._why_refused(address, permissions)
            if not refused:
                log.net.debug("connection from %s accepted", address)
                name = str(address)
                self._adopt(reader, writer, ConnectionType.INBOUND, address, name, permissions, onion=bind.onion)
                return
            log.net.debug("connection from %s dropped (%s)", address, refused)
        writer.transport.abort()

    def _why_refused(self, address: NetAddress, permissions: Permission) -> str:
        if not self.network_active:
            return "not accepting new connections"
        noban = permissions & Permission.NOBAN == Permission.NOBAN
        if not noban and self.bans.banned(address):
            return "banned"
        inbound = sum(peer.inbound for peer in self.engine.peers.values())
        room = self.config.max_connections - self._plan.max_full_relay - self._plan.max_block_relay - 1
        if not noban and inbound + 1 >= room and self.bans.discouraged(address):
            return "discouraged"
        if inbound >= room and not self._evict():
            return "full"
        return ""

    def _evict(self) -> bool:
        peers = [p for p in self.engine.peers.values() if not p.disconnecting]
        chosen = select_peer_to_evict([Candidate.from_peer(p, self.addrman.keyed_group) for p in peers])
        if chosen is None:
            log.net.debug("failed to find an eviction candidate - connection dropped (full)")
            return False
        peer = self.engine.peers[chosen]
        log.net.debug("selected inbound connection for eviction, %s", peer.disconnect_text)
        peer.disconnect()
        return True

    def _adopt(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection_type: ConnectionType,
        address: NetAddress | None,
        name: str,
        permissions: Permission,
        *,
        onion: bool = False,
    ) -> Peer:
        connection = Connection(self.engine, reader, writer, max_send_buffer=self.config.max_send_buffer)
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockname = writer.get_extra_info("sockname")
        peer = Peer(
            self._next_id,
            magic=self.params.magic,
            address=address,
            name=name,
            connection_type=connection_type,
            sink=connection.write,
            now=self._clock(),
            nonce=self._rng.getrandbits(64) | 1,
            permissions=permissions,
            bind=format_endpoint(sockname) if sockname else "",
            our_services=int(self.services),
            inbound_onion=onion,
            log_ips=self.config.log_ips,
        )
        self._next_id += 1
        if self.config.log_ips:
            log.net.debug("Added connection to %s peer=%d", name, peer.id)
        else:
            log.net.debug("Added connection peer=%d", peer.id)
        self.engine.peers[peer.id] = peer
        self._connections[peer.id] = connection
        self._spawn(self._run_connection(connection, peer))
        return peer

    @property
    def services(self) -> Services:
        """What new peers are offered: not all blocks while a UTXO snapshot is being validated."""
        if self.node.has_all_blocks():
            return self.config.services
        return self.config.services & ~Services.NETWORK | Services.NETWORK_LIMITED

    async def _run_connection(self, connection: Connection, peer: Peer) -> None:
        try:
            await connection.run(peer, self._local_fault)
        finally:
            self._connections.pop(peer.id, None)
            self.total_sent += peer.bytes_sent
            self.total_received += peer.bytes_received
            self._wake_added.set()

    # --- connecting

    async def _open_tcp(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port, limit=max(self.config.max_receive_buffer // 2, 64 * 1024))

    async def connect(
        self, target: str, connection_type: ConnectionType, address: NetAddress | None = None
    ) -> Peer | None:
        """Open one outbound connection; None if it could not be opened, or exists, or is banned. `target` is
        host[:port]."""
        if not self.network_active or target in self._pending or self._connected_to(target, address):
            return None
        try:
            host, port = split_host_port(target, self._default_port)
        except ValueError as error:
            log.net.info("Cannot connect to %r: %s", target, error)
            return None
        if address is not None and (self.bans.banned(address) or self.bans.discouraged(address)):
            return None
        self._pending.add(target)
        log.net.debug("trying v1 connection (%s) to %s, lastseen=%.1fhrs", connection_type.value, target, 0.0)
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                reader, writer = await self._connector(host, port)
        except (OSError, TimeoutError, UnicodeError) as error:
            log.net.debug("connect() to %s failed: %s", target, error or "timed out")
            if address is not None:
                self.addrman.attempt(address, count_failure=True)
            return None
        finally:
            self._pending.discard(target)
        peername = writer.get_extra_info("peername")
        if address is None and peername:
            address = NetAddress.from_ip(peername[0], peername[1])
        if self._group is None or self._stop.is_set() or (address is not None and self.bans.banned(address)):
            writer.transport.abort()
            return None
        if address is not None:
            self.addrman.attempt(address, count_failure=False)
        permissions = Permission.NONE
        for entry in self.config.whitelist:
            if entry.outbound and address is not None and entry.covers(address):
                permissions |= entry.permissions
        return self._adopt(reader, writer, connection_type, address, target, permissions)

    def _connected_to(self, target: str, address: NetAddress | None) -> bool:
        peers = self.engine.peers.values()
        return any(p.name == target or (address is not None and not p.inbound and p.address == address) for p in peers)

    async def _open_outbound(self) -> None:
        if self.config.connect is not None:
            await self._open_listed(self.config.connect)
            return
        while True:
            await asyncio.sleep(OPEN_INTERVAL_S)
            if not self.network_active or len(self._pending) >= MAX_PENDING_CONNECTS:
                continue
            for seed in self._plan.seed_nodes_to_ask():
                self._spawn(self._connect_once(seed, ConnectionType.ADDR_FETCH, None))
            wanted = self._plan.next_connection(self._pending)
            if wanted is not None:
                self._spawn(self._connect_wanted(wanted))

    async def _connect_wanted(self, wanted: Wanted) -> None:
        await self._connect_once(str(wanted.address), wanted.connection_type, wanted.address)

    async def _connect_once(self, target: str, connection_type: ConnectionType, address: NetAddress | None) -> None:
        await self.connect(target, connection_type, address)

    async def _open_listed(self, targets: Sequence[str]) -> None:
        while targets:
            for target in targets:
                await self.connect(target, ConnectionType.MANUAL)
                await asyncio.sleep(OPEN_INTERVAL_S)

    async def _open_added(self) -> None:
        while True:
            tried = False
            self._wake_added.clear()
            for target in list(self._added):
                manual = sum(p.connection_type == ConnectionType.MANUAL for p in self.engine.peers.values())
                if manual >= MAX_ADDNODE:
                    break
                if target in self._added and not self._connected_to(target, None):
                    tried = True
                    await self.connect(target, ConnectionType.MANUAL)
                    await asyncio.sleep(OPEN_INTERVAL_S)
            try:
                async with asyncio.timeout(ADDED_RETRY_S if tried else ADDED_IDLE_S):
                    await self._wake_added.wait()
            except TimeoutError:
                continue

    async def _seed_from_dns(self) -> None:
        if not self.config.dns_seeds or self.config.connect is not None:
            return
        await asyncio.sleep(self._plan.dns_delay_s())
        if self._plan.enough_peers():
            log.net.info("P2P peers available. Skipped DNS seeding.")
            return
        for seed in self.config.dns_seeds:
            log.net.info("Loading addresses from DNS seed %s", seed)
            try:
                async with asyncio.timeout(DNS_TIMEOUT_S):
                    hosts = await self._resolver(seed)
            except (OSError, TimeoutError, UnicodeError) as error:
                log.net.debug("DNS seed %s did not answer: %s", seed, error or "timed out")
                continue
            now = int(self._clock())
            age = self._rng.randrange(3 * 86400, 7 * 86400)
            services = int(Services.NETWORK | Services.WITNESS)
            found = [
                TimedAddress(now - age, services, NetAddress.from_ip(host, self._default_port)) for host in hosts[:256]
            ]
            self.addrman.add(found, source=found[0].address if found else None, time_penalty_s=0)

    # --- timers

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()

    def _tick(self) -> None:
        for peer_id, connection in list(self._connections.items()):
            peer = self.engine.peers.get(peer_id)
            if peer is not None and not peer.disconnecting:
                self.engine.tick(peer, idle=connection.idle)

    async def _dump_addresses(self) -> None:
        while True:
            await asyncio.sleep(DUMP_INTERVAL_S)
            self.addrman.save()

    # --- what the node tells us (chain.interfaces.NodeEvents)

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        """The active chain changed. Announces new blocks to every peer at once."""
        self.engine.on_tip_changed(tip, connected, disconnected)
        self._spawn(self._read_tip())
        self._tick()

    async def _read_tip(self) -> None:
        try:
            await self.engine.read_tip()
        except LocalFault as fault:
            self._local_fault(fault)
            return
        self._tick()

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None:
        """A stored block turned out to be invalid when it was connected later: whoever sent it answers for it."""
        self.engine.on_block_rejected(block_hash, verdict, reason)

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        """Announces it to peers, after their trickle delays."""
        self.engine.on_transaction_accepted(transaction)

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None:
        """Nothing to undo: announcements are looked up in the mempool when they are made."""

    def relay_transaction(self, txid: Txid, wtxid: Wtxid) -> None:
        """Announce a transaction (again), e.g. by sendrawtransaction for one that is in the mempool already."""
        self.engine.relay_transaction(txid, wtxid)

    # --- what RPC asks

    def peer_info(self) -> list[dict[str, Any]]:
        """getpeerinfo's fields by Core's names; `minfeefilter` is satoshi per 1,000 vbytes, times are unix seconds."""
        return [peer_info(p, self.node, self._clock()) for p in sorted(self.engine.peers.values(), key=lambda p: p.id)]

    def connection_counts(self) -> tuple[int, int]:
        """(inbound, outbound)."""
        inbound = sum(p.inbound for p in self.engine.peers.values())
        return inbound, len(self.engine.peers) - inbound

    def network_totals(self) -> tuple[int, int]:
        """(bytes received, bytes sent) since the start."""
        peers = self.engine.peers.values()
        received = self.total_received + sum(p.bytes_received for p in peers)
        return received, self.total_sent + sum(p.bytes_sent for p in peers)

    async def add_node(self, target: str, command: str) -> None:
        """addnode: "add" keeps a connection up, "remove" stops that, "onetry" tries one now and returns when it has
        been tried."""
        if command == "onetry":
            await self.connect(target, ConnectionType.MANUAL)
        elif command == "add":
            if target in self._added:
                raise RequestRefused(RequestRefused.ALREADY_ADDED, "Error: Node already added")
            self._added[target] = None
            self._wake_added.set()
        elif command == "remove":
            if target not in self._added:
                raise RequestRefused(
                    RequestRefused.NOT_ADDED, "Error: Node could not be removed. It has not been added previously."
                )
            del self._added[target]
        else:
            raise RequestRefused(RequestRefused.INVALID, f"unknown addnode command {command!r}")

    def added_nodes(self) -> list[tuple[str, Peer | None]]:
        """getaddednodeinfo: each added node with its peer if it is connected."""
        peers = self.engine.peers.values()
        return [(target, next((p for p in peers if p.name == target), None)) for target in self._added]

    async def add_connection(self, target: str, connection_type: ConnectionType) -> None:
        """addconnection (regtest): open an automatic-type connection now. RequestRefused when that type's slots are
        taken."""
        limits = {
            ConnectionType.OUTBOUND_FULL_RELAY: min(MAX_OUTBOUND_FULL_RELAY, self.config.max_connections),
            ConnectionType.BLOCK_RELAY: MAX_BLOCK_RELAY_ONLY,
        }
        limit = limits.get(connection_type)
        existing = sum(p.connection_type == connection_type for p in self.engine.peers.values())
        if connection_type in (ConnectionType.INBOUND, ConnectionType.MANUAL) or (
            limit is not None and existing >= limit
        ):
            raise RequestRefused(
                RequestRefused.AT_CAPACITY, "Error: Already at capacity for specified connection type."
            )
        await self.connect(target, connection_type)

    def disconnect(self, *, address: str = "", peer_id: int | None = None) -> None:
        """disconnectnode: by address (as getpeerinfo shows it) or by id; RequestRefused if there is no such peer."""
        found = [
            p for p in self.engine.peers.values() if (p.id == peer_id if peer_id is not None else p.name == address)
        ]
        if not found:
            raise RequestRefused(RequestRefused.NOT_CONNECTED, "Node not found in connected nodes")
        for peer in found:
            log.net.debug(
                "disconnect by %s%s, %s", "id" if peer_id is not None else "address", "", peer.disconnect_text
            )
            peer.disconnect()

    def fetch_block(self, header: HeaderInfo, peer_id: int) -> None:
        """getblockfrompeer: ask one peer for a block whose header we have. RequestRefused, in Core's words, if it
        cannot be asked."""
        peer = self.engine.peers.get(peer_id)
        if peer is None:
            raise RequestRefused(RequestRefused.INVALID, "Peer does not exist")
        if not peer.serves_witnesses:
            raise RequestRefused(RequestRefused.INVALID, "Pre-SegWit peer")
        if peer_id in self.engine.download.requested_from(header.hash):
            raise RequestRefused(RequestRefused.INVALID, "Already requested from this peer")
        self.engine.download.request_one(peer, header)

    def ping_all(self) -> None:
        """ping: queue one to every peer."""
        for peer in self.engine.peers.values():
            peer.ping_queued = True

    def clock_moved(self) -> None:
        """The clock jumped: what is due now is due at once."""
        self._tick()

    def set_network_active(self, active: bool) -> None:
        """setnetworkactive: False closes every connection and opens no more."""
        if active == self.network_active:
            return
        self.network_active = active
        if not active:
            for peer in self.engine.peers.values():
                peer.disconnect()

    def set_ban(self, subnet: str, *, ban_time_s: int = 0, absolute: bool = False) -> None:
        """setban add: for `ban_time_s` seconds (0: the default), or until that time. Peers in it are disconnected."""
        parsed = parse_subnet(subnet)
        if "/" not in subnet and self.bans.banned(NetAddress.from_ip(subnet, 0)):
            raise RequestRefused(RequestRefused.ALREADY_ADDED, "Error: IP/Subnet already banned")
        until = ban_time_s if absolute else int(self._clock()) + (ban_time_s or self.config.ban_time_s)
        self.bans.ban(parsed, until)
        for peer in self.engine.peers.values():
            if peer.address is not None and not peer.may(Permission.NOBAN) and self.bans.banned(peer.address):
                log.net.debug("disconnect by subnet match, %s", peer.disconnect_text)
                peer.disconnect()

    def unban(self, subnet: str) -> None:
        """setban remove."""
        self.bans.unban(parse_subnet(subnet))

    def list_banned(self) -> dict[Subnet, Ban]:
        """listbanned, in its order."""
        return self.bans.bans()

    def clear_banned(self) -> None:
        """clearbanned."""
        self.bans.clear()

    def node_addresses(self, count: int = 1, network: str | None = None) -> list[TimedAddress]:
        """getnodeaddresses: a random sample of known addresses; count 0 means all."""
        return self.addrman.sample(count or None, None, network)

    def add_peer_address(self, host: str, port: int, *, tried: bool = False) -> bool:
        """addpeeraddress (for tests)."""
        address = NetAddress.from_ip(host, port)
        services = int(Services.NETWORK | Services.WITNESS)
        added = self.addrman.add(
            [TimedAddress(int(self._clock()), services, address)], source=address, time_penalty_s=0
        )
        return bool(added) and (not tried or self.addrman.good(address))

    def send_message_to_peer(self, peer_id: int, command: str, payload: bytes) -> None:
        """sendmsgtopeer (for tests)."""
        peer = self.engine.peers.get(peer_id)
        if peer is None:
            raise RequestRefused(RequestRefused.NOT_CONNECTED, "Error: Could not send message to peer")
        peer.send_raw(command, payload, self._clock())

    def _disconnect_address(self, address: NetAddress) -> None:
        for peer in self.engine.peers.values():
            if peer.address is not None and peer.address.address == address.address:
                peer.disconnect()


def format_endpoint(endpoint: tuple[Any, ...]) -> str:
    """A socket's (host, port, …) as host:port."""
    return str(NetAddress.from_ip(endpoint[0], endpoint[1]))


async def _resolve(name: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
