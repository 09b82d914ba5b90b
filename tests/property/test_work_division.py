"""Whatever a job allows to vary and whoever asks for work: every combination of version, time and extranonce is handed
out once, and what a frame or line decoder makes of a stream does not depend on how it is cut."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from miner.device import DeviceDetails, HashJob, SearchResult, Versions, never
from miner.scheduler import Scheduler
from miner.telemetry import Telemetry
from miner.work.benchmark import benchmark_job
from miner.work.job import Job, UnitSequence
from miner.work.stratum_v2.noise import Cipher
from miner.work.stratum_v2.wire import Frame, FrameDecoder, encode_frame
from tests.support.waiting import until

masks = st.one_of(
    st.just(0),
    st.integers(0, 28).flatmap(lambda low: st.integers(0, 4).map(lambda width: ((1 << width) - 1) << low)),
    st.sets(st.integers(0, 31), max_size=4).map(lambda bits: sum(1 << bit for bit in bits)),
)


def job_with(version: int, mask: int, seconds: int, extranonce2_size: int, root: bytes | None = None) -> Job:
    job = benchmark_job()
    return dataclasses.replace(
        job,
        version=version,
        version_mask=mask,
        max_time=job.time + seconds,
        extranonce1=bytes(8 - extranonce2_size),
        extranonce2_size=extranonce2_size,
        merkle_root=root,
    )


@settings(max_examples=60)
@given(
    version=st.integers(-(1 << 31), (1 << 32) - 1),
    mask=masks,
    seconds=st.integers(0, 3),
    extranonce2_size=st.integers(0, 1),
    fixed_root=st.booleans(),
    wishes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
)
def test_every_header_is_handed_out_once(
    version: int, mask: int, seconds: int, extranonce2_size: int, fixed_root: bool, wishes: list[int]
) -> None:
    size = 0 if fixed_root else extranonce2_size
    job = job_with(version, mask, seconds, size, b"\x42" * 32 if fixed_root else None)
    sequence = UnitSequence(job)
    seen: set[bytes] = set()
    for wish in itertools.cycle(wishes):
        unit = sequence.take(wish)
        if unit is None:
            break
        assert len(unit.hash_job.versions) <= wish
        assert job.time <= unit.time <= job.max_time
        assert unit.hash_job.header == job.header(unit.extranonce2, unit.time)
        for each in unit.hash_job.versions:
            assert (each ^ version) & 0xFFFFFFFF & ~mask == 0
            prefix = unit.hash_job.header_for(each, 0)
            assert prefix not in seen
            seen.add(prefix)
    assert len(seen) == (1 << mask.bit_count()) * (seconds + 1) * 256**size


@settings(max_examples=60)
@given(st.integers(0, (1 << 32) - 1), masks, st.data())
def test_a_run_of_versions_is_a_sequence(base: int, mask: int, data: st.DataObject) -> None:
    room = 1 << mask.bit_count()
    first = data.draw(st.integers(0, room - 1))
    run = Versions(base, mask, first, data.draw(st.integers(1, room - first)))
    listed = list(run)
    assert len(set(listed)) == len(listed) == len(run)
    assert [run[index] for index in range(len(run))] == listed
    assert run[len(run) // 2 :] == tuple(listed[len(run) // 2 :])
    assert all((each in run) for each in listed)
    strange = data.draw(st.integers(0, (1 << 32) - 1))
    assert (strange in run) == (strange in listed)


class Recorder:
    """A device that takes what it is given and remembers it."""

    kind = "fake"

    def __init__(self, name: str, appetite: int, pause_s: float) -> None:
        self.name, self.preferred_versions, self.pause_s = name, appetite, pause_s
        self.prefixes: list[bytes] = []

    def open(self) -> None:
        """Nothing."""

    def idle(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def details(self) -> DeviceDetails | None:
        return None

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        self.prefixes += [job.header_for(version, 0) for version in job.versions]
        time.sleep(self.pause_s)
        return SearchResult(count, [])


def test_devices_of_all_speeds_that_come_pause_and_go_never_overlap(rng: random.Random) -> None:
    """The whole of a small job, divided under changes: nothing twice, nothing left out while nobody was stopped in the
    middle of a unit."""
    devices = [Recorder(f"d{n}", rng.randint(1, 64), rng.choice([0.0, 0.0005, 0.002])) for n in range(5)]
    telemetry = Telemetry(devices[:3])
    scheduler = Scheduler(devices[:3], telemetry, lambda share: None, lambda *_: None)
    job = job_with(0x20000000, 0x1FFFE000, 0, 1)
    job = dataclasses.replace(job, version_mask=0x3E000)
    scheduler.start()
    scheduler.set_job(job)
    for device in devices[3:]:
        scheduler.add(device)
    for _ in range(10):
        name = rng.choice([device.name for device in devices])
        scheduler.pause(name)
        time.sleep(0.002)
        scheduler.resume(name)
    wanted = 32 * 256
    until("the whole job is searched", lambda: sum(len(device.prefixes) for device in devices) >= wanted)
    scheduler.stop()
    prefixes = [prefix for device in devices for prefix in device.prefixes]
    assert len(prefixes) == len(set(prefixes)) == wanted
    assert threading.active_count() < 50


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_encrypted_frames_do_not_depend_on_how_they_arrive(payloads: list[bytes], cuts: list[int]) -> None:
    sender, receiver = Cipher(bytes(32)), Cipher(bytes(32))
    stream = b"".join(encode_frame(sender, number, payload) for number, payload in enumerate(payloads))
    frames: list[Frame] = []
    decoder = FrameDecoder(receiver)
    sizes = itertools.cycle(cuts)
    at = 0
    while at < len(stream):
        size = next(sizes)
        decoder.feed(stream[at : at + size], frames.append)
        at += size
    assert frames == [Frame(0, number, payload) for number, payload in enumerate(payloads)]
