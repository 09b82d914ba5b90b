"""Work without a network: a job that no hash solves, to measure with, and a source of such jobs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from chain.crypto.hashes import sha256d
from miner.share import Share
from miner.work.coinbase import EXTRANONCE_SIZE, build_coinbase
from miner.work.job import OWN_SHARE_TARGET, VERSION_ROLLING_MASK, Job
from miner.work.source import PoolReport, Submission
from miner.work.template import EXTRANONCE1_SIZE

NEW_BLOCK_S = 30.0


def benchmark_job(version_rolling: bool = True) -> Job:
    """A job at a difficulty that is never met; its merkle root and times are arbitrary but fixed."""
    return Job(
        height=1,
        version=0x20000000,
        version_mask=VERSION_ROLLING_MASK if version_rolling else 0,
        prev_hash=bytes(range(32)),
        nbits=0x1D00FFFF,
        time=1_700_000_000,
        max_time=1_700_000_600,
        target=0,
        share_target=0,
        coinbase=build_coinbase(1, 0, b"\x51", None),
        merkle_branch=(),
        extranonce1=bytes(EXTRANONCE1_SIZE),
        extranonce2_size=EXTRANONCE_SIZE - EXTRANONCE1_SIZE,
        single_solution=False,
    )


class BenchmarkSource:
    """A WorkSource of invented blocks, a new one every NEW_BLOCK_S: a whole run without node or pool. Shares of
    `share_target` are all accepted; the same hashes are searched in every run."""

    parallel_submissions = 8

    def __init__(
        self,
        *,
        on_job: Callable[[Job | None], None],
        on_message: Callable[[str], None],
        version_rolling: bool = True,
        share_target: int = OWN_SHARE_TARGET,
    ) -> None:
        self.hash_rate: Callable[[], float] = float  # nobody asks
        self._on_job = on_job
        self._on_message = on_message
        self._job = dataclasses.replace(benchmark_job(version_rolling), share_target=share_target)

    async def run(self) -> None:
        """Publish a job for each invented block until cancelled."""
        self._on_message("mining invented blocks: a benchmark, nothing is sent anywhere")
        height = 1
        while True:
            parent = sha256d(b"invented block %d" % height)
            self._on_job(dataclasses.replace(self._job, height=height, prev_hash=parent, number=height))
            await asyncio.sleep(NEW_BLOCK_S)
            height += 1

    async def submit(self, share: Share) -> Submission:
        """Whatever the host found to be a share is one."""
        return Submission(True, False, None)

    def request_refresh(self, solved: Job) -> None:
        """Jobs come by the clock."""

    @property
    def pool_control(self) -> None:
        """There are no pools to control."""
        return None

    def pools(self) -> list[PoolReport]:
        """None."""
        return []

    async def close(self) -> None:
        """Nothing is open."""
