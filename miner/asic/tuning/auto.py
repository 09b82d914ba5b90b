"""Tunes a running board: takes readings, sets what the search says, keeps the result for the next run.

Called by the thread that pumps the board; nothing here waits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miner.asic.bm13xx.driver import State
from miner.asic.bm13xx.work import Outcome
from miner.asic.board import Board
from miner.asic.boards.power import BoardFault
from miner.asic.tuning.goal import Aim, Goal
from miner.asic.tuning.search import Decision, Limits, Reading, Search, Setting, make_search
from miner.cache import cache_folder, recall, remember

_FEWEST_NONCES = 50  #: of a reading: below that an error rate says nothing
_LONGEST_WINDOWS = 5  #: a slow board is judged by fewer nonces rather than never
_CLOCK_TOLERANCE_MHZ = 5.0
_SURE = 3.0  #: standard deviations below what the clock should give before that is believed


def tuning_file() -> Path:
    """Where results are kept."""
    return cache_folder() / "asic-tuning.json"


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """`window_s`: how long a reading takes, after `settle_s` for clock and heat; `error_rate`: share of wrong nonces
    that is still good; `fresh`: search even where an earlier result is kept."""

    goal: Goal
    window_s: float = 60.0
    settle_s: float = 10.0
    error_rate: float = 0.02
    fresh: bool = False


@dataclass(slots=True)
class _Baseline:
    at: float
    good: int
    wrong: int
    work: int
    restarts: int
    watts: float = 0.0
    watt_readings: int = 0
    throttled: bool = False


class BoardTuner:
    """See the module. `say`: one line for each decision."""

    def __init__(
        self,
        board: Board,
        options: TuneOptions,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        store: Path | None = None,
    ) -> None:
        self.board = board
        self.options = options
        self.last: Decision | None = None
        self.impossible: str | None = None  #: why there is nothing to tune
        self._say = say
        self._clock = clock
        self._store = store if store is not None else tuning_file()
        self._search: Search | None = None
        self._from: float | None = None  # when the reading begins
        self._base: _Baseline | None = None

    def step(self) -> Decision | None:
        """Do what is due. The decision, when one has been taken just now."""
        board, driver, now = self.board, self.board.driver, self._clock()
        if self.impossible is not None:
            return None
        if not board.connected or driver.state is not State.RUNNING or driver.model is None:
            self._from = self._base = None
            return None
        if self._search is None:
            self._begin()
            return None
        if self._from is None:
            self._from = now + self.options.settle_s
        if now < self._from:
            return None
        if self._base is None or self._base.restarts != driver.restarts:
            self._base = self._baseline(now)
            return None
        reading = self._reading(self._base, now)
        if reading is None:
            return None
        return self._decide(reading)

    @property
    def key(self) -> str:
        """What a board's result is kept under: its USB serial number, else its port."""
        return self.board.identity

    def _begin(self) -> None:
        board, options = self.board, self.options
        clocks, voltages = board.clock_limits_mhz, board.voltage_limits_mv
        if clocks is None:
            return
        low_mv, high_mv = voltages if voltages is not None else (None, None)
        limits = Limits(*clocks, low_mv, high_mv, error_rate=options.error_rate)
        if options.goal.aim in (Aim.WATTS, Aim.EFFICIENCY) and self._watts() is None:
            self._give_up("its watts are not measured: tune for a hash rate or for max")
            return
        start = Setting(board.driver.wanted_mhz, self._volts_mv())
        kept = None if options.fresh else self._kept(limits, start.mv)
        start, settled = kept or start, kept is not None
        try:
            self._search = make_search(options.goal, limits, start, settled=settled)
        except ValueError as error:
            self._give_up(str(error))
            return
        self._apply(self._search.setting)
        where = f"kept from before: {_written(self._search.setting)}" if settled else _written(self._search.setting)
        self._say(f"{board.path}: tuning for {options.goal}, {where}")

    def _kept(self, limits: Limits, usual_mv: float | None) -> Setting | None:
        """What an earlier run has kept for this board and goal; None where that is nothing, or nothing that this board
        can be set to: anybody may have written the file."""
        kept = recall(self._store).get(self.key)
        if not isinstance(kept, dict) or kept.get("goal") != str(self.options.goal):
            return None
        mhz: Any = kept.get("mhz")
        mv: Any = kept.get("mv")
        if limits.low_mv is None or limits.high_mv is None or mv is None:
            mv = usual_mv
        elif not _is_between(mv, limits.low_mv, limits.high_mv):
            return None
        return Setting(float(mhz), mv) if _is_between(mhz, limits.low_mhz, limits.high_mhz) else None

    def _give_up(self, why: str) -> None:
        self.impossible = why
        self._say(f"{self.board.path}: not tuned: {why}")

    def _decide(self, reading: Reading) -> Decision:
        if self._search is None:
            raise RuntimeError("a reading without a search")
        before, was_settled = self._search.setting, self.last is not None and self.last.settled
        decision = self._search.take(reading)
        changed = decision.setting != before
        if changed:
            self._apply(decision.setting)
        if decision.settled and (changed or not was_settled):
            self._keep(decision, reading)
        if changed or not was_settled:
            outcome = "settled at" if decision.settled else "next"
            self._say(f"{self.board.path}: {decision.reason}; {outcome} {_written(decision.setting)}")
        self.last = decision
        self._base = None
        self._from = self._clock() + (self.options.settle_s if changed else 0.0)
        return decision

    def _apply(self, setting: Setting) -> None:
        """More voltage before more clock, less clock before less voltage."""
        board = self.board
        rising = setting.mhz >= board.driver.wanted_mhz
        if not rising:
            board.set_clock(setting.mhz)
        if setting.mv is not None and board.voltage_limits_mv is not None:
            try:
                board.set_voltage(setting.mv)
            except BoardFault as error:
                self._give_up(str(error))
                return
        if rising:
            board.set_clock(setting.mhz)

    def _keep(self, decision: Decision, reading: Reading) -> None:
        failure = remember(
            self._store,
            self.key,
            {
                "goal": str(self.options.goal),
                "mhz": decision.setting.mhz,
                "mv": decision.setting.mv,
                "reached": decision.reached,
                "hash_rate": reading.hash_rate,
                "error_rate": reading.error_rate,
                "watts": reading.watts,
                "tuned_at": int(time.time()),
            },
        )
        if failure is not None:
            self._say(f"{self.board.path}: this is not kept for the next run: {failure}")

    def _baseline(self, now: float) -> _Baseline:
        driver = self.board.driver
        good, wrong = driver.totals[Outcome.GOOD], driver.totals[Outcome.WRONG]
        return _Baseline(now, good, wrong, driver.work_done, driver.restarts)

    def _reading(self, base: _Baseline, now: float) -> Reading | None:
        """What has been measured since; None while that is too little to tell."""
        driver, options = self.board.driver, self.options
        watts = self._watts()
        if watts is not None:
            base.watts += watts
            base.watt_readings += 1
        base.throttled |= driver.target_mhz < driver.wanted_mhz - _CLOCK_TOLERANCE_MHZ
        elapsed = now - base.at
        good, wrong = driver.totals[Outcome.GOOD] - base.good, driver.totals[Outcome.WRONG] - base.wrong
        if elapsed < options.window_s:
            return None
        if good + wrong < _FEWEST_NONCES and elapsed < _LONGEST_WINDOWS * options.window_s:
            return None
        mean_watts = base.watts / base.watt_readings if base.watt_readings else None
        error_rate = wrong / (good + wrong) if good + wrong else 0.0
        return Reading(self._hash_rate(base, good, elapsed, error_rate), error_rate, mean_watts, base.throttled)

    def _hash_rate(self, base: _Baseline, good: int, elapsed: float, error_rate: float) -> float:
        """By the clock, less the errors; by the nonces where they are surely fewer than the clock should give."""
        driver = self.board.driver
        if driver.model is None:
            return 0.0
        by_clock = driver.chips * driver.model.nominal_hash_rate(driver.frequency_mhz) * (1 - error_rate)
        by_nonces = (driver.work_done - base.work) * float(1 << 32) / elapsed
        if good == 0:
            return 0.0
        return by_nonces if by_nonces < by_clock * (1 - _SURE / math.sqrt(good)) else by_clock

    def _watts(self) -> float | None:
        return self.board.power.sensors().watts if self.board.power is not None else None

    def _volts_mv(self) -> float | None:
        profile = self.board.profile
        if self.board.voltage_limits_mv is None or profile is None or profile.model is None:
            return None
        return profile.chip_volts() * 1000


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def _written(setting: Setting) -> str:
    return f"{setting.mhz:g} MHz" + (f", {setting.mv:g} mV" if setting.mv is not None else "")
