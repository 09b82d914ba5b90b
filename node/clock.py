"""The node's clock: wall time, unless a test sets it (`setmocktime`)."""

from __future__ import annotations

import time


class Clock:
    """Call it for Unix seconds. `mock` is 0 for the real time."""

    def __init__(self, mock: int = 0) -> None:
        self.mock = mock
        self.started = time.monotonic()

    def __call__(self) -> float:
        return float(self.mock) if self.mock else time.time()

    def uptime_s(self) -> int:
        """Seconds since start, which no mocktime moves."""
        return int(time.monotonic() - self.started)
