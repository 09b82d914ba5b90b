"""`pickaxe asic emulate` as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import until


class EmulatorProcess:
    """A running emulator. `options`: those that it tells users to mine on it with, but the address."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        advice = until("the emulator says how to mine on it", lambda: re.search("^mine on it: .*\n", self.said(), re.M))
        pairs = [pair for pair in re.findall(r"--\S+ \S+", advice[0]) if "address" not in pair]
        self.options: list[str] = [part for pair in pairs for part in pair.split()]

    def said(self) -> str:
        """All that it has printed."""
        assert self.process.poll() is None, self._log.read_text()
        return self._log.read_text()

    def option(self, name: str) -> str:
        """The value of one of them."""
        return self.options[self.options.index(name) + 1]

    def tell(self, *commands: str) -> None:
        """Commands on its standard input; they are obeyed when this returns."""
        answers = self.said().count("host at ")
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{command}\n" for command in (*commands, "status")).encode())
        self.process.stdin.flush()
        until("the emulator answers", lambda: self.said().count("host at ") > answers)


@contextlib.contextmanager
def emulator_process(folder: Path, *arguments: str) -> Iterator[EmulatorProcess]:
    """Start it; end it as Ctrl-C does, with status 0. `folder`: for its log."""
    log = folder / "emulator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "node.cli.main", "asic", "emulate", *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield EmulatorProcess(process, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
