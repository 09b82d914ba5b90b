"""One kernel on one OpenCL device: batches of nonces in flight, their results as they come in.

Each slot has its own queue, so the device can begin a batch while the last threads of the one before it still run, and
its own copy of everything that a batch reads and writes. Nothing here waits inside the driver: NVIDIA's waits by
spinning, which would take a processor core per card.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from miner.device import DeviceError, HashJob
from miner.gpu.errors import build_error, device_error
from miner.gpu.program import CAPACITY, MULTIPLIERS, GpuVariant, source
from miner.kernels.layout import JOB_WORDS, MAX_MIDSTATES, MIDSTATE_WORDS
from miner.kernels.prepare import Words, prepare

#: A batch that takes this long is lost: the device hangs.
TIMEOUT_S = 30.0
#: The first one may take this long: some drivers (PoCL) finish compiling when the kernel first runs.
FIRST_TIMEOUT_S = 180.0
#: Between two looks at a batch that should be done by now.
_POLL_S = 0.0003
_LONGEST_NAP_S = 0.005
_COMPLETE = 0  # CL_COMPLETE; failures are negative

_RESULT_WORDS = 1 + 2 * CAPACITY

#: pyopencl's stubs are narrower than what it takes (NumPy scalars as patterns, flags together).
_untyped_cl: Any = cl


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job as the kernel reads it. `rows` repeats the first version until the kernel's midstates divide it."""

    job: HashJob
    words: Words
    versions: int

    @classmethod
    def of(cls, job: HashJob, midstates: int) -> PreparedJob:
        """`midstates`: the variant's."""
        versions = list(job.versions)
        padded = versions + versions[:1] * (-len(versions) % midstates)
        return cls(job, prepare(job.header, padded, job.target), len(versions))

    @property
    def chance(self) -> float:
        """That a hash is a candidate."""
        return (int(min(self.job.target, (1 << 256) - 1) >> 224) + 1) / (1 << 32)


@dataclass(slots=True)
class Batch:
    """Nonces on their way through the device."""

    prepared: PreparedJob
    start: int
    count: int
    slot: Slot
    done: Any  # the event of its result's arrival
    enqueued_at: float
    abandoned: bool = False  # nobody will read its result

    @property
    def hashes(self) -> int:
        return self.count * self.prepared.versions


class Slot:
    """What one batch in flight needs for itself."""

    def __init__(self, context: Any, device: Any, program: Any) -> None:
        flags = cl.mem_flags
        self.queue = cl.CommandQueue(context, device)
        self.kernel = cl.Kernel(program, "search")
        self.job_buffer = cl.Buffer(context, flags.READ_ONLY, 4 * (JOB_WORDS + MIDSTATE_WORDS * MAX_MIDSTATES))
        self.result_buffer = cl.Buffer(context, flags.READ_WRITE, 4 * _RESULT_WORDS)
        # Page-locked, so that the driver copies results beside the program and not within its calls
        self._pinned = cl.Buffer(context, flags.READ_WRITE | flags.ALLOC_HOST_PTR, 4 * _RESULT_WORDS)
        self.results: npt.NDArray[np.uint32]
        access = cl.map_flags.READ | cl.map_flags.WRITE
        self.results, _ = _untyped_cl.enqueue_map_buffer(
            self.queue, self._pinned, access, 0, (_RESULT_WORDS,), np.uint32, is_blocking=True
        )
        self.prepared: PreparedJob | None = None
        self.upload: Any = None  # held: pyopencl waits for an event of a copy when it is dropped
        self.batch: Batch | None = None


class Runner:
    """`device`: pyopencl's; `slots`: batches that may be in flight. Raises DeviceError, as do all methods."""

    def __init__(
        self,
        device: Any,
        variant: GpuVariant,
        slots: int = 2,
        *,
        context: Any = None,
        program: Any = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.variant = variant
        self._sleep = sleep
        self._has_run = False
        try:
            context = context or cl.Context([device])
            program = program or build(context, variant)
            self._slots = [Slot(context, device, program) for _ in range(slots)]
        except cl.Error as error:
            raise device_error("opening the device", error) from None
        self._multipliers = [np.uint32(number) for number in MULTIPLIERS]

    @property
    def granularity(self) -> int:
        """Nonces of one work-group: batches of a multiple waste none."""
        return self.variant.group * self.variant.nonces_per_item

    @property
    def idle_slots(self) -> Sequence[Slot]:
        return [slot for slot in self._slots if slot.batch is None]

    def enqueue(self, prepared: PreparedJob, start: int, count: int) -> Batch:
        """Hand nonces start .. start + count - 1 (modulo 2^32) to the device; there must be an idle slot."""
        slot = self.idle_slots[0]
        items = -(-count // self.variant.nonces_per_item)
        items = -(-items // self.variant.group) * self.variant.group
        try:
            if slot.prepared is not prepared:
                slot.upload = cl.enqueue_copy(slot.queue, slot.job_buffer, prepared.words, is_blocking=False)
                slot.prepared = prepared
            _untyped_cl.enqueue_fill_buffer(slot.queue, slot.result_buffer, np.uint32(0), 0, 4)
            slot.kernel(
                slot.queue,
                (items,),
                (self.variant.group,),
                slot.job_buffer,
                np.uint32(prepared.versions),
                np.uint32(start & 0xFFFFFFFF),
                np.uint32(count),
                slot.result_buffer,
                *self._multipliers,
            )
            done = cl.enqueue_copy(slot.queue, slot.results, slot.result_buffer, is_blocking=False)
            slot.queue.flush()
        except cl.Error as error:
            raise device_error("starting a batch", error) from None
        slot.batch = Batch(prepared, start, count, slot, done, time.perf_counter())
        return slot.batch

    def wait(self, batch: Batch, expected_s: float = 0.0) -> list[tuple[int, int]] | None:
        """Sleep until the batch is done, about `expected_s` from now; its candidates as (nonce, version index), in the
        order of the range. None if they were more than a result buffer holds."""
        timeout_s = TIMEOUT_S if self._has_run else FIRST_TIMEOUT_S
        deadline = time.perf_counter() + timeout_s
        nap = min(expected_s * 0.9, _LONGEST_NAP_S)
        while not self.finished(batch):
            if time.perf_counter() > deadline:
                raise DeviceError(f"no answer for {timeout_s:.0f} s: the device hangs, or its driver does")
            self._sleep(max(nap, _POLL_S))
            expected_s -= nap
            nap = min(expected_s * 0.9, _LONGEST_NAP_S)
        self._has_run = True
        results = batch.slot.results
        batch.slot.batch = None  # what is read here is read before another batch can be enqueued
        found = int(results[0])
        if found > CAPACITY:
            return None
        pairs = results[1 : 1 + 2 * found].reshape(found, 2).tolist()
        order = sorted(((nonce - batch.start) & 0xFFFFFFFF, row, nonce) for row, nonce in pairs)
        return [(nonce, row) for _, row, nonce in order]

    def finished(self, batch: Batch) -> bool:
        """Whether its result is there. Its slot stays taken until the result is read, or the batch was abandoned."""
        try:
            status = batch.done.command_execution_status
        except cl.Error as error:
            raise device_error("hashing", error) from None
        if status < _COMPLETE:
            raise device_error("hashing", RuntimeError(_untyped_cl.status_code.to_string(status)))
        return bool(status == _COMPLETE)

    def reclaim(self) -> None:
        """Take back the slots of abandoned batches that are done."""
        for slot in self._slots:
            if slot.batch is not None and slot.batch.abandoned and self.finished(slot.batch):
                slot.batch = None

    def make_room(self) -> None:
        """Wait until a slot is idle, where only abandoned batches are in the way."""
        self.reclaim()
        if not self.idle_slots:
            in_flight = [slot.batch for slot in self._slots if slot.batch is not None and slot.batch.abandoned]
            self.wait(min(in_flight, key=lambda batch: batch.enqueued_at))

    def abandon(self) -> None:
        """Forget what is in flight: the device still does it, but nobody reads the results."""
        for slot in self._slots:
            if slot.batch is not None:
                slot.batch.abandoned = True

    def drain(self, timeout_s: float = 2.0) -> None:
        """Abandon what is in flight and let it end; what does not is left to the driver."""
        self.abandon()
        deadline = time.perf_counter() + timeout_s
        try:
            while len(self.idle_slots) < len(self._slots) and time.perf_counter() < deadline:
                self.reclaim()
                self._sleep(_POLL_S)
        except DeviceError:
            return


def build(context: Any, variant: GpuVariant) -> Any:
    """The compiled program of a variant; drivers and pyopencl keep binaries from one start to the next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.CompilerWarning)
        try:
            return cl.Program(context, source(variant)).build(["-cl-std=CL1.2"])
        except (cl.Error, ValueError) as error:
            raise build_error(variant, error) from None
