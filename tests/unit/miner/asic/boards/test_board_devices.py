"""Number formats and registers of the devices on a board, and their drivers against the emulated ones."""

from __future__ import annotations

import pytest

from miner.asic.boards import pmbus, sensors
from miner.asic.boards.bitaxe import BitaxePower
from miner.asic.boards.catalog import board_named
from miner.asic.boards.i2c import Conversation, I2cError, T
from miner.asic.boards.pmbus import Command
from miner.asic.boards.sensors import Emc2101, Emc2302, Tmp1075
from miner.asic.boards.tps546 import RegulatorSettings, Tps546
from miner.asic.emulator import i2c_devices as emulated


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0xD2E6, 11.59375),
        (0x0064, 100),
        (0xCA66, 4.796875),
        (0xCA40, 4.5),
        (0xCB40, 6.5),
        (0xAA00, 0.25),
        (0xA200, 0.125),
        (0x028A, 650),
        (0xEB48, 105),
        (0x0069, 105),
        (0xF244, 145),
        (0xDB20, 25),
        (0xE370, 55),
        (0xC300, 3),
        (0x0003, 3),
        (0xD3B3, 14.796875),
    ],
)
def test_linear11_vectors(word: int, value: float) -> None:
    assert pmbus.from_linear11(word) == value
    assert emulated._number(word) == value
    assert pmbus.from_linear11(pmbus.linear11(value)) == value


@pytest.mark.parametrize(("value", "word"), [(4.8, 0xCA66), (650, 0x028A), (105, 0xEB48), (145, 0xF244), (25, 0xDB20)])
def test_linear11_is_spelled_as_other_hosts_do(value: float, word: int) -> None:
    assert pmbus.linear11(value) == word


def test_linear11_keeps_signs_and_refuses_what_does_not_fit() -> None:
    for value in (-40.0, -0.5, 0.0, 0.013, 30_000.0):
        assert pmbus.from_linear11(pmbus.linear11(value)) == pytest.approx(value, rel=2e-3)
    with pytest.raises(ValueError, match="LINEAR11"):
        pmbus.linear11(1e9)


def test_ulinear16_vectors() -> None:
    exponent = pmbus.vout_exponent(0x97)
    assert exponent == -9
    assert pmbus.ulinear16(1.15, exponent) == 0x024D
    assert pmbus.from_ulinear16(0x0266, exponent) == pytest.approx(1.1992, abs=1e-4)
    assert pmbus.from_ulinear16(0x0400, exponent) == 2.0
    with pytest.raises(ValueError, match="not linear"):
        pmbus.vout_exponent(0x40)
    with pytest.raises(ValueError, match="does not fit"):
        pmbus.ulinear16(-1, exponent)


@pytest.mark.parametrize(
    ("high", "low", "celsius"),
    [
        (0x19, 0x00, 25.0),
        (0x37, 0xA0, 55.625),
        (0x50, 0x00, 80.0),
        (0x00, 0x20, 0.125),
        (0xFF, 0xE0, -0.125),
        (0x7F, 0x00, None),
        (0x7F, 0xE0, None),
    ],
)
def test_emc2101_temperatures(high: int, low: int, celsius: float | None) -> None:
    assert sensors.emc2101_temperature(high, low) == celsius


def test_emc2101_fan() -> None:
    settings = {percent: sensors.emc2101_fan_setting(percent) for percent in (25, 30, 50, 70, 100, 150, -3)}
    assert settings == {25: 0x0F, 30: 0x12, 50: 0x1F, 70: 0x2C, 100: 0x3F, 150: 0x3F, -3: 0}
    assert [sensors.emc2101_rpm(count) for count in (0x0708, 0x0438, 0xFFFF, 0)] == [3000, 5000, 0, 0]


@pytest.mark.parametrize(
    ("word", "celsius"),
    [(0x7FF0, 127.9375), (0x6400, 100), (0x1900, 25), (0x0040, 0.25), (0xFFF0, -0.0625), (0xE700, -25), (0x8000, -128)],
)
def test_tmp1075_temperatures(word: int, celsius: float) -> None:
    assert sensors.tmp1075_temperature(word) == celsius


class Bus:
    """Emulated devices, without a port between."""

    def __init__(self, **devices: emulated.I2cDevice) -> None:
        self.devices = {int(name[1:], 16): device for name, device in devices.items()}

    def talk(self, conversation: Conversation[T]) -> T:
        try:
            transfer = next(conversation)
            while True:
                device = self.devices.get(transfer.address)
                if device is None:
                    transfer = conversation.throw(I2cError("nobody there"))
                    continue
                device.write(transfer.write)
                transfer = conversation.send(device.read(transfer.read) if transfer.read else b"")
        except StopIteration as result:
            value: T = result.value
            return value


def test_emc2101_driver() -> None:
    device = emulated.emc2101()
    bus, driver = Bus(x4c=device), Emc2101(ideality=0x24, beta=0x00)
    bus.talk(driver.start())
    assert (device.registers[0x03] & 4, device.registers[0x4A], device.registers[0x17]) == (4, 0x23, 0x24)
    bus.talk(driver.set_fan(70))
    assert device.registers[0x4C] == 0x2C
    emulated.set_emc2101(device, 61.375, 40.0, 3000)
    assert bus.talk(driver.temperature()) == 61.375
    assert bus.talk(driver.fan_rpm()) == 3000
    emulated.set_emc2101(device, None, 40.0, 0)
    assert bus.talk(driver.temperature()) is None
    assert bus.talk(driver.fan_rpm()) == 0
    device.registers[0xFE] = 0x11
    with pytest.raises(I2cError, match="no EMC2101"):
        bus.talk(driver.start())


def test_emc2302_and_tmp1075_drivers() -> None:
    fans, board = emulated.emc2302(), emulated.Tmp1075(41.25)
    bus, driver = Bus(x2f=fans, x4a=board), Emc2302()
    bus.talk(driver.start())
    bus.talk(driver.set_fan(50))
    assert fans.registers[0x30] == fans.registers[0x40] == 127
    emulated.set_emc2302(fans, 4000)
    assert bus.talk(driver.fan_rpm()) == pytest.approx(4000, rel=0.01)
    emulated.set_emc2302(fans, 0)
    assert bus.talk(driver.fan_rpm()) == 0
    bus.talk(Tmp1075().start())
    assert bus.talk(Tmp1075().temperature()) == 41.25
    with pytest.raises(I2cError):
        bus.talk(Tmp1075(0x4B).start())


SETTINGS = RegulatorSettings(volts_min=1.0, volts_max=1.25)


def regulator() -> tuple[Bus, Tps546, emulated.Tps546]:
    device = emulated.Tps546()
    return Bus(x24=device), Tps546(SETTINGS), device


def test_regulator_comes_up_in_order_and_within_limits() -> None:
    bus, driver, device = regulator()
    bus.talk(driver.identify())
    bus.talk(driver.configure())
    assert not device.output_on
    assert bus.talk(driver.set_voltage(9.0)) == 1.25, "held at the limit"
    assert bus.talk(driver.set_voltage(0.2)) == 1.0
    bus.talk(driver.set_voltage(1.15))
    bus.talk(driver.enable())
    device.load_amps, device.temperature_c = 15.0, 61.0
    reading = bus.talk(driver.read())
    assert (reading.output_on, reading.faults, reading.warnings) == (True, (), ())
    assert (reading.volts, reading.amps, reading.temperature_c) == pytest.approx((1.15, 15.0, 61.0), abs=0.01)
    assert reading.watts == pytest.approx(17.25, abs=0.05)
    assert bus.talk(driver.disable())
    assert not device.output_on
    assert device.registers.get(Command.STATUS_CML, 0) == 0, "every write had the length that its command takes"
    device.stuck_on = True
    assert not bus.talk(driver.disable()), "what OPERATION reads is not what the output does"


@pytest.mark.parametrize(("board", "volts"), [("bitaxe-gamma", None), ("bitaxe-hex", 11.0), ("bitaxe-supra-hex", 11.0)])
def test_a_low_supply_is_warned_of_on_12_v_boards_only(board: str, volts: float | None) -> None:
    """On 5 V boards the limit is left alone: the part is said to have a defect there."""
    bus, _, device = regulator()
    power = BitaxePower(board_named(board), "/dev/nothing")
    bus.talk(power._regulator.configure())
    written = device.registers.get(Command.VIN_UV_WARN_LIMIT)
    assert (None if written is None else pmbus.from_linear11(written)) == volts
    assert device.registers.get(Command.STATUS_CML, 0) == 0


def test_the_regulator_itself_refuses_more_than_the_limit() -> None:
    bus, driver, device = regulator()
    bus.talk(driver.configure())
    device.registers[Command.VOUT_COMMAND] = 0xFFFF
    bus.talk(driver.enable())
    assert device.volts == 1.25


@pytest.mark.parametrize(
    ("register", "bits", "word", "critical"),
    [(register, bit, text, critical) for register, rows in pmbus.STATUS_BITS.items() for bit, text, critical in rows],
)
def test_every_status_bit_is_said_in_words(register: Command, bits: int, word: str, critical: bool) -> None:
    bus, driver, device = regulator()
    bus.talk(driver.configure())
    bus.talk(driver.enable())
    device.raise_fault(register, bits)
    reading = bus.talk(driver.read())
    assert word in (reading.faults if critical else reading.warnings)
    assert bool(reading.faults) == critical


def test_overload_latches_off_until_told_again() -> None:
    bus, driver, device = regulator()
    bus.talk(driver.configure())
    bus.talk(driver.enable())
    device.load_amps = 31.0
    device.protect()
    reading = bus.talk(driver.read())
    assert "output over-current" in reading.faults
    assert not reading.output_on
    with pytest.raises(I2cError, match="stays off"):
        bus.talk(driver.enable())  # the fault is cleared, the latch is not
    bus.talk(driver.disable())
    device.load_amps = 3.0
    bus.talk(driver.enable())
    assert device.output_on


def test_another_part_is_refused() -> None:
    bus, driver, _ = regulator()
    bus.devices[0x24] = emulated.emc2101()
    with pytest.raises(I2cError, match="no TPS546"):
        bus.talk(driver.identify())
