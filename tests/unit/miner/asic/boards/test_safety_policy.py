"""The judge of a board: throttling, cut-off, silence, fan curve, in simulated time."""

from __future__ import annotations

import pytest

from miner.asic.boards.safety import FanCurve, Readings, SafetyLimits, SafetyPolicy, Verdict

GOOD = {"chip_c": 58.0, "regulator_c": 60.0, "volts": 1.15, "amps": 15.0, "fan_rpm": 3000}


def policy(**limits: float) -> SafetyPolicy:
    return SafetyPolicy(SafetyLimits(**limits), 525.0, 200.0)  # type: ignore[arg-type]


def feed(judge: SafetyPolicy, seconds: float, start: float = 0.0, **readings: object) -> Verdict:
    """The same readings twice a second for so long, the last verdict; ends early at a fault."""
    now, verdict = start, Verdict(0.0, 0.0, None)
    while now <= start + seconds:
        verdict = judge.take(Readings(**{**GOOD, **readings}), now)  # type: ignore[arg-type]
        if verdict.fault is not None:
            break
        now += 0.5
    return verdict


def test_all_well() -> None:
    verdict = feed(policy(), 60)
    assert (verdict.fault, verdict.allowed_mhz) == (None, 525.0)
    assert verdict.fan_percent == 25.0, "below the target the fan rests at its minimum"


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ({"chip_c": 80.0}, "a chip is at 80 °C"),
        ({"chip_c": 300.0}, "temperature sensor says 300 °C: it is wrong, or the chips are lost"),
        ({"chip_c": None}, "temperature sensor is silent or wrong"),
        ({"regulator_c": None}, "the regulator is silent"),
        ({"regulator_c": 106.0}, "the regulator is at 106"),
        ({"amps": 26.0}, "draws 26.0 A, more than 25"),
        ({"amps": 24.0, "volts": 1.8}, "takes 43.2 W, more than 40"),
        ({"regulator_c": -200.0}, "what the regulator measures makes no sense (-200 °C, 15.0 A)"),
        ({"regulator_c": 400.0}, "the regulator"),
        ({"amps": -300.0}, "makes no sense (60 °C, -300.0 A)"),
        ({"amps": 1.0, "volts": 3.3}, "the core is at 3.30 V, more than 1.40"),
    ],
)
def test_three_bad_rounds_in_a_row_switch_off(readings: dict[str, object], words: str) -> None:
    judge = policy(volts=1.4) if readings.get("volts") == 3.3 else policy()
    feed(judge, 10)
    for now in (20.0, 20.5):
        verdict = judge.take(Readings(**{**GOOD, **readings}), now)  # type: ignore[arg-type]
        assert verdict.fault is None
        assert verdict.fan_percent == 100.0, "anything bad is answered with all the air there is"
    assert judge.take(Readings(**GOOD), 21.0).fault is None, "and forgotten when it passes"  # type: ignore[arg-type]
    verdict = feed(judge, 5, 22.0, **readings)
    assert verdict.fault is not None
    assert words in verdict.fault
    assert (verdict.allowed_mhz, verdict.fan_percent) == (0.0, 100.0)


@pytest.mark.parametrize(
    "turns",
    [
        [{"chip_c": 85.0}, {"chip_c": None}, {"chip_c": 200.0}],
        [{"regulator_c": None}, {"amps": 26.0}, {"amps": 24.0, "volts": 1.8}, {"regulator_c": 106.0}],
    ],
)
def test_complaints_that_take_turns_are_in_a_row_too(turns: list[dict[str, object]]) -> None:
    """A loose diode on a hot chip is hot in one round and silent in the next."""
    judge = policy()
    feed(judge, 10)
    verdicts = [
        judge.take(Readings(**{**GOOD, **turns[round_ % len(turns)]}), 20.0 + round_ / 2)  # type: ignore[arg-type]
        for round_ in range(3)
    ]
    assert [verdict.fault is None for verdict in verdicts] == [True, True, False]


def test_far_too_hot_and_faults_of_the_regulator_wait_for_nothing() -> None:
    assert policy().take(Readings(**{**GOOD, "chip_c": 96.0}), 0.0).fault == "a chip is at 96 °C"  # type: ignore[arg-type]
    verdict = policy().take(Readings(**{**GOOD, "faults": ("output over-current", "x")}), 0.0)  # type: ignore[arg-type]
    assert verdict.fault == "output over-current; x"


def test_a_sensor_stuck_at_a_cool_value_is_found_out() -> None:
    """It would let the fan rest while the chip burns."""
    judge = policy()
    verdict = feed(judge, 299)
    assert (verdict.fault, verdict.fan_percent) == (None, 25.0)
    assert feed(judge, 50, 299.5).fan_percent == 100.0, "so still is no sensor: does it feel the air?"
    verdict = feed(judge, 30, 350.0)
    assert verdict.fault is not None
    assert "has said 58 °C for 360 s, whatever the fan does: it is stuck" in verdict.fault
    assert verdict.allowed_mhz == 0.0


def test_a_sensor_that_feels_the_air_is_left_in_peace() -> None:
    judge = policy()
    feed(judge, 310)
    assert feed(judge, 0, 310.5, chip_c=57.875).fan_percent == 25.0
    assert feed(judge, 250, 311.0).fault is None
    assert feed(policy(), 1000, chip_c=71.0).fault is None, "the fan does what it can as it is: no verdict"
    assert feed(policy(), 1000, amps=0.5).fault is None, "without work no air cools"


def test_a_standing_fan_switches_off_after_its_time() -> None:
    judge = policy()
    assert feed(judge, 10).fault is None
    assert feed(judge, 4.5, 10.5, fan_rpm=0).fault is None
    verdict = feed(judge, 3, 15.5, fan_rpm=0)
    assert verdict.fault == "the fan stands still"
    assert feed(policy(tachometer=False), 60, fan_rpm=0).fault is None


def test_throttling_goes_down_in_steps_and_comes_back_with_hysteresis() -> None:
    judge = policy()
    assert feed(judge, 0, 0.0, chip_c=73.0).allowed_mhz == 500.0, "at once"
    assert feed(judge, 3.5, 0.5, chip_c=73.0).allowed_mhz == 475.0, "every four seconds"
    assert judge.throttled
    now = 10.0
    assert feed(judge, 60, now, chip_c=70.0).allowed_mhz == 475.0, "between the thresholds nothing moves"
    assert feed(judge, 200, 100.0, chip_c=66.0).allowed_mhz == 525.0, "cool: back step by step"
    assert not judge.throttled
    assert feed(judge, 500, 400.0, chip_c=75.0).allowed_mhz == 200.0, "never below the floor"


def test_a_hot_regulator_throttles_too() -> None:
    assert feed(policy(), 20, regulator_c=97.0).allowed_mhz < 525.0


def test_after_a_reset_the_diode_is_not_believed() -> None:
    judge = policy()
    judge.ignore_chip_until(5.0)
    assert feed(judge, 4.5, chip_c=None).fault is None
    assert feed(judge, 10, 5.0, chip_c=None).fault is not None


def test_a_new_target_does_not_undo_throttling() -> None:
    judge = policy()
    feed(judge, 8, chip_c=74.0)
    held = judge.take(Readings(**GOOD), 9.0).allowed_mhz  # type: ignore[arg-type]
    judge.aim_at(600.0)
    assert judge.take(Readings(**GOOD), 9.5).allowed_mhz == held < 525.0  # type: ignore[arg-type]
    cool = policy()
    cool.aim_at(600.0)
    assert cool.take(Readings(**GOOD), 0.0).allowed_mhz == 600.0  # type: ignore[arg-type]


def test_the_fan_curve_holds_its_target() -> None:
    """Against a body that warms and cools, it settles near the target, never leaves its range, and roars at silence."""
    curve, temperature, now = FanCurve(60.0, 25.0), 25.0, 0.0
    speeds = []
    while now < 900:
        percent = curve.percent(temperature, now)
        assert 25.0 <= percent <= 100.0
        speeds.append(percent)
        steady = 25.0 + 45.0 / (0.2 + 1.6 * percent / 100)
        temperature += (steady - temperature) * 0.5 / 8.0
        now += 0.5
    assert temperature == pytest.approx(60.0, abs=2.0)
    assert max(speeds[-100:]) - min(speeds[-100:]) < 5.0, "no hunting"
    assert curve.percent(None, now) == 100.0
