"""The cgminer API's socket: how requests come in pieces, who may ask, and what is cut off."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable

import pytest

from miner.api.cgminer import server as api_server
from miner.api.cgminer.server import MAX_CONNECTIONS, ApiAccess, ApiServer
from miner.api.cgminer.wire import MAX_REQUEST
from miner.api.listen import bind
from tests.support.miner_status import RecordingControl, status

TIMEOUT_S = 20


def serve(
    scenario: Callable[[int], Awaitable[None]],
    access: ApiAccess | None = None,
    after: Callable[[], Awaitable[None]] | None = None,
) -> None:
    async def run() -> None:
        bound = bind("127.0.0.1", 0, "the API", "--api")
        port = bound.getsockname()[1]
        server = ApiServer(status, RecordingControl(), access or ApiAccess())
        await server.start(bound)
        try:
            await asyncio.wait_for(scenario(port), TIMEOUT_S)
        finally:
            await asyncio.wait_for(server.close(), TIMEOUT_S)
        if after is not None:
            await after()

    asyncio.run(run())


async def talk(port: int, *pieces: bytes, pause_s: float = 0.02, end: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if end:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""  # hung up on
    finally:
        writer.close()


@pytest.mark.parametrize(
    "pieces", [(b"version",), (b"version\n",), (b"version\0",), (b"ver", b"sion"), (b"version|x",)]
)
def test_text_with_and_without_an_end(pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    if len(pieces) > 1:  # on a busy machine the second may come late
        monkeypatch.setattr(api_server, "_QUIET_S", 1.0)

    async def scenario(port: int) -> None:
        answer = await talk(port, *pieces)
        assert answer.startswith(b"STATUS=S,When=")
        assert answer.endswith(b"|\0")

    serve(scenario)


def test_json_in_pieces() -> None:
    async def scenario(port: int) -> None:
        whole = b'{"command":"summary+devs"}'
        pieces = [whole[index : index + 1] for index in range(len(whole))]
        answer = await talk(port, *pieces, pause_s=0.001)
        assert json.loads(answer[:-1])["devs"][0]["STATUS"][0]["Code"] == 9
        slow = await talk(port, b'{"command":', b'"version"}', pause_s=0.3)
        assert json.loads(slow[:-1])["VERSION"]

    serve(scenario)


def test_broken_requests_are_answered_and_bounded() -> None:
    async def scenario(port: int) -> None:
        assert json.loads((await talk(port, b'{"command":', end=True))[:-1])["STATUS"][0]["Code"] == 23
        assert await talk(port, end=True) == b""
        for flood in (b"{" * MAX_REQUEST, b"x" * MAX_REQUEST):
            assert b"STATUS" in await talk(port, flood)
        assert b"Code=22" in await talk(port, b"version")

    serve(scenario)


def test_the_slow_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "_READ_TIMEOUT_S", 0.3)

    async def scenario(port: int) -> None:
        assert await talk(port) == b""
        assert await talk(port, b'{"command"') == b""

    serve(scenario)


def test_only_so_many_at_once() -> None:
    async def scenario(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        assert await talk(port, b"version\n") == b""
        for _, writer in idle:
            writer.close()
        while b"Code=22" not in await talk(port, b"version"):  # until it has seen them go
            pass

    serve(scenario)


def test_open_connections_do_not_hold_up_the_end() -> None:
    open_ones: list[tuple[int, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def scenario(port: int) -> None:
        open_ones.append((port, *await asyncio.open_connection("127.0.0.1", port)))
        assert b"Code=22" in await talk(port, b"version")  # so the one before has been taken, too

    async def after() -> None:
        [(port, reader, writer)] = open_ones
        assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    serve(scenario, after=after)


def test_who_may_ask() -> None:
    here = ApiAccess()
    assert here.admits("127.0.0.1")
    assert here.admits("::1")
    assert here.admits("::ffff:127.0.0.1")
    assert not here.admits("192.168.1.7")
    assert not here.admits("nonsense")
    farm = ApiAccess(allowed=(ipaddress.ip_network("192.168.1.0/24"), ipaddress.ip_network("fd00::/8")))
    assert farm.admits("192.168.1.7")
    assert farm.admits("::ffff:192.168.1.7")
    assert farm.admits("fd00::1%eth0")
    assert not farm.admits("192.168.2.7")


def test_strangers_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiAccess, "admits", lambda self, host: False)

    async def scenario(port: int) -> None:
        assert await talk(port, b"version\n") == b""

    serve(scenario)
