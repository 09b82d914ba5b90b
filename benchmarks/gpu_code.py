"""What NVIDIA's compiler makes of the OpenCL kernel: instructions per hash by execution pipe, registers, spills, and
the rate that they allow. Needs nvcc (or ptxas, for PTX) and cuobjdump; no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from miner.gpu.program import GpuVariant, source

#: OpenCL C's names in CUDA C, for a kernel of width 1. Both languages share the compiler from here on.
_CUDA = """
typedef unsigned int uint;
#define __kernel extern "C" __global__ __launch_bounds__(GROUP)
#define __global
#define __constant
#define get_global_id(dimension) (blockIdx.x * GROUP + threadIdx.x)
#define get_global_size(dimension) (gridDim.x * GROUP)
#define mul_hi(a, b) __umulhi(a, b)
#define mad_hi(a, b, c) (__umulhi(a, b) + (c))
#define rotate(a, n) __funnelshift_l(a, a, n)
#define bitselect(a, b, c) (((a) & ~(c)) | ((b) & (c)))
#define atomic_inc(place) atomicAdd(place, 1u)
"""
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
#: On Volta to Hopper: the adder's pipe does logic, shifts and sums, the multiplier's IMAD in all its forms. Each takes
#: a warp every second cycle in each of a multiprocessor's four parts, which issues one instruction a cycle.
_MULTIPLIER = ("IMAD", "IDP")
_ADDER = ("SHF", "LOP3", "IADD3", "VIADD", "LEA", "PRMT", "ISETP", "SEL", "MOV", "PLOP3", "IMNMX", "VIMNMX", "IABS")
_PARTS = 4
_LANES = 32
_LOOP_AT_LEAST = 500  #: instructions: the loop over midstates is longer, the others are not

#: Multiprocessors and highest clock (Hz) by the vendor's data sheets.
KNOWN_CHIPS = {"H100 SXM": (132, 1.98e9), "H200 SXM": (132, 1.98e9)}


class ToolMissing(Exception):
    """A program of the CUDA toolkit is not there; the text says which."""


@dataclass(frozen=True)
class Code:
    """Instructions for one hash, as a mean over `versions`: on the adder's pipe, the multiplier's, and all together."""

    adder: float
    multiplier: float
    issued: float
    high_products: float
    registers: int
    spilled_bytes: int
    by_name: Counter[str]

    @property
    def cycles(self) -> float:
        """Least cycles in which one part of a multiprocessor does a warp of hashes."""
        return max(2 * self.adder, 2 * self.multiplier, self.issued)

    @property
    def bound(self) -> str:
        limits = {"adder": 2 * self.adder, "multiplier": 2 * self.multiplier, "issue": self.issued}
        return max(limits, key=lambda name: limits[name])

    def limit(self, multiprocessors: int, clock_hz: float) -> float:
        """Hashes a second at most."""
        return multiprocessors * _PARTS * _LANES * clock_hz / self.cycles


def as_cuda(variant: GpuVariant) -> str:
    """The kernel in CUDA C. Only for width 1: CUDA C has no vector arithmetic."""
    if variant.width != 1:
        raise ValueError("CUDA C has no vector arithmetic: only kernels of width 1 can be compiled")
    text = source(variant).replace("#line 1\n", _CUDA, 1).replace("static word", "static __device__ word")
    return text.replace("__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))", "__kernel")


def compiled(variant: GpuVariant, versions: int, architecture: str = "sm_90") -> Code:
    """Through nvcc, as CUDA C. Only for width 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(as_cuda(variant))
        return _assembled([tool("nvcc"), "-cubin", "-Xptxas", "-v"], path, variant, versions, architecture)


def of_ptx(ptx: str, variant: GpuVariant, versions: int, architecture: str) -> Code:
    """From what NVIDIA's OpenCL driver gives out as its binary, which is PTX."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        return _assembled([tool("ptxas"), "-v"], path, variant, versions, architecture)


def tool(name: str) -> str:
    """Path of a CUDA program: on PATH, or from NVIDIA's packages on PyPI (nvidia-cuda-cuobjdump, -nvdisasm)."""
    packaged = sorted(Path(sysconfig.get_path("purelib")).glob(f"nvidia/*/bin/{name}"))
    path = shutil.which(name) or next((str(path) for path in packaged if os.access(path, os.X_OK)), None)
    if path is None:
        raise ToolMissing(f"{name} is not installed")
    return path


def _assembled(command: list[str], path: Path, variant: GpuVariant, versions: int, architecture: str) -> Code:
    cubin = path.with_suffix(".cubin")
    dump = tool("cuobjdump")
    run = subprocess.run(
        [*command, f"-arch={architecture}", "-o", str(cubin), str(path)], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {run.stderr[:500]}")
    environment = {**os.environ, "PATH": f"{Path(dump).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    listing = subprocess.run(
        [dump, "--dump-sass", str(cubin)], capture_output=True, text=True, check=True, env=environment
    ).stdout
    registers = re.search(r"Used (\d+) registers", run.stderr)
    spills = re.search(r"(\d+) bytes spill stores", run.stderr)
    return count(
        listing,
        variant,
        versions,
        int(registers.group(1)) if registers else 0,
        int(spills.group(1)) if spills else 0,
    )


def count(listing: str, variant: GpuVariant, versions: int, registers: int, spilled_bytes: int) -> Code:
    """From cuobjdump's listing. The loop over midstates counts once for `variant.midstates` hashes, the rest of the
    kernel once for `versions` of them."""
    code = [(int(at, 16), name, rest) for at, name, rest in _INSTRUCTION.findall(listing)]
    loops = []
    for at, name, rest in code:
        target = re.search(r"0x([0-9a-f]+)", rest) if name.startswith("BRA") else None
        if target and int(target.group(1), 16) < at - 16 * _LOOP_AT_LEAST:
            loops.append((int(target.group(1), 16), at))
    if not loops:
        raise RuntimeError("the listing has no loop over midstates")
    first, last = min(loops, key=lambda loop: loop[1] - loop[0])
    shares: Counter[str] = Counter()
    for at, name, _ in code:
        if name != "NOP":
            shares[name] += 1 / variant.midstates if first <= at <= last else 1 / versions  # type: ignore[assignment]

    def pipe(names: tuple[str, ...]) -> float:
        return float(sum(share for name, share in shares.items() if name.split(".")[0] in names))

    high = float(sum(share for name, share in shares.items() if name.startswith(("IMAD.HI", "IMAD.WIDE"))))
    by_name: Counter[str] = Counter()
    for name, share in shares.items():
        by_name[name.split(".")[0]] += share
    return Code(pipe(_ADDER), pipe(_MULTIPLIER), float(sum(shares.values())), high, registers, spilled_bytes, by_name)
