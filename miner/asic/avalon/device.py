"""A first-generation Avalon as a HashDevice: a unit is over when its last task is on its way; what the rows find of it
after that comes back with a later search, named by its job."""

from __future__ import annotations

import time
from collections.abc import Callable

from miner.asic.avalon.driver import BAUD, DEFAULT_MHZ, AvalonDriver, Options, Overheated, Ready, State
from miner.asic.avalon.frames import CHIPS_IN_A_ROW, FAN_FULL
from miner.asic.header_device import HeaderDevice
from miner.device import ChipDetails, DeviceDetails, FanDetails, HashJob

_ROUNDS_PER_UNIT = 2


class AvalonDevice(HeaderDevice[AvalonDriver]):
    """HashDevice over one unit; see `driver.Options`."""

    def __init__(self, name: str, path: str, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name, path, BAUD, AvalonDriver(options), _ROUNDS_PER_UNIT * options.rows, clock)

    def details(self) -> DeviceDetails | None:
        """The unit, for people."""
        driver = self.driver
        state = driver.state.value if self.link.connected else "unplugged"
        if driver.state is State.OVERHEATED and driver.smoothed_c is not None:
            state = f"too hot, resting: {driver.smoothed_c:.0f} °C"
        percent = 100.0 * driver.fan / FAN_FULL
        return DeviceDetails(
            state=state,
            model="Avalon" + (f", controller {driver.version}" if driver.version else ""),
            path=self.link.path,
            frequency_mhz=float(driver.options.mhz),
            nominal_rate=driver.hash_rate,
            temperatures_c={f"sensor {n}": float(t) for n, t in enumerate(driver.temperatures_c, 1)},
            fans=tuple(FanDetails(f"fan {n}", float(rpm), percent) for n, rpm in enumerate(driver.fans_rpm, 1)),
            chips=tuple(
                ChipDetails(index=row, alive=row in driver.rows, frequency_mhz=float(driver.options.mhz))
                for row in range(driver.options.rows)
            ),
            counters={
                **{outcome.value: count for outcome, count in driver.totals.items()},
                "restarts": driver.restarts,
                "replugs": self.link.replugs,
                "chips_per_row": CHIPS_IN_A_ROW,
            },
        )

    def _unit_over(self) -> bool:
        return self.driver.hungry

    def _unit_share(self, job: HashJob) -> float:
        return 1 - self.driver.waiting / len(job.versions)

    def _came_up(self, event: Ready | Overheated) -> None:
        """Nothing to learn from it."""


def avalon_device(
    name: str, port: str, frequency_mhz: float | None = None, rows: int = 32, zero_bits: int = 32
) -> AvalonDevice:
    """The device behind a port. UserError for a clock or a number of rows it cannot have."""
    mhz = round(frequency_mhz) if frequency_mhz is not None else DEFAULT_MHZ
    return AvalonDevice(name, port, Options(mhz, rows, zero_bits))
