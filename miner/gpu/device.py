"""One OpenCL device as a HashDevice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from miner.device import NONCE_SPACE, Candidate, DeviceDetails, DeviceError, HashJob, SearchResult, never
from miner.gpu.discovery import FoundDevice
from miner.gpu.program import CAPACITY, GpuVariant
from miner.gpu.runner import Batch, PreparedJob, Runner
from miner.kernels.layout import MAX_MIDSTATES

#: Batches in flight: one that runs, one that waits, so that the device never waits for Python.
QUEUE_DEPTH = 2
#: Time aimed at for a batch. What is in flight when the job changes runs to its end: together under 20 ms.
BATCH_S = 0.006
_FIRST_BATCH_HASHES = 1 << 16
_MOST_NONCES = 1 << 30  #: of a batch: the kernel counts in 32 bits
#: A batch is made so small that it expects to fill this part of the result buffer at most.
_EXPECTED_FILL = 0.25


class GpuDevice:
    """HashDevice over one OpenCL device; `open` opens it, and tunes it if need be, unless `variant` is given. `rate`:
    hashes a second when tuned, to begin with."""

    kind = "gpu"

    def __init__(
        self,
        found: FoundDevice,
        variant: GpuVariant | None = None,
        preferred_versions: int = MAX_MIDSTATES,
        rate: float = 0.0,
    ) -> None:
        self.name = found.name
        self.found = found
        self.variant = variant
        self.preferred_versions = preferred_versions
        self.tuning_notes: tuple[str, ...] = ()
        self.overflows = 0  #: batches searched again because their candidates did not fit
        self._state = "not open"
        self._runner: Runner | None = None
        self._prepared: PreparedJob | None = None
        self._pending: deque[Batch] = deque()
        self._next = 0  # the nonce after the last one enqueued
        self._batch_hashes = max(float(_FIRST_BATCH_HASHES), rate * BATCH_S)
        self._rate = rate  # as it is now
        self._tuned_rate = rate
        self._idle_since = 0.0

    def open(self) -> None:
        """Build the kernel; the first time on a device, find out which variant suits it (a few seconds)."""
        if self._runner is None:
            self._runner = self._opened()
            self._state = "ready"

    def _opened(self) -> Runner:
        if self.variant is None:
            from miner.gpu.tuner import tuned

            self._state = "tuning"
            tuning = tuned(self.found)
            self.variant, self.preferred_versions = tuning.variant, tuning.versions
            self._rate = self._tuned_rate = tuning.rate
            self.tuning_notes = tuning.notes
            self._batch_hashes = max(float(_FIRST_BATCH_HASHES), tuning.rate * BATCH_S)
        self._state = "building its kernel"
        return Runner(self.found.handle, self.variant, QUEUE_DEPTH)

    def close(self) -> None:
        """Let what is in flight end, and give the device back."""
        self._abandon()
        if self._runner is not None:
            self._runner.drain()
        self._runner = None
        self._prepared = None
        self._state = "closed"

    def idle(self) -> None:
        """Nothing is kept in flight without work."""
        self._abandon()
        self._state = "ready"

    def details(self) -> DeviceDetails:
        """What the driver said of it when it was found, and what happened since."""
        return DeviceDetails(
            state=self._state,
            model=self.found.title,
            path=self.found.address or self.found.platform,
            nominal_rate=self._tuned_rate or None,
            counters={"overflows": self.overflows},
        )

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search. Returns after the first batch that found something; the next batches run on
        meanwhile, and a call that goes on where this one stopped gets theirs."""
        runner = self._runner = self._runner or self._opened()
        prepared = self._turn_to(runner, job, start, count)
        self._state = "hashing"
        done = 0
        while done < count and not cancelled():
            ahead = done + sum(batch.count for batch in self._pending)
            while ahead < count and self._room(runner):
                size = min(count - ahead, self._batch_nonces(runner, prepared))
                self._enqueue(runner, prepared, self._next, size)
                ahead += size
            batch = self._pending.popleft()
            found = self._finish(runner, batch)
            done += batch.count
            if found is None:
                self.overflows += 1
                found = self._again(runner, prepared, batch.start, batch.count)
            if found:
                return SearchResult(done, self._candidates(job, found))
        return SearchResult(done, [])

    def _turn_to(self, runner: Runner, job: HashJob, start: int, count: int) -> PreparedJob:
        """Go on with what is in flight if it is the beginning of this range; forget it otherwise."""
        prepared = self._prepared
        if prepared is None or prepared.job is not job:
            self._abandon()
            prepared = self._prepared = PreparedJob.of(job, runner.variant.midstates)
        elif self._pending:
            in_flight = sum(batch.count for batch in self._pending)
            if self._pending[0].start != start or in_flight > count:
                self._abandon()
        if not self._pending:
            self._next = start
        return prepared

    def _abandon(self) -> None:
        self._pending.clear()
        if self._runner is not None:
            self._runner.abandon()

    def _room(self, runner: Runner) -> bool:
        """Whether another batch can be enqueued now. With nothing of this job in flight, waits for one of the last to
        end."""
        if not self._pending:
            runner.make_room()
        runner.reclaim()
        return bool(runner.idle_slots)

    def _batch_nonces(self, runner: Runner, prepared: PreparedJob) -> int:
        """Nonces for about BATCH_S, whole work-groups of them, fewer if the target is easy."""
        wanted = int(self._batch_hashes / prepared.versions)
        wanted = min(max(1, wanted // runner.granularity), _MOST_NONCES // runner.granularity) * runner.granularity
        return max(1, min(wanted, int(CAPACITY * _EXPECTED_FILL / (prepared.chance * prepared.versions))))

    def _enqueue(self, runner: Runner, prepared: PreparedJob, start: int, count: int) -> None:
        self._pending.append(runner.enqueue(prepared, start, count))
        self._next = (start + count) % NONCE_SPACE

    def _finish(self, runner: Runner, batch: Batch) -> list[tuple[int, int]] | None:
        """Wait for a batch and learn from the time it took; a batch began when the one before it ended."""
        began = max(batch.enqueued_at, self._idle_since)
        expected_s = 0.0
        if self._rate:
            expected_s = batch.hashes / self._rate - (time.perf_counter() - began)
        found = runner.wait(batch, max(0.0, expected_s))
        now = time.perf_counter()
        self._idle_since = now
        self._adapt(batch.hashes, now - began)
        return found

    def _adapt(self, hashes: int, elapsed_s: float) -> None:
        """Move the batch towards BATCH_S, at most by two, so that one late look at the clock does not swing it."""
        if hashes * 2 >= self._batch_hashes and elapsed_s > 0:
            self._rate = hashes / elapsed_s
            wanted = self._rate * BATCH_S
            self._batch_hashes = min(max(wanted, self._batch_hashes / 2), self._batch_hashes * 2)

    def _again(self, runner: Runner, prepared: PreparedJob, start: int, count: int) -> list[tuple[int, int]]:
        """Candidates of a range that had too many for one buffer: its halves, or theirs, one after the other."""
        found: list[tuple[int, int]] = []
        parts = [(start, count)]
        known_too_many = True
        while parts:
            start, count = parts.pop()
            if not known_too_many:
                runner.make_room()
                part = runner.wait(runner.enqueue(prepared, start, count))
                if part is not None:
                    found += part
                    continue
            if count * prepared.versions <= CAPACITY:
                raise DeviceError("it reports more candidates than it hashed: its memory or driver is faulty")
            half = count // 2
            # the later half below the earlier: they come off the end in the range's order
            parts += [((start + half) % NONCE_SPACE, count - half), (start, half)]
            known_too_many = False
        return found

    def _candidates(self, job: HashJob, found: list[tuple[int, int]]) -> list[Candidate]:
        """A row that no version has is a device's fault; the host's own hash will say so and count it."""
        versions = job.versions
        return [Candidate(versions[row % len(versions)], nonce) for nonce, row in found]
