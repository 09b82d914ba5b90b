"""The peer-to-peer layer's settings out of the node's."""

from __future__ import annotations

from pathlib import Path

from chain.params import NetworkParams
from chain.primitives.errors import UserError
from node.config import NodeConfig
from p2p.config import Bind, P2PConfig
from p2p.constants import DEFAULT_CONNECT_TIMEOUT_S, Services
from p2p.permissions import Permission, Whitelist, parse_permissions, parse_whitelist


def build_peer_config(config: NodeConfig, params: NetworkParams, folder: Path) -> P2PConfig:
    """UserError, in Core's words where it has them, for an address or permission that is not one."""
    services = Services.WITNESS
    services |= Services.NETWORK_LIMITED if config.prune_mib else Services.NETWORK | Services.NETWORK_LIMITED
    if config.peer_block_filters:
        services |= Services.COMPACT_FILTERS
    connect: tuple[str, ...] | None = None
    if config.connect:
        connect = () if config.connect == ("0",) else config.connect
    seeds = params.dns_seeds if config.dns_seeds and connect is None else ()
    return P2PConfig(
        binds=_binds(config, params),
        user_agent_comments=config.user_agent_comment,
        max_connections=config.max_connections,
        connect=connect,
        add_nodes=config.addnode,
        seed_nodes=config.seednode,
        dns_seeds=tuple(seed.rstrip(".") for seed in seeds if not seed.endswith(".invalid.")),
        blocks_only=config.blocks_only,
        whitelist=_whitelist(config),
        ban_time_s=config.ban_time_s,
        peer_timeout_s=config.peer_timeout_s,
        connect_timeout_s=config.connect_timeout_ms / 1000 or DEFAULT_CONNECT_TIMEOUT_S,
        max_receive_buffer=1000 * config.max_receive_buffer_kb,
        max_send_buffer=1000 * config.max_send_buffer_kb,
        log_ips=config.log_ips,
        services=services,
        datadir=folder,
        min_relay_fee_rate_sat_per_kvb=config.min_relay_fee,
    )


def _whitelist(config: NodeConfig) -> tuple[Whitelist, ...]:
    return tuple(parse_whitelist(text) for text in config.whitelist)


def _binds(config: NodeConfig, params: NetworkParams) -> tuple[Bind, ...]:
    port = config.port or params.default_port
    binds = []
    for text in config.bind:
        address, onion = (text.removesuffix("=onion"), True) if text.endswith("=onion") else (text, False)
        binds.append(_bind("bind", address, port, onion, Permission.NONE))
    for text in config.whitebind:
        permissions, _, _, address = parse_permissions(text)
        binds.append(_bind("whitebind", address, port, False, permissions))
    if not config.listen:
        return ()
    return tuple(binds) or (Bind("0.0.0.0", port),)


def _bind(option: str, text: str, default_port: int, onion: bool, permissions: Permission) -> Bind:
    host, port = text, default_port
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest.startswith(":") and rest[1:].isdigit():
            port = int(rest[1:])
    elif text.count(":") == 1:
        host, _, digits = text.partition(":")
        if not digits.isdigit():
            raise UserError(f"Cannot resolve -{option} address: '{text}'")
        port = int(digits)
    if not 0 <= port <= 65_535 or not host:
        raise UserError(f"Cannot resolve -{option} address: '{text}'")
    return Bind(host, port, onion, permissions)
