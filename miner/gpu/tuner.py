"""Which kernel variant is fastest on a device: tried once, in a few seconds, then remembered per device, driver and
kernel source. A variant that does not build, or finds anything but what hashlib finds, is left out, with a note."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyopencl as cl

from miner.cache import cache_folder, recall, remember
from miner.device import DeviceError, HashJob
from miner.gpu.discovery import FoundDevice
from miner.gpu.errors import device_error
from miner.gpu.program import GpuVariant, Logic, source_stamp
from miner.gpu.runner import PreparedJob, Runner, build
from miner.kernels.layout import MAX_MIDSTATES
from miner.kernels.reference import hash_number, header_hash

BUDGET_S = 8.0  #: no further variant is begun after this
_SAMPLE_S = 0.02  #: one timing
_SAMPLES = 3  #: per variant; the best counts
_CHECK_VERSIONS = 5
_CHECK_NONCES = 300
_BUILDERS = 4  #: compilations at a time, at most
#: What sha256d.cl can be built with; a remembered variant that it cannot would retire its device at every start.
_KNOWN = {
    "width": (1, 2, 4, 8, 16),
    "midstates": (1, 2, 4),
    "nonces": range(1, 17),
    "group": range(1, 4097),
    "adds": range(3),
    "shifts": range(2),
    "rotates": range(5),
}

_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tuning:
    """A choice: the variant, how many versions to give it, and its rate in hashes a second when measured. `notes`: what
    was left out, and why; `tried`: rate of each that works."""

    variant: GpuVariant
    versions: int
    rate: float
    notes: tuple[str, ...] = ()
    tried: tuple[tuple[str, float], ...] = ()


def tuned(found: FoundDevice, folder: Path | None = None, budget_s: float = BUDGET_S) -> Tuning:
    """The remembered choice for this device and driver, or a fresh measurement, which is then remembered. Raises
    DeviceError when no variant works."""
    path = (folder or cache_folder()) / "gpu-tuning.json"
    key = fingerprint(found)
    with _locks_lock:
        lock = _locks.setdefault(key, threading.Lock())
    with lock:  # of several cards of one kind, opened at once, the first is measured for all
        remembered = _read(recall(path).get(key))
        if remembered is not None:
            return remembered
        choice = measure(found, budget_s=budget_s)
        entry = {
            "variant": asdict(choice.variant),
            "versions": choice.versions,
            "rate": choice.rate,
            "notes": list(choice.notes),
        }
        remember(path, key, entry)
        return choice


def fingerprint(found: FoundDevice) -> str:
    """What a tuning result holds for."""
    return " | ".join((found.platform, found.title, found.driver, str(found.units), source_stamp()))


def stages(found: FoundDevice) -> Iterator[Callable[[GpuVariant], Sequence[GpuVariant]]]:
    """What to try, stage by stage; each varies one thing about the best so far, the most important first."""
    vendor = f"{found.vendor} {found.platform}".lower()
    if found.processor:
        # Vectors are explicit there, and a large work-group is a long loop for the compiler to take apart.
        yield lambda best: [GpuVariant(width=width, group=group) for width, group in ((16, 4), (8, 8), (4, 16))]
        yield lambda best: [replace(best, logic=Logic.BUILTINS)]
        return
    if "nvidia" in vendor:
        # What the multiplier takes over leaves the adder's pipe to the rest; how much is best depends on the chip
        # (README.md). The plain kernel stands between, for a driver that takes no PTX.
        forms = ((1, 1, 2), (1, 1, 4), (0, 0, 0), (1, 1, 3), (2, 1, 2), (2, 1, 3), (1, 0, 2), (1, 0, 0))
        yield lambda best: [
            GpuVariant(logic=Logic.PTX, adds=adds, shifts=shifts, rotates=rotates) if adds else GpuVariant()
            for adds, shifts, rotates in forms
        ]
    elif "advanced micro" in vendor or "amd" in vendor.split():
        yield lambda best: [GpuVariant(logic=logic) for logic in (Logic.BUILTINS, Logic.AMD, Logic.OPERATORS)]
        yield lambda best: [replace(best, width=2)]
    else:
        yield lambda best: [
            GpuVariant(),
            GpuVariant(logic=Logic.BUILTINS),
            GpuVariant(width=2),
            GpuVariant(width=4, group=64),
            GpuVariant(adds=1),
        ]
    yield lambda best: [replace(best, group=128), replace(best, group=64), replace(best, group=512)]
    yield lambda best: [replace(best, midstates=2), replace(best, nonces=4)]


def measure(
    found: FoundDevice,
    budget_s: float = BUDGET_S,
    plan: Sequence[Callable[[GpuVariant], Sequence[GpuVariant]]] | None = None,
) -> Tuning:
    """Build, check and time variants until all are tried or the budget is spent."""
    deadline = time.perf_counter() + budget_s
    try:
        context = cl.Context([found.handle])
        largest_group = int(found.handle.max_work_group_size)
    except cl.Error as error:
        raise device_error("opening the device", error) from None
    trial = _Trial(found, context)
    rates: dict[GpuVariant, float] = {}
    notes: list[str] = []
    best = GpuVariant()
    with ThreadPoolExecutor(min(_BUILDERS, os.cpu_count() or 1)) as pool:
        for stage in plan if plan is not None else stages(found):
            if rates and time.perf_counter() > deadline:
                break
            variants = [variant for variant in stage(best) if variant not in rates and variant.group <= largest_group]
            builds = [(variant, pool.submit(trial.build, variant)) for variant in variants]
            for variant, program in builds:
                if rates and time.perf_counter() > deadline:
                    program.cancel()
                    continue
                try:
                    rates[variant] = trial.rate(variant, _waited(program))
                except DeviceError as error:
                    notes.append(f"{variant} left out: {error}")
            if rates:
                best = max(rates, key=lambda variant: rates[variant])
    if not rates:
        raise DeviceError(f"no kernel variant works: {notes[0] if notes else 'none fits the device'}")
    tried = tuple(sorted(((str(variant), rate) for variant, rate in rates.items()), key=lambda entry: -entry[1]))
    return Tuning(best, MAX_MIDSTATES, rates[best], tuple(notes), tried)


class _Trial:
    """Tries variants on one device. The job to check with is hashed by hashlib once."""

    def __init__(self, found: FoundDevice, context: Any) -> None:
        self._found = found
        self._context = context
        header = random.Random(80).randbytes(80)
        self._job = HashJob(header, tuple(range(1, _CHECK_VERSIONS + 1)), 1 << 250)
        self._start = (1 << 32) - _CHECK_NONCES // 2  # wraps
        self._timing_job = HashJob(header, tuple(range(1, MAX_MIDSTATES + 1)), 0)
        limit = self._job.target >> 224
        self._expected = [
            (nonce, row)
            for nonce in ((self._start + n) & 0xFFFFFFFF for n in range(_CHECK_NONCES))
            for row, version in enumerate(self._job.versions)
            if hash_number(header_hash(self._job.header_for(version, nonce))) >> 224 <= limit
        ]

    def build(self, variant: GpuVariant) -> Any:
        return build(self._context, variant)

    def rate(self, variant: GpuVariant, program: Any) -> float:
        """Hashes a second. Raises DeviceError if it fails or finds something else than hashlib."""
        runner = Runner(self._found.handle, variant, 1, context=self._context, program=program)
        job = PreparedJob.of(self._job, variant.midstates)
        if runner.wait(runner.enqueue(job, self._start, _CHECK_NONCES)) != self._expected:
            raise DeviceError("it finds other nonces than hashlib")
        job = PreparedJob.of(self._timing_job, variant.midstates)
        nonces = runner.granularity
        best = 0.0
        samples = 0
        while samples < _SAMPLES:
            began = time.perf_counter()
            runner.wait(runner.enqueue(job, 0, nonces))
            elapsed = time.perf_counter() - began
            if elapsed < _SAMPLE_S / 2 and nonces < 1 << 28:
                nonces *= 2
                continue
            best = max(best, nonces * job.versions / elapsed)
            samples += 1
        return best


def _waited(program: Future[Any]) -> Any:
    try:
        return program.result()
    except cl.Error as error:
        raise device_error("building a kernel", error) from None


def _read(entry: Any) -> Tuning | None:
    """A damaged or foreign entry is the same as none."""
    try:
        fields = {name: int(value) for name, value in entry["variant"].items()}
        logic = Logic(fields.pop("logic"))
        if any(value not in _KNOWN[name] for name, value in fields.items()):
            return None
        variant = GpuVariant(logic=logic, **fields)
        versions, rate = int(entry["versions"]), float(entry["rate"])
        notes = tuple(str(note) for note in entry["notes"])
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return Tuning(variant, versions, rate, notes) if 1 <= versions <= MAX_MIDSTATES else None
