"""What the miner has done, counted per device and in all; written by device threads and the event loop, read by
screens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from miner.device import DeviceDetails, HashDevice
from miner.hashrate import RateEstimate, ShareMeter, WorkMeter
from miner.share import Finding, Share
from miner.work.source import PoolReport


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One line of the device table.

    Rates in hashes a second; `estimate`: the rate by the shares found. `shares` were found, and of these `accepted`,
    `rejected` and `stale` have been answered (`stale` includes those that came too late to be sent);
    `accepted_difficulty`: the sum of what the accepted ones were worth. `duplicates` were returned twice.
    `hardware_errors`: wrong nonces, those that the device's own driver caught among them; `last_share_age_s`: since the
    last share found. `failure`: why the device was retired, or None. `details`: what the device knows of itself.
    """

    name: str
    kind: str
    rate: float
    average: float
    hashes: int
    shares: int
    hardware_errors: int
    failure: str | None
    paused: bool = False
    accepted: int = 0
    rejected: int = 0
    stale: int = 0
    duplicates: int = 0
    accepted_difficulty: float = 0.0
    best_difficulty: float = 0.0
    last_share_age_s: float | None = None
    estimate: RateEstimate | None = None
    details: DeviceDetails | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A consistent picture of one moment. `estimate`: the rate by shares found; `rejected`: the node's or pools'
    reasons, counted; `pools`: each pool's own counts, none where work comes from nodes; `blocks`: of the accepted;
    `jobs`: how often the work changed. The difficulties are sums of what shares were worth. Counts and hashes include
    those of devices that have been removed."""

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
    blocks: int = 0
    jobs: int = 0
    duplicates: int = 0
    accepted_difficulty: float = 0.0
    rejected_difficulty: float = 0.0
    stale_difficulty: float = 0.0
    last_share_age_s: float | None = None


@dataclass(slots=True)
class _DeviceCounters:
    device: HashDevice
    meter: WorkMeter
    share_meter: ShareMeter
    shares: int = 0
    accepted: int = 0
    rejected: int = 0
    stale: int = 0
    duplicates: int = 0
    hardware_errors: int = 0
    caught: int = 0  # wrong nonces that the device counted and kept to itself, when it was last asked
    caught_before: int = 0  # the same of those that had its name before
    accepted_difficulty: float = 0.0
    best_difficulty: float = 0.0
    last_share: float | None = None
    failure: str | None = None
    paused: bool = False
    removed: bool = False

    @property
    def all_errors(self) -> int:
        """Wrong nonces, whoever found them out."""
        return self.hardware_errors + self.caught + self.caught_before

    def ask(self, details: DeviceDetails | None) -> None:
        """What the device says of itself now."""
        if details is not None:
            self.caught = details.counters.get("wrong", 0)


@dataclass(slots=True)
class _Totals:
    height: int | None = None
    jobs: int = 0
    accepted: int = 0
    blocks: int = 0
    stale: int = 0
    accepted_difficulty: float = 0.0
    rejected_difficulty: float = 0.0
    stale_difficulty: float = 0.0
    rejected: Counter[str] = field(default_factory=Counter)


class Telemetry:
    """The counters. Every method may be called from any thread."""

    def __init__(self, devices: Iterable[HashDevice], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._devices: dict[str, _DeviceCounters] = {}
        for device in devices:
            self._devices[device.name] = _DeviceCounters(device, WorkMeter(self._started), ShareMeter(self._started))
        self._shares = ShareMeter(self._started)
        self._totals = _Totals()
        self.pools: Callable[[], list[PoolReport]] = list  #: asked for every report, on the event loop

    # --- devices ---

    def add(self, device: HashDevice) -> None:
        """One more device; counts go on where there was one of its name."""
        with self._lock:
            now = self._clock()
            known = self._devices.get(device.name)
            if known is None:
                self._devices[device.name] = _DeviceCounters(device, WorkMeter(now), ShareMeter(now))
            else:
                known.device, known.failure, known.removed, known.paused = device, None, False, False
                known.caught, known.caught_before = 0, known.caught_before + known.caught

    def removed(self, name: str) -> None:
        """A device was taken out: its line goes, its counts stay in the totals."""
        details = self._devices[name].device.details()
        with self._lock:
            self._devices[name].removed = True
            self._devices[name].ask(details)

    def paused(self, name: str, paused: bool) -> None:
        """A device was disabled or enabled."""
        with self._lock:
            self._devices[name].paused = paused

    def failed(self, device: HashDevice, reason: str) -> None:
        """A device was retired."""
        with self._lock:
            self._devices[device.name].failure = reason

    # --- work ---

    def new_job(self, height: int | None) -> None:
        """The height being mined, None when there is no work."""
        with self._lock:
            self._totals.height = height
            self._totals.jobs += height is not None

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
                counters.last_share = self._clock()
                counters.best_difficulty = max(counters.best_difficulty, share.difficulty)
                counters.share_meter.add(share.unit.job.share_target)
                self._shares.add(share.unit.job.share_target)

    def late(self, device: HashDevice) -> None:
        """A device has returned a nonce of work that nobody wants any more."""
        with self._lock:
            self._devices[device.name].stale += 1

    def duplicate(self, device: HashDevice) -> None:
        """A device has returned the same share again."""
        with self._lock:
            self._devices[device.name].duplicates += 1

    # --- answers ---

    def accepted(self, share: Share | None = None) -> None:
        """A block of ours joined the chain, or a pool took a share."""
        with self._lock:
            self._totals.accepted += 1
            if share is not None:
                self._totals.blocks += share.finding is Finding.BLOCK
                self._totals.accepted_difficulty += share.worth
                if (counters := self._devices.get(share.device)) is not None:
                    counters.accepted += 1
                    counters.accepted_difficulty += share.worth

    def rejected(self, reason: str, share: Share | None = None) -> None:
        """A block or share was refused."""
        with self._lock:
            self._totals.rejected[reason] += 1
            if share is not None:
                self._totals.rejected_difficulty += share.worth
                if (counters := self._devices.get(share.device)) is not None:
                    counters.rejected += 1

    def stale(self, share: Share | None = None) -> None:
        """A block or share came too late: its parent was no longer the tip."""
        with self._lock:
            self._totals.stale += 1
            if share is not None:
                self._totals.stale_difficulty += share.worth
                if (counters := self._devices.get(share.device)) is not None:
                    counters.stale += 1

    # --- reading ---

    def rate(self) -> float:
        """Hashes a second of all devices at work: as measured, or as they should do while nothing is."""
        with self._lock:
            now = self._clock()
            at_work = [c for c in self._devices.values() if not (c.removed or c.paused or c.failure is not None)]
            measured = [(counters.device, counters.meter.rate(now)) for counters in at_work]
        total = 0.0
        for device, rate in measured:
            details = device.details() if rate <= 0 else None
            total += rate if details is None else details.nominal_rate or 0.0
        return total

    def report(self) -> Report:
        """Everything, now."""
        with self._lock:
            present = {name: counters.device for name, counters in self._devices.items() if not counters.removed}
        details = {name: device.details() for name, device in present.items()}
        pools = self.pools()
        with self._lock:
            now = self._clock()
            everything = self._devices.values()
            for name, known in details.items():
                self._devices[name].ask(known)
            devices = [
                _device_report(counters, details[name], now)
                for name, counters in self._devices.items()
                if name in details
            ]
            last_shares = [counters.last_share for counters in everything if counters.last_share is not None]
            hashes = sum(counters.meter.total for counters in everything)
            totals = self._totals
            return Report(
                uptime_s=now - self._started,
                height=totals.height,
                rate=sum(device.rate for device in devices),
                average=hashes / (now - self._started) if now > self._started else 0.0,
                hashes=hashes,
                estimate=self._shares.estimate(now),
                accepted=totals.accepted,
                rejected=dict(totals.rejected),
                stale=totals.stale,
                hardware_errors=sum(counters.all_errors for counters in everything),
                best_difficulty=max((counters.best_difficulty for counters in everything), default=0.0),
                devices=devices,
                pools=pools,
                blocks=totals.blocks,
                jobs=totals.jobs,
                duplicates=sum(counters.duplicates for counters in everything),
                accepted_difficulty=totals.accepted_difficulty,
                rejected_difficulty=totals.rejected_difficulty,
                stale_difficulty=totals.stale_difficulty,
                last_share_age_s=now - max(last_shares) if last_shares else None,
            )


def _device_report(counters: _DeviceCounters, details: DeviceDetails | None, now: float) -> DeviceReport:
    return DeviceReport(
        name=counters.device.name,
        kind=counters.device.kind,
        rate=counters.meter.rate(now) if counters.failure is None else 0.0,
        average=counters.meter.average(now),
        hashes=counters.meter.total,
        shares=counters.shares,
        hardware_errors=counters.all_errors,
        failure=counters.failure,
        paused=counters.paused,
        accepted=counters.accepted,
        rejected=counters.rejected,
        stale=counters.stale,
        duplicates=counters.duplicates,
        accepted_difficulty=counters.accepted_difficulty,
        best_difficulty=counters.best_difficulty,
        last_share_age_s=None if counters.last_share is None else now - counters.last_share,
        estimate=counters.share_meter.estimate(now),
        details=details,
    )
