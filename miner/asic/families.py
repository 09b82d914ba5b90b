"""Every kind of serial board under one roof: a board's name says which driver its port is given to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from chain.primitives.errors import UserError
from miner.asic.avalon.device import avalon_device
from miner.asic.device import asic_devices
from miner.asic.icarus.device import icarus_device
from miner.asic.icarus.models import ICARUS_MODELS
from miner.asic.tuning.auto import TuneOptions
from miner.device import HashDevice

AVALON_ROWS = {"avalon": 32, "avalon-24": 24}  #: rows of ten chips, by the number of modules: four or three
#: Boards of the older families, by the name that --board takes; all others have BM13xx chips.
OLDER_BOARDS = {
    "icarus": "Icarus type, which one is found out (an AntMiner U3 must be named)",
    **{name: model.title for name, model in ICARUS_MODELS.items() if name != "icarus"},
    **{name: f"Canaan Avalon, first generation, {rows} rows" for name, rows in AVALON_ROWS.items()},
}


def serial_devices(
    ports: Sequence[str],
    model_name: str | None = None,
    frequency_mhz: float | None = None,
    zero_bits: int = 32,
    boards: Sequence[str] = (),
    tune: TuneOptions | None = None,
) -> list[HashDevice]:
    """One device per port, named asic0, asic1, …

    `ports`: DATA or DATA,CONTROL each; `boards`: names or TOML files, one for all ports or one for each, none where
    only BM13xx chips are to be driven; `model_name`: of such chips; `zero_bits`: below 32 for emulated boards; `tune`:
    look for the clock that serves a goal, on boards with BM13xx chips.
    UserError for what does not exist or does not fit together.
    """
    if len(boards) > 1 and len(boards) != len(ports):
        raise UserError(f"{len(ports)} ports, {len(boards)} boards: give one --board for all, or one for each --port")
    older = {name for name in boards if name.lower() in OLDER_BOARDS}
    if not older:
        return list(asic_devices(ports, model_name, frequency_mhz, zero_bits, boards, tune))
    if tune is not None and all(name.lower() in OLDER_BOARDS for name in boards):
        raise UserError(f"--tune is for BM13xx chips: leave it out with --board {min(older)}")
    if model_name is not None:
        raise UserError(f"--model is for BM13xx chips: leave it out with --board {min(older)}")
    named = boards if len(boards) == len(ports) else list(repeat(boards[0], len(ports)))
    devices: list[HashDevice] = []
    for index, (port, board) in enumerate(zip(ports, named, strict=True)):
        name = f"asic{index}"
        if board.lower() in AVALON_ROWS:
            rows = AVALON_ROWS[board.lower()]
            devices.append(avalon_device(name, port, frequency_mhz, rows, zero_bits))
        elif board.lower() in OLDER_BOARDS:
            devices.append(icarus_device(name, port, board, frequency_mhz, zero_bits=zero_bits))
        else:
            (device,) = asic_devices([port], None, frequency_mhz, zero_bits, [board], tune)
            device.name = name
            devices.append(device)
    return devices
