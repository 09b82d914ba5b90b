"""One board: a port, the driver of the chain behind it, pumped by its caller, and the board's supply and sensors.

The order is always: supply up, chips in reset; driver started; at the end chips stopped, supply down. Whoever pumps
hears of a fault as BoardFault, by when the board is off or said not to be controllable.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions, ResetChain, Send, SetBaud, State
from miner.asic.bm13xx.events import ChainUp, Event
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.registers import BAUD_AT_RESET
from miner.asic.bm13xx.work import Outcome
from miner.asic.boards.power import BoardFault, BoardPower, Sensors, log
from miner.asic.boards.profile import LOWEST_MHZ, BoardProfile
from miner.asic.boards.profile import ResetLine as ResetLine
from miner.asic.transport import PortError, PortGone, PortInfo, Search, SerialPort, port_named

_RESET_PULSE_S = 0.1  #: low time of the reset line, and the wait after it (§1)
_THROTTLE_STEP_MHZ = 1.0  #: differences below this are none
_JUST_WAITING = contextlib.nullcontext()


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
    board: str | None = None  #: which kind of board, where that is known
    sensors: Sensors | None = None  #: None where there is nothing but chips on a port


class Board:
    """See the module. `driver`: in place of one made from `model` and `options`; `power`: the board's supply and
    sensors; `profile`: what kind of board it is; `reset_line`: the modem line wired to the chips' reset, for boards
    without `power`."""

    def __init__(
        self,
        path: str,
        model: ChipModel | None = None,
        options: DriverOptions | None = None,
        reset_line: ResetLine | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        driver: ChainDriver | None = None,
        power: BoardPower | None = None,
        profile: BoardProfile | None = None,
    ) -> None:
        self.path = path
        self.driver = driver if driver is not None else ChainDriver(model, options)
        self.power = power
        self.profile = profile
        self.replugs = 0
        self._reset_line = reset_line
        self._clock = clock
        self._port: SerialPort | None = None
        self._known: PortInfo | None = None
        self._search: Search | None = None
        self._up_since = clock()

    @property
    def serial_number(self) -> str | None:
        """Of its USB bridge; None where it has none, or has not been opened."""
        return self._known.serial_number if self._known is not None else None

    @property
    def identity(self) -> str:
        """What tells it from other boards: its serial number, else its port, by whichever link that was named."""
        return self.serial_number or os.path.realpath(self.path)

    @property
    def connected(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def open(self) -> None:
        """Open the port, power the board up and begin start-up. Raises PortError, BoardFault."""
        port = SerialPort(self.path, BAUD_AT_RESET)
        if self.power is not None:
            try:
                self.power.power_up(port)
            except BaseException:
                port.close()
                raise
        self._port = port
        self._known = port_named(self.path)
        self.driver.baud = BAUD_AT_RESET
        self._up_since = self._clock()
        if self.power is not None and (frames := self.driver.stop_frames()):
            try:
                self.power.chips_running(frames)  # they may still run as whoever was here before has left them
            except PortGone:
                self._lose(port)
                raise
        self.driver.start(self._clock())

    @property
    def clock_limits_mhz(self) -> tuple[float, float] | None:
        """What `set_clock` keeps to; None while neither board nor chip is known."""
        if self.profile is not None and self.profile.model is not None:
            return self.profile.clock_limits_mhz
        model = self.driver.model
        return (LOWEST_MHZ, max(model.frequencies_mhz)) if model is not None else None

    @property
    def voltage_limits_mv(self) -> tuple[float, float] | None:
        """What `set_voltage` keeps to; None where the voltage cannot be set."""
        return self.power.voltage_limits_mv if self.power is not None else None

    def set_clock(self, frequency_mhz: float) -> float:
        """Want this clock from now on, held within the limits; what is wanted then. Heat may allow less. To be called
        by whoever pumps."""
        limits = self.clock_limits_mhz
        wanted = min(max(frequency_mhz, limits[0]), limits[1]) if limits is not None else frequency_mhz
        if self.power is not None:
            self.power.aim_at(wanted)
        self.driver.set_frequency(wanted, self._clock())
        return wanted

    def set_voltage(self, chip_mv: float) -> float:
        """Set each chip's voltage, held within the limits; what was set. To be called by whoever pumps. Raises
        BoardFault where it cannot be set or the attempt failed."""
        if self.power is None:
            raise BoardFault(f"{self.path}: the voltage cannot be set from here")
        return self.power.set_chip_mv(chip_mv)

    def close(self) -> None:
        """Make the chips stop, power the board down, give the port back."""
        port, self._port = self._port, None
        stopped = False
        try:
            if port is not None:
                stopped = self._stop_chips(port)
        finally:
            try:
                if self.power is not None:
                    self.power.power_down(chips_stopped=stopped)
                elif port is not None and not stopped:
                    log.error("%s: the chips could not be told to stop: pull the board's power plug", self.path)
            finally:
                if port is not None:
                    port.close()

    def pump(self, timeout_s: float, waiting: contextlib.AbstractContextManager[object] = _JUST_WAITING) -> list[Event]:
        """Do what is due, wait for bytes at most that long, say what happened; `waiting` is entered for the wait.
        Raises PortGone when the board has been unplugged, after which `reconnect` finds it again; PortError when the
        port is there and takes nothing, after which only `close` is of use; BoardFault when the board has been switched
        off."""
        port = self._port
        if port is None:
            raise PortGone(f"{self.path} is not open")
        if self.power is not None:
            self.power.check()
            self._throttle(self.power)
        try:
            self._perform(port)
            wakeup = self.driver.next_wakeup()
            wait_s = timeout_s if wakeup is None else min(timeout_s, wakeup - self._clock())
            events = self.driver.events()
            with waiting:
                readable = port.wait(0.0 if events else wait_s)
            if readable:
                count = port.read_into(self.driver.space())
                if count:
                    events += self.driver.filled(count, self._clock())
            self._perform(port)
            events += self.driver.events()
            if self.power is not None and any(isinstance(event, ChainUp) for event in events):
                self.power.chips_running(self.driver.stop_frames())
        except PortGone:
            self._lose(port)
            raise
        return events

    def _lose(self, port: SerialPort) -> None:
        """The port has disappeared."""
        self._port = None
        port.close()
        if self.power is not None:
            self.power.gone()

    def send_now(self) -> bool:
        """Write the frames that are due as far as the system takes them without a wait; True when that was all. The
        rest, and whatever is wrong, is the next `pump`'s."""
        frames = self.driver.pending_frames()
        if self._port is None:
            return False
        try:
            count = self._port.write_now(frames)
        except PortError:
            return False
        self.driver.frames_sent(count)
        return count == len(frames) and not self.driver.pending

    def wake(self) -> None:
        """End the wait of a `pump` that is going on. Called from any thread."""
        if (port := self._port) is not None:
            port.wake()

    def reconnect(self) -> bool:
        """Look for the board again, under its serial number if it has one, else in its socket, else under its path;
        True when it is back and starting up. Raises BoardFault when it is back and cannot be powered up."""
        self._search = self._search or Search(self.path, self._known, log.warning)
        if not self._search.ended(self._open_at):
            return False
        self.replugs += 1
        self._search = None
        return True

    def _open_at(self, path: str) -> None:
        self.path = path
        if self.power is not None:
            self.power.found(path)
        self.open()

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
            board=self.profile.title if self.profile is not None else None,
            sensors=self.power.sensors() if self.power is not None else None,
        )

    def _stop_chips(self, port: SerialPort) -> bool:
        """Whether the frames that make them stop have left."""
        try:
            self.driver.stop(self._clock())
            self._perform(port)
            port.set_baud(port.baud)  # waits until they have left
        except PortError:
            return False
        return True

    def _throttle(self, power: BoardPower) -> None:
        """Follow the clock that heat leaves."""
        allowed, driver = power.allowed_mhz, self.driver
        if allowed is not None and driver.state is State.RUNNING and allowed > 0:
            target = driver.target_mhz
            wanted = min(allowed, driver.wanted_mhz)
            if target is not None and abs(wanted - target) >= _THROTTLE_STEP_MHZ:
                driver.limit_frequency(allowed, self._clock())

    def _perform(self, port: SerialPort) -> None:
        for action in self.driver.actions(self._clock()):
            if isinstance(action, Send):
                port.write(action.data)
            elif isinstance(action, SetBaud):
                port.set_baud(action.baud)
            elif isinstance(action, ResetChain):
                self._pulse_reset(port)

    def _pulse_reset(self, port: SerialPort) -> None:
        # A modem line that is on is low, and reset is active low.
        if self.power is not None:
            if self.power.pulse_reset(port):
                port.set_baud(BAUD_AT_RESET)
                self.driver.baud = BAUD_AT_RESET
        elif self._reset_line is not None and self._drive_reset(port, low=True):
            time.sleep(_RESET_PULSE_S)
            self._drive_reset(port, low=False)
            port.set_baud(BAUD_AT_RESET)
            self.driver.baud = BAUD_AT_RESET
        port.discard_input()

    def _drive_reset(self, port: SerialPort, *, low: bool) -> bool:
        return port.set_lines(dtr=low) if self._reset_line == "dtr" else port.set_lines(rts=low)
