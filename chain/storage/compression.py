"""Core's compact forms of integers, amounts and scripts (serialize.h VARINT, compressor.h), as undo files and UTXO
snapshots use them.

VARINT: base 128, most significant group first, bit 7 set on all but the last byte, and one subtracted from each
group before the last so that every number has one spelling. Amounts drop their trailing decimal zeros. Six script
templates shrink to a type byte and 20 or 32 bytes.
"""

from __future__ import annotations

from chain.primitives.coin import MAX_SCRIPT_SIZE
from chain.primitives.errors import DecodeError

SPECIAL_SCRIPTS = 6  #: script types 0 to 5 are templates; n >= 6 means a plain script of n - 6 bytes

_P = 2**256 - 2**32 - 977  # the field of secp256k1


def write_varint(n: int) -> bytes:
    """The one spelling of n >= 0."""
    if n < 0x80:
        return n.to_bytes(1, "big")
    if n < 0x4080:
        return (n - 0x80 + (n - 0x80 & ~0x7F) | 0x8000).to_bytes(2, "big")
    if n < 0x204080:  # block heights are here
        n -= 0x4080
        return (n & 0x7F | (n & 0x3F80) << 1 | n >> 14 << 16 | 0x808000).to_bytes(3, "big")
    out = [n & 0x7F]
    while n > 0x7F:
        n = (n >> 7) - 1
        out.append(n & 0x7F | 0x80)
    return bytes(out[::-1])


def read_varint(buf: bytes, pos: int) -> tuple[int, int]:
    """(value, next position). IndexError past the end; DecodeError beyond 64 bits."""
    n = 0
    while True:
        byte = buf[pos]
        pos += 1
        n = n << 7 | byte & 0x7F
        if byte < 0x80:
            return n, pos
        n += 1
        if n >> 57:
            raise DecodeError("ReadVarInt(): size too large")


def compress_amount(n: int) -> int:
    """A number that is small for round amounts (satoshi)."""
    if n == 0:
        return 0
    e = 0
    while e < 9:
        quotient, digit = divmod(n, 10)
        if digit:
            return 1 + (quotient * 9 + digit - 1) * 10 + e
        n = quotient
        e += 1
    return 1 + (n - 1) * 10 + 9


def decompress_amount(x: int) -> int:
    """The inverse of compress_amount."""
    if x == 0:
        return 0
    x, e = divmod(x - 1, 10)
    if e < 9:
        x, digit = divmod(x, 9)
        n = x * 10 + digit + 1
    else:
        n = x + 1
    return int(n * 10**e)


def compress_script(script: bytes) -> bytes:
    """Type byte and payload for P2PKH, P2SH and P2PK; else VARINT(length + 6) and the script."""
    length = len(script)
    if length == 25:
        if script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
            return b"\x00" + script[3:23]
    elif length == 23:
        if script[:2] == b"\xa9\x14" and script[22] == 0x87:
            return b"\x01" + script[2:22]
    elif length == 35:
        if script[0] == 0x21 and script[34] == 0xAC and script[1] in (2, 3):
            return script[1:34]
    elif length == 67 and script[:2] == b"\x41\x04" and script[66] == 0xAC:
        x = int.from_bytes(script[2:34], "big")
        y = int.from_bytes(script[34:66], "big")
        # Only a point on the curve can be told from its x again.
        if x < _P and y < _P and (y * y - x * x * x - 7) % _P == 0:
            return (b"\x05" if y & 1 else b"\x04") + script[2:34]
    return write_varint(length + SPECIAL_SCRIPTS) + script


def decompress_script(buf: bytes, pos: int) -> tuple[bytes, int]:
    """(script, next position). DecodeError for what compress_script cannot have written."""
    kind, pos = read_varint(buf, pos)
    if kind >= SPECIAL_SCRIPTS:
        end = pos + kind - SPECIAL_SCRIPTS
        if end > len(buf):
            raise DecodeError("a script ends too early")
        return (buf[pos:end] if end - pos <= MAX_SCRIPT_SIZE else b"\x6a"), end
    end = pos + (20 if kind < 2 else 32)
    data = buf[pos:end]
    if end > len(buf):
        raise DecodeError("a script ends too early")
    if kind == 0:
        return b"\x76\xa9\x14" + data + b"\x88\xac", end
    if kind == 1:
        return b"\xa9\x14" + data + b"\x87", end
    if kind < 4:
        return b"\x21" + kind.to_bytes(1, "little") + data + b"\xac", end
    x = int.from_bytes(data, "big")
    square = (x * x * x + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if x >= _P or y * y % _P != square:
        raise DecodeError("a compressed public key is not on the curve")
    if y & 1 != kind & 1:
        y = _P - y
    return b"\x41\x04" + data + y.to_bytes(32, "big") + b"\xac", end
