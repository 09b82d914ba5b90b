"""Who may call: the cookie file, -rpcauth hashes, and the deprecated -rpcuser/-rpcpassword pair (Bitcoin Core's
httprpc.cpp)."""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from chain.primitives.errors import UserError

COOKIE_USER = "__cookie__"


class Authenticator:
    """Checks HTTP Basic credentials in constant time."""

    def __init__(
        self, *, user: str = "", password: str = "", rpcauth: Sequence[str] = (), cookie_path: Path | None = None
    ) -> None:
        self._pairs: list[bytes] = []
        self._salted: list[tuple[bytes, bytes, bytes]] = [_parse_rpcauth(line) for line in rpcauth]
        self._cookie_path: Path | None = None
        if password:
            self._pairs.append(f"{user}:{password}".encode())
        elif cookie_path is not None:
            secret = secrets.token_hex(32)
            write_private(cookie_path, f"{COOKIE_USER}:{secret}")
            self._cookie_path = cookie_path
            self._pairs.append(f"{COOKIE_USER}:{secret}".encode())

    def allows(self, header: str | None) -> bool:
        """Whether an Authorization header carries known credentials."""
        if header is None or not header.startswith("Basic "):
            return False
        try:
            given = base64.b64decode(header[6:].strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        ok = False
        for pair in self._pairs:
            ok |= hmac.compare_digest(given, pair)
        user, _, password = given.partition(b":")
        for name, salt, digest in self._salted:
            computed = hmac.new(salt, password, hashlib.sha256).hexdigest().encode()
            ok |= hmac.compare_digest(name, user) & hmac.compare_digest(computed, digest)
        return ok

    def close(self) -> None:
        """Remove the cookie: a file left behind would name a node that no longer runs."""
        if self._cookie_path is not None:
            self._cookie_path.unlink(missing_ok=True)
            self._cookie_path = None


def _parse_rpcauth(line: str) -> tuple[bytes, bytes, bytes]:
    user, colon, rest = line.partition(":")
    salt, dollar, digest = rest.partition("$")
    if not (user and colon and salt and dollar and len(digest) == 64):
        raise UserError("Invalid -rpcauth argument: expected USER:SALT$HASH, as share/rpcauth/rpcauth.py prints it.")
    return user.encode(), salt.encode(), digest.lower().encode()


def write_private(path: Path, text: str) -> None:
    """Create `path` readable by its owner alone and only ever complete: written beside, then renamed. OSError passes
    through."""
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    temporary.replace(path)


def read_cookie(path: Path) -> tuple[str, str]:
    """User and password of a running node. UserError when there is none."""
    try:
        user, colon, password = path.read_text().strip().partition(":")
    except OSError as error:
        raise UserError(f"No cookie at {path}: is the node running? ({error.strerror})") from error
    if not colon:
        raise UserError(f"{path} is not a cookie file: expected user:password.")
    return user, password
