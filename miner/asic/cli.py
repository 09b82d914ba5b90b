"""`pickaxe asic`: find, look at and test serial boards, and emulate them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from chain.primitives.errors import UserError
from miner.cli.numbers import Number

_MODEL_HELP = "Chip on the board; found out if left out."
_BOARD_HELP = (
    "Which board it is: a name that `asic boards` lists, or a TOML file. Its supply is switched on and watched."
)
_GOAL_HELP = "max, a hash rate (1.1TH/s), watts (15W), or an efficiency (16J/TH)."
_SCALE_HELP = (
    "Leading zero bits of a difficulty-1 hash: 32 on real chips, what `asic emulate` printed on emulated ones."
)


@click.group()
def asic() -> None:
    """Serial ASIC boards: find, inspect, test and emulate them."""


@asic.command()
def scan() -> None:
    """List USB serial ports and the boards known by their identity. Nothing is sent."""
    from miner.asic.transport import control_port_of, control_ports
    from miner.asic.transport import scan as scan_ports

    ports = scan_ports()
    if not ports:
        click.echo("no USB serial port; is the board plugged in, and its cable one for data?")
        return
    controls = control_ports(ports)
    table = Table("port", "USB", "board", "role")
    for port in ports:
        board = "unknown"
        if port.known is not None:
            board = f"{port.known.name}, shared with other devices" if port.known.shared else port.known.title
        control = control_port_of(port.path, ports)
        role = f"data, control is {control}" if control is not None else ""
        if port.path in controls:
            role = "control"
        table.add_row(port.path, port.description, board, role)
    Console().print(table)


@asic.command()
def boards() -> None:
    """List the boards known by name; those with a control channel have their supply, fan and sensors looked after."""
    from miner.asic.boards.catalog import BOARDS
    from miner.asic.families import OLDER_BOARDS

    table = Table("name", "board", "clock", "control")
    for name, profile in BOARDS.items():
        low, high = profile.clock_limits_mhz
        clock = f"{profile.clock_mhz() or 0:g} MHz, {low:g} to {high:g}"
        table.add_row(name, profile.title, clock, profile.control.value)
    for name, title in OLDER_BOARDS.items():
        table.add_row(name, title, "", "")
    Console().print(table)


@asic.command()
@click.argument("port")
@click.option("--model", help=_MODEL_HELP)
@click.option("--board", "board_name", metavar="NAME|FILE.toml", help=_BOARD_HELP)
def info(port: str, model: str | None, board_name: str | None) -> None:
    """Say what chips are behind PORT (DATA or DATA,CONTROL) and what their registers hold. Changes nothing, but for
    the power of a --board, which is off afterwards."""
    from miner.asic.bm13xx.driver import DriverOptions
    from miner.asic.bm13xx.events import RegisterRead
    from miner.asic.bm13xx.registers import REGISTERS
    from miner.asic.families import OLDER_BOARDS
    from miner.asic.older_boards import identify_board
    from miner.asic.self_test import describe_sensors, open_board, pump_for, wait_until_up

    if board_name is not None and board_name.lower() in OLDER_BOARDS:
        click.echo(identify_board(port, board_name))
        return
    board = open_board(port, model, DriverOptions(identify_only=True, attempts=1), board_name)
    try:
        up = wait_until_up(board)
        click.echo(f"{up.model.name}: {up.chips} chip{'s' if up.chips != 1 else ''}, {up.baud} baud")
        sensors = board.report().sensors
        if sensors is not None and (shown := describe_sensors(sensors)):
            click.echo(f"{board.report().board}: {shown}")
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
@click.option("--frequency", type=Number(50, 700), metavar="MHZ", help="Clock; the chip's default.")
@click.option("--seconds", type=Number(1, 3600), default=30.0, show_default=True, help="How long to hash.")
@click.option("--zero-bits", type=click.IntRange(0, 32), default=32, show_default=True, help=_SCALE_HELP)
@click.option("--board", "board_name", metavar="NAME|FILE.toml", help=_BOARD_HELP)
def test(
    port: str,
    model: str | None,
    chips: int | None,
    frequency: float | None,
    seconds: float,
    zero_bits: int,
    board_name: str | None,
) -> None:
    """Start the chain behind PORT, hash on jobs of its own, and judge every chip. Exit status 1 if one fails."""
    from miner.asic.families import OLDER_BOARDS
    from miner.asic.older_boards import judge_board
    from miner.asic.self_test import run_self_test

    if board_name is not None and board_name.lower() in OLDER_BOARDS:
        judge_board(port, board_name, frequency, seconds, zero_bits, click.echo)
        click.echo("self-test passed")
        return
    report = run_self_test(port, model, chips, frequency, seconds, zero_bits, click.echo, board_name)
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
@click.argument("port")
@click.option("--for", "goal_text", default="max", show_default=True, metavar="GOAL", help=_GOAL_HELP)
@click.option("--model", help=_MODEL_HELP)
@click.option("--board", "board_name", metavar="NAME|FILE.toml", help=_BOARD_HELP)
@click.option("--seconds", type=Number(1, 3600), default=60.0, show_default=True, help="For each reading.")
@click.option("--settle", type=Number(0, 600), default=10.0, show_default=True, help="Seconds before it.")
@click.option("--errors", type=Number(0, 50), default=2.0, show_default=True, help="Percent of wrong nonces allowed.")
@click.option("--zero-bits", type=click.IntRange(0, 32), default=32, show_default=True, help=_SCALE_HELP)
def tune(
    port: str,
    goal_text: str,
    model: str | None,
    board_name: str | None,
    seconds: float,
    settle: float,
    errors: float,
    zero_bits: int,
) -> None:
    """Find the clock at which the board on PORT serves a GOAL, and keep it for `pickaxe mine --tune GOAL`.

    Hashes jobs of its own meanwhile. Exit status 1 when the goal is not within reach.
    """
    from miner.asic.tuning.auto import TuneOptions
    from miner.asic.tuning.command import tune_board
    from miner.asic.tuning.goal import parse_goal

    options = TuneOptions(parse_goal(goal_text), seconds, settle, errors / 100, fresh=True)
    decision = tune_board(port, model, board_name, options, zero_bits, click.echo)
    if not decision.reached:
        raise UserError(f"{decision.reason}; it runs at {decision.setting.mhz:g} MHz from now on")


@asic.command()
@click.argument("what", metavar="CHIP|BOARD", required=False)
@click.option("--board", "board_name", metavar="NAME", help="The same as naming a board.")
@click.option("--chips", type=click.IntRange(1, 126), help="Length of the chain; 1, or what the board has.")
@click.option("--zero-bits", type=click.IntRange(0, 32), help="Scale; by default what this machine can hash in time.")
@click.option("--link", type=click.Path(path_type=Path), help="Name for the port, kept when it is plugged in again.")
@click.option("--latency", type=Number(0, 5), default=0.0, metavar="SECONDS", help="Delay of each reply.")
@click.option("--drop", type=Number(0, 1), default=0.0, help="Chance that a byte to the host is lost.")
@click.option("--flip", type=Number(0, 1), default=0.0, help="Chance that a byte to the host is damaged.")
@click.option("--duplicate", type=Number(0, 1), default=0.0, help="Chance that a byte comes twice.")
@click.option("--seed", type=int, default=0, help="Of the faults' randomness.")
@click.option(
    "--framing", type=click.Choice(["v0", "total", "v1"]), default="total", help="How the control port frames replies."
)
@click.option("--speed", type=Number(0.1, 1000), default=1.0, help="How much faster temperatures move.")
@click.option(
    "--silicon",
    type=Number(0.1, 10),
    metavar="FACTOR",
    help="Errors above FACTOR times the usual clock.",
)
def emulate(
    what: str | None,
    board_name: str | None,
    chips: int | None,
    zero_bits: int | None,
    link: Path | None,
    latency: float,
    drop: float,
    flip: float,
    duplicate: float,
    seed: int,
    framing: str,
    speed: float,
    silicon: float | None,
) -> None:
    """Emulate a chain of a CHIP (bm1370, …) or a BOARD (bitaxe-gamma, …) on pseudo-terminals until interrupted.

    Reads commands from standard input: `help` lists them.
    """
    import random

    from miner.asic.emulator.bitaxe import ReplyFraming
    from miner.asic.emulator.catalog import EmulationOptions, emulation
    from miner.asic.emulator.console import EmulatorConsole
    from miner.asic.emulator.faults import Faults

    if (what is None) == (board_name is None):
        raise UserError("say what to emulate: a chip such as bm1370, or a board such as bitaxe-gamma")
    options = EmulationOptions(
        chips=chips,
        zero_bits=zero_bits,
        link=link,
        latency_s=latency,
        faults=Faults(random.Random(seed), drop_rate=drop, flip_rate=flip, duplicate_rate=duplicate),
        framing=ReplyFraming(framing),
        speed=speed,
        silicon=silicon,
    )
    emulated = emulation(board_name or what or "", options)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with emulated.board as board:
        scale = emulated.zero_bits
        click.echo(f"{emulated.title} on {board.ports}, difficulty 1 scaled to {scale} zero bits")
        advice = f"{emulated.advice} --port {board.ports} --zero-bits {scale}".strip()
        click.echo(f"mine on it: pickaxe mine --device asic {advice} --address …")
        console = EmulatorConsole(board, stop, click.echo)
        threading.Thread(target=console.read_commands, args=(sys.stdin,), name="commands", daemon=True).start()
        stop.wait()
    chain = emulated.board.chain
    click.echo(f"{chain.reported} nonces reported, {chain.bad_host_frames} frames of the host were damaged")
