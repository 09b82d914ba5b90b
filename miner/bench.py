"""Measuring hash rate: what `pickaxe bench` and benchmarks/hash_cpu.py print."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from miner.cpu.device import CpuDevice
from miner.cpu.features import usable_cores
from miner.device import NONCE_SPACE, HashDevice, HashJob
from miner.kernels.reference import ReferenceDevice
from miner.kernels.variant import Variant

Clock: TypeAlias = Callable[[], float]

_ROUND_S = 0.5


def cpu_set(variant: Variant, versions: int, threads: int) -> list[CpuDevice]:
    """One pinned device per thread."""
    cores = usable_cores()
    return [CpuDevice(f"cpu{index}", variant, versions, cores[index % len(cores)]) for index in range(threads)]


def measure(devices: Sequence[HashDevice], versions: int, duration_s: float, clock: Clock = time.perf_counter) -> float:
    """Hashes a second of all devices together over about `duration_s`, on jobs that nothing solves.

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
    ready = threading.Barrier(len(devices) + 1)

    def expired() -> bool:
        return time.perf_counter() >= deadline

    def work(index: int, device: HashDevice) -> None:
        job = HashJob(bytes([index % 256]) * 80, tuple(range(1, versions + 1)), 0)
        device.open()
        device.search(job, 0, 4096 // versions + 1)
        ready.wait()
        ready.wait()
        began[index] = clock()
        done[index] = device.search(job, 0, NONCE_SPACE, expired).done
        ended[index] = clock()

    threads = [threading.Thread(target=work, args=(index, device), daemon=True) for index, device in enumerate(devices)]
    for thread in threads:
        thread.start()
    ready.wait()
    deadline = time.perf_counter() + duration_s
    ready.wait()
    for thread in threads:
        thread.join()
    return sum(count * versions / (end - begin) for count, begin, end in zip(done, began, ended, strict=True))


class History:
    """Earlier results on this machine, so that `pickaxe bench` can say what changed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, float]:
        """Rates by row name; empty when there are none or the file is damaged."""
        try:
            entries = json.loads(self._path.read_text())
            return {str(name): float(rate) for name, rate in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def save(self, rates: dict[str, float]) -> None:
        """Merge these in; a folder that cannot be written loses only the comparison."""
        merged = self.load() | rates
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            temporary.write_text(json.dumps(merged, indent=1))
            temporary.replace(self._path)
        except OSError:
            return
