"""Fan controllers and thermometers on boards: EMC2101, EMC2302, TMP1075 (REFERENCE.md §5-§7)."""

from __future__ import annotations

from dataclasses import dataclass

from miner.asic.boards.i2c import Conversation, I2cError, Transfer


def emc2101_temperature(high: int, low: int) -> float | None:
    """Registers 01 and 10 of an EMC2101: 11 bits, signed, 0.125 °C; None for a diode that is open or shorted (§5)."""
    raw = high << 3 | low >> 5
    if raw in (0x3F8, 0x3FF):
        return None
    return (raw - 2048 if raw & 0x400 else raw) * 0.125


def emc2101_fan_setting(percent: float) -> int:
    """Register 4C for a fan speed (§5)."""
    return int(63 * min(max(percent, 0.0), 100.0) / 100)


def emc2101_rpm(count: int) -> int:
    """Revolutions a minute of a tach count; FFFF means that no edge came (§5)."""
    return 0 if count in (0, 0xFFFF) else 5_400_000 // count


def tmp1075_temperature(word: int) -> float:
    """Register 00 of a TMP1075: upper 12 bits, signed, 0.0625 °C (§7)."""
    raw = word >> 4
    return (raw - 4096 if raw & 0x800 else raw) * 0.0625


def emc2302_rpm(high: int, low: int, multiplier: int = 1) -> int:
    """Revolutions a minute of an EMC2302's tach registers (§6)."""
    count = high << 5 | low >> 3
    return 0 if high == 0xFF or count == 0 else 3_932_160 * multiplier // count


@dataclass(frozen=True, slots=True)
class Emc2101:
    """Fan controller with the thermometer of the chip's diode. `ideality`, `beta`: of that diode; None leaves them."""

    address: int = 0x4C
    ideality: int | None = None
    beta: int | None = None

    def start(self) -> Conversation[None]:
        product = yield self._read(0xFD)
        manufacturer = yield self._read(0xFE)
        if product[0] not in (0x16, 0x28) or manufacturer[0] != 0x5D:
            raise I2cError(f"the device at {self.address:02X} is no EMC2101 ({product.hex()}, {manufacturer.hex()})")
        config = yield self._read(0x03)
        yield self._write(0x03, config[0] | 0x04)  # the pin is a tachometer input
        yield self._write(0x4A, 0x23)
        if self.ideality is not None:
            yield self._write(0x17, self.ideality)
        if self.beta is not None:
            yield self._write(0x18, self.beta)

    def set_fan(self, percent: float) -> Conversation[None]:
        yield self._write(0x4C, emc2101_fan_setting(percent))

    def fan_rpm(self) -> Conversation[int]:
        low = yield self._read(0x46)  # latches the other
        high = yield self._read(0x47)
        return emc2101_rpm(high[0] << 8 | low[0])

    def temperature(self) -> Conversation[float | None]:
        """Of the chip; None when its diode is not there."""
        high = yield self._read(0x01)
        low = yield self._read(0x10)
        return emc2101_temperature(high[0], low[0])

    def _read(self, register: int) -> Transfer:
        return Transfer(self.address, bytes((register,)), 1)

    def _write(self, register: int, value: int) -> Transfer:
        return Transfer(self.address, bytes((register, value)))


@dataclass(frozen=True, slots=True)
class Emc2302:
    """Controller of two fans, both set alike."""

    address: int = 0x2F

    def start(self) -> Conversation[None]:
        for register in (0x32, 0x42):  # range 0: the slowest fans can be told from none
            config = yield Transfer(self.address, bytes((register,)), 1)
            yield Transfer(self.address, bytes((register, config[0] & 0x9F)))

    def set_fan(self, percent: float) -> Conversation[None]:
        setting = int(255 * min(max(percent, 0.0), 100.0) / 100)
        for register in (0x30, 0x40):
            yield Transfer(self.address, bytes((register, setting)))

    def fan_rpm(self) -> Conversation[int]:
        """Of the faster one; the second fan is optional."""
        speeds = []
        for register in (0x3E, 0x4E):
            data = yield Transfer(self.address, bytes((register,)), 2)
            speeds.append(emc2302_rpm(data[0], data[1]))
        return max(speeds)


@dataclass(frozen=True, slots=True)
class Tmp1075:
    """Board thermometer."""

    address: int = 0x4A

    def start(self) -> Conversation[None]:
        """I2cError unless it is one."""
        ident = yield Transfer(self.address, b"\x0f", 2)
        if bytes(ident) != b"\x75\x00":
            raise I2cError(f"the device at {self.address:02X} is no TMP1075 ({ident.hex()})")

    def temperature(self) -> Conversation[float | None]:
        """Of the board at its place."""
        data = yield Transfer(self.address, b"\x00", 2)
        return tmp1075_temperature(int.from_bytes(data, "big"))
