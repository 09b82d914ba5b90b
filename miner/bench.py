"""Measuring hash rate: what `pickaxe bench` and benchmarks/hash_cpu.py print."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from miner.cpu.device import CpuDevice
from miner.cpu.features import host_processor, usable_cores
from miner.device import NONCE_SPACE, DeviceError, HashDevice, HashJob
from miner.kernels.reference import ReferenceDevice
from miner.kernels.variant import Variant

Clock: TypeAlias = Callable[[], float]

_ROUND_S = 0.5
_RUNS_KEPT = 50  # of each row


def cpu_set(variant: Variant, versions: int, threads: int) -> list[CpuDevice]:
    """One pinned device per thread."""
    cores = usable_cores()
    return [CpuDevice(f"cpu{index}", variant, versions, cores[index % len(cores)]) for index in range(threads)]


def measure(devices: Sequence[HashDevice], versions: int, duration_s: float, clock: Clock = time.perf_counter) -> float:
    """Hashes a second of all devices together over about `duration_s`, on jobs that nothing solves. Raises DeviceError.

    The best of several rounds of half a second: on a machine with other work, the median measures the other work. With
    `clock` time.thread_time the seconds are those that each thread got of its processor, whatever else runs.
    """
    best = 0.0
    for _ in range(max(1, round(duration_s / _ROUND_S))):
        best = max(best, _round(devices, versions, min(duration_s, _ROUND_S), clock))
    return best


def measure_hashlib(duration_s: float, clock: Clock = time.perf_counter) -> float:
    """The same for hashlib's double SHA-256 from a copied midstate, on one core."""
    return measure([ReferenceDevice()], 1, duration_s, clock)


def _round(devices: Sequence[HashDevice], versions: int, duration_s: float, clock: Clock) -> float:
    deadline = 0.0
    done = [0] * len(devices)
    began = [0.0] * len(devices)
    ended = [0.0] * len(devices)
    failures: list[DeviceError] = []
    ready = threading.Barrier(len(devices) + 1)

    def expired() -> bool:
        return time.perf_counter() >= deadline

    def work(index: int, device: HashDevice) -> None:
        job = HashJob(bytes([index % 256]) * 80, tuple(range(1, versions + 1)), 0)
        try:
            device.open()
            try:
                device.search(job, 0, 4096 // versions + 1)
                ready.wait()
                ready.wait()
                began[index] = clock()
                result = device.search(job, 0, NONCE_SPACE, expired)
                done[index] = result.hashes if result.hashes is not None else result.done * versions
                ended[index] = clock()
            finally:
                device.close()
        except threading.BrokenBarrierError:
            return  # another device failed
        except DeviceError as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(index, device), daemon=True) for index, device in enumerate(devices)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
        deadline = time.perf_counter() + duration_s
        ready.wait()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(count / (end - begin) for count, begin, end in zip(done, began, ended, strict=True))


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row: hashes a second; `threads`: of the processor, None for other devices."""

    name: str
    rate: float
    threads: int | None


def processor_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor as its maker calls it, else as LLVM does."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return host_processor().name


class History:
    """Earlier results with this processor, so that `pickaxe bench` can say what changed. Those of another, in a folder
    that machines share or that has moved to a new one, are kept apart."""

    def __init__(self, path: Path, processor: str) -> None:
        self._path = path
        self._processor = processor

    def rates(self, name: str) -> list[float]:
        """What a row came to in earlier runs, the last one last."""
        return self._load().get(self._key(name), [])

    def save(self, rates: dict[str, float]) -> None:
        """Add these; a folder that cannot be written loses only the comparison."""
        merged = self._load()
        for name, rate in rates.items():
            merged[self._key(name)] = [*merged.get(self._key(name), []), rate][-_RUNS_KEPT:]
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(merged, indent=1))
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):  # what a full disk has taken of it
                temporary.unlink(missing_ok=True)

    def _key(self, name: str) -> str:
        return f"{self._processor}: {name}"

    def _load(self) -> dict[str, list[float]]:
        """Empty when there are none or the file is damaged."""
        try:
            entries = json.loads(self._path.read_text())
            loaded = {str(name): [float(rate) for rate in rates] for name, rates in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}
        return {name: rates for name, rates in loaded.items() if rates and all(0 < rate < math.inf for rate in rates)}
