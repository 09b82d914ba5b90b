"""One emulated BM13xx chip: its registers, clock, heat, and how it spells what it found (REFERENCE.md §6, §12)."""

from __future__ import annotations

from dataclasses import dataclass, field

from miner.asic.bm13xx import pll
from miner.asic.bm13xx.models.model import ChipModel, JobFormat
from miner.asic.bm13xx.registers import Register, temperature_value

_COMMON_RESET: dict[int, int] = {Register.CORE_CONTROL: 0x0000_4000}
#: Values at reset, where they are known (§6).
_RESET: dict[str, dict[int, int]] = {
    "bm1397": {
        **{Register.HASH_RATE: 0x8000_0000, Register.PLL0: 0xC060_0161, Register.MISC_CONTROL: 0x0000_3A01},
        **{Register.ORDERED_CLOCK_ENABLE: 0x0000_FFFF, Register.FAST_UART: 0x0600_000F},
        **{Register.UART_RELAY: 0x000F_0000, Register.IO_DRIVE_STRENGTH: 0x0211_2111, Register.PLL3: 0x0070_0111},
        **{
            Register.PLL0_DIVIDER: 0x0304_0607,
            Register.CLOCK_ORDER_0: 0xD95C_8410,
            Register.CLOCK_ORDER_1: 0xFB73_EA62,
        },
    },
    "bm1362": {Register.FAST_UART: 0x0130_1A00, Register.VERSION_ROLLING: 0x0000_FFFF, Register.MISC_CONTROL: 0xC100},
}
_RESET_LATER: dict[int, int] = {
    **{Register.FAST_UART: 0x0130_1A00, Register.VERSION_ROLLING: 0x0000_FFFF, Register.MISC_CONTROL: 0xC100},
    Register.SOFT_RESET: 0x0007_0000,
}
_REPORT_BITS = 0xF000_0000  #: of MISC_CONTROL; while all are clear a BM1362 or later reports nothing (§6.2)
_LOCKED = 0x8000_0000  #: bit 31 of a running PLL (§6.1)

_DOMAINS = 4  #: parts of a chip with a hash counter each (§16, §17)

AMBIENT_C = 25.0
RISE_AT_DEFAULT_C = 35.0  #: over ambient, in a steady state at default clock
THERMAL_LAG_S = 8.0


@dataclass(slots=True)
class EmulatedChip:
    """State of one chip. `heat_c` is a fault: degrees added to what the clock explains. `silicon`: up to which clock it
    computes rightly at the default voltage, as a multiple of the default clock; None: at any. `supply_volts`: what the
    board gives it, None where that is not modelled."""

    model: ChipModel
    index: int
    address: int = 0
    addressed: bool = False
    dead: bool = False
    heat_c: float = 0.0
    temperature_c: float = AMBIENT_C
    silicon: float | None = None
    supply_volts: float | None = None
    hashes: float = 0.0  #: since reset, in units of a difficulty-1 nonce
    registers: dict[int, int] = field(default_factory=dict)
    _clock: tuple[int, float] = (0, 0.0)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """What the reset line does."""
        self.address, self.addressed, self.hashes = 0, False, 0.0
        self.registers = {**_COMMON_RESET, **_RESET.get(self.model.name, _RESET_LATER)}

    @property
    def long_replies(self) -> bool:
        """Whether replies have 11 bytes: version rolling is on (§10)."""
        return self.model.rolls_versions and bool(self.registers.get(Register.VERSION_ROLLING, 0) >> 31)

    @property
    def frequency_mhz(self) -> float:
        """The hash clock the PLL's dividers give."""
        value = self.registers.get(Register.PLL0, 0)
        if self._clock[0] != value:
            enabled = value >> 30 & 1
            self._clock = value, pll.decode(value, self.model.pll).frequency_mhz if enabled else 0.0
        return self._clock[1]

    @property
    def hashing(self) -> bool:
        """Whether a job would make it hash and report."""
        if self.dead:
            return False
        if self.model.job_format is JobFormat.MIDSTATES:
            return True
        reports = self.registers.get(Register.MISC_CONTROL, 0) & _REPORT_BITS
        return bool(reports and self.registers.get(Register.HASH_COUNTING_NUMBER, 0))

    @property
    def hash_rate(self) -> float:
        """Real hashes a second of such a chip at its clock."""
        return self.model.nominal_hash_rate(self.frequency_mhz) if self.hashing else 0.0

    @property
    def core_volts(self) -> float:
        """Core voltage: the default, sagging by 4 % up to default clock, by more above."""
        return self.model.default_mv / 1000 * (1 - 0.04 * self.frequency_mhz / self.model.default_mhz)

    @property
    def error_rate(self) -> float:
        """Share of its nonces that are wrong because the clock is too high for the voltage. No source gives figures;
        only that less voltage means more errors (inferred)."""
        if self.silicon is None:
            return 0.0
        volts = self.supply_volts if self.supply_volts is not None else self.model.default_mv / 1000
        right_up_to = self.silicon + 1.5 * (volts / (self.model.default_mv / 1000) - 1)
        return min(0.9, max(0.0, 1.5 * (self.frequency_mhz / self.model.default_mhz / right_up_to - 1)))

    def describe(self) -> str:
        """Its state in a line."""
        state = "dead" if self.dead else "hashing" if self.hashing else "idle"
        return (
            f"chip {self.index}: address 0x{self.address:02X}, {self.frequency_mhz:.2f} MHz,"
            f" {self.temperature_c:.1f} °C, {self.core_volts:.3f} V, {state}"
        )

    def warm(self, elapsed_s: float, working: bool) -> None:
        """Move the temperature towards where clock, voltage and faults hold it."""
        load = self.frequency_mhz / self.model.default_mhz if working and not self.dead else 0.05
        steady = AMBIENT_C + RISE_AT_DEFAULT_C * load + self.heat_c
        self.temperature_c += (steady - self.temperature_c) * min(1.0, elapsed_s / THERMAL_LAG_S)

    def write(self, register: int, value: int) -> None:
        """A register write; the hash counters and the identity cannot be written."""
        if register == Register.CHIP_ID or Register.DOMAIN_COUNTER_0 <= register <= Register.HASH_COUNTER:
            return
        before = self.registers.get(register, 0)
        self.registers[register] = value
        if register == Register.ADC_INPUT and self._has_adc and value & ~before & 0x0020_0000:
            scale = 0.6 if self.model.name == "bm1368" else 1.0
            # The range is below 1 V: an input is taken to see one of the four domains, in series (inferred).
            code = round((self.core_volts / _DOMAINS / scale + 1.0) * 16384)
            self.registers[Register.ADC_RESULT] = 0x8000_0000 | min(code, 0x7FFF)

    def read(self, register: int) -> int:
        """A register as it reads back."""
        if register == Register.CHIP_ID:
            return self.model.chip_ids[0] << 16 | self.model.core_byte << 8 | self.address
        if register == Register.PLL0:
            return self.registers.get(register, 0) | _LOCKED
        if register == Register.HASH_COUNTER and self.model.counters:
            return int(self.hashes) & 0xFFFFFFFF
        if Register.DOMAIN_COUNTER_0 <= register <= Register.DOMAIN_COUNTER_3 and self.model.counters:
            return int(self.hashes / _DOMAINS) & 0xFFFFFFFF
        if register == Register.HASH_RATE and not self.model.counters:
            return int(self.hash_rate / 2**20) & 0x7FFFFFFF
        if register == Register.TEMPERATURE:
            on = self.model.temperature and self.registers.get(Register.TEMPERATURE_CONTROL, 0) >> 24 == 0x10
            return temperature_value(self.temperature_c) if on else 0
        return self.registers.get(register, 0)

    def tag(self, job_id: int, slot: int) -> int:
        """Byte 7 of a nonce: the job's id and the sub-core or midstate that found it (§12)."""
        if self.model.name in ("bm1368", "bm1370", "bm1373"):
            return (job_id << 1 & 0xF0) | slot & 0x0F
        if self.model.name == "bm1397":
            return job_id & 0xFC | slot & 0x03
        return job_id & 0xF8 | slot & 0x07

    @property
    def _has_adc(self) -> bool:
        return self.model.name in ("bm1368", "bm1370")
