"""JSON with money in it: amounts leave as literal decimals with eight places and arrive as text, never through binary
floating point."""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal, InvalidOperation
from typing import Any

from chain.primitives.amount import COIN, MAX_MONEY
from node.rpc.errors import RpcError, Text, type_error

JSON = Any

#: Marks number literals inside encoded strings. Drawn at start, so that no client can smuggle one in.
_MARK = secrets.token_hex(8)
_MARKED = re.compile(rf'"{_MARK}([0-9.eE+-]+)"')


class NumberLiteral(str):
    """A string that `dumps` writes as a bare JSON number: how an exact decimal passes through the C encoder."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return str(self)[len(_MARK) :]


def number(text: str) -> NumberLiteral:
    return NumberLiteral(_MARK + text)


def money(sat: int) -> NumberLiteral:
    """An amount in satoshi as a JSON number of coins, always with eight decimals, as Bitcoin Core writes it."""
    sign = "-" if sat < 0 else ""
    whole, part = divmod(abs(sat), COIN)
    return number(f"{sign}{whole}.{part:08d}")


def parse_money(value: JSON, *, maximum: int = MAX_MONEY) -> int:
    """Satoshi from a JSON number or string of coins. RpcError with Core's texts for anything else, out of range or
    finer than a satoshi."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise type_error(Text.NOT_A_NUMBER_OR_STRING)
    sat = parse_fixed_point(str(value), 8)
    if sat is None:
        raise type_error(Text.INVALID_AMOUNT)
    if not 0 <= sat <= maximum:
        raise type_error(Text.AMOUNT_RANGE)
    return sat


_FIXED = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?")


def parse_fixed_point(text: str, decimals: int) -> int | None:
    """`text` times 10**decimals as an exact integer; None when it is no plain JSON number, has more decimals, or
    exceeds 18 digits."""
    match = _FIXED.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups()
    fraction = fraction or ""
    shift = decimals + int(exponent or 0) - len(fraction)
    mantissa = int(whole + fraction)
    if shift >= 0:
        if mantissa and shift > 18:
            return None
        result = mantissa * 10**shift
    else:
        if mantissa and -shift > 30:
            return None
        result, rest = divmod(mantissa, 10 ** min(-shift, 30))
        if rest:
            return None
    if result >= 10**18:
        return None
    return int(-result if sign else result)


def _decimal(value: object) -> NumberLiteral:
    """For numbers that came in as decimals and go out again."""
    if isinstance(value, Decimal):
        return number(str(value))
    raise TypeError(f"{type(value).__name__} is no JSON")


def dumps(value: JSON) -> str:
    """Compact JSON; NumberLiteral values become bare numbers."""
    return _MARKED.sub(r"\1", json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_decimal))


def encode(value: JSON) -> bytes:
    """`dumps` as UTF-8. Lone surrogates, which a client can send as escapes and UTF-8 cannot hold, go back as
    escapes."""
    try:
        return dumps(value).encode()
    except UnicodeEncodeError:
        return _MARKED.sub(r"\1", json.dumps(value, separators=(",", ":"), default=_decimal)).encode()


def pretty(value: JSON) -> str:
    """Indented JSON, as the command line prints it."""
    return _MARKED.sub(r"\1", json.dumps(value, indent=2, ensure_ascii=False, default=_decimal))


def loads(text: str | bytes) -> JSON:
    """Parse JSON; numbers with a point or an exponent come out as Decimal. Raises ValueError (also for NaN, Infinity,
    absurd depth and exponents)."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except InvalidOperation as error:
        raise ValueError("a number's exponent is out of range") from error


class RepeatedKeys(dict[str, JSON]):
    """An object in which a key stands twice: a mapping to the last values, and `pairs` as they were sent."""

    pairs: list[tuple[str, JSON]]


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    repeated = RepeatedKeys(plain)
    repeated.pairs = pairs
    return repeated


def pairs_of(value: dict[str, JSON]) -> list[tuple[str, JSON]]:
    """Keys and values as they were sent, repeated keys included."""
    return value.pairs if isinstance(value, RepeatedKeys) else list(value.items())


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def type_name(value: JSON) -> str:
    """The JSON type of a value in the words of Bitcoin Core's messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def wrong_type(value: JSON, expected: str) -> RpcError:
    return type_error(f"JSON value of type {type_name(value)} is not of expected type {expected}")
