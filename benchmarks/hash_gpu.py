"""How fast do OpenCL devices hash, how far is that from the chip's limit, and does the device ever wait for the host?

    python -m benchmarks.hash_gpu [--seconds 2] [--device gpu0] [--all-variants] [--code-only] [--arch sm_90]

Three tables:
- what NVIDIA's compiler makes of the kernel, by variant: instructions per hash on each pipe, and the rate they allow on
  known chips. Needs nvcc and cuobjdump (in NVIDIA's toolkit, or the packages nvidia-cuda-cuobjdump and
  nvidia-cuda-nvdisasm), but no GPU.
- the rate of each device through the miner's own search: against one long batch (what queueing costs), against the
  processor's kernels in the same run, and on an NVIDIA card against the limit of the code that its driver compiled, at
  the clock that was read meanwhile. `host` is the processor time of the thread that feeds the device.
- with --all-variants, every variant that the tuner knows for the device, without its time limit.

Without a GPU it measures whatever OpenCL offers, PoCL on the processor for one.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.gpu_code import KNOWN_CHIPS, Code, ToolMissing, compiled, of_ptx
from chain.primitives.errors import UserError
from miner.bench import cpu_set, measure
from miner.cpu.features import usable_cores
from miner.cpu.tuner import tuned as tuned_cpu
from miner.device import NONCE_SPACE, DeviceError, HashJob
from miner.gpu import FoundDevice, discover, select
from miner.gpu.device import GpuDevice
from miner.gpu.program import GpuVariant, Logic
from miner.gpu.runner import PreparedJob, Runner
from miner.gpu.tuner import measure as try_variants
from miner.gpu.tuner import tuned
from miner.kernels.layout import MAX_MIDSTATES

VARIANTS = [
    GpuVariant(),
    *(
        GpuVariant(logic=Logic.PTX, adds=adds, shifts=shifts, rotates=rotates)
        for adds, shifts, rotates in ((1, 0, 0), (1, 0, 2), (1, 1, 2), (1, 1, 3), (1, 1, 4), (2, 1, 2), (2, 1, 3))
    ),
]
_LONG_BATCH_S = 0.25


@dataclass
class Gauges:
    """What NVML said while a measurement ran."""

    clocks_mhz: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Rate:
    """Hashes a second, and the feeding thread's share of one core."""

    hashes: float
    host: float


def code_table(console: Console, architecture: str, versions: int) -> None:
    """Counts per variant; says which tool is missing if one is."""
    table = Table("variant", "adder", "multiplier", "of it high", "issued", "cycles", "bound by", "registers", "spills")
    for chip in KNOWN_CHIPS:
        table.add_column(f"limit {chip}")
    for column in table.columns[1:]:
        column.justify = "right"
    table.caption = (
        f"instructions per hash, {versions} versions, {architecture}; cycles: of a quarter multiprocessor, 32 hashes"
    )
    try:
        for variant in VARIANTS:
            code = compiled(variant, versions, architecture)
            numbers = (code.adder, code.multiplier, code.high_products, code.issued, code.cycles)
            limits = (f"{code.limit(*chip) / 1e9:.2f} GH/s" for chip in KNOWN_CHIPS.values())
            table.add_row(
                str(variant),
                *(f"{number:.0f}" for number in numbers),
                code.bound,
                str(code.registers),
                str(code.spilled_bytes),
                *limits,
            )
    except ToolMissing as missing:
        console.print(f"instructions not counted: {missing}", highlight=False)
        return
    console.print(table)


def through_search(device: GpuDevice, seconds: float) -> Rate:
    """As the miner drives it: batches in flight, the loop's look at `cancelled`, results read."""
    job = HashJob(bytes(80), tuple(range(1, device.preferred_versions + 1)), 0)
    device.search(job, 0, 4096)
    settled = time.perf_counter() + min(0.5, seconds)
    device.search(job, 4096, NONCE_SPACE - 4096, lambda: time.perf_counter() > settled)
    deadline = time.perf_counter() + seconds
    began, cpu_began, done = time.perf_counter(), time.thread_time(), 0
    while time.perf_counter() < deadline:
        result = device.search(job, done % NONCE_SPACE, NONCE_SPACE, lambda: time.perf_counter() > deadline)
        done += result.done
    elapsed, cpu = time.perf_counter() - began, time.thread_time() - cpu_began
    return Rate(done * len(job.versions) / elapsed, cpu / elapsed)


def one_long_batch(found: FoundDevice, variant: GpuVariant, versions: int, rate: float, seconds: float) -> float:
    """Hashes a second of the kernel alone: batches so long that what lies between them does not count."""
    runner = Runner(found.handle, variant, 1)
    prepared = PreparedJob.of(HashJob(bytes(80), tuple(range(1, versions + 1)), 0), variant.midstates)
    groups = max(1, math.ceil(rate * _LONG_BATCH_S / versions / runner.granularity))
    count = min(groups * runner.granularity, 1 << 30)
    best, deadline = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < deadline:
        began = time.perf_counter()
        runner.wait(runner.enqueue(prepared, 0, count), count * versions / rate)
        best = max(best, count * versions / (time.perf_counter() - began))
    return best


@contextlib.contextmanager
def gauges(found: FoundDevice) -> Iterator[Gauges]:
    """Reads clock and power ten times a second; nothing where NVML does not know the device."""
    read = Gauges()
    stop = threading.Event()
    handle, nvml = None, None
    if "nvidia" in found.vendor.lower() and found.address:
        with contextlib.suppress(Exception):  # a benchmark goes on without
            import pynvml

            nvml = pynvml
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByPciBusId(found.address.encode())

    def sample(nvml: Any) -> None:
        while not stop.wait(0.1):
            with contextlib.suppress(Exception):
                read.clocks_mhz.append(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
                read.watts.append(nvml.nvmlDeviceGetPowerUsage(handle) / 1000)

    thread = threading.Thread(target=sample, args=(nvml,), daemon=True)
    if handle is not None:
        thread.start()
    try:
        yield read
    finally:
        stop.set()
        if handle is not None:
            thread.join()


def driver_code(found: FoundDevice, variant: GpuVariant, versions: int) -> Code | None:
    """Counts of what an NVIDIA driver made of the kernel; None elsewhere, or where the tools are missing."""
    if "nvidia" not in found.vendor.lower():
        return None
    import pyopencl as cl

    from miner.gpu.runner import build

    try:
        major, minor = found.handle.compute_capability_major_nv, found.handle.compute_capability_minor_nv
        ptx = build(cl.Context([found.handle]), variant).binaries[0].decode(errors="replace")
        return of_ptx(ptx, variant, versions, f"sm_{major}{minor}")
    except (ToolMissing, RuntimeError, cl.Error):
        return None


def device_row(table: Table, found: FoundDevice, seconds: float, cpu_rate: float, cores: int) -> None:
    tuning = tuned(found)
    device = GpuDevice(found, tuning.variant, tuning.versions, tuning.rate)
    device.open()
    try:
        with gauges(found) as read:
            best = max((through_search(device, seconds) for _ in range(3)), key=lambda rate: rate.hashes)
    finally:
        device.close()
    alone = one_long_batch(found, tuning.variant, tuning.versions, tuning.rate, seconds)
    code = driver_code(found, tuning.variant, tuning.versions)
    clock_hz = statistics.median(read.clocks_mhz) * 1e6 if read.clocks_mhz else found.clock_mhz * 1e6
    share = f"{best.hashes / code.limit(found.units, clock_hz):.0%}" if code is not None else "-"
    table.add_row(
        found.name,
        str(tuning.variant),
        f"{best.hashes / 1e6:.2f}",
        f"{best.hashes / alone:.3f}",
        f"{best.hashes / cpu_rate:.2f}",
        f"{best.hashes / cpu_rate / cores:.2f}",
        f"{best.host:.1%}",
        share,
        f"{clock_hz / 1e6:.0f} MHz" if read.clocks_mhz else "-",
        f"{statistics.median(read.watts):.0f}" if read.watts else "-",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--device", action="append", default=[], help="by number, name or part of its title")
    parser.add_argument("--all-variants", action="store_true", help="time every variant, however long it takes")
    parser.add_argument("--code-only", action="store_true", help="only count instructions")
    parser.add_argument("--no-code", action="store_true", help="only measure")
    parser.add_argument("--arch", default="sm_90", help="NVIDIA's name for the chip to count for")
    options = parser.parse_args()

    console = Console(width=max(150, Console().width))
    if not options.no_code:
        code_table(console, options.arch, MAX_MIDSTATES)
    if options.code_only:
        return
    found = discover()
    try:
        chosen = select(found, options.device)
    except UserError as error:
        chosen = [device for device in found if device.usable] if not options.device else []
        console.print(f"{error}{'; measuring it all the same' if chosen else ''}", highlight=False)
    if not chosen:
        return

    choice, cores = tuned_cpu(), len(usable_cores())
    cpu_rate = measure(cpu_set(choice.variant, choice.versions, 1), choice.versions, options.seconds, time.thread_time)
    console.print(f"processor's kernel {choice.variant}: {cpu_rate / 1e6:.2f} MH/s a core", highlight=False)
    table = Table("device", "variant", "MH/s", "of one long batch", "x a core", f"x all {cores} cores", "host")
    for heading in ("of the limit", "clock", "watts"):
        table.add_column(heading)
    for device in chosen:
        console.print(f"{device.name}: {device.title}, {device.platform}, driver {device.driver}", highlight=False)
        try:
            device_row(table, device, options.seconds, cpu_rate, cores)
        except DeviceError as error:
            console.print(f"{device.name}: {error}", highlight=False)
    console.print(table)
    if options.all_variants:
        for device in chosen:
            every = Table(f"{device.name}: variant", "MH/s", "of the best")
            tuning = try_variants(device, math.inf)
            for name, rate in tuning.tried:
                every.add_row(name, f"{rate / 1e6:.2f}", f"{rate / tuning.rate:.2f}")
            console.print(every)
            for note in tuning.notes:
                console.print(note, highlight=False)


if __name__ == "__main__":
    main()
