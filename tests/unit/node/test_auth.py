"""Who may call: cookie, password, salted hash."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from node.rpc.auth import Authenticator, read_cookie, write_private


def _header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_the_cookie_opens_and_is_private_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    path.write_text("left over")
    door = Authenticator(cookie_path=path)
    assert path.stat().st_mode & 0o777 == 0o600
    user, password = read_cookie(path)
    assert user == "__cookie__"
    assert door.allows(_header(user, password))
    assert not door.allows(_header(user, password + "x"))
    assert [p.name for p in tmp_path.iterdir()] == [".cookie"]
    door.close()
    assert not path.exists()


def test_with_a_password_there_is_no_cookie(tmp_path: Path) -> None:
    door = Authenticator(user="u", password="p:q", cookie_path=tmp_path / ".cookie")
    assert not (tmp_path / ".cookie").exists()
    assert door.allows(_header("u", "p:q"))
    assert not door.allows(_header("u", "p"))


def test_rpcauth_lines() -> None:
    digest = hmac.new(b"salt", b"secret", hashlib.sha256).hexdigest()
    door = Authenticator(rpcauth=[f"alice:salt${digest}"])
    assert door.allows(_header("alice", "secret"))
    assert not door.allows(_header("bob", "secret"))
    assert not door.allows(_header("alice", "Secret"))


@pytest.mark.parametrize("line", ["alice", "alice:salt", "alice:salt$abc", ":salt$" + "0" * 64])
def test_bad_rpcauth_lines_are_refused(line: str) -> None:
    with pytest.raises(UserError, match="Invalid -rpcauth argument"):
        Authenticator(rpcauth=[line])


@pytest.mark.parametrize("header", [None, "", "Bearer x", "Basic", "Basic !!!", "Basic " + "A" * 5])
def test_headers_that_open_nothing(header: str | None) -> None:
    assert not Authenticator(user="u", password="p").allows(header)


def test_no_credentials_at_all_lets_no_one_in() -> None:
    assert not Authenticator().allows(_header("", ""))


def test_read_cookie_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the node running"):
        read_cookie(tmp_path / ".cookie")
    write_private(tmp_path / "c", "nonsense")
    with pytest.raises(UserError, match="not a cookie file"):
        read_cookie(tmp_path / "c")
