"""What can be emulated, by the name that `pickaxe asic emulate` takes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.errors import UserError
from miner.asic.bm13xx.models import MODELS
from miner.asic.chips import CHIPS
from miner.asic.emulator.avalon import EmulatedAvalon
from miner.asic.emulator.bitaxe import KINDS, EmulatedBitaxe, ReplyFraming
from miner.asic.emulator.board import ChainLike, EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.faults import Faults
from miner.asic.emulator.gekko import EmulatedGekkoChain
from miner.asic.emulator.icarus import KINDS as ICARUS_KINDS
from miner.asic.emulator.icarus import EmulatedIcarus
from miner.asic.gekko.models import GEKKO_MODELS

GEKKO_BOARDS = {
    "gekko-compac": ("bm1384", 1),
    "gekko-2pac": ("bm1384", 2),
    "gekko-newpac": ("bm1387", 2),
    "gekko-r606": ("bm1387", 12),
    "gekko-compacf": ("bm1397", 1),
    "gekko-r909": ("bm1397", 6),
}
AVALON_ROWS = {"avalon": 32, "avalon-24": 24}
_AFFORDABLE_RATE = 40_000  #: hashes a second that cost about a fifth of a core


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulationOptions:
    """How. `chips`: None for as many as the board has, one where that is open; `zero_bits`: None for what this machine
    can afford; `framing`, `speed`: of boards with a control port (see EmulatedBitaxe); `silicon`: see EmulatedChip."""

    chips: int | None = None
    zero_bits: int | None = None
    link: Path | None = None
    latency_s: float = 0.0
    faults: Faults | None = None
    framing: ReplyFraming = ReplyFraming.TOTAL
    speed: float = 1.0
    silicon: float | None = None


@dataclass(frozen=True, slots=True)
class Emulation:
    """A board that is not plugged in yet. `advice`: options for `pickaxe mine` besides the port."""

    board: EmulatedBoard
    title: str
    zero_bits: int
    advice: str


def emulation(name: str, options: EmulationOptions) -> Emulation:
    """The emulation of a chip's chain or of a board; UserError lists the names."""
    name = name.lower()
    _check_options(name, options)
    faults = options.faults or Faults(random.Random(0))
    if name in KINDS:
        kind = KINDS[name]
        if options.chips not in (None, kind.chips):
            raise UserError(f"a {name} has {kind.chips} chip{'s' if kind.chips > 1 else ''}: leave --chips out")
        model = MODELS[kind.model]
        scale = _scale(options, model.nominal_hash_rate(model.default_mhz) * kind.chips)
        bitaxe = EmulatedBitaxe(name, scale, options.framing, options.link, options.speed)
        bitaxe.chain.faults, bitaxe.chain.latency_s = faults, options.latency_s
        _make_of(options.silicon, bitaxe.chain)
        return Emulation(bitaxe, f"{name} with {kind.chips} × {model.name}", scale, f"--board {name}")
    if name in MODELS:
        model, chips = MODELS[name], options.chips or 1
        scale = _scale(options, model.nominal_hash_rate(model.default_mhz) * chips)
        chain = EmulatedChain(model, chips, scale, latency_s=options.latency_s, faults=faults)
        _make_of(options.silicon, chain)
        return Emulation(EmulatedBoard(chain, options.link), f"{chips} × {model.name}", scale, "")
    if name in ICARUS_KINDS:
        kind_of_icarus = ICARUS_KINDS[name]
        scale = _scale(options, 1 / kind_of_icarus.seconds_per_hash)
        icarus = EmulatedIcarus(kind_of_icarus, scale, options.latency_s, faults)
        return Emulation(EmulatedBoard(icarus, options.link), name, scale, f"--board {name}")
    if name in AVALON_ROWS:
        rows = AVALON_ROWS[name]
        if options.chips not in (None, rows):
            raise UserError(f"{name} has {rows} rows of chips: leave --chips out")
        scale = _scale(options, rows * 282e6 * 10)
        avalon = EmulatedAvalon(rows, scale, options.latency_s, faults)
        return Emulation(EmulatedBoard(avalon, options.link), f"Avalon with {rows} rows", scale, f"--board {name}")
    known = ", ".join([*MODELS, *GEKKO_MODELS, *KINDS, *GEKKO_BOARDS, *ICARUS_KINDS, *AVALON_ROWS])
    if name in GEKKO_BOARDS or name in GEKKO_MODELS:
        chip_name, on_board = GEKKO_BOARDS.get(name, (name, None))
        if on_board is not None and options.chips not in (None, on_board):
            raise UserError(f"a {name} has {on_board} chip{'s' if on_board > 1 else ''}: leave --chips out")
        chips = on_board or options.chips or 1
        model = CHIPS[chip_name]
        scale = _scale(options, model.nominal_hash_rate(model.default_mhz) * chips)
        advice = f"--board {name}" if name in GEKKO_BOARDS else f"--model {name}"
        board = EmulatedBoard(_gekko_chain(chip_name, chips, scale, options, faults), options.link)
        return Emulation(board, f"{name} with {chips} × {chip_name}", scale, advice)
    raise UserError(f"nothing called {name!r} can be emulated; known are {known}")


def _gekko_chain(name: str, chips: int, scale: int, options: EmulationOptions, faults: Faults) -> ChainLike:
    if name in MODELS:
        chain = EmulatedChain(MODELS[name], chips, scale, latency_s=options.latency_s, faults=faults)
        _make_of(options.silicon, chain)
        return chain
    return EmulatedGekkoChain(name, chips, scale, faults, options.latency_s)


def _make_of(silicon: float | None, chain: EmulatedChain) -> None:
    for chip in chain.chips:
        chip.silicon = silicon


def _check_options(name: str, options: EmulationOptions) -> None:
    """UserError for an option that would change nothing."""
    if name not in KINDS and options.framing is not ReplyFraming.TOTAL:
        raise UserError(f"--framing is of a control port, and {name} has none")
    if name not in KINDS and options.speed != 1.0:
        raise UserError(f"--speed is of a board with sensors, such as bitaxe-gamma, and not of {name}")
    chip = GEKKO_BOARDS[name][0] if name in GEKKO_BOARDS else name
    if options.silicon is not None and name not in KINDS and chip not in MODELS:
        raise UserError(f"--silicon is of BM13xx chips, and {name} has none")
    if options.chips not in (None, 1) and name in ICARUS_KINDS:
        raise UserError(f"a board called {name} is emulated as a whole: leave --chips out")


def _scale(options: EmulationOptions, hash_rate: float) -> int:
    if options.zero_bits is not None:
        return options.zero_bits
    zero_bits = 32
    while zero_bits > 0 and hash_rate / (1 << 32 - zero_bits) > _AFFORDABLE_RATE:
        zero_bits -= 1
    return zero_bits
