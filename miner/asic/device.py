"""A board as a HashDevice: units of work in, checked nonces out.

A chain cannot be told a range of nonces. It goes through a unit in its own order, so how far it has come is what its
clock says, and a unit is over when a chain of that rate has had the time for all of it.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from chain.primitives.errors import UserError
from miner.asic.bm13xx import ticket_mask
from miner.asic.bm13xx.driver import DriverOptions, State
from miner.asic.bm13xx.events import ChainFailed, Event, NonceChecked, Overheated
from miner.asic.bm13xx.work import ChainJob, Outcome, split_versions
from miner.asic.board import Board, BoardReport, ResetLine
from miner.asic.boards.opening import board_profile, make_board
from miner.asic.boards.power import BoardFault, Sensors, log
from miner.asic.boards.profile import BoardProfile
from miner.asic.chips import chip_named
from miner.asic.transport import PortError, PortGone, with_path
from miner.asic.tuning.auto import BoardTuner, TuneOptions
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

ROLLABLE = 0x1FFF_E000  #: version bits 28:13, all that a chip can roll (REFERENCE.md §10)
_PUMP_S = 0.2  #: longest wait for bytes: who changes what `cancelled` says wakes the device (Wakeable)
_LOOK_S = 0.01  #: how often a wait for an unplugged board, which nothing wakes, looks at `cancelled`
_RECONNECT_S = 0.5
_RETRY_S = 5.0  #: before a chain that worked and now fails is tried again
_LAST_NONCES_S = 0.005  #: at the end of a unit, for nonces on their way
_UNIT_S = 4.0  #: least time a unit lasts
_FEWEST_VERSIONS = 256
REPORTS_PER_S = 10.0  #: good nonces a second that a board is set to where the share target allows
_LINK_SHARE = 0.25  #: of the return line that nonces may take
_REPLY_BITS = 110
_TRUE_OUTCOMES = (Outcome.GOOD, Outcome.BELOW_TICKET)


@functools.lru_cache(maxsize=256)
def choose_ticket(
    target: int, hash_rate: float, baud: int, zero_bits: int = 32, reports_per_s: float = REPORTS_PER_S
) -> int:
    """The ticket difficulty (a power of two) for a share target and the chain's real, scaled hash rate.

    Easy enough to report every share, and for about `reports_per_s`; never so easy that reports fill the line. Where
    any nonce is a share, only the rate counts.
    """
    reports = hash_rate / (1 << zero_bits)
    for_rate = _ceil_power_of_two(reports / reports_per_s)
    for_line = _ceil_power_of_two(reports / (baud / _REPLY_BITS * _LINK_SHARE))
    share_difficulty = (1 << 256 - zero_bits) / (target + 1)
    if share_difficulty < 1:
        return max(for_line, for_rate)
    return max(for_line, min(for_rate, ticket_mask.floor_power_of_two(share_difficulty)))


def versions_for(hash_rate: float) -> int:
    """Versions of a unit that lasts a chain some seconds: more would only be prepared in vain at the next block."""
    return min(1 << 16, max(_FEWEST_VERSIONS, _ceil_power_of_two(hash_rate * _UNIT_S / NONCE_SPACE)))


def _ceil_power_of_two(number: float) -> int:
    return 1 << min(32, math.ceil(math.log2(number))) if number > 1 else 1


class AsicDevice:
    """HashDevice over one serial board. `model_name`: None to find out; see DriverOptions for `options`; `board`: in
    place of one made from the other arguments (boards/opening.py makes boards with supply and sensors); `tune`: look
    for the clock that serves a goal while mining."""

    kind = "asic"

    def __init__(
        self,
        name: str,
        path: str,
        model_name: str | None = None,
        options: DriverOptions | None = None,
        reset_line: ResetLine | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        board: Board | None = None,
        tune: TuneOptions | None = None,
    ) -> None:
        self.name = name
        self.preferred_versions = _FEWEST_VERSIONS  #: until the chain is up and its rate known
        if board is None:
            board = Board(path, chip_named(model_name) if model_name is not None else None, options, reset_line, clock)
        self.board = board
        self.tuner = BoardTuner(board, tune, log.info, clock) if tune is not None else None
        self.late = 0  #: true nonces of a unit that the scheduler had already left; they count all the same
        self._clock = clock
        self._lock = threading.Lock()  # held by the device's thread but for its waits, so that `switch` may come in
        self._unlocked = _Released(self._lock)
        self._job: HashJob | None = None
        self._origin = 0
        self._jobs: Iterator[ChainJob] | None = None  # still to come of the unit; None: it has not been begun
        self._total = 0.0  # hashes of the unit
        self._done = 0.0  # of them, by the clock
        self._job_left = 0.0  # hashes of the job being searched that are not done
        self._told = 0.0  # of the hashes done, those that search results have told
        self._measured_at = 0.0
        self._was_up = False

    def open(self) -> None:
        """Open the port; the chain starts up during the first search. Raises DeviceError."""
        try:
            self.board.open()
        except (PortError, BoardFault) as error:
            raise DeviceError(with_path(self.board.path, error)) from None

    def close(self) -> None:
        """Stop the chips, give the port back."""
        with self._lock:
            self.board.close()

    def idle(self) -> None:
        """Keep listening; the chips finish what they have."""
        with self._lock:
            self._collect(self._pump(lambda: True, 0.0))

    def wake(self) -> None:
        """See Wakeable."""
        self.board.wake()

    def switch(self, job: HashJob) -> bool:
        """See Switchable."""
        if not self._lock.acquire(blocking=False):
            return False  # its thread is busy, and will soon come for the job itself
        try:
            if not (self._was_up and self.board.connected and self.board.driver.state is State.RUNNING):
                return False
            if job is not self._job:  # else its thread was quicker
                self._account()
                self._begin(job, 0)
            return self.board.send_now()
        finally:
            self._lock.release()

    def report(self) -> BoardReport:
        """The board and its chips, for screens."""
        return self.board.report()

    def details(self) -> DeviceDetails | None:
        """The same in the form that all devices share."""
        return board_details(self.report(), self.late)

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search; `start` says only how far the unit had come. Waits through start-ups, chip losses and
        an unplugged cable; raises DeviceError when the chain never came up or is too hot."""
        with self._lock:
            return self._search(job, start, count, cancelled)

    def _search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool]) -> SearchResult:
        if cancelled():  # before the job is begun: the chips may have been switched to its successor
            return SearchResult(0, [], 0)
        if job is not self._job:
            self._begin(job, start)
        while not cancelled():
            candidates = self._collect(self._pump(cancelled, min(_PUMP_S, self._job_time_left_s())))
            over = self._advance()
            if over and not candidates:
                candidates = self._collect(self._pump(cancelled, _LAST_NONCES_S))
            if over or candidates:
                return self._result(count if over else self._progress(start, count), candidates)
        return self._result(self._progress(start, count), [])

    def _result(self, done: int, candidates: list[Candidate]) -> SearchResult:
        hashes = int(self._done - self._told)
        self._told += hashes
        return SearchResult(done, candidates, hashes)

    def _begin(self, job: HashJob, start: int) -> None:
        previous, self._job, self._origin = self._job, job, start
        self._total = float(NONCE_SPACE * len(job.versions))
        self._told -= self._done  # what has not been told of the job before is told with this one
        self._done = self._job_left = 0.0
        self._measured_at = self._clock()
        self._jobs = None
        model = self.board.driver.model
        if model is None:
            return  # the first start-up is still to say what the chips take; _collect begins again then
        largest, rollable = (1 << 16, ROLLABLE) if model.rolls_versions else (model.midstates, 0xFFFFFFFF)
        self._jobs = split_versions(job.versions, job.header, largest, rollable, job)
        self._choose_ticket()
        self._next_job(clean=previous is None or previous.header[4:36] != job.header[4:36])

    def _next_job(self, *, clean: bool = False) -> bool:
        chain_job = next(self._jobs, None) if self._jobs is not None else None
        if chain_job is None:
            return False
        driver = self.board.driver
        self._job_left = float(NONCE_SPACE * chain_job.version_count)
        epoch_s = driver.model.epoch_s(chain_job.version_count) if driver.model is not None else None
        if epoch_s is not None and driver.hash_rate:  # the chips repeat themselves after this, having left gaps
            self._job_left = min(self._job_left, epoch_s * driver.hash_rate * (1 << 32 - driver.options.zero_bits))
        driver.set_work(chain_job, self._clock(), clean=clean)
        return True

    def _advance(self) -> bool:
        """Account for the time since the last call; True when the unit is over."""
        return self._account() and self._job_left <= 0 and not self._next_job()

    def _account(self) -> bool:
        """The same; True while the chips are hashing."""
        driver, now = self.board.driver, self._clock()
        elapsed, self._measured_at = now - self._measured_at, now
        if driver.state is not State.RUNNING or driver.model is None:
            return False
        hashes = driver.hash_rate * elapsed
        self._done = min(self._total, self._done + hashes)
        self._job_left -= hashes
        return True

    def _job_time_left_s(self) -> float:
        """Until the chain is through with its job, by the clock; 0 while it is down."""
        rate = self.board.driver.hash_rate
        return max(0.0, self._job_left / rate) if rate else _PUMP_S

    def _progress(self, start: int, count: int) -> int:
        nonces = int(self._done / self._total * NONCE_SPACE) if self._total else 0
        return max(0, min(count, nonces - (start - self._origin) % NONCE_SPACE))

    def _pump(self, cancelled: Callable[[], bool], timeout_s: float) -> list[Event]:
        try:
            events = self.board.pump(timeout_s, self._unlocked)
            if self.tuner is not None:
                self.tuner.step()
            return events
        except PortGone:
            self._wait_for_board(cancelled)
            return []
        except (PortError, BoardFault) as error:
            raise DeviceError(with_path(self.board.path, error)) from None

    def _collect(self, events: list[Event]) -> list[Candidate]:
        candidates = []
        for event in events:
            if isinstance(event, NonceChecked):
                result = event.result
                if result.outcome not in _TRUE_OUTCOMES or result.job is None:
                    continue
                owner = result.job.owner
                if owner is not self._job:
                    self.late += 1
                if isinstance(owner, HashJob) and result.number <= owner.target:
                    candidates.append(Candidate(result.version, result.nonce, owner))
            elif isinstance(event, ChainFailed):
                self._failed(event.reason)
            elif isinstance(event, Overheated):
                raise DeviceError(f"a chip is at {event.temperature_c:.0f} °C: hashing stopped, check the cooling")
        if self.board.driver.state is State.RUNNING and not self._was_up:
            self._was_up = True
            self._choose_ticket()
            if self._job is not None and self._jobs is None:
                self._begin(self._job, self._origin)
            self.preferred_versions = versions_for(self._real_hash_rate())
        return candidates

    def _failed(self, reason: str) -> None:
        if not self._was_up:
            raise DeviceError(f"{self.board.path}: {reason}")
        self.board.driver.start(self._clock() + _RETRY_S)

    def _choose_ticket(self) -> None:
        driver = self.board.driver
        if self._job is not None and driver.model is not None and driver.chips:
            zero_bits = driver.options.zero_bits
            rate = self._real_hash_rate() / (1 << 32 - zero_bits)
            ticket = choose_ticket(self._job.target, rate, driver.baud, zero_bits)
            driver.set_ticket(ticket, self._clock())

    def _real_hash_rate(self) -> float:
        """What the whole chain should do at its clock, without scale."""
        driver = self.board.driver
        if driver.model is None:
            return 0.0
        return driver.chips * driver.model.nominal_hash_rate(driver.target_mhz)

    def _wait_for_board(self, cancelled: Callable[[], bool]) -> None:
        next_try = self._clock()
        while not cancelled():
            if self._clock() >= next_try:
                try:
                    if self.board.reconnect():
                        return
                except BoardFault as error:
                    raise DeviceError(with_path(self.board.path, error)) from None
                next_try = self._clock() + _RECONNECT_S
            time.sleep(_LOOK_S)


class _Released:
    """A lock that is given away for a `with` block."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        self._lock.acquire()


def board_details(report: BoardReport, late: int = 0) -> DeviceDetails:
    """A board's report as every device gives it."""
    sensors = report.sensors or Sensors()
    chip_temperatures = [chip.temperature_c for chip in report.chips if chip.temperature_c is not None]
    if sensors.chip_c is not None:
        chip_temperatures.append(sensors.chip_c)
    temperatures = {"chip": max(chip_temperatures)} if chip_temperatures else {}
    if sensors.regulator_c is not None:
        temperatures["vr"] = sensors.regulator_c
    for index, value in enumerate(sensors.board_c):
        temperatures[f"board{index}" if len(sensors.board_c) > 1 else "board"] = value
    fans: tuple[FanDetails, ...] = ()
    if sensors.fan_rpm is not None or sensors.fan_percent is not None:
        fans = (FanDetails("fan", sensors.fan_rpm, sensors.fan_percent),)
    return DeviceDetails(
        state=_state(report.state, sensors),
        model=report.model,
        path=report.port,
        frequency_mhz=report.frequency_mhz or None,
        nominal_rate=report.nominal,
        watts=sensors.watts,
        temperatures_c=temperatures,
        voltages_v={
            name: value for name, value in (("core", sensors.volts), ("input", sensors.volts_in)) if value is not None
        },
        currents_a={} if sensors.amps is None else {"core": sensors.amps},
        fans=fans,
        chips=tuple(
            ChipDetails(
                index=chip.index,
                alive=chip.alive,
                by_nonces=chip.by_nonces,
                by_counter=chip.by_counter,
                errors=chip.hardware_errors,
                temperature_c=chip.temperature_c,
            )
            for chip in report.chips
        ),
        counters={
            **{outcome.replace(" ", "_"): count for outcome, count in report.nonces.items()},
            "late": late,
            "bad_frames": report.bad_frames,
            "restarts": report.restarts,
            "replugs": report.replugs,
        },
    )


def _state(state: str, sensors: Sensors) -> str:
    if sensors.fault is not None:
        return f"off: {sensors.fault}" if sensors.powered is False else f"NOT CONTROLLABLE: {sensors.fault}"
    if sensors.throttled and sensors.chip_c is not None:
        return f"throttled: {sensors.chip_c:.0f} °C"
    return state


def asic_devices(
    ports: Sequence[str],
    model_name: str | None = None,
    frequency_mhz: float | None = None,
    zero_bits: int = 32,
    boards: Sequence[str] = (),
    tune: TuneOptions | None = None,
) -> list[AsicDevice]:
    """One device per port, named asic0, asic1, …

    `ports`: DATA or DATA,CONTROL each; `boards`: names or TOML files, one for all ports or one for each, none where
    only chips are to be driven; `zero_bits`: below 32 for emulated boards. UserError for what does not exist or does
    not fit together.
    """
    if len(boards) > 1 and len(boards) != len(ports):
        raise UserError(f"{len(ports)} ports, {len(boards)} boards: give one --board for all, or one for each --port")
    options = DriverOptions(frequency_mhz=frequency_mhz, zero_bits=zero_bits)
    profiles: list[BoardProfile | None] = [board_profile(text) for text in boards] if boards else [None]
    if len(profiles) < len(ports):
        profiles *= len(ports)
    return [
        AsicDevice(f"asic{index}", port, board=make_board(port, profile, model_name, options), tune=tune)
        for index, (port, profile) in enumerate(zip(ports, profiles, strict=True))
    ]
