"""Sockets bound before anything else starts, so that a port in use is one clear line and not half a run."""

from __future__ import annotations

import errno
import ipaddress
import socket

from chain.primitives.errors import UserError

_BACKLOG = 64


def bind(host: str, port: int, what: str, option: str) -> socket.socket:
    """A listening socket. `what` and `option` name it in the UserError that a place in use, or none of ours, raises."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UserError(f"{option}: there is no host '{host}' to listen at") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_REUSEADDR"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = {
            errno.EADDRINUSE: "the port is in use, perhaps by another miner",
            errno.EACCES: "ports below 1024 are the administrator's",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }.get(error.errno or 0, error.strerror)
        raise UserError(
            f"{what} cannot listen at {show_place(host, port)}: {reason}; choose another place with {option}"
        ) from None
    return listener


def show_place(host: str, port: int) -> str:
    """As it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
