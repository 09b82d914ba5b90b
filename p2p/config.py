"""What the node tells the peer-to-peer layer to do. All values are plain data; the node's command line and bitcoin.conf
fill them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.errors import UserError
from p2p.constants import DEFAULT_BAN_S, DEFAULT_CONNECT_TIMEOUT_S, MAX_ORPHANS, MAX_SUBVERSION_LENGTH, Services
from p2p.permissions import Permission, Whitelist

CLIENT_NAME = "Pickaxe"
CLIENT_VERSION = "0.1.0"
_SAFE_COMMENT = re.compile(r"[A-Za-z0-9 .,;\-_?@]*")


def user_agent(comments: Sequence[str]) -> str:
    """BIP14: `/Pickaxe:0.1.0/` or `/Pickaxe:0.1.0(comment; comment)/`. UserError (Core's words) for a comment that
    peers would not see whole."""
    for comment in comments:
        if not _SAFE_COMMENT.fullmatch(comment):
            raise UserError(f"User Agent comment ({comment}) contains unsafe characters.")
    in_brackets = f"({'; '.join(comments)})" if comments else ""
    agent = f"/{CLIENT_NAME}:{CLIENT_VERSION}{in_brackets}/"
    if len(agent) > MAX_SUBVERSION_LENGTH:
        raise UserError(
            f"Total length of network version string ({len(agent)}) exceeds maximum length ({MAX_SUBVERSION_LENGTH})."
            " Reduce the number or size of uacomments."
        )
    return agent


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on; port 0 lets the system choose (see PeerManager.listening). `permissions` go to every
    peer that arrives there."""

    host: str
    port: int
    onion: bool = False
    permissions: Permission = Permission.NONE


@dataclass(frozen=True, slots=True)
class P2PConfig:
    """Settings of a PeerManager; Core's option names are in parentheses."""

    #: addresses to listen on (-bind, -port); empty: do not listen (-listen=0)
    binds: tuple[Bind, ...] = ()
    #: appended to the user agent in parentheses (-uacomment)
    user_agent_comments: tuple[str, ...] = ()
    #: connections in all, manual ones not counted (-maxconnections)
    max_connections: int = 125
    #: (-connect) None: choose peers ourselves; (): make no outbound connections of our own accord (-connect=0); else
    #: only these
    connect: tuple[str, ...] | None = None
    #: kept connected (-addnode)
    add_nodes: tuple[str, ...] = ()
    #: asked once for addresses when we have none (-seednode)
    seed_nodes: tuple[str, ...] = ()
    #: names whose A and AAAA records are nodes, asked when we know too few addresses (-dnsseed; from the network's
    #: parameters)
    dns_seeds: tuple[str, ...] = ()
    #: port of addresses that name none (the network's default port)
    default_port: int | None = None
    #: neither ask for nor accept transactions (-blocksonly)
    blocks_only: bool = False
    whitelist: tuple[Whitelist, ...] = ()
    ban_time_s: int = DEFAULT_BAN_S
    #: a handshake, or the first byte, must have come within this time (-peertimeout)
    peer_timeout_s: float = 60
    #: an outbound TCP connection must be up within this time (-timeout, which is in ms)
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    #: bytes received and not yet handled, and bytes queued to send, before a connection is paused (-maxreceivebuffer,
    #: -maxsendbuffer)
    max_receive_buffer: int = 5_000_000
    max_send_buffer: int = 1_000_000
    services: Services = Services.NETWORK | Services.WITNESS
    #: folder for peers.dat and banlist.json; None keeps both in memory
    datadir: Path | None = None
    #: what we pay least for, announced by feefilter (-minrelaytxfee), satoshi per 1,000 vbytes
    min_relay_fee_rate_sat_per_kvb: int = 100
    #: orphans kept
    max_orphans: int = MAX_ORPHANS
    #: accept cmpctblock announcements and offer them
    compact_blocks: bool = True
    #: show addresses in log lines (-logips)
    log_ips: bool = False

    @property
    def user_agent(self) -> bytes:
        """As every version message carries it. UserError as from `user_agent`."""
        return user_agent(self.user_agent_comments).encode("ascii")
