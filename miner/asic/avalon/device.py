"""A first-generation Avalon as a HashDevice: units of work in, checked nonces out.

Every version of a unit is a task. A unit is over when its last task is on its way; what the rows find of it after that
comes back with a later search, named by its job.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from miner.asic.avalon.driver import (
    BAUD,
    DEFAULT_MHZ,
    AvalonDriver,
    Event,
    Failed,
    NonceFound,
    Options,
    Overheated,
    Ready,
    State,
    Work,
)
from miner.asic.avalon.frames import CHIPS_IN_A_ROW, FAN_FULL
from miner.asic.link import Link
from miner.asic.transport import PortError
from miner.device import (
    NONCE_SPACE,
    Candidate,
    ChipDetails,
    DeviceDetails,
    DeviceError,
    FanDetails,
    HashJob,
    SearchResult,
    never,
)

_PUMP_S = 0.01
_RETRY_S = 5.0
_ROUNDS_PER_UNIT = 2


class AvalonDevice:
    """HashDevice over one unit; see `driver.Options`."""

    kind = "asic"

    def __init__(self, name: str, path: str, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.preferred_versions = _ROUNDS_PER_UNIT * options.rows
        self.driver = AvalonDriver(options)
        self.link = Link(path, BAUD, self.driver, clock)
        self._clock = clock
        self._job: HashJob | None = None
        self._told = 0.0
        self._was_up = False

    def open(self) -> None:
        """Open the port and reset the controller. Raises DeviceError."""
        try:
            self.link.open()
        except PortError as error:
            raise DeviceError(str(error)) from None

    def close(self) -> None:
        """Let every row rest, give the port back."""
        self.driver.stop()
        self.link.close()

    def idle(self) -> None:
        """Keep listening; the rows finish what they have."""
        self._pump(0.0, lambda: True)
        self._collect(self.driver.events())

    def wake(self) -> None:
        """See Wakeable."""
        self.link.wake()

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search; waits through resets, heat and an unplugged cable. Raises DeviceError when there
        never was an Avalon."""
        if job is not self._job:
            self._begin(job, start)
        candidates: list[Candidate] = []
        while not cancelled() and not candidates:
            self._pump(_PUMP_S, cancelled)
            candidates = self._collect(self.driver.events())
            if self.driver.hungry:
                return self._result(count, candidates)
        share = 1 - self.driver.waiting / len(job.versions)
        return self._result(max(0, min(count - 1, int(share * NONCE_SPACE) - start)), candidates)

    def details(self) -> DeviceDetails | None:
        """The unit, for people."""
        driver = self.driver
        state = driver.state.value if self.link.connected else "unplugged"
        if driver.state is State.OVERHEATED and driver.smoothed_c is not None:
            state = f"too hot, resting: {driver.smoothed_c:.0f} °C"
        percent = 100.0 * driver.fan / FAN_FULL
        return DeviceDetails(
            state=state,
            model="Avalon" + (f", controller {driver.version}" if driver.version else ""),
            path=self.link.path,
            frequency_mhz=float(driver.options.mhz),
            nominal_rate=driver.hash_rate,
            temperatures_c={f"sensor {n}": float(t) for n, t in enumerate(driver.temperatures_c, 1)},
            fans=tuple(FanDetails(f"fan {n}", float(rpm), percent) for n, rpm in enumerate(driver.fans_rpm, 1)),
            chips=tuple(
                ChipDetails(index=row, alive=row in driver.rows, frequency_mhz=float(driver.options.mhz))
                for row in range(driver.options.rows)
            ),
            counters={
                **{outcome.value: count for outcome, count in driver.totals.items()},
                "restarts": driver.restarts,
                "replugs": self.link.replugs,
                "chips_per_row": CHIPS_IN_A_ROW,
            },
        )

    def _begin(self, job: HashJob, start: int) -> None:
        previous, self._job = self._job, job
        now = self._clock()
        works = [Work(job.header_for(version, 0), (job, version)) for version in job.versions]
        skipped = min(len(works) - 1, start * len(works) // NONCE_SPACE)
        clean = previous is None or previous.header[4:36] != job.header[4:36]
        self.driver.set_work(works[skipped:], now, clean=clean)

    def _result(self, done: int, candidates: list[Candidate]) -> SearchResult:
        hashes = max(0, int(self.driver.progress(self._clock()) - self._told))
        self._told += hashes
        return SearchResult(done, candidates, hashes)

    def _pump(self, timeout_s: float, cancelled: Callable[[], bool]) -> None:
        try:
            self.link.pump(timeout_s, cancelled)
        except PortError as error:
            raise DeviceError(str(error)) from None

    def _collect(self, events: list[Event]) -> list[Candidate]:
        candidates = []
        for event in events:
            if isinstance(event, NonceFound):
                job, version = event.work.owner
                if event.number <= job.target:
                    candidates.append(Candidate(version, event.nonce, job))
            elif isinstance(event, Ready | Overheated):
                self._was_up = True
            elif isinstance(event, Failed):
                if not self._was_up:
                    raise DeviceError(f"{self.link.path}: {event.reason}")
                self.driver.start_later(self._clock() + _RETRY_S)
        return candidates


def avalon_device(
    name: str, port: str, frequency_mhz: float | None = None, rows: int = 32, zero_bits: int = 32
) -> AvalonDevice:
    """The device behind a port. UserError for a clock or a number of rows it cannot have."""
    mhz = round(frequency_mhz) if frequency_mhz is not None else DEFAULT_MHZ
    return AvalonDevice(name, port, Options(mhz, rows, zero_bits))
