"""A board of the Icarus type as a HashDevice: units of work in, checked nonces out.

The board takes one header at a time and goes through all of its nonces, so a unit's versions are its works, and a unit
is over when each has had its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from chain.primitives.errors import UserError
from miner.asic.icarus.driver import (
    BAUD,
    Detected,
    Event,
    Failed,
    IcarusDriver,
    NonceFound,
    Options,
    Outcome,
    State,
    Work,
)
from miner.asic.icarus.models import Clock, icarus_model
from miner.asic.link import Link
from miner.asic.transport import PortError
from miner.device import (
    NONCE_SPACE,
    Candidate,
    ChipDetails,
    DeviceDetails,
    DeviceError,
    HashJob,
    SearchResult,
    never,
)

_PUMP_S = 0.01
_RETRY_S = 5.0  #: before a board that worked and now fails is tried again
_UNIT_S = 2.0  #: least time a unit lasts
_MOST_VERSIONS = 256


class IcarusDevice:
    """HashDevice over one board; see `driver.Options`."""

    kind = "asic"

    def __init__(self, name: str, path: str, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.preferred_versions = 1  #: until the board is up and its rate known
        self.driver = IcarusDriver(options)
        self.link = Link(path, BAUD, self.driver, clock)
        self._clock = clock
        self._job: HashJob | None = None
        self._began_at = 0.0  # hashes that the driver had done when the job came
        self._told = 0.0
        self._was_up = False

    def open(self) -> None:
        """Open the port; the board is looked for during the first search. Raises DeviceError."""
        try:
            self.link.open()
        except PortError as error:
            raise DeviceError(str(error)) from None

    def close(self) -> None:
        """Give the port back. The board finishes its range and then waits: it cannot be told to stop."""
        self.driver.stop()
        self.link.close()

    def idle(self) -> None:
        """Keep listening; the board finishes what it has."""
        self._pump(0.0, lambda: True)
        self._collect(self.driver.events())

    def wake(self) -> None:
        """See Wakeable."""
        self.link.wake()

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search; waits through detection and an unplugged cable. Raises DeviceError when there never
        was a board."""
        if job is not self._job:
            self._begin(job, start)
        candidates: list[Candidate] = []
        while not cancelled() and not candidates:
            self._pump(_PUMP_S, cancelled)
            candidates = self._collect(self.driver.events())
            if self.driver.state is State.RUNNING and self.driver.idle:
                return self._result(count, candidates)
        return self._result(self._progress(start, count), candidates)

    def details(self) -> DeviceDetails | None:
        """The board, for people."""
        driver, model = self.driver, self.driver.model
        timing = driver.timing
        state = driver.state.value if self.link.connected else "unplugged"
        if timing is not None and timing.measured:
            state += ", rate measured"
        return DeviceDetails(
            state=state,
            model=model.title if model is not None else None,
            path=self.link.path,
            frequency_mhz=driver.mhz,
            nominal_rate=driver.hash_rate or None,
            chips=(
                ChipDetails(
                    index=0,
                    alive=driver.state is State.RUNNING,
                    by_nonces=1 / timing.seconds_per_hash if timing is not None and timing.measured else None,
                    errors=driver.totals[Outcome.WRONG],
                    frequency_mhz=driver.mhz,
                ),
            ),
            counters={
                **{outcome.value: count for outcome, count in driver.totals.items()},
                "restarts": driver.restarts,
                "replugs": self.link.replugs,
            },
        )

    def _begin(self, job: HashJob, start: int) -> None:
        previous, self._job = self._job, job
        now = self._clock()
        works = [Work(job.header_for(version, 0), (job, version)) for version in job.versions]
        skipped = min(len(works) - 1, start * len(works) // NONCE_SPACE)
        clean = previous is None or previous.header[4:36] != job.header[4:36]
        self.driver.set_work(works[skipped:], now, clean=clean)
        self._began_at = self._told = self.driver.progress(now)

    def _progress(self, start: int, count: int) -> int:
        """Nonces of the unit that are done, by the share of its works' time that has passed."""
        timing, job = self.driver.timing, self._job
        if timing is None or job is None:
            return 0
        share = (self.driver.progress(self._clock()) - self._began_at) / (timing.largest * len(job.versions))
        return max(0, min(count - 1, int(share * NONCE_SPACE) - start))

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
            elif isinstance(event, Detected):
                self._was_up = True
                self.preferred_versions = min(_MOST_VERSIONS, math.ceil(_UNIT_S / event.model.range_s(self.driver.mhz)))
            elif isinstance(event, Failed):
                self._failed(event.reason)
        return candidates

    def _failed(self, reason: str) -> None:
        if not self._was_up:
            raise DeviceError(f"{self.link.path}: {reason}")
        self.driver.start_later(self._clock() + _RETRY_S)


def icarus_device(
    name: str,
    port: str,
    board: str,
    frequency_mhz: float | None = None,
    millivolts: int | None = None,
    zero_bits: int = 32,
) -> IcarusDevice:
    """The device behind a port. `board` is a model's name; "icarus" finds out which, all but a U3. UserError for an
    unknown one, or a clock or voltage it cannot take."""
    model = icarus_model(board)
    if frequency_mhz is not None and model.clock is Clock.FIXED:
        raise UserError("only AntMiners have a clock to set: name the board with --board u1, u2 or u3")
    if millivolts is not None and model.clock is not Clock.U3:
        raise UserError("only an AntMiner U3 has a voltage to set: name it with --board u3")
    options = Options(None if model.name == "icarus" else model, frequency_mhz, millivolts, zero_bits)
    IcarusDriver(options).check_options()
    return IcarusDevice(name, port, options)
