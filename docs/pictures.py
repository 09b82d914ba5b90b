"""Make the pictures of the documentation from the real thing: `make pictures`.

`up.svg` is the screen of `pickaxe up` as it stood after 120 blocks of a run of its own. `status-page.png` is the status
page of a `pickaxe mine` after a minute and a half, as Chromium shows it.
"""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from node.up.demo import Demo, DemoOptions
from node.up.screen import render
from node.up.state import DemoState
from tests.functional.processes import Node, free_port, nodes
from tests.support.chromium import chromium, find_chromium

IMAGES = Path(__file__).parent / "images"
_STATUS_PAGE_S = 90.0


class Camera:
    """A screen that keeps the last picture taken while the chain was at work."""

    def __init__(self) -> None:
        self.svg = ""

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, state: DemoState) -> None:
        """Take a picture."""
        if state.hash_rate:
            console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
            console.print(render(state))
            svg = console.export_svg(title="make run")
            self.svg = re.sub(
                r"@font-face \{.*?\}", "", svg, flags=re.DOTALL
            )  # fonts from the reader's machine, not a web host


def status_page(browser: str, folder: Path) -> bytes:
    """The page of a miner that insists on blocks of a difficulty, so that there is something to see."""
    node = Node(folder / "node")
    port = free_port()
    with nodes(node):
        node.start()
        where = ["--network", "dev", "--address", "raw(51)", "--rpc-url", node.url, "--rpc-cookie", str(node.cookie)]
        shown = ["--min-difficulty", "0.05", "--tariff", "0.30", "--currency", "EUR", "--watts", "cpu=65"]
        miner = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "node.cli.main", "mine", *where, *shown, "--http", str(port), "--quiet"],
            stdout=subprocess.DEVNULL,
        )
        try:
            time.sleep(_STATUS_PAGE_S)
            return asyncio.run(_photograph(browser, f"http://127.0.0.1:{port}/"))
        finally:
            miner.terminate()
            miner.wait()


async def _photograph(browser: str, url: str) -> bytes:
    async with chromium(browser) as page:
        await page.open(url, 1000, 760)
        await page.until("document.querySelectorAll('#rate-chart path.curve').length > 0")
        return await page.screenshot()


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    browser = find_chromium()
    if browser is None:
        print("no Chromium here: status-page.png stays as it is")
    else:
        with tempfile.TemporaryDirectory(prefix="pickaxe-pictures-") as folder:
            (IMAGES / "status-page.png").write_bytes(status_page(browser, Path(folder)))
        print(f"wrote {IMAGES / 'status-page.png'}")
    camera = Camera()
    with tempfile.TemporaryDirectory(prefix="pickaxe-pictures-") as folder:
        asyncio.run(Demo(DemoOptions(Path(folder), blocks=120, pace_s=1.0, threads=1), camera).run())
    (IMAGES / "up.svg").write_text(camera.svg)
    print(f"wrote {IMAGES / 'up.svg'}")


if __name__ == "__main__":
    main()
