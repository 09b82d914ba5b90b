"""Who may reach the RPC server, and the shape of its replies."""

from __future__ import annotations

import asyncio
import ipaddress
import json

import pytest

from node.rpc.auth import Authenticator
from node.rpc.errors import Code, RpcError
from node.rpc.server import Call, RpcServer


@pytest.mark.parametrize(
    ("remote", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.9", True),
        ("2001:db8::1", False),
        (None, False),
        ("nonsense", False),
    ],
)
def test_loopback_and_allowed_networks(remote: str | None, allowed: bool) -> None:
    server = RpcServer(Authenticator(), allow=[ipaddress.ip_network("192.0.2.0/24")])
    assert server._may_connect(remote) is allowed


def test_replies_carry_exactly_what_their_version_asks_for() -> None:
    error = RpcError(Code.MISC_ERROR, "no")
    old = Call(method="x", id=1, has_id=True)
    assert old.reply(5, None) == {"result": 5, "error": None, "id": 1}
    assert old.reply(None, error) == {"result": None, "error": {"code": -1, "message": "no"}, "id": 1}
    new = Call(method="x", id=None, has_id=True, version2=True)
    assert new.reply(5, None) == {"jsonrpc": "2.0", "result": 5, "id": None}
    assert new.reply(None, error) == {"jsonrpc": "2.0", "error": {"code": -1, "message": "no"}, "id": None}
    assert not new.notification
    assert Call(version2=True).notification
    assert not Call().notification


def test_a_long_batch_lets_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def batch() -> object:
        beside = asyncio.create_task(other())
        response = await RpcServer(Authenticator())._answer(b"[" + b"1," * 4999 + b"1]")
        beside.cancel()
        return response.body

    body = asyncio.run(batch())
    assert turns >= 10
    assert isinstance(body, bytes)
    answers = json.loads(body)
    assert len(answers) == 5000
    assert all(answer["error"]["code"] == Code.INVALID_REQUEST for answer in answers)
