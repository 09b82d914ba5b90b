"""The scheduler with invented devices: disjoint work, stale work dropped, failures contained."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from miner.device import Candidate, DeviceDetails, DeviceError, HashDevice, HashJob, SearchResult, never
from miner.kernels.reference import ReferenceDevice
from miner.scheduler import Scheduler
from miner.share import Finding, Share
from miner.telemetry import Telemetry
from miner.work.benchmark import benchmark_job
from miner.work.job import Job

WAIT_S = 20


class FakeDevice:
    """Claims whole units at once, with what `answer` finds in them."""

    kind = "fake"
    preferred_versions = 4

    def __init__(self, name: str, answer: Callable[[HashJob, int], list[Candidate]] = lambda job, start: []) -> None:
        self.name = name
        self.answer = answer
        self.jobs: list[HashJob] = []
        self.threads: set[int] = set()
        self.closed = threading.Event()
        self.limit = 20
        self.idled = 0

    def open(self) -> None:
        self.threads.add(threading.get_ident())

    def idle(self) -> None:
        self.idled += 1

    def close(self) -> None:
        self.closed.set()

    def details(self) -> DeviceDetails | None:
        return DeviceDetails(state="invented", temperatures_c={"chip": 50.0})

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        self.threads.add(threading.get_ident())
        if start == 0:
            self.jobs.append(job)
        candidates = self.answer(job, start)
        if len(self.jobs) >= self.limit:
            while not cancelled():
                time.sleep(0.001)
            return SearchResult(0, candidates)
        return SearchResult(count, candidates)


@pytest.fixture
def shares() -> queue.Queue[Share]:
    return queue.Queue()


class Rig:
    """A scheduler and what it reported."""

    def __init__(self, *devices: HashDevice) -> None:
        self.shares: queue.Queue[Share] = queue.Queue()
        self.failures: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        self.telemetry = Telemetry(devices)
        self.scheduler = Scheduler(
            devices,
            self.telemetry,
            self.shares.put,
            lambda device, reason, left: self.failures.put((device.name, reason, left)),
        )
        self.scheduler.start()


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(*devices: HashDevice) -> Rig:
        rigs.append(Rig(*devices))
        return rigs[-1]

    yield build
    for each in rigs:
        each.scheduler.stop()


def easy_job(*, single_solution: bool = False) -> Job:
    return dataclasses.replace(benchmark_job(), target=1 << 252, share_target=1 << 254, single_solution=single_solution)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def test_devices_never_share_work_and_each_has_one_thread(rig: Callable[..., Rig]) -> None:
    devices = [FakeDevice(f"fake{index}") for index in range(3)]
    rig(*devices).scheduler.set_job(benchmark_job())
    wait_for(lambda: all(len(device.jobs) == device.limit for device in devices))
    headers = [job.header_for(version, 0) for device in devices for job in device.jobs for version in job.versions]
    assert len(headers) == len(set(headers)) == 3 * 20 * 4
    assert all(len(device.threads) == 1 for device in devices)


def test_a_new_job_replaces_the_old_within_a_slice(rig: Callable[..., Rig]) -> None:
    device = FakeDevice("fake")
    device.limit = 1
    running = rig(device)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: len(device.jobs) == 1)
    replacement = dataclasses.replace(benchmark_job(), prev_hash=b"\xaa" * 32, height=2)
    running.scheduler.set_job(replacement)
    wait_for(lambda: len(device.jobs) >= 2)
    assert device.jobs[-1].header[4:36] == b"\xaa" * 32
    assert running.telemetry.report().height == 2


def test_no_work_means_no_search(rig: Callable[..., Rig]) -> None:
    device = FakeDevice("fake")
    device.limit = 1
    running = rig(device)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: len(device.jobs) == 1)
    running.scheduler.set_job(None)
    time.sleep(0.05)
    assert len(device.jobs) == 1
    assert running.telemetry.report().height is None


def test_a_solo_job_ends_with_its_first_block(rig: Callable[..., Rig]) -> None:
    running = rig(ReferenceDevice("a"), ReferenceDevice("b"))
    running.scheduler.set_job(easy_job(single_solution=True))
    findings: list[Share] = []
    while not findings or findings[-1].finding is not Finding.BLOCK:
        findings.append(running.shares.get(timeout=WAIT_S))
    time.sleep(0.1)
    assert running.shares.empty()
    running.scheduler.set_job(easy_job(single_solution=True))
    assert running.shares.get(timeout=WAIT_S)


def test_other_jobs_go_on_after_a_block(rig: Callable[..., Rig]) -> None:
    running = rig(ReferenceDevice("a"))
    running.scheduler.set_job(easy_job())
    found = [running.shares.get(timeout=WAIT_S) for _ in range(50)]
    assert {share.finding for share in found} == {Finding.BLOCK, Finding.SHARE}
    assert len({share.header for share in found}) == 50


@pytest.mark.parametrize("single_solution", [False, True])
def test_what_is_found_late_is_a_pools_to_judge_and_a_nodes_loss(
    rig: Callable[..., Rig], single_solution: bool
) -> None:
    """The device returns its candidates only when its job has been replaced."""
    device = FakeDevice("fake", lambda job, start: [Candidate(job.versions[0], nonce) for nonce in range(60)])
    device.limit = 1
    running = rig(device)
    running.scheduler.set_job(easy_job(single_solution=single_solution))
    wait_for(lambda: len(device.jobs) == 1)
    running.scheduler.set_job(None)
    wait_for(lambda: running.telemetry.report().devices[0].shares > 0)
    running.scheduler.stop()
    assert running.shares.empty() == single_solution


def test_wrong_nonces_are_counted_and_go_no_further(rig: Callable[..., Rig]) -> None:
    liar = FakeDevice("liar", lambda job, start: [Candidate(job.versions[0], 1), Candidate(0x7FFFFFFF, 2)])
    running = rig(liar)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: running.telemetry.report().hardware_errors >= 10)
    assert running.shares.empty()


def test_a_failing_device_is_retired_and_the_rest_go_on(rig: Callable[..., Rig]) -> None:
    def fail(job: HashJob, start: int) -> list[Candidate]:
        raise DeviceError("its memory is gone")

    def crash(job: HashJob, start: int) -> list[Candidate]:
        raise ZeroDivisionError("oh")

    devices = [FakeDevice("gone", fail), FakeDevice("buggy", crash), FakeDevice("good")]
    running = rig(*devices)
    running.scheduler.set_job(benchmark_job())
    failures = sorted(running.failures.get(timeout=WAIT_S) for _ in range(2))
    assert [(name, reason) for name, reason, _ in failures] == [
        ("buggy", "ZeroDivisionError: oh"),
        ("gone", "its memory is gone"),
    ]
    assert all(left for _, _, left in failures)
    wait_for(lambda: len(devices[2].jobs) == devices[2].limit)
    assert devices[0].closed.is_set()
    assert [device.failure for device in running.telemetry.report().devices] == [
        "its memory is gone",
        "ZeroDivisionError: oh",
        None,
    ]


def test_the_last_failure_says_that_none_is_left(rig: Callable[..., Rig]) -> None:
    class Unopenable(FakeDevice):
        def open(self) -> None:
            raise DeviceError("not there")

    assert rig(Unopenable("only")).failures.get(timeout=WAIT_S) == ("only", "not there", False)


def test_stop_ends_every_thread(rig: Callable[..., Rig]) -> None:
    devices = [FakeDevice("a"), FakeDevice("b")]
    running = rig(*devices)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: all(device.jobs for device in devices))
    running.scheduler.stop()
    assert all(device.closed.is_set() for device in devices)
