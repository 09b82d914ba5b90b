"""The host's check of candidates, and the meters."""

from __future__ import annotations

import dataclasses

import pytest

from miner.device import Candidate
from miner.hashrate import ShareMeter, WorkMeter, format_rate, poisson_interval
from miner.kernels.reference import hash_number, header_hash
from miner.share import Finding, check_candidate, difficulty_of_target
from miner.work.benchmark import benchmark_job
from miner.work.job import UnitSequence, WorkUnit


def unit_with(target: int, share_target: int) -> WorkUnit:
    unit = UnitSequence(dataclasses.replace(benchmark_job(), target=target, share_target=share_target)).take(1)
    assert unit is not None
    return unit


def test_each_finding() -> None:
    base = unit_with(0, 0)
    candidate = Candidate(base.hash_job.versions[0], 12345)
    number = hash_number(header_hash(base.hash_job.header_for(candidate.version, candidate.nonce)))
    same_top_word = number >> 224 << 224
    cases = {
        Finding.BLOCK: (number, number),
        Finding.SHARE: (number - 1, number),
        Finding.NEAR_MISS: (0, same_top_word),
        Finding.HARDWARE_ERROR: (0, same_top_word - 1),
    }
    for finding, (target, share_target) in cases.items():
        share = check_candidate(unit_with(target, share_target), candidate)
        assert share.finding is finding
        assert hash_number(share.hash) == number
    wrong_version = check_candidate(base, Candidate(candidate.version ^ 1, 1))
    assert wrong_version.finding is Finding.OUT_OF_RANGE


def test_difficulty() -> None:
    assert difficulty_of_target(0xFFFF << 208) == 1.0
    assert difficulty_of_target(0xFFFF << 207) == pytest.approx(2.0)


def test_rate_by_work_over_a_window() -> None:
    meter = WorkMeter(100.0, window_s=10.0)
    assert meter.rate(100.0) == 0.0
    for second in range(1, 31):
        meter.add(1000, 100.0 + second)
    assert meter.total == 30_000
    assert meter.rate(130.0) == pytest.approx(1000, rel=0.01)
    assert meter.average(130.0) == pytest.approx(1000)
    assert meter.rate(135.0) == pytest.approx(500, rel=0.01)
    assert meter.rate(200.0) == 0.0


def test_many_small_additions_keep_the_window_small() -> None:
    meter = WorkMeter(0.0, window_s=10.0)
    for step in range(100_000):
        meter.add(1, step / 1000)
    assert meter.rate(100.0) == pytest.approx(1000, rel=0.02)
    assert len(meter._samples) < 200


def test_rate_by_shares_has_a_confidence_interval() -> None:
    meter = ShareMeter(0.0)
    assert meter.estimate(1.0) is None
    for _ in range(100):
        meter.add((1 << 224) - 1)
    estimate = meter.estimate(100.0)
    assert estimate is not None
    assert estimate.rate == pytest.approx(2**32)
    assert 0.8 < estimate.low / estimate.rate < 0.83
    assert 1.2 < estimate.high / estimate.rate < 1.23


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (3, 0.619, 8.767), (10, 4.795, 18.390), (100, 81.36, 121.63)],
)
def test_poisson_interval_agrees_with_the_tables(count: int, low: float, high: float) -> None:
    got_low, got_high = poisson_interval(count)
    assert got_low == pytest.approx(low, rel=0.03, abs=0.02)
    assert got_high == pytest.approx(high, rel=0.03)


def test_rates_are_written_with_units() -> None:
    assert [format_rate(rate) for rate in (0.0, 999.0, 1000.0, 12_345_678.0, 9.99996e8, 1.5e18, 2e21)] == [
        "0.00 H/s", "999.00 H/s", "1.00 kH/s", "12.35 MH/s", "1.00 GH/s", "1.50 EH/s", "2000.00 EH/s",
    ]  # fmt: skip
