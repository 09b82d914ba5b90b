"""The source without a network: everything a run needs, and the same every time."""

from __future__ import annotations

import asyncio
import dataclasses
import functools

import pytest

from miner.device import Candidate
from miner.share import Finding, check_candidate
from miner.work import benchmark
from miner.work.benchmark import BenchmarkSource
from miner.work.job import Job, UnitSequence
from miner.work.source import SourceFactory


def jobs_of(count: int) -> list[Job]:
    jobs: asyncio.Queue[Job | None] = asyncio.Queue()
    messages: list[str] = []
    factory: SourceFactory = functools.partial(BenchmarkSource, share_target=1 << 252)

    async def run() -> list[Job]:
        source = factory(on_job=jobs.put_nowait, on_message=messages.append)
        assert source.pools() == []
        assert source.pool_control is None
        task = asyncio.create_task(source.run())
        got = [await asyncio.wait_for(jobs.get(), 10) for _ in range(count)]
        unit = UnitSequence(got[0]).take(1) if got[0] is not None else None
        assert unit is not None
        found = [check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce)) for nonce in range(200)]
        share = next(share for share in found if share.finding is Finding.SHARE)
        assert (await source.submit(share)).accepted
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()
        return [job for job in got if job is not None]

    got = asyncio.run(run())
    assert "a benchmark" in messages[0]
    return got


def test_every_invented_block_brings_other_work_and_every_run_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "NEW_BLOCK_S", 0.001)
    first, second = jobs_of(5), jobs_of(5)
    assert [job.height for job in first] == [1, 2, 3, 4, 5]
    assert len({job.prev_hash for job in first}) == 5
    assert all(job.target == 0 for job in first), "none of it is ever a block"
    assert [dataclasses.astuple(job) for job in first] == [dataclasses.astuple(job) for job in second]
