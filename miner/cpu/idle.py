"""Idle mode: mine with what nobody else wants of the processor.

The threads run in the lowest scheduling class, where any other thread that can run goes first. That alone does not
bring back heat, boost clocks and the halves of shared cores, so the processor rests altogether while other programs
keep it busy, and on battery.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

POWER_SUPPLIES = Path("/sys/class/power_supply")
_SAMPLE_S = 1.0
_BUSY_SAMPLES = 3  #: the load that counts is the mean over so many
_QUIET_S = 10.0  #: how long it must stay low before mining goes on
_LOWEST = 19  # nice


def lowest_priority() -> None:
    """Put the calling thread in the lowest class the system has: SCHED_IDLE and nice 19 on Linux. Lowering needs no
    permission; where a system cannot, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if sys.platform == "linux":  # where a thread has its own niceness
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)


class OthersLoad:
    """How busy all other programs keep the processor, percent of all its cores, between two calls."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._last = self._read()

    def __call__(self) -> float:
        before, self._last = self._last, self._read()
        (total, busy, own), (total_before, busy_before, own_before) = self._last, before
        if total <= total_before:
            return 0.0
        others = (busy - busy_before) - (own - own_before)
        return min(100.0, max(0.0, others / (total - total_before) * 100))

    def _read(self) -> tuple[float, float, float]:
        """Seconds of processor time: in all, at work, and for this program."""
        times = psutil.cpu_times()
        fields = times._asdict()
        waiting = fields["idle"] + fields.get("iowait", 0.0)
        counted = {name: fields[name] for name in fields if name not in ("guest", "guest_nice", "steal")}
        total = sum(counted.values())  # a guest's time is within user's; steal is never ours to give
        own = self._own.cpu_times()
        return total, total - waiting, own.user + own.system


def on_battery(root: Path = POWER_SUPPLIES) -> bool:
    """Whether the machine runs on its battery; False where it has none, or does not say."""
    if sys.platform != "linux":
        battery = psutil.sensors_battery()
        return battery is not None and battery.power_plugged is False
    discharging = False
    for supply in root.glob("*"):
        with contextlib.suppress(OSError):
            kind = (supply / "type").read_text().strip()
            if kind in ("Mains", "USB") and (supply / "online").read_text().strip() == "1":
                return False
            scope = supply / "scope"  # a mouse's battery is the mouse's affair
            if kind == "Battery" and not (scope.exists() and scope.read_text().strip() == "Device"):
                discharging |= (supply / "status").read_text().strip() == "Discharging"
    return discharging


class IdleWatch:
    """Decides when to rest: `update` with each second's load of others (percent); its answer is why, or None."""

    def __init__(self, load_limit: float) -> None:
        self._limit = load_limit
        self._loads: deque[float] = deque(maxlen=_BUSY_SAMPLES)
        self._quiet_since: float | None = None
        self._reason: str | None = None

    def update(self, others_load: float, battery: bool, now: float) -> str | None:
        """Rests at once on battery, after some seconds of load; goes on when it has been quiet for longer."""
        self._loads.append(others_load)
        load = sum(self._loads) / len(self._loads)
        if battery:
            self._reason, self._quiet_since = "on battery", None
        elif load >= self._limit and len(self._loads) == _BUSY_SAMPLES:
            self._reason, self._quiet_since = f"other programs use {load:.0f} % of the processor", None
        elif self._reason is not None:
            if others_load >= self._limit / 2:
                self._quiet_since = None
            elif self._quiet_since is None:
                self._quiet_since = now
            if self._quiet_since is not None and now - self._quiet_since >= _QUIET_S:
                self._reason = None
        return self._reason


async def watch_idle(
    load_limit: float,
    on_change: Callable[[str | None], None],
    *,
    load: Callable[[], float] | None = None,
    battery: Callable[[], bool] = on_battery,
    interval_s: float = _SAMPLE_S,
) -> None:
    """Call `on_change` with the reason to rest, or None to go on, whenever the answer changes kind; until cancelled."""
    measure = load if load is not None else OthersLoad()
    watch = IdleWatch(load_limit)
    resting = False
    while True:
        await asyncio.sleep(interval_s)
        reason = watch.update(measure(), battery(), time.monotonic())
        if (reason is not None) != resting:
            resting = reason is not None
            on_change(reason)
