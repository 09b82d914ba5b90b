"""Which kernel is fastest here: timed once for a fraction of a second, then remembered per processor, compiler and
kernel source."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from miner.cache import cache_folder, recall, remember
from miner.cpu.device import CpuDevice
from miner.cpu.features import HostProcessor, contenders, host_processor
from miner.device import HashJob
from miner.kernels.variant import Variant

#: Versions per job worth timing: more share the message schedule further, but need more cache for their midstates.
VERSION_COUNTS = (1, 4, 16, 64)
BUDGET_S = 0.2  #: timing in all
#: each setting is timed this often, interleaved, and its best counts: a loaded machine only ever makes it look slower
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Tuning:
    """A choice and the rate at which it was measured, in hashes a second on one core."""

    variant: Variant
    versions: int
    rate: float


def tuned(folder: Path | None = None) -> Tuning:
    """The remembered choice for this processor, or a fresh measurement, which is then remembered."""
    processor = host_processor()
    path = (folder or cache_folder()) / "tuning.json"
    remembered = _recall(path, processor)
    if remembered is not None:
        return remembered
    choice = measure(processor)
    _remember(path, processor, choice)
    return choice


def measure(processor: HostProcessor, budget_s: float = BUDGET_S) -> Tuning:
    """Time the contenders; compiles those that are not cached yet."""
    settings = [(variant, versions) for variant in contenders(processor) for versions in VERSION_COUNTS]
    devices = {setting: CpuDevice("tuner", *setting) for setting in settings}
    share_s = budget_s / (len(settings) * _ROUNDS)
    rates = dict.fromkeys(settings, 0.0)
    for attempt in range(_ROUNDS):
        for setting, device in devices.items():
            rate = time_device(device, setting[1], share_s)
            if attempt:  # the first turn warms caches and finds the slice size
                rates[setting] = max(rates[setting], rate)
    (variant, versions), rate = max(rates.items(), key=lambda item: item[1])
    return Tuning(variant, versions, rate)


def time_device(device: CpuDevice, versions: int, duration_s: float) -> float:
    """Hashes a second over about `duration_s`, on a job whose target nothing meets."""
    job = HashJob(bytes(80), tuple(range(1, versions + 1)), 0)
    device.search(job, 0, 256)  # prepares the job outside the timing
    count = max(256, int(2e6 * duration_s) // versions)
    began = time.perf_counter()
    done = 0
    while (elapsed := time.perf_counter() - began) < duration_s:
        done += device.search(job, done & 0xFFFFFFFF, count).done
    return done * versions / elapsed


def _recall(path: Path, processor: HostProcessor) -> Tuning | None:
    """A damaged or foreign file is the same as none: the measurement is cheap."""
    try:
        entry = recall(path)[processor.fingerprint]
        method = (bool(entry[name]) for name in ("ternary", "sha_extensions", "arm"))
        variant = Variant(int(entry["width"]), *method)
        versions, rate = int(entry["versions"]), float(entry["rate"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return Tuning(variant, versions, rate) if variant in contenders(processor) and versions in VERSION_COUNTS else None


def _remember(path: Path, processor: HostProcessor, choice: Tuning) -> None:
    entry = {
        "width": choice.variant.width,
        "ternary": choice.variant.ternary,
        "sha_extensions": choice.variant.sha_extensions,
        "arm": choice.variant.arm,
        "versions": choice.versions,
        "rate": choice.rate,
    }
    remember(path, processor.fingerprint, entry)
