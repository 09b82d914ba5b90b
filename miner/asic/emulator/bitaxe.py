"""An emulated Bitaxe with bitaxe-raw firmware: two pseudo-terminals, chips that live only while reset and core voltage
allow it, I2C devices, and heat that follows clock, voltage and fan (boards/REFERENCE.md §11)."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from miner.asic.bm13xx.models import MODELS
from miner.asic.boards.pmbus import Command
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.chip import AMBIENT_C, RISE_AT_DEFAULT_C, THERMAL_LAG_S
from miner.asic.emulator.i2c_devices import (
    ByteRegisters,
    I2cDevice,
    Nak,
    Tmp1075,
    Tps546,
    emc2101,
    emc2302,
    set_emc2101,
    set_emc2302,
)
from miner.asic.emulator.pty_port import PtyPort

_FAN_RPM = 5000.0  #: at full speed
_FAN_LAG_S = 0.5
_IDLE_SHARE = 0.05  #: of the power, while the chips have voltage and do not hash
_REGULATOR_RISE_C = 40.0
_LEAST_VOLTS_SHARE = 0.6  #: of a chip's default voltage, below which it does not work
_PARTIAL_S = 0.004  #: after which the firmware drops a request that has not come to its end
_OVERHEAT_C = 250.0


class ReplyFraming(Enum):
    """Which firmware build is emulated (§3)."""

    V0 = "v0"
    TOTAL = "total"
    V1 = "v1"


@dataclass(frozen=True, slots=True)
class BoardKind:
    """What is on the board. `watts`: of the core at defaults; `domains`: in series."""

    model: str
    chips: int
    domains: int
    watts: float
    fan: str
    thermometers: tuple[int, ...] = ()
    volts_in: float = 5.0


KINDS = {
    "bitaxe-ultra": BoardKind("bm1366", 1, 1, 12.0, "emc2101"),
    "bitaxe-supra": BoardKind("bm1368", 1, 1, 14.0, "emc2101"),
    "bitaxe-gamma": BoardKind("bm1370", 1, 1, 17.0, "emc2101"),
    "bitaxe-gamma-duo": BoardKind("bm1370", 2, 1, 24.0, "emc2101"),
    "bitaxe-hex": BoardKind("bm1366", 6, 3, 55.0, "emc2302", (0x4A, 0x4B), 12.0),
    "bitaxe-supra-hex": BoardKind("bm1368", 6, 3, 75.0, "emc2302", (0x4A, 0x4B), 12.0),
}


@dataclass(slots=True)
class BoardFaults:
    """Faults on demand. `heat_c`: added to what explains the chips' temperature; `silent`: I2C addresses that do not
    answer; `extra_amps`: drawn besides what the chips need; `reply_delay_s`: before each answer of the control port."""

    heat_c: float = 0.0
    fan_stopped: bool = False
    diode_open: bool = False
    silent: set[int] = field(default_factory=set)
    extra_amps: float = 0.0
    control_silent: bool = False
    reply_delay_s: float = 0.0

    def clear(self) -> None:
        """None from now on."""
        fresh = BoardFaults()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))


class EmulatedBitaxe(EmulatedBoard):
    """See the module. Pulling the USB cable leaves the supply on, as on the real board. `speed`: how much faster than
    real the temperatures move; `partial_s`: how long an incomplete request is kept, longer than the firmware's 4 ms
    because busy machines pause processes for longer."""

    chain: EmulatedChain

    def __init__(
        self,
        kind: str = "bitaxe-gamma",
        zero_bits: int = 32,
        framing: ReplyFraming = ReplyFraming.TOTAL,
        link: Path | None = None,
        speed: float = 1.0,
        partial_s: float = 25 * _PARTIAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = KINDS[kind]
        super().__init__(EmulatedChain(MODELS[self.kind.model], self.kind.chips, zero_bits), link, clock)
        self.board_faults = BoardFaults()
        self.regulator = Tps546(volts_in=self.kind.volts_in)
        self.fan: ByteRegisters = emc2101() if self.kind.fan == "emc2101" else emc2302()
        self.thermometers = {address: Tmp1075() for address in self.kind.thermometers}
        self.devices: dict[int, I2cDevice] = {0x24: self.regulator, **self.thermometers}
        self.devices[0x4C if self.kind.fan == "emc2101" else 0x2F] = self.fan
        self.reset_high = False
        self.chip_c = AMBIENT_C
        self.fan_rpm = 0.0
        self.led = (0, 0, 0)
        self.requests = 0  #: answered
        self._framing = framing
        self.speed = speed
        self._partial_s = partial_s
        self._control = PtyPort(link.with_name(link.name + "-control") if link is not None else None)
        self._request = bytearray()
        self._request_at = 0.0
        self._answers: deque[tuple[float, bytes]] = deque()
        self._was_alive = False
        self._last_turn: float | None = None

    @property
    def control_port(self) -> str:
        """Path of the control port."""
        return self._control.path

    @property
    def ports(self) -> str:
        return f"{self.port},{self.control_port}"

    @property
    def core_on(self) -> bool:
        """Whether the chips have core voltage."""
        return self.regulator.output_on

    @property
    def clock_on(self) -> bool:
        """Whether the chips are clocked: powered and out of reset."""
        return self._alive()

    def describe(self) -> str:
        """The board's state in a line."""
        return (
            f"core {'on' if self.core_on else 'OFF'}, clock {'on' if self.clock_on else 'OFF'},"
            f" {self.regulator.volts:.3f} V, {self.regulator.load_amps:.1f} A, {self.watts:.1f} W,"
            f" chip {self.chip_c:.1f} °C, fan {self.fan_rpm:.0f} rpm, {self.requests} requests"
        )

    def __enter__(self) -> EmulatedBitaxe:
        self.start()
        return self

    def _all_ports(self) -> list[PtyPort]:
        return [self._data, self._control]

    def _plug_in(self) -> None:
        self._control.plug_in()
        self._data.plug_in()
        self._request.clear()

    def _unplug(self) -> None:
        self._data.unplug()
        self._control.unplug()

    def _alive(self) -> bool:
        chip_volts = self.regulator.volts / self.kind.domains
        enough = chip_volts >= _LEAST_VOLTS_SHARE * self.chain.model.default_mv / 1000
        return self.reset_high and self.regulator.output_on and enough

    def _turn(self, now: float) -> None:
        self._turn_control(now)
        alive = self._alive()
        if alive != self._was_alive:
            self.chain.reset()
            self._was_alive = alive
        self._turn_chain(now)
        if not self._data.plugged and alive:
            self.chain.run(now, 0.001)  # nobody listens, but it goes on
            self.chain.bytes_to_send(now)
        elapsed = 0.0 if self._last_turn is None else now - self._last_turn
        self._last_turn = now
        self._heat(elapsed * self.speed, elapsed)

    # Physics

    @property
    def watts(self) -> float:
        """Power of the core: with the clock, with the square of the voltage."""
        if not self.regulator.output_on:
            return 0.0
        model = self.chain.model
        volts = self.regulator.volts / self.kind.domains / (model.default_mv / 1000)
        share = 0.0
        for chip in self.chain.chips:
            clock = chip.frequency_mhz / model.default_mhz if self._alive() and chip.hashing else 0.0
            share += max(_IDLE_SHARE, clock) / len(self.chain.chips)
        return self.kind.watts * share * volts**2

    def _heat(self, elapsed_s: float, real_s: float) -> None:
        faults = self.board_faults
        setting = self.fan.registers.get(0x4C, 0) / 63 if self.kind.fan == "emc2101" else self.fan.registers[0x30] / 255
        wanted_rpm = 0.0 if faults.fan_stopped else setting * _FAN_RPM
        self.fan_rpm += (wanted_rpm - self.fan_rpm) * min(1.0, real_s / _FAN_LAG_S)
        airflow = 1 / (0.2 + 1.6 * self.fan_rpm / _FAN_RPM)
        rise = RISE_AT_DEFAULT_C * self.watts / self.kind.watts * airflow
        steady = min(AMBIENT_C + rise + faults.heat_c, _OVERHEAT_C)
        self.chip_c += (steady - self.chip_c) * min(1.0, elapsed_s / THERMAL_LAG_S)
        for chip in self.chain.chips:
            chip.temperature_c = self.chip_c
            chip.supply_volts = self.regulator.volts / self.kind.domains
        regulator = self.regulator
        volts = regulator.volts
        regulator.load_amps = (self.watts / volts if volts else 0.0) + (faults.extra_amps if volts else 0.0)
        regulator.temperature_c = AMBIENT_C + _REGULATOR_RISE_C * self.watts / self.kind.watts
        regulator.protect()
        board_c = AMBIENT_C + (self.chip_c - AMBIENT_C) * 0.7
        if self.kind.fan == "emc2101":
            diode = None if faults.diode_open or not self._alive() else self.chip_c
            set_emc2101(self.fan, diode, board_c, self.fan_rpm)
        else:
            set_emc2302(self.fan, self.fan_rpm)
        for thermometer in self.thermometers.values():
            thermometer.temperature_c = self.chip_c - 10.0

    # The control port (§2-§4)

    def _turn_control(self, now: float) -> None:
        if not self._control.plugged:
            return
        data = self._control.read()
        if self._request and now - self._request_at > self._partial_s:
            self._request.clear()
        if data:
            self._request += data
            self._request_at = now
        while len(self._request) >= 2:
            size = int.from_bytes(self._request[:2], "little")
            if size < 6:
                self._answers.append((now, struct.pack("<HBB", 4, 0xFF, 0x11)))
                self._request.clear()
                break
            if len(self._request) < size:
                break
            request = bytes(self._request[:size])
            del self._request[:size]
            if not self.board_faults.control_silent:
                self._answers.append((now + self.board_faults.reply_delay_s, self._answer(request)))
        while self._answers and self._answers[0][0] <= now:
            self._control.write(self._answers.popleft()[1])

    def _answer(self, request: bytes) -> bytes:
        self.requests += 1
        request_id, page, command, data = request[2], request[4], request[5], request[6:]
        try:
            reply = self._obey(page, command, data)
        except Nak as failure:
            text = str(failure).encode()
            return struct.pack("<HBB", 4 + len(text), request_id, 0xFF) + text
        if reply is None:
            return struct.pack("<HBB", 4, request_id, 0x11)
        if self._framing is ReplyFraming.V0:
            return struct.pack("<HB", len(reply), request_id) + reply
        if self._framing is ReplyFraming.TOTAL:
            return struct.pack("<HB", len(reply) + 3, request_id) + reply
        return struct.pack("<HBB", len(reply) + 4, request_id, 0) + reply

    def _obey(self, page: int, command: int, data: bytes) -> bytes | None:
        """Reply data; None for an invalid command. Raises Nak with the text of the error."""
        if page == 0x05:
            return self._i2c(command, data)
        if page == 0x06 and command == 0x00:
            if data:
                self.reset_high = bool(data[0])
            return bytes((self.reset_high,))
        if page == 0x07 and command in (0x50, 0x51):
            return struct.pack("<H", 2048)
        if page == 0x08 and command == 0x10 and len(data) == 3:
            self.led = (data[0], data[1], data[2])
            return data
        return None

    def _i2c(self, command: int, data: bytes) -> bytes | None:
        if command == 0x10 and len(data) == 4:
            return data
        names = {0x20: "Write", 0x30: "Read", 0x40: "WriteRead"}
        if command not in names or len(data) < 2:
            return None
        try:
            device = self.devices.get(data[0])
            if device is None or data[0] in self.board_faults.silent:
                raise Nak
            if command == 0x20:
                device.write(data[1:])
                return bytes((len(data) - 1,))
            if command == 0x40:
                device.write(data[1:-1])
            return device.read(data[-1])
        except Nak:
            raise Nak(f"I2C {names[command]} Error") from None

    def regulator_fault(self, register: int, bits: int) -> None:
        """Raise bits of a PMBus status register; faults that the regulator acts on switch it off."""
        self.regulator.raise_fault(Command(register), bits, switch_off=bool(bits & 0x80) and register != 0x7E)
