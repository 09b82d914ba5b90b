"""The search for a clock against boards made of formulas."""

from __future__ import annotations

import random

import pytest

from chain.primitives.errors import UserError
from miner.asic.tuning.goal import Aim, Goal, parse_goal
from miner.asic.tuning.search import Decision, Limits, Reading, Search, Setting, make_search

LIMITS = Limits(350, 625, 1000, 1250)
START = Setting(525, 1150)
HASHES_PER_MHZ = 2040e6


class FormulaBoard:
    """Errors above what its voltage carries; power by clock and voltage squared."""

    def __init__(self, rng: random.Random | None = None, stable_at_1150: float = 560.0) -> None:
        self.rng = rng
        self.stable_at_1150 = stable_at_1150
        self.hot_above = float("inf")

    def stable_mhz(self, mv: float) -> float:
        return self.stable_at_1150 + (mv - 1150) * 0.8

    def watts(self, setting: Setting) -> float:
        return 2.0 + setting.mhz * ((setting.mv or 1150) / 1000) ** 2 * 0.022

    def read(self, setting: Setting) -> Reading:
        excess = setting.mhz - self.stable_mhz(setting.mv or 1150)
        errors = 0.004 + max(0.0, excess) * 0.004
        noise = self.rng.gauss(1, 0.005) if self.rng is not None else 1.0
        rate = setting.mhz * HASHES_PER_MHZ * (1 - min(errors, 1.0)) * noise
        return Reading(rate, errors, self.watts(setting), throttled=setting.mhz > self.hot_above)


def settle(search: Search, board: FormulaBoard, most: int = 60) -> tuple[Decision, int]:
    for readings in range(1, most + 1):
        decision = search.take(board.read(search.setting))
        assert LIMITS.low_mhz <= search.setting.mhz <= LIMITS.high_mhz
        assert decision.setting == search.setting
        if decision.settled:
            return decision, readings
    raise AssertionError("never settled")


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("max", Goal(Aim.MOST)),
        ("1.1TH/s", Goal(Aim.HASH_RATE, 1.1e12)),
        ("900 GH", Goal(Aim.HASH_RATE, 9e11)),
        ("15W", Goal(Aim.WATTS, 15)),
        ("16.5J/TH", Goal(Aim.EFFICIENCY, 16.5)),
    ],
)
def test_goals_are_read_and_written(text: str, goal: Goal) -> None:
    assert parse_goal(text) == goal
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize("text", ["", "fast", "0W", "-3W", "1.2.3TH/s", "15 volts", "TH/s"])
def test_what_is_no_goal_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="nothing to tune for"):
        parse_goal(text)


def test_the_most_is_the_highest_clock_within_the_error_limit() -> None:
    board = FormulaBoard()
    decision, readings = settle(make_search(Goal(Aim.MOST), LIMITS, START), board)
    assert decision.reached
    assert board.read(decision.setting).error_rate <= LIMITS.error_rate
    assert board.read(Setting(decision.setting.mhz + LIMITS.step_mhz, 1150)).error_rate > LIMITS.error_rate
    assert readings <= 8


def test_a_board_that_takes_everything_ends_at_its_limit() -> None:
    decision, _ = settle(make_search(Goal(Aim.MOST), LIMITS, START), FormulaBoard(stable_at_1150=900))
    assert decision.setting.mhz == LIMITS.high_mhz


def test_a_sick_board_ends_at_the_lowest_clock_and_says_so() -> None:
    decision, _ = settle(make_search(Goal(Aim.MOST), LIMITS, START), FormulaBoard(stable_at_1150=200))
    assert decision.setting.mhz == LIMITS.low_mhz
    assert not decision.reached
    assert decision.reason.startswith("not within reach")


@pytest.mark.parametrize("wanted", [0.8e12, 1.0e12, 1.1e12])
def test_a_hash_rate_is_reached_by_the_lowest_clock_that_does(wanted: float) -> None:
    board = FormulaBoard()
    decision, _ = settle(make_search(Goal(Aim.HASH_RATE, wanted), LIMITS, START), board)
    assert decision.reached
    assert board.read(decision.setting).hash_rate >= wanted
    assert board.read(Setting(decision.setting.mhz - LIMITS.step_mhz, 1150)).hash_rate < wanted


def test_a_hash_rate_beyond_the_board_gives_its_most() -> None:
    decision, _ = settle(make_search(Goal(Aim.HASH_RATE, 2e12), LIMITS, START), FormulaBoard())
    assert not decision.reached
    assert 560 <= decision.setting.mhz <= 565


@pytest.mark.parametrize("watts", [13.0, 15.0, 17.0])
def test_watts_are_kept(watts: float) -> None:
    board = FormulaBoard(stable_at_1150=700)
    decision, _ = settle(make_search(Goal(Aim.WATTS, watts), LIMITS, START), board)
    assert decision.reached
    assert board.watts(decision.setting) <= watts
    assert board.watts(Setting(decision.setting.mhz + LIMITS.step_mhz, 1150)) > watts


def test_efficiency_lowers_voltage_then_clock() -> None:
    board = FormulaBoard()
    before = board.read(START).joules_per_th
    decision, _ = settle(make_search(Goal(Aim.EFFICIENCY, 13.5), LIMITS, START), board)
    after = board.read(decision.setting)
    assert before is not None
    assert before > 14
    assert decision.reached
    assert after.joules_per_th is not None
    assert after.joules_per_th <= 13.5
    assert after.error_rate <= LIMITS.error_rate
    assert decision.setting.mv is not None
    assert decision.setting.mv < 1150


def test_an_efficiency_beyond_the_board_is_said() -> None:
    decision, _ = settle(make_search(Goal(Aim.EFFICIENCY, 5), LIMITS, START), FormulaBoard(), 200)
    assert not decision.reached
    assert decision.setting.mv == LIMITS.low_mv


def test_efficiency_needs_a_voltage_to_set() -> None:
    with pytest.raises(ValueError, match="cannot be set"):
        make_search(Goal(Aim.EFFICIENCY, 16), Limits(350, 625), Setting(525))


def test_heat_and_later_errors_slow_it_down() -> None:
    board = FormulaBoard()
    board.hot_above = 500
    search = make_search(Goal(Aim.MOST), LIMITS, START)
    decision, _ = settle(search, board)
    assert 493 < decision.setting.mhz <= 500
    board.hot_above = 480
    for _ in range(5):
        decision = search.take(board.read(search.setting))
    assert decision.setting.mhz <= 480
    assert decision.settled


def test_noise_does_not_mislead_it_far(rng: random.Random) -> None:
    for _ in range(50):
        board = FormulaBoard(rng, rng.uniform(400, 600))
        decision, readings = settle(make_search(Goal(Aim.MOST), LIMITS, START), board)
        assert abs(decision.setting.mhz - (board.stable_at_1150 + 4)) <= LIMITS.step_mhz
        assert readings <= 10
