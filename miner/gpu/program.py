"""The OpenCL kernel's variants, and its text for one of them: sha256d.cl behind definitions of what it leaves open."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

from miner.kernels.layout import JOB_WORDS, LIMIT, MIDSTATE, MIDSTATE_WORDS, SCHEDULE
from miner.kernels.sha256_constants import (
    IV,
    MASK,
    PADDING_WORDS_32,
    PADDING_WORDS_80,
    K,
    rotr,
    sigma0,
    sigma1,
)

_SOURCE = Path(__file__).parent.parent / "kernels" / "sha256d.cl"

#: Candidates that a result buffer holds. More than this in one batch, and the range is searched again in parts.
CAPACITY = 1024
#: What the kernel multiplies by, in the order of its last arguments: 2^0 for additions, 2^(32 - n) for a shift by n.
MULTIPLIERS = (1, 1 << 22, 1 << 26, 1 << 29, 1 << 30)


class Logic(IntEnum):
    """How a kernel rotates and combines words; the same results, other instructions."""

    OPERATORS = 0  #: C's shifts and logic: compilers recognise the patterns
    BUILTINS = 1  #: rotate and bitselect
    AMD = 2  #: amd_bitalign (cl_amd_media_ops) and bitselect
    PTX = 3  #: three-input logic and multiplications that the compiler cannot rearrange, on NVIDIA; width 1


@dataclass(frozen=True, slots=True)
class GpuVariant:
    """One way to build the kernel; sha256d.cl says what each field does."""

    width: int = 1
    midstates: int = 1
    nonces: int = 1
    group: int = 256
    logic: Logic = Logic.OPERATORS
    adds: int = 0
    shifts: int = 0
    rotates: int = 0

    def __str__(self) -> str:
        multiplier = f"-a{self.adds}s{self.shifts}r{self.rotates}" if self.adds or self.shifts or self.rotates else ""
        return f"w{self.width}m{self.midstates}n{self.nonces}g{self.group}-{self.logic.name.lower()}{multiplier}"

    @property
    def nonces_per_item(self) -> int:
        return self.width * self.nonces


def definitions(variant: GpuVariant) -> dict[str, str]:
    """Every name that sha256d.cl leaves open."""
    padding, digest_padding = PADDING_WORDS_80[-1], PADDING_WORDS_32[-1]
    # Round 0 of the second hash: all but the message word is constant.
    a, b, c, d, e, f, g, h = IV
    t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (e & f ^ ~e & g) + K[0]
    t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + (a & b ^ a & c ^ b & c)
    words = {
        **{f"K{index}": word for index, word in enumerate(K)},
        **{f"IV{index}": word for index, word in enumerate(IV)},
        "SECOND_A0": t1 + t2,
        "SECOND_E0": d + t1,
        "SIGMA0_640": sigma0(padding),
        "SIGMA0_256": sigma0(digest_padding),
        "SIGMA1_256": sigma1(digest_padding),
        "SIGMA0_PADDING": sigma0(PADDING_WORDS_32[0]),
    }
    numbers = {
        "WIDTH": variant.width,
        "MIDSTATES": variant.midstates,
        "NONCES": variant.nonces,
        "GROUP": variant.group,
        "LOGIC": int(variant.logic),
        "ADDS": variant.adds,
        "SHIFTS": variant.shifts,
        "ROTATES": variant.rotates,
        "CAPACITY": CAPACITY,
        "JOB_WORDS": JOB_WORDS,
        "MIDSTATE_WORDS": MIDSTATE_WORDS,
        "LIMIT": LIMIT,
        **{f"S_{name.upper()}": index for name, index in SCHEDULE.items()},
        **{f"M_{name.upper()}": index for name, index in MIDSTATE.items()},
    }
    return {
        **{name: str(value) for name, value in numbers.items()},
        **{name: f"0x{value & MASK:08x}u" for name, value in words.items()},
    }


def source(variant: GpuVariant) -> str:
    """The whole OpenCL C program of a variant; its kernel is called `search`."""
    lines = [f"#define {name} {value}" for name, value in definitions(variant).items()]
    return "\n".join([*lines, "#line 1", _SOURCE.read_text(encoding="utf-8")])


@lru_cache(maxsize=1)
def source_stamp() -> str:
    """Digest of everything that shapes the kernels; a tuning result of another stamp is not used."""
    text = source(GpuVariant()) + "".join(map(str, astuple(GpuVariant())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
