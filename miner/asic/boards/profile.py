"""Boards as data: chips, supply, sensors, limits. REFERENCE.md §9 says where each figure comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from chain.primitives.errors import UserError
from miner.asic.bm13xx.models.model import LOWEST_MHZ as LOWEST_MHZ
from miner.asic.bm13xx.models.model import ChipModel, FastRate
from miner.asic.boards.safety import SafetyLimits
from miner.asic.boards.sensors import Emc2101, Emc2302

ResetLine = Literal["dtr", "rts"]  #: a modem line wired to the chips' reset: on is low, which is reset


class Control(Enum):
    """How a board's supply and reset are reached."""

    BITAXE_RAW = "bitaxe-raw"  #: over a second USB serial port
    NONE = "none"  #: not at all, but for a modem line where `reset_line` names one


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulatorWiring:
    """What a board decides about its TPS546 (§8). `vin_warn`: not on boards of 5 V, where the part is said to have a
    defect."""

    vin_on: float = 4.8
    vin_off: float = 4.5
    vin_over: float = 6.5
    vin_warn: float | None = None
    scale_loop: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardProfile:
    """One kind of board.

    `model`: None to find out; `chips`: how many there must be, None to take what is found; `domains`: voltage domains
    in series, so the supply is so many times a chip's voltage; `chips_per_domain`: chips that share one;
    `fast_rate`: of the link, where the bridge cannot follow the chips' usual one;
    `target_mhz`, `target_mv` (of one chip): None for the chip's default; `highest_mhz`, `highest_mv`, `lowest_mv`: None
    for the chip's own; `thermometers`: I2C addresses of TMP1075s, whose readings plus `thermometer_offset_c` stand for
    the chips; `fan`: None where there is none to control.
    """

    name: str
    title: str
    model: ChipModel | None
    chips: int | None = None
    domains: int = 1
    chips_per_domain: int = 1
    control: Control = Control.NONE
    reset_line: ResetLine | None = None
    fast_baud: bool = True
    fast_rate: FastRate | None = None
    target_mhz: float | None = None
    target_mv: float | None = None
    highest_mhz: float | None = None
    lowest_mv: float | None = None
    highest_mv: float | None = None
    fan: Emc2101 | Emc2302 | None = None
    thermometers: tuple[int, ...] = ()
    thermometer_offset_c: float = 0.0
    regulator: RegulatorWiring | None = None
    limits: SafetyLimits = field(default_factory=SafetyLimits)

    @property
    def clock_limits_mhz(self) -> tuple[float, float]:
        """What the clock is held within: what the chip is known to run at, less where the board says so."""
        known = max(self.model.frequencies_mhz) if self.model is not None else float("inf")
        return LOWEST_MHZ, min(known, self.highest_mhz if self.highest_mhz is not None else known)

    @property
    def voltage_limits_mv(self) -> tuple[float, float]:
        """What a chip's voltage is held within."""
        low, high = 0.0, float("inf")
        if self.model is not None:
            low, high = float(min(self.model.voltages_mv)), float(max(self.model.voltages_mv))
        return (
            low if self.lowest_mv is None else max(low, self.lowest_mv),
            high if self.highest_mv is None else min(high, self.highest_mv),
        )

    def clock_mhz(self, wanted_mhz: float | None = None) -> float | None:
        """The clock to run at when that one is wanted (None: the board's own), within the limits; None while the chip
        is not known."""
        if wanted_mhz is None:
            wanted_mhz = self.target_mhz
        if wanted_mhz is None:
            if self.model is None:
                return None
            wanted_mhz = self.model.default_mhz
        low, high = self.clock_limits_mhz
        return min(max(wanted_mhz, low), high)

    def chip_volts(self, wanted_mv: float | None = None) -> float:
        """The voltage of a chip when that many millivolts are wanted, within the limits. ValueError without a model."""
        if self.model is None:
            raise ValueError("the voltage of an unknown chip is not known")
        if wanted_mv is None:
            wanted_mv = self.target_mv if self.target_mv is not None else float(self.model.default_mv)
        low, high = self.voltage_limits_mv
        return min(max(wanted_mv, low), high) / 1000


def check_profile(profile: BoardProfile) -> None:
    """UserError where a board's own targets leave its limits, or its limits the chip's: said rather than mended, since
    somebody has written them down."""
    _check_chips(profile)
    low, high = profile.clock_limits_mhz
    if low > high:
        raise UserError(f"{profile.name}: no clock is within the limits ({low:g} to {high:g} MHz)")
    if profile.target_mhz is not None and not low <= profile.target_mhz <= high:
        raise UserError(f"{profile.name}: {profile.target_mhz:g} MHz is outside {low:g} to {high:g} MHz")
    low_mv, high_mv = profile.voltage_limits_mv
    if low_mv > high_mv:
        raise UserError(f"{profile.name}: no voltage is within the limits ({low_mv:g} to {high_mv:g} mV)")
    if profile.target_mv is not None:
        if profile.control is Control.NONE:
            raise UserError(f"{profile.name}: its voltage cannot be set from here: leave the target out")
        if not low_mv <= profile.target_mv <= high_mv:
            raise UserError(f"{profile.name}: {profile.target_mv:g} mV is outside {low_mv:g} to {high_mv:g} mV")


def _check_chips(profile: BoardProfile) -> None:
    """What the chips take, and how many of them there can be."""
    model, name = profile.model, profile.name
    if profile.chips is not None and profile.chips_per_domain > profile.chips:
        raise UserError(f"{name}: {profile.chips_per_domain} chips share a supply, and there are {profile.chips}")
    if model is None:
        return
    if profile.chips is not None and profile.chips * model.address_interval(profile.chips) > 256:
        raise UserError(f"{name}: {profile.chips} × {model.name} are more than can be addressed")
    if profile.highest_mhz is not None and profile.highest_mhz > max(model.frequencies_mhz):
        raise UserError(
            f"{name}: {profile.highest_mhz:g} MHz is more than {model.name} takes ({max(model.frequencies_mhz):g})"
        )
    for limit in (profile.lowest_mv, profile.highest_mv):
        if limit is not None and not min(model.voltages_mv) <= limit <= max(model.voltages_mv):
            raise UserError(
                f"{name}: {limit:g} mV is outside of what {model.name} takes"
                f" ({min(model.voltages_mv)} to {max(model.voltages_mv)} mV)"
            )
