"""Units of work: every combination once, for devices of any appetite."""

from __future__ import annotations

import dataclasses
import random

import pytest

from miner.device import HashJob, Versions
from miner.work.benchmark import benchmark_job
from miner.work.job import VERSION_ROLLING_MASK, Job, UnitSequence, useful_versions


def small_job(mask: int, seconds: int, extranonce2_size: int) -> Job:
    job = benchmark_job()
    return dataclasses.replace(
        job,
        version_mask=mask,
        max_time=job.time + seconds,
        extranonce1=bytes(8 - extranonce2_size),
        extranonce2_size=extranonce2_size,
    )


def test_no_header_prefix_is_handed_out_twice_and_none_is_left_out(rng: random.Random) -> None:
    job = small_job(mask=0b1011 << 13, seconds=2, extranonce2_size=1)
    sequence = UnitSequence(job)
    seen: set[bytes] = set()
    while (unit := sequence.take(rng.randint(1, 11))) is not None:
        assert unit.hash_job.header == job.header(unit.extranonce2, unit.time)
        for version in unit.hash_job.versions:
            prefix = unit.hash_job.header_for(version, 0)
            assert prefix not in seen
            seen.add(prefix)
    assert len(seen) == 8 * 3 * 256
    assert sequence.take(1) is None


def test_only_rolling_bits_of_the_version_change() -> None:
    job = benchmark_job()
    sequence = UnitSequence(job)
    versions: set[int] = set()
    for _ in range(1 << 10):
        unit = sequence.take(64)
        assert unit is not None
        assert (unit.extranonce2, unit.time) == (0, job.time)
        versions.update(unit.hash_job.versions)
    assert len(versions) == 1 << 16
    assert job.version in versions
    assert all((version ^ job.version) & ~VERSION_ROLLING_MASK == 0 for version in versions)
    following = sequence.take(64)
    assert following is not None
    assert following.time == job.time + 1


def test_negative_versions_keep_their_other_bits() -> None:
    job = dataclasses.replace(benchmark_job(), version=-1)
    unit = UnitSequence(job).take(3)
    assert unit is not None
    assert tuple(unit.hash_job.versions) == (0xFFFFFFFF, 0xFFFFFFFF ^ 1 << 13, 0xFFFFFFFF ^ 1 << 14)


def test_easy_jobs_use_few_versions() -> None:
    assert useful_versions((1 << 255) - 1) == 1
    assert useful_versions((1 << 256) - 1) == 1
    assert useful_versions(1 << 200) >= 64
    unit = UnitSequence(dataclasses.replace(benchmark_job(), share_target=1 << 255)).take(64)
    assert unit is not None
    assert len(unit.hash_job.versions) == 1


def test_blocks_can_be_held_to_a_harder_target_but_not_to_an_easier_one() -> None:
    job = dataclasses.replace(benchmark_job(), target=1 << 250, share_target=1 << 250)
    harder = job.no_easier_than(1 << 230)
    assert (harder.target, harder.share_target) == (1 << 230, 1 << 230)
    assert job.no_easier_than(1 << 255).target == 1 << 250
    assert job.no_easier_than(1 << 200).share_target > 1 << 200  # shares go on being counted


@pytest.mark.parametrize("mask", [0, 1, 0x1FFFE000, 0xFFFFFFFF, 0b1011 << 13, 0x80000001])
def test_a_run_of_versions_is_the_tuple_that_it_stands_for(rng: random.Random, mask: int) -> None:
    places = [bit for bit in range(32) if mask >> bit & 1]
    for _ in range(20):
        base = rng.getrandbits(32)
        first = rng.randrange(1 << len(places))
        count = rng.randint(1, min(50, (1 << len(places)) - first))
        run = Versions(base, mask, first, count)
        plain = tuple(
            base ^ sum((number >> place & 1) << bit for place, bit in enumerate(places))
            for number in range(first, first + count)
        )
        assert tuple(run) == run[:] == plain
        assert len(run) == count
        assert (run[0], run[-1]) == (plain[0], plain[-1])
        assert run[1:3] == plain[1:3]
        assert all(version in run for version in plain)
        for strange in (rng.getrandbits(32), base ^ mask, base, "x"):
            assert (strange in run) == (strange in plain)
        with pytest.raises(IndexError):
            run[count]


def test_the_longest_run_costs_no_list() -> None:
    everything = Versions(0x20000000, 0xFFFFFFFF, 0, 1 << 32)
    assert len(everything) == 1 << 32
    assert everything[1 << 31] == 0xA0000000
    assert 0x12345678 in everything
    for impossible in ((0, 1, 0, 3), (0, 3, 4, 1), (0, 3, 0, 0), (0, 3, -1, 2), (0, 1 << 32, 0, 1)):
        with pytest.raises(ValueError, match="not within mask"):
            Versions(*impossible)


def test_jobs_handed_out_twice_are_two_jobs() -> None:
    assert HashJob(bytes(80), (1,), 2) != HashJob(bytes(80), (1,), 2)


def test_a_device_that_makes_its_own_midstates_gets_all_the_versions_it_asks_for() -> None:
    unit = UnitSequence(dataclasses.replace(benchmark_job(), share_target=1 << 255)).take(1 << 16)
    assert unit is not None
    assert len(unit.hash_job.versions) == 1 << 16
