"""However jobs and units come and go, a board is never given a header and version twice, and what its chips report is
counted for what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest

from miner.asic.bm13xx.driver import State
from miner.asic.bm13xx.events import Event
from miner.asic.bm13xx.work import ChainJob
from miner.asic.board import Board
from miner.asic.device import AsicDevice
from miner.work.benchmark import benchmark_job
from miner.work.job import Job, UnitSequence
from tests.support.asic import Simulation

EASY = (1 << 256) - 1
RANGE = 100  #: nonces that stand for all of a header's: scaled chips would take days for the others
WITHOUT_LOCK = contextlib.nullcontext()


class SimulatedBoard(Board):
    """A board whose port is a simulation: time passes in `pump` only."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__("/dev/simulated", driver=simulation.driver, clock=lambda: simulation.now)
        self.simulation = simulation

    @property
    def connected(self) -> bool:
        return True

    def open(self) -> None:
        self.simulation.start()

    def pump(self, timeout_s: float, waiting: contextlib.AbstractContextManager[object] = WITHOUT_LOCK) -> list[Event]:
        with waiting:
            self.simulation.step()
        events, self.simulation.events = self.simulation.events, []
        return events

    def send_now(self) -> bool:
        return False


class Recorder:
    """All that a driver is told to search: each header with each version once, or AssertionError."""

    def __init__(self, simulation: Simulation) -> None:
        self.given: dict[bytes, set[int]] = {}
        self.jobs = 0
        self._set_work = simulation.driver.set_work
        simulation.driver.set_work = self.set_work  # type: ignore[method-assign]

    def set_work(self, job: ChainJob, now: float, *, clean: bool = False) -> None:
        self.jobs += 1
        before = self.given.setdefault(job.header[4:76], set())
        versions = {job.rolled(index) for index in range(job.version_count)}
        assert not before & versions, "given before: the chips would find the same nonces again"
        before |= versions
        self._set_work(job, now, clean=clean)


def next_job(rng: random.Random, number: int, *, same_parent: bool, before: Job | None) -> Job:
    job = benchmark_job()
    parent = before.prev_hash if same_parent and before is not None else rng.randbytes(32)
    return dataclasses.replace(
        job, prev_hash=parent, extranonce1=number.to_bytes(4, "big"), share_target=EASY, max_time=job.time + 2
    )


@pytest.mark.parametrize("model", ["bm1397", "bm1366", "bm1370"])
@pytest.mark.parametrize("lossy", [False, True])
def test_no_work_is_given_twice_and_every_nonce_has_one_owner(
    model: str, lossy: bool, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miner.asic.device.NONCE_SPACE", RANGE)
    simulation = Simulation.of(model, chips=2, zero_bits=6)
    simulation.chain.faults.rng = rng
    recorder = Recorder(simulation)
    device = AsicDevice("asic0", "/dev/simulated", board=SimulatedBoard(simulation))
    device.open()
    found: set[tuple[bytes, int, int]] = set()
    job: Job | None = None
    searched = 0
    for number in range(12):
        job = next_job(rng, number, same_parent=rng.random() < 0.5, before=job)
        sequence = UnitSequence(job)
        until = simulation.now + rng.uniform(0.0, 0.6) + (5.0 if number == 0 else 0.0)
        while simulation.now < until:
            unit = sequence.take(rng.choice((1, 3, 4, 16, 64)))
            assert unit is not None
            hash_job = unit.hash_job
            if rng.random() < 0.3:
                device.switch(hash_job)  # as at a new block, before its own thread comes for it
            done = 0
            while done < RANGE and simulation.now < until:
                pause_at = simulation.now + rng.uniform(0.0, 0.1)
                result = device.search(hash_job, done, RANGE - done, lambda at=pause_at: simulation.now >= at)  # type: ignore[misc]
                done += result.done
                searched += result.hashes or 0
                for candidate in result.candidates:
                    owner = candidate.job
                    assert owner is not None
                    assert candidate.version in owner.versions
                    key = owner.header[4:76], candidate.version, candidate.nonce
                    assert lossy or key not in found
                    found.add(key)
        if lossy and number in (4, 8):
            simulation.chain.chips[1].dead = number == 4
    assert device.board.driver.state is State.RUNNING or lossy
    assert recorder.jobs > 12
    assert len(found) > 20
    counters = device.report().nonces
    assert counters["wrong"] == 0
    assert counters["duplicate"] == 0
    assert searched > 0
