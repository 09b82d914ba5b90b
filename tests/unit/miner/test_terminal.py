"""Consoles whose reader leaves, and terminals that cannot redraw."""

from __future__ import annotations

import io
import os

import pytest

from miner.terminal import OutputConsole


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
