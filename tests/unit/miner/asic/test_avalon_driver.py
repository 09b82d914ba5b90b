"""The Avalon driver against the emulated unit, byte by byte and in a time of their own."""

from __future__ import annotations

import random

import pytest
import serial

from chain.primitives.errors import UserError
from miner.asic.avalon.device import AvalonDevice
from miner.asic.avalon.driver import AvalonDriver, Event, Options, Overheated, Ready, State
from miner.asic.avalon.frames import FAN_FULL
from miner.asic.emulator.avalon import EmulatedAvalon
from miner.asic.emulator.catalog import EmulationOptions, emulation
from miner.asic.families import serial_devices
from miner.asic.header_work import Failed, NonceFound, Outcome, Work
from miner.asic.link import Link

ZERO_BITS = 8
ROWS = 4
STEP_S = 0.002


class Bench:
    """Unit and driver on one line; time passes only here."""

    def __init__(self, rows: int = ROWS, **options: object) -> None:
        self.unit = EmulatedAvalon(rows, ZERO_BITS)
        self.driver = AvalonDriver(Options(rows=rows, zero_bits=ZERO_BITS, **options))  # type: ignore[arg-type]
        self.now = 50.0
        self.cut = False
        self.driver.start(self.now)

    def run(self, seconds: float) -> list[Event]:
        end, said = self.now + seconds, []
        while self.now < end:
            self.now += STEP_S
            self.driver.tick(self.now)
            for frame in self.driver.outgoing():
                if not self.cut:
                    self.unit.receive_data(frame, self.now)
            self.unit.run(self.now, 1.0)
            if data := self.unit.bytes_to_send(self.now):
                self.driver.received(data, self.now)
            said += self.driver.events()
        return said

    def feed(self, rng: random.Random, seconds: float) -> list[NonceFound]:
        """Keep it busy for that long; what it finds."""
        end, found = self.now + seconds, []
        while self.now < end:
            if self.driver.hungry:
                self.driver.set_work([Work(rng.randbytes(80)) for _ in range(ROWS)], self.now)
            found += [event for event in self.run(0.05) if isinstance(event, NonceFound)]
        return found


def test_the_controller_answers_a_reset() -> None:
    bench = Bench()
    assert bench.run(0.1) == [Ready("2013-06-15.1")]
    assert bench.driver.state is State.RUNNING


def test_nobody_answers() -> None:
    bench = Bench(attempts=2)
    bench.cut = True
    (event,) = bench.run(1.0)
    assert isinstance(event, Failed)
    assert event.reason.startswith("nothing answers to a reset")
    driver = AvalonDriver(Options(attempts=1))
    driver.start(0.0)
    driver.received(b"\xaa\x55\x00\x01\x87", 0.1)
    driver.tick(0.5)
    assert driver.events() == [
        Failed("aa55000187 is no answer of an Avalon to a reset: is the unit powered, and this its port?")
    ]


def test_clocks_and_rows_it_cannot_have() -> None:
    with pytest.raises(UserError, match="256 to 375 MHz, not at 500"):
        Options(mhz=500)
    with pytest.raises(UserError, match="1 to 32 rows"):
        Options(rows=33)


@pytest.mark.parametrize(("name", "rows"), [("avalon", 32), ("Avalon-24", 24)])
def test_a_unit_of_three_modules_has_24_rows(name: str, rows: int) -> None:
    """With more rows than it has, its queue overflows and what it finds belongs to tasks that are forgotten."""
    (device,) = serial_devices(["/dev/a"], boards=[name])
    assert isinstance(device, AvalonDevice)
    assert device.driver.options.rows == rows
    unit = emulation(name, EmulationOptions())
    assert (len(unit.board.chain.chips), unit.advice) == (rows, f"--board {name.lower()}")
    with pytest.raises(UserError, match=f"{name.lower()} has {rows} rows of chips: leave --chips out"):
        emulation(name, EmulationOptions(chips=8))


def test_every_nonce_is_found_once_and_the_rows_never_wait(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    before = bench.driver.progress(bench.now)
    found = bench.feed(rng, 60.0)
    done = bench.driver.progress(bench.now) - before
    late = [event for event in bench.run(4.0) if isinstance(event, NonceFound)]
    totals = bench.driver.totals
    assert totals[Outcome.WRONG] == totals[Outcome.DUPLICATE] == 0
    assert len(found) + len(late) == bench.unit.reported > 100
    assert len({(event.work.header, event.nonce) for event in found + late}) == bench.unit.reported
    assert set(bench.driver.rows) == set(range(ROWS))
    assert bench.unit.overrun_tasks == 0
    assert done == pytest.approx(bench.driver.hash_rate * 60, rel=0.08), "busy rows, truly counted"
    assert len(set(bench.driver.fans_rpm)) == 1
    assert 0 < bench.driver.fans_rpm[0] <= 3600


def test_a_new_block_flushes_the_queue_and_late_results_are_stale(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.unit.latency_s = 0.02
    for _ in range(30):
        bench.feed(rng, 0.5)
        while bench.unit.next_send() is None:
            bench.feed(rng, 0.01)
        bench.driver.set_work([Work(rng.randbytes(80)) for _ in range(ROWS)], bench.now, clean=True)
        bench.run(0.005)
        assert len(bench.unit._queue) <= 1, "the old tasks are gone"
    bench.run(0.5)
    assert bench.driver.totals[Outcome.STALE] > 0
    assert bench.driver.totals[Outcome.WRONG] == 0


def test_damaged_bytes_cost_their_result_only(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.unit.faults.rng = rng
    damaged = 0
    for _ in range(12):
        bench.feed(rng, 2.0)
        setattr(bench.unit.faults, rng.choice(["drop_next", "flip_next", "duplicate_next"]), 1)
        damaged += 1
    bench.feed(rng, 4.0)
    bench.run(4.0)
    assert bench.unit.reported - bench.driver.totals[Outcome.GOOD] <= 2 * damaged
    assert bench.driver.totals[Outcome.GOOD] > 10


def test_heat_makes_it_rest_until_it_has_cooled(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.feed(rng, 10.0)
    for row in bench.unit.chips:  # results of any row tell
        row.heat_c = 60.0
    events: list[Event] = []
    for _ in range(100):
        if bench.driver.hungry:
            bench.driver.set_work([Work(rng.randbytes(80)) for _ in range(ROWS)], bench.now)
        events += bench.run(0.2)
        if bench.driver.state is State.OVERHEATED:
            break
    assert any(isinstance(event, Overheated) and event.temperature_c >= 60 for event in events)
    assert bench.driver.fan == FAN_FULL
    bench.run(0.3)
    assert bench.unit.hash_rate == 0.0
    for row in bench.unit.chips:
        row.heat_c = 0.0
    assert bench.feed(rng, 15.0) == []
    assert len(bench.feed(rng, 20.0)) > 0, "and goes on by itself"
    assert bench.driver.state is State.RUNNING


def test_the_fan_follows_the_temperature(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.feed(rng, 120.0)
    assert bench.driver.smoothed_c is not None
    assert bench.driver.fan < FAN_FULL, "a cool unit is made quieter"
    assert bench.driver.smoothed_c < 57


def test_a_silent_unit_is_reset(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.feed(rng, 5.0)
    bench.cut = True
    bench.unit.reset()
    bench.feed(rng, 45.0)
    assert bench.driver.restarts >= 1


def test_bytes_lost_on_the_way_to_the_unit_cost_tasks_and_no_more(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    bench.unit.faults.rng, bench.unit.faults.host_drop_rate = rng, 0.01
    bench.feed(rng, 30.0)
    bench.unit.faults.clear()
    bench.feed(rng, 3.0)
    assert bench.unit.bad_host_frames > 0
    assert len(bench.feed(rng, 10.0)) > 0
    assert bench.driver.state is State.RUNNING


def test_no_task_is_sent_while_the_controller_has_no_room(rng: random.Random) -> None:
    bench = Bench()
    bench.run(0.1)
    driver = bench.driver
    driver.set_work([Work(rng.randbytes(80)) for _ in range(2 * ROWS)], bench.now)
    bench.run(0.03)
    sent = 2 * ROWS - driver.waiting
    assert 0 < sent < ROWS
    driver.room = False
    bench.run(1.0)
    assert driver.waiting == 2 * ROWS - sent, "its queue is full"
    driver.room = True
    bench.run(1.0)
    assert driver.waiting <= ROWS


def test_a_line_for_room_that_is_not_wired_counts_as_room(rng: random.Random) -> None:
    bench = Bench()
    bench.driver.room = False
    bench.feed(rng, 2 * bench.driver.round_s)
    began = bench.driver.progress(bench.now)
    bench.feed(rng, 4 * bench.driver.round_s)
    done = bench.driver.progress(bench.now) - began
    assert done > 3 * ROWS * (1 << ZERO_BITS), "every row has its task, round by round"


def test_the_line_for_room_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [False, True]
    with emulation("avalon", EmulationOptions(zero_bits=ZERO_BITS)).board as board:
        driver = AvalonDriver(Options(zero_bits=ZERO_BITS))
        link = Link(board.ports, 115_200, driver)
        link.open()
        try:
            link.pump(0.0, lambda: False)
            assert driver.room is None, "a pseudo-terminal has none"
            monkeypatch.setattr(serial.Serial, "cts", property(lambda _: levels.pop()))
            link.pump(0.0, lambda: False)
            assert driver.room is True
            link.pump(0.0, lambda: False)
            assert driver.room is False
        finally:
            link.close()
