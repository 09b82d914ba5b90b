"""The hash clock: f = 25 MHz * FB / (REF * PD1 * PD2), where 25 MHz * FB / REF is the oscillator's frequency
(REFERENCE.md §8)."""

from __future__ import annotations

from dataclasses import dataclass

CRYSTAL_MHZ = 25.0
_TIE_MHZ = 1e-4  #: errors closer than this count as equal (§8.3)
_FAST_OSCILLATOR_MHZ = 2400.0  #: from here on bit 28 is set (§8.1)


@dataclass(frozen=True, slots=True)
class PllRules:
    """What a chip's PLL allows. `fast_bit`: bit 28 marks oscillators from 2400 MHz on; `raw_dividers`: PD1 and PD2 go
    out as they are (BM1397), not less one."""

    feedback_min: int
    feedback_max: int
    oscillator_min_mhz: float
    oscillator_max_mhz: float
    raw_dividers: bool = False
    fast_bit: bool = True


@dataclass(frozen=True, slots=True)
class PllSetting:
    """Dividers of one frequency."""

    feedback: int
    reference: int
    divider_1: int
    divider_2: int

    @property
    def oscillator_mhz(self) -> float:
        """Frequency of the oscillator itself."""
        return CRYSTAL_MHZ * self.feedback / self.reference

    @property
    def frequency_mhz(self) -> float:
        """The hash clock."""
        return self.oscillator_mhz / (self.divider_1 * self.divider_2)

    def register_value(self, rules: PllRules) -> int:
        """PLL0 as written (§8.1)."""
        top = 0x50 if rules.fast_bit and self.oscillator_mhz >= _FAST_OSCILLATOR_MHZ else 0x40
        less = 0 if rules.raw_dividers else 1
        dividers = (self.divider_1 - less) << 4 | (self.divider_2 - less)
        return top << 24 | self.feedback << 16 | self.reference << 8 | dividers


def decode(value: int, rules: PllRules) -> PllSetting:
    """Dividers in a PLL0 value; flags in its first byte, which a locked chip changes, are ignored (§6.1)."""
    less = 0 if rules.raw_dividers else 1
    return PllSetting(
        value >> 16 & 0xFFF, max(value >> 8 & 0x3F, 1), max((value >> 4 & 7) + less, 1), max((value & 7) + less, 1)
    )


def find(frequency_mhz: float, rules: PllRules) -> PllSetting:
    """The dividers nearest a frequency; among equals the slowest oscillator, then the smallest PD1 * PD2 (§8.3).

    The oscillator stays in the range the makers' own solver keeps, so a few frequencies are met only approximately
    (380 MHz on a BM1370 as 379.69) where other hosts run it at twice its range. ValueError when nothing fits.
    """
    best: tuple[float, float, int, PllSetting] | None = None
    for reference in (2, 1):
        for divider_1 in range(7, 0, -1):
            for divider_2 in range(divider_1 - 1, 0, -1):
                product = divider_1 * divider_2
                feedback = int(frequency_mhz / CRYSTAL_MHZ * reference * product + 0.5)
                if not rules.feedback_min <= feedback <= rules.feedback_max:
                    continue
                setting = PllSetting(feedback, reference, divider_1, divider_2)
                if not rules.oscillator_min_mhz <= setting.oscillator_mhz <= rules.oscillator_max_mhz:
                    continue
                error = abs(setting.frequency_mhz - frequency_mhz)
                if best is None or _better((error, setting.oscillator_mhz, product), best[:3]):
                    best = (error, setting.oscillator_mhz, product, setting)
    if best is None:
        raise ValueError(f"no clock setting gives {frequency_mhz:g} MHz")
    return best[3]


def _better(candidate: tuple[float, float, int], best: tuple[float, float, int]) -> bool:
    if abs(candidate[0] - best[0]) > _TIE_MHZ:
        return candidate[0] < best[0]
    if abs(candidate[1] - best[1]) > _TIE_MHZ:
        return candidate[1] < best[1]
    return candidate[2] < best[2]


def ramp(start_mhz: float, target_mhz: float, step_mhz: float = 6.25) -> list[float]:
    """Frequencies to write, one after the other, on the way from a running frequency to the target: multiples of the
    step, then the target itself (§8.5)."""
    steps: list[float] = []
    index = int(start_mhz / step_mhz)
    if target_mhz > start_mhz:
        while (index + 1) * step_mhz <= target_mhz:
            index += 1
            steps.append(index * step_mhz)
    else:
        index = -int(-start_mhz // step_mhz)
        while (index - 1) * step_mhz >= target_mhz:
            index -= 1
            steps.append(index * step_mhz)
    if not steps or steps[-1] != target_mhz:
        steps.append(target_mhz)
    return steps
