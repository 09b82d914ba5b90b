"""What this processor can run, asked of LLVM, and which kernel variants are therefore worth timing."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from miner.kernels.variant import Variant, generator_stamp


@dataclass(frozen=True, slots=True)
class Need:
    """What a variant takes: an architecture ("" for any), features by LLVM's names, and both in words."""

    words: str
    architecture: str = ""
    features: frozenset[str] = frozenset()


X86, ARM = "x86", "aarch64"
_NOTHING = Need("nothing")
_AVX512 = Need("AVX-512 (F, BW)", X86, frozenset({"avx512f", "avx512bw"}))  # F for zmm, BW for the byte swap
#: VL for vpternlogd on narrower vectors
_AVX512_NARROW = Need("AVX-512 (F, BW, VL)", X86, frozenset({"avx512f", "avx512bw", "avx512vl"}))
_AVX2 = Need("AVX2", X86, frozenset({"avx2"}))
_SHA_X86 = Need("SHA extensions", X86, frozenset({"sha", "ssse3", "sse4.1"}))
_SHA_ARM = Need("SHA-256 instructions", ARM, frozenset({"sha2"}))
#: Every variant and what it needs, the widest vectors first. Four lanes are SSE2 or NEON, or what LLVM makes of them.
ALL_VARIANTS: tuple[tuple[Variant, Need], ...] = (
    (Variant(16, ternary=True), _AVX512),
    (Variant(16), _AVX512),
    (Variant(8, ternary=True), _AVX512_NARROW),
    (Variant(8), _AVX2),
    (Variant(2, sha_extensions=True), _SHA_X86),
    (Variant(4, sha_extensions=True, arm=True), _SHA_ARM),
    (Variant(2, sha_extensions=True, arm=True), _SHA_ARM),
    (Variant(4), _NOTHING),
    (Variant(1), _NOTHING),
)
_ARCHITECTURES = {"x86_64": X86, "i386": X86, "i686": X86, "aarch64": ARM, "arm64": ARM, "arm64e": ARM}


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """Its architecture, LLVM's name for the processor and the names of its features that are on."""

    architecture: str
    name: str
    features: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """Names this processor, these kernels and this compiler: the key under which measured choices are kept."""
        parts = (self.architecture, self.name, *sorted(self.features))
        versions = (numba.__version__, llvmlite.__version__, generator_stamp())
        return hashlib.sha256("\n".join((*parts, *versions)).encode()).hexdigest()[:32]


@functools.cache
def host_processor() -> HostProcessor:
    """The processor this process runs on, as Numba compiles for it: an instruction that is not on there would end the
    process within LLVM. So Numba's own settings (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES, NUMBA_ENABLE_AVX) count here."""
    name = config.CPU_NAME or llvm.get_host_cpu_name()
    features = config.CPU_FEATURES if config.CPU_FEATURES is not None else get_host_cpu_features()
    return processor_of(llvm.get_process_triple(), name, features)


def processor_of(triple: str, name: str, features: str) -> HostProcessor:
    """A processor in LLVM's words: "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+sha2,-sve".

    On Linux LLVM reads Arm's features from /proc/cpuinfo. Where it names none, as on macOS, the processor's name stands
    for them: every Apple processor of 64 bits has the SHA-256 instructions, and LLVM knows.
    """
    machine = triple.split("-", 1)[0]
    architecture = _ARCHITECTURES.get(machine, machine)
    told = {word[1:]: word.startswith("+") for word in features.split(",") if word}
    if architecture == ARM:
        told.setdefault("sha2", told.get("crypto", name.startswith("apple-")))  # "crypto": LLVM before 16
    return HostProcessor(architecture, name, frozenset(feature for feature, on in told.items() if on))


def known_variants(processor: HostProcessor) -> list[tuple[Variant, Need]]:
    """The variants for this architecture, whether or not this processor has what they need."""
    return [(variant, need) for variant, need in ALL_VARIANTS if need.architecture in ("", processor.architecture)]


def usable_variants(processor: HostProcessor) -> list[Variant]:
    """Every variant that runs here, widest first."""
    return [variant for variant, need in known_variants(processor) if processor.features.issuperset(need.features)]


def contenders(processor: HostProcessor) -> list[Variant]:
    """The variants that the tuner times: the widest that is native, and SHA instructions, or else the next width.

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
