"""Make the pictures of the documentation from the real thing: `make pictures`.

`up.svg` is the screen of `pickaxe up` as it stood after 120 blocks of a run of its own.
"""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from node.up.demo import Demo, DemoOptions
from node.up.screen import render
from node.up.state import DemoState

IMAGES = Path(__file__).parent / "images"


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


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    camera = Camera()
    with tempfile.TemporaryDirectory(prefix="pickaxe-pictures-") as folder:
        asyncio.run(Demo(DemoOptions(Path(folder), blocks=120, pace_s=1.0, threads=1), camera).run())
    (IMAGES / "up.svg").write_text(camera.svg)
    print(f"wrote {IMAGES / 'up.svg'}")


if __name__ == "__main__":
    main()
