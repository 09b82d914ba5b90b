"""What the miner has done, counted per device and in all; written by device threads and the event loop, read by
screens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from miner.device import HashDevice
from miner.hashrate import RateEstimate, ShareMeter, WorkMeter
from miner.share import Finding, Share
from miner.work.source import PoolReport


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One line of the device table. Rates in hashes a second; `failure`: why the device was retired, or None."""

    name: str
    kind: str
    rate: float
    average: float
    hashes: int
    shares: int
    hardware_errors: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """A consistent picture of one moment. `estimate`: the rate by shares found; `rejected`: the node's or pools'
    reasons, counted; `pools`: each pool's own counts, none where work comes from nodes."""

    uptime_s: float
    height: int | None
    rate: float
    average: float
    hashes: int
    estimate: RateEstimate | None
    accepted: int
    rejected: dict[str, int]
    stale: int
    hardware_errors: int
    best_difficulty: float
    devices: list[DeviceReport]
    pools: list[PoolReport] = field(default_factory=list)


@dataclass(slots=True)
class _DeviceCounters:
    kind: str
    meter: WorkMeter
    shares: int = 0
    hardware_errors: int = 0
    failure: str | None = None


@dataclass(slots=True)
class _Totals:
    height: int | None = None
    accepted: int = 0
    stale: int = 0
    best_difficulty: float = 0.0
    rejected: Counter[str] = field(default_factory=Counter)


class Telemetry:
    """The counters. Every method may be called from any thread."""

    def __init__(self, devices: Iterable[HashDevice], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._devices = {device.name: _DeviceCounters(device.kind, WorkMeter(self._started)) for device in devices}
        self._shares = ShareMeter(self._started)
        self._totals = _Totals()
        self.pools: Callable[[], list[PoolReport]] = list  #: asked for every report, on the event loop

    def new_height(self, height: int | None) -> None:
        """The height being mined, None when there is no work."""
        with self._lock:
            self._totals.height = height

    def worked(self, device: HashDevice, hashes: int) -> None:
        """A device has finished this many hashes."""
        with self._lock:
            self._devices[device.name].meter.add(hashes, self._clock())

    def found(self, device: HashDevice, share: Share) -> None:
        """A device has returned a candidate, checked by the host."""
        with self._lock:
            counters = self._devices[device.name]
            if share.finding in (Finding.HARDWARE_ERROR, Finding.OUT_OF_RANGE):
                counters.hardware_errors += 1
            elif share.finding in (Finding.BLOCK, Finding.SHARE):
                counters.shares += 1
                self._shares.add(share.unit.job.share_target)
                self._totals.best_difficulty = max(self._totals.best_difficulty, share.difficulty)

    def accepted(self) -> None:
        """A block of ours joined the chain, or a pool took a share."""
        with self._lock:
            self._totals.accepted += 1

    def rejected(self, reason: str) -> None:
        """A block or share was refused."""
        with self._lock:
            self._totals.rejected[reason] += 1

    def stale(self) -> None:
        """A block or share came too late: its parent was no longer the tip."""
        with self._lock:
            self._totals.stale += 1

    def failed(self, device: HashDevice, reason: str) -> None:
        """A device was retired."""
        with self._lock:
            self._devices[device.name].failure = reason

    def report(self) -> Report:
        """Everything, now."""
        with self._lock:
            now = self._clock()
            devices = [
                DeviceReport(
                    name,
                    counters.kind,
                    counters.meter.rate(now) if counters.failure is None else 0.0,
                    counters.meter.average(now),
                    counters.meter.total,
                    counters.shares,
                    counters.hardware_errors,
                    counters.failure,
                )
                for name, counters in self._devices.items()
            ]
            totals = self._totals
            return Report(
                uptime_s=now - self._started,
                height=totals.height,
                rate=sum(device.rate for device in devices),
                average=sum(device.average for device in devices),
                hashes=sum(device.hashes for device in devices),
                estimate=self._shares.estimate(now),
                accepted=totals.accepted,
                rejected=dict(totals.rejected),
                stale=totals.stale,
                hardware_errors=sum(device.hardware_errors for device in devices),
                best_difficulty=totals.best_difficulty,
                devices=devices,
                pools=self.pools(),
            )
