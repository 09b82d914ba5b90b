"""Child processes: started with a log file, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from chain.primitives.errors import LocalFault

STOP_TIMEOUT_S = 20.0
READ_TIMEOUT_S = 2.0  #: for what an ended child has said
LAST_WORDS_BYTES = 4096
ERROR_PREFIX = "Error: "  #: of the line with which every command says why it failed


class Child:
    """One `pickaxe` command running beside us, its output in a file."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None
        self._errors = b""  # the end of what it said on stderr: a full disk has no room for it in the log
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it in a session of its own: Ctrl-C reaches us alone, and we stop the children in order."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "node.cli.main",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if self._process.stderr is not None:
            self._reading = asyncio.create_task(self._keep_errors(self._process.stderr))

    async def _keep_errors(self, stream: asyncio.StreamReader) -> None:
        while part := await stream.read(LAST_WORDS_BYTES):
            self._errors = (self._errors + part)[-LAST_WORDS_BYTES:]
            with contextlib.suppress(OSError), self.log.open("ab") as log:
                log.write(part)

    async def _read_to_the_end(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=READ_TIMEOUT_S)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self._process is None:
            raise LocalFault(f"the {self.name} was never started")
        status = await self._process.wait()
        await self._read_to_the_end()
        return status

    async def stop(self) -> None:
        """Ask it to stop as Ctrl-C does, and insist after a while."""
        if self._process is None:
            return
        if self._process.returncode is None:
            await self._end(self._process)
        await self._read_to_the_end()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def last_words(self) -> str:
        """Its last error line, else the last line of its log, to tell the user why it ended."""
        lines = [line.strip() for line in self._errors.decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
        lines = errors or lines or self._end_of_log()
        return lines[-1] if lines else f"see {self.log}"

    def _end_of_log(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, self.log.stat().st_size - LAST_WORDS_BYTES))
                return file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return []


def choose_port(preferred: int) -> int:
    """`preferred` on the loopback if it is free, else one that is. Another program may still take it first."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError):
            return _bound(port)
    raise LocalFault("no free port on the loopback interface")


def is_taken(port: int) -> bool:
    """Whether a program listens there, on the loopback."""
    try:
        _bound(port)
    except OSError:
        return True
    return False


def _bound(port: int) -> int:
    """The port that a socket there is bound to, for a moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
