"""The watchdog process by itself, and what a board's plan makes it do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miner.asic.bm13xx.models import MODELS
from miner.asic.boards.bitaxe import BitaxePower, Timing
from miner.asic.boards.catalog import board_named
from miner.asic.boards.description import parse_board
from miner.asic.boards.guard import OffPlan, Step, Watchdog, WatchdogError
from miner.asic.boards.opening import make_board
from miner.asic.boards.power import BoardFault
from miner.asic.emulator.bitaxe import EmulatedBitaxe, ReplyFraming
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.pty_port import PtyPort
from miner.asic.transport import PortError, PortGone, SerialPort
from tests.support.waiting import until

TIMING = Timing(poll_s=0.05, configure_s=0.01, voltage_s=0.02, reset_s=0.01, diode_s=0.1, reply_s=1.0)


class Echo:
    """A port that answers each PING with a PONG, after ignoring the first `deaf`."""

    def __init__(self, deaf: int = 0) -> None:
        self.port = PtyPort()
        self.port.plug_in()
        self.heard = 0
        self._deaf = deaf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.wait(0.005):
            data = self.port.read()
            for _ in range(data.count(b"PING")):
                self.heard += 1
                if self.heard > self._deaf:
                    self.port.write(b"noise PONG")

    def plan(self, **changes: object) -> OffPlan:
        steps = [Step(b"PING", b"PONG", 1.0)]  # far more than the answer takes
        return OffPlan(**{"name": "thing", "port": self.port.path, "steps": steps, **changes})  # type: ignore[arg-type]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.port.unplug()


@pytest.fixture
def echo() -> Iterator[Echo]:
    thing = Echo()
    yield thing
    thing.stop()


def test_it_acts_when_its_input_ends(echo: Echo, capfd: pytest.CaptureFixture[str]) -> None:
    dog = Watchdog()
    dog.arm(echo.plan())
    assert echo.heard == 0
    dog._end(30.0)  # closes the pipe, as the end of the process does
    assert echo.heard == 1
    said = capfd.readouterr().err
    assert "pickaxe: the miner has died; thing on /dev/pts/" in said
    assert "is switched off by the watchdog" in said
    assert dog.pid is None


def test_told_to_act_it_does_not_call_the_miner_dead(echo: Echo, capfd: pytest.CaptureFixture[str]) -> None:
    dog = Watchdog()
    dog.arm(echo.plan())
    dog.release()
    assert echo.heard == 1
    said = capfd.readouterr().err
    assert "pickaxe: the miner could not switch it off; thing on /dev/pts/" in said
    assert "is switched off by the watchdog" in said
    assert dog.pid is None


def test_it_acts_when_the_miner_is_silent(echo: Echo, capfd: pytest.CaptureFixture[str]) -> None:
    dog = Watchdog(silence_s=2.0)
    dog.arm(echo.plan())
    for _ in range(24):
        time.sleep(0.1)
        assert dog.beat()
    assert echo.heard == 0, "while it hears, it waits"
    until("it acts", lambda: echo.heard > 0)
    until("it has ended", lambda: not dog.alive)
    assert not dog.beat()
    assert "has not been heard of for 2 s" in capfd.readouterr().err
    dog.dismiss()


def test_dismissed_it_does_nothing(echo: Echo) -> None:
    dog = Watchdog()
    dog.arm(echo.plan())
    dog.dismiss()
    time.sleep(0.2)
    assert echo.heard == 0


def test_it_tries_again_until_it_is_confirmed() -> None:
    thing = Echo(deaf=2)
    try:
        dog = Watchdog()
        dog.arm(thing.plan())
        dog.release()
        assert thing.heard == 3
    finally:
        thing.stop()


def test_what_it_cannot_switch_off_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    thing = Echo(deaf=1000)
    try:
        dog = Watchdog()
        dog.arm(thing.plan(steps=[Step(b"PING", b"PONG", 0.05)]))
        dog.release()
    finally:
        thing.stop()
    assert "NOT CONTROLLABLE: the watchdog could not switch it off. Pull its power plug" in capfd.readouterr().err


def test_a_modem_line_that_does_not_exist_is_no_success(echo: Echo, capfd: pytest.CaptureFixture[str]) -> None:
    dog = Watchdog()
    dog.arm(echo.plan(steps=[Step(b"PING", wait_s=0.05), Step(line="dtr")], unsure="its voltage stays"))
    dog.release()
    until("it has acted", lambda: echo.heard >= 1)
    assert "NOT CONTROLLABLE" in capfd.readouterr().err


def test_signals_meant_for_the_miner_do_not_end_it(echo: Echo) -> None:
    dog = Watchdog()
    dog.arm(echo.plan())
    assert dog.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(dog.pid, number)
    assert os.getsid(dog.pid) != os.getsid(0)
    time.sleep(0.2)
    assert dog.alive
    dog.release()
    assert echo.heard == 1


def test_no_port_no_watchdog(tmp_path: Path) -> None:
    dog = Watchdog()
    with pytest.raises(WatchdogError, match="cannot hold the port: No such file"):
        dog.arm(OffPlan("thing", str(tmp_path / "none"), []))
    dog.dismiss()


def test_a_bare_board_pulled_before_its_watchdog_holds_it_is_waited_for(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with EmulatedBoard(EmulatedChain(MODELS["bm1370"], 1, 8), link) as emulated:
        board = make_board(str(link), parse_board('[chips]\nmodel = "bm1370"\n', "here", "shelf"))
        power = board.power
        assert power is not None
        arm = power.chips_running

        def pulled(frames: bytes) -> None:
            power.chips_running = arm  # type: ignore[method-assign]
            emulated.unplug()
            arm(frames)

        power.chips_running = pulled  # type: ignore[method-assign]
        with pytest.raises(PortGone):
            board.open()
        assert not board.connected
        emulated.plug_in()
        assert board.reconnect()
        board.close()


@pytest.mark.parametrize("framing", ReplyFraming)
def test_the_plan_of_a_bitaxe_in_every_framing(framing: ReplyFraming, capfd: pytest.CaptureFixture[str]) -> None:
    with EmulatedBitaxe("bitaxe-gamma", 8, framing) as board:
        power = BitaxePower(board_named("bitaxe-gamma"), board.control_port, timing=TIMING)
        port = SerialPort(board.port, 115_200)
        power.power_up(port)
        assert board.core_on
        assert board.reset_high
        power._end_supervision()
        power._watchdog.release()
        assert not board.core_on
        assert not board.reset_high
        assert "switched off by the watchdog" in capfd.readouterr().err
        power.power_down()
        port.close()


def test_a_hanging_miner_finds_its_board_switched_off(capfd: pytest.CaptureFixture[str]) -> None:
    with EmulatedBitaxe("bitaxe-gamma", 8) as board:
        timing = Timing(poll_s=0.05, configure_s=0.01, voltage_s=0.02, reset_s=0.01, reply_s=1.0, silence_s=3.0)
        power = BitaxePower(board_named("bitaxe-gamma"), board.control_port, timing=timing)
        port = SerialPort(board.port, 115_200)
        power.power_up(port)
        with power._lock:  # what supervises hangs
            until("the board is off", lambda: not board.core_on and not board.reset_high)
        until("the fault is known", lambda: power.sensors().fault is not None)
        with pytest.raises(
            BoardFault, match=r"(its watchdog process has ended|voltage went off by itself); the board is off"
        ):
            power.check()
        power.power_down()
        port.close()
        assert "has not been heard of for 3 s" in capfd.readouterr().err


def test_a_port_that_is_no_control_port_is_refused(echo: Echo) -> None:
    power = BitaxePower(board_named("bitaxe-gamma"), echo.port.path, timing=TIMING)
    data = PtyPort()
    data.plug_in()
    port = SerialPort(data.path, 115_200)
    with pytest.raises(PortError, match="does not answer: is it the control port, and a bitaxe-gamma"):
        power.power_up(port)
    port.close()
    data.unplug()
