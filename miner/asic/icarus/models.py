"""The boards of this type, as data (REFERENCE.md §3, §6, §7, §8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from chain.primitives.errors import UserError

RANGE = 1 << 32


class Clock(Enum):
    """How a board's clock is set."""

    FIXED = "fixed"
    U1 = "AntMiner U1"
    U3 = "AntMiner U3"


@dataclass(frozen=True, slots=True)
class IcarusModel:
    """One kind of board.

    `ns_per_hash`: at `default_mhz` where the clock can be set, so it scales with the clock; `goes_on`: searches on
    after a nonce; `has_ids`: a fifth reply byte names the work; `early_s`: how long before the end of a range new work
    is sent; `engines`: parts of the range searched at once.
    """

    name: str
    title: str
    ns_per_hash: float
    engines: int
    goes_on: bool
    has_ids: bool
    early_s: float
    clock: Clock = Clock.FIXED
    default_mhz: float | None = None
    default_millivolts: int | None = None

    @property
    def reply_bytes(self) -> int:
        """Length of a reply."""
        return 5 if self.has_ids else 4

    def hash_rate(self, mhz: float | None = None) -> float:
        """Hashes a second at that clock, or as the board comes."""
        scale = mhz / self.default_mhz if mhz is not None and self.default_mhz is not None else 1.0
        return 1e9 / self.ns_per_hash * scale

    def range_s(self, mhz: float | None = None) -> float:
        """How long a whole range lasts."""
        return RANGE / self.hash_rate(mhz)


ICARUS_MODELS = {
    model.name: model
    for model in (
        IcarusModel("icarus", "Icarus", 2.6316, 2, False, False, 0.15),
        IcarusModel("lancelot", "Lancelot", 2.5, 2, False, False, 0.15),
        IcarusModel("erupter", "Block Erupter USB", 2.9761, 1, True, False, 0.15),
        IcarusModel("u1", "AntMiner U1", 0.625, 1, True, True, 0.015, Clock.U1, 200.0),
        IcarusModel("u2", "AntMiner U2", 0.625, 1, True, True, 0.015, Clock.U1, 200.0),
        IcarusModel("u3", "AntMiner U3", 3.2 / 225, 1, True, True, 0.001, Clock.U3, 225.0, 775),
    )
}


def icarus_model(name: str) -> IcarusModel:
    """The model of that name; UserError lists those that exist."""
    try:
        return ICARUS_MODELS[name.lower()]
    except KeyError:
        raise UserError(f"no board type {name}; there are {', '.join(ICARUS_MODELS)}") from None


def likely_model(reply_bytes: int, engines: int) -> IcarusModel:
    """What a board that answered so is taken for (§3, §5): its speed is measured all the same."""
    if reply_bytes == ICARUS_MODELS["u1"].reply_bytes:
        return ICARUS_MODELS["u1"]
    return ICARUS_MODELS["erupter" if engines == 1 else "icarus"]
