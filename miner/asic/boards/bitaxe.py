"""A board with a bitaxe-raw control channel: power-up and -down in order, a thread that watches its sensors, a process
that watches the thread (REFERENCE.md §9, §10).

Whatever happens, one of these switches it off: `power_down` (orderly end, and every exception of the driver), the
supervising thread (heat, silence, regulator faults), the watchdog process (the miner is gone or hangs), the
regulator's own limits (nobody is left). What can not be switched off is said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from miner.asic.boards import bitaxe_raw, pmbus
from miner.asic.boards.bitaxe_raw import RESET_PIN, encode_reply, gpio_set, i2c_write
from miner.asic.boards.control_port import ControlPort, ControlSilent
from miner.asic.boards.guard import SILENCE_S, OffPlan, Step, Watchdog, WatchdogError
from miner.asic.boards.i2c import Conversation, I2cError, T
from miner.asic.boards.power import BoardFault, Sensors, log
from miner.asic.boards.profile import LOWEST_MHZ, BoardProfile
from miner.asic.boards.safety import Readings, SafetyPolicy
from miner.asic.boards.sensors import Emc2101, Tmp1075
from miner.asic.boards.tps546 import ADDRESS as REGULATOR_ADDRESS
from miner.asic.boards.tps546 import RegulatorReading, RegulatorSettings, Tps546
from miner.asic.transport import PortError, PortGone, SerialPort, control_port_of

_BUS_HZ = 100_000
_FULL_FAN = 100.0
_RESTING_FAN = 25.0
_VOLTAGE_TOLERANCE = 0.1  #: of the target, after the output has had its time
_OVER_CURRENT_MARGIN = 1.2  #: the regulator's own limit, over that of the supervision
_LOST_GRACE_S = 2.0  #: after the control port has vanished, for the data port to vanish too: a pulled cable
_UNCONTROLLABLE = "is NOT CONTROLLABLE and may still be powered: pull its power plug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Waits in seconds (§9). Tests against emulated boards shorten them."""

    poll_s: float = 0.5
    configure_s: float = 0.1
    voltage_s: float = 0.5
    reset_s: float = 0.1
    diode_s: float = 1.0  #: before the diode of a chip that left reset is believed
    reply_s: float = bitaxe_raw.REPLY_TIMEOUT_S
    silence_s: float = SILENCE_S
    driver_s: float = 30.0  #: without a sign of the thread that drives the chips


class BitaxePower:
    """BoardPower over a control port. `control_path`: None to find it beside the data port by its USB identity."""

    def __init__(
        self,
        profile: BoardProfile,
        control_path: str | None = None,
        target_mhz: float | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wiring = profile.regulator
        if profile.model is None or wiring is None or profile.fan is None:
            raise ValueError(f"{profile.name} is no board with a bitaxe-raw control channel")
        self.profile = profile
        self.timing = timing or Timing()
        self._control_path = control_path
        self._clock = clock
        self._target_mhz = profile.clock_mhz(target_mhz) or profile.model.default_mhz
        self._chip_volts = profile.chip_volts()
        low_mv, high_mv = profile.voltage_limits_mv
        self._regulator = Tps546(
            RegulatorSettings(
                volts_min=min(1.0, low_mv / 1000) * profile.domains,
                volts_max=high_mv / 1000 * profile.domains,
                vin_on=wiring.vin_on,
                vin_off=wiring.vin_off,
                vin_over=wiring.vin_over,
                vin_warn=wiring.vin_warn,
                scale_loop=wiring.scale_loop,
                amps_warn=profile.limits.amps,
                amps_fault=profile.limits.amps * _OVER_CURRENT_MARGIN,
            )
        )
        self._fan = profile.fan
        self._thermometers = [Tmp1075(address) for address in profile.thermometers]
        self._lock = threading.RLock()  # of the control port's users: one sequence at a time
        self._control: ControlPort | None = None
        self._watchdog = Watchdog(self.timing.silence_s)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._policy = self._new_policy()
        self._fault: str | None = None
        self._lost_at: float | None = None
        self._checked_at = clock()
        self._last_warnings: tuple[str, ...] = ()
        self._sensors = Sensors()
        self._fan_percent = -1.0

    # For the thread that drives the chips

    @property
    def allowed_mhz(self) -> float | None:
        return self._sensors.allowed_mhz

    @property
    def voltage_limits_mv(self) -> tuple[float, float] | None:
        return self.profile.voltage_limits_mv

    def aim_at(self, frequency_mhz: float) -> None:
        with self._lock:
            self._target_mhz = self.profile.clock_mhz(frequency_mhz) or frequency_mhz
            self._policy.aim_at(self._target_mhz)
            if self._sensors.allowed_mhz and not self._policy.throttled:
                self._sensors = replace(self._sensors, allowed_mhz=self._target_mhz)

    def set_chip_mv(self, millivolts: float) -> float:
        volts = self.profile.chip_volts(millivolts)
        with self._lock:
            self.check()
            self._chip_volts = volts
            if self._control is not None:
                try:
                    self._talk(self._regulator.set_voltage(volts * self.profile.domains))
                except (I2cError, ControlSilent) as error:
                    self._trip(f"the voltage could not be set: {error}")
                    self.check()
        return volts * 1000

    @property
    def watchdog_pid(self) -> int | None:
        """Of the process that guards the board."""
        return self._watchdog.pid

    def sensors(self) -> Sensors:
        return self._sensors

    def check(self) -> None:
        self._checked_at = self._clock()
        if self._fault is None or (self._lost_at is not None and self._clock() - self._lost_at < _LOST_GRACE_S):
            return
        raise BoardFault(self._fault)

    def power_up(self, port: SerialPort) -> None:
        self.power_down()
        self._fault = self._lost_at = None
        self._checked_at = self._clock()
        self._last_warnings = ()
        self._stop = threading.Event()
        self._policy = self._new_policy()
        path = self._control_path or control_port_of(port.path)
        if path is None:
            raise PortError(f"its control port is not found beside {port.path}; name it: --port DATA,CONTROL")
        control = ControlPort(path, self.timing.reply_s)
        try:
            control.detect()
        except (I2cError, PortError) as error:
            control.close()
            if self._sensors.fault is not None:  # it was on when it was last seen, and still is for all we know
                self._sensors = replace(self._sensors, fault=f"it is back, but {error}")
            raise PortError(f"{error}: is it the control port, and a {self.profile.name}?") from None
        self._control = control
        try:
            with self._lock:
                self._bring_up()
        except (I2cError, WatchdogError, ControlSilent) as error:
            with self._lock:
                state = self._end_of_fault()
            self._fault = f"{error}; the board {state}"
            self._sensors = replace(self._sensors, fault=self._fault)
            self.power_down()
            raise BoardFault(self._fault) from None
        except PortGone:
            self.gone()
            raise PortGone(f"{self.profile.name}: its cable has been pulled; the board {_UNCONTROLLABLE}") from None
        except BaseException:
            self.power_down()
            raise
        self._thread = threading.Thread(target=self._supervise, name=f"supervise-{port.path}", daemon=True)
        self._thread.start()

    def power_down(self, *, chips_stopped: bool = True) -> None:
        self._end_supervision()
        control = self._control
        if control is None:
            return
        with self._lock:
            known_off = self._fault is not None and self._sensors.powered is False
            off = self._switch_off(_FULL_FAN if self._fault is not None else _RESTING_FAN) or known_off
            self._sensors = replace(self._sensors, powered=False if off else None, controllable=off)
            self._control = None
            control.close()
        if off:
            self._watchdog.dismiss()
        else:
            log.error("%s did not confirm that it is off; the board %s", self.profile.name, _UNCONTROLLABLE)
            self._watchdog.release()  # it opens the port for itself and says what came of it

    def pulse_reset(self, port: SerialPort) -> bool:
        control = self._control
        if control is None:
            return False
        try:
            with self._lock:
                if self._fault is not None:
                    return False
                control.ask(gpio_set(RESET_PIN, False))
                time.sleep(self.timing.reset_s)
                control.ask(gpio_set(RESET_PIN, True))
                self._policy.ignore_chip_until(self._clock() + self.timing.diode_s)
        except (I2cError, PortError) as error:
            log.warning("%s: no reset: %s", self.profile.name, error)
            return False
        time.sleep(self.timing.reset_s)
        return True

    def chips_running(self, stop_frames: bytes) -> None:
        """Nothing to learn: supply and reset are in our hands."""

    def gone(self) -> None:
        self._end_supervision()
        control = self._control
        if control is None:
            return
        with self._lock:
            pulled = self._is_pulled(control)
            off = not pulled and self._switch_off(_FULL_FAN)
            self._control = None
            control.close()
        what = "its cable has been pulled" if pulled else "its data port has disappeared"
        self._fault = f"{what}; the board {'is off' if off else _UNCONTROLLABLE}"
        self._sensors = replace(
            self._sensors,
            powered=False if off else None,
            controllable=off,
            allowed_mhz=0.0,
            fault=what,
        )
        log.error("%s: %s", self.profile.name, self._fault)
        if pulled or off:
            self._watchdog.dismiss()
        else:
            self._watchdog.release()

    def found(self, data_port: str) -> None:
        beside = control_port_of(data_port)
        if self._control_path is not None and beside is not None:
            self._control_path = beside

    # Power-up

    def _bring_up(self) -> None:
        """The order of §9. The output is off until everything that watches it is in place."""
        control, timing = self._need_control(), self.timing
        control.ask(gpio_set(RESET_PIN, False))
        control.ask(bitaxe_raw.i2c_frequency(_BUS_HZ))
        self._talk(self._fan.start())
        self._set_fan(_FULL_FAN)
        for thermometer in self._thermometers:
            self._talk(thermometer.start())
        self._talk(self._regulator.identify())
        self._watchdog.arm(self._off_plan())
        self._talk(self._regulator.configure())
        time.sleep(timing.configure_s)
        volts = self._talk(self._regulator.set_voltage(self._chip_volts * self.profile.domains))
        self._talk(self._regulator.enable())
        time.sleep(timing.voltage_s)
        reading = self._talk(self._regulator.read())
        if reading.faults:
            raise I2cError("; ".join(reading.faults))
        if abs(reading.volts - volts) > _VOLTAGE_TOLERANCE * volts:
            raise I2cError(f"the core voltage is {reading.volts:.2f} V instead of {volts:.2f} V")
        time.sleep(timing.voltage_s)
        control.ask(gpio_set(RESET_PIN, True))
        self._policy.ignore_chip_until(self._clock() + timing.diode_s)
        self._sensors = Sensors(
            allowed_mhz=self._target_mhz,
            fan_percent=self._fan_percent,
            powered=True,
            controllable=True,
            volts_in=reading.volts_in,
            volts=reading.volts,
            amps=reading.amps,
            regulator_c=reading.temperature_c,
        )
        time.sleep(timing.reset_s)

    def _off_plan(self) -> OffPlan:
        control = self._need_control()
        framing = control.framing
        if framing is None:
            raise RuntimeError("the framing of the control port has not been found out")
        requests = (
            (gpio_set(RESET_PIN, False), b"\x00"),
            (i2c_write(REGULATOR_ADDRESS, bytes((pmbus.Command.OPERATION, pmbus.OPERATION_OFF))), b"\x02"),
            (bitaxe_raw.i2c_write_read(REGULATOR_ADDRESS, bytes((pmbus.Command.OPERATION,)), 1), b"\x00"),
        )
        steps = [
            Step(request.encode(0xE0 + index), encode_reply(framing, 0xE0 + index, answer), self.timing.reply_s)
            for index, (request, answer) in enumerate(requests)
        ]
        return OffPlan(self.profile.name, control.path, steps)

    # Supervision

    def _supervise(self) -> None:
        """Until told to stop: sensors, judgement, fan, watchdog. Any failure of this thread is a fault of the board."""
        try:
            while not self._stop.wait(self.timing.poll_s):
                with self._lock:
                    if self._stop.is_set():
                        return
                    if not self._watchdog.beat():
                        self._trip(self._watchdog.complaint)
                    if self._clock() - self._checked_at > self.timing.driver_s:
                        self._trip(f"its driver has not been heard of for {self.timing.driver_s:g} s")
                    if self._fault is None:
                        self._round()
                    elif self._sensors.powered is not False:
                        self._retry_off()
        except PortGone:
            self._lost_at = self._clock()
            self._fault = f"its control port has disappeared; the board {_UNCONTROLLABLE}"
            self._sensors = replace(self._sensors, powered=None, controllable=False, fault=self._fault)
            log.error("%s: %s", self.profile.name, self._fault)
        except Exception as error:  # a defect here must not leave the board alone
            self._trip(f"its supervision failed ({type(error).__name__}: {error})")

    def _round(self) -> None:
        readings, sensors = self._measure()
        verdict = self._policy.take(readings, self._clock())
        obeys = verdict.fault is not None or self._set_fan_safely(verdict.fan_percent)
        self._sensors = replace(
            sensors,
            fan_percent=self._fan_percent,
            allowed_mhz=verdict.allowed_mhz,
            throttled=self._policy.throttled,
            powered=True,
            controllable=obeys,
        )
        for warning in sensors.warnings:
            if warning not in self._last_warnings:
                log.warning("%s: %s", self.profile.name, warning)
        self._last_warnings = sensors.warnings
        if verdict.fault is not None:
            self._trip(verdict.fault)

    def _measure(self) -> tuple[Readings, Sensors]:
        """One round; what does not answer is None. After the first silence of the port itself nothing more is asked."""
        fan, profile = self._fan, self.profile
        temperatures: list[float] = []
        chip_c: float | None = None
        regulator: RegulatorReading | None = None
        rpm: int | None = None
        try:
            rpm = self._try(fan.fan_rpm())
            if profile.thermometers:
                found = [self._try(thermometer.temperature()) for thermometer in self._thermometers]
                temperatures = [value for value in found if value is not None]
                if len(temperatures) == len(found):
                    chip_c = max(temperatures) + profile.thermometer_offset_c
            elif isinstance(fan, Emc2101):
                chip_c = self._try(fan.temperature())
            regulator = self._try(self._regulator.read())
        except ControlSilent:
            pass
        readings = Readings(
            chip_c=chip_c,
            regulator_c=regulator.temperature_c if regulator is not None else None,
            volts=regulator.volts if regulator is not None else None,
            amps=regulator.amps if regulator is not None else None,
            fan_rpm=rpm,
            faults=self._regulator_faults(regulator),
        )
        return readings, Sensors(
            chip_c=chip_c,
            regulator_c=readings.regulator_c,
            board_c=tuple(temperatures),
            volts_in=regulator.volts_in if regulator is not None else None,
            volts=readings.volts,
            amps=readings.amps,
            fan_rpm=rpm,
            warnings=regulator.warnings if regulator is not None else (),
        )

    def _regulator_faults(self, reading: RegulatorReading | None) -> tuple[str, ...]:
        if reading is None:
            return ()
        if reading.faults or reading.output_on:
            return reading.faults
        return ("the core voltage went off by itself",)

    def _trip(self, reason: str) -> None:
        """Switch off for good; `check` tells the driver."""
        with self._lock:
            if self._fault is not None:
                return
            state = self._end_of_fault()
            self._fault = f"{reason}; the board {state}"  # only now: whoever sees it relies on the state being reached
            self._sensors = replace(self._sensors, fault=self._fault)
        log.error("%s: %s", self.profile.name, self._fault)

    def _end_of_fault(self) -> str:
        """Switch off, fan at full speed; the state in words."""
        off = self._switch_off(_FULL_FAN)
        self._sensors = replace(self._sensors, powered=False if off else None, controllable=off, allowed_mhz=0.0)
        return "is off" if off else _UNCONTROLLABLE

    def _retry_off(self) -> None:
        if self._switch_off(_FULL_FAN):
            self._sensors = replace(self._sensors, powered=False, controllable=True)
            log.error("%s: it obeys again and is off now", self.profile.name)

    def _switch_off(self, fan_percent: float) -> bool:
        """Reset low and output off, each tried whatever becomes of the other; True when both are confirmed."""
        control = self._control
        if control is None:
            return False
        try:
            in_reset = control.ask(gpio_set(RESET_PIN, False)) == b"\x00"
        except (I2cError, PortError):
            in_reset = False
        try:
            output_off = control.converse(self._regulator.disable())
        except (I2cError, PortError):
            output_off = False
        if in_reset or output_off:
            self._set_fan_safely(fan_percent)
        return in_reset and output_off

    def _is_pulled(self, control: ControlPort) -> bool:
        """Whether the control port has gone with the data port."""
        try:
            control.ask(gpio_set(RESET_PIN, False))
        except PortGone:
            return True
        except (I2cError, PortError):
            return False
        return False

    def _end_supervision(self) -> None:
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(10 * self.timing.reply_s + self.timing.poll_s)

    # Small things

    def _new_policy(self) -> SafetyPolicy:
        model = self.profile.model
        lowest = min(model.frequencies_mhz) / 2 if model is not None else LOWEST_MHZ
        floor = max(LOWEST_MHZ, min(self._target_mhz, lowest))
        most_volts = self._regulator.settings.volts_max * (1 + _VOLTAGE_TOLERANCE)
        return SafetyPolicy(replace(self.profile.limits, volts=most_volts), self._target_mhz, floor)

    def _need_control(self) -> ControlPort:
        if self._control is None:
            raise RuntimeError("the control port is not open")
        return self._control

    def _talk(self, conversation: Conversation[T]) -> T:
        return self._need_control().converse(conversation)

    def _try(self, conversation: Conversation[T]) -> T | None:
        try:
            return self._talk(conversation)
        except I2cError:
            return None

    def _set_fan(self, percent: float) -> None:
        if abs(percent - self._fan_percent) >= 1.0 or percent in (_FULL_FAN, _RESTING_FAN):
            self._talk(self._fan.set_fan(percent))
            self._fan_percent = percent

    def _set_fan_safely(self, percent: float) -> bool:
        try:
            self._set_fan(percent)
        except (I2cError, ControlSilent):
            return False
        return True
