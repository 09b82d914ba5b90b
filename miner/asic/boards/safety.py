"""What may go on with a board, decided from its sensors: fan speed, clock, or off. Without I/O; time is passed in.

Thresholds are those that makers and other hosts use (REFERENCE.md §10).
"""

from __future__ import annotations

from dataclasses import dataclass, field

_PLAUSIBLE_C = (-20.0, 120.0)
_REGULATOR_C = (-40.0, 175.0)  #: what a regulator that works can be at
_LEAST_AMPS = -5.0  #: offset of its measurement
_FAR_ABOVE_C = 15.0  #: over the cut-off, a single reading is enough
_FULL = 100.0
_SAME_S = 300.0  #: of exactly the same temperature before it is put to the test: sensors that live are never so still
_TEST_S = 60.0  #: of full air, which any chip feels
_MUCH_AIR = 70.0  #: percent; a fan that runs like this already has nothing to add for a test
_WORKING_WATTS = 3.0  #: of the core: with less, air makes no difference
_FILTER = 0.2  #: weight of the newest reading in the fan's input, at _FILTER_PERIOD_S
_FILTER_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyLimits:
    """Degrees, percent, seconds. `strikes`: bad rounds in a row that switch the board off; `amps`, `watts`,
    `volts`: of the core supply, None: not judged; `tachometer`: whether the fan says how fast it turns."""

    chip_throttle_c: float = 72.0
    chip_resume_c: float = 67.0
    chip_cut_off_c: float = 80.0
    regulator_throttle_c: float = 95.0
    regulator_cut_off_c: float = 105.0
    watts: float = 40.0
    amps: float = 25.0
    volts: float | None = None
    fan_minimum: float = 25.0
    fan_target_c: float = 60.0
    tachometer: bool = True
    spin_up_s: float = 5.0
    strikes: int = 3
    step_mhz: float = 25.0
    step_down_s: float = 4.0
    step_up_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """One round of the sensors. None: the sensor did not answer, or the board has none (see `SafetyPolicy`).
    `chip_c`: the hottest; `faults`: of the regulator, in words; each one means off."""

    chip_c: float | None = None
    regulator_c: float | None = None
    volts: float | None = None
    amps: float | None = None
    fan_rpm: int | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault`: why the board has to go off, None to go on."""

    fan_percent: float
    allowed_mhz: float
    fault: str | None


class StillSensor:
    """Puts a sensor that has said the same for long to the test: full air must change what it says."""

    def __init__(self) -> None:
        self._said: float | None = None
        self._since = 0.0
        self._tested_at: float | None = None

    def air(self, temperature_c: float | None, now: float, fan_percent: float) -> tuple[float, str | None]:
        """The fan speed to set when `fan_percent` is wanted, and what is wrong with the sensor; None for the
        temperature: nothing to judge this time."""
        if temperature_c is None or temperature_c != self._said:
            self._said, self._since, self._tested_at = temperature_c, now, None
            return fan_percent, None
        if self._tested_at is None:
            if now - self._since < _SAME_S or fan_percent >= _MUCH_AIR:
                return fan_percent, None
            self._tested_at = now
        if now - self._tested_at < _TEST_S:
            return _FULL, None
        return _FULL, (
            f"the temperature sensor has said {temperature_c:g} °C for {now - self._since:.0f} s, whatever the fan"
            " does: it is stuck"
        )


class FanCurve:
    """PID on the hottest temperature, in percent of full speed."""

    P, I, D = 5.0, 0.1, 2.0  # noqa: E741  # as ESP-Miner has them

    def __init__(self, target_c: float, minimum: float) -> None:
        self._target_c = target_c
        self._minimum = minimum
        self._integral = 0.0
        self._filtered: float | None = None
        self._last: tuple[float, float] | None = None

    def percent(self, temperature_c: float | None, now: float) -> float:
        """Fan speed for this temperature; full speed when there is none."""
        if temperature_c is None:
            self._last = None
            return _FULL
        elapsed = 0.0 if self._last is None else max(0.0, now - self._last[1])
        before = self._filtered
        weight = 1.0 if before is None else 1 - (1 - _FILTER) ** (elapsed / _FILTER_PERIOD_S)
        filtered = temperature_c if before is None else before + weight * (temperature_c - before)
        self._filtered = filtered
        error = filtered - self._target_c
        slope = (filtered - before) / elapsed if before is not None and elapsed > 0 else 0.0
        self._integral = min(max(self._integral + self.I * error * elapsed, 0.0), _FULL)
        self._last = filtered, now
        return min(max(self.P * error + self._integral + self.D * slope, self._minimum), _FULL)


@dataclass(slots=True)
class SafetyPolicy:
    """The judge of one board. `target_mhz`: the clock wanted; `floor_mhz`: the lowest that throttling goes to;
    `has_fan`, `has_regulator`, `has_thermometer`: whose silence is a fault."""

    limits: SafetyLimits
    target_mhz: float
    floor_mhz: float
    has_fan: bool = True
    has_regulator: bool = True
    has_thermometer: bool = True
    _allowed: float = field(init=False)
    _strikes: dict[str, int] = field(default_factory=dict)
    _stepped_at: float | None = None
    _turning_at: float | None = None
    _deaf_until: float = float("-inf")
    _curve: FanCurve = field(init=False)
    _still: StillSensor = field(default_factory=StillSensor)

    def __post_init__(self) -> None:
        self._allowed = self.target_mhz
        self._curve = FanCurve(self.limits.fan_target_c, self.limits.fan_minimum)

    def ignore_chip_until(self, when: float) -> None:
        """The chips are in reset: their diode means nothing until then."""
        self._deaf_until = when

    def aim_at(self, target_mhz: float) -> None:
        """Another clock is wanted; what throttling has taken away stays away."""
        self._allowed = target_mhz if self._allowed >= self.target_mhz else min(self._allowed, target_mhz)
        self.target_mhz = target_mhz

    @property
    def throttled(self) -> bool:
        """Whether the clock is held below the target."""
        return self._allowed < self.target_mhz

    def take(self, readings: Readings, now: float) -> Verdict:
        """A round of readings."""
        if readings.faults:
            return Verdict(_FULL, 0.0, "; ".join(readings.faults))
        chip_c = readings.chip_c
        if chip_c is not None and not _PLAUSIBLE_C[0] <= chip_c <= _PLAUSIBLE_C[1]:
            chip_c = None
        deaf = now < self._deaf_until
        bad = self._complaints(readings, chip_c, deaf, now)
        self._strikes = {text: self._strikes.get(text, 0) + 1 for text in bad}
        fault = next((bad[kind] for kind, count in self._strikes.items() if count >= self.limits.strikes), None)
        if chip_c is not None and not deaf and chip_c >= self.limits.chip_cut_off_c + _FAR_ABOVE_C:
            fault = f"a chip is at {chip_c:.0f} °C"
        hottest = None if bad or (self.has_thermometer and chip_c is None) else self._for_fan(chip_c, readings)
        fan_percent = self._curve.percent(hottest, now)
        if self.has_fan and not fault:
            working = (readings.volts or 0.0) * (readings.amps or 0.0) >= _WORKING_WATTS
            fan_percent, fault = self._still.air(chip_c if working and not deaf else None, now, fan_percent)
        if not fault:
            self._throttle(chip_c if not deaf else None, readings.regulator_c, now)
        return Verdict(fan_percent, 0.0 if fault else self._allowed, fault)

    def _for_fan(self, chip_c: float | None, readings: Readings) -> float | None:
        """The regulator may be as much hotter than the chips as its cut-off is above theirs."""
        limits = self.limits
        temperatures = [chip_c] if chip_c is not None else []
        if readings.regulator_c is not None:
            temperatures.append(readings.regulator_c - (limits.regulator_cut_off_c - limits.chip_cut_off_c))
        return max(temperatures, default=None)

    def _complaints(self, readings: Readings, chip_c: float | None, deaf: bool, now: float) -> dict[str, str]:
        """What is bad this time, by what it is about: complaints of one thing may take turns and still be in a row."""
        limits, bad = self.limits, {}
        if self.has_thermometer and not deaf:
            if chip_c is None:
                said = readings.chip_c
                bad["chip"] = (
                    "the temperature sensor is silent or wrong"
                    if said is None
                    else f"the temperature sensor says {said:.0f} °C: it is wrong, or the chips are lost"
                )
            elif chip_c >= limits.chip_cut_off_c:
                bad["chip"] = f"a chip is at {chip_c:.0f} °C"
        if self.has_regulator:
            complaint = self._regulator_complaint(readings)
            if complaint is not None:
                bad["regulator"] = complaint
        if self.has_fan and limits.tachometer:
            if readings.fan_rpm or self._turning_at is None:
                self._turning_at = now
            elif now - self._turning_at > limits.spin_up_s:
                bad["fan"] = "the fan stands still" if readings.fan_rpm == 0 else "the fan controller is silent"
        return bad

    def _regulator_complaint(self, readings: Readings) -> str | None:
        limits = self.limits
        if readings.regulator_c is None or readings.amps is None or readings.volts is None:
            return "the regulator is silent"
        if not _REGULATOR_C[0] <= readings.regulator_c <= _REGULATOR_C[1] or readings.amps < _LEAST_AMPS:
            return f"what the regulator measures makes no sense ({readings.regulator_c:.0f} °C, {readings.amps:.1f} A)"
        if limits.volts is not None and readings.volts > limits.volts:
            return f"the core is at {readings.volts:.2f} V, more than {limits.volts:.2f}"
        if readings.regulator_c >= limits.regulator_cut_off_c:
            return f"the regulator is at {readings.regulator_c:.0f} °C"
        if readings.amps > limits.amps:
            return f"the core draws {readings.amps:.1f} A, more than {limits.amps:g}"
        watts = readings.amps * readings.volts
        return f"the core takes {watts:.1f} W, more than {limits.watts:g}" if watts > limits.watts else None

    def _throttle(self, chip_c: float | None, regulator_c: float | None, now: float) -> None:
        limits = self.limits
        if self._stepped_at is None:
            self._stepped_at = now
        since = now - self._stepped_at
        hot = (chip_c is not None and chip_c >= limits.chip_throttle_c) or (
            regulator_c is not None and regulator_c >= limits.regulator_throttle_c
        )
        cool = (chip_c is None or chip_c <= limits.chip_resume_c) and (
            regulator_c is None or regulator_c <= limits.regulator_throttle_c - 5
        )
        if hot and self._allowed > self.floor_mhz and (since >= limits.step_down_s or not self.throttled):
            self._allowed = max(self.floor_mhz, self._allowed - limits.step_mhz)
            self._stepped_at = now
        elif cool and self.throttled and since >= limits.step_up_s:
            self._allowed = min(self.target_mhz, self._allowed + limits.step_mhz)
            self._stepped_at = now
