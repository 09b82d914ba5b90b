"""The processor's own energy counters (RAPL), as Linux shows them below /sys/class/powercap.

Counts in microjoules, one zone per processor package, that start again at `max_energy_range_uj` (Linux
Documentation/power/powercap). Intel's and AMD's processors both appear as intel-rapl.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
#: Packages only: their parts (core, uncore) are inside, `psys` is around them, intel-rapl-mmio counts the same again.
_PACKAGE = re.compile(r"intel-rapl:\d+")
_LEAST_INTERVAL_S = 0.2


class SensorProblem(Exception):
    """A sensor exists and cannot be read; one line saying why and what to do."""


@dataclass(slots=True)
class _Zone:
    counter: Path
    range_uj: int
    last_uj: int


class RaplMeter:
    """Watts of all processor packages together, over the time between two calls of `watts`."""

    source = "RAPL"

    def __init__(self, zones: list[_Zone], clock: Callable[[], float]) -> None:
        self._zones = zones
        self._clock = clock
        self._read_at = clock()
        self._watts: float | None = None

    def watts(self) -> float | None:
        """The mean since the last call; None at the first, and where a counter has gone."""
        elapsed_s = self._clock() - self._read_at
        if elapsed_s < _LEAST_INTERVAL_S:
            return self._watts
        total_uj = 0
        for zone in self._zones:
            try:
                now_uj = int(zone.counter.read_text())
            except (OSError, ValueError):
                self._watts = None
                return None
            total_uj += (now_uj - zone.last_uj) % (zone.range_uj + 1)
            zone.last_uj = now_uj
        self._read_at += elapsed_s
        self._watts = total_uj / 1e6 / elapsed_s
        return self._watts


def open_rapl(clock: Callable[[], float], root: Path = POWERCAP) -> RaplMeter | None:
    """None where the processor or the system has no such counters. Raises SensorProblem where reading them needs
    permission: since 2020 they are the administrator's alone (they leak what other programs compute, CVE-2020-8694)."""
    zones = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if not _PACKAGE.fullmatch(folder.name):
            continue
        try:
            if not (folder / "name").read_text().startswith("package"):
                continue
            range_uj = int((folder / "max_energy_range_uj").read_text())
            counter = folder / "energy_uj"
            zones.append(_Zone(counter, range_uj, int(counter.read_text())))
        except PermissionError:
            raise SensorProblem(
                f"the processor's energy counter {folder / 'energy_uj'} is readable by root alone:"
                f" `sudo chmod a+r {folder / 'energy_uj'}` until the next start, or give --watts cpu=W"
            ) from None
        except (OSError, ValueError):
            continue
    return RaplMeter(zones, clock) if zones else None
