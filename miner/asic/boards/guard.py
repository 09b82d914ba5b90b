"""The miner's end of the watchdog process (watchdog.py)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from miner.asic.boards import watchdog

SILENCE_S = 10.0  #: without a sign of the miner before the watchdog acts
_START_S = 20.0  #: a new process on a busy machine
_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to a board. `send` and `expect`: bytes to the port and the answer that confirms them, b"" for
    none; `line`: a modem line to hold instead."""

    send: bytes = b""
    expect: bytes = b""
    wait_s: float = 1.0
    line: str = ""

    def as_json(self) -> dict[str, str | float]:
        """As the watchdog takes it."""
        if self.line:
            return {"line": self.line}
        return {"send": self.send.hex(), "expect": self.expect.hex(), "wait_s": self.wait_s}


@dataclass(frozen=True, slots=True)
class OffPlan:
    """How to switch a board off from outside. `unsure`: what stays on all the same, in words."""

    name: str
    port: str
    steps: Sequence[Step]
    unsure: str = ""


class WatchdogError(Exception):
    """There is no watchdog; one line why."""


class Watchdog:
    """One guarded board. Methods may be called from any thread."""

    def __init__(self, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._process: subprocess.Popen[bytes] | None = None
        self._unanswered_since: float | None = None
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it guards."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of its process."""
        return self._process.pid if self._process is not None else None

    def arm(self, plan: OffPlan) -> None:
        """Guard by this plan from now on; returns when it does. Raises WatchdogError."""
        order = {
            "name": plan.name,
            "port": plan.port,
            "silence_s": self._silence_s,
            "steps": [step.as_json() for step in plan.steps],
            "unsure": plan.unsure,
        }
        with self._lock:
            if not self.alive:
                self._start()
            process = self._process
            if process is None or process.stdin is None or process.stdout is None:
                raise WatchdogError("the watchdog has no pipes")
            try:
                process.stdin.write(b"arm " + json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            except OSError as error:
                raise WatchdogError(f"the watchdog has ended: {error.strerror}") from None
            answer = b""
            while not answer.endswith(b"\n"):
                if not select.select([process.stdout], [], [], _START_S)[0]:
                    raise WatchdogError("the watchdog does not start")
                got = os.read(process.stdout.fileno(), 256)
                if not got:
                    raise WatchdogError("the watchdog ended at once")
                answer += got
            answer = answer.lstrip(b".")  # of beats before
            if answer != b"armed\n":
                raise WatchdogError(f"the watchdog {answer.decode().strip()}")

    def beat(self) -> bool:
        """Say that the miner is alive; False when there is nobody to say it to, or who has answered none for as long as
        it would take the miner's own silence: a stopped process guards nothing."""
        return self._is_heard() and self._send(b"beat\n")

    def dismiss(self) -> None:
        """The board is off: nothing to guard."""
        self._send(b"off\n")
        self._end()

    def release(self) -> None:
        """Let it act, and wait for that: the miner could not switch the board off itself."""
        self._send(b"act\n")
        self._end(30.0)

    @property
    def complaint(self) -> str:
        """Why `beat` was False, in words."""
        return "its watchdog process " + ("does not answer" if self.alive else "has ended")

    def _is_heard(self) -> bool:
        with self._lock:
            process, now = self._process, self._clock()
            if process is None or process.stdout is None or process.stdout.closed:
                return False
            if select.select([process.stdout], [], [], 0.0)[0] and os.read(process.stdout.fileno(), 4096):
                self._unanswered_since = None
            if self._unanswered_since is None:
                self._unanswered_since = now
            return now - self._unanswered_since <= self._silence_s

    def _send(self, order: bytes) -> bool:
        with self._lock:
            process = self._process
            if process is None or process.stdin is None or process.stdin.closed:
                return False
            try:
                process.stdin.write(order)
                process.stdin.flush()
            except OSError:
                return False
            return process.poll() is None

    def _start(self) -> None:
        self._close_pipes()
        self._unanswered_since = None
        # -I: nothing of the surroundings gets in; its own session: Ctrl-C and a killed group do not reach it.
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter, our own file
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def _end(self, timeout_s: float = _END_S) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _close_pipes(self) -> None:
        if self._process is not None:
            self._end()
