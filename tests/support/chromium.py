"""A headless Chromium driven through its own debugging protocol; for tests and for the documentation's pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, in a container; they open pages of their own alone
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_START_TIMEOUT_S = 60.0


def find_chromium() -> str | None:
    """Where the browser is, or None."""
    return next((path for path in map(shutil.which, _NAMES) if path is not None), None)


class Page:
    """One page. `failures`: what its console, its policy or its network complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self.failures: list[str] = []
        self.requests: list[str] = []

    async def open(self, url: str, width: int = 1100, height: int = 900, *, phone: bool = False) -> None:
        """Load a page and wait until it has."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.command(f"{domain}.enable")
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self._loaded.clear()
        await self.command("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 30)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 30.0) -> Any:
        """Ask again and again until the expression is true."""
        async with asyncio.timeout(timeout_s):
            while not (value := await self.evaluate(expression)):  # noqa: ASYNC110 (the page has no event for it)
                await asyncio.sleep(0.1)
        return value

    async def screenshot(self) -> bytes:
        """What is in view, PNG."""
        answer = await self.command("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol."""
        number = next(self._numbers)
        self._answers[number] = waiting = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(waiting, 30)
        del self._answers[number]
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def close(self) -> None:
        """Leave the page."""
        self._reader.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                if event["id"] in self._answers:
                    self._answers[event["id"]].set_result(event)
                continue
            self._take(event["method"], event["params"])

    def _take(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.failures.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.failures.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.failures.append(str(parameters["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])


@asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Page]:
    """A fresh browser with one empty page; it is gone afterwards, and so is all that it wrote."""
    with tempfile.TemporaryDirectory(prefix="pickaxe-chromium-", ignore_cleanup_errors=True) as folder:
        profile = Path(folder) / "profile"
        process = await asyncio.create_subprocess_exec(
            *(path, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            port = await _debugging_port(profile / "DevToolsActivePort")
            async with aiohttp.ClientSession() as client:
                async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [entry for entry in await answer.json() if entry["type"] == "page"]
                socket = await client.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=64 << 20)
                page = Page(socket)
                try:
                    yield page
                finally:
                    await page.close()
        finally:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
            with contextlib.suppress(ProcessLookupError):  # its helpers end after it, and write till then
                os.killpg(process.pid, signal.SIGKILL)


async def _debugging_port(file: Path) -> int:
    """The browser writes it down when it is ready."""
    async with asyncio.timeout(_START_TIMEOUT_S):
        while (port := _first_number(file)) is None:  # noqa: ASYNC110 (a file has no event)
            await asyncio.sleep(0.05)
    return port


def _first_number(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
