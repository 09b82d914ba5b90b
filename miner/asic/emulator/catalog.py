"""What can be emulated, by the name that `pickaxe asic emulate` takes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.errors import UserError
from miner.asic.bm13xx.models import MODELS
from miner.asic.emulator.bitaxe import KINDS, EmulatedBitaxe, ReplyFraming
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.faults import Faults

_AFFORDABLE_RATE = 40_000  #: hashes a second that cost about a fifth of a core


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulationOptions:
    """How. `chips`: None for as many as the board has, one where that is open; `zero_bits`: None for what this machine
    can afford; `framing`, `speed`: of boards with a control port (see EmulatedBitaxe)."""

    chips: int | None = None
    zero_bits: int | None = None
    link: Path | None = None
    latency_s: float = 0.0
    faults: Faults | None = None
    framing: ReplyFraming = ReplyFraming.TOTAL
    speed: float = 1.0


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
    faults = options.faults or Faults(random.Random(0))
    if name in KINDS:
        kind = KINDS[name]
        if options.chips not in (None, kind.chips):
            raise UserError(f"a {name} has {kind.chips} chip{'s' if kind.chips > 1 else ''}: leave --chips out")
        model = MODELS[kind.model]
        scale = _scale(options, model.nominal_hash_rate(model.default_mhz) * kind.chips)
        bitaxe = EmulatedBitaxe(name, scale, options.framing, options.link, options.speed)
        bitaxe.chain.faults, bitaxe.chain.latency_s = faults, options.latency_s
        return Emulation(bitaxe, f"{name} with {kind.chips} × {model.name}", scale, f"--board {name}")
    if name in MODELS:
        model, chips = MODELS[name], options.chips or 1
        scale = _scale(options, model.nominal_hash_rate(model.default_mhz) * chips)
        chain = EmulatedChain(model, chips, scale, latency_s=options.latency_s, faults=faults)
        return Emulation(EmulatedBoard(chain, options.link), f"{chips} × {model.name}", scale, "")
    raise UserError(f"nothing called {name!r} can be emulated; known are {', '.join([*MODELS, *KINDS])}")


def _scale(options: EmulationOptions, hash_rate: float) -> int:
    if options.zero_bits is not None:
        return options.zero_bits
    zero_bits = 32
    while zero_bits > 0 and hash_rate / (1 << 32 - zero_bits) > _AFFORDABLE_RATE:
        zero_bits -= 1
    return zero_bits
