"""Banned subnets (by the user, kept on disk) and discouraged addresses (by misbehaviour, in memory).

``banlist.json`` is Core's: ``{"banned_nets": [{"version": 1, "ban_created": s, "banned_until": s, "address":
"1.2.3.0/24"}]}``. It is read up to 16 MiB.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2p import log
from p2p.errors import RequestRefused
from p2p.netaddress import NetAddress
from p2p.rolling import RollingSet

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
DISCOURAGED_CAPACITY = 50_000
MAX_BANLIST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Ban:
    """One entry; unix seconds."""

    subnet: Subnet
    created: int
    until: int


class BanManager:
    """Who may not connect."""

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._bans: dict[Subnet, Ban] = {}
        self._discouraged = RollingSet(DISCOURAGED_CAPACITY)
        if path is not None:
            self._load(path)

    def banned(self, address: NetAddress) -> bool:
        """Whether a ban that has not run out covers it."""
        if not self._bans or not address.is_ip:
            return False
        ip = ipaddress.ip_address(address.address)
        now = self._clock()
        return any(ban.until > now and ip.version == net.version and ip in net for net, ban in self._bans.items())

    def discourage(self, address: NetAddress) -> None:
        """It misbehaved: it may still connect inbound while there is room, and we will not connect to it."""
        self._discouraged.add(address.address)

    def discouraged(self, address: NetAddress) -> bool:
        return address.address in self._discouraged

    def ban(self, subnet: Subnet, until: int) -> None:
        """Ban until a unix time. RequestRefused if an entry for just this subnet exists."""
        if subnet in self.bans():
            raise RequestRefused(RequestRefused.ALREADY_ADDED, "Error: IP/Subnet already banned")
        self._bans[subnet] = Ban(subnet, int(self._clock()), until)
        self._save()

    def unban(self, subnet: Subnet) -> None:
        """Lift one ban; RequestRefused if there is none."""
        if self._bans.pop(subnet, None) is None:
            raise RequestRefused(
                RequestRefused.INVALID_SUBNET,
                "Error: Unban failed. Requested address/subnet was not previously manually banned.",
            )
        self._save()

    def clear(self) -> None:
        """Lift all bans."""
        self._bans.clear()
        self._save()

    def bans(self) -> dict[Subnet, Ban]:
        """Those that have not run out; others are forgotten."""
        now = self._clock()
        expired = [subnet for subnet, ban in self._bans.items() if ban.until <= now]
        for subnet in expired:
            del self._bans[subnet]
            log.net.debug("Removed banned node address/subnet: %s", subnet_text(subnet))
        return dict(
            sorted(
                self._bans.items(),
                key=lambda item: (item[0].version, item[0].network_address.packed, item[0].prefixlen),
            )
        )

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_BANLIST_BYTES:
                raise ValueError("too large")
            entries = json.loads(path.read_bytes())["banned_nets"]
            for entry in entries:
                subnet = parse_subnet(entry["address"])
                self._bans[subnet] = Ban(subnet, int(entry["ban_created"]), int(entry["banned_until"]))
        except FileNotFoundError:
            log.net.info("Recreating the banlist database")
            self._save()
        except (OSError, ValueError, KeyError, TypeError, RequestRefused) as error:
            log.net.warning("Cannot parse banlist %s: %s; starting with no bans", path.name, error)
            self._bans.clear()

    def _save(self) -> None:
        if self._path is None:
            return
        entries = [
            {"version": 1, "ban_created": b.created, "banned_until": b.until, "address": subnet_text(b.subnet)}
            for b in self._bans.values()
        ]
        partial = self._path.with_suffix(".json.new")
        try:
            partial.write_text(json.dumps({"banned_nets": entries}, indent=4), encoding="ascii")
            os.replace(partial, self._path)
        except OSError as error:
            log.net.warning("Cannot write %s: %s", self._path, error)


def parse_subnet(text: str) -> Subnet:
    """An address, or address/bits or address/mask; RequestRefused if it is not one."""
    try:
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise RequestRefused(RequestRefused.INVALID_SUBNET, "Error: Invalid IP/Subnet") from None
    return net


def subnet_text(subnet: Subnet) -> str:
    """``1.2.3.4/32``, as listbanned shows it."""
    return str(subnet)
