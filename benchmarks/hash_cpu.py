"""How fast does the processor hash, kernel by kernel, and how far is that from other miners and from the silicon?

    python -m benchmarks.hash_cpu [--seconds 2] [--reference 'cpuminer -a sha256d --benchmark -t {threads}']

One row per vector width, number of versions that share a message schedule, and number of threads. The ratio is against
hashlib in the same run, against the rate that cpuminer-opt publishes for AVX-512 on this class of machine, and against
--reference if given: another miner's command, run in turns with ours, its rate read from what it prints.

Rates are per second of processor time, the best of several rounds, so that other work on the machine shows as little
as it can; the reference's printed rate is corrected by the share of processor time that its process got.
"""

from __future__ import annotations

import argparse
import re
import resource
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from rich.console import Console
from rich.table import Table

from miner.bench import cpu_set, measure, measure_hashlib
from miner.cpu.features import ALL_VARIANTS, host_processor, usable_cores, usable_variants
from miner.kernels.search import build_search
from miner.kernels.variant import Variant

PUBLISHED = 34.1e6  #: hashes a second and core: cpuminer-opt with AVX-512 on this class of machine
PUBLISHED_NAME = "cpuminer-opt (published)"
VERSIONS = (1, 4, 8, 64)
_RATE = re.compile(r"([0-9.]+)\s*([kMGT]?)H/s")
_BRANCH = re.compile(r"j\w+|b|cbn?z|tbn?z")  # x86's; Arm's
_NO_ARITHMETIC = re.compile(r"v?p?mov|v?pbroadcast|lea|j|ret|ld[rp1]|st[rp1]|adr|dup")
_SCALE = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class CodeSize:
    """Machine instructions of one kernel for one vector: all, and those that need an arithmetic port (no moves)."""

    expand: int
    expand_arithmetic: int
    compress: int
    compress_arithmetic: int

    def per_hash(self, variant: Variant, versions: int) -> tuple[float, float]:
        """(all, arithmetic) instructions per hash."""
        return (
            (self.compress + self.expand / versions) / variant.width,
            (self.compress_arithmetic + self.expand_arithmetic / versions) / variant.width,
        )


def code_size(variant: Variant) -> CodeSize:
    """Counted in the assembly that LLVM makes: the two long straight stretches are compress and expand."""
    search = build_search(variant, None)
    stretches: list[Counter[str]] = [Counter()]
    for line in search.inspect_asm(search.signatures[0]).splitlines():
        if re.match(r"\s*[.\w$]+:", line):
            stretches.append(Counter())
        elif match := re.match(r"\t([a-z]\w*)", line):
            stretches[-1][match.group(1)] += 1
            if _BRANCH.fullmatch(match.group(1)):
                stretches.append(Counter())
    compress, expand = sorted(stretches, key=lambda counts: -counts.total())[:2]

    def arithmetic(counts: Counter[str]) -> int:
        return sum(count for name, count in counts.items() if not _NO_ARITHMETIC.match(name))

    return CodeSize(expand.total(), arithmetic(expand), compress.total(), arithmetic(compress))


def vector_limit() -> float | None:
    """512-bit integer instructions a second that one core can do, in the kernel's mix; None without AVX-512."""
    if Variant(16) not in usable_variants(host_processor()):
        return None
    lines = [f"vpaddd %zmm{n}, %zmm{n}, %zmm{n}" for n in range(10)]
    lines[1:1] = [f"vprold $$5, %zmm{n}, %zmm{n}" for n in range(10, 18)]
    lines[4:4] = [f"vpternlogd $$150, %zmm{n}, %zmm{n}, %zmm{n}" for n in range(18, 24)]
    body = "\n".join(lines * 8)

    def burst(typingctx: Any, rounds: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
            clobbers = ",".join(f"~{{zmm{n}}}" for n in range(24))
            assembly = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), body, clobbers, side_effect=True)
            builder.call(assembly, [])
            return arguments[0]

        return types.int64(types.int64), codegen

    one_burst = intrinsic(burst)

    def repeat(rounds: int) -> int:
        total = 0
        for index in range(rounds):
            total += one_burst(index)
        return total

    llvm.initialize_native_asmparser()
    spin = njit(repeat)
    spin(1)
    best = 0.0
    for _ in range(20):
        began = time.thread_time()
        spin(50_000)
        best = max(best, 50_000 * 8 * len(lines) / (time.thread_time() - began))
    return best


def run_reference(command: str, threads: int, seconds: float) -> float:
    """Start another miner, let it print its rate for a while, end it; the mean of those rates per processor time."""
    arguments = shlex.split(command.replace("{threads}", str(threads)))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
    elapsed = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rates = [float(number) * _SCALE[unit] for number, unit in _RATE.findall(output)]
    if not rates:
        raise SystemExit(f"the reference printed no hash rate: {output[-300:]}")
    return sum(rates) / len(rates) / min(1.0, used / (elapsed * threads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--kernels", help="only these, separated by commas: w16t,w8")
    parser.add_argument("--reference", help="another miner's command; {threads} is replaced")
    parser.add_argument("--reference-seconds", type=float, default=14.0, help="for each of its runs")
    parser.add_argument("--rounds", type=int, default=3, help="turns of reference and ours")
    options = parser.parse_args()

    console = Console(width=max(120, Console().width))
    cores = len(usable_cores())
    thread_counts = sorted({1, cores})
    console.print(f"{host_processor().name}, {cores} cores, best of {options.seconds:g} s a row", highlight=False)
    baseline = measure_hashlib(min(options.seconds, 2.0), time.thread_time)

    columns = ("kernel", "versions", "threads", "MH/s", "a core", "instructions", "arithmetic", "x hashlib")
    table = Table(*columns, f"x {PUBLISHED_NAME}", caption="instructions and arithmetic: per hash")
    for column in table.columns[1:]:
        column.justify = "right"

    def row(name: str, versions: str, threads: int, rate: float, counts: tuple[float, float] | None) -> None:
        table.add_row(
            *(name, versions, str(threads), f"{rate / 1e6:.2f}", f"{rate / threads / 1e6:.2f}"),
            *((f"{counts[0]:.1f}", f"{counts[1]:.1f}") if counts else ("-", "-")),
            *(f"{rate / threads / baseline:.1f}", f"{rate / threads / PUBLISHED:.2f}"),
        )

    row("hashlib", "-", 1, baseline, None)
    best: tuple[float, Variant, int, tuple[float, float]] | None = None
    chosen = options.kernels.split(",") if options.kernels else [str(variant) for variant, _ in ALL_VARIANTS]
    for variant in usable_variants(host_processor()):
        if str(variant) not in chosen:
            continue
        size = code_size(variant)
        for versions in VERSIONS:
            counts = size.per_hash(variant, versions)
            for threads in thread_counts:
                rate = measure(cpu_set(variant, versions, threads), versions, options.seconds, time.thread_time)
                row(str(variant), str(versions), threads, rate, counts)
                if threads == 1 and (best is None or rate > best[0]):
                    best = (rate, variant, versions, counts)
    console.print(table)
    if best is None:
        return
    _, variant, versions, counts = best

    limit = vector_limit()
    if limit is not None and variant.width == 16:
        rate = 0.0
        for _ in range(4):  # in turns, so that both see the same clock
            rate = max(rate, measure(cpu_set(variant, versions, 1), versions, options.seconds, time.thread_time))
            limit = max(limit, vector_limit() or 0.0)
        console.print(
            f"{variant} with {versions} versions does {rate * counts[1] / 1e9:.2f} G vector instructions a second;"
            f" this core's vector ports do {limit / 1e9:.2f} G: {rate * counts[1] / limit:.0%} of that limit",
            highlight=False,
        )
    if options.reference:
        for threads in thread_counts:
            ours = theirs = 0.0
            for _ in range(options.rounds):
                theirs = max(theirs, run_reference(options.reference, threads, options.reference_seconds))
                ours = max(
                    ours,
                    measure(
                        cpu_set(variant, versions, threads), versions, options.reference_seconds / 2, time.thread_time
                    ),
                )
            console.print(
                f"{threads} thread{'s' if threads > 1 else ''}: ours {ours / 1e6:.2f} MH/s,"
                f" reference {theirs / 1e6:.2f} MH/s, ratio {ours / theirs:.2f}",
                highlight=False,
            )


if __name__ == "__main__":
    main()
