"""A board of the Icarus type as a HashDevice: a unit is over when each of its works has had its time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from chain.primitives.errors import UserError
from miner.asic.header_device import HeaderDevice
from miner.asic.header_work import Outcome
from miner.asic.icarus.driver import BAUD, Detected, IcarusDriver, Options, State
from miner.asic.icarus.models import Clock, icarus_model
from miner.device import ChipDetails, DeviceDetails, HashJob

_UNIT_S = 2.0  #: least time a unit lasts
_MOST_VERSIONS = 256


class IcarusDevice(HeaderDevice[IcarusDriver]):
    """HashDevice over one board; see `driver.Options`."""

    def __init__(self, name: str, path: str, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name, path, BAUD, IcarusDriver(options), 1, clock)  # versions: until its rate is known

    def details(self) -> DeviceDetails | None:
        """The board, for people."""
        driver, model = self.driver, self.driver.model
        timing = driver.timing
        state = driver.state.value if self.link.connected else "unplugged"
        if timing is not None and timing.measured:
            state += ", rate measured"
        return DeviceDetails(
            state=state,
            model=model.title if model is not None else None,
            path=self.link.path,
            frequency_mhz=driver.mhz,
            nominal_rate=driver.hash_rate or None,
            chips=(
                ChipDetails(
                    index=0,
                    alive=driver.state is State.RUNNING,
                    by_nonces=1 / timing.seconds_per_hash if timing is not None and timing.measured else None,
                    errors=driver.totals[Outcome.WRONG],
                    frequency_mhz=driver.mhz,
                ),
            ),
            counters={
                **{outcome.value: count for outcome, count in driver.totals.items()},
                "restarts": driver.restarts,
                "replugs": self.link.replugs,
            },
        )

    def _unit_over(self) -> bool:
        return self.driver.state is State.RUNNING and self.driver.idle

    def _unit_share(self, job: HashJob) -> float:
        timing = self.driver.timing
        if timing is None:
            return 0.0
        return (self.driver.progress(self._clock()) - self._began_at) / (timing.largest * len(job.versions))

    def _came_up(self, event: Detected) -> None:
        self.preferred_versions = min(_MOST_VERSIONS, math.ceil(_UNIT_S / event.model.range_s(self.driver.mhz)))


def icarus_device(
    name: str,
    port: str,
    board: str,
    frequency_mhz: float | None = None,
    millivolts: int | None = None,
    zero_bits: int = 32,
) -> IcarusDevice:
    """The device behind a port. `board` is a model's name; "icarus" finds out which, all but a U3. UserError for an
    unknown one, or a clock or voltage it cannot take."""
    model = icarus_model(board)
    if frequency_mhz is not None and model.clock is Clock.FIXED:
        raise UserError("only AntMiners have a clock to set: name the board with --board u1, u2 or u3")
    if millivolts is not None and model.clock is not Clock.U3:
        raise UserError("only an AntMiner U3 has a voltage to set: name it with --board u3")
    options = Options(None if model.name == "icarus" else model, frequency_mhz, millivolts, zero_bits)
    IcarusDriver(options).check_options()
    return IcarusDevice(name, port, options)
