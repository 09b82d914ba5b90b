"""One board: a port and the driver of the chain behind it, pumped by its caller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions, ResetChain, Send, SetBaud, State
from miner.asic.bm13xx.events import Event
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.registers import BAUD_AT_RESET
from miner.asic.bm13xx.work import Outcome
from miner.asic.transport import PortError, PortGone, SerialPort, scan

_RESET_PULSE_S = 0.1  #: low time of the reset line, and the wait after it (§1)

ResetLine = Literal["dtr", "rts"]


@dataclass(frozen=True, slots=True)
class ChipReport:
    """One chip, for people. Rates in hashes a second: `by_counter` from its own counter, None where it has none yet."""

    index: int
    address: int
    alive: bool
    by_nonces: float
    by_counter: float | None
    hardware_errors: int
    temperature_c: float | None
    nonces: dict[str, int]


@dataclass(frozen=True, slots=True)
class BoardReport:
    """A board at one moment. `nonces` by outcome; `nominal`: what the live chips should do at their clock."""

    port: str
    state: str
    model: str | None
    baud: int
    frequency_mhz: float
    ticket: int
    nominal: float
    by_nonces: float
    nonces: dict[str, int]
    bad_frames: int
    restarts: int
    replugs: int
    chips: list[ChipReport]


class Board:
    """See the module. `reset_line`: the modem line wired to the chips' reset, where there is one."""

    def __init__(
        self,
        path: str,
        model: ChipModel | None = None,
        options: DriverOptions | None = None,
        reset_line: ResetLine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.driver = ChainDriver(model, options)
        self.replugs = 0
        self._reset_line = reset_line
        self._clock = clock
        self._port: SerialPort | None = None
        self._serial_number: str | None = None
        self._up_since = clock()

    @property
    def connected(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def open(self) -> None:
        """Open the port and begin start-up. Raises PortError."""
        self._port = SerialPort(self.path, BAUD_AT_RESET)
        self._serial_number = next((port.serial_number for port in scan() if port.path == self.path), None)
        self.driver.baud = BAUD_AT_RESET
        self._up_since = self._clock()
        self.driver.start(self._clock())

    def close(self) -> None:
        """Make the chips stop, give the port back."""
        if self._port is not None:
            with contextlib.suppress(PortError):
                self.driver.stop(self._clock())
                self._act()
                self._port.set_baud(self._port.baud)  # waits until it has left
            self._port.close()
            self._port = None

    def pump(self, timeout_s: float) -> list[Event]:
        """Do what is due, wait for bytes at most that long, say what happened. Raises PortGone when the board has been
        unplugged, after which `reconnect` finds it again."""
        if self._port is None:
            raise PortGone(f"{self.path} is not open")
        try:
            self._act()
            wakeup = self.driver.next_wakeup()
            wait_s = timeout_s if wakeup is None else min(timeout_s, wakeup - self._clock())
            events = self.driver.events()
            if self._port.wait(0.0 if events else wait_s):
                count = self._port.read_into(self.driver.space())
                if count:
                    events += self.driver.filled(count, self._clock())
            self._act()
            return events + self.driver.events()
        except PortError:
            self._port.close()
            self._port = None
            raise

    def reconnect(self) -> bool:
        """Look for the board again, under its serial number if it has one, else under its path; True when it is back
        and starting up."""
        if self._serial_number is not None:
            found = next((port.path for port in scan() if port.serial_number == self._serial_number), None)
            if found is None:
                return False
            self.path = found
        try:
            self.open()
        except PortError:  # nodes appear before they can be opened
            return False
        self.replugs += 1
        return True

    def report(self) -> BoardReport:
        """Everything, now."""
        driver = self.driver
        elapsed = max(self._clock() - self._up_since, 1e-9)
        unit = (1 << driver.options.zero_bits) / elapsed
        chips = driver.monitor.chips if driver.monitor is not None else []
        return BoardReport(
            port=self.path,
            state=driver.state.value if self.connected else "unplugged",
            model=driver.model.name if driver.model is not None else None,
            baud=driver.baud,
            frequency_mhz=driver.frequency_mhz,
            ticket=driver.ticket,
            nominal=driver.hash_rate,
            by_nonces=driver.work_done * unit,
            nonces={outcome.value: count for outcome, count in driver.totals.items()},
            bad_frames=driver.decoder.errors.bad_frames,
            restarts=driver.restarts,
            replugs=self.replugs,
            chips=[
                ChipReport(
                    chip.index,
                    chip.address,
                    driver.state is State.RUNNING and not chip.lost,
                    chip.work * unit,
                    chip.counter_rate,
                    chip.hardware_errors,
                    chip.temperature_c,
                    {outcome.value: chip.outcomes[outcome] for outcome in Outcome},
                )
                for chip in chips
            ],
        )

    def _act(self) -> None:
        port = self._port
        if port is None:
            return
        for action in self.driver.actions(self._clock()):
            if isinstance(action, Send):
                port.write(action.data)
            elif isinstance(action, SetBaud):
                port.set_baud(action.baud)
            elif isinstance(action, ResetChain):
                self._pulse_reset(port)

    def _pulse_reset(self, port: SerialPort) -> None:
        # A modem line that is on is low, and reset is active low.
        if self._reset_line is not None and self._drive_reset(port, low=True):
            time.sleep(_RESET_PULSE_S)
            self._drive_reset(port, low=False)
            port.set_baud(BAUD_AT_RESET)
            self.driver.baud = BAUD_AT_RESET
        port.discard_input()

    def _drive_reset(self, port: SerialPort, *, low: bool) -> bool:
        return port.set_lines(dtr=low) if self._reset_line == "dtr" else port.set_lines(rts=low)
