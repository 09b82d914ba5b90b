"""Base58 and Base58Check, the encoding of old addresses, WIF keys and extended keys."""

from __future__ import annotations

from chain.crypto.hashes import sha256d
from chain.primitives.errors import DecodeError

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
_SPACE = " \f\n\r\t\v"


def encode(data: bytes) -> str:
    """Bytes to base58; each leading zero byte becomes a leading 1."""
    number = int.from_bytes(data, "big")
    letters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def decode(text: str, max_size: int = 1000) -> bytes:
    """Base58 to at most `max_size` bytes; white space around it is ignored, as Core does. DecodeError otherwise."""
    text = text.strip(_SPACE)
    # A letter carries log2(58) bits: refuse what is too long before the conversion, whose time grows with the square.
    zeros = len(text) - len(text.lstrip("1"))
    if zeros > max_size or (len(text) - zeros - 1) * 585 > max_size * 800:
        raise DecodeError(f"base58 text of more than {max_size} bytes")
    number = 0
    for letter in text:
        value = _VALUES.get(letter)
        if value is None:
            raise DecodeError("not a base58 character")
        number = number * 58 + value
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) > max_size:
        raise DecodeError(f"base58 text of more than {max_size} bytes")
    return data


def encode_check(payload: bytes) -> str:
    """Payload and the first four bytes of its SHA-256d, in base58."""
    return encode(payload + sha256d(payload)[:4])


def decode_check(text: str, max_size: int = 1000) -> bytes:
    """The payload (at most `max_size` bytes) of a Base58Check text; DecodeError if it is malformed or the checksum
    differs.
    """
    data = decode(text, max_size + 4)
    payload, checksum = data[:-4], data[-4:]
    if len(data) < 4 or sha256d(payload)[:4] != checksum:
        raise DecodeError("base58 checksum does not match")
    return payload
