"""Bech32 (BIP173) and Bech32m (BIP350), and finding the characters that a wrong checksum is due to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from chain.primitives.errors import DecodeError

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
MAX_LENGTH = 90
CHECKSUM_SIZE = 6
_VALUES = {letter: value for value, letter in enumerate(CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class Encoding(IntEnum):
    """The value is the constant that the checksum of a valid text leaves."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


class Bech32Error(DecodeError):
    """A text that is not Bech32. `positions` are the characters that seem wrong, as Core's error_locations."""

    def __init__(self, message: str, positions: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.positions = list(positions)


def _polymod(values: Iterable[int], checksum: int = 1) -> int:
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit in range(5):
            if top >> bit & 1:
                checksum ^= _GENERATOR[bit]
    return checksum


def _expand(hrp: str) -> list[int]:
    return [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]


def encode(encoding: Encoding, hrp: str, data: Sequence[int]) -> str:
    """Human-readable part (lower case) and five-bit values, with the checksum of that encoding."""
    checksum = _polymod([*_expand(hrp), *data, 0, 0, 0, 0, 0, 0]) ^ encoding
    values = [*data, *(checksum >> 5 * (5 - i) & 31 for i in range(6))]
    return hrp + "1" + "".join(CHARSET[value] for value in values)


def decode(text: str) -> tuple[Encoding, str, list[int]]:
    """(encoding, human-readable part in lower case, five-bit values without checksum). Raises Bech32Error with Core's
    text.
    """
    hrp, values = _split(text)
    residue = _polymod(_expand(hrp) + values)
    for encoding in Encoding:
        if residue == encoding:
            return encoding, hrp, values[:-CHECKSUM_SIZE]
    raise _locate(hrp, values, residue)


def _split(text: str) -> tuple[str, list[int]]:
    """Everything about a text but its checksum; errors in the order and words of Core's LocateErrors."""
    if len(text) > MAX_LENGTH:
        raise Bech32Error("Bech32 string too long", range(MAX_LENGTH, len(text)))
    wrong: list[int] = []
    lower = upper = False
    for position, letter in enumerate(text):
        if "a" <= letter <= "z":
            if upper:
                wrong.append(position)
            else:
                lower = True
        elif "A" <= letter <= "Z":
            if lower:
                wrong.append(position)
            else:
                upper = True
        elif not "!" <= letter <= "~":
            wrong.append(position)
    if wrong:
        raise Bech32Error("Invalid character or mixed case", wrong)
    separator = text.rfind("1")
    if separator < 0:
        raise Bech32Error("Missing separator")
    if separator == 0 or separator + CHECKSUM_SIZE >= len(text):
        raise Bech32Error("Invalid separator position", [separator])
    values: list[int] = []
    for position in range(separator + 1, len(text)):
        value = _VALUES.get(text[position].lower())
        if value is None:
            raise Bech32Error("Invalid Base 32 character", [position])
        values.append(value)
    return text[:separator].lower(), values


def _locate(hrp: str, values: list[int], residue: int) -> Bech32Error:
    """Name the one or two characters that explain the checksum, if there are such; the code tells up to two errors
    apart.

    The checksum is linear: a wrong value at a place changes it by an amount that depends on both alone. So one error is
    a difference found in a table, and two errors are a difference whose rest after the first is found there.
    """
    effects: dict[int, int] = {}  # change of the checksum -> position in values
    for place in range(len(values)):
        trailing = [0] * (len(values) - 1 - place)
        by_bit = [_polymod([1 << bit, *trailing], 0) for bit in range(5)]
        for error in range(1, 32):
            effect = 0
            for bit in range(5):
                if error >> bit & 1:
                    effect ^= by_bit[bit]
            effects[effect] = place
    start = len(hrp) + 1
    best: list[int] = []
    best_encoding: Encoding | None = None
    for encoding in Encoding:
        difference = residue ^ encoding
        found: list[int] = []
        single = effects.get(difference)
        if single is not None:
            found = [single]
        else:
            for effect, place in effects.items():
                other = effects.get(difference ^ effect)
                if other is not None and other != place:
                    found = sorted((place, other))
                    break
        if found and (not best or len(found) < len(best)):
            best, best_encoding = found, encoding
    message = {
        None: "Invalid checksum",
        Encoding.BECH32: "Invalid Bech32 checksum",
        Encoding.BECH32M: "Invalid Bech32m checksum",
    }
    return Bech32Error(message[best_encoding], [start + place for place in best])


def to_words(data: bytes) -> list[int]:
    """Bytes as five-bit values, padded with zero bits."""
    bits = len(data) * 8
    count = (bits + 4) // 5
    number = int.from_bytes(data, "big") << count * 5 - bits
    return [number >> 5 * (count - 1 - i) & 31 for i in range(count)]


def from_words(words: Sequence[int]) -> bytes:
    """Five-bit values as bytes. DecodeError unless the padding is zero and shorter than five bits."""
    bits = len(words) * 5
    padding = bits % 8
    number = 0
    for word in words:
        number = number << 5 | word
    if padding >= 5 or number & ((1 << padding) - 1):
        raise DecodeError("Invalid padding in Bech32 data section")
    return (number >> padding).to_bytes(bits // 8, "big")
