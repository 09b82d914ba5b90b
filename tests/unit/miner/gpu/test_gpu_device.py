"""The device's bookkeeping, over a runner of the test's own and over PoCL: nothing is lost, doubled or waited for in
vain."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from miner.device import NONCE_SPACE, Candidate, DeviceError, HashJob
from miner.gpu import FoundDevice
from miner.gpu import device as device_module
from miner.gpu import runner as runner_module
from miner.gpu.device import BATCH_S, QUEUE_DEPTH, GpuDevice
from miner.gpu.program import CAPACITY, GpuVariant
from miner.gpu.runner import PreparedJob, Runner
from miner.kernels.reference import hash_number, header_hash

VARIANT = GpuVariant(width=4, group=16)
PROCESSOR_VARIANT = GpuVariant(width=16, group=4)
RATE = 1e6  #: hashes a second of the fake device


@dataclass
class FakeBatch:
    prepared: PreparedJob
    start: int
    count: int
    enqueued_at: float
    abandoned: bool = False

    @property
    def hashes(self) -> int:
        return self.count * self.prepared.versions


@dataclass
class FakeRunner:
    """A device that hashes RATE hashes a second of a clock that only waiting moves; `finds` says which nonces."""

    finds: Callable[[int], list[int]] | None = None
    variant: GpuVariant = VARIANT
    capacity: int = CAPACITY
    clock: float = 100.0
    in_flight: deque[FakeBatch] = field(default_factory=deque)
    enqueued: list[tuple[int, int]] = field(default_factory=list)
    most_in_flight: int = 0
    longest_queue_s: float = 0.0

    granularity = VARIANT.group * VARIANT.nonces_per_item

    @property
    def idle_slots(self) -> list[int]:
        return list(range(QUEUE_DEPTH - len(self.in_flight)))

    def enqueue(self, prepared: PreparedJob, start: int, count: int) -> FakeBatch:
        assert self.idle_slots
        batch = FakeBatch(prepared, start, count, self.clock)
        self.in_flight.append(batch)
        self.enqueued.append((start, count))
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.longest_queue_s = max(self.longest_queue_s, sum(batch.hashes for batch in self.in_flight) / RATE)
        return batch

    def wait(self, batch: FakeBatch, expected_s: float = 0.0) -> list[tuple[int, int]] | None:
        assert not batch.abandoned
        while self.in_flight:
            first = self.in_flight.popleft()
            self.clock += first.hashes / RATE
            if first is batch:
                break
        nonces = [(batch.start + offset) % NONCE_SPACE for offset in range(batch.count)] if self.finds else []
        found = [(nonce, row) for nonce in nonces for row in (self.finds(nonce) if self.finds else [])]
        return found if len(found) <= self.capacity else None

    def make_room(self) -> None:
        self.reclaim()

    def reclaim(self) -> None:
        for batch in [batch for batch in self.in_flight if batch.abandoned]:
            self.in_flight.remove(batch)
            self.clock += batch.hashes / RATE

    def abandon(self) -> None:
        for batch in self.in_flight:
            batch.abandoned = True

    def drain(self) -> None:
        self.abandon()
        self.reclaim()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    runner = FakeRunner()
    monkeypatch.setattr(device_module, "Runner", lambda *arguments: runner)
    monkeypatch.setattr(device_module, "time", type("Clock", (), {"perf_counter": lambda: runner.clock}))
    return runner


def opened() -> GpuDevice:
    device = GpuDevice(FoundDevice("gpu0", "Test", handle=object()), VARIANT, 4)
    device.open()
    return device


def job(target: int = 0, versions: int = 4) -> HashJob:
    return HashJob(bytes(80), tuple(range(1, versions + 1)), target)


def exhaust(device: GpuDevice, work: HashJob, start: int, count: int) -> list[Candidate]:
    found, done = [], 0
    while done < count:
        result = device.search(work, (start + done) % NONCE_SPACE, count - done)
        found += result.candidates
        done += result.done
    return found


def test_a_second_batch_waits_while_the_first_runs(fake: FakeRunner) -> None:
    device = opened()
    assert device.search(job(), 0, 1_000_000).done == 1_000_000
    assert fake.most_in_flight == QUEUE_DEPTH
    assert [start for start, _ in fake.enqueued] == [
        sum(count for _, count in fake.enqueued[:index]) for index in range(len(fake.enqueued))
    ]


def test_batches_settle_at_the_time_that_they_should_take(fake: FakeRunner) -> None:
    device = opened()
    device.search(job(), 0, 1_000_000)
    _, count = fake.enqueued[-2]
    assert count * 4 / RATE == pytest.approx(BATCH_S, rel=0.1)
    fake.longest_queue_s = 0.0
    device.search(job(), 0, 100_000)
    assert fake.longest_queue_s < 0.02


def test_goes_on_with_what_is_in_flight(fake: FakeRunner) -> None:
    """Candidates end a search; the batch behind is not hashed twice."""
    fake.finds = lambda nonce: [1] if nonce % 5000 == 0 else []
    device, work = opened(), job()
    found = exhaust(device, work, 10, 100_000)
    assert found == [Candidate(2, nonce) for nonce in range(5000, 100_010, 5000)]
    assert sum(count for _, count in fake.enqueued) == 100_000


@pytest.mark.parametrize("change", ["job", "start", "count"])
def test_another_range_forgets_what_is_in_flight(fake: FakeRunner, change: str) -> None:
    fake.finds = lambda nonce: [0]
    device, work = opened(), job(1 << 254, versions=1)  # easy, so that batches are small
    first = device.search(work, 0, 3000)
    assert first.done < 3000
    assert fake.in_flight
    start, count = first.done, 3000 - first.done
    if change == "job":
        work = job(1 << 254, versions=1)
    elif change == "start":
        start += 7
    else:
        count = 5
    found = exhaust(device, work, start, count)
    assert [candidate.nonce for candidate in found] == [start + offset for offset in range(count)]


def test_easy_targets_get_small_batches(fake: FakeRunner) -> None:
    """A quarter of the buffer is expected to fill, so that it overflows once in many lifetimes."""
    device = opened()
    device.search(job((1 << 255) - 1), 0, 10_000)
    assert max(count for _, count in fake.enqueued) == CAPACITY // 4 * 2 // 4
    fake.enqueued.clear()
    device.search(job((1 << 256) - 1, versions=1), 0, 10_000)
    assert max(count for _, count in fake.enqueued) == CAPACITY // 4


def test_overflow_searches_the_range_again_in_parts(fake: FakeRunner, rng: random.Random) -> None:
    """However unevenly the candidates lie, none is missed or doubled, and they stay in order."""
    solutions = {nonce: [0, 3] for nonce in rng.sample(range(20_000), 2500)}
    solutions.update({nonce: [0, 1, 2, 3] for nonce in range(7000, 7900)})
    fake.finds = lambda nonce: solutions.get(nonce, [])
    device = opened()
    found = exhaust(device, job(), 0, 20_000)
    expected = [Candidate(row + 1, nonce) for nonce in range(20_000) for row in solutions.get(nonce, [])]
    assert device.overflows > 0
    assert found == expected
    assert device.details().counters == {"overflows": device.overflows}


def test_a_device_that_always_overflows_is_retired(fake: FakeRunner) -> None:
    fake.finds = lambda nonce: [0]
    fake.capacity = -1
    with pytest.raises(DeviceError, match="more candidates than it hashed"):
        opened().search(job(), 0, 100_000)


def test_a_row_that_no_version_has_becomes_a_candidate_that_the_host_refuses(fake: FakeRunner) -> None:
    fake.finds = lambda nonce: [6]
    assert opened().search(job(), 5, 1).candidates == [Candidate(3, 5)]


def test_idle_and_close_leave_nothing_in_flight(fake: FakeRunner) -> None:
    fake.finds = lambda nonce: [0]
    device, work = opened(), job()
    device.search(work, 0, 10_000)
    device.idle()
    assert all(batch.abandoned for batch in fake.in_flight)
    device.close()
    assert not fake.in_flight
    assert device.details().state == "closed"
    device.open()
    assert exhaust(device, work, 0, 3) != []


def hashlib_finds(work: HashJob, start: int, count: int) -> list[Candidate]:
    return [
        Candidate(version, nonce)
        for nonce in range(start, start + count)
        for version in work.versions
        if hash_number(header_hash(work.header_for(version, nonce))) >> 224 <= work.target >> 224
    ]


def test_a_real_buffer_overflows(processor: FoundDevice, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Over PoCL, with batches that expect ten times what fits."""
    monkeypatch.setattr(device_module, "_EXPECTED_FILL", 10.0)
    device = GpuDevice(processor, PROCESSOR_VARIANT)
    device.open()
    try:
        work = HashJob(rng.randbytes(80), (1, 2, 3), (1 << 255) - 1)
        assert exhaust(device, work, 1000, 2000) == hashlib_finds(work, 1000, 2000)
        assert device.overflows > 0
    finally:
        device.close()


def test_two_devices_at_once_do_not_disturb_each_other(processor: FoundDevice, rng: random.Random) -> None:
    works = [HashJob(rng.randbytes(80), (1, 2), 1 << 250) for _ in range(2)]
    found: list[list[Candidate]] = [[], []]

    def run(index: int) -> None:
        device = GpuDevice(processor, PROCESSOR_VARIANT)
        device.open()
        found[index] = exhaust(device, works[index], 0, 3000)
        device.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [hashlib_finds(work, 0, 3000) for work in works]


def test_driver_errors_are_one_line(processor: FoundDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"^building kernel variant w3m1n1g4-operators failed: .*word[^\n]*$"):
        Runner(processor.handle, GpuVariant(width=3, group=4))
    runner = Runner(processor.handle, PROCESSOR_VARIANT)
    too_large = GpuVariant(width=16, group=1 << 20)
    monkeypatch.setattr(runner, "variant", too_large)
    with pytest.raises(DeviceError, match=r"^starting a batch failed: INVALID_WORK_GROUP_SIZE: [^\n]*$"):
        runner.enqueue(PreparedJob.of(job(), 1), 0, 100)


@pytest.mark.parametrize("status", [3, -5, -14])
def test_a_batch_that_never_ends_or_fails(processor: FoundDevice, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(runner_module, "TIMEOUT_S", 0.05)
    runner = Runner(processor.handle, PROCESSOR_VARIANT)
    batch: Any = runner.enqueue(PreparedJob.of(job(), 1), 0, 16)
    runner.wait(batch)
    batch.done = type("Event", (), {"command_execution_status": status})()
    complaint = "no answer for" if status > 0 else "hashing failed: "
    with pytest.raises(DeviceError, match=complaint):
        runner.wait(batch)
