"""From what the user says about a board to a Board that can be opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.board import Board
from miner.asic.boards.bare import BarePower
from miner.asic.boards.bitaxe import BitaxePower, Timing
from miner.asic.boards.catalog import board_named
from miner.asic.boards.description import load_board
from miner.asic.boards.power import BoardPower
from miner.asic.boards.profile import BoardProfile, Control
from miner.asic.chips import chip_named, driver_for


def board_profile(text: str) -> BoardProfile:
    """The board of a name, or of a TOML file; UserError."""
    if text.endswith(".toml") or "/" in text:
        return load_board(Path(text))
    return board_named(text)


def check_frequency(model: ChipModel, frequency_mhz: float) -> None:
    """UserError unless the clock is within what the chip is known to run at."""
    objection = model.clock_objection(frequency_mhz)
    if objection is not None:
        raise UserError(objection)


def make_board(
    port: str,
    profile: BoardProfile | None = None,
    model_name: str | None = None,
    options: DriverOptions | None = None,
    timing: Timing | None = None,
) -> Board:
    """A board, not open yet.

    `port`: DATA, or DATA,CONTROL; `profile`: None for a chain on a port whose supply is somebody else's business;
    `options`: where the profile says more (chips, clock), that is added. UserError where these do not fit together.
    """
    options = options or DriverOptions()
    data, comma, control = port.partition(",")
    named = chip_named(model_name) if model_name is not None else None
    if profile is None:
        if comma:
            raise UserError(f"--port {port}: a control port is used only with the --board that has it")
        if named is not None and options.frequency_mhz is not None:
            check_frequency(named, options.frequency_mhz)
        return Board(data, driver=driver_for(named, options))
    if profile.model is not None and named is not None and profile.model is not named:
        raise UserError(f"--model {named.name}: a {profile.name} has {profile.model.name}")
    model = profile.model or named
    if options.frequency_mhz is not None:
        low, high = profile.clock_limits_mhz
        if not low <= options.frequency_mhz <= high:
            raise UserError(f"{profile.name} runs at {low:g} to {high:g} MHz, not at {options.frequency_mhz:g}")
    options = replaced(options, profile)
    power: BoardPower
    if profile.control is Control.BITAXE_RAW:
        power = BitaxePower(profile, control or None, options.frequency_mhz, timing)
    elif comma:
        raise UserError(f"--port {port}: {profile.name} has no control port")
    else:
        power = BarePower(profile)
    return Board(data, driver=driver_for(model, options), power=power, profile=profile)


def replaced(options: DriverOptions, profile: BoardProfile) -> DriverOptions:
    """The options with what the board's profile says."""
    return replace(
        options,
        chips=options.chips if options.chips is not None else profile.chips,
        chips_per_domain=profile.chips_per_domain,
        fast_baud=options.fast_baud and profile.fast_baud,
        fast_rate=options.fast_rate or profile.fast_rate,
        frequency_mhz=profile.clock_mhz(options.frequency_mhz),
        cut_off_c=profile.limits.chip_cut_off_c,
    )
