"""Counting: per device and in all, over devices that come and go, and rates with their uncertainty."""

from __future__ import annotations

import dataclasses
import random

import pytest

from miner.device import Candidate, DeviceDetails
from miner.hashrate import ShareMeter
from miner.kernels.reference import ReferenceDevice
from miner.share import Finding, Share, check_candidate
from miner.telemetry import Telemetry
from miner.work.benchmark import benchmark_job
from miner.work.job import UnitSequence


class Board(ReferenceDevice):
    """A device that knows what it should do."""

    def details(self) -> DeviceDetails | None:
        return DeviceDetails(nominal_rate=2e12, temperatures_c={"chip": 61.5})


class Liar(ReferenceDevice):
    """A device whose driver has caught wrong nonces and kept them to itself."""

    def __init__(self, name: str, wrong: int) -> None:
        super().__init__(name)
        self.wrong = wrong

    def details(self) -> DeviceDetails | None:
        return DeviceDetails(counters={"good": 10, "wrong": self.wrong})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def share(device: str, finding: Finding = Finding.SHARE, target: int = 1 << 254) -> Share:
    job = dataclasses.replace(benchmark_job(), share_target=target, target=0)
    unit = UnitSequence(job).take(1)
    assert unit is not None
    checked = check_candidate(unit, Candidate(unit.hash_job.versions[0], 1), device)
    return dataclasses.replace(checked, finding=finding, difficulty=8.0)


def test_counts_outlive_the_device_that_made_them() -> None:
    clock = Clock()
    first, second = ReferenceDevice("a"), Board("b")
    telemetry = Telemetry([first], clock)
    telemetry.worked(first, 1000)
    telemetry.found(first, share("a"))
    telemetry.found(first, share("a", Finding.HARDWARE_ERROR))
    telemetry.accepted(share("a", Finding.BLOCK))
    clock.now += 10
    telemetry.add(second)
    telemetry.worked(second, 500)
    telemetry.removed("a")
    report = telemetry.report()
    assert [device.name for device in report.devices] == ["b"]
    assert report.devices[0].details is not None
    assert report.devices[0].details.temperatures_c == {"chip": 61.5}
    assert (report.hashes, report.hardware_errors, report.accepted, report.blocks) == (1500, 1, 1, 1)
    assert report.best_difficulty == 8.0
    assert report.last_share_age_s == 10.0
    assert report.average == pytest.approx(150)
    telemetry.accepted(share("a"))  # answered after the device was removed
    telemetry.add(ReferenceDevice("a"))
    again = telemetry.report().devices[0]
    assert (again.name, again.hashes, again.shares, again.accepted, again.failure) == ("a", 1000, 1, 2, None)


def test_the_rate_of_a_device_is_what_it_should_do_until_it_is_measured() -> None:
    clock = Clock()
    board, core = Board("board"), ReferenceDevice("core")
    telemetry = Telemetry([board, core], clock)
    assert telemetry.rate() == 2e12
    clock.now += 10
    telemetry.worked(board, 10**13)
    telemetry.worked(core, 1000)
    assert telemetry.rate() == pytest.approx(1e12 + 100)
    telemetry.paused("board", True)
    assert telemetry.rate() == pytest.approx(100)
    telemetry.paused("board", False)
    telemetry.failed(board, "gone")
    assert telemetry.rate() == pytest.approx(100)
    assert telemetry.report().devices[0].rate == 0.0


def test_wrong_nonces_that_a_board_catches_are_hardware_errors() -> None:
    first = Liar("a", 3)
    telemetry = Telemetry([first, Liar("b", 20)])
    telemetry.found(first, share("a", Finding.HARDWARE_ERROR))
    report = telemetry.report()
    assert [device.hardware_errors for device in report.devices] == [4, 20]
    assert report.hardware_errors == 24
    first.wrong = 5
    telemetry.removed("a")
    assert telemetry.report().hardware_errors == 26
    telemetry.add(Liar("a", 1))  # another under the same name counts from zero
    report = telemetry.report()
    assert ({device.name: device.hardware_errors for device in report.devices}, report.hardware_errors) == (
        {"a": 7, "b": 20},
        27,
    )


def test_late_and_repeated_nonces_are_not_hardware_errors() -> None:
    device = ReferenceDevice("a")
    telemetry = Telemetry([device])
    telemetry.late(device)
    telemetry.duplicate(device)
    report = telemetry.report()
    assert (report.devices[0].stale, report.devices[0].duplicates, report.hardware_errors) == (1, 1, 0)
    assert report.duplicates == 1


def test_the_interval_knows_that_shares_of_many_difficulties_say_less(rng: random.Random) -> None:
    """A pool that lets the difficulty vary: few hard shares carry most of the weight, so the estimate is as sure as
    they are many."""
    equal, mixed = ShareMeter(0.0), ShareMeter(0.0)
    for _ in range(1000):
        equal.add((1 << 224) - 1)
        mixed.add((1 << 224) - 1)
    for _ in range(4):
        mixed.add((1 << 214) - 1)
    sure, unsure = equal.estimate(100.0), mixed.estimate(100.0)
    assert sure is not None
    assert unsure is not None
    assert unsure.rate == pytest.approx((1000 + 4 * 1024) / 100 * 2**32)
    assert (sure.high - sure.low) / sure.rate < 0.13
    assert (unsure.high - unsure.low) / unsure.rate > 1.0


def test_the_interval_holds_what_it_promises_under_vardiff(rng: random.Random) -> None:
    """Poisson shares at a difficulty that doubles and halves: the true rate is inside about 19 times of 20."""
    inside = 0
    for _ in range(400):
        meter, now, bits = ShareMeter(0.0), 0.0, 230
        while now < 100:
            now += rng.expovariate(2.0 ** (bits - 230))  # the rate is one share a second at 230 bits
            if now < 100:
                meter.add((1 << bits) - 1)
            bits = min(232, max(228, bits + rng.choice([-1, 0, 1])))
        estimate = meter.estimate(100.0)
        assert estimate is not None
        inside += estimate.low <= 2**26 <= estimate.high
    assert inside >= 352
