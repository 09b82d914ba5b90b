"""What a chain driver tells its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.work import CheckedNonce


@dataclass(frozen=True, slots=True)
class ChainUp:
    """Start-up is through: so many chips, at that rate and clock."""

    model: ChipModel
    chips: int
    baud: int
    frequency_mhz: float


@dataclass(frozen=True, slots=True)
class ChainDown:
    """The chain is started anew; why."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChainFailed:
    """Start-up failed as often as allowed; the driver has given up."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChipLost:
    """A chip has stopped answering."""

    index: int


@dataclass(frozen=True, slots=True)
class ChipReturned:
    """A lost chip answers again."""

    index: int


@dataclass(frozen=True, slots=True)
class Overheated:
    """A chip is too hot; hashing has been stopped."""

    temperature_c: float


class NonceChecked(NamedTuple):
    """A nonce has come and has been hashed by the host."""

    result: CheckedNonce


@dataclass(frozen=True, slots=True)
class RegisterRead:
    """A register's value, asked for or not."""

    address: int
    register: int
    value: int


Event = ChainUp | ChainDown | ChainFailed | ChipLost | ChipReturned | Overheated | NonceChecked | RegisterRead
