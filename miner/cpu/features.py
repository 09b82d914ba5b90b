"""What this processor can run, asked of LLVM, and which kernel variants are therefore worth timing."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm
import numba

from miner.kernels.generator import Variant, generator_stamp

# What the 16-lane kernel needs (F for zmm, BW for the byte swap), and what vpternlogd needs on narrower vectors.
_AVX512_WIDE = ("avx512f", "avx512bw")
_AVX512_NARROW = (*_AVX512_WIDE, "avx512vl")
#: Every variant and, in words, what it needs.
ALL_VARIANTS: tuple[tuple[Variant, str], ...] = (
    (Variant(16, ternary=True), "AVX-512 (F, BW)"),
    (Variant(16), "AVX-512 (F, BW)"),
    (Variant(8, ternary=True), "AVX-512 (F, BW, VL)"),
    (Variant(8), "AVX2"),
    (Variant(4), "nothing"),
    (Variant(1), "nothing"),
)


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """LLVM's name for the processor and the names of its features that are on."""

    name: str
    features: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """Names this processor, these kernels and this compiler: the key under which measured choices are kept."""
        parts = (self.name, *sorted(self.features), numba.__version__, llvmlite.__version__, generator_stamp())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@functools.cache
def host_processor() -> HostProcessor:
    """The processor this process runs on."""
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this system's way to ask
        return HostProcessor(llvm.get_host_cpu_name(), frozenset())
    return HostProcessor(llvm.get_host_cpu_name(), frozenset(name for name, on in features.items() if on))


def usable_variants(processor: HostProcessor) -> list[Variant]:
    """Every variant that runs here in vector registers (or scalars), widest first."""
    features = processor.features
    needs = {"AVX-512 (F, BW)": _AVX512_WIDE, "AVX-512 (F, BW, VL)": _AVX512_NARROW, "AVX2": ("avx2",), "nothing": ()}
    return [variant for variant, words in ALL_VARIANTS if features.issuperset(needs[words])]


def contenders(processor: HostProcessor) -> list[Variant]:
    """The few variants that the tuner times: the widest that is native, and the next width for processors that run wide
    vectors at half speed."""
    if processor.features.issuperset(_AVX512_WIDE):
        narrow = processor.features.issuperset(_AVX512_NARROW)
        return [Variant(16, ternary=True), Variant(8, ternary=narrow)]
    return [Variant(8)] if "avx2" in processor.features else [Variant(4), Variant(1)]


def usable_cores() -> list[int]:
    """Numbers of the logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
