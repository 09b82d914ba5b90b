"""Consoles whose reader leaves, and terminals that cannot redraw."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from miner.terminal import LastingOutput, OutputConsole


def test_a_reader_that_has_left_is_an_error_of_the_system() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    console = OutputConsole(file=os.fdopen(writing, "w", closefd=False))
    with pytest.raises(BrokenPipeError, match="Broken pipe"):
        console.print("hello")
    os.close(writing)


@pytest.mark.parametrize(("kind", "redraws"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_dumb_terminals_get_lines(kind: str, redraws: bool) -> None:
    environment = {"TERM": kind}
    assert OutputConsole(file=io.StringIO(), force_terminal=True, _environ=environment).redraws is redraws
    assert not OutputConsole(file=io.StringIO(), _environ=environment).redraws


def test_a_full_disk_costs_lines_and_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    full, log = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    output = LastingOutput(full, "ascii", "replace", said.append)
    console = OutputConsole(file=output)
    for number in range(3):
        console.print(f"lost {number}", soft_wrap=True)
    assert said == ["cannot write the output (No space left on device): mining goes on without it"]
    os.dup2(log, full)
    console.print("there is room again ☃", soft_wrap=True)
    console.print("and more", soft_wrap=True)
    assert said[1:] == ["the output is written again; 3 lines are missing"]
    assert (tmp_path / "log").read_text() == "there is room again ?\nand more\n"
    os.close(full)
    os.close(log)


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    room, write = 4, os.write

    def little_room(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        count = write(descriptor, data[:room])
        room -= count
        return count

    output = LastingOutput(log, "utf-8", "strict", lambda text: None)
    monkeypatch.setattr(os, "write", little_room)
    output.write('{"message": "half of it"}\n')
    output.flush()
    room = 100
    output.write('{"whole": 1}\n')
    output.flush()
    assert (tmp_path / "log").read_text() == '{"me\n{"whole": 1}\n'
    os.close(log)


def test_a_reader_of_lines_that_has_left_is_an_error_too() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = LastingOutput(writing, "utf-8", "strict", lambda text: None)
    output.write("hello\n")
    with pytest.raises(BrokenPipeError):
        output.flush()
    os.close(writing)
