"""A board as a user describes it in a TOML file (docs/asic.md has an example). Strict: a key that is not known, or a
value of the wrong kind, is an error that names it."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from chain.primitives.errors import UserError
from miner.asic.boards.catalog import board_named
from miner.asic.boards.profile import BoardProfile, Control, ResetLine, check_profile
from miner.asic.boards.safety import SafetyLimits
from miner.asic.chips import chip_named

T = TypeVar("T")
_MOST_CHIPS = 126
_FAN_HEADROOM_C = 12.0  #: of the fan's usual target below the usual throttling


class _Bad(Exception):
    """What is wrong with a value."""


def _number(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Bad("must be a number")
        if not low <= value <= high:
            raise _Bad(f"must be {low:g} to {high:g}")
        return float(value)

    return check


def _count(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Bad(f"must be a whole number, {low} to {high}")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Bad("must be true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 100 or not value.isprintable():
        raise _Bad("must be a short text")
    return value


def _reset_line(value: Any) -> ResetLine | None:
    if value == "none":
        return None
    if value in ("dtr", "rts"):
        return "dtr" if value == "dtr" else "rts"
    raise _Bad('must be "dtr", "rts" or "none"')


_Checks = dict[str, tuple[str, Callable[[Any], Any]]]
#: Table -> key -> (field of BoardProfile, or of its SafetyLimits, and check).
_PROFILE: dict[str, _Checks] = {
    "chips": {
        "model": ("model", lambda value: chip_named(_text(value))),
        "count": ("chips", _count(1, _MOST_CHIPS)),
        "per_domain": ("chips_per_domain", _count(1, _MOST_CHIPS)),
    },
    "port": {"reset_line": ("reset_line", _reset_line), "fast_baud": ("fast_baud", _flag)},
    "target": {"frequency_mhz": ("target_mhz", _number(50, 2000)), "voltage_mv": ("target_mv", _number(300, 2000))},
    "limits": {
        "frequency_mhz": ("highest_mhz", _number(50, 2000)),
        "voltage_min_mv": ("lowest_mv", _number(300, 2000)),
        "voltage_max_mv": ("highest_mv", _number(300, 2000)),
    },
}
_SAFETY: dict[str, _Checks] = {
    "limits": {
        "chip_c": ("chip_cut_off_c", _number(40, 100)),
        "throttle_c": ("chip_throttle_c", _number(35, 95)),
        "regulator_c": ("regulator_cut_off_c", _number(50, 130)),
        "watts": ("watts", _number(1, 10_000)),
        "amps": ("amps", _number(0.1, 1000)),
    },
    "fan": {
        "minimum_percent": ("fan_minimum", _number(0, 100)),
        "target_c": ("fan_target_c", _number(30, 80)),
        "tachometer": ("tachometer", _flag),
    },
}
_NEEDS_CONTROL = frozenset(
    (
        *("target.voltage_mv", "limits.voltage_min_mv", "limits.voltage_max_mv", "limits.chip_c", "limits.throttle_c"),
        *("limits.regulator_c", "limits.watts", "limits.amps"),
        *("fan.minimum_percent", "fan.target_c", "fan.tachometer"),
    )
)


def load_board(path: Path) -> BoardProfile:
    """The board that a file describes. UserError names file, key and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before it
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file") from None
    return parse_board(text, str(path), path.stem)


def parse_board(text: str, where: str, name: str) -> BoardProfile:
    """The board that a TOML text describes; `name`: for a board that does not give its own."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and tables in tables
        raise UserError(f"{where}: no TOML: {error}") from None
    base = _take(document, where, "", "base", lambda value: board_named(_text(value)))
    own_name = _take(document, where, "", "name", _text) or name
    profile = base or BoardProfile(name=own_name, title=own_name, model=None)
    profile = dataclasses.replace(profile, name=own_name, title=f"{own_name}, as {where} describes it")
    changes: dict[str, Any] = {}
    safety: dict[str, Any] = {}
    for table, keys in sorted(document.items()):
        if table in ("name", "base"):
            continue
        if table not in _PROFILE and table not in _SAFETY:
            known = ", ".join(["name", "base", *sorted({*_PROFILE, *_SAFETY})])
            raise UserError(f"{where}: {table!r} means nothing here; known are {known}")
        if not isinstance(keys, dict):
            raise UserError(f"{where}: {table!r} must be a table: [{table}]")
        checks = {**_PROFILE.get(table, {}), **_SAFETY.get(table, {})}
        for key in keys:
            if key not in checks:
                raise UserError(f"{where}: {table}.{key} means nothing here; known are {', '.join(sorted(checks))}")
            if profile.control is not Control.NONE and f"{table}.{key}" == "port.reset_line":
                raise UserError(
                    f"{where}: port.reset_line: a {profile.name} is reset through its control port: leave it out"
                )
            if profile.regulator is None and f"{table}.{key}" in _NEEDS_CONTROL:
                raise UserError(
                    f"{where}: {table}.{key} needs a control channel, which this board has not: leave it out, or give"
                    ' the board it is like, base = "bitaxe-gamma"'
                )
            field, check = checks[key]
            value = _take(keys, where, f"{table}.", key, check)
            (changes if table in _PROFILE and key in _PROFILE[table] else safety)[field] = value
    if base is None and "model" not in changes:
        raise UserError(f'{where}: chips.model is missing: which chip, as in model = "bm1370"')
    if base is not None and base.model is not None and changes.get("model", base.model) is not base.model:
        raise UserError(f"{where}: chips.model: a {base.name} has {base.model.name}")
    limits = dataclasses.replace(profile.limits, **safety)
    if "chip_throttle_c" not in safety and limits.chip_throttle_c >= limits.chip_cut_off_c:
        limits = dataclasses.replace(limits, chip_throttle_c=limits.chip_cut_off_c - 5)
    if limits.chip_throttle_c >= limits.chip_cut_off_c:
        raise UserError(f"{where}: limits.throttle_c must be below limits.chip_c ({limits.chip_cut_off_c:g})")
    if "fan_target_c" in safety and limits.fan_target_c >= limits.chip_throttle_c:
        raise UserError(
            f"{where}: fan.target_c must be below limits.throttle_c ({limits.chip_throttle_c:g}), or the fan rests"
            " while heat slows the chips down"
        )
    profile = dataclasses.replace(profile, limits=_completed(limits, safety), **changes)
    try:
        check_profile(profile)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return profile


def _completed(limits: SafetyLimits, given: Collection[str]) -> SafetyLimits:
    """What follows from limits lower than usual, where it is not `given`: at what the regulator slows the chips down,
    and a fan that aims below the temperature at which they are slowed down."""
    aim = limits.chip_throttle_c - _FAN_HEADROOM_C
    return dataclasses.replace(
        limits,
        chip_resume_c=limits.chip_throttle_c - 5,
        regulator_throttle_c=min(limits.regulator_throttle_c, limits.regulator_cut_off_c - 5),
        fan_target_c=limits.fan_target_c if "fan_target_c" in given else min(limits.fan_target_c, aim),
    )


def _take(table: dict[str, Any], where: str, prefix: str, key: str, check: Callable[[Any], T]) -> T | None:
    if key not in table:
        return None
    try:
        return check(table[key])
    except _Bad as error:
        raise UserError(f"{where}: {prefix}{key} {error}, not {table[key]!r}") from None
    except UserError as error:
        raise UserError(f"{where}: {prefix}{key}: {error}") from None
