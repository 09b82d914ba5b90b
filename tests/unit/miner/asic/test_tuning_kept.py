"""What a tuner makes of the file that earlier results are kept in, whoever has written it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miner.asic.board import Board
from miner.asic.tuning.auto import BoardTuner, TuneOptions
from miner.asic.tuning.goal import parse_goal
from miner.asic.tuning.search import Decision, Reading, Setting
from miner.cache import recall, remember
from tests.support.asic import Simulation

PORT = "/dev/emulated"


class Running(Board):
    """A board whose chain runs, without a port."""

    @property
    def connected(self) -> bool:
        return True


@pytest.fixture
def board() -> Board:
    return Running(PORT, driver=Simulation.of("bm1370").up().driver)


def begin(board: Board, store: Path) -> list[str]:
    """What a tuner says when it begins."""
    said: list[str] = []
    tuner = BoardTuner(board, TuneOptions(parse_goal("max")), said.append, store=store)
    assert tuner.step() is None
    assert tuner.impossible is None
    return said


def test_a_result_is_the_boards_by_whichever_name_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    (tmp_path / "by-path").symlink_to(tmp_path / "by-id")
    names = {
        BoardTuner(Board(str(tmp_path / name)), TuneOptions(parse_goal("max")), lambda _: None).key
        for name in ("ttyUSB0", "by-id", "by-path")
    }
    assert names == {str(tmp_path / "ttyUSB0")}


def test_what_was_kept_is_run_again(board: Board, tmp_path: Path) -> None:
    store = tmp_path / "tuning.json"
    remember(store, PORT, {"goal": "max", "mhz": 500.0, "mv": None})
    assert begin(board, store) == [f"{PORT}: tuning for max, kept from before: 500 MHz"]
    assert board.driver.wanted_mhz == 500.0


@pytest.mark.parametrize("mhz", [float("nan"), float("inf"), 1e9, -5, 0, True, "500", None, [500]])
def test_a_clock_that_the_board_cannot_run_at_is_not_believed(board: Board, tmp_path: Path, mhz: Any) -> None:
    store = tmp_path / "tuning.json"
    store.write_text(json.dumps({PORT: {"goal": "max", "mhz": mhz, "mv": float("nan")}}))
    assert begin(board, store) == [f"{PORT}: tuning for max, 525 MHz"]
    assert board.driver.wanted_mhz == 525.0


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 200_000, '{"/dev/emulated": 5}', "\x00", "9" * 5000])
def test_a_damaged_file_is_as_none(board: Board, tmp_path: Path, text: str) -> None:
    store = tmp_path / "tuning.json"
    store.write_text(text)
    assert begin(board, store) == [f"{PORT}: tuning for max, 525 MHz"]
    assert remember(store, "other", {"mhz": 400.0}) is None
    assert recall(store)["other"] == {"mhz": 400.0}


def test_a_result_that_cannot_be_kept_is_said(board: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = tmp_path / "file" / "tuning.json"
    said: list[str] = []
    tuner = BoardTuner(board, TuneOptions(parse_goal("max")), said.append, store=store)
    tuner._keep(Decision(Setting(500.0), True, True, ""), Reading(1e12, 0.0))
    assert len(said) == 1
    assert said[0].startswith(f"{PORT}: this is not kept for the next run: {store} cannot be written: ")


def test_a_file_that_could_not_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    store = tmp_path / "tuning.json"
    store.mkdir()
    assert remember(store, "key", {}) == f"{store} cannot be written: Is a directory"
    assert list(tmp_path.iterdir()) == [store]
