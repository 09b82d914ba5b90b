"""A board that searches one header at a time, as a HashDevice: every version of a unit is a work of its own."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from miner.asic.header_driver import HeaderDriver
from miner.asic.header_work import Failed, NonceFound, Work
from miner.asic.link import Link
from miner.asic.transport import PortError
from miner.device import NONCE_SPACE, Candidate, DeviceDetails, DeviceError, HashJob, SearchResult, never

_PUMP_S = 0.2  #: longest wait for bytes: who changes what `cancelled` says wakes the device (Wakeable)
_RETRY_S = 5.0  #: before a board that worked and now fails is tried again


D = TypeVar("D", bound=HeaderDriver[Any])


class HeaderDevice(ABC, Generic[D]):
    """See the module. A subclass says when a unit is over, how far it is, and what the board is like."""

    kind = "asic"

    def __init__(
        self,
        name: str,
        path: str,
        baud: int,
        driver: D,
        preferred_versions: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.preferred_versions = preferred_versions
        self.driver = driver
        self.link = Link(path, baud, driver, clock)
        self._clock = clock
        self._job: HashJob | None = None
        self._began_at = 0.0  # hashes that the driver had done when the job came
        self._told = 0.0  # of the hashes done, those that search results have told
        self._was_up = False

    def open(self) -> None:
        """Open the port; the board is looked for during the first search. Raises DeviceError."""
        try:
            self.link.open()
        except PortError as error:
            raise DeviceError(str(error)) from None

    def close(self) -> None:
        """Let the board rest as far as it can be told to, give the port back."""
        self.driver.stop()
        self.link.close()

    def idle(self) -> None:
        """Keep listening; the board finishes what it has."""
        self._pump(0.0, lambda: True)
        self._collect()

    def wake(self) -> None:
        """See Wakeable."""
        self.link.wake()

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search; waits through start-up and an unplugged cable. Raises DeviceError when there never was
        a board."""
        if job is not self._job:
            self._begin(job, start)
        candidates: list[Candidate] = []
        while not cancelled() and not candidates:
            self._pump(_PUMP_S, cancelled)
            candidates = self._collect()
            if self._unit_over():
                return self._result(count, candidates)
        done = int(self._unit_share(job) * NONCE_SPACE) - start
        return self._result(max(0, min(count - 1, done)), candidates)

    @abstractmethod
    def details(self) -> DeviceDetails | None:
        """See HashDevice.details."""

    @abstractmethod
    def _unit_over(self) -> bool:
        """Whether the board is ready for another unit."""

    @abstractmethod
    def _unit_share(self, job: HashJob) -> float:
        """How much of the unit is done, 0 to 1."""

    @abstractmethod
    def _came_up(self, event: Any) -> None:
        """Any event but a nonce or a failure: the board is there."""

    def _begin(self, job: HashJob, start: int) -> None:
        previous, self._job = self._job, job
        now = self._clock()
        works = [Work(job.header_for(version, 0), (job, version)) for version in job.versions]
        skipped = min(len(works) - 1, start * len(works) // NONCE_SPACE)
        clean = previous is None or previous.header[4:36] != job.header[4:36]
        self.driver.set_work(works[skipped:], now, clean=clean)
        self._began_at = self.driver.progress(now)

    def _result(self, done: int, candidates: list[Candidate]) -> SearchResult:
        hashes = max(0, int(self.driver.progress(self._clock()) - self._told))
        self._told += hashes
        return SearchResult(done, candidates, hashes)

    def _pump(self, timeout_s: float, cancelled: Callable[[], bool]) -> None:
        try:
            self.link.pump(timeout_s, cancelled)
        except PortError as error:
            raise DeviceError(str(error)) from None

    def _collect(self) -> list[Candidate]:
        candidates = []
        for event in self.driver.events():
            if isinstance(event, NonceFound):
                job, version = event.work.owner
                if event.number <= job.target:
                    candidates.append(Candidate(version, event.nonce, job))
            elif isinstance(event, Failed):
                if not self._was_up:
                    raise DeviceError(f"{self.link.path}: {event.reason}")
                self.driver.start_later(self._clock() + _RETRY_S)
            else:
                self._was_up = True
                self._came_up(event)
        return candidates
