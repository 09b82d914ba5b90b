"""What a chip model is: everything the driver has to know about one part, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from miner.asic.bm13xx.pll import PllRules, PllSetting
from miner.asic.bm13xx.registers import CRYSTAL_HZ, Setting

LOWEST_MHZ = 50.0  #: of every part's clock: where its ramp begins


class JobFormat(Enum):
    """What a job frame carries (§11)."""

    FULL_HEADER = auto()  #: the chip rolls versions and makes its own midstates
    MIDSTATES = auto()  #: the host sends 1 or 4 midstates


class NonceLayout(Enum):
    """Which bits of a nonce, read big-endian, tell the chip that found it (§12.4)."""

    ADDRESS = auto()  #: bits 24:17 hold the address, its lowest bit shared with the counter
    OFFSET = auto()  #: bits 24:9 are a counter that starts at each chip's NONCE_OFFSET
    BM1397 = auto()  #: low six bits of the second byte, in equal parts; known from boards of six
    FIRST_BYTE = auto()  #: the first byte, in equal parts: BM1384, BM1387


class Step(Enum):
    """A stage of the start-up order that depends on the chain rather than on a fixed value."""

    COUNT = auto()  #: read CHIP_ID from all, count the answers
    INACTIVE = auto()  #: make every chip wait for an address
    ASSIGN = auto()  #: give the addresses
    TICKET_MASK = auto()
    CLOCK = auto()  #: ramp to the target frequency
    HASH_COUNTING = auto()
    BAUD = auto()  #: tell the chips the fast rate, then follow
    VERSION_MASK = auto()


@dataclass(frozen=True, slots=True)
class FastRate:
    """A rate for the link once the chips are up: what they are told, and what the host's end is set to."""

    setting: Setting
    host_baud: int


@dataclass(frozen=True, slots=True)
class ToAll:
    """A broadcast write."""

    setting: Setting
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ToFirst:
    """A write to the chip at address 0 only."""

    setting: Setting


@dataclass(frozen=True, slots=True)
class ToDomainEnds:
    """A write to the last chip of each voltage domain."""

    setting: Setting


@dataclass(frozen=True, slots=True)
class ToEach:
    """Writes to one chip after the other, with a pause after each chip."""

    settings: tuple[Setting, ...]
    pause_s: float = 0.0


StartUp = tuple[Step | ToAll | ToFirst | ToDomainEnds | ToEach, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipModel:
    """One part. Sections are those of REFERENCE.md.

    `units`: hashing engines, for the nominal rate (one hash per engine and clock); `core_byte`: third byte of CHIP_ID;
    `job_id_step`, `job_id_modulus`: the wheel of job ids (§13); `reply_id_mask`, `reply_id_shift`, `sub_core_mask`:
    how a nonce's tag is read (§12); `hash_counting`: fixed value, None for the formula less `counting_guard` ticks
    (§14.2), 0 for a part whose hosts never write it; `baud`: the setting of the fast rate and the host's side of it.
    """

    name: str
    chip_ids: tuple[int, ...]
    core_byte: int
    job_format: JobFormat
    cores: int
    sub_cores: int
    units: int
    pll: PllRules
    default_mhz: float
    frequencies_mhz: tuple[float, ...]
    default_mv: int
    voltages_mv: tuple[int, ...]
    job_id_first: int
    job_id_step: int
    job_id_modulus: int
    reply_id_mask: int
    reply_id_shift: int
    sub_core_mask: int
    nonce_layout: NonceLayout
    hash_counting: int | None
    counting_guard: int
    baud: Setting
    host_baud: int
    start_up: StartUp
    pll_preamble: tuple[Setting, ...] = ()  #: written before each PLL0 write, both twice (§8.1)
    midstates: int = 4  #: most versions of one job, on parts that take midstates
    counters: bool = True  #: has the hash counters 0x88..0x8C (§17)
    temperature: bool = False  #: has the sensor behind 0xB0 and 0xB4 (§17)
    assign_stride: int | None = None  #: fixed address interval; None: 256 divided by the number of chips (§5.3)
    command_shift: int = 0  #: single-chip writes address a chip by its address shifted right by this (BM1372/73)

    @property
    def rolls_versions(self) -> bool:
        """Whether the chip rolls the version itself."""
        return self.job_format is JobFormat.FULL_HEADER

    def clock_objection(self, frequency_mhz: float | None) -> str | None:
        """Why the part is not run at that clock, None where it is; for people."""
        highest = max(self.frequencies_mhz)
        if frequency_mhz is None or LOWEST_MHZ <= frequency_mhz <= highest:
            return None
        return f"{self.name} runs at {LOWEST_MHZ:g} to {highest:g} MHz, not at {frequency_mhz:g}"

    def address_interval(self, chips: int) -> int:
        """Distance between the addresses of neighbours on a chain of `chips` (§5.3)."""
        return self.assign_stride if self.assign_stride is not None else 256 // max(chips, 1)

    def nominal_hash_rate(self, frequency_mhz: float) -> float:
        """Hashes a second of one chip (§16)."""
        return self.units * frequency_mhz * 1e6

    def hash_counting_number(self, clock: PllSetting, chips: int) -> int:
        """Crystal ticks a core sweeps before it takes the next versions; the whole of its slice (§14.2)."""
        if self.hash_counting is not None:
            return self.hash_counting
        if self.nonce_layout is NonceLayout.OFFSET and chips > 1:
            core_slice = (1 << 25) // chips
        else:
            core_slice = (1 << 32) // _next_power_of_two(self.cores) // _next_power_of_two(chips)
        ticks = core_slice * (CRYSTAL_HZ / 1e6) / clock.frequency_mhz / 2
        return max(1, int(ticks) - self.counting_guard)

    def epoch_s(self, versions: int) -> float | None:
        """How long a job of so many versions lasts on a part with a fixed hash counting number, before the chips repeat
        it (§14.2); None where the number covers the whole slice."""
        if not self.hash_counting:
            return None
        return -(-versions // self.sub_cores) * self.hash_counting / CRYSTAL_HZ

    def nonce_offset(self, index: int, chips: int) -> int:
        """Where chip `index` starts its counter, in units of 512 nonces (§14.3)."""
        return -(-index * 65536 // chips)

    def job_ids(self) -> list[int]:
        """All job ids in the order they are used."""
        first, step, modulus = self.job_id_first, self.job_id_step, self.job_id_modulus
        return [(first + turn * step) % modulus for turn in range(modulus // math.gcd(step, modulus))]

    def job_id_of(self, tag: int) -> int:
        """The job id a nonce belongs to, on the scale of the job frames."""
        return (tag & self.reply_id_mask) >> self.reply_id_shift

    def chip_of(self, nonce: int, chips: int) -> int | None:
        """Which chip of the chain found a nonce (as the little-endian number); None where the layout does not say."""
        if chips == 1:
            return 0
        seen = int.from_bytes(nonce.to_bytes(4, "little"), "big")
        if self.nonce_layout is NonceLayout.OFFSET:
            index = (seen >> 9 & 0xFFFF) * chips // 65536
        elif self.nonce_layout is NonceLayout.ADDRESS:
            index = (seen >> 17 & 0xFF) // (256 // chips)
        elif self.nonce_layout is NonceLayout.FIRST_BYTE:
            index = (seen >> 24) * chips >> 8
        else:
            index = (seen >> 16 & 0x3F) * chips // 63
        return index if index < chips else None

    def core_of(self, nonce: int) -> int | None:
        """The core that found a nonce; None where its place in the nonce is not known (BM1397)."""
        known = self.nonce_layout in (NonceLayout.ADDRESS, NonceLayout.OFFSET)
        return (nonce & 0xFF) >> 1 if known else None


def _next_power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
