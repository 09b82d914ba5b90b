"""The miner's status page in a real browser: what it shows, that it obeys its own policy, and that it fits a phone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from miner.api.http import StatusServer
from miner.api.listen import bind
from miner.status import Status
from tests.support.chromium import Page, chromium, find_chromium
from tests.support.miner_status import board, core, pool, status

BROWSER = find_chromium()

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]

TIMEOUT_S = 120
HOSTILE = '<img src=x onerror="document.title=\'taken\'"><script>document.title="taken"</script>'


class Monitor:
    def __init__(self, state: Status) -> None:
        self.state = state

    def status(self) -> Status:
        return self.state

    def history_as_dict(self) -> dict[str, Any]:
        seconds = [float(second) for second in range(60)]
        return {
            "started": 1_700_000_000.0,
            "interval_s": 1.0,
            "at_s": seconds,
            "rate": [1e12 + 1e10 * (second % 7) for second in seconds],
            "watts": [None, *[80.0 for _ in seconds[1:]]],
            "temperature_c": [60.0 + second % 3 for second in seconds],
            "accepted": [int(second) for second in seconds],
            "errors": [0 for _ in seconds],
            "messages": [{"time": 1_700_000_000.0, "text": f"hello {HOSTILE}"}],
        }


def browse(scenario: Callable[[Page, str, Monitor], Awaitable[None]], state: Status, token: str | None = None) -> None:
    async def run() -> None:
        monitor = Monitor(state)
        bound = bind("127.0.0.1", 0, "the status page", "--http")
        server = StatusServer(monitor, token=token)  # type: ignore[arg-type]
        await server.start(bound)
        try:
            assert BROWSER is not None
            async with chromium(BROWSER) as page:
                url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
                await asyncio.wait_for(scenario(page, url, monitor), TIMEOUT_S)
        finally:
            await server.close()

    asyncio.run(run())


def test_everything_is_shown_and_nothing_comes_from_elsewhere() -> None:
    async def scenario(page: Page, url: str, monitor: Monitor) -> None:
        await page.open(url)
        await page.until("document.querySelectorAll('#devices tbody tr').length == 3")
        await page.until("document.querySelectorAll('#rate-chart path.curve').length == 1")
        text = await page.evaluate("document.body.innerText")
        for shown in (
            "bitcoin · height 840,000",
            "1.00 TH/s",
            "80.0 W",
            "80.0 J/TH",
            "0.58 EUR a day",
            "asic0",
            "61.5 °C",
            "4200 rpm",
            "BM1370 × 1 at /dev/ttyACM0",
            "525 MHz",
            "1 of 2",
            "core 1.150 V, core 9.25 A",
            "15.0 J/TH",
            "crc_errors 3, resyncs 1",
            "stratum+tcp://pool0.example:3333",
            "RAPL",
            "hello <img",
        ):
            assert shown in text, shown
        assert await page.evaluate("document.querySelectorAll('#watts-chart path.curve').length") == 1
        assert await page.evaluate("document.title") == "1.00 TH/s – pickaxe mine"
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert page.failures == []
        assert {request.split("/")[2] for request in page.requests} == {url.split("/")[2]}

    browse(scenario, status(pools=[pool(0, user=HOSTILE, state=HOSTILE), pool(1)]))


def test_it_follows_the_run_and_says_when_it_is_lost() -> None:
    async def scenario(page: Page, url: str, monitor: Monitor) -> None:
        await page.open(url)
        await page.until("document.querySelectorAll('#devices tbody tr').length == 2")
        monitor.state = status([board(failure="a chip is at 99 °C")], [], energy=None, outlook=None, idle="on battery")
        await page.until("document.querySelectorAll('#devices tbody tr').length == 1")
        assert await page.evaluate("document.querySelector('#devices .bad').textContent") == "a chip is at 99 °C"
        assert await page.evaluate("document.getElementById('pools-section').hidden") is True
        await page.command(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )
        await page.until("!document.getElementById('lost').hidden")

    browse(scenario, status([core("cpu0"), board()]))


def test_it_fits_a_phone() -> None:
    async def scenario(page: Page, url: str, monitor: Monitor) -> None:
        await page.open(url, 360, 740, phone=True)
        await page.until("document.querySelectorAll('#devices tbody tr').length == 3")
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert await page.evaluate("window.innerWidth") == 360
        labels = await page.evaluate("getComputedStyle(document.querySelector('#devices td'), '::before').content")
        assert labels == '"device"'

    browse(scenario, status(pools=[pool(0, url="stratum+ssl://a-very-long-name.of-a-pool.example.org:33333"), pool(1)]))


def test_a_token_is_kept_as_a_cookie() -> None:
    token = "a token of enough letters"

    async def scenario(page: Page, url: str, monitor: Monitor) -> None:
        await page.open(url)
        assert "wants its token" in await page.evaluate("document.body.innerText")
        await page.open(f"{url}?token={token.replace(' ', '%20')}")
        await page.until("document.querySelectorAll('#devices tbody tr').length == 3")
        assert await page.evaluate("location.search") == ""
        assert await page.evaluate("document.cookie") == ""  # not for scripts

    browse(scenario, status(), token)
