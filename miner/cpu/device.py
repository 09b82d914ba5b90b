"""One processor core as a HashDevice."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import numpy as np

from miner.cpu.idle import lowest_priority
from miner.cpu.kernels import load_search
from miner.device import Candidate, DeviceDetails, HashJob, SearchResult, never
from miner.kernels.layout import SCRATCH_WORDS_PER_LANE
from miner.kernels.prepare import Words, aligned_words, prepare
from miner.kernels.variant import Variant

#: Time aimed at between two looks at `cancelled`, for whoever does not wake the device: a wake is heeded at once.
SLICE_S = 0.008
_FIRST_SLICE_HASHES = 1 << 14


class CpuDevice:
    """HashDevice over a compiled kernel, pinned to one logical processor (`core`; None leaves the thread where the
    system puts it). `yielding`: in the lowest scheduling class."""

    kind = "cpu"

    def __init__(
        self,
        name: str,
        variant: Variant,
        preferred_versions: int = 1,
        core: int | None = None,
        *,
        yielding: bool = False,
    ) -> None:
        self.name = name
        self.variant = variant
        self.preferred_versions = preferred_versions
        self.core = core
        self.yielding = yielding
        self._search = load_search(variant)
        self._scratch = aligned_words(SCRATCH_WORDS_PER_LANE * variant.width)
        self._found = np.zeros(0, dtype=np.uint64)
        self._stop = aligned_words(1)  # 1: the slice that is being searched ends at once
        self._job: HashJob | None = None
        self._words: Words = aligned_words(0)
        self._slice_hashes = float(_FIRST_SLICE_HASHES)

    def open(self) -> None:
        """Pin the calling thread; where the system does not pin threads, mining goes on unpinned."""
        if self.core is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # a core taken away since start
                os.sched_setaffinity(0, {self.core})
        if self.yielding:
            lowest_priority()

    def idle(self) -> None:
        """Nothing to look after."""

    def close(self) -> None:
        """Nothing to give back."""

    def details(self) -> DeviceDetails | None:
        """Nothing to tell."""
        return None

    def wake(self) -> None:
        """See Wakeable."""
        self._stop[0] = 1

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search. Runs without the GIL in slices of about SLICE_S, which a wake cuts short; returns
        after the first slice that found something."""
        if job is not self._job:
            self._words = prepare(job.header, job.versions, job.target)
            self._job = job
            self._found = np.zeros(4 * self.variant.width * len(job.versions), dtype=np.uint64)
        versions, width = len(job.versions), self.variant.width
        done = 0
        while done < count:
            self._stop[0] = 0  # before the look: a wake for what changes after it is not lost
            if cancelled():
                break
            size = min(count - done, max(width, int(self._slice_hashes / versions) // width * width))
            began = time.perf_counter()
            searched, found = self._search(
                *(self._words, self._scratch, np.uint32((start + done) & 0xFFFFFFFF), size, versions),
                *(self._found, self._stop),
            )
            self._adapt(searched * versions, time.perf_counter() - began)
            done += searched
            if found:
                return SearchResult(done, [self._candidate(job, int(entry)) for entry in self._found[:found]])
        return SearchResult(done, [])

    def _adapt(self, hashes: int, elapsed_s: float) -> None:
        """Move the slice towards SLICE_S, at most doubling, so that one preempted slice does not swing it."""
        if hashes * 2 >= self._slice_hashes and elapsed_s > 0:
            wanted = hashes * SLICE_S / elapsed_s
            self._slice_hashes = min(max(wanted, self._slice_hashes / 2), self._slice_hashes * 2)

    def _candidate(self, job: HashJob, entry: int) -> Candidate:
        return Candidate(job.versions[entry >> 32], entry & 0xFFFFFFFF)
