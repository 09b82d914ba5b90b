"""What particular peers may do that others may not (Core: net_permissions)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntFlag

from chain.primitives.errors import UserError
from p2p.netaddress import NetAddress


class Permission(IntFlag):
    """Core's names, lower case, are what users write and getpeerinfo shows."""

    NONE = 0
    BLOOMFILTER = 1 << 1
    RELAY = 1 << 3  #: transactions are accepted from it even with blocksonly
    FORCERELAY = 1 << 2 | RELAY  #: its transactions are relayed even if we have them
    DOWNLOAD = 1 << 6  #: headers are served during initial sync, blocks without limit
    NOBAN = 1 << 4 | DOWNLOAD  #: never disconnected for misbehaviour, inventory without delay
    MEMPOOL = 1 << 5  #: may ask for the mempool
    ADDR = 1 << 7  #: addresses without rate limit


_BY_NAME = {
    "bloomfilter": Permission.BLOOMFILTER,
    "bloom": Permission.BLOOMFILTER,
    "noban": Permission.NOBAN,
    "forcerelay": Permission.FORCERELAY,
    "relay": Permission.RELAY,
    "mempool": Permission.MEMPOOL,
    "download": Permission.DOWNLOAD,
    "addr": Permission.ADDR,
}
ALL_PERMISSIONS = Permission(0xFE)
IMPLICIT_PERMISSIONS = (
    Permission.NOBAN | Permission.MEMPOOL | Permission.RELAY
)  #: what a whitelist entry without names grants


def permission_names(permissions: Permission) -> list[str]:
    """Names in Core's order."""
    order = ("bloomfilter", "noban", "forcerelay", "relay", "mempool", "download", "addr")
    return [name for name in order if permissions & _BY_NAME[name] == _BY_NAME[name]]


@dataclass(frozen=True, slots=True)
class Whitelist:
    """One -whitelist entry: the networks it covers, what it grants, and in which direction."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    permissions: Permission
    inbound: bool = True
    outbound: bool = False

    def covers(self, address: NetAddress) -> bool:
        """Whether the address lies in the network."""
        if not address.is_ip:
            return False
        ip = ipaddress.ip_address(address.address)
        return ip.version == self.network.version and ip in self.network


def parse_permissions(text: str) -> tuple[Permission, bool, bool, str]:
    """``[perms@]rest`` into (permissions, inbound, outbound, rest). UserError for an unknown name."""
    names, at, rest = text.partition("@")
    if not at:
        return IMPLICIT_PERMISSIONS, True, False, text
    permissions, inbound, outbound = Permission.NONE, False, False
    for name in filter(None, names.split(",")):
        if name == "all":
            permissions |= ALL_PERMISSIONS
        elif name in ("in", "out"):
            inbound |= name == "in"
            outbound |= name == "out"
        elif name in _BY_NAME:
            permissions |= _BY_NAME[name]
        else:
            raise UserError(f"Invalid P2P permission: '{name}'")
    if not permissions and (inbound or outbound):
        raise UserError(f"Only direction was set, no permissions: '{names}'")
    return permissions, inbound or not outbound, outbound, rest


def parse_whitelist(text: str) -> Whitelist:
    """One -whitelist value, ``[perms@]address[/bits]``. UserError if it is not one."""
    permissions, inbound, outbound, network = parse_permissions(text)
    try:
        parsed = ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        raise UserError(f"Invalid netmask specified in -whitelist: '{text}'") from None
    return Whitelist(parsed, permissions, inbound, outbound)
