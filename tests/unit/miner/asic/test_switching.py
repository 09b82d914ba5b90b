"""A board that is sent its next job by the thread that has it, while the board's own thread waits."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions
from miner.asic.bm13xx.frames import full_header_job
from miner.asic.bm13xx.models import MODELS
from miner.asic.board import Board
from miner.asic.device import AsicDevice
from miner.asic.transport import PortGone, SerialPort
from miner.device import NONCE_SPACE, HashJob, SearchResult, Switchable, Versions
from miner.scheduler import Scheduler
from miner.telemetry import Telemetry
from miner.work.benchmark import benchmark_job
from tests.support.waiting import until

WAIT_S = 20
JOB_BYTES = 88
ROLLED = 0x1FFF_E000


class RunningBoard(Board):
    """A board whose chain is up as soon as its port is open."""

    def open(self) -> None:
        self._port = SerialPort(self.path, 115_200)


class Chain:
    """The chips' end of a terminal, and the device at the other."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.now = 0.0
        driver = ChainDriver(MODELS["bm1370"], DriverOptions(zero_bits=0, poll_s=1e9))
        driver.identified(MODELS["bm1370"])
        assert driver.monitor is not None
        driver.monitor.set_chips(1)
        driver.came_up(1)
        driver.frequency_mhz = 500.0
        self.driver = driver
        path = os.ttyname(self.slave)
        self.device = AsicDevice("asic0", path, board=RunningBoard(path, driver=driver), clock=lambda: self.now)
        self._received = b""

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)

    def jobs(self, count: int) -> list[bytes]:
        """The next job frames, other commands left out."""
        found: list[bytes] = []
        deadline = time.monotonic() + WAIT_S
        while len(found) < count:
            try:
                self._received += os.read(self.master, 4096)
            except BlockingIOError:
                assert time.monotonic() < deadline, f"{len(found)} of {count} jobs came"
                time.sleep(0.002)
            while (at := self._received.find(b"\x55\xaa")) >= 0 and len(self._received) > at + 3:
                size = JOB_BYTES if self._received[at + 2] == 0x21 else 2 + self._received[at + 3]
                if len(self._received) < at + size:
                    break
                frame, self._received = self._received[at : at + size], self._received[at + size :]
                if frame[2] == 0x21:
                    found.append(frame)
        return found

    def nothing_more(self) -> bool:
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            self._received += os.read(self.master, 4096)
        return not self._received


@pytest.fixture
def chain() -> Iterator[Chain]:
    made = Chain()
    yield made
    made.close()


def unit(rng: random.Random) -> HashJob:
    return HashJob(rng.randbytes(80), Versions(0x2000_0000, ROLLED, 0, 1 << 16), (1 << 224) - 1)


def once() -> Callable[[], bool]:
    """Lets a search begin and wait for bytes once."""
    answers = iter([False, False, True])
    return lambda: next(answers, True)


def frame_of(job: HashJob, frame: bytes) -> bytes:
    """What the chips are to be sent for a unit; the id is the frame's own."""
    return full_header_job(job.header_for(0x2000_0000, 0), frame[4])


def test_a_switched_board_has_the_job_before_its_search_and_only_once(chain: Chain, rng: random.Random) -> None:
    device, first, second = chain.device, unit(rng), unit(rng)
    assert isinstance(device, Switchable)
    device.open()
    device.idle()
    assert chain.nothing_more()
    device.search(first, 0, NONCE_SPACE, once())
    (frame,) = chain.jobs(1)
    assert frame == frame_of(first, frame)
    assert device.switch(second)
    (frame,) = chain.jobs(1)
    assert frame == frame_of(second, frame)
    assert device.search(first, 0, NONCE_SPACE, lambda: True) == SearchResult(0, [], 0), "the old unit stays ended"
    device.search(second, 0, NONCE_SPACE, once())
    assert chain.nothing_more(), "the search finds its job begun"
    device.close()


def test_hashes_of_the_unit_before_are_counted_with_the_next(chain: Chain, rng: random.Random) -> None:
    device, first, second = chain.device, unit(rng), unit(rng)
    device.open()
    device.idle()
    told = device.search(first, 0, NONCE_SPACE, once()).hashes
    chain.now += 1.0
    assert device.switch(second)
    chain.now += 1.0
    result = device.search(second, 0, NONCE_SPACE, once())
    assert told is not None
    assert result.hashes is not None
    assert told + result.hashes == pytest.approx(2 * chain.driver.hash_rate, rel=1e-6, abs=2)
    assert result.done == pytest.approx(chain.driver.hash_rate / (1 << 16), rel=1e-3, abs=1), "of the new unit alone"
    device.close()


def test_a_board_that_is_busy_gone_or_down_is_left_to_its_own_thread(chain: Chain, rng: random.Random) -> None:
    device = chain.device
    assert not device.switch(unit(rng)), "not open"
    device.open()
    assert not device.switch(unit(rng)), "its thread has not seen it up"
    device.idle()
    with device._lock:
        assert not device.switch(unit(rng)), "its thread is at work"
    assert device.switch(unit(rng))
    chain.jobs(1)
    chain.driver.start(0.0)
    assert not device.switch(unit(rng)), "the chain is being started"
    device.close()
    assert not device.switch(unit(rng))


def test_what_the_port_does_not_take_at_once_is_sent_by_the_boards_thread(
    chain: Chain, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, job = chain.device, unit(rng)
    device.open()
    device.idle()

    def some(port: SerialPort, data: bytes) -> int:
        return os.write(port._fd or -1, data[:30])

    def gone(port: SerialPort, data: bytes) -> int:
        raise PortGone(port.path)

    monkeypatch.setattr(SerialPort, "write_now", some)
    assert not device.switch(job)
    device.search(job, 0, NONCE_SPACE, once())
    (frame,) = chain.jobs(1)
    assert frame == frame_of(job, frame)
    monkeypatch.setattr(SerialPort, "write_now", gone)
    other = unit(rng)
    assert not device.switch(other)
    device.search(other, 0, NONCE_SPACE, once())
    (frame,) = chain.jobs(1)
    assert frame == frame_of(other, frame)
    device.close()


def test_the_scheduler_switches_boards_from_its_own_thread(chain: Chain, rng: random.Random) -> None:
    device = chain.device
    callers: list[int] = []
    switch = device.switch

    def watched(job: HashJob) -> bool:
        callers.append(threading.get_ident())
        return switch(job)

    device.switch = watched  # type: ignore[method-assign]
    failures: list[str] = []
    telemetry = Telemetry([device])
    scheduler = Scheduler([device], telemetry, lambda share: None, lambda device, reason, left: failures.append(reason))
    scheduler.start()
    try:
        for number in range(20):
            scheduler.set_job(benchmark_job().no_easier_than(1 << number))
            chain.jobs(1)
            time.sleep(0.01)
        assert chain.nothing_more(), "each unit is sent once"
        assert len(callers) >= 15
        assert set(callers) == {threading.get_ident()}
        scheduler.pause(device.name)
        before = len(callers)
        until("the board has ended its search", lambda: not scheduler._workers[device.name].searching)
        scheduler.set_job(benchmark_job())
        assert len(callers) == before, "a paused board is left alone"
        assert chain.nothing_more()
        scheduler.resume(device.name)
        chain.jobs(1)
        scheduler.set_job(None)
        assert len(callers) == before, "and without a job there is nothing to send"
    finally:
        scheduler.stop()
    assert failures == []
