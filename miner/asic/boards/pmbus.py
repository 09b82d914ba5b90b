"""PMBus: command codes, the two number formats and the status registers in words (PMBus 1.3 part II; REFERENCE.md
§8)."""

from __future__ import annotations

from enum import IntEnum


class Command(IntEnum):
    """Command codes."""

    OPERATION = 0x01
    ON_OFF_CONFIG = 0x02
    CLEAR_FAULTS = 0x03
    PHASE = 0x04
    VOUT_MODE = 0x20
    VOUT_COMMAND = 0x21
    VOUT_MAX = 0x24
    VOUT_MARGIN_HIGH = 0x25
    VOUT_MARGIN_LOW = 0x26
    VOUT_SCALE_LOOP = 0x29
    VOUT_MIN = 0x2B
    FREQUENCY_SWITCH = 0x33
    VIN_ON = 0x35
    VIN_OFF = 0x36
    VOUT_OV_FAULT_LIMIT = 0x40
    VOUT_OV_WARN_LIMIT = 0x42
    VOUT_UV_WARN_LIMIT = 0x43
    VOUT_UV_FAULT_LIMIT = 0x44
    IOUT_OC_FAULT_LIMIT = 0x46
    IOUT_OC_FAULT_RESPONSE = 0x47
    IOUT_OC_WARN_LIMIT = 0x4A
    OT_FAULT_LIMIT = 0x4F
    OT_FAULT_RESPONSE = 0x50
    OT_WARN_LIMIT = 0x51
    VIN_OV_FAULT_LIMIT = 0x55
    VIN_OV_FAULT_RESPONSE = 0x56
    VIN_UV_WARN_LIMIT = 0x58
    TON_DELAY = 0x60
    TON_RISE = 0x61
    TON_MAX_FAULT_LIMIT = 0x62
    TON_MAX_FAULT_RESPONSE = 0x63
    TOFF_DELAY = 0x64
    TOFF_FALL = 0x65
    STATUS_WORD = 0x79
    STATUS_VOUT = 0x7A
    STATUS_IOUT = 0x7B
    STATUS_INPUT = 0x7C
    STATUS_TEMPERATURE = 0x7D
    STATUS_CML = 0x7E
    READ_VIN = 0x88
    READ_VOUT = 0x8B
    READ_IOUT = 0x8C
    READ_TEMPERATURE_1 = 0x8D
    IC_DEVICE_ID = 0xAD
    SYNC_CONFIG = 0xE4
    STACK_CONFIG = 0xEC
    PIN_DETECT_OVERRIDE = 0xEE


OPERATION_OFF = 0x00
OPERATION_ON = 0x80


class StatusWord(IntEnum):
    """Bits of STATUS_WORD that stand for themselves."""

    BUSY = 0x0080
    OFF = 0x0040
    VOUT_OV = 0x0020
    IOUT_OC = 0x0010
    VIN_UV = 0x0008
    TEMPERATURE = 0x0004
    CML = 0x0002
    INPUT = 0x2000
    IOUT = 0x4000
    VOUT = 0x8000
    POWER_NOT_GOOD = 0x0800


#: Bits of the detail registers: register -> (bit, words, whether the output must go off).
STATUS_BITS: dict[Command, tuple[tuple[int, str, bool], ...]] = {
    Command.STATUS_VOUT: (
        (0x80, "output over-voltage", True),
        (0x40, "output voltage high (warning)", False),
        (0x20, "output voltage low (warning)", False),
        (0x10, "output under-voltage", True),
        (0x08, "voltage asked for is above the limit", False),
        (0x02, "output did not come up in time", True),
        (0x01, "voltage asked for is below the limit", False),
    ),
    Command.STATUS_IOUT: ((0x80, "output over-current", True), (0x20, "output current high (warning)", False)),
    Command.STATUS_INPUT: (
        (0x80, "supply over-voltage", True),
        (0x40, "supply voltage high (warning)", False),
        (0x20, "supply voltage low (warning)", False),
        (0x10, "supply under-voltage", True),
        (0x08, "off because of a low supply", True),
    ),
    Command.STATUS_TEMPERATURE: ((0x80, "regulator over-temperature", True), (0x40, "regulator hot (warning)", False)),
    Command.STATUS_CML: (
        (0x80, "regulator got a command it does not know", False),
        (0x40, "regulator got data it does not take", False),
        (0x20, "regulator got a bad packet checksum", False),
        (0x10, "regulator memory fault", True),
        (0x08, "regulator processor fault", True),
        (0x02, "regulator communication fault", False),
    ),
}
#: Bits of STATUS_WORD that must switch off whatever the detail registers say.
WORD_FAULTS: tuple[tuple[int, str], ...] = (
    (StatusWord.VOUT_OV, "output over-voltage"),
    (StatusWord.IOUT_OC, "output over-current"),
    (StatusWord.VIN_UV, "supply under-voltage"),
)
#: Detail registers that a bit of STATUS_WORD points to.
DETAILS: tuple[tuple[int, Command], ...] = (
    (StatusWord.VOUT, Command.STATUS_VOUT),
    (StatusWord.IOUT, Command.STATUS_IOUT),
    (StatusWord.INPUT, Command.STATUS_INPUT),
    (StatusWord.TEMPERATURE, Command.STATUS_TEMPERATURE),
    (StatusWord.CML, Command.STATUS_CML),
)


def linear11(value: float) -> int:
    """A number as LINEAR11: 5-bit exponent, 11-bit mantissa, both signed; the finest that holds it. ValueError when
    none does."""
    for exponent in range(-16, 16):
        mantissa = round(value / 2.0**exponent)
        if -1024 <= mantissa <= 1023:
            return (exponent & 0x1F) << 11 | mantissa & 0x7FF
    raise ValueError(f"{value:g} does not fit LINEAR11")


def from_linear11(word: int) -> float:
    """The number of a LINEAR11 word."""
    exponent, mantissa = _signed(word >> 11, 5), _signed(word & 0x7FF, 11)
    return mantissa * 2.0**exponent


def vout_exponent(mode: int) -> int:
    """The exponent of ULINEAR16 voltages, from VOUT_MODE. ValueError for the other formats that it can name."""
    if mode >> 5 & 3:
        raise ValueError(f"VOUT_MODE {mode:02X} is not linear")
    return _signed(mode & 0x1F, 5)


def ulinear16(volts: float, exponent: int) -> int:
    """Volts as ULINEAR16, rounded. ValueError when they do not fit."""
    word = round(volts / 2.0**exponent)
    if not 0 <= word <= 0xFFFF:
        raise ValueError(f"{volts:g} V does not fit ULINEAR16 with exponent {exponent}")
    return word


def from_ulinear16(word: int, exponent: int) -> float:
    """Volts of a ULINEAR16 word."""
    return word * 2.0**exponent


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value
