"""`pickaxe devices`: what can mine here, and why something cannot."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


@click.command()
def devices() -> None:
    """List what can mine here, and why something cannot."""
    console = Console()
    _processor(console)
    _graphics_cards(console)
    _serial_ports(console)
    _energy(console)


def _processor(console: Console) -> None:
    from miner.cpu.features import host_processor, known_variants, usable_cores, usable_variants
    from miner.cpu.tuner import tuned
    from miner.hashrate import format_rate

    processor = host_processor()
    choice = tuned()
    table = Table("kernel", "lanes", "state")
    usable = usable_variants(processor)
    for variant, need in known_variants(processor):
        if variant not in usable:
            state = f"not usable: this processor lacks {need.words}"
        elif variant == choice.variant:
            state = (
                f"in use, {choice.versions} versions share a message schedule:"
                f" {format_rate(choice.rate)} a core when tuned"
            )
        else:
            state = "usable"
        table.add_row(str(variant), str(variant.width), state)
    _say(console, f"CPU: {processor.name}, {len(usable_cores())} usable cores")
    console.print(table)


def _graphics_cards(console: Console) -> None:
    from miner.gpu import discover

    found = discover()
    _say(console, f"GPU: {sum(device.usable and not device.processor for device in found)} usable")
    table = Table("device", "what", "PCI address", "state")
    for device in found:
        table.add_row(device.name, Text(device.title), device.address or "-", Text(device.note))
    console.print(table)


def _serial_ports(console: Console) -> None:
    from miner.asic.transport import scan

    ports = scan()
    _say(console, "Boards: no USB serial port" if not ports else f"Boards: {len(ports)} USB serial ports")
    if not ports:
        return
    table = Table("port", "USB", "board", "state")
    for port in ports:
        board = "unknown"
        if port.known is not None:
            board = f"{port.known.name}, shared with other devices" if port.known.shared else port.known.title
        table.add_row(Text(port.path), Text(port.description), board, port_state(Path(port.path)))
    console.print(table)


def _energy(console: Console) -> None:
    """The counter of the processor's energy is the one that mostly cannot be read."""
    import time

    from miner.energy.rapl import SensorProblem, open_rapl

    try:
        meter = open_rapl(time.monotonic)
        text = "read from the processor's counters" if meter is not None else "no counters here: --watts cpu=W"
    except SensorProblem as problem:
        text = str(problem)
    _say(console, f"Energy of the CPU: {text}")


def port_state(path: Path) -> str:
    """Whether this user may open a serial port, and if not, what to do."""
    if os.access(path, os.R_OK | os.W_OK):
        return "usable"
    try:
        status = path.stat()
    except OSError as error:
        return f"not usable: {error.strerror}"
    if status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP:
        name = str(status.st_gid)
        with contextlib.suppress(KeyError, ImportError):
            import grp

            name = grp.getgrgid(status.st_gid).gr_name
        if name != "root":
            return f"not usable: permission denied; join its group (sudo usermod -aG {name} $USER) and log in again"
    return (
        "not usable: permission denied; give it to a group with a udev rule"
        ' (SUBSYSTEM=="tty", GROUP="dialout", MODE="0660")'
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
