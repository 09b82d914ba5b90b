"""How a pool is written: stratum+tcp://USER:PASSWORD@HOST:PORT, or stratum+ssl:// for TLS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from chain.primitives.errors import UserError

_TLS_OF_SCHEME = {
    "stratum+tcp": False,
    "stratum": False,
    "tcp": False,
    "stratum+ssl": True,
    "stratum+tls": True,
    "ssl": True,
}


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Where a pool is and who we are there."""

    host: str
    port: int
    tls: bool
    user: str
    password: str

    @property
    def name(self) -> str:
        """For messages: no secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def at(self, host: str | None, port: int | None) -> PoolAddress:
        """The same pool elsewhere."""
        return replace(self, host=host or self.host, port=port or self.port)


def parse_pool_url(url: str, user: str | None, password: str | None) -> PoolAddress:
    """Read a pool's URL; its own user and password go before the ones given. Raises UserError."""
    try:
        parts = urlsplit(url if "//" in url else f"stratum+tcp://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in _TLS_OF_SCHEME or parts.path not in ("", "/"):
        shown = url.rpartition("@")[2][:100]
        raise UserError(f"'{shown}' is not a pool's address: write it like stratum+tcp://pool.example:3333")
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "") or password
    if not user:
        raise UserError(f"pool {host}:{port} needs a user: give --user, mostly an address or ACCOUNT.WORKER")
    return PoolAddress(host, port, _TLS_OF_SCHEME[parts.scheme], user, password if password is not None else "x")
