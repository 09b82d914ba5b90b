"""What a board's supply and sensors are to the driver of its chips."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from miner.asic.transport import SerialPort

log = logging.getLogger("pickaxe.asic")


class BoardFault(Exception):
    """The board has been switched off, or must be, and stays off; one line that says why and what state it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """The last round of a board's sensors. None: the board has no such sensor, or it did not answer.

    `chip_c`: the hottest chip; `board_c`: elsewhere on the board; `volts`: of the core supply, all domains; `watts`: of
    the core; `allowed_mhz`: the clock that heat leaves, `throttled` when that is below the target; `powered`: whether
    the core voltage is on, None where that is not known; `controllable`: whether it can be switched off from here.
    """

    chip_c: float | None = None
    regulator_c: float | None = None
    board_c: tuple[float, ...] = ()
    volts_in: float | None = None
    volts: float | None = None
    amps: float | None = None
    fan_percent: float | None = None
    fan_rpm: int | None = None
    allowed_mhz: float | None = None
    throttled: bool = False
    powered: bool | None = None
    controllable: bool = False
    warnings: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def watts(self) -> float | None:
        """Power of the core."""
        return self.volts * self.amps if self.volts is not None and self.amps is not None else None


class BoardPower(Protocol):
    """One board's supply, reset and sensors. Called by the thread that drives the chips; all waits are bounded."""

    @property
    def allowed_mhz(self) -> float | None:
        """The clock that may be run now; None: no limit but the chips'."""

    @property
    def voltage_limits_mv(self) -> tuple[float, float] | None:
        """What a chip's voltage may be set to; None where it cannot be set."""

    def aim_at(self, frequency_mhz: float) -> None:
        """This clock is wanted from now on: `allowed_mhz` follows, as far as heat lets it."""

    def set_chip_mv(self, millivolts: float) -> float:
        """Set the voltage of each chip, within the limits; what was set. Raises BoardFault where that does not work."""

    def power_up(self, port: SerialPort) -> None:
        """From whatever state the board is in to chips powered and in reset. Raises BoardFault or PortError, the board
        being off or its state said."""

    def power_down(self, *, chips_stopped: bool = True) -> None:
        """Core voltage and clock off, as far as the board lets us; what cannot be switched off is logged as an error.
        Harmless when it is down. `chips_stopped`: whether the frames that make them stop could be sent."""

    def pulse_reset(self, port: SerialPort) -> bool:
        """Reset the chips; False where there is no way to."""

    def check(self) -> None:
        """Raises BoardFault once the board has been switched off for a fault. Called over and over while all is well: a
        board whose driver is not heard of any more may be switched off."""

    def chips_running(self, stop_frames: bytes) -> None:
        """The chips hash; these bytes, at the port's present rate, make them stop."""

    def sensors(self) -> Sensors:
        """The last round."""

    def gone(self) -> None:
        """The data port has disappeared, mostly because the cable has been pulled: stop supervising, switch off what
        can still be reached, report what may still be on."""

    def found(self, data_port: str) -> None:
        """The board has come back under this port; power_up follows."""
