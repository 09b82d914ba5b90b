"""`pickaxe mine` as a user runs it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Self

import pytest


def miner_environment(config: pytest.Config, folder: Path, **more: str) -> dict[str, str]:
    """What a miner needs to find its folder, and the kernels that other tests have compiled."""
    cache = str(config.cache.mkdir("pickaxe-kernels")) if config.cache is not None else str(folder)
    own = {"PICKAXE_CACHE": cache, "PICKAXE_DATADIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own, **more}


class MinerProcess:
    """A running `pickaxe mine`; leaving its context ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    @classmethod
    async def start(cls, environment: dict[str, str], *arguments: str, network: str = "dev") -> Self:
        """On one core, unless told otherwise."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli.main", "mine", "--network", network, "--quiet", "--threads", "1"),
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(process)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            rest, _ = await self.process.communicate()
            print("\n".join([*self.lines, rest.decode()]))

    async def line_with(self, text: str) -> str:
        """Read on until a line contains the text."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.lines.append(line.rstrip())
            if text in line:
                return line
        raise AssertionError(f"the miner ended without saying {text!r}: {self.lines}")

    async def finish(self) -> tuple[int, str]:
        """Exit status and everything it said."""
        rest, _ = await self.process.communicate()
        output = "\n".join([*self.lines, rest.decode()])
        assert "Traceback" not in output
        return self.process.returncode or 0, output

    async def interrupt(self) -> str:
        """Control-C; everything it said. It must end with status 0."""
        self.process.send_signal(signal.SIGINT)
        status, output = await self.finish()
        assert status == 0, output
        return output
