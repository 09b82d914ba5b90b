"""Registers of the BM13xx chips and every value that is written to them, each with the section of REFERENCE.md that
says where it is known from.

All registers are 32 bits wide, big-endian on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

CRYSTAL_HZ = 25_000_000  #: clock input of every board studied; reference of PLL, baud and hash counting (§1, §8)
BAUD_AT_RESET = 115_200  #: what hosts set; the chip runs at 25 MHz / (8 * 27) = 115,740 (§9)


class Register(IntEnum):
    """Address of each register (§6)."""

    CHIP_ID = 0x00
    HASH_RATE = 0x04
    PLL0 = 0x08
    NONCE_OFFSET = 0x0C
    HASH_COUNTING_NUMBER = 0x10
    TICKET_MASK = 0x14
    MISC_CONTROL = 0x18
    MISC_CONTROL_ADD = 0x19
    ORDERED_CLOCK_ENABLE = 0x20
    FAST_UART = 0x28
    UART_RELAY = 0x2C
    CORE_CONTROL = 0x3C
    CORE_VALUE = 0x40
    ERROR_COUNTER = 0x4C
    ANALOG_MUX = 0x54
    IO_DRIVE_STRENGTH = 0x58
    PLL3 = 0x68
    PLL0_DIVIDER = 0x70
    CLOCK_ORDER_0 = 0x80
    CLOCK_ORDER_1 = 0x84
    DOMAIN_COUNTER_0 = 0x88
    DOMAIN_COUNTER_1 = 0x89
    DOMAIN_COUNTER_2 = 0x8A
    DOMAIN_COUNTER_3 = 0x8B
    HASH_COUNTER = 0x8C
    VERSION_ROLLING = 0xA4
    SOFT_RESET = 0xA8
    TEMPERATURE_CONTROL = 0xB0
    TEMPERATURE = 0xB4
    ADC_INPUT = 0xB8
    ADC_CONTROL = 0xB9
    ADC_RESULT = 0xBD
    AUTO_WORK = 0xC4


#: Registers whose address means something else on the oldest chip: PLL3 is the ring oscillator's pad on BM1368 and
#: later, 0x8C a clock status on BM1397 (§6).
RING_OSCILLATOR_PAD = Register.PLL3


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as it is written to a register: what it does, and the section that says so."""

    register: Register
    value: int
    meaning: str
    section: str


def core(register: int, value: int, meaning: str, section: str) -> Setting:
    """A write to one core register in all cores of a chip, through the mailbox at 0x3C (§6.5)."""
    return Setting(Register.CORE_CONTROL, 0x8000_8000 | register << 8 | value, meaning, section)


def _setting(register: Register, value: int, meaning: str, section: str) -> Setting:
    return Setting(register, value, meaning, section)


# Version rolling and replies of 11 bytes
ROLL_ALL_VERSION_BITS = _setting(
    Register.VERSION_ROLLING, 0x9000_FFFF, "midstates made on the chip, all 16 version bits", "§10"
)

# Reset and reports
SOFT_RESET_DEFAULT = _setting(Register.SOFT_RESET, 0x0007_0000, "the power-on value, kept", "§6.3")
SOFT_RESET_CORES = _setting(Register.SOFT_RESET, 0x0007_01F0, "bring the cores up", "§6.3")
SOFT_RESET_BM1362 = _setting(Register.SOFT_RESET, 0x0000_0000, "no reset asked for", "§6.3")
SOFT_RESET_CORES_BM1362 = _setting(Register.SOFT_RESET, 0x0000_0002, "fast core reset", "§6.3")
SOFT_RESET_BM1373 = _setting(Register.SOFT_RESET, 0xF007_01F0, "bring the cores up, all chips", "§6.3")
REPORTS_ALL_CORES = _setting(Register.MISC_CONTROL, 0xF000_C100, "nonces of all four quarters of the cores", "§6.2")
REPORTS_BM1366 = _setting(Register.MISC_CONTROL, 0xFF0F_C100, "the same, broadcast form of BM1366 and BM1368", "§6.2")
REPORTS_BM1362 = _setting(Register.MISC_CONTROL, 0xB000_C100, "nonces of the BM1362's cores", "§6.2")
REPORTS_BM1373 = _setting(Register.MISC_CONTROL, 0xFF00_C100, "nonces of all cores", "§6.2")
MISC_ADD_BM1373 = _setting(Register.MISC_CONTROL_ADD, 0x0000_0000, "meaning unknown", "§15.5")
AUTO_WORK_OFF = _setting(Register.AUTO_WORK, 0x0000_0000, "no automatic work; before the baud change", "§15.5")

# Core registers
CORE_ENABLE = core(0x02, 0xAA, "enable the cores; always the last core write", "§6.5")
HASH_CLOCK_SELECT = core(0x05, 0x40, "hash clock", "§6.5")
CLOCK_SELECT = core(0x0B, 0x00, "clock select", "§6.5")
CLOCK_DELAY_BM1397 = core(0x00, 0x74, "clock delay, memory and hash clock enabled", "§6.5")
CLOCK_DELAY_BM1362 = core(0x00, 0x08, "clock delay", "§6.5")
CLOCK_DELAY_BM1366 = core(0x00, 0x20, "clock delay", "§6.5")
CLOCK_DELAY_BM1368 = core(0x00, 0x18, "clock delay", "§6.5")
CLOCK_DELAY_BM1370 = core(0x00, 0x0C, "clock delay", "§6.5")
CLOCK_DELAY_BM1373 = core(0x00, 0x5A, "clock delay", "§6.5")
NONCE_BIN_OVERFLOW_ON = core(0x0D, 0xEE, "nonce bin overflow control on", "§6.5")
NONCE_BIN_OVERFLOW_BM1373 = core(0x0D, 0x04, "nonce bin overflow control", "§6.5")

# Pads, sensors, relays
DRIVE_STRENGTH = _setting(Register.IO_DRIVE_STRENGTH, 0x0001_1111, "normal drive on every output", "§6.6")
DRIVE_STRENGTH_BM1366 = _setting(Register.IO_DRIVE_STRENGTH, 0x0211_1111, "normal drive, BM1366 and BM1368", "§6.6")
DRIVE_STRENGTH_DOMAIN_END = _setting(
    Register.IO_DRIVE_STRENGTH, 0x0001_F111, "strongest clock output, for the last chip of a voltage domain", "§6.6"
)
ANALOG_MUX_DEFAULT = _setting(Register.ANALOG_MUX, 0x0000_0003, "default input", "§6")
ANALOG_MUX_DIODE = _setting(Register.ANALOG_MUX, 0x0000_0002, "temperature diode to its pins", "§6")
ADC_DIODE = _setting(Register.ADC_CONTROL, 0x0000_4480, "set up for the external diode", "§17")
UART_RELAY_FIRST_CHIP = _setting(Register.UART_RELAY, 0x007C_0003, "relay both lines, from an S19 XP", "§6.4")
RING_OSCILLATOR_OFF = _setting(RING_OSCILLATOR_PAD, 0x5AA5_5AA5, "ring oscillator pads off", "§6")
TEMPERATURE_SENSOR_ON = (
    _setting(Register.TEMPERATURE_CONTROL, 0x0002_0000, "temperature sensor, step 1", "§17"),
    _setting(Register.TEMPERATURE_CONTROL, 0x0102_0000, "temperature sensor, step 2", "§17"),
    _setting(Register.TEMPERATURE_CONTROL, 0x1002_0000, "temperature sensor, step 3", "§17"),
)

# Clocks of the BM1397
CLOCK_ORDER_0_ZERO = _setting(Register.CLOCK_ORDER_0, 0x0000_0000, "no ordered clocks", "§15.1")
CLOCK_ORDER_1_ZERO = _setting(Register.CLOCK_ORDER_1, 0x0000_0000, "no ordered clocks", "§15.1")
ORDERED_CLOCK_BM1397 = _setting(Register.ORDERED_CLOCK_ENABLE, 0x0000_0001, "first ordered clock", "§15.1")
PLL3_BM1397 = _setting(Register.PLL3, 0xC070_0111, "PLL3 at 2800 MHz, the fast UART's source", "§9.1")
FAST_UART_BM1397 = _setting(Register.FAST_UART, 0x0600_000F, "fast UART clock at 400 MHz", "§9.1")
PLL0_DIVIDER_BM1397 = _setting(Register.PLL0_DIVIDER, 0x0F0F_0F00, "before every write of PLL0", "§8.1")
MISC_115200_BM1397 = _setting(Register.MISC_CONTROL, 0x0000_7A31, "UART divider 26: 115,740 baud", "§9.1")

# Baud rates; the host's rate is the model's
MISC_3M_BM1397 = _setting(Register.MISC_CONTROL, 0x0000_6031, "UART divider 0: 3,125,000 baud", "§9.1")
MISC_1M5_BM1397 = _setting(Register.MISC_CONTROL, 0x0000_6131, "UART divider 1: 1,562,500 baud", "§9.1")
UART_1M = _setting(Register.FAST_UART, 0x1130_0200, "UART divider 2: 1,041,667 baud", "§9.2")
UART_3M = _setting(Register.FAST_UART, 0x1130_0000, "UART divider 0: 3,125,000 baud", "§9.2")
UART_3M_BM1373 = _setting(Register.FAST_UART, 0x8000_0000, "3,000,000 baud on BM1372/73", "§9.2")

NONCE_OFFSET_ENABLE = 0x8000_0000  #: bit 31 of NONCE_OFFSET; bits 15:0 start the core counter (§14.3)
HASHING_STOPPED = _setting(Register.HASH_COUNTING_NUMBER, 0, "no sweep: hashing stops on BM1362 and later", "§6")


def version_rolling(mask: int) -> int:
    """Value of VERSION_ROLLING for the header version bits in `mask`, of which 28:13 can be rolled (§10)."""
    return 0x9000_0000 | mask >> 13 & 0xFFFF


@dataclass(frozen=True, slots=True)
class RegisterInfo:
    """One line of the register map: what it is, on which chips, its value at reset where known."""

    name: str
    chips: str
    meaning: str
    section: str


#: Register map as `pickaxe asic info` and the tests read it.
REGISTERS: dict[Register, RegisterInfo] = {
    Register.CHIP_ID: RegisterInfo("CHIP_ID", "all", "31:16 chip, 15:8 core byte, 7:0 address; read only", "§5.2"),
    Register.HASH_RATE: RegisterInfo("HASH_RATE", "BM1397", "2^20 hashes/s; bit 31 invalid", "§17"),
    Register.PLL0: RegisterInfo("PLL0", "all", "hash clock", "§8"),
    Register.NONCE_OFFSET: RegisterInfo("NONCE_OFFSET", "BM1370", "start of the core counter", "§14.3"),
    Register.HASH_COUNTING_NUMBER: RegisterInfo("HASH_COUNTING_NUMBER", "all", "crystal ticks of a sweep", "§14.2"),
    Register.TICKET_MASK: RegisterInfo("TICKET_MASK", "all", "hash bits that must be zero", "§7"),
    Register.MISC_CONTROL: RegisterInfo("MISC_CONTROL", "all", "nonce reports; BM1397: baud", "§6.2"),
    Register.MISC_CONTROL_ADD: RegisterInfo("MISC_CONTROL_ADD", "BM1372/73", "unknown", "§15.5"),
    Register.ORDERED_CLOCK_ENABLE: RegisterInfo("ORDERED_CLOCK_ENABLE", "BM1397", "ordered clocks", "§15.1"),
    Register.FAST_UART: RegisterInfo("FAST_UART", "all", "15:8 baud divider; BM1397: UART clock", "§9"),
    Register.UART_RELAY: RegisterInfo("UART_RELAY", "all", "relay of command and response lines", "§6.4"),
    Register.CORE_CONTROL: RegisterInfo("CORE_CONTROL", "all", "mailbox to the cores' registers", "§6.5"),
    Register.CORE_VALUE: RegisterInfo("CORE_VALUE", "all", "a core register's value, sent unasked", "§6.5"),
    Register.ERROR_COUNTER: RegisterInfo("ERROR_COUNTER", "all", "hardware-error nonces", "§17"),
    Register.ANALOG_MUX: RegisterInfo("ANALOG_MUX", "all", "3:0 analog input", "§6"),
    Register.IO_DRIVE_STRENGTH: RegisterInfo("IO_DRIVE_STRENGTH", "all", "output drive", "§6.6"),
    Register.PLL3: RegisterInfo("PLL3", "all", "BM1397 PLL3; later: ring oscillator pads", "§6"),
    Register.PLL0_DIVIDER: RegisterInfo("PLL0_DIVIDER", "BM1397", "dividers behind PLL0", "§6.1"),
    Register.CLOCK_ORDER_0: RegisterInfo("CLOCK_ORDER_0", "BM1397", "clock order", "§6"),
    Register.CLOCK_ORDER_1: RegisterInfo("CLOCK_ORDER_1", "BM1397", "clock order", "§6"),
    Register.DOMAIN_COUNTER_0: RegisterInfo("DOMAIN_COUNTER_0", "BM1366+", "2^32 hashes, domain 0", "§17"),
    Register.DOMAIN_COUNTER_1: RegisterInfo("DOMAIN_COUNTER_1", "BM1366+", "2^32 hashes, domain 1", "§17"),
    Register.DOMAIN_COUNTER_2: RegisterInfo("DOMAIN_COUNTER_2", "BM1366+", "2^32 hashes, domain 2", "§17"),
    Register.DOMAIN_COUNTER_3: RegisterInfo("DOMAIN_COUNTER_3", "BM1366+", "2^32 hashes, domain 3", "§17"),
    Register.HASH_COUNTER: RegisterInfo("HASH_COUNTER", "BM1366+", "2^32 hashes, whole chip", "§17"),
    Register.VERSION_ROLLING: RegisterInfo("VERSION_ROLLING", "BM1362+", "15:0 rolled version bits", "§10"),
    Register.SOFT_RESET: RegisterInfo("SOFT_RESET", "BM1362+", "resets of chip and cores", "§6.3"),
    Register.TEMPERATURE_CONTROL: RegisterInfo("TEMPERATURE_CONTROL", "BM1368", "on-die sensor", "§17"),
    Register.TEMPERATURE: RegisterInfo("TEMPERATURE", "BM1368", "31 valid, 15:0 code", "§17"),
    Register.ADC_INPUT: RegisterInfo("ADC_INPUT", "BM1368, BM1370", "input and start", "§17"),
    Register.ADC_CONTROL: RegisterInfo("ADC_CONTROL", "BM1368, BM1370", "converter set-up", "§17"),
    Register.ADC_RESULT: RegisterInfo("ADC_RESULT", "BM1368, BM1370", "31 valid, 14:0 code", "§17"),
    Register.AUTO_WORK: RegisterInfo("AUTO_WORK", "BM1372/73", "automatic work", "§15.5"),
}


def celsius(value: int) -> float | None:
    """Temperature in °C from register TEMPERATURE; None while it is not valid (§17)."""
    return (value & 0xFFFF) * 0.171342 - 299.5144 if value >> 31 else None


def temperature_value(degrees: float) -> int:
    """The register value that reads as `degrees` °C."""
    return 0x8000_0000 | max(0, min(0xFFFF, round((degrees + 299.5144) / 0.171342)))
