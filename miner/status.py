"""Everything about a run at one moment: the counters, energy, outlook and network, one picture for the screen, --json,
the status page, the metrics and the cgminer API."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chain.primitives.target import target_from_nbits
from chain.primitives.types import Nbits, hash_to_hex
from miner.device import DeviceDetails
from miner.energy.monitor import EnergyMonitor, EnergyReport, MeasuredDevice
from miner.energy.outlook import Outlook, outlook
from miner.history import History, Sample
from miner.share import difficulty_of_target
from miner.telemetry import DeviceReport, Report, Telemetry
from miner.work.job import Job

SAMPLE_S = 1.0
TOTAL = ""  #: the name of all devices together in `Status.rolling`
_MESSAGES_KEPT = 100
ROLLING_S = {"5s": 5.0, "1m": 60.0, "5m": 300.0, "15m": 900.0}


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What is being mined on. `difficulty` of a block; `parent`: hash of the block before, display hex; `node`: where
    work comes from, None for pools; `since_s`: since work for this parent first came."""

    name: str
    height: int | None
    difficulty: float | None
    parent: str | None
    since_s: float | None
    node: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """`rolling`: hashes a second of each device and of all (name ""), decaying averages over 5 s to 15 min. `energy`
    and `outlook` are None where nothing is known. `idle`: why the processor rests, None while it works. `started`: Unix
    time."""

    version: str
    started: float
    network: NetworkReport
    report: Report
    energy: EnergyReport | None
    outlook: Outlook | None
    idle: str | None
    rolling: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The fields of the report, with those of this class beside them: what --json and /status.json show."""
        picture = dataclasses.asdict(self.report)
        for item in dataclasses.fields(self):
            if item.name != "report":
                value = getattr(self, item.name)
                known = dataclasses.is_dataclass(value) and not isinstance(value, type)
                picture[item.name] = dataclasses.asdict(value) if known else value
        return picture


class StatusMonitor:
    """Samples a run and says how it stands.

    `node`: asked where work comes from now; None for pools.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        energy: EnergyMonitor,
        *,
        network: str = "",
        version: str = "",
        node: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.idle: str | None = None
        self.history = History()
        self._telemetry = telemetry
        self._energy = energy
        self._network = network
        self._version = version
        self._node = node
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._messages: deque[tuple[float, str]] = deque(maxlen=_MESSAGES_KEPT)
        self._target: int | None = None  # of what counts as a block
        self._network_target: int | None = None
        self._parent: bytes | None = None
        self._parent_since = 0.0
        self._hashes: dict[str, int] = {}
        self._sampled_at = clock()
        self._rolling: dict[str, dict[str, float]] = {}

    def new_job(self, job: Job | None) -> None:
        """What is being mined from now on."""
        if job is None:
            return
        self._network_target = target_from_nbits(Nbits(job.nbits))
        # alone we may insist on harder blocks; a pool's job may have shares harder than blocks
        self._target = job.target if job.single_solution else self._network_target
        if job.prev_hash != self._parent:
            self._parent, self._parent_since = job.prev_hash, self._clock()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        """Look at everything once. Sensors are read in a thread: drivers may take their time."""
        report = self._telemetry.report()
        await asyncio.to_thread(self._energy.sample, [_measured(device) for device in report.devices])
        self._roll(report)
        energy = self._energy.report()
        self.history.add(
            Sample(
                at_s=report.uptime_s,
                rate=self._rolling.get(TOTAL, {}).get("5s", report.rate),
                watts=energy.watts if energy is not None else None,
                temperature_c=max(filter(None, map(hottest, report.devices)), default=None),
                accepted=report.accepted,
                errors=report.hardware_errors,
            )
        )

    def message(self, text: str) -> None:
        """Keep what the user was told, for the page."""
        self._messages.append((self._wall_clock(), text))

    def history_as_dict(self) -> dict[str, Any]:
        """The course of the run, a column a quantity, and the last messages with their Unix times."""
        names = [item.name for item in dataclasses.fields(Sample)]
        samples = self.history.samples()
        return {
            "started": self._started,
            "interval_s": self.history.interval_s,
            **{name: [getattr(sample, name) for sample in samples] for name in names},
            "messages": [{"time": at, "text": text} for at, text in self._messages],
        }

    def status(self) -> Status:
        """Everything, now; sensors as of the last sample."""
        report = self._telemetry.report()
        now = self._clock()
        return Status(
            version=self._version,
            started=self._started,
            network=NetworkReport(
                name=self._network,
                height=report.height,
                difficulty=None if self._network_target is None else difficulty_of_target(self._network_target),
                parent=None if self._parent is None else hash_to_hex(self._parent),
                since_s=None if self._parent is None else now - self._parent_since,
                node=self._node(),
            ),
            report=report,
            energy=self._energy.report(),
            outlook=None if self._target is None else outlook(self._target, report.rate),
            idle=self.idle,
            rolling={name: dict(rates) for name, rates in self._rolling.items()},
        )

    def _roll(self, report: Report) -> None:
        now = self._clock()
        elapsed_s, self._sampled_at = now - self._sampled_at, now
        if elapsed_s <= 0:
            return
        totals = {device.name: device.hashes for device in report.devices} | {TOTAL: report.hashes}
        for name in self._rolling.keys() - totals.keys():
            del self._rolling[name]
        for name, hashes in totals.items():
            rate = max(0, hashes - self._hashes.get(name, 0)) / elapsed_s
            averages = self._rolling.setdefault(name, {})
            for window, length_s in ROLLING_S.items():
                # a true mean while the run is shorter than the window, so that it need not rise from zero
                weight = 1 - math.exp(-elapsed_s / min(length_s, max(report.uptime_s, elapsed_s)))
                averages[window] = averages.get(window, rate) * (1 - weight) + rate * weight
        self._hashes = totals


def hottest(device: DeviceReport) -> float | None:
    """A device's highest temperature, degrees Celsius."""
    details = device.details
    if details is None:
        return None
    chips = [chip.temperature_c for chip in details.chips if chip.temperature_c is not None]
    return max([*details.temperatures_c.values(), *chips], default=None)


def _measured(device: DeviceReport) -> MeasuredDevice:
    details = device.details or DeviceDetails()
    return MeasuredDevice(
        name=device.name,
        kind=device.kind,
        rate=device.rate,
        working=device.failure is None and not device.paused,
        watts=details.watts,
        watts_estimated=details.watts_estimated,
        path=details.path,
    )
