"""Hash rate two ways: by work done, which is exact, and by shares found, which is what a pool or the chain sees."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WINDOW_S = 30.0


class WorkMeter:
    """Hashes counted over a sliding window. Times are seconds of any monotonic clock, passed in."""

    def __init__(self, started: float, window_s: float = WINDOW_S) -> None:
        self.total = 0
        self.started = started
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()
        self._in_window = 0

    def add(self, hashes: int, now: float) -> None:
        """Record hashes finished at `now`."""
        self.total += hashes
        if self._samples and now - self._samples[-1][0] < self._window_s / 128:
            hashes += self._samples[-1][1]
            self._in_window -= self._samples[-1][1]
            self._samples[-1] = (self._samples[-1][0], hashes)
        else:
            self._samples.append((now, hashes))
        self._in_window += hashes
        self._drop_old(now)

    def rate(self, now: float) -> float:
        """Hashes a second over the window, or since the start if that is shorter."""
        self._drop_old(now)
        span = min(self._window_s, now - self.started)
        return self._in_window / span if span > 0 else 0.0

    def average(self, now: float) -> float:
        """Hashes a second since the start."""
        return self.total / (now - self.started) if now > self.started else 0.0

    def _drop_old(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - self._window_s:
            self._in_window -= self._samples.popleft()[1]


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """Hashes a second with the ends of a 95 % confidence interval."""

    rate: float
    low: float
    high: float


class ShareMeter:
    """Estimates the rate from shares: each stands for as many hashes as its target needs on average."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.count = 0
        self._expected_hashes = 0.0
        self._squares = 0.0

    def add(self, share_target: int) -> None:
        """Record a share found at this target."""
        self.count += 1
        hashes = (1 << 256) / (share_target + 1)
        self._expected_hashes += hashes
        self._squares += hashes * hashes

    def estimate(self, now: float) -> RateEstimate | None:
        """None before the first share.

        Where a pool changes the difficulty shares weigh differently: the interval is that of as many equal ones as have
        the same spread, (Σw)² / Σw².
        """
        elapsed = now - self.started
        if not self.count or elapsed <= 0:
            return None
        rate = self._expected_hashes / elapsed
        equal = self._expected_hashes * self._expected_hashes / self._squares
        low, high = poisson_interval(equal)
        return RateEstimate(rate, rate * low / equal, rate * high / equal)


def poisson_interval(count: float, z: float = 1.959964) -> tuple[float, float]:
    """Ends of the exact (Garwood) 95 % interval for a Poisson mean after `count` events.

    Chi-square quantiles by Wilson and Hilferty's cube, within 1 % from 3 events up and 10 % below.
    """

    def half_chi_square(degrees: float, quantile: float) -> float:
        spread = 2 / (9 * degrees)
        return degrees / 2 * max(0.0, 1 - spread + quantile * math.sqrt(spread)) ** 3

    low = half_chi_square(2 * count, -z) if count else 0.0
    return low, half_chi_square(2 * count + 2, z)


def format_rate(rate: float) -> str:
    """12345678.0 is '12.35 MH/s'."""
    units = ("H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s")
    power = 0
    while rate >= 999.995 and power + 1 < len(units):
        rate /= 1000
        power += 1
    return f"{rate:.2f} {units[power]}"
