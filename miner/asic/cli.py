"""`pickaxe asic`: find, look at and test serial boards, and emulate them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from chain.primitives.errors import UserError

if TYPE_CHECKING:
    from miner.asic.emulator.board import EmulatedBoard

_MODEL_HELP = "Chip on the board; found out if left out."
_SCALE_HELP = (
    "Leading zero bits of a difficulty-1 hash: 32 on real chips, what `asic emulate` printed on emulated ones."
)


@click.group()
def asic() -> None:
    """Serial ASIC boards: find, inspect, test and emulate them."""


@asic.command()
def scan() -> None:
    """List USB serial ports and the boards known by their identity. Nothing is sent."""
    from miner.asic.transport import scan as scan_ports

    ports = scan_ports()
    if not ports:
        click.echo("no USB serial port; is the board plugged in, and its cable one for data?")
        return
    table = Table("port", "USB", "board")
    for port in ports:
        board = "unknown"
        if port.known is not None:
            board = f"{port.known.name}, shared with other devices" if port.known.shared else port.known.name
        table.add_row(port.path, port.description, board)
    Console().print(table)


@asic.command()
@click.argument("port")
@click.option("--model", help=_MODEL_HELP)
def info(port: str, model: str | None) -> None:
    """Say what chips are behind PORT and what their registers hold. Changes nothing."""
    from miner.asic.bm13xx.driver import DriverOptions
    from miner.asic.bm13xx.events import RegisterRead
    from miner.asic.bm13xx.registers import REGISTERS
    from miner.asic.self_test import open_board, pump_for, wait_until_up

    board = open_board(port, model, DriverOptions(identify_only=True, attempts=1))
    try:
        up = wait_until_up(board)
        click.echo(f"{up.model.name}: {up.chips} chip{'s' if up.chips != 1 else ''}, {up.baud} baud")
        table = Table("register", "name", "value", "meaning")
        for register, known in REGISTERS.items():
            board.driver.request_register(register, time.monotonic())
            values = []
            for event in pump_for(board, 0.1 + 0.002 * up.chips):
                if isinstance(event, RegisterRead) and event.register == register:
                    values.append(f"{event.value:08X}")
            if values:
                shown = values[0] if len(set(values)) == 1 else " ".join(values)
                table.add_row(f"0x{register:02X}", known.name, shown, known.meaning)
        Console().print(table)
    finally:
        board.close()


@asic.command()
@click.argument("port")
@click.option("--model", help=_MODEL_HELP)
@click.option("--chips", type=click.IntRange(1, 126), help="How many there must be.")
@click.option("--frequency", type=click.FloatRange(50, 700), metavar="MHZ", help="Clock; the chip's default.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=30.0, show_default=True, help="How long to hash.")
@click.option("--zero-bits", type=click.IntRange(0, 32), default=32, show_default=True, help=_SCALE_HELP)
def test(
    port: str, model: str | None, chips: int | None, frequency: float | None, seconds: float, zero_bits: int
) -> None:
    """Start the chain behind PORT, hash on jobs of its own, and judge every chip. Exit status 1 if one fails."""
    from miner.asic.self_test import run_self_test

    report = run_self_test(port, model, chips, frequency, seconds, zero_bits, click.echo)
    table = Table("chip", "good", "wrong", "repeated", "rate", "of nominal", "verdict")
    for line in report.chips:
        table.add_row(
            str(line.index),
            *(str(count) for count in (line.good, line.wrong, line.duplicate)),
            line.rate_text,
            f"{line.share * 100:.0f} %",
            line.verdict,
        )
    Console().print(table)
    if report.failures:
        raise UserError("self-test failed: " + "; ".join(report.failures))
    click.echo("self-test passed")


@asic.command()
@click.argument("model")
@click.option("--chips", type=click.IntRange(1, 126), default=1, show_default=True, help="Length of the chain.")
@click.option("--zero-bits", type=click.IntRange(0, 32), help="Scale; by default what this machine can hash in time.")
@click.option("--link", type=click.Path(path_type=Path), help="Name for the port, kept when it is plugged in again.")
@click.option("--latency", type=click.FloatRange(0, 5), default=0.0, metavar="SECONDS", help="Delay of each reply.")
@click.option("--drop", type=click.FloatRange(0, 1), default=0.0, help="Chance that a byte to the host is lost.")
@click.option("--flip", type=click.FloatRange(0, 1), default=0.0, help="Chance that a byte to the host is damaged.")
@click.option("--duplicate", type=click.FloatRange(0, 1), default=0.0, help="Chance that a byte comes twice.")
@click.option("--seed", type=int, default=0, help="Of the faults' randomness.")
def emulate(
    model: str,
    chips: int,
    zero_bits: int | None,
    link: Path | None,
    latency: float,
    drop: float,
    flip: float,
    duplicate: float,
    seed: int,
) -> None:
    """Emulate a chain of MODEL (bm1370, …) on a pseudo-terminal until interrupted.

    Reads commands from standard input: `help` lists them.
    """
    import random

    from miner.asic.bm13xx.models import model_named
    from miner.asic.emulator.board import EmulatedBoard
    from miner.asic.emulator.chain import EmulatedChain
    from miner.asic.emulator.faults import Faults

    part = model_named(model)
    rate = part.nominal_hash_rate(part.default_mhz) * chips
    scale = zero_bits if zero_bits is not None else _affordable_zero_bits(rate)
    faults = Faults(random.Random(seed), drop_rate=drop, flip_rate=flip, duplicate_rate=duplicate)
    chain = EmulatedChain(part, chips, scale, latency_s=latency, faults=faults)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with EmulatedBoard(chain, link) as board:
        click.echo(f"{chips} × {part.name} on {board.port}, difficulty 1 scaled to {scale} zero bits")
        click.echo(f"mine on it: pickaxe mine --device asic --port {board.port} --zero-bits {scale} --address …")
        console = _EmulatorConsole(board, stop)
        threading.Thread(target=console.read_commands, name="commands", daemon=True).start()
        stop.wait()
    click.echo(f"{chain.reported} nonces reported, {chain.bad_host_frames} frames of the host were damaged")


class _EmulatorConsole:
    """Faults on demand, from standard input."""

    def __init__(self, board: EmulatedBoard, stop: threading.Event) -> None:
        self._board = board
        self._stop = stop
        chain, faults = board.chain, board.chain.faults
        self._commands: dict[str, tuple[str, Callable[[list[float]], None]]] = {
            "dead": ("CHIP: it answers no more", lambda a: setattr(chain.chips[int(a[0])], "dead", True)),
            "revive": ("CHIP: it answers again", lambda a: setattr(chain.chips[int(a[0])], "dead", False)),
            "heat": ("CHIP DEGREES: above what its clock explains", self._heat),
            "stuck": ("CHIP: it repeats one nonce", lambda a: setattr(faults, "stuck_chip", int(a[0]))),
            "wrong": ("RATE: share of nonces that are false", lambda a: setattr(faults, "wrong_nonce_rate", a[0])),
            "stale": ("RATE: share of nonces for the job before", lambda a: setattr(faults, "stale_id_rate", a[0])),
            "drop": ("RATE: bytes lost", lambda a: setattr(faults, "drop_rate", a[0])),
            "flip": ("RATE: bytes damaged", lambda a: setattr(faults, "flip_rate", a[0])),
            "duplicate": ("RATE: bytes doubled", lambda a: setattr(faults, "duplicate_rate", a[0])),
            "clear": ("no faults, no dead chips, no heat", lambda _: self._clear()),
            "reset": ("pulse the reset line", lambda _: chain.reset()),
        }

    def read_commands(self) -> None:
        """Until the end of input; what is wrong is said and nothing else happens."""
        for line in sys.stdin:
            words = line.split()
            if words:
                self._obey(words[0], words[1:])
            if self._stop.is_set():
                return

    def _obey(self, name: str, arguments: list[str]) -> None:
        board = self._board
        if name == "quit":
            self._stop.set()
        elif name == "unplug":
            board.unplug()
        elif name == "plug":
            board.plug_in()
            click.echo(f"plugged in: {board.port}")
        elif name == "status":
            with board.lock:
                click.echo(self._status())
        elif name in self._commands:
            try:
                with board.lock:
                    self._commands[name][1]([float(argument) for argument in arguments])
            except (ValueError, IndexError):
                click.echo(f"{name} {self._commands[name][0]}")
        else:
            for known, (text, _) in self._commands.items():
                click.echo(f"  {known} {text}")
            click.echo("  unplug | plug | status | quit")

    def _status(self) -> str:
        chain = self._board.chain
        lines = [f"host at {self._board.host_baud} baud, chips at {chain.actual_baud:.0f}; {chain.reported} nonces"]
        for chip in chain.chips:
            state = "dead" if chip.dead else "hashing" if chip.hashing else "idle"
            lines.append(
                f"chip {chip.index}: address 0x{chip.address:02X}, {chip.frequency_mhz:.2f} MHz,"
                f" {chip.temperature_c:.1f} °C, {chip.core_volts:.3f} V, {state}"
            )
        return "\n".join(lines)

    def _heat(self, arguments: list[float]) -> None:
        self._board.chain.chips[int(arguments[0])].heat_c = arguments[1]

    def _clear(self) -> None:
        self._board.chain.faults.clear()
        for chip in self._board.chain.chips:
            chip.dead, chip.heat_c = False, 0.0


def _affordable_zero_bits(hash_rate: float) -> int:
    """The scale at which a chain of that real rate costs about a fifth of a core."""
    zero_bits = 32
    while zero_bits > 0 and hash_rate / (1 << 32 - zero_bits) > 40_000:
        zero_bits -= 1
    return zero_bits
