"""A board without control channel: chips on a UART, a reset line at most (TOML boards, Gekko sticks).

Its core voltage is not in our hands, and that is said. What is: the chips' clock and hashing, and the reset line. The
watchdog stops them when the miner dies.
"""

from __future__ import annotations

import threading
import time

from miner.asic.boards.guard import SILENCE_S, OffPlan, Step, Watchdog, WatchdogError
from miner.asic.boards.power import BoardFault, Sensors, log
from miner.asic.boards.profile import BoardProfile
from miner.asic.transport import PortError, PortGone, SerialPort

_RESET_PULSE_S = 0.1
_BEAT_S = 1.0
_STOP_PAUSE_S = 0.2  #: the frames have left the port by then
_STOP_TIMES = 3  #: the frames are sent: nothing confirms them


class BarePower:
    """BoardPower where there is next to none."""

    def __init__(self, profile: BoardProfile, silence_s: float = SILENCE_S) -> None:
        self.profile = profile
        self._watchdog = Watchdog(silence_s)
        self._port: SerialPort | None = None
        self._fault: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = False

    @property
    def allowed_mhz(self) -> float | None:
        return None

    @property
    def voltage_limits_mv(self) -> tuple[float, float] | None:
        return None

    def aim_at(self, frequency_mhz: float) -> None:
        """Nothing here limits the clock."""

    def set_chip_mv(self, millivolts: float) -> float:
        raise BoardFault(f"the voltage of {self.profile.name} cannot be set from here")

    @property
    def watchdog_pid(self) -> int | None:
        """Of the process that guards the board."""
        return self._watchdog.pid

    def power_up(self, port: SerialPort) -> None:
        self._port, self._fault = port, None
        if not self._said:
            self._said = True
            log.warning("%s on %s: %s", self.profile.name, port.path, self._unsure())
        if self.profile.reset_line is not None:
            port.keep_lines()
            self._arm(b"")

    def power_down(self, *, chips_stopped: bool = True) -> None:
        port, self._port = self._port, None
        if port is None:
            self._end_beats()
            self._watchdog.dismiss()
            return
        stopped = chips_stopped
        if (line := self.profile.reset_line) is not None:
            stopped = self._hold_safely(port)
            if not stopped:
                log.error("%s on %s: no %s line to hold it in reset", self.profile.name, port.path, line)
        self._end_beats()
        if stopped:
            self._watchdog.dismiss()
            return
        log.error(
            "%s on %s took no order to stop; the board is NOT CONTROLLABLE and may still be hashing: pull its power"
            " plug",
            self.profile.name,
            port.path,
        )
        self._watchdog.release()  # it tries again, and says what came of it

    def pulse_reset(self, port: SerialPort) -> bool:
        if self.profile.reset_line is None or not self._hold(port, low=True):
            return False
        time.sleep(_RESET_PULSE_S)
        self._hold(port, low=False)
        return True

    def check(self) -> None:
        if self._fault is not None:
            raise BoardFault(self._fault)

    def chips_running(self, stop_frames: bytes) -> None:
        """From here on the watchdog can stop the chips even without a reset line."""
        self._arm(stop_frames)

    def sensors(self) -> Sensors:
        return Sensors(controllable=self.profile.reset_line is not None, fault=self._fault)

    def gone(self) -> None:
        self._port = None
        self._end_beats()
        self._watchdog.dismiss()
        log.error(
            "%s: its cable has been pulled; the board is NOT CONTROLLABLE and may still be powered: unless USB was its"
            " supply, pull its power plug",
            self.profile.name,
        )

    def found(self, data_port: str) -> None:
        """Nothing beside the port itself."""

    def _unsure(self) -> str:
        voltage = "its core voltage cannot be switched off from here"
        return voltage if self.profile.reset_line is not None else f"{voltage}, and it has no reset line"

    def _arm(self, stop_frames: bytes) -> None:
        port = self._port
        if port is None:
            return
        steps = [Step(send=stop_frames, wait_s=_STOP_PAUSE_S)] * _STOP_TIMES if stop_frames else []
        if self.profile.reset_line is not None:
            steps.append(Step(line=self.profile.reset_line))
        try:
            self._watchdog.arm(OffPlan(self.profile.name, port.path, steps, self._unsure()))
        except WatchdogError as error:
            if not port.exists:  # pulled just now, and to be waited for
                raise PortGone(f"{port.path} has been unplugged") from None
            raise BoardFault(str(error)) from None
        if self._thread is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._beat, args=(self._stop,), name="watchdog-beats", daemon=True)
            self._thread.start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(_BEAT_S):
            if not self._watchdog.beat():
                self._fault = self._watchdog.complaint
                return

    def _end_beats(self) -> None:
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join(5)

    def _hold_safely(self, port: SerialPort) -> bool:
        try:
            return self._hold(port, low=True)
        except PortError:
            return False

    def _hold(self, port: SerialPort, *, low: bool) -> bool:
        return port.set_lines(dtr=low) if self.profile.reset_line == "dtr" else port.set_lines(rts=low)
