"""Work without a network: a job that no hash solves, to measure with."""

from __future__ import annotations

from miner.work.coinbase import EXTRANONCE_SIZE, build_coinbase
from miner.work.job import VERSION_ROLLING_MASK, Job
from miner.work.template import EXTRANONCE1_SIZE


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
