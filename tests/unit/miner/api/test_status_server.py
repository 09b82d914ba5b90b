"""The status page's server: what it serves, to whom, and under which name."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chain.primitives.errors import UserError
from miner.api import http as status_http
from miner.api.http import MAX_CONNECTIONS, StatusServer
from miner.api.listen import bind, is_loopback, show_place
from miner.api.metrics import render
from miner.status import Status
from tests.support.miner_status import board, core, pool, status

TOKEN = "a token of enough letters"


class Monitor:
    """In the place of a run's."""

    def __init__(self, state: Status | None = None) -> None:
        self.state = state or status()

    def status(self) -> Status:
        return self.state

    def history_as_dict(self) -> dict[str, object]:
        return {"at_s": [1.0], "messages": []}


Scenario = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


def serve(scenario: Scenario, *, token: str | None = None, names: frozenset[str] = frozenset()) -> None:
    async def run() -> None:
        bound = bind("127.0.0.1", 0, "the status page", "--http")
        port = bound.getsockname()[1]
        server = StatusServer(Monitor(), names, token)  # type: ignore[arg-type]
        await server.start(bound)
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
                await asyncio.wait_for(scenario(client, f"http://127.0.0.1:{port}"), 20)
        finally:
            await server.close()
        bind("127.0.0.1", port, "again", "--http").close()  # the port is free

    asyncio.run(run())


def test_page_status_history_and_metrics() -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        async with client.get(f"{url}/status.json") as answer:
            assert answer.content_type == "application/json"
            assert await answer.json() == json.loads(json.dumps(status().as_dict()))
        async with client.get(f"{url}/history.json") as answer:
            assert (await answer.json())["at_s"] == [1.0]
        async with client.get(f"{url}/metrics") as answer:
            assert "pickaxe_miner_accepted_total 17.0" in await answer.text()
        async with client.get(url) as answer:
            assert answer.content_type == "text/html"
            page = await answer.text()
        for path in re.findall(r'(?:src|href)="(/[^"]*)"', page):
            async with client.get(url + path) as answer:
                assert answer.status == 200, path

    serve(scenario)


def test_nothing_from_elsewhere_and_nothing_for_elsewhere() -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        for path in ("/", "/status.json", "/metrics", "/nowhere"):
            async with client.get(url + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert "Access-Control-Allow-Origin" not in answer.headers
                assert "Server" not in answer.headers
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            async with client.request(method, f"{url}/status.json") as answer:
                assert answer.status == 405

    serve(scenario)
    for file in (Path(status_http.__file__).parent / "page").iterdir():
        text = file.read_text()
        outside = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, file
        assert "innerHTML" not in text
        assert "style=" not in text
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=\"", text), "the policy allows no inline script"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8078", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("[::1]:8078", 200),
        ("192.168.1.7:8078", 200),
        ("rig.home:8078", 200),
        ("evil.example", 403),
        ("evil.example:8078", 403),
        ("127.0.0.1.evil.example", 403),
        ("a:b:c", 403),
        ("", 403),
    ],
)
def test_only_names_of_its_own(host: str, expected: int) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        async with client.get(f"{url}/status.json", headers={"Host": host}) as answer:
            assert answer.status == expected

    serve(scenario, names=frozenset({"rig.home"}))


def test_a_token_is_asked_for() -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        for path in ("/", "/app.js", "/status.json", "/metrics", f"/status.json?token={TOKEN}", "/?token=wrong"):
            async with client.get(url + path) as answer:
                assert answer.status == 401, path
                assert "height" not in await answer.text()
        for header in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer é"):
            async with client.get(f"{url}/metrics", headers={"Authorization": header}) as answer:
                assert answer.status == 401, header
        async with client.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
        async with client.get(f"{url}/", params={"token": TOKEN}, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] == "/"
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
        async with client.get(f"{url}/status.json") as answer:  # the cookie is kept
            assert answer.status == 200

    serve(scenario, token=TOKEN)


def test_too_many_connections_are_closed() -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rpartition(":")[2])
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        idle[0][1].close()
        await idle[0][1].wait_closed()

        async def served() -> bool:
            try:
                async with client.get(f"{url}/status.json") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectionError:  # it has not seen the other go
                return False

        while not await served():
            pass
        for _, other in idle[1:]:
            other.close()

    serve(scenario)


def test_connections_that_ask_nothing_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(status_http, "SILENCE_S", 0.05)
            for hello in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(hello)
                assert await reader.read() == b""
                writer.close()
        async with client.get(f"{url}/status.json") as answer:
            assert answer.status == 200

    serve(scenario)


@pytest.mark.parametrize(
    ("request_line", "header", "status_line"),
    [
        (b"GET /", b"Authorization: Bearer \xff\xfe", b"HTTP/1.1 401"),
        (b"GET /", b"Cookie: pickaxe_token_PORT=\xff", b"HTTP/1.1 401"),
        (b"GET /?token=%ff%00", b"", b"HTTP/1.1 401"),
        (b"GET /" + b"a" * 20_000, b"", b"HTTP/1.0 400"),
        (b"\0\xff", b"", b"HTTP/1.0 400"),
    ],
)
def test_nonsense_is_refused_without_a_word_on_the_screen(
    caplog: pytest.LogCaptureFixture, request_line: bytes, header: bytes, status_line: bytes
) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [request_line + b" HTTP/1.1", b"Host: localhost", header.replace(b"PORT", b"%d" % port)]
        writer.write(b"\r\n".join(line for line in lines if line) + b"\r\n\r\n")
        assert (await reader.readline()).startswith(status_line)
        writer.close()

    serve(scenario, token=TOKEN)
    shown = [record for record in caplog.records if logging.getLogger(record.name).propagate]
    assert shown == [], "logging writes what nobody handles to the terminal"


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"the status page cannot listen at 127\.0\.0\.1:{port}: the port is in use"
        ):
            bind("127.0.0.1", port, "the status page", "--http")
    with pytest.raises(UserError, match=r"--http: there is no host 'no\.such\.host\.invalid'"):
        bind("no.such.host.invalid", 1, "the status page", "--http")
    with pytest.raises(UserError, match="this machine has no such address"):
        bind("203.0.113.77", 0, "the status page", "--http")


def test_places() -> None:
    assert show_place("::1", 80) == "[::1]:80"
    assert show_place("127.0.0.1", 80) == "127.0.0.1:80"
    assert [is_loopback(host) for host in ("127.3.2.1", "::1", "localhost", "0.0.0.0", "::", "rig", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def metrics_of(state: Status) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(render(lambda: state).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_metrics_say_what_the_status_says() -> None:
    found = metrics_of(status())
    device = (("device", "asic0"), ("kind", "asic"))
    assert found["pickaxe_miner_accepted_total"] == {(): 17.0}
    assert found["pickaxe_miner_rejected_total"] == {(("reason", "23 low difficulty"),): 1.0}
    assert found["pickaxe_device_hashes_per_second"][device] == 1.0e12
    assert found["pickaxe_device_temperature_celsius"][(*device, ("sensor", "chip"))] == 61.5
    assert found["pickaxe_device_fan_rpm"] == {(("device", "asic0"), ("fan", "fan"), ("kind", "asic")): 4200.0}
    assert found["pickaxe_device_amperes"][(*device, ("sensor", "core"))] == 9.25
    assert found["pickaxe_device_chips"][(*device, ("state", "dead"))] == 1.0
    assert found["pickaxe_pool_accepted_total"][(("number", "0"), ("pool", "stratum+tcp://pool0.example:3333"))] == 17.0
    assert found["pickaxe_power_watts"][(("devices", "cpu0,cpu1"), ("source", "RAPL"))] == 65.0
    assert found["pickaxe_energy_cost_per_day"] == {(("currency", "EUR"),): 0.576}
    assert found["pickaxe_miner_info"] == {(("network", "bitcoin"), ("version", "0.1.0")): 1.0}


def test_unknown_metrics_are_absent() -> None:
    found = metrics_of(status([core()], [], energy=None, outlook=None))
    assert not [
        name for name in found if "temperature" in name or "watts" in name or "pool" in name or "energy" in name
    ]
    failed = metrics_of(status([board(failure="gone", details=None)]))
    assert failed["pickaxe_device_up"] == {(("device", "asic0"), ("kind", "asic")): 0.0}


def test_no_sample_comes_twice() -> None:
    """A scrape with two values of one sample is refused as a whole: two workers may stand at one pool."""
    twice = status([core(), board()], [pool(0), pool(1, url=pool(0).url, name=pool(0).name, rejected={"21 stale": 2})])
    seen: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(render(lambda: twice).decode())
        for sample in family.samples
    ]
    assert len(set(seen)) == len(seen)


def test_every_metric_is_documented() -> None:
    text = (Path(__file__).parents[4] / "docs" / "miner-api.md").read_text()
    for name in metrics_of(status()):
        assert f"`{name}" in text, name
