"""How long a block may take, as a probability and not a promise.

Hashes are independent trials, so the time to the next block is exponentially distributed: it does not matter how long
one has tried already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_DAY_S = 86400.0
_DAYS = (1, 30, 365)
_UNITS = (
    (365.25 * _DAY_S, "year"),
    (30.4375 * _DAY_S, "month"),
    (_DAY_S, "day"),
    (3600.0, "hour"),
    (60.0, "minute"),
    (1.0, "second"),
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Chances of a block at the present hash rate and difficulty. `chances`: probability of at least one within so
    many days."""

    difficulty: float
    mean_s: float
    median_s: float
    chances: dict[int, float]


def outlook(target: int, rate: float) -> Outlook | None:
    """For a block's target (256-bit) and hashes a second; None without either."""
    if rate <= 0 or target <= 0:
        return None
    mean_s = (1 << 256) / (target + 1) / rate
    return Outlook(
        difficulty=(0xFFFF << 208) / target,
        mean_s=mean_s,
        median_s=mean_s * math.log(2),
        chances={days: -math.expm1(-days * _DAY_S / mean_s) for days in _DAYS},
    )


def describe(chances: Outlook) -> str:
    """'a block in 3.1 years (median), 2.0 % within 30 days'."""
    median = format_span(chances.median_s)
    if chances.median_s < _DAY_S:
        return f"a block in {median} (median)"
    days = 30 if chances.chances[30] < 0.995 else 1
    return f"a block in {median} (median), {format_chance(chances.chances[days])} within {days} day{'s' * (days > 1)}"


def format_span(seconds: float) -> str:
    """'3.1 years': two digits and a unit."""
    if seconds >= 1e6 * _UNITS[0][0]:
        return f"{seconds / _UNITS[0][0]:.1e} years"
    for length_s, name in _UNITS:
        if seconds >= length_s:
            count = seconds / length_s
            text = f"{count:,.0f}" if count >= 9.95 else f"{count:.1f}"
            return f"{text} {name}{'' if text == '1.0' else 's'}"
    return "less than a second"


def format_chance(probability: float) -> str:
    """'2.6 %'; odds where percents would be all zeros."""
    if probability >= 0.9995:
        return "more than 99.9 %"
    if probability >= 0.0005:
        return f"{probability * 100:.2g} %" if probability < 0.1 else f"{probability * 100:.0f} %"
    if probability <= 0:
        return "0 %"
    odds = 1 / probability
    return f"1 in {odds:,.0f}" if odds < 1e12 else f"1 in {odds:.1e}"
