"""The scheduler with invented devices: disjoint work, stale work dropped, failures contained."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from miner.device import Candidate, DeviceDetails, DeviceError, HashDevice, HashJob, SearchResult, never
from miner.kernels.reference import ReferenceDevice, hash_number, header_hash
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
        if start == 0 and (not self.jobs or self.jobs[-1] is not job):
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
        self.warnings: queue.Queue[tuple[str, str]] = queue.Queue()
        self.telemetry = Telemetry(devices)
        self.scheduler = Scheduler(
            devices,
            self.telemetry,
            self.shares.put,
            lambda device, reason, left: self.failures.put((device.name, reason, left)),
            lambda device, text: self.warnings.put((device.name, text)),
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


def test_hashes_are_counted_while_nothing_is_found(rig: Callable[..., Rig]) -> None:
    class Steady(FakeDevice):
        """Searches at its own pace until it is told to stop."""

        def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
            self.starts.append(start)
            done = 0
            while not cancelled():
                time.sleep(0.01)
                done += 1000
            return SearchResult(done, [])

        starts: list[int] = []  # noqa: RUF012 (one device in this test)

    device = Steady("steady")
    running = rig(device)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: len(device.starts) >= 3)
    first, second, third = device.starts[:3]
    assert first == 0 < second < third  # the unit goes on where it was
    assert running.telemetry.report().hashes >= third * 4


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


def test_a_device_that_returns_only_wrong_nonces_is_named_once_and_retired(rig: Callable[..., Rig]) -> None:
    liar = FakeDevice("liar", lambda job, start: [Candidate(job.versions[0], 1), Candidate(0x7FFFFFFF, 2)])
    liar.limit = 1000
    running = rig(liar, FakeDevice("honest"))
    running.scheduler.set_job(benchmark_job())
    name, reason, any_left = running.failures.get(timeout=WAIT_S)
    assert (name, any_left) == ("liar", True)
    assert "32 of its last 32 nonces were wrong" in reason
    report = running.telemetry.report().devices[0]
    assert report.hardware_errors == 32
    assert running.warnings.get(timeout=WAIT_S)[0] == "liar"
    assert running.warnings.empty()
    assert running.shares.empty()


def solutions(job: HashJob, wanted: int) -> list[Candidate]:
    """The first true candidates of a job, by hashlib."""
    found: list[Candidate] = []
    for nonce in range(1 << 16):
        for version in job.versions:
            if hash_number(header_hash(job.header_for(version, nonce))) <= job.target:
                found.append(Candidate(version, nonce))
                if len(found) == wanted:
                    return found
    raise AssertionError("the job is too hard for a test")


def test_a_few_wrong_nonces_among_many_good_ones_are_only_counted(rig: Callable[..., Rig]) -> None:
    def mostly_good(job: HashJob, start: int) -> list[Candidate]:
        return [*solutions(job, 10), Candidate(0x7FFFFFFF, 2), Candidate(0x7FFFFFFF, 3)]

    device = FakeDevice("flaky", mostly_good)
    device.limit = 30
    running = rig(device)
    running.scheduler.set_job(easy_job())
    wait_for(lambda: running.telemetry.report().devices[0].shares >= 200)
    report = running.telemetry.report().devices[0]
    assert report.hardware_errors >= 38
    assert report.failure is None
    assert running.warnings.qsize() == 1


def test_the_same_share_twice_is_passed_on_once(rig: Callable[..., Rig]) -> None:
    device = FakeDevice("echo", lambda job, start: solutions(job, 3) * 2)
    device.limit = 6
    running = rig(device)
    running.scheduler.set_job(easy_job())
    wait_for(lambda: len(device.jobs) == 6)
    wait_for(lambda: running.telemetry.report().devices[0].duplicates == 15)
    assert running.shares.qsize() == 15
    assert running.telemetry.report().duplicates == 15


class LateDevice(FakeDevice):
    """Answers with nonces of the first unit that it was ever given."""

    first: HashJob | None = None

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        self.jobs.append(job)
        if self.first is None:
            self.first = job
            return SearchResult(count, [])
        found = [] if self.answered else [Candidate(c.version, c.nonce, self.first) for c in solutions(self.first, 4)]
        self.answered = True
        while not found and not cancelled():
            time.sleep(0.001)
        return SearchResult(count if found else 0, found, hashes=123 if found else 0)

    answered = False


def test_a_nonce_of_an_earlier_unit_counts_while_the_job_stands(rig: Callable[..., Rig]) -> None:
    device = LateDevice("late")
    running = rig(device)
    running.scheduler.set_job(easy_job())
    found = [running.shares.get(timeout=WAIT_S) for _ in range(4)]
    assert device.first is not None
    assert all(share.unit.hash_job is device.first for share in found)
    assert all(share.device == "late" for share in found)
    report = running.telemetry.report()
    assert (report.hardware_errors, report.devices[0].shares, report.devices[0].stale) == (0, 4, 0)


@pytest.mark.parametrize("case", ["pool", "solo, same parent", "solo, new parent", "long gone"])
def test_a_nonce_of_an_earlier_job_goes_where_it_is_still_wanted(rig: Callable[..., Rig], case: str) -> None:
    device = LateDevice("late")
    device.answered = True
    running = rig(device)
    first = easy_job(single_solution=case.startswith("solo"))
    running.scheduler.set_job(first)
    wait_for(lambda: len(device.jobs) >= 2)
    if case == "long gone":
        running.scheduler.set_job(dataclasses.replace(first, prev_hash=b"\xbb" * 32))
        wait_for(lambda: device.jobs[-1].header[4:36] == b"\xbb" * 32)
    device.answered = False
    parent = first.prev_hash if case == "solo, same parent" else b"\xaa" * 32
    running.scheduler.set_job(dataclasses.replace(first, prev_hash=parent, number=99))
    if case in ("pool", "solo, same parent"):
        share = running.shares.get(timeout=WAIT_S)
        assert share.unit.hash_job is device.first
        assert share.unit.job is first
    else:
        wait_for(lambda: running.telemetry.report().devices[0].stale == 4)
        assert running.shares.empty()
    assert running.telemetry.report().hardware_errors == 0


def test_hashes_are_those_that_were_really_done(rig: Callable[..., Rig]) -> None:
    device = LateDevice("late")
    running = rig(device)
    running.scheduler.set_job(easy_job())
    wait_for(lambda: len(device.jobs) >= 3)
    whole_unit = (1 << 32) * len(device.jobs[0].versions)
    wait_for(lambda: running.telemetry.report().hashes >= whole_unit + 123)
    assert running.telemetry.report().hashes == whole_unit + 123, "more than was done"


def test_a_paused_device_stops_within_a_slice_and_goes_on_when_resumed(rig: Callable[..., Rig]) -> None:
    device, other = FakeDevice("one"), FakeDevice("two")
    device.limit = other.limit = 1
    running = rig(device, other)
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: len(device.jobs) == len(other.jobs) == 1)
    running.scheduler.pause("one")
    wait_for(lambda: device.idled > 1)
    assert running.telemetry.report().devices[0].paused
    running.scheduler.set_job(benchmark_job())
    wait_for(lambda: len(other.jobs) == 2)
    assert len(device.jobs) == 1
    running.scheduler.resume("one")
    wait_for(lambda: len(device.jobs) == 2)
    assert not running.telemetry.report().devices[0].paused
    with pytest.raises(KeyError):
        running.scheduler.pause("three")


def test_devices_come_and_go_while_others_mine(rig: Callable[..., Rig]) -> None:
    steady, guest = FakeDevice("steady"), FakeDevice("guest")
    steady.limit = 3
    running = rig(steady)
    running.scheduler.set_job(benchmark_job())
    running.scheduler.add(guest)
    wait_for(lambda: len(guest.jobs) == guest.limit)
    with pytest.raises(ValueError, match="already is a device guest"):
        running.scheduler.add(FakeDevice("guest"))
    hashes = running.telemetry.report().hashes
    running.scheduler.remove("guest")
    assert guest.closed.wait(WAIT_S)
    assert [device.name for device in running.telemetry.report().devices] == ["steady"]
    assert running.telemetry.report().hashes >= hashes
    with pytest.raises(KeyError):
        running.scheduler.resume("guest")
    again = FakeDevice("guest")
    running.scheduler.add(again)
    wait_for(lambda: len(again.jobs) == again.limit)
    headers = [
        job.header_for(version, 0)
        for device in (steady, guest, again)
        for job in device.jobs
        for version in job.versions
    ]
    assert len(headers) == len(set(headers))
    assert [device.name for device in running.scheduler.devices] == ["steady", "guest"]
    assert running.failures.empty()


def test_a_retired_device_can_be_tried_again(rig: Callable[..., Rig]) -> None:
    troubles = [DeviceError("unplugged")]

    def once(job: HashJob, start: int) -> list[Candidate]:
        if troubles:
            raise troubles.pop()
        return []

    device = FakeDevice("board", once)
    running = rig(device)
    running.scheduler.set_job(benchmark_job())
    assert running.failures.get(timeout=WAIT_S) == ("board", "unplugged", False)
    running.scheduler.resume("board")
    wait_for(lambda: len(device.jobs) >= device.limit)
    assert running.telemetry.report().devices[0].failure is None


def test_answers_are_counted_for_the_device_that_found_the_share(rig: Callable[..., Rig]) -> None:
    devices = [FakeDevice("a", lambda job, start: solutions(job, 3)), FakeDevice("b")]
    devices[0].limit = 2
    running = rig(*devices)
    running.scheduler.set_job(easy_job())
    found = [running.shares.get(timeout=WAIT_S) for _ in range(3)]
    telemetry = running.telemetry
    telemetry.accepted(found[0])
    telemetry.rejected("23 low difficulty", found[1])
    telemetry.stale(found[2])
    report = telemetry.report()
    assert [(d.accepted, d.rejected, d.stale) for d in report.devices] == [(1, 1, 1), (0, 0, 0)]
    assert report.rejected == {"23 low difficulty": 1}
    assert report.devices[0].accepted_difficulty == report.accepted_difficulty == found[0].worth
    assert report.rejected_difficulty == report.stale_difficulty == found[0].worth
    assert report.devices[0].details == DeviceDetails(state="invented", temperatures_c={"chip": 50.0})
    assert report.last_share_age_s is not None
    assert report.last_share_age_s >= 0


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


def test_a_device_that_waits_for_its_hardware_is_woken_when_work_changes(rig: Callable[..., Rig]) -> None:
    class Sleeper(FakeDevice):
        def __init__(self) -> None:
            super().__init__("sleeper")
            self.alarm = threading.Event()

        def wake(self) -> None:
            self.alarm.set()

        def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
            self.jobs.append(job)
            while not cancelled():
                assert self.alarm.wait(WAIT_S)
                self.alarm.clear()
            return SearchResult(0, [])

    device = Sleeper()
    running = rig(device)
    for count in range(1, 4):
        running.scheduler.set_job(dataclasses.replace(benchmark_job(), prev_hash=bytes([count]) * 32))
        wait_for(lambda count=count: len(device.jobs) == count)  # type: ignore[misc]
    running.scheduler.pause("sleeper")
    wait_for(lambda: device.idled > 0)
    running.scheduler.resume("sleeper")
    wait_for(lambda: len(device.jobs) == 4)
    running.scheduler.stop()
    assert device.closed.is_set()
