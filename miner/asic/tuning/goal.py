"""What a board is tuned for, as people write it: "max", "1.1TH/s", "15W", "16J/TH"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from chain.primitives.errors import UserError

_PREFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_RATE = re.compile(r"([0-9.]+)\s*([KMGTP]?)H(?:/S)?", re.IGNORECASE)
_WATTS = re.compile(r"([0-9.]+)\s*W", re.IGNORECASE)
_EFFICIENCY = re.compile(r"([0-9.]+)\s*J/TH", re.IGNORECASE)


class Aim(Enum):
    """The quantity."""

    MOST = "most"  #: the highest clock that stays within the error limit
    HASH_RATE = "hash rate"  #: the lowest clock that reaches it
    WATTS = "watts"  #: the highest clock that stays within it
    EFFICIENCY = "efficiency"  #: joules a terahash: voltage and clock lowered until it is reached


@dataclass(frozen=True, slots=True)
class Goal:
    """`value`: hashes a second, watts, or joules a terahash; 0 for MOST."""

    aim: Aim
    value: float = 0.0

    def __str__(self) -> str:
        match self.aim:
            case Aim.MOST:
                return "max"
            case Aim.HASH_RATE:
                return f"{self.value / 1e12:g}TH/s"
            case Aim.WATTS:
                return f"{self.value:g}W"
        return f"{self.value:g}J/TH"


def parse_goal(text: str) -> Goal:
    """UserError for anything but max, a hash rate, watts or J/TH."""
    text = text.strip()
    if text.lower() == "max":
        return Goal(Aim.MOST)
    for pattern, aim in ((_EFFICIENCY, Aim.EFFICIENCY), (_WATTS, Aim.WATTS), (_RATE, Aim.HASH_RATE)):
        found = pattern.fullmatch(text)
        if found is None:
            continue
        try:
            value = float(found[1])
        except ValueError:
            break
        if aim is Aim.HASH_RATE:
            value *= _PREFIXES[found[2].upper()]
        if value > 0:
            return Goal(aim, value)
    raise UserError(f"{text!r} is nothing to tune for: say max, a hash rate (1.1TH/s), watts (15W) or 16J/TH")
