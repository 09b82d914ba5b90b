"""Boards tuned while they hash: an emulated Bitaxe whose chips err above a clock that its voltage allows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from miner.asic.emulator.bitaxe import EmulatedBitaxe
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.catalog import EmulationOptions, emulation
from miner.asic.tuning.auto import TuneOptions, tuning_file
from miner.asic.tuning.command import tune_board
from miner.asic.tuning.goal import parse_goal

pytestmark = pytest.mark.functional

ZERO_BITS = 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICKAXE_CACHE", str(tmp_path / "cache"))


def options(goal: str, window_s: float = 2.0, *, fresh: bool = True) -> TuneOptions:
    return TuneOptions(parse_goal(goal), window_s, 0.6, fresh=fresh)


def emulated(name: str, silicon: float, link: Path) -> EmulatedBoard:
    speed = 50.0 if name.startswith("bitaxe") else 1.0
    return emulation(name, EmulationOptions(zero_bits=ZERO_BITS, silicon=silicon, speed=speed, link=link)).board


@pytest.mark.slow  # readings take seconds each
def test_the_highest_clock_without_errors_is_found_and_kept(tmp_path: Path) -> None:
    link = tmp_path / "board"
    said: list[str] = []
    with emulated("bm1370", 0.95, link) as board:
        decision = tune_board(board.port, None, None, options("max"), ZERO_BITS, said.append)
        assert decision.reached, said
        # Right up to 499 MHz, 2 % of errors at 505; a reading of some dozen nonces does not tell steps apart.
        assert 475 <= decision.setting.mhz <= 520, said
        (kept,) = json.loads(tuning_file().read_text()).values()
        assert (kept["goal"], kept["mhz"]) == ("max", decision.setting.mhz)
        assert kept["hash_rate"] == pytest.approx(kept["mhz"] * 2040e6, rel=0.1)
        again: list[str] = []
        tune_board(board.port, None, None, options("max", 1.0, fresh=False), ZERO_BITS, again.append)
        assert "kept from before" in again[0]


@pytest.mark.slow  # readings take seconds each
def test_watts_are_kept_on_a_board_that_measures_them(tmp_path: Path) -> None:
    said: list[str] = []
    board = emulated("bitaxe-gamma", 2.0, tmp_path / "board")
    assert isinstance(board, EmulatedBitaxe)
    with board:
        at_default = board.kind.watts
        wanted = round(at_default * 0.85, 1)
        decision = tune_board(board.ports, None, "bitaxe-gamma", options(f"{wanted}W", 1.0), ZERO_BITS, said.append)
        assert decision.reached, said
        assert decision.setting.mhz < 525
        assert decision.setting.mhz == pytest.approx(525 * 0.85, rel=0.08)


@pytest.mark.slow  # readings take seconds each
def test_efficiency_lowers_the_voltage_of_a_board_that_lets_it(tmp_path: Path) -> None:
    said: list[str] = []
    board = emulated("bitaxe-gamma", 2.0, tmp_path / "board")
    assert isinstance(board, EmulatedBitaxe)
    with board:
        energy = board.kind.watts / (525 * 2040e6 / 1e12)
        decision = tune_board(
            board.ports, None, "bitaxe-gamma", options(f"{energy * 0.95:.2f}J/TH", 1.0), ZERO_BITS, said.append
        )
        assert decision.reached, said
        assert decision.setting.mv is not None
        assert decision.setting.mv < 1150


def test_what_a_board_cannot_be_tuned_for_is_said(tmp_path: Path) -> None:
    with (
        emulated("bm1370", 2.0, tmp_path / "board") as board,
        pytest.raises(UserError, match="its watts are not measured"),
    ):
        tune_board(board.port, None, None, options("15W"), ZERO_BITS, lambda _: None)
    with pytest.raises(UserError, match="no clock to tune"):
        tune_board("/dev/null", None, "erupter", options("max"), ZERO_BITS, lambda _: None)
