"""What this processor can run, asked of LLVM, and which kernel variants are therefore worth timing."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm
import numba

from miner.kernels.variant import Variant, generator_stamp

_NEEDS: dict[str, tuple[str, ...]] = {
    "AVX-512 (F, BW)": ("avx512f", "avx512bw"),  # F for zmm, BW for the byte swap
    "AVX-512 (F, BW, VL)": ("avx512f", "avx512bw", "avx512vl"),  # VL for vpternlogd on narrower vectors
    "AVX2": ("avx2",),
    "SHA extensions": ("sha", "ssse3", "sse4.1"),
    "nothing": (),
}
#: Every variant and, in words, what it needs.
ALL_VARIANTS: tuple[tuple[Variant, str], ...] = (
    (Variant(16, ternary=True), "AVX-512 (F, BW)"),
    (Variant(16), "AVX-512 (F, BW)"),
    (Variant(8, ternary=True), "AVX-512 (F, BW, VL)"),
    (Variant(8), "AVX2"),
    (Variant(2, sha_extensions=True), "SHA extensions"),
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
    """Every variant that runs here, widest first."""
    return [variant for variant, needs in ALL_VARIANTS if processor.features.issuperset(_NEEDS[needs])]


def contenders(processor: HostProcessor) -> list[Variant]:
    """The variants that the tuner times: the widest that is native, and SHA extensions, or else the next width.

    Which of the two wins is the processor's secret: some run wide vectors at half speed, some have slow extensions.
    """
    usable = usable_variants(processor)
    sha = [variant for variant in usable if variant.sha_extensions]
    vectors = [variant for variant in usable if not variant.sha_extensions]
    following = next(variant for variant in vectors if variant.width < vectors[0].width)
    return [vectors[0], *(sha or [following])]


def usable_cores() -> list[int]:
    """Numbers of the logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
