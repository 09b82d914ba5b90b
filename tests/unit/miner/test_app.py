"""A run put together: its servers, its pauses, its end; with a source and devices that are there for the test."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from chain.primitives.errors import UserError
from miner import app
from miner.api.cgminer.server import ApiAccess
from miner.api.listen import bind
from miner.api.service import ApiOptions, HttpOptions
from miner.app import MiningOptions, Outcome, run_miner
from miner.device import DeviceError, HashJob, SearchResult, never
from miner.energy.monitor import EnergyOptions
from miner.kernels.reference import ReferenceDevice
from miner.share import Share
from miner.status import StatusMonitor
from miner.work.benchmark import benchmark_job
from miner.work.job import Job
from miner.work.source import PoolControl, PoolReport, Submission
from tests.support.ports import free_port

TIMEOUT_S = 60


class Source:
    """One job that nothing solves."""

    parallel_submissions = 1
    node = "http://node.example:8332"

    def __init__(self, *, on_job: Callable[[Job | None], None], on_message: Callable[[str], None]) -> None:
        self.hash_rate: Callable[[], float] = float
        self._on_job = on_job

    @property
    def pool_control(self) -> PoolControl | None:
        return None

    async def run(self) -> None:
        self._on_job(benchmark_job())
        await asyncio.Event().wait()

    async def submit(self, share: Share) -> Submission:
        return Submission(True, False, None)

    def request_refresh(self, solved: Job) -> None:
        pass

    def pools(self) -> list[PoolReport]:
        return []

    async def close(self) -> None:
        pass


class Display:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.monitor: StatusMonitor | None = None

    def message(self, text: str) -> None:
        self.messages.append(text)

    async def run(self, monitor: StatusMonitor) -> None:
        self.monitor = monitor
        await asyncio.Event().wait()

    async def said(self, text: str) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for message in self.messages:
                    if text in message:
                        return message
                await asyncio.sleep(0.01)


class Board(ReferenceDevice):
    """Counts its work often, as real devices do."""

    kind = "asic"

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        return super().search(job, start, min(count, 2000), cancelled)


class Core(Board):
    kind = "cpu"


async def ask(port: int, command: str, parameter: object = None) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(json.dumps({"command": command, "parameter": parameter}).encode())
    answer = await asyncio.wait_for(reader.read(), TIMEOUT_S)
    writer.close()
    return json.loads(answer.rstrip(b"\0"))


def play(
    scenario: Callable[[Display, int, int], Awaitable[None]],
    *,
    write: bool = True,
    display: Display | None = None,
    board: Board | None = None,
    **more: Any,
) -> tuple[Outcome, Display]:
    """Run with two devices, both servers on, while the scenario happens; it must end the run."""
    http_port, api_port = free_port(), free_port()
    display = display or Display()
    devices = [Core("cpu0"), board or Board("asic0")]
    options = MiningOptions(
        source=Source,
        network="dev",
        version="1.2.3",
        http=HttpOptions(host="127.0.0.1", port=http_port),
        api=ApiOptions(host="127.0.0.1", port=api_port, access=ApiAccess(write=write)),
        energy=EnergyOptions(watts={"all": 10.0}, sensors=False),
        **more,
    )

    async def run() -> Outcome:
        task = asyncio.create_task(run_miner(options, devices, display))
        try:
            await asyncio.wait_for(scenario(display, http_port, api_port), TIMEOUT_S)
            return await asyncio.wait_for(task, TIMEOUT_S)
        finally:
            task.cancel()

    outcome = asyncio.run(run())
    for port in (http_port, api_port):
        bind("127.0.0.1", port, "", "").close()  # free again
    return outcome, display


def test_the_same_figures_everywhere_and_a_clean_quit() -> None:
    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API at 127.0.0.1")
        picture: dict[str, Any] = {}
        history: dict[str, Any] = {}
        async with aiohttp.ClientSession() as client:
            while not (picture and picture["hashes"] and history["rate"]):  # the first figures take a second
                await asyncio.sleep(0.1)
                async with client.get(f"http://127.0.0.1:{http_port}/status.json") as answer:
                    picture = await answer.json()
                async with client.get(f"http://127.0.0.1:{http_port}/history.json") as answer:
                    history = await answer.json()
        assert picture["network"]["node"] == "http://node.example:8332"
        assert picture["version"] == "1.2.3"
        assert picture["energy"]["watts"] == 10.0
        assert any("status page" in message["text"] for message in history["messages"])
        summary = (await ask(api_port, "summary"))["SUMMARY"][0]
        assert summary["Accepted"] == picture["accepted"] == 0
        assert (await ask(api_port, "pools"))["POOLS"][0]["URL"] == "http://node.example:8332"
        assert await ask(api_port, "quit") == {"STATUS": "BYE", "id": 1}

    outcome, _ = play(scenario)
    assert not outcome.restart
    assert outcome.status.report.hashes > 0


def test_devices_pause_and_resume_through_the_api() -> None:
    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API")
        assert (await ask(api_port, "pgadisable", 0))["STATUS"][0]["Code"] == 64
        await display.said("cpu0 paused")
        before, after = None, (await ask(api_port, "pga", 0))["PGA"][0]
        while before is None or before["Total MH"] != after["Total MH"]:  # until it has ended its slice, and rests
            await asyncio.sleep(0.5)
            before, after = after, (await ask(api_port, "pga", 0))["PGA"][0]
        assert before["Enabled"] == after["Enabled"] == "N"
        assert (await ask(api_port, "pgaenable", 0))["STATUS"][0]["Code"] == 63
        await display.said("cpu0 resumed")
        await asyncio.sleep(0.5)
        assert (await ask(api_port, "pga", 0))["PGA"][0]["Total MH"] >= after["Total MH"]
        assert (await ask(api_port, "restart"))["STATUS"] == "RESTART"

    outcome, _ = play(scenario)
    assert outcome.restart


def test_rest_pauses_cores_alone_and_keeps_what_the_user_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    rest: list[Callable[[str | None], None]] = []

    async def watch(limit: float, on_change: Callable[[str | None], None]) -> None:
        assert limit == 33.0
        rest.append(on_change)
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "watch_idle", watch)

    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API")
        while not rest:  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.01)

        def paused() -> dict[str, bool]:
            assert display.monitor is not None
            return {device.name: device.paused for device in display.monitor.status().report.devices}

        rest[0]("on battery")
        assert paused() == {"cpu0": True, "asic0": False}
        assert display.monitor is not None
        assert display.monitor.status().idle == "on battery"
        rest[0](None)
        assert paused() == {"cpu0": False, "asic0": False}
        await ask(api_port, "pgadisable", 0)
        rest[0]("on battery")
        rest[0](None)
        assert paused() == {"cpu0": True, "asic0": False}  # the user's pause outlives the battery's
        await ask(api_port, "pgaenable", 0)
        assert paused() == {"cpu0": False, "asic0": False}
        await ask(api_port, "quit")

    _, display = play(scenario, idle_load=33.0)
    assert "resting: on battery" in display.messages
    assert "the processor is left alone again: mining goes on" in display.messages


def test_readers_change_nothing() -> None:
    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("reads only")
        for command in ("quit", "restart", "pgadisable", "privileged"):
            assert (await ask(api_port, command, 0))["STATUS"][0]["Code"] == 45
        os.kill(os.getpid(), signal.SIGINT)

    outcome, display = play(scenario, write=False)
    assert not outcome.restart
    assert not any("paused" in message for message in display.messages)


def test_a_busy_port_ends_the_run_before_it_begins() -> None:
    opened: list[str] = []

    class Eager(ReferenceDevice):
        def open(self) -> None:
            opened.append(self.name)

    class NoSource(Source):
        def __init__(self, **_: Any) -> None:
            raise AssertionError("the run has begun")

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port, free = other.getsockname()[1], free_port()
        options = MiningOptions(
            source=NoSource,
            http=HttpOptions(host="127.0.0.1", port=free),
            api=ApiOptions(host="127.0.0.1", port=port),
        )
        with pytest.raises(UserError, match=f"the cgminer API cannot listen at 127.0.0.1:{port}: the port is in use"):
            asyncio.run(run_miner(options, [Eager("cpu0")], Display()))
        bind("127.0.0.1", free, "", "").close()  # the other port was given back
    assert opened == []


def test_servers_end_with_a_run_that_fails() -> None:
    class Broken(ReferenceDevice):
        def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
            raise DeviceError("smoke")

    port = free_port()
    options = MiningOptions(source=Source, http=HttpOptions(host="127.0.0.1", port=port))
    with pytest.raises(UserError, match="no device left to mine with; the last, cpu0, failed: smoke"):
        asyncio.run(asyncio.wait_for(run_miner(options, [Broken("cpu0")], Display()), TIMEOUT_S))
    bind("127.0.0.1", port, "", "").close()


def test_what_is_open_to_others_is_guarded() -> None:
    with pytest.raises(UserError, match="--api-allow"):
        ApiOptions(host="0.0.0.0", port=1)
    with pytest.raises(UserError, match="at least 16"):
        HttpOptions(host="127.0.0.1", port=1, token="short")

    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API")
        assert display.messages[0].startswith("status page at http://")
        await ask(api_port, "quit")

    play(scenario)


def test_beyond_this_machine_a_token_is_made() -> None:
    display = Display()
    port = free_port()
    options = MiningOptions(source=Source, http=HttpOptions(host="0.0.0.0", port=port))

    async def run() -> None:
        task = asyncio.create_task(run_miner(options, [ReferenceDevice("cpu0")], display))
        message = await display.said("status page")
        token = message.partition("?token=")[2]
        assert len(token) >= 32
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}/status.json"
            async with client.get(url) as answer:
                assert answer.status == 401
            async with client.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def test_a_reader_that_leaves_ends_the_run_and_closes_devices() -> None:
    closed = []

    class Closing(Board):
        def close(self) -> None:
            closed.append(self.name)

    class Unread(Display):
        def message(self, text: str) -> None:
            if "paused" in text:
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
            super().message(text)

    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API")
        await ask(api_port, "ascdisable", 0)

    with pytest.raises(BrokenPipeError):
        play(scenario, display=Unread(), board=Closing("asic0"))
    assert closed == ["asic0"]


def test_a_closed_terminal_ends_the_run_unless_it_is_to_outlive_it() -> None:
    async def scenario(display: Display, http_port: int, api_port: int) -> None:
        await display.said("cgminer API")
        os.kill(os.getpid(), signal.SIGHUP)

    outcome, _ = play(scenario)
    assert not outcome.restart
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in app._ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
