"""The processor's cores as hashing devices."""

from __future__ import annotations

from miner.cpu.device import CpuDevice
from miner.cpu.features import usable_cores
from miner.cpu.tuner import tuned


def cpu_devices(threads: int | None = None, *, yielding: bool = False) -> list[CpuDevice]:
    """One device per core (or the first `threads` of them; more threads than cores share them in turn), with the kernel
    tuned for this machine. `yielding`: in the lowest scheduling class."""
    cores = usable_cores()
    choice = tuned()
    return [
        CpuDevice(f"cpu{index}", choice.variant, choice.versions, cores[index % len(cores)], yielding=yielding)
        for index in range(threads if threads is not None else len(cores))
    ]
