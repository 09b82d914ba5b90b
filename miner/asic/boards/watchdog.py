"""The watchdog: a process of its own that switches a board off when the miner can no longer do it.

It is started by path with nothing but the standard library, holds the board's port open (so that a dying miner does
not let the modem lines go, and another device under the same name is never hit), and reads orders from its standard
input, one line each:

    arm {"name": ..., "port": ..., "silence_s": ..., "steps": [...], "unsure": ...}     answered with "armed"
    beat                                                                  the miner is alive; answered with "."
    act                                                                                  the miner cannot do it: you try
    off                                                                                  nothing to guard any more

End of input, or no line for `silence_s`, means that the miner has died or hangs: as with "act", the steps are carried
out, and what came of it is said on standard error. A step is {"send": hex, "expect": hex, "wait_s": ...} or {"line":
"dtr"|"rts"}; `expect` is what the board answers when it has obeyed, absent where it answers nothing. `unsure`: what the
steps cannot switch off, in words.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios
import time
import tty
from typing import Any

_TRIES = 5
_QUIET_TRY_S = 0.3  #: between two tries
_READ_BYTES = 4096
_LINES = {"dtr": "TIOCM_DTR", "rts": "TIOCM_RTS"}


class _Guard:
    def __init__(self) -> None:
        self.plan: dict[str, Any] = {}
        self.fd = -1

    def arm(self, plan: dict[str, Any]) -> None:
        """Take a plan, hold its port."""
        if plan["port"] != self.plan.get("port"):
            self._let_go()
            self.fd = os.open(plan["port"], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.plan = plan

    def _let_go(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def switch_off(self) -> bool:
        """Carry the plan out, several times where it is not confirmed; whether it was."""
        with contextlib.suppress(termios.error, OSError):
            self._make_raw()
        steps = self.plan["steps"]
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_QUIET_TRY_S)
            try:
                confirmed = [self._take(step) for step in steps]  # every step, whatever became of the one before
                if all(confirmed):
                    return True
            except OSError:
                continue
        return False

    def _make_raw(self) -> None:
        attributes = termios.tcgetattr(self.fd)
        tty.setraw(self.fd, termios.TCSANOW)
        raw = termios.tcgetattr(self.fd)
        raw[2] = (attributes[2] | termios.CLOCAL) & ~termios.HUPCL  # closing must not let the modem lines go
        termios.tcsetattr(self.fd, termios.TCSANOW, raw)

    def _take(self, step: dict[str, Any]) -> bool:
        if "line" in step:
            return self._hold(step["line"])
        with contextlib.suppress(termios.error):
            termios.tcflush(self.fd, termios.TCIFLUSH)
        data = bytes.fromhex(step["send"])
        deadline = time.monotonic() + step["wait_s"]
        while data:
            if not select.select([], [self.fd], [], max(0.0, deadline - time.monotonic()))[1]:
                return False
            data = data[os.write(self.fd, data) :]
        wanted, heard = bytes.fromhex(step.get("expect", "")), b""
        while wanted not in heard if wanted else time.monotonic() < deadline:
            left = deadline - time.monotonic()
            if left <= 0 or (not select.select([self.fd], [], [], left)[0] and wanted):
                return False
            with contextlib.suppress(BlockingIOError):
                heard += self._read()
        return True

    def _read(self) -> bytes:
        data = os.read(self.fd, _READ_BYTES)
        if not data:
            raise OSError("the port is gone")
        return data

    def _hold(self, line: str) -> bool:
        """Modem line on: low, which is reset."""
        try:
            fcntl.ioctl(self.fd, termios.TIOCMBIS, struct.pack("I", getattr(termios, _LINES[line])))
        except OSError:
            return False
        return True


def main() -> int:
    """Guard until told to stop; 0 when nothing is left on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal or service manager sends these to everybody at once
    guard, pending, reason = _Guard(), b"", ""
    while not reason:
        patience = guard.plan.get("silence_s")
        if not select.select([0], [], [], patience)[0]:
            reason = f"has not been heard of for {patience:g} s"
            break
        data = os.read(0, _READ_BYTES)
        if not data:
            reason = "has died"
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            order, _, argument = line.decode().partition(" ")
            if order == "off":
                return 0
            if order == "act":
                reason = "could not switch it off"
                break
            if order == "beat":
                _say(1, ".")
            if order == "arm":
                try:
                    guard.arm(json.loads(argument))
                except OSError as error:
                    _say(1, f"cannot hold the port: {error.strerror}\n")
                    return 1
                _say(1, "armed\n")
    if not guard.plan:
        return 0
    plan = guard.plan
    done = guard.switch_off()
    if done and not plan.get("unsure"):
        result = "switched off by the watchdog"
    elif done:
        result = f"stopped by the watchdog, but {plan['unsure']}"
    else:
        result = "NOT CONTROLLABLE: the watchdog could not switch it off. Pull its power plug"
    _say(2, f"pickaxe: the miner {reason}; {plan['name']} on {plan['port']} is {result}\n")
    return 0 if done else 1


def _say(fd: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, text.encode())


if __name__ == "__main__":
    sys.exit(main())
