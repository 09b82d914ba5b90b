"""The devices of a run, as the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chain.primitives.errors import UserError
from miner.config import AsicSettings, Settings

if TYPE_CHECKING:
    from miner.device import HashDevice

_BOARD_OPTIONS = {
    "ports": "--port",
    "boards": "--board",
    "model": "--model",
    "frequency": "--frequency",
    "tune": "--tune",
}


def make_devices(settings: Settings, given: frozenset[str]) -> tuple[Sequence[HashDevice], list[str]]:
    """The devices, and remarks on what was left out of those that were not asked for by kind. UserError where options
    on the command line (`given`) do not fit the kinds, or nothing is left."""
    kinds = set(settings.devices)
    _check_fit(kinds, given)
    devices: list[HashDevice] = []
    remarks: list[str] = []
    if kinds & {"cpu", "auto"}:
        from miner.cpu import cpu_devices

        devices += cpu_devices(settings.cpu.threads, yielding=settings.cpu.idle)
    if kinds & {"gpu", "auto"}:
        from miner.gpu import gpu_devices

        try:
            devices += gpu_devices(settings.gpu.use)
        except UserError as error:
            if "gpu" in kinds or settings.gpu.use:
                raise
            remarks.append(f"without graphics cards: {error}")
    if kinds & {"asic", "auto"}:
        devices += _boards(settings, "asic" in kinds, remarks)
    return devices, remarks


def _check_fit(kinds: set[str], given: frozenset[str]) -> None:
    if not kinds & {"asic", "auto"} and given & _BOARD_OPTIONS.keys():
        raise UserError(f"{', '.join(_BOARD_OPTIONS.values())} are for boards: add --device asic")
    if not kinds & {"gpu", "auto"} and "gpus" in given:
        raise UserError("--gpu is for graphics cards: add --device gpu")
    if not kinds & {"cpu", "auto"}:
        for name in ("threads", "idle"):
            if name in given:
                raise UserError(f"--{name} is for the processor: leave it out, or add --device cpu")


def _boards(settings: Settings, wanted: bool, remarks: list[str]) -> Sequence[HashDevice]:
    asic = settings.asic
    ports: Sequence[str] = asic.ports
    boards: Sequence[str] = asic.boards
    if not ports:
        if wanted:
            raise UserError("say where the board is: --port /dev/ttyACM0 (`pickaxe asic scan` lists the ports)")
        ports, boards = _found_boards(asic, remarks)
        if not ports:
            return []
    from miner.asic.families import serial_devices
    from miner.asic.tuning.auto import TuneOptions
    from miner.asic.tuning.goal import parse_goal

    tune = TuneOptions(parse_goal(asic.tune)) if asic.tune is not None else None
    return serial_devices(ports, asic.model, asic.frequency_mhz, asic.zero_bits, boards, tune)


def _found_boards(asic: AsicSettings, remarks: list[str]) -> tuple[list[str], Sequence[str]]:
    """The ports behind which a board surely is, and what --board calls each, or what the user does. A control port is
    none, and a board that must be powered up is not touched before somebody has said which it is."""
    from miner.asic.transport import control_ports, scan

    found = scan()
    controls = control_ports(found)
    known = [(port.path, port.known) for port in found if port.known is not None and port.path not in controls]
    unsure = [path for path, identity in known if identity.shared]
    if unsure:
        remarks.append(f"perhaps boards, perhaps not: name them with --port: {', '.join(unsure)}")
    driven = [(path, identity) for path, identity in known if identity.driven and not identity.shared]
    if asic.boards or asic.model is not None:
        return [path for path, _ in driven], asic.boards
    for path, identity in driven:
        if identity.board is None:
            remarks.append(f"{identity.name} on {path}: say which it is, --port {path} --board NAME")
    named = [(path, identity.board) for path, identity in driven if identity.board is not None]
    return [path for path, _ in named], [board for _, board in named]
