"""The search for a clock (and voltage), without I/O: a reading goes in, the next setting comes out.

What speaks against a clock grows with it: errors, heat, watts. So the highest good and the lowest bad clock are brought
together by halving; afterwards every reading is still looked at, and a board that has become worse is slowed down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from miner.asic.tuning.goal import Aim, Goal

_LONG_STEPS = 4  #: steps at a time while only one side is known
_VOLTAGE_STEP_MV = 10.0
_CLOCK_STEPS_PER_VOLTAGE = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be set: clocks in MHz, voltages of a chip in mV (None: they cannot be set); `error_rate`: share of wrong
    nonces that is still good."""

    low_mhz: float
    high_mhz: float
    low_mv: float | None = None
    high_mv: float | None = None
    step_mhz: float = 6.25
    error_rate: float = 0.02


@dataclass(frozen=True, slots=True)
class Reading:
    """What a board did at one setting: hashes a second, share of wrong nonces, watts where they are measured, whether
    heat held the clock down."""

    hash_rate: float
    error_rate: float
    watts: float | None = None
    throttled: bool = False

    @property
    def joules_per_th(self) -> float | None:
        """Energy for 10^12 hashes."""
        return self.watts / (self.hash_rate / 1e12) if self.watts is not None and self.hash_rate > 0 else None


@dataclass(frozen=True, slots=True)
class Setting:
    """A clock and a voltage; `mv` None where that cannot be set."""

    mhz: float
    mv: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to run next and why. `settled`: this is the result; `reached`: it does what was asked for."""

    setting: Setting
    settled: bool
    reached: bool
    reason: str


class Search(Protocol):
    """One search."""

    @property
    def setting(self) -> Setting:
        """To be run now."""

    def take(self, reading: Reading) -> Decision:
        """What the board did at `setting`; what to run next."""


def make_search(goal: Goal, limits: Limits, start: Setting, *, settled: bool = False) -> Search:
    """A search that begins at `start`, or with `settled` has ended there before. ValueError where the goal needs what
    the board cannot do: a voltage to set."""
    if goal.aim is Aim.EFFICIENCY:
        return EfficiencySearch(goal, limits, start, settled=settled)
    return ClockSearch(goal, limits, start, settled=settled)


class ClockSearch:
    """For every aim that the clock alone decides."""

    def __init__(self, goal: Goal, limits: Limits, start: Setting, *, settled: bool = False) -> None:
        self._goal = goal
        self._limits = limits
        self._mv = start.mv
        self._mhz = min(max(start.mhz, limits.low_mhz), limits.high_mhz)
        self._good: float | None = None  # highest clock known to be good
        self._bad: float | None = None  # lowest clock known to be too much
        self._enough: float | None = None  # lowest clock known to reach a hash rate, in good health
        self._settled = settled

    @property
    def setting(self) -> Setting:
        return Setting(self._mhz, self._mv)

    def take(self, reading: Reading) -> Decision:
        ill = _illness(reading, self._limits)
        if self._settled:
            return self._watch(ill)
        objection = ill or self._objection(reading)
        mhz = self._mhz
        if objection is None:
            self._good = mhz if self._good is None else max(self._good, mhz)
        else:
            self._bad = mhz if self._bad is None else min(self._bad, mhz)
            if ill is None and self._goal.aim is Aim.HASH_RATE:
                self._enough = mhz if self._enough is None else min(self._enough, mhz)
        following = self._next()
        why = objection or self._praise(reading)
        if following is None:
            return self._settle(why)
        self._mhz = following
        return Decision(self.setting, False, False, f"{mhz:g} MHz: {why}")

    def _objection(self, reading: Reading) -> str | None:
        """Why a healthy clock is as high as it needs to be, or higher; None: it may rise."""
        goal = self._goal
        if goal.aim is Aim.HASH_RATE and reading.hash_rate >= goal.value:
            return f"{reading.hash_rate / 1e12:.4g} TH/s is enough"
        if goal.aim is Aim.WATTS and reading.watts is not None and reading.watts > goal.value:
            return f"{reading.watts:.1f} W is more than {goal.value:g}"
        return None

    def _praise(self, reading: Reading) -> str:
        watts = f", {reading.watts:.1f} W" if reading.watts is not None else ""
        return f"{reading.hash_rate / 1e12:.4g} TH/s, {reading.error_rate * 100:.1f} % errors{watts}"

    def _next(self) -> float | None:
        """The next clock to try; None: the search is over."""
        limits, good, bad = self._limits, self._good, self._bad
        if bad is None and good is not None:
            return None if good >= limits.high_mhz else min(limits.high_mhz, good + _LONG_STEPS * limits.step_mhz)
        if good is None and bad is not None:
            return None if bad <= limits.low_mhz else max(limits.low_mhz, bad - _LONG_STEPS * limits.step_mhz)
        if good is None or bad is None or bad - good <= limits.step_mhz * 1.01:
            return None
        return good + max(1, math.floor((bad - good) / limits.step_mhz / 2)) * limits.step_mhz

    def _settle(self, why: str) -> Decision:
        self._settled = True
        chosen, reached = self._good, self._good is not None
        if self._goal.aim is Aim.HASH_RATE:
            chosen, reached = (self._enough, True) if self._enough is not None else (self._good, False)
        if chosen is None:
            chosen, reached = self._limits.low_mhz, False
        self._mhz = chosen
        return Decision(self.setting, True, reached, why if reached else f"not within reach: {why}")

    def _watch(self, ill: str | None) -> Decision:
        if ill is None:
            return Decision(self.setting, True, True, "as it was")
        self._mhz = max(self._limits.low_mhz, self._mhz - self._limits.step_mhz)
        return Decision(self.setting, True, False, f"slowed down: {ill}")


class EfficiencySearch:
    """Voltage down while there is too much energy in a hash; clock down where the voltage is too low for it."""

    def __init__(self, goal: Goal, limits: Limits, start: Setting, *, settled: bool = False) -> None:
        if limits.low_mv is None or limits.high_mv is None or start.mv is None:
            raise ValueError("joules a terahash depend on the voltage, and this board's cannot be set")
        self._goal = goal
        self._limits = limits
        self._low_mv = limits.low_mv
        self._mv = min(max(start.mv, limits.low_mv), limits.high_mv)
        self._mhz = min(max(start.mhz, limits.low_mhz), limits.high_mhz)
        self._settled = settled

    @property
    def setting(self) -> Setting:
        return Setting(self._mhz, self._mv)

    def take(self, reading: Reading) -> Decision:
        limits, was = self._limits, f"{self._mhz:g} MHz at {self._mv:g} mV"
        energy = reading.joules_per_th
        ill = _illness(reading, limits)
        if ill is not None:
            if self._mhz <= limits.low_mhz:
                return self._settle(False, f"{was}: {ill}")
            self._mhz = max(limits.low_mhz, self._mhz - _CLOCK_STEPS_PER_VOLTAGE * limits.step_mhz)
            return Decision(self.setting, self._settled, False, f"{was}: {ill}")
        if energy is None:
            return self._settle(False, "the board does not say how many watts it takes")
        text = f"{was}: {energy:.2f} J/TH, {reading.error_rate * 100:.1f} % errors"
        if energy <= self._goal.value or self._settled:
            return self._settle(energy <= self._goal.value, text)
        if self._mv <= self._low_mv:
            return self._settle(False, text)
        self._mv = max(self._low_mv, self._mv - _VOLTAGE_STEP_MV)
        return Decision(self.setting, False, False, text)

    def _settle(self, reached: bool, why: str) -> Decision:
        self._settled = True
        return Decision(self.setting, True, reached, why if reached else f"not within reach: {why}")


def _illness(reading: Reading, limits: Limits) -> str | None:
    if reading.throttled:
        return "heat holds the clock down"
    if reading.error_rate > limits.error_rate:
        return f"{reading.error_rate * 100:.1f} % of the nonces are wrong"
    if reading.hash_rate <= 0:
        return "nothing comes"
    return None
