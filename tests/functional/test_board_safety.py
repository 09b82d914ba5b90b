"""Whatever fails, an emulated board ends with clock and core voltage off, or is said not to be controllable.

Each test injects one fault into a board that is mining and looks at the emulated hardware itself, not at what the
driver says of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chain.params import network
from chain.script.addresses import encode_address
from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.boards.bitaxe import BitaxePower, Timing
from miner.asic.boards.catalog import board_named
from miner.asic.boards.opening import make_board
from miner.asic.boards.pmbus import Command
from miner.asic.boards.power import BoardFault
from miner.asic.boards.profile import BoardProfile
from miner.asic.device import AsicDevice
from miner.asic.emulator.bitaxe import EmulatedBitaxe, ReplyFraming
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.transport import PortError
from miner.device import NONCE_SPACE, DeviceError, HashDevice, HashJob
from miner.scheduler import Scheduler
from miner.telemetry import Telemetry
from tests.functional.processes import Node, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional

ZERO_BITS = 4
BOUND_S = 60.0  #: for a thread to end; on a quiet machine it is a second or two
TIMING = Timing(poll_s=0.05, configure_s=0.01, voltage_s=0.05, reset_s=0.02, diode_s=0.1, reply_s=1.0)
QUICK = DriverOptions(ramp_step_s=0.001, settle_s=0.001, chip_pause_s=0.0, zero_bits=ZERO_BITS, recovery_s=0.1)
PAYOUT = encode_address(b"\x00\x14" + bytes(range(20)), network("dev").addresses) or ""


def is_off(board: EmulatedBitaxe) -> bool:
    return not board.core_on and not board.clock_on


class Mining:
    """A device searching in a thread of its own until it fails or is told to stop; closed then, as the scheduler
    does."""

    def __init__(self, board: EmulatedBitaxe, profile: BoardProfile | None = None, options: DriverOptions = QUICK):
        self.profile = profile or board_named("bitaxe-gamma")
        made = make_board(board.ports, self.profile, options=options, timing=TIMING)
        self.device = AsicDevice("asic0", board.ports, board=made)
        self.failure: str | None = None
        self.found = 0
        self.close = threading.Event()  # set: close after a failure
        self.close.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mining", daemon=True)
        self._thread.start()

    @property
    def power(self) -> BitaxePower:
        power = self.device.board.power
        assert isinstance(power, BitaxePower)
        return power

    def _run(self) -> None:
        rng = random.Random(0)
        job = HashJob(rng.randbytes(80), tuple(0x2000_0000 | index << 13 for index in range(1 << 16)), (1 << 256) - 1)
        try:
            self.device.open()
            while not self._stop.is_set():
                self.found += len(self.device.search(job, 0, NONCE_SPACE, self._stop.is_set).candidates)
        except DeviceError as error:
            self.failure = str(error)
        finally:
            self.close.wait(BOUND_S)
            self.device.close()

    def up(self) -> Mining:
        until("the board mines", lambda: self.found > 2 or self.failure is not None)
        assert self.failure is None
        return self

    def stop(self) -> None:
        self._stop.set()
        self.close.set()
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive()


@pytest.fixture
def bitaxe() -> Iterator[EmulatedBitaxe]:
    with EmulatedBitaxe("bitaxe-gamma", ZERO_BITS, speed=20) as board:
        yield board


@contextlib.contextmanager
def mining(board: EmulatedBitaxe, **arguments: object) -> Iterator[Mining]:
    run = Mining(board, **arguments)  # type: ignore[arg-type]
    try:
        yield run.up()
    finally:
        run.stop()
    pid = run.power.watchdog_pid
    assert pid is None, "no watchdog is left behind"


@pytest.mark.parametrize("framing", ReplyFraming)
def test_an_orderly_end_leaves_it_off(framing: ReplyFraming) -> None:
    with EmulatedBitaxe("bitaxe-gamma", ZERO_BITS, framing) as board:
        with mining(board) as run:
            assert board.core_on
            assert board.clock_on
            assert board.regulator.volts == pytest.approx(1.15, abs=0.002)
            details = run.device.details()
            assert details is not None
            until("it has been measured", lambda: bool(run.power.sensors().fan_rpm))
        assert is_off(board)
        assert run.failure is None


def test_what_the_board_measures_is_told(bitaxe: EmulatedBitaxe) -> None:
    with mining(bitaxe) as run:
        until("the fan turns", lambda: bool(run.power.sensors().fan_rpm))
        details = run.device.details()
        assert details is not None
        assert set(details.temperatures_c) == {"chip", "vr"}
        assert details.voltages_v["core"] == pytest.approx(1.15, abs=0.01)
        assert details.voltages_v["input"] == pytest.approx(5.0, abs=0.1)
        assert details.watts is not None
        assert 0 < details.watts < 40
        assert details.fans[0].percent is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("heat", "a chip is at"),
        ("fan", "the fan stands still"),
        ("diode", "temperature sensor is silent"),
        ("sensor", "temperature sensor is silent"),
        ("regulator hot", "regulator over-temperature"),
        ("under-voltage", "output under-voltage"),
        ("draws too much", "more than 25"),
        ("short", "output over-current"),
        ("off by itself", "went off by itself"),
        ("supervision", "its supervision failed"),
        ("watchdog", "its watchdog process has ended"),
        ("watchdog stopped", "its watchdog process does not answer"),
    ],
)
def test_a_fault_switches_it_off(bitaxe: EmulatedBitaxe, name: str, words: str) -> None:
    gamma = board_named("bitaxe-gamma")
    profile = dataclasses.replace(gamma, limits=dataclasses.replace(gamma.limits, spin_up_s=1.0))
    if name == "fan":
        bitaxe.speed = 0.5  # heat would be first
    with mining(bitaxe, profile=profile) as run:
        until("the fan turns", lambda: bool(run.power.sensors().fan_rpm))
        faults = bitaxe.board_faults
        with bitaxe.lock:
            if name == "heat":
                faults.heat_c = 90.0
            elif name == "fan":
                faults.fan_stopped = True
            elif name == "diode":
                faults.diode_open = True
            elif name == "sensor":
                faults.silent.add(0x4C)
            elif name == "regulator hot":
                bitaxe.regulator_fault(Command.STATUS_TEMPERATURE, 0x80)
            elif name == "under-voltage":
                bitaxe.regulator_fault(Command.STATUS_VOUT, 0x10)
            elif name == "draws too much":
                faults.extra_amps = 28.0 - bitaxe.regulator.load_amps
            elif name == "short":
                faults.extra_amps = 40.0
            elif name == "off by itself":
                bitaxe.regulator.latched = True
        if name == "supervision":
            run.power._measure = lambda: 1 / 0  # type: ignore[method-assign, assignment]
        elif name.startswith("watchdog"):
            pid = run.power.watchdog_pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP if "stopped" in name else signal.SIGKILL)
        until(f"core and clock are off after {name}", lambda: is_off(bitaxe))
        until("the device says why", lambda: run.failure is not None)
        assert run.failure is not None
        assert words in run.failure
        assert "the board is off" in run.failure


def test_a_driver_that_hangs_loses_its_board(bitaxe: EmulatedBitaxe) -> None:
    timing = dataclasses.replace(TIMING, driver_s=2.0)
    board = make_board(bitaxe.ports, board_named("bitaxe-gamma"), options=QUICK, timing=timing)
    board.open()
    try:
        assert bitaxe.core_on
        until("nobody pumps: core and clock are off", lambda: is_off(bitaxe))
        with pytest.raises(BoardFault, match="its driver has not been heard of for 2 s; the board is off"):
            until("it is said", lambda: board.pump(0.01) is None)
    finally:
        board.close()


def test_a_defect_in_the_driver_switches_it_off(bitaxe: EmulatedBitaxe) -> None:
    board = make_board(bitaxe.ports, board_named("bitaxe-gamma"), options=QUICK, timing=TIMING)
    device = AsicDevice("asic0", bitaxe.ports, board=board)
    said: list[str] = []

    def failed(_: HashDevice, reason: str, __: bool) -> None:
        said.append(reason)

    scheduler = Scheduler([device], Telemetry([device]), lambda _: None, failed)
    scheduler.start()
    try:
        until("it is powered", lambda: bitaxe.core_on and bitaxe.clock_on)
        board.driver.actions = lambda now: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        until("core and clock are off", lambda: is_off(bitaxe) and bool(said))
        assert "ZeroDivisionError" in said[0]
    finally:
        scheduler.stop()


def test_heat_throttles_before_it_switches_off(bitaxe: EmulatedBitaxe) -> None:
    gamma = board_named("bitaxe-gamma")
    limits = dataclasses.replace(gamma.limits, step_down_s=0.2, step_up_s=0.3, step_mhz=50.0)
    bitaxe.speed = 4
    with mining(bitaxe, profile=dataclasses.replace(gamma, limits=limits)) as run:
        full = bitaxe.chain.chips[0].frequency_mhz
        with bitaxe.lock:
            bitaxe.board_faults.heat_c = 30.0
        until("the clock goes down", lambda: bitaxe.chain.chips[0].frequency_mhz < full - 60)
        details = run.device.details()
        assert details is not None
        assert details.state.startswith("throttled")
        assert bitaxe.fan.registers[0x4C] > 30, "the fan has done what it can"
        with bitaxe.lock:
            bitaxe.board_faults.heat_c = 0.0
        until("the clock comes back", lambda: bitaxe.chain.chips[0].frequency_mhz > full - 1)
        assert run.failure is None


def test_a_silent_control_port_stops_the_chips_and_is_said_loudly(
    bitaxe: EmulatedBitaxe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pickaxe.asic")
    with mining(bitaxe) as run:
        run.close.clear()
        with bitaxe.lock:
            bitaxe.board_faults.control_silent = True
        until("the device says so", lambda: run.failure is not None)
        assert run.failure is not None
        assert "NOT CONTROLLABLE" in run.failure
        details = run.device.details()
        assert details is not None
        assert "NOT CONTROLLABLE" in details.state
        until("the log says so too", lambda: "NOT CONTROLLABLE" in caplog.text)
        assert bitaxe.core_on, "nothing can reach it"
        with bitaxe.lock:
            bitaxe.board_faults.control_silent = False
        until("it is tried again until it works", lambda: is_off(bitaxe))


def test_with_the_control_port_silent_for_good_the_chips_are_slowed_through_the_data_port(
    bitaxe: EmulatedBitaxe, capfd: pytest.CaptureFixture[str]
) -> None:
    with mining(bitaxe) as run:
        with bitaxe.lock:
            bitaxe.board_faults.control_silent = True
        until("the chips hash no more", lambda: bitaxe.chain.hash_rate == 0)
        until("the chips are slowed down", lambda: bitaxe.chain.chips[0].frequency_mhz <= 51)
        run.stop()
    assert "NOT CONTROLLABLE: the watchdog could not switch it off" in capfd.readouterr().err


def test_a_board_that_cannot_be_watched_is_not_switched_on(bitaxe: EmulatedBitaxe) -> None:
    with bitaxe.lock:
        bitaxe.board_faults.silent.add(0x24)
    run = Mining(bitaxe)
    until("it gives up", lambda: run.failure is not None)
    run.stop()
    assert "24 does not answer" in (run.failure or "")
    assert not bitaxe.core_on


def test_a_pulled_cable_is_said_and_the_board_is_taken_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EmulatedBitaxe("bitaxe-gamma", ZERO_BITS, link=tmp_path / "board") as board, mining(board) as run:
        board.unplug()
        until("it is said", lambda: "NOT CONTROLLABLE" in caplog.text)
        assert board.core_on, "its supply is not the cable"

        def state() -> str:
            details = run.device.details()
            assert details is not None
            return details.state

        until("the screens say it", lambda: "NOT CONTROLLABLE" in state())
        found = run.found
        board.plug_in()
        until("it mines again", lambda: run.found > found + 2)
        assert run.failure is None
        assert run.device.report().replugs == 1
    assert is_off(board)


def test_with_only_its_data_port_gone_it_is_switched_off(bitaxe: EmulatedBitaxe) -> None:
    """The other half of the cable, so to say: what can still be reached is used."""
    with mining(bitaxe) as run:
        with bitaxe.lock:
            bitaxe._data.unplug()
        until("core and clock are off", lambda: is_off(bitaxe))

        def state() -> str:
            details = run.device.details()
            assert details is not None
            return details.state

        until("the screens say it", lambda: state() == "off: its data port has disappeared")


def test_a_data_port_that_takes_nothing_switches_it_off(
    bitaxe: EmulatedBitaxe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mining(bitaxe) as run:
        port = run.device.board._port
        assert port is not None

        def hangs(_: bytes) -> None:
            raise PortError(f"{bitaxe.port} takes no data: the board hangs")

        monkeypatch.setattr(port, "write", hangs)
        until("core and clock are off", lambda: is_off(bitaxe))
        until("it is said", lambda: run.failure is not None)
        assert "takes no data" in (run.failure or "")


@pytest.mark.parametrize("request_number", [0, 5, 12, 45, 50])
def test_a_cable_pulled_during_power_up_is_said(request_number: int, caplog: pytest.LogCaptureFixture) -> None:
    with EmulatedBitaxe("bitaxe-gamma", ZERO_BITS) as board:
        answer = board._answer

        def pulled(request: bytes) -> bytes:
            reply = answer(request)
            if board.requests == request_number + 1:
                board._unplug()
                board._answers.clear()
                board._request.clear()
            return reply

        write = board._control.write
        board._control.write = lambda data: write(data) if board._control.plugged else None  # type: ignore[method-assign]
        board._answer = pulled  # type: ignore[method-assign]
        run = Mining(board)
        until("it gives up", lambda: run.failure is not None)
        run.stop()
        assert run.power.watchdog_pid is None
        if request_number:  # before that nothing has been said to it
            assert "NOT CONTROLLABLE" in (run.failure or "")
            assert "NOT CONTROLLABLE" in caplog.text
            details = run.device.details()
            assert details is not None
            assert details.state == "NOT CONTROLLABLE: its cable has been pulled"


def test_a_regulator_that_does_not_switch_off_is_said_loudly(
    bitaxe: EmulatedBitaxe, caplog: pytest.LogCaptureFixture
) -> None:
    with mining(bitaxe), bitaxe.lock:
        bitaxe.regulator.stuck_on = True
    assert bitaxe.core_on
    assert not bitaxe.clock_on
    assert "NOT CONTROLLABLE" in caplog.text
    again = Mining(bitaxe)
    until("it is not started again", lambda: again.failure is not None)
    again.stop()
    assert "the regulator does not switch off; the board is NOT CONTROLLABLE" in (again.failure or "")


@pytest.mark.parametrize("kind", ["bitaxe-hex", "bitaxe-gamma-duo"])
def test_other_boards_start_and_stop(kind: str) -> None:
    with EmulatedBitaxe(kind, 1, ReplyFraming.V0) as board:
        options = dataclasses.replace(QUICK, zero_bits=1)
        with mining(board, profile=board_named(kind), options=options) as run:
            until("the fan turns", lambda: bool(run.power.sensors().fan_rpm))
            assert len(run.device.report().chips) == board.kind.chips
            until("the temperature is known", lambda: run.power.sensors().chip_c is not None)
        assert is_off(board)


# The miner is killed


def killed(*arguments: str, when: Callable[[], bool]) -> str:
    """Start a command, kill -9 it when it is time, what it and its watchdog said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        until(f"{arguments[:2]} is at work", lambda: when() or process.poll() is not None, 120)
        assert process.poll() is None, process.communicate()[0]
    finally:
        process.kill()
    return process.communicate(timeout=60)[0]  # the watchdog has the pipe too: its end is waited for


def test_kill_9_of_a_self_test_switches_the_board_off(bitaxe: EmulatedBitaxe) -> None:
    said = killed(
        *("asic", "test", bitaxe.ports, "--board", "bitaxe-gamma", "--zero-bits", str(ZERO_BITS), "--seconds", "600"),
        when=lambda: bitaxe.core_on and bitaxe.chain.reported > 0,
    )
    until("core and clock are off", lambda: is_off(bitaxe))
    assert "the miner has died; bitaxe-gamma" in said
    assert "switched off by the watchdog" in said


def test_kill_9_of_a_miner_switches_the_board_off(tmp_path: Path, bitaxe: EmulatedBitaxe) -> None:
    node = Node(tmp_path / "node")
    with nodes(node):
        node.start()
        said = killed(
            *("mine", "--device", "asic", "--board", "bitaxe-gamma", "--port", bitaxe.ports),
            *("--zero-bits", str(ZERO_BITS), "--network", "dev", "--address", PAYOUT, "--quiet"),
            *("--rpc-url", node.url, "--rpc-cookie", str(node.cookie)),
            when=lambda: node.call("getblockcount") >= 1,
        )
    until("core and clock are off", lambda: is_off(bitaxe))
    assert re.search(r"bitaxe-gamma on \S+ is switched off by the watchdog", said)


def test_kill_9_stops_the_chips_of_a_board_without_control(tmp_path: Path) -> None:
    description = tmp_path / "bare.toml"
    description.write_text('name = "shelf"\n[chips]\nmodel = "bm1370"\ncount = 2\n')
    with EmulatedBoard(EmulatedChain(MODELS["bm1370"], 2, ZERO_BITS)) as board:
        chain = board.chain
        said = killed(
            *("asic", "test", board.port, "--board", str(description), "--zero-bits", str(ZERO_BITS)),
            *("--seconds", "600"),
            when=lambda: chain.reported > 0,
        )
        until("the chips hash no more", lambda: chain.hash_rate == 0)
        until("the chips are slowed down", lambda: all(chip.frequency_mhz <= 51 for chip in chain.chips))
    assert "stopped by the watchdog, but its core voltage cannot be switched off from here" in said


def test_info_shows_the_board(bitaxe: EmulatedBitaxe) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "node.cli.main", "asic", "info", bitaxe.ports, "--board", "bitaxe-gamma"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bm1370: 1 chip" in done.stdout
    assert re.search(r"regulator .* °C, supply 5.00 V, core 1.15\d V", done.stdout)
    assert is_off(bitaxe)


def test_clock_and_voltage_are_set_within_limits(bitaxe: EmulatedBitaxe) -> None:
    bitaxe.speed = 0.1  # heat is not the question
    board = make_board(bitaxe.ports, board_named("bitaxe-gamma"), options=QUICK, timing=TIMING)

    def clock_is(low: float, high: float) -> bool:
        board.pump(0.01)
        return board.driver.state.value == "running" and low <= bitaxe.chain.chips[0].frequency_mhz <= high

    board.open()
    try:
        until("it runs", lambda: clock_is(524, 526))
        assert board.clock_limits_mhz == (50.0, 625.0)
        assert board.voltage_limits_mv == (1000.0, 1250.0)
        assert board.set_voltage(1500) == 1250.0
        assert bitaxe.regulator.volts == pytest.approx(1.25, abs=0.002)
        assert board.set_voltage(1060) == 1060.0
        assert bitaxe.regulator.volts == pytest.approx(1.06, abs=0.002)
        assert board.set_clock(9000) == 625.0
        until("the clock goes up", lambda: clock_is(624, 626))
        assert board.set_clock(1) == 50.0
        until("the clock goes down", lambda: clock_is(49, 51))
    finally:
        board.close()
    assert is_off(bitaxe)


@pytest.mark.slow
def test_faults_at_random_moments_never_leave_it_on_unwatched(rng: random.Random) -> None:
    """Any fault at any moment, power-up included: afterwards the board mines under supervision, or is off."""

    def inject(board: EmulatedBitaxe, what: str) -> None:
        faults = board.board_faults
        if what == "heat":
            faults.heat_c = rng.uniform(40, 120)
        elif what == "fan":
            faults.fan_stopped = True
        elif what == "nak":
            faults.silent.add(rng.choice((0x24, 0x4C)))
        elif what == "delay":
            faults.reply_delay_s = rng.uniform(0.1, 2.0)
        elif what == "amps":
            faults.extra_amps = rng.uniform(5, 50)
        elif what == "pmbus":
            board.regulator_fault(rng.choice((0x7A, 0x7B, 0x7C, 0x7D)), 1 << rng.randrange(8))
        elif what == "dead":
            board.chain.chips[0].dead = True
        elif what == "noise":
            board.chain.faults.flip_rate = 0.05

    for _ in range(30):
        framing = rng.choice(list(ReplyFraming))
        with EmulatedBitaxe("bitaxe-gamma", ZERO_BITS, framing, speed=20) as board:
            board.chain.faults.rng = rng
            run = Mining(board)
            what = rng.choice(("heat", "fan", "nak", "delay", "amps", "pmbus", "dead", "noise"))
            time.sleep(rng.uniform(0, 4))
            with board.lock:
                inject(board, what)
            time.sleep(rng.uniform(0, 4))
            if run.failure is not None and what != "delay":  # a port that is too slow is a silent port
                until(f"{what}: no clock once it has given up", lambda: not board.clock_on)
            with board.lock:
                board.board_faults.clear()
                board.chain.faults.clear()
            run.stop()
            until(f"{what}: off at the end", lambda: is_off(board))
            assert run.power.watchdog_pid is None, f"{what}: its watchdog is left behind"
