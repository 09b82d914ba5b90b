"""Numbers on the script stack: little-endian with a sign bit, as Bitcoin Core's ``CScriptNum``."""

from __future__ import annotations

MAX_NUMBER_SIZE = 4  #: bytes an operand may have; BIP65 and BIP112 allow five
TRUE = b"\x01"
FALSE = b""


def encode_number(n: int) -> bytes:
    """The shortest encoding; zero is empty."""
    if n == 0:
        return b""
    magnitude = abs(n)
    data = bytearray(magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "little"))
    if data[-1] & 0x80:
        data.append(0x80 if n < 0 else 0)
    elif n < 0:
        data[-1] |= 0x80
    return bytes(data)


def decode_number(data: bytes) -> int:
    """The number in any encoding, minimal or not, of any length."""
    if not data:
        return 0
    n = int.from_bytes(data, "little")
    sign = 0x80 << 8 * (len(data) - 1)
    return -(n ^ sign) if n & sign else n


def is_minimal_number(data: bytes) -> bool:
    """Whether no shorter encoding of the same number exists; negative zero has none and is not minimal."""
    if not data or data[-1] & 0x7F:
        return True
    return len(data) > 1 and data[-2] & 0x80 != 0


def is_true(data: bytes) -> bool:
    """A stack element as a condition: false is any encoding of zero, negative zero included (Core's CastToBool)."""
    if not data:
        return False
    last = data[-1]
    if last & 0x7F:
        return True
    return any(data[:-1])
