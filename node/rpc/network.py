"""RPC: peers."""

from __future__ import annotations

from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex
from node.config import user_agent
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc
from node.rpc.jsonio import JSON, money
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import is_hex
from p2p.config import CLIENT_VERSION
from p2p.constants import PROTOCOL_VERSION, service_names
from p2p.errors import RequestRefused
from p2p.manager import PeerManager
from p2p.peer import ConnectionType

_CATEGORY = "Network"
_REFUSALS = {
    RequestRefused.ALREADY_ADDED: Code.CLIENT_NODE_ALREADY_ADDED,
    RequestRefused.NOT_ADDED: Code.CLIENT_NODE_NOT_ADDED,
    RequestRefused.NOT_CONNECTED: Code.CLIENT_NODE_NOT_CONNECTED,
    RequestRefused.INVALID_SUBNET: Code.CLIENT_INVALID_IP_OR_SUBNET,
    RequestRefused.AT_CAPACITY: Code.CLIENT_NODE_CAPACITY_REACHED,
    RequestRefused.INVALID: Code.INVALID_PARAMETER,
}
_NETWORKS = ("ipv4", "ipv6", "onion", "i2p", "cjdns")


def version_number() -> int:
    """0.1.0 as 100, the way Core packs its version."""
    major, minor, build = (int(part) for part in CLIENT_VERSION.split("."))
    return major * 10_000 + minor * 100 + build


def peers_of(context: RpcContext) -> PeerManager:
    if context.peers is None:
        raise RpcError(Code.CLIENT_P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled")
    return context.peers


def _refused(error: RequestRefused) -> RpcError:
    return RpcError(_REFUSALS.get(error.kind, Code.MISC_ERROR), str(error))


@rpc("getconnectioncount", _CATEGORY, help="How many peers are connected.", on_loop=True)
def getconnectioncount(context: RpcContext) -> JSON:
    return sum(peers_of(context).connection_counts())


@rpc("ping", _CATEGORY, help="Ping all peers; getpeerinfo shows the times.", on_loop=True)
def ping(context: RpcContext) -> JSON:
    peers_of(context).ping_all()
    return None


@rpc("getpeerinfo", _CATEGORY, help="All about each peer.", on_loop=True)
def getpeerinfo(context: RpcContext) -> JSON:
    answer = []
    for info in peers_of(context).peer_info():
        info["minfeefilter"] = money(int(info.get("minfeefilter", 0)))
        answer.append(info)
    return answer


@rpc(
    "addnode",
    _CATEGORY,
    Arg("node", Kind.STR, help="HOST[:PORT]"),
    Arg("command", Kind.STR, help="add, remove or onetry"),
    Arg("v2transport", Kind.BOOL, None, help="try the encrypted transport"),
    help="Add or remove a peer to keep a connection to, or try one now.",
)
async def addnode(context: RpcContext, node: str, command: str, v2transport: bool | None) -> JSON:
    if command not in ("add", "remove", "onetry"):
        raise misc('addnode "node" "command" ( v2transport )')
    try:
        await peers_of(context).add_node(node, command)
    except RequestRefused as error:
        raise _refused(error) from error
    return None


@rpc(
    "addconnection",
    "hidden",
    Arg("address", Kind.STR, help="HOST:PORT"),
    Arg("connection_type", Kind.STR, help="outbound-full-relay, block-relay-only, addr-fetch or feeler"),
    Arg("v2transport", Kind.BOOL, False, help="try the encrypted transport"),
    help="Open a connection of an automatic type. For tests.",
)
async def addconnection(context: RpcContext, address: str, connection_type: str, v2transport: bool) -> JSON:
    if not context.params.is_mockable:
        raise misc("addconnection is for regression testing (-regtest mode) only.")
    try:
        kind = ConnectionType(connection_type.strip())
    except ValueError:
        kind = ConnectionType.INBOUND
    if kind in (ConnectionType.INBOUND, ConnectionType.MANUAL):
        raise invalid_parameter('addconnection "address" "connection_type" v2transport')
    if v2transport and not context.config.v2_transport:
        raise invalid_parameter("Error: Adding v2transport connections requires -v2transport init flag to be set.")
    try:
        await peers_of(context).add_connection(address, kind)
    except RequestRefused as error:
        raise _refused(error) from error
    return {"address": address, "connection_type": connection_type}


@rpc(
    "disconnectnode",
    _CATEGORY,
    Arg("address", Kind.STR, "", help="as getpeerinfo shows it"),
    Arg("nodeid", Kind.INT, None, help="or its id"),
    help="Close the connection to a peer.",
    on_loop=True,
)
def disconnectnode(context: RpcContext, address: str, nodeid: int | None) -> JSON:
    if bool(address) == (nodeid is not None):
        raise RpcError(Code.INVALID_PARAMETER, "Only one of address and nodeid should be provided.")
    try:
        peers_of(context).disconnect(address=address, peer_id=nodeid)
    except RequestRefused as error:
        raise _refused(error) from error
    return None


@rpc(
    "getaddednodeinfo",
    _CATEGORY,
    Arg("node", Kind.STR, None, help="only this one"),
    help="The peers that addnode keeps.",
    on_loop=True,
)
def getaddednodeinfo(context: RpcContext, node: str | None) -> JSON:
    found = peers_of(context).added_nodes()
    if node is not None:
        found = [item for item in found if item[0] == node]
        if not found:
            raise RpcError(Code.CLIENT_NODE_NOT_ADDED, "Error: Node has not been added.")
    answer = []
    for target, peer in found:
        addresses = []
        if peer is not None:
            direction = "inbound" if peer.inbound else "outbound"
            addresses.append({"address": str(peer.address), "connected": direction})
        answer.append({"addednode": target, "connected": peer is not None, "addresses": addresses})
    return answer


@rpc("getnettotals", _CATEGORY, help="Bytes moved since the start.", on_loop=True)
def getnettotals(context: RpcContext) -> JSON:
    received, sent = peers_of(context).network_totals()
    return {
        "totalbytesrecv": received,
        "totalbytessent": sent,
        "timemillis": int(context.clock() * 1000),
        "uploadtarget": {
            "timeframe": 86_400,
            "target": 0,
            "target_reached": False,
            "serve_historical_blocks": True,
            "bytes_left_in_cycle": 0,
            "time_left_in_cycle": 0,
        },
    }


@rpc("getnetworkinfo", _CATEGORY, help="How this node takes part in the network.", on_loop=True)
def getnetworkinfo(context: RpcContext) -> JSON:
    config, policy = context.config, context.mempool.policy
    peers = context.peers
    inbound, outbound = peers.connection_counts() if peers is not None else (0, 0)
    services = int(peers.services) if peers is not None else 0
    return {
        "version": version_number(),
        "subversion": user_agent(config),
        "protocolversion": PROTOCOL_VERSION,
        "localservices": f"{services:016x}",
        "localservicesnames": service_names(services),
        "localrelay": not config.blocks_only,
        "timeoffset": 0,
        "connections": inbound + outbound,
        "connections_in": inbound,
        "connections_out": outbound,
        "networkactive": peers is not None and peers.network_active,
        "networks": [
            {
                "name": name,
                "limited": name not in ("ipv4", "ipv6"),
                "reachable": name in ("ipv4", "ipv6"),
                "proxy": "",
                "proxy_randomize_credentials": False,
            }
            for name in _NETWORKS
        ],
        "relayfee": money(policy.min_relay_fee_rate),
        "incrementalfee": money(policy.incremental_relay_fee_rate),
        "localaddresses": [],
        "warnings": context.worker.warnings(),
    }


@rpc(
    "setnetworkactive",
    _CATEGORY,
    Arg("state", Kind.BOOL, help="false to close all connections and open no more"),
    help="Switch the network off or on.",
    on_loop=True,
)
def setnetworkactive(context: RpcContext, state: bool) -> JSON:
    peers = peers_of(context)
    peers.set_network_active(state)
    return peers.network_active


@rpc(
    "setban",
    _CATEGORY,
    Arg("subnet", Kind.STR, help="IP or IP/bits"),
    Arg("command", Kind.STR, help="add or remove"),
    Arg("bantime", Kind.INT, 0, help="seconds, or a Unix time with absolute"),
    Arg("absolute", Kind.BOOL, False, help="bantime is a Unix time"),
    help="Ban an address or a network, or lift a ban.",
    on_loop=True,
)
def setban(context: RpcContext, subnet: str, command: str, bantime: int, absolute: bool) -> JSON:
    if command not in ("add", "remove"):
        raise misc('setban "subnet" "command" ( bantime absolute )')
    peers = peers_of(context)
    try:
        if command == "remove":
            peers.unban(subnet)
            return None
        if subnet in {str(item) for item in peers.list_banned()}:
            raise RpcError(Code.CLIENT_NODE_ALREADY_ADDED, "Error: IP/Subnet already banned")
        if absolute and bantime < context.clock():
            raise invalid_parameter("Error: Absolute timestamp is in the past")
        peers.set_ban(subnet, ban_time_s=bantime, absolute=absolute)
    except RequestRefused as error:
        raise _refused(error) from error
    except UserError as error:
        raise RpcError(Code.CLIENT_INVALID_IP_OR_SUBNET, "Error: Invalid IP/Subnet") from error
    return None


@rpc("listbanned", _CATEGORY, help="All bans.", on_loop=True)
def listbanned(context: RpcContext) -> JSON:
    now = int(context.clock())
    answer = []
    for subnet, ban in peers_of(context).list_banned().items():
        answer.append(
            {
                "address": str(subnet),
                "ban_created": int(ban.created),
                "banned_until": int(ban.until),
                "ban_duration": int(ban.until - ban.created),
                "time_remaining": max(0, int(ban.until) - now),
            }
        )
    return answer


@rpc("clearbanned", _CATEGORY, help="Lift all bans.", on_loop=True)
def clearbanned(context: RpcContext) -> JSON:
    peers_of(context).clear_banned()
    return None


@rpc(
    "getnodeaddresses",
    _CATEGORY,
    Arg("count", Kind.INT, 1, help="how many, 0 for all"),
    Arg("network", Kind.STR, None, help="only of this network: ipv4, ipv6, onion, i2p, cjdns"),
    help="Addresses of nodes that this node knows.",
    on_loop=True,
)
def getnodeaddresses(context: RpcContext, count: int, network: str | None) -> JSON:
    if count < 0:
        raise invalid_parameter("Address count out of range")
    if network is not None and network not in _NETWORKS:
        raise invalid_parameter(f"Network not recognized: {network}")
    return [
        {
            "time": item.time,
            "services": int(item.services),
            "address": item.address.host,
            "port": item.address.port,
            "network": item.address.network_name,
        }
        for item in peers_of(context).node_addresses(count, network)
    ]


@rpc(
    "addpeeraddress",
    "hidden",
    Arg("address", Kind.STR, help="IP"),
    Arg("port", Kind.INT, help="port"),
    Arg("tried", Kind.BOOL, False, help="as one that answered"),
    help="Add an address to those known. For tests.",
    on_loop=True,
)
def addpeeraddress(context: RpcContext, address: str, port: int, tried: bool) -> JSON:
    try:
        return {"success": peers_of(context).add_peer_address(address, port, tried=tried)}
    except ValueError:
        raise RpcError(Code.CLIENT_INVALID_IP_OR_SUBNET, "Invalid IP address") from None


@rpc(
    "sendmsgtopeer",
    "hidden",
    Arg("peer_id", Kind.INT, help="the peer"),
    Arg("msg_type", Kind.STR, help="message type"),
    Arg("msg", Kind.STR, help="payload in hex"),
    help="Send a raw message. For tests.",
    on_loop=True,
)
def sendmsgtopeer(context: RpcContext, peer_id: int, msg_type: str, msg: str) -> JSON:
    if len(msg_type) > 12:
        raise invalid_parameter("Error: msg_type too long, max length is 12")
    if msg and not is_hex(msg):
        raise invalid_parameter("Error parsing input for msg")
    try:
        peers_of(context).send_message_to_peer(peer_id, msg_type, bytes.fromhex(msg))
    except RequestRefused as error:
        raise misc("Error: Could not send message to peer") from error
    return {}


@rpc(
    "getorphantxs",
    "hidden",
    Arg("verbosity", Kind.INT, 0),
    help="Transactions whose parents are unknown.",
    on_loop=True,
)
def getorphantxs(context: RpcContext, verbosity: int) -> JSON:
    if verbosity not in (0, 1, 2):
        raise invalid_parameter(f"Invalid verbosity value {verbosity}")
    answer: list[JSON] = []
    for orphan in peers_of(context).engine.transactions.orphans.all():
        tx = orphan.transaction
        if verbosity == 0:
            answer.append(hash_to_hex(tx.txid))
            continue
        one: dict[str, JSON] = {
            "txid": hash_to_hex(tx.txid),
            "wtxid": hash_to_hex(tx.wtxid),
            "bytes": tx.total_size,
            "vsize": tx.vsize,
            "weight": tx.weight,
            "from": sorted(orphan.announcers),
        }
        if verbosity == 2:
            one["hex"] = tx.raw.hex()
        answer.append(one)
    return answer
