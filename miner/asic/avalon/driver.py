"""Drives a first-generation Avalon, without I/O: bytes and the time in, bytes to send and events out.

A round of tasks, one for every row, as fast as the line takes them; the next when the rows have searched them
(REFERENCE.md §2). Fans follow the hottest sensor, and too hot a unit rests (§5).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from chain.primitives.errors import UserError
from miner.asic.avalon.frames import (
    CHIPS_IN_A_ROW,
    FAN_FULL,
    FAN_LEAST,
    KEY,
    RESULT_BYTES,
    Result,
    Settings,
    parse_reset_reply,
    parse_result,
    reset_frame,
    result_key,
    task_frame,
)
from miner.asic.header_driver import HeaderDriver, Issued
from miner.asic.header_work import Failed, NonceFound, Outcome, Work

BAUD = 115_200
MHZ_RANGE = (256, 375)  #: the table of REFERENCE.md §2
DEFAULT_MHZ = 282
_BITS_PER_BYTE = 10
_TASK_GAP_S = 0.004
_FULL_POLL_S = 0.04  #: between looks at a controller that has no room
_RESET_S = 0.3
_ROUNDS_KEPT = 3
_SMOOTH = 0.37
_AIM_C, _BAND_C, _HOT_C = 50.0, 3.0, 60.0
_HOT_RESULTS = 2  #: in a row: a result has no checksum, and one bit may be damage
_FAN_STEPS = ((9.0, FAN_FULL), (6.0, 10), (4.5, 5), (0.0, 1))  #: degrees above the band: PWM steps
_FAN_EVERY_S = 4.0
_REST_S = 20.0  #: after overheating, with the fan full
_SILENT_ROUNDS = 20  #: without a true result while there is work: reset


class State(Enum):
    """Where the driver is."""

    STOPPED = "stopped"
    RESETTING = "resetting"
    RUNNING = "running"
    OVERHEATED = "overheated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ready:
    """The controller has answered; `version` as it says."""

    version: str


@dataclass(frozen=True, slots=True)
class Overheated:
    """A sensor is too hot; every row rests until it has cooled."""

    temperature_c: float


Event = NonceFound | Ready | Failed | Overheated


@dataclass(frozen=True, slots=True)
class Options:
    """`rows`: 24 or 32; `zero_bits`: leading zero bits of a reported hash, 32 on real units, fewer on scaled
    emulators; `attempts`: resets sent before giving up."""

    mhz: int = DEFAULT_MHZ
    rows: int = 32
    zero_bits: int = 32
    attempts: int = 3

    def __post_init__(self) -> None:
        low, high = MHZ_RANGE
        if not low <= self.mhz <= high:
            raise UserError(f"an Avalon runs at {low} to {high} MHz, not at {self.mhz:g}")
        if not 1 <= self.rows <= 32:
            raise UserError(f"an Avalon has 1 to 32 rows of chips, not {self.rows}")


class AvalonDriver(HeaderDriver[Ready | Overheated]):
    """See the module and HeaderDriver."""

    asks_for_room = True

    def __init__(self, options: Options) -> None:
        super().__init__(options.zero_bits)
        self.options = options
        self.state = State.STOPPED
        self.version: str | None = None
        self.rows: dict[int, int] = {}  #: good nonces by row
        self.temperatures_c: tuple[int, ...] = ()
        self.fans_rpm: tuple[int, ...] = ()
        self.smoothed_c: float | None = None
        self.fan = FAN_FULL
        self._attempt = 0
        self._tasks: OrderedDict[bytes, Issued] = OrderedDict()  # by result key, oldest first
        self._ended_hashes = 0.0  # of tasks that are over
        self._running: list[Issued] = []
        self._sent_in_round = 0
        self._round_began = 0.0
        self._flush_next = False
        self._set_up_next = True
        self._fan_due = 0.0
        self._hot_results = 0  # in a row
        self._unmatched = 0
        self._full_since: float | None = None
        self._line_is_dead = False

    @property
    def hash_rate(self) -> float:
        """Hashes a second that all rows should do; of a scaled unit, its own."""
        options = self.options
        return options.mhz * 1e6 * CHIPS_IN_A_ROW * options.rows / (1 << 32 - options.zero_bits)

    @property
    def round_s(self) -> float:
        """How long a row takes for a task (§2)."""
        return (1 << 32) / CHIPS_IN_A_ROW / (self.options.mhz * 1e6)

    @property
    def hungry(self) -> bool:
        """Whether every work is on its way to a row: time for more, though the rows are still busy."""
        return not self._queue

    @property
    def waiting(self) -> int:
        """Works that no row has been sent yet."""
        return len(self._queue)

    def start(self, now: float) -> None:
        """Reset the controller."""
        self._attempt = 0
        self._reset(now)

    def start_later(self, at: float) -> None:
        """Reset it at that time."""
        self.state = State.RESETTING
        self._attempt = 0
        self._wake = at

    def stop(self) -> None:
        """Every row rests: idle tasks, the queue flushed."""
        if self.state in (State.RUNNING, State.OVERHEATED):
            self._out += self._idle_tasks()
        self.state = State.STOPPED
        self._queue.clear()
        self._tasks.clear()
        self._running.clear()
        self._wake = None

    def set_work(self, works: Iterable[Work], now: float, *, clean: bool = False) -> None:
        """Search these instead of what is still queued; `clean`: a new block, so the rows' tasks are dropped too."""
        starved = not self._queue
        self._queue = deque(works)
        if clean:
            for task in self._tasks.values():
                task.withdrawn = True
            self._end_tasks(now, all_of_them=True)
            self._flush_next = True
            self._sent_in_round = 0
        if self.state is State.RUNNING and clean:
            self._begin_round(now)
        elif self.state is State.RUNNING and starved:
            self._wake = now

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        if self._wake is None or now < self._wake:
            return
        self._wake = None
        if self.state is State.RESETTING:
            self._reset_due(now)
        elif self.state is State.RUNNING:
            self._task_due(now)
        elif self.state is State.OVERHEATED:  # only work brings readings: a round will tell whether it has cooled
            self.state = State.RUNNING
            self._set_up_next = True
            self._begin_round(now)

    def received(self, data: bytes, now: float) -> None:
        """Bytes from the unit."""
        self._buffer += data
        if self.state is State.RESETTING:
            self._take_reset_reply(now)
            return
        while len(self._buffer) >= RESULT_BYTES:
            task = self._tasks.get(bytes(self._buffer[KEY]))
            if task is None:
                del self._buffer[:1]
                self._unmatched += 1
                if self._unmatched > RESULT_BYTES:
                    self.totals[Outcome.WRONG] += 1
                    self._unmatched = 0
                continue
            result = parse_result(bytes(self._buffer[:RESULT_BYTES]))
            del self._buffer[:RESULT_BYTES]
            self._unmatched = 0
            self._take_result(task, result, now)

    def progress(self, now: float) -> float:
        """Hashes done by now, by the clock."""
        self._end_tasks(now)
        return self._ended_hashes + sum(self._share(task, now) for task in self._running)

    # Reset.

    def _reset(self, now: float) -> None:
        self.state = State.RESETTING
        self._attempt += 1
        self._buffer.clear()
        self._running.clear()
        self._set_up_next = True
        self._out.append(reset_frame())
        self._wake = now + _RESET_S

    def _reset_due(self, now: float) -> None:
        if self._attempt < self.options.attempts:
            self._reset(now)
            return
        self.state = State.FAILED
        heard = f"{bytes(self._buffer[:16]).hex()} is no answer of an Avalon" if self._buffer else "nothing answers"
        self._events.append(Failed(f"{heard} to a reset: is the unit powered, and this its port?"))

    def _take_reset_reply(self, now: float) -> None:
        version = parse_reset_reply(bytes(self._buffer))
        if version is None:
            del self._buffer[: -2 * RESULT_BYTES]
            return
        self._buffer.clear()
        self.version = version
        self.state = State.RUNNING
        self._heard_at = now
        self._events.append(Ready(version))
        self._begin_round(now)

    # Tasks.

    def _begin_round(self, now: float) -> None:
        self._round_began = now
        self._sent_in_round = 0
        self._wake = now
        self._task_due(now)

    def _task_due(self, now: float) -> None:
        """Send the next task of the round; at its end wait for the rows."""
        self._end_tasks(now)
        if self._sent_in_round >= self.options.rows:
            if now < self._round_began + self.round_s:
                self._wake = self._round_began + self.round_s
                return
            self._round_began, self._sent_in_round = now, 0
            self._set_up_next = True  # damage on the line may have changed what the controller took over last
            if self._running and now - self._heard_at > _SILENT_ROUNDS * self.round_s:
                self.restarts += 1
                self._attempt = 0
                self._reset(now)
                return
        if not self._queue:
            self._wake = min((task.sent_at + self.round_s for task in self._running), default=None)
            self._heard_at = max(self._heard_at, now) if not self._running else self._heard_at
            return
        if self._is_full(now):
            self._wake = now + _FULL_POLL_S
            return
        self._send_task(self._queue.popleft(), now)

    def _is_full(self, now: float) -> bool:
        """Whether the controller's queue has no room (§1). It empties within a round: a line that says otherwise while
        the rows have nothing to do is not wired."""
        if self.room is not False:
            self._full_since, self._line_is_dead = None, False
        elif self._full_since is None:
            self._full_since = now
        elif not self._running and now - self._full_since >= self.round_s:
            self._line_is_dead = True
        return self.room is False and not self._line_is_dead

    def _send_task(self, work: Work, now: float) -> None:
        settings = Settings(self.options.mhz, self.options.rows, self.fan)
        frame = task_frame(work.header, settings, set_up=self._set_up_next, flush=self._flush_next)
        self._set_up_next = self._flush_next = False
        task = Issued(work, now)
        self._tasks[result_key(frame[12:56])] = task
        while len(self._tasks) > _ROUNDS_KEPT * self.options.rows:
            self._tasks.popitem(last=False)
        self._running.append(task)
        self._sent_in_round += 1
        self._out.append(frame)
        self._wake = now + len(frame) * _BITS_PER_BYTE / BAUD + _TASK_GAP_S

    def _idle_tasks(self) -> list[bytes]:
        settings = Settings(self.options.mhz, self.options.rows, self.fan)
        return [task_frame(bytes(80), settings, flush=row == 0, idle=True) for row in range(self.options.rows)]

    def _share(self, task: Issued, now: float) -> float:
        """Hashes of a task that are done, by the clock."""
        return (1 << self.options.zero_bits) * min(1.0, max(0.0, now - task.sent_at) / self.round_s)

    def _end_tasks(self, now: float, *, all_of_them: bool = False) -> None:
        ended = [task for task in self._running if all_of_them or now >= task.sent_at + self.round_s]
        if ended:
            self._ended_hashes += sum(self._share(task, now) for task in ended)
            self._running = [task for task in self._running if task not in ended]

    # Results.

    def _take_result(self, task: Issued, result: Result, now: float) -> None:
        self._watch_heat(result, now)
        number = self._number_of(task.work, result.nonce.to_bytes(4, "little"))
        if number is None:
            self.totals[Outcome.WRONG] += 1
        elif self._judge(task, result.nonce, number, now):
            self.rows[result.row] = self.rows.get(result.row, 0) + 1

    def _watch_heat(self, result: Result, now: float) -> None:
        self.temperatures_c, self.fans_rpm = result.temperatures_c, result.fans_rpm
        hottest = float(max(result.temperatures_c))
        before = self.smoothed_c
        self.smoothed_c = hottest if before is None else before * (1 - _SMOOTH) + hottest * _SMOOTH
        self._hot_results = self._hot_results + 1 if hottest >= _HOT_C else 0
        if self.state is State.RUNNING and self._hot_results >= _HOT_RESULTS:
            self.state = State.OVERHEATED
            self.fan = FAN_FULL
            self._end_tasks(now, all_of_them=True)
            self._out += self._idle_tasks()
            self._wake = now + _REST_S
            self._events.append(Overheated(hottest))
        elif now >= self._fan_due:
            self._fan_due = now + _FAN_EVERY_S
            self._adjust_fan(self.smoothed_c - _AIM_C)

    def _adjust_fan(self, above_c: float) -> None:
        fan = self.fan
        if abs(above_c) <= _BAND_C:
            return
        step = next(step for limit, step in _FAN_STEPS if abs(above_c) >= limit)
        if above_c > 0:
            fan = min(FAN_FULL, fan + step)
        else:
            fan = max(FAN_LEAST, fan - min(step, 10))
        self._set_up_next |= fan != self.fan
        self.fan = fan
