"""The Icarus driver against the emulated board, byte by byte and in a time of their own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from miner.asic.emulator.icarus import KINDS, EmulatedIcarus
from miner.asic.header_work import Failed, NonceFound, Outcome, Work
from miner.asic.icarus.driver import Detected, Event, IcarusDriver, Options, State
from miner.asic.icarus.models import icarus_model
from miner.asic.icarus.timing import TimingModel

ZERO_BITS = 10
STEP_S = 0.001


class Bench:
    """Board and driver on one line; time passes only here."""

    def __init__(self, kind: str, model: str | None = None, zero_bits: int = ZERO_BITS, **options: object) -> None:
        self.board = EmulatedIcarus(KINDS[kind], zero_bits)
        chosen = icarus_model(model) if model is not None else None
        self.driver = IcarusDriver(Options(chosen, zero_bits=zero_bits, **options))  # type: ignore[arg-type]
        self.now = 100.0
        self.events: list[Event] = []
        self.sent: list[bytes] = []
        self.cut = False  # the cable to the board
        self.driver.start(self.now)

    def run(self, seconds: float, step_s: float = STEP_S) -> list[Event]:
        """Let time pass; what the driver said meanwhile."""
        end = self.now + seconds
        said: list[Event] = []
        while self.now < end:
            self.now += step_s
            self.driver.tick(self.now)
            for frame in self.driver.outgoing():
                self.sent.append(frame)
                if not self.cut:
                    self.board.receive_data(frame, self.now)
            self.board.run(self.now, 1.0)
            if data := self.board.bytes_to_send(self.now):
                self.driver.received(data, self.now)
            said += self.driver.events()
        self.events += said
        return said

    def until(self, reached: Callable[[], bool], limit_s: float = 80.0) -> None:
        """Let time pass until then; AssertionError after `limit_s`."""
        end = self.now + limit_s
        while not reached():
            assert self.now < end, self.events[-5:]
            self.run(0.1, 0.005)

    def until_running(self) -> Detected:
        for _ in range(100):
            for event in self.run(0.1):
                if isinstance(event, Detected):
                    return event
                assert not isinstance(event, Failed), event
        raise AssertionError("not detected")


def works(rng: random.Random, count: int) -> list[Work]:
    return [Work(rng.randbytes(80), index) for index in range(count)]


def found(events: list[Event]) -> list[NonceFound]:
    return [event for event in events if isinstance(event, NonceFound)]


@pytest.mark.parametrize(
    ("kind", "model", "expected", "engines"),
    [
        ("icarus", None, "icarus", 2),
        ("lancelot", "lancelot", "lancelot", 2),
        ("erupter", None, "erupter", 1),
        ("erupter", "erupter", "erupter", 1),
        ("u1", None, "u1", 1),
        ("u2", "u2", "u2", 1),
        ("u3", "u3", "u3", 1),
    ],
)
def test_boards_are_found_by_golden_work(kind: str, model: str | None, expected: str, engines: int) -> None:
    bench = Bench(kind, model)
    detected = bench.until_running()
    assert (detected.model.name, detected.engines) == (expected, engines)
    assert bench.driver.state is State.RUNNING


def test_clock_and_voltage_are_set_before_the_board_is_looked_for() -> None:
    bench = Bench("u3", "u3", mhz=212.5, millivolts=800)
    bench.until_running()
    assert bench.board.millivolts == 800
    assert bench.driver.mhz == 212.5
    bench.driver.set_work(works(random.Random(1), 2), bench.now)
    bench.run(0.01)
    assert bench.board.hash_rate * (1 << 32 - ZERO_BITS) == pytest.approx(212.5e9 / 3.2)
    assert bench.driver.timing is not None
    assert bench.driver.timing.range_s == pytest.approx(0.0647, rel=0.01)


def test_a_u3_without_its_voltage_is_not_found_and_says_so() -> None:
    bench = Bench("u3")
    bench.run(3.0)
    assert next(event for event in bench.events if isinstance(event, Failed)).reason.endswith("(a U3 needs --board u3)")


def test_another_board_than_was_named() -> None:
    bench = Bench("u1", "erupter")
    bench.run(3.0)
    assert bench.events == [Failed("the board answers with 5 bytes, as no Block Erupter USB does: check --board")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\x01\x87\xa2" * 2, "8 bytes, as a Rockminer"),
        (b"\x00\x01\x87\xa2\0\0", "2 bytes followed"),
        (b"\xaa\x55\x00", "another device, or another baud rate"),
    ],
)
def test_strangers_are_named(answer: bytes, said: str) -> None:
    driver = IcarusDriver(Options(attempts=1))
    driver.start(0.0)
    driver.tick(0.2)
    assert len(driver.outgoing()) == 1
    driver.received(answer, 0.3)
    driver.tick(1.0)
    (event,) = driver.events()
    assert isinstance(event, Failed)
    assert said in event.reason


@pytest.mark.parametrize("kind", ["icarus", "erupter", "u1"])
def test_every_reported_nonce_is_found_once_and_hashes_are_counted_truly(kind: str, rng: random.Random) -> None:
    bench = Bench(kind, kind)
    bench.until_running()
    range_s = bench.driver.model.range_s() if bench.driver.model else 0
    reported = bench.board.reported
    bench.driver.set_work(works(rng, 60), bench.now)
    nonces: list[NonceFound] = []
    elapsed = 0.0
    while not bench.driver.idle:
        nonces += found(bench.run(range_s / 8, range_s / 2000))
        elapsed += range_s / 8
        assert elapsed < 70 * range_s
    nonces += found(bench.run(0.1))
    assert bench.driver.totals[Outcome.WRONG] == bench.driver.totals[Outcome.DUPLICATE] == 0
    assert len(nonces) == bench.board.reported - reported > 10
    assert len({(event.work.owner, event.nonce) for event in nonces}) == len(nonces)
    assert bench.driver.done == pytest.approx(elapsed / range_s * (1 << ZERO_BITS), rel=0.08)
    timing = bench.driver.timing
    assert timing is not None
    assert timing.seconds_per_hash == pytest.approx(timing.nominal_s, rel=0.02)
    assert timing.measured


def test_a_slower_board_than_the_data_say_is_measured(rng: random.Random) -> None:
    timing = TimingModel(2.5e-9)
    for _ in range(20):
        hashes = rng.randrange(1 << 32)
        timing.add(hashes, 0.006 + hashes * 3.1e-9)
    assert timing.seconds_per_hash == pytest.approx(3.1e-9)
    assert timing.overhead_s == pytest.approx(0.006, rel=0.01)
    unbelievable = TimingModel(2.5e-9)
    for _ in range(20):
        unbelievable.add(rng.randrange(1 << 32), rng.random() * 1e-6)
    assert unbelievable.seconds_per_hash == 2.5e-9
    assert not unbelievable.measured


def test_new_work_aborts_the_old_and_a_late_nonce_still_counts(rng: random.Random) -> None:
    bench = Bench("icarus", "icarus")
    bench.until_running()
    bench.board.latency_s = 0.05
    first, second = works(rng, 2)
    bench.driver.set_work([first], bench.now)
    while not bench.board.next_send():
        bench.run(0.001)
        if bench.driver.idle:
            bench.driver.set_work([first := works(rng, 1)[0]], bench.now)
    bench.driver.set_work([second], bench.now)
    events = found(bench.run(0.2))
    assert events[0].work is first
    assert events[0].late


def test_after_a_new_block_late_nonces_are_stale(rng: random.Random) -> None:
    bench = Bench("u1", "u1")
    bench.until_running()
    bench.board.latency_s = 0.05
    bench.driver.set_work(works(rng, 30), bench.now)
    while not bench.board.next_send():
        bench.run(0.001)
    bench.driver.set_work(works(rng, 1), bench.now, clean=True)
    bench.run(0.06)
    assert bench.driver.totals[Outcome.STALE] == 1
    assert bench.driver.totals[Outcome.WRONG] == 0


@pytest.mark.parametrize("kind", ["erupter", "u1"])
def test_lost_doubled_and_flipped_bytes_cost_no_more_than_their_reply(kind: str, rng: random.Random) -> None:
    bench = Bench(kind, kind)
    bench.until_running()
    range_s = bench.driver.model.range_s() if bench.driver.model else 0
    bench.board.faults.rng = rng
    bench.driver.set_work(works(rng, 400), bench.now)
    damaged, before = 0, bench.board.reported
    for turn in range(60):
        bench.run(range_s * 2, range_s / 400)
        if turn % 6 == 0:
            fault = rng.choice(["drop_next", "flip_next", "duplicate_next"])
            setattr(bench.board.faults, fault, 1)
            damaged += 1
    bench.board.faults.clear()
    bench.run(range_s * 3, range_s / 400)
    good = bench.driver.totals[Outcome.GOOD]
    assert bench.board.reported - before - good <= 2 * damaged, "a reply may also lose the neighbour it runs into"
    assert good > 60


def test_a_board_that_falls_silent_is_looked_for_again(rng: random.Random) -> None:
    bench = Bench("u3", "u3")
    bench.until_running()
    bench.driver.set_work(works(rng, 10_000), bench.now)
    bench.run(1.0)
    bench.cut = True
    bench.board.reset()
    bench.run(6.0)
    assert bench.driver.restarts == 1
    bench.driver.start_later(bench.now)
    bench.cut = False
    bench.until_running()
    good = bench.driver.totals[Outcome.GOOD]
    bench.run(2.0)
    assert bench.driver.totals[Outcome.GOOD] > good, "and its work goes on"


def test_a_stuck_nonce_and_lies_are_counted_apart(rng: random.Random) -> None:
    bench = Bench("u1", "u1")
    bench.until_running()
    totals = bench.driver.totals
    bench.driver.set_work(works(rng, 100), bench.now)
    bench.until(lambda: totals[Outcome.GOOD] > 0)
    assert totals[Outcome.WRONG] == 0
    bench.run(0.1)  # nothing is on its way any more
    good = totals[Outcome.GOOD]
    bench.board.faults.rng, bench.board.faults.wrong_nonce_rate = rng, 1.0
    bench.until(lambda: totals[Outcome.WRONG] > 0)
    assert totals[Outcome.GOOD] == good
