"""Money: integers in satoshi inside, decimal text with eight places at the edges."""

from __future__ import annotations

import re

from chain.primitives.errors import DecodeError
from chain.primitives.types import Amount

COIN = 100_000_000
MAX_MONEY = 21_000_000 * COIN  #: a bound on any single amount (Core consensus/amount.h), not the supply

_DECIMAL = re.compile(r"(-?)(\d{1,20})(?:\.(\d{1,20}))?", re.ASCII)


def money_range(value: int) -> bool:
    """Whether an amount may appear in a transaction at all."""
    return 0 <= value <= MAX_MONEY


def parse_amount(text: str) -> Amount:
    """Satoshi from decimal coins, exactly; DecodeError for anything but digits with at most eight decimals in the money
    range."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise DecodeError(f"'{text[:40]}' is not an amount: write it like 0.5 or 12.00000001")
    sign, whole, decimals = match.group(1), match.group(2), match.group(3) or ""
    if len(decimals.rstrip("0")) > 8:
        raise DecodeError(f"'{text[:40]}' has more than eight decimals: the smallest amount is 0.00000001")
    value = int(whole) * COIN + int(decimals[:8].ljust(8, "0"))
    if sign and value:
        raise DecodeError(f"'{text[:40]}' is negative")
    if not money_range(value):
        raise DecodeError(f"'{text[:40]}' is more than there can be")
    return Amount(value)


def format_amount(value: int) -> str:
    """Decimal coins with eight places: -150000000 is '-1.50000000'."""
    whole, decimals = divmod(abs(value), COIN)
    return f"{'-' if value < 0 else ''}{whole}.{decimals:08d}"
