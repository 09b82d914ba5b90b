"""One contract for every hashing device and kernel variant: no nonce missed, none twice, none invented."""

from __future__ import annotations

import bz2
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from chain.params import NETWORKS
from chain.primitives.target import target_from_nbits
from miner.cpu.device import CpuDevice
from miner.cpu.features import host_processor, usable_variants
from miner.device import NONCE_SPACE, Candidate, DeviceDetails, HashDevice, HashJob, SearchResult, Versions
from miner.gpu import discover
from miner.gpu.device import GpuDevice
from miner.gpu.program import GpuVariant, Logic
from miner.kernels.reference import ReferenceDevice, hash_number, header_hash
from miner.kernels.variant import Variant
from tests.support.aarch64 import ARM_VARIANTS, ArmVariant, EmulatedArmDevice, missing_tool

MAX_TARGET = (1 << 256) - 1
#: On PoCL. Between them: three widths, both ways to write the logic that a processor has, each use of the multiplier,
#: two midstates side by side, several nonces for each work-item, work-groups of one and of more.
GPU_VARIANTS = [
    GpuVariant(width=16, group=4),
    GpuVariant(width=8, group=8, logic=Logic.BUILTINS, nonces=3, adds=2, shifts=1, rotates=4),
    GpuVariant(width=4, group=1, midstates=2, adds=1, shifts=1, rotates=3),
]
#: None is the hashlib reference.
Subject: TypeAlias = Variant | GpuVariant | ArmVariant | None
SUBJECTS: list[Subject] = [None, *usable_variants(host_processor()), *GPU_VARIANTS, *ARM_VARIANTS]


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda variant: str(variant or "hashlib"))
def device(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HashDevice]:
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.cache is not None:
            patch.setenv("PICKAXE_CACHE", str(pytestconfig.cache.mkdir("pickaxe-kernels")))
            patch.setenv("POCL_CACHE_DIR", str(pytestconfig.cache.mkdir("pocl")))
        subject = make_device(request.param, tmp_path_factory)
        subject.open()
        yield subject
        subject.close()


def make_device(variant: Subject, folders: pytest.TempPathFactory) -> HashDevice:
    if variant is None:
        return ReferenceDevice()
    if isinstance(variant, ArmVariant):
        if missing := missing_tool():
            pytest.skip(f"{missing}: Arm's kernels are not run")
        return EmulatedArmDevice(variant, 64, folders.mktemp("aarch64"))
    if isinstance(variant, Variant):
        return CpuDevice("cpu0", variant, 64)
    processors = [found for found in discover() if found.usable and found.processor]
    if not processors:
        pytest.skip("no OpenCL driver for the processor (pocl-binary-distribution)")
    return GpuDevice(processors[0], variant)


def exhaust(device: HashDevice, job: HashJob, start: int, count: int) -> list[Candidate]:
    """Search a whole range the way the miner does: again from where the device stopped."""
    candidates: list[Candidate] = []
    done = 0
    while done < count:
        result = device.search(job, (start + done) % NONCE_SPACE, count - done)
        assert 0 < result.done <= count - done
        candidates += result.candidates
        done += result.done
    return candidates


def expected(job: HashJob, start: int, count: int) -> tuple[set[Candidate], set[Candidate]]:
    """By hashlib: those that meet the target, and those whose top 32 bits allow it."""
    must, may = set(), set()
    for nonce in ((start + n) % NONCE_SPACE for n in range(count)):
        for version in job.versions:
            number = hash_number(header_hash(job.header_for(version, nonce)))
            if number <= job.target:
                must.add(Candidate(version, nonce))
            if number >> 224 <= job.target >> 224:
                may.add(Candidate(version, nonce))
    return must, may


def check_range(device: HashDevice, job: HashJob, start: int, count: int) -> None:
    got = exhaust(device, job, start, count)
    must, may = expected(job, start, count)
    assert len(got) == len(set(got)), "a nonce was reported twice"
    assert must <= set(got) <= may


def check_solved_header(device: HashDevice, header: bytes) -> None:
    version, nonce = int.from_bytes(header[:4], "little"), int.from_bytes(header[76:], "little")
    target = target_from_nbits(int.from_bytes(header[72:76], "little"))
    assert target is not None
    job = HashJob(
        header[:76] + bytes(4),
        (version ^ 0x2000, version, version ^ 0x4000)[: device.preferred_versions] or (version,),
        target,
    )
    if version not in job.versions:
        job = HashJob(job.header, (version,), target)
    found = exhaust(device, job, (nonce - 37) % NONCE_SPACE, 75)
    must, _ = expected(job, (nonce - 37) % NONCE_SPACE, 75)
    assert Candidate(version, nonce) in found
    assert must <= set(found)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_finds_each_genesis_block(device: HashDevice, network: str) -> None:
    check_solved_header(device, NETWORKS[network].genesis.header.raw)


def test_finds_mainnet_blocks_1_to_255(device: HashDevice, vectors: Path) -> None:
    data = bz2.decompress((vectors / "blocks/mainnet/blocks1-256.dat.bz2").read_bytes())
    position, blocks = 0, 0
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        check_solved_header(device, data[position + 8 : position + 88])
        position += 8 + size
        blocks += 1
    assert blocks == 255


def test_random_jobs_agree_with_hashlib(device: HashDevice, rng: random.Random) -> None:
    for _ in range(30):
        versions = tuple(rng.sample(range(NONCE_SPACE), rng.randint(1, min(9, device.preferred_versions))))
        job = HashJob(rng.randbytes(80), versions, rng.getrandbits(rng.randint(246, 256)))
        check_range(device, job, rng.randrange(NONCE_SPACE), rng.randint(1, 70))


@pytest.mark.parametrize("bits", [*range(1, 225, 32), 223, 224, 225, 239, 248, 254, 255, 256])
def test_targets_of_every_size(device: HashDevice, rng: random.Random, bits: int) -> None:
    job = HashJob(rng.randbytes(80), (rng.randrange(NONCE_SPACE),), (1 << bits) - 1)
    check_range(device, job, rng.randrange(NONCE_SPACE), 300)


@pytest.mark.parametrize("bits", [0, 16, 31, 32, 33, 200])
def test_hash_exactly_at_the_target_counts(device: HashDevice, rng: random.Random, bits: int) -> None:
    """`<=`, not `<`, wherever the boundary lies within the top word; one less is only refused by the full compare."""
    header, version, nonce = rng.randbytes(80), rng.randrange(NONCE_SPACE), rng.randrange(NONCE_SPACE)
    number = hash_number(header_hash(HashJob(header, (version,), 0).header_for(version, nonce)))
    job = HashJob(header, (version,), number | ((1 << 256 - bits) - 1 if bits else MAX_TARGET))
    assert Candidate(version, nonce) in exhaust(device, job, nonce, 1)
    assert Candidate(version, nonce) in exhaust(device, HashJob(header, (version,), number), nonce, 1)
    if number >> 224:
        assert exhaust(device, HashJob(header, (version,), number - (1 << 224)), nonce, 1) == []


@pytest.mark.parametrize("offset", [1, 2, 15, 16, 17, 100])
def test_ranges_that_wrap(device: HashDevice, rng: random.Random, offset: int) -> None:
    job = HashJob(rng.randbytes(80), (1, 2, 3)[: device.preferred_versions], 1 << 254)
    check_range(device, job, NONCE_SPACE - offset, 2 * offset + 5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33])
def test_short_ranges_end_where_they_should(device: HashDevice, rng: random.Random, count: int) -> None:
    """Everything is a candidate, so a lane past the end, or one left out, shows."""
    versions = tuple(range(1, 1 + min(3, device.preferred_versions)))
    start = rng.randrange(NONCE_SPACE)
    got = exhaust(device, HashJob(rng.randbytes(80), versions, MAX_TARGET), start, count)
    assert sorted(((c.nonce - start) % NONCE_SPACE, c.version) for c in got) == [
        (nonce, version) for nonce in range(count) for version in versions
    ]


def test_many_versions_share_one_job(device: HashDevice, rng: random.Random) -> None:
    versions = tuple(0x20000000 | index << 13 for index in range(device.preferred_versions))
    check_range(device, HashJob(rng.randbytes(80), versions, 1 << 250), rng.randrange(NONCE_SPACE), 40)


def test_the_next_job_replaces_the_last(device: HashDevice, rng: random.Random) -> None:
    header = rng.randbytes(80)
    for target_bits in (256, 200, 253, 255):
        check_range(device, HashJob(header, (5,), (1 << target_bits) - 1), 100, 64)
        check_range(device, HashJob(header[::-1], (5, 6)[: device.preferred_versions], (1 << target_bits) - 1), 100, 64)


def test_version_and_nonce_in_the_job_header_do_not_matter(device: HashDevice, rng: random.Random) -> None:
    body = rng.randbytes(72)
    jobs = [
        HashJob(version + body + nonce, (7,), 1 << 253)
        for version, nonce in ((bytes(4), bytes(4)), (b"\xff" * 4, b"\xff" * 4))
    ]
    assert exhaust(device, jobs[0], 0, 200) == exhaust(device, jobs[1], 0, 200)


def test_cancelled_before_it_starts(device: HashDevice) -> None:
    assert device.search(HashJob(bytes(80), (1,), MAX_TARGET), 0, NONCE_SPACE, lambda: True) == SearchResult(0, [])


def test_cancelled_midway_reports_how_far_it_came(device: HashDevice, rng: random.Random) -> None:
    """A search of the whole nonce space stops soon after it is told to, and what it says it has done it has done."""
    asked: list[float] = []

    def cancelled() -> bool:
        asked.append(time.perf_counter())
        return len(asked) > 5

    job = HashJob(rng.randbytes(80), (1,), 0)
    result = device.search(job, 11, NONCE_SPACE, cancelled)
    assert len(asked) == 6
    assert 0 < result.done < NONCE_SPACE
    assert result.candidates == []


def test_cancellation_loses_and_repeats_nothing(device: HashDevice, rng: random.Random) -> None:
    """Interrupted at random and resumed, a search finds exactly what an uninterrupted one does."""
    job = HashJob(rng.randbytes(80), (1,), 1 << 246)
    start, count = rng.randrange(NONCE_SPACE), 6000
    whole = exhaust(device, job, start, count)

    def sometimes(chance: float = 0.5) -> Callable[[], bool]:
        return lambda: rng.random() < chance

    pieces: list[Candidate] = []
    done = 0
    while done < count:
        result = device.search(job, (start + done) % NONCE_SPACE, count - done, sometimes())
        pieces += result.candidates
        done += result.done
    assert pieces == whole
    must, may = expected(job, start, count)
    assert must <= set(whole) <= may


def test_a_device_tells_of_itself_and_rests_between_searches(device: HashDevice) -> None:
    details = device.details()
    assert details is None or isinstance(details, DeviceDetails)
    device.idle()


def test_versions_in_a_run_are_searched_like_any_others(device: HashDevice, rng: random.Random) -> None:
    versions = Versions(rng.getrandbits(32), 0x1FFFE000, 3, min(8, device.preferred_versions))
    check_range(device, HashJob(rng.randbytes(80), versions, 1 << 249), rng.randrange(NONCE_SPACE), 60)
