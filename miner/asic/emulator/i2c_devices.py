"""I2C devices of emulated boards, register by register (boards/REFERENCE.md §5-§8). Written from there, not from the
drivers; they share the PMBus command codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from miner.asic.boards.pmbus import Command, StatusWord


class Nak(Exception):
    """Nobody answers at that address, or not to that."""


class I2cDevice(Protocol):
    """One device."""

    def write(self, data: bytes) -> None:
        """A write transfer. Raises Nak."""

    def read(self, count: int) -> bytes:
        """A read transfer, from where the last write left the pointer. Raises Nak."""


@dataclass(slots=True)
class ByteRegisters:
    """A device with 8-bit registers and a pointer that moves on with each byte. `read_only`: writes there are lost."""

    registers: dict[int, int]
    read_only: frozenset[int] = frozenset()
    pointer: int = 0

    def write(self, data: bytes) -> None:
        if not data:
            return
        self.pointer = data[0]
        for value in data[1:]:
            if self.pointer not in self.read_only:
                self.registers[self.pointer] = value
            self.pointer = self.pointer + 1 & 0xFF

    def read(self, count: int) -> bytes:
        values = bytes(self.registers.get(self.pointer + index & 0xFF, 0) for index in range(count))
        self.pointer = self.pointer + count & 0xFF
        return values


def emc2101() -> ByteRegisters:
    """With the values it starts with (§5, §11)."""
    return ByteRegisters(
        {0x00: 25, 0x01: 0x19, 0x10: 0, 0x46: 0x08, 0x47: 0x07, 0x17: 0x12, 0xFD: 0x16, 0xFE: 0x5D, 0xFF: 0x01},
        frozenset((0x00, 0x01, 0x10, 0x46, 0x47, 0xFD, 0xFE, 0xFF)),
    )


def set_emc2101(device: ByteRegisters, chip_c: float | None, board_c: float, rpm: float) -> None:
    """What it measures now; no chip temperature: the diode is open."""
    raw = 0x3F8 if chip_c is None else round(chip_c / 0.125) & 0x7FF
    device.registers[0x01], device.registers[0x10] = raw >> 3, (raw & 7) << 5
    device.registers[0x00] = round(board_c) & 0xFF
    count = 0xFFFF if rpm < 83 else min(0xFFFF, round(5_400_000 / rpm))
    device.registers[0x46], device.registers[0x47] = count & 0xFF, count >> 8


def emc2302() -> ByteRegisters:
    """Two fans (§6)."""
    return ByteRegisters({0x32: 0x2B, 0x42: 0x2B, 0x30: 0, 0x40: 0, 0xFD: 0x36, 0xFE: 0x5D})


def set_emc2302(device: ByteRegisters, rpm: float) -> None:
    """Both fans at that speed."""
    if rpm < 500:  # slower than range 0 can count
        high, low = 0xFF, 0xF8
    else:
        count = round(3_932_160 / rpm)
        high, low = count >> 5, (count & 0x1F) << 3
    for register in (0x3E, 0x4E):
        device.registers[register], device.registers[register + 1] = high, low


@dataclass(slots=True)
class Tmp1075:
    """16-bit registers behind a pointer (§7)."""

    temperature_c: float = 25.0
    pointer: int = 0

    def write(self, data: bytes) -> None:
        if data:
            self.pointer = data[0]

    def read(self, count: int) -> bytes:
        raw = {0x00: (round(self.temperature_c / 0.0625) & 0xFFF) << 4, 0x0F: 0x7500}.get(self.pointer, 0)
        return raw.to_bytes(2, "big")[:count]


_BYTES = {
    *(Command.OPERATION, Command.ON_OFF_CONFIG, Command.PHASE, Command.VOUT_MODE, Command.IOUT_OC_FAULT_RESPONSE),
    *(Command.OT_FAULT_RESPONSE, Command.VIN_OV_FAULT_RESPONSE, Command.TON_MAX_FAULT_RESPONSE, Command.SYNC_CONFIG),
    *(Command.STATUS_VOUT, Command.STATUS_IOUT, Command.STATUS_INPUT, Command.STATUS_TEMPERATURE, Command.STATUS_CML),
}
_READ_ONLY = {
    *(Command.STATUS_WORD, Command.READ_VIN, Command.READ_VOUT, Command.READ_IOUT, Command.READ_TEMPERATURE_1),
    Command.IC_DEVICE_ID,
}
_DEVICE_ID = bytes.fromhex("0654 4954 6d24 41".replace(" ", ""))
_DETAIL_BITS = {
    Command.STATUS_VOUT: StatusWord.VOUT,
    Command.STATUS_IOUT: StatusWord.IOUT,
    Command.STATUS_INPUT: StatusWord.INPUT,
    Command.STATUS_TEMPERATURE: StatusWord.TEMPERATURE,
    Command.STATUS_CML: StatusWord.CML,
}
_VOUT_MODE = 0x97  # linear, 2^-9, limits relative


@dataclass(slots=True)
class Tps546:
    """The regulator (§8). `volts_in`, `load_amps`, `temperature_c`: what it measures; `latched`: a fault has switched
    it off, until OPERATION says off and on again; `stuck_on`: it takes every order, and its output stays on."""

    volts_in: float = 5.0
    load_amps: float = 0.0
    temperature_c: float = 30.0
    latched: bool = False
    stuck_on: bool = False
    registers: dict[int, int] = field(
        default_factory=lambda: {
            Command.OPERATION: 0x00,
            Command.VOUT_MODE: _VOUT_MODE,
            Command.VOUT_COMMAND: 0x0200,
            Command.VOUT_MAX: 0x0300,
            Command.VOUT_MIN: 0x0100,
            Command.IOUT_OC_FAULT_LIMIT: 0xE320,
            Command.IOUT_OC_WARN_LIMIT: 0xE2D0,
            Command.OT_FAULT_LIMIT: 0x0091,
            Command.OT_WARN_LIMIT: 0x0069,
        }
    )
    _pointer: int = 0

    @property
    def output_on(self) -> bool:
        """Whether the core has voltage."""
        return self.stuck_on or (self.registers[Command.OPERATION] & 0x80 != 0 and not self.latched)

    @property
    def volts(self) -> float:
        """Of the output."""
        if not self.output_on:
            return 0.0
        word = self.registers[Command.VOUT_COMMAND]
        return min(max(word, self.registers[Command.VOUT_MIN]), self.registers[Command.VOUT_MAX]) / 512

    def raise_fault(self, register: Command, bits: int, switch_off: bool = False) -> None:
        """Set bits of a status register, as the condition would."""
        self.registers[register] = self.registers.get(register, 0) | bits
        self.latched = self.latched or switch_off

    def protect(self) -> None:
        """Compare load and temperature with the limits that the host has written."""
        if not self.output_on:
            return
        if self.load_amps > _number(self.registers[Command.IOUT_OC_FAULT_LIMIT]):
            self.raise_fault(Command.STATUS_IOUT, 0x80, switch_off=True)
        elif self.load_amps > _number(self.registers[Command.IOUT_OC_WARN_LIMIT]):
            self.raise_fault(Command.STATUS_IOUT, 0x20)
        if self.temperature_c > _number(self.registers[Command.OT_FAULT_LIMIT]):
            self.raise_fault(Command.STATUS_TEMPERATURE, 0x80, switch_off=True)
        elif self.temperature_c > _number(self.registers[Command.OT_WARN_LIMIT]):
            self.raise_fault(Command.STATUS_TEMPERATURE, 0x40)

    def write(self, data: bytes) -> None:
        if not data:
            return
        self._pointer = command = data[0]
        if command == Command.CLEAR_FAULTS:
            for register in _DETAIL_BITS:
                self.registers[register] = 0
            return
        if len(data) == 1:
            return
        wanted = 1 if command in _BYTES else 2
        if command in _READ_ONLY or len(data) - 1 != wanted:
            self.raise_fault(Command.STATUS_CML, 0x80 if command in _READ_ONLY else 0x40)
            return
        if command == Command.OPERATION and not data[1] & 0x80:
            self.latched = False
        self.registers[command] = int.from_bytes(data[1:], "little")

    def read(self, count: int) -> bytes:
        command = self._pointer
        if command == Command.IC_DEVICE_ID:
            return _DEVICE_ID[:count]
        measured = {
            Command.READ_VIN: _word(self.volts_in),
            Command.READ_VOUT: round(self.volts * 512),
            Command.READ_IOUT: _word(self.load_amps if self.output_on else 0.0),
            Command.READ_TEMPERATURE_1: _word(self.temperature_c),
            Command.STATUS_WORD: self._status_word(),
        }
        value = measured.get(Command(command)) if command in measured else self.registers.get(command)
        if value is None:
            raise Nak
        return value.to_bytes(1 if command in _BYTES else 2, "little")[:count]

    def _status_word(self) -> int:
        word = 0 if self.output_on else StatusWord.OFF | StatusWord.POWER_NOT_GOOD
        for register, bit in _DETAIL_BITS.items():
            if self.registers.get(register, 0):
                word |= bit
        if self.registers.get(Command.STATUS_VOUT, 0) & 0x80:
            word |= StatusWord.VOUT_OV
        if self.registers.get(Command.STATUS_IOUT, 0) & 0x80:
            word |= StatusWord.IOUT_OC
        if self.registers.get(Command.STATUS_INPUT, 0) & 0x10:
            word |= StatusWord.VIN_UV
        return word


def _number(word: int) -> float:
    """LINEAR11: two's complement, five bits of exponent and eleven of mantissa."""
    exponent = (word >> 11) - (32 if word & 0x8000 else 0)
    mantissa = (word & 0x7FF) - (2048 if word & 0x400 else 0)
    return float(mantissa * 2.0**exponent)


def _word(value: float) -> int:
    """The same number as LINEAR11, sixteenths where they fit."""
    for exponent in (-4, -1, 2):
        mantissa = round(value / 2.0**exponent)
        if -1024 <= mantissa < 1024:
            return (exponent & 0x1F) << 11 | mantissa & 0x7FF
    return 0x7BFF
