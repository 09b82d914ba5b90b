"""Waits for what happens in another thread or process: a state is awaited with a deadline, never asserted at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

TIMEOUT_S = 60.0  #: far more than it takes on a busy machine
_LOOK_S = 0.01

T = TypeVar("T")


def until(what: str, condition: Callable[[], T | None], timeout_s: float = TIMEOUT_S) -> T:
    """Ask again and again; the first true answer. AssertionError says what has not come to pass."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(_LOOK_S)
    return answer


async def eventually(what: str, condition: Callable[[], T | None], timeout_s: float = TIMEOUT_S) -> T:
    """The same on an event loop that has other things to do meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(_LOOK_S)
    return answer
