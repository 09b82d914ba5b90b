"""How a pool is written: stratum+tcp://USER:PASSWORD@HOST:PORT, stratum+ssl:// for TLS, or
stratum2+tcp://HOST:PORT/KEY for Stratum V2, where KEY is the pool's authority key."""

from __future__ import annotations

import contextlib
import unicodedata
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from chain.crypto.secp256k1 import is_valid_xonly
from chain.primitives.errors import UserError
from chain.script.base58 import decode_check, encode_check
from miner.work.stratum.messages import clean_text

_TLS_OF_SCHEME = {
    "stratum+tcp": False,
    "stratum": False,
    "tcp": False,
    "stratum+ssl": True,
    "stratum+tls": True,
    "ssl": True,
}
_V2_SCHEME = "stratum2+tcp"
_KEY_VERSION = b"\x01\x00"


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Where a pool is and who we are there. `authority_key`: the x-only key that signs a Stratum V2 pool's
    certificates, None for Stratum V1."""

    host: str
    port: int
    tls: bool
    user: str
    password: str
    authority_key: bytes | None = None

    @property
    def url(self) -> str:
        """How it is written, without user and password."""
        if self.authority_key is not None:
            return f"{_V2_SCHEME}://{self.name}/{encode_check(_KEY_VERSION + self.authority_key)}"
        return f"stratum+{'ssl' if self.tls else 'tcp'}://{self.name}"

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
    parts = host = port = None
    with contextlib.suppress(ValueError):
        parts = urlsplit(url if "//" in url else f"stratum+tcp://{url}")
        host, port = parts.hostname, parts.port
    is_v2 = parts is not None and parts.scheme == _V2_SCHEME
    plain_path = parts is not None and parts.path in ("", "/")
    known = parts is not None and (is_v2 or (parts.scheme in _TLS_OF_SCHEME and plain_path))
    if parts is None or not known or not host or not _is_name(host) or not port:
        shown = clean_text(url.rpartition("@")[2], 100)
        raise UserError(f"'{shown}' is not a pool's address: write it like stratum+tcp://pool.example:3333")
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "") or password
    if not user:
        raise UserError(f"pool {host}:{port} needs a user: give --user, mostly an address or ACCOUNT.WORKER")
    if not _is_text(user):
        raise UserError(f"the user for pool {host}:{port} has characters that are no text: '{clean_text(user, 60)}'")
    password = password if password is not None else "x"
    if is_v2:
        return PoolAddress(host, port, False, user, password, _authority_key(parts.path.strip("/"), f"{host}:{port}"))
    return PoolAddress(host, port, _TLS_OF_SCHEME[parts.scheme], user, password)


def _is_name(host: str) -> bool:
    """Whether it can be a host's name or address: what the system's resolver would stumble over is kept from it."""
    return host.isprintable() and not any(character.isspace() for character in host)


def _is_text(user: str) -> bool:
    """Neither control characters nor bytes that are not UTF-8 (surrogates): pools read UTF-8, terminals obey the
    former."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in user)


def _authority_key(text: str, where: str) -> bytes:
    """The key in a Stratum V2 address (§4.7): base58check of a version, 1, and 32 bytes."""
    if not text:
        raise UserError(
            f"pool {where} speaks Stratum V2: its address needs the pool's key, as in stratum2+tcp://{where}/9a…"
        )
    try:
        payload = decode_check(text, max_size=64)
    except ValueError:
        raise UserError(f"'{text[:60]}' is not the key of a Stratum V2 pool: is a character missing?") from None
    if len(payload) != 34 or payload[:2] != _KEY_VERSION or not is_valid_xonly(payload[2:]):
        raise UserError(f"'{text[:60]}' is not the key of a Stratum V2 pool")
    return payload[2:]
