"""Reading ECDSA signatures the way the chain always has.

Before BIP66 blocks carried signatures in many shapes that only resemble DER; consensus keeps accepting those below the
BIP66 height. This reader finds R and S in the same way as Core's `ecdsa_signature_parse_der_lax`, so that the same
signatures pass.
"""

from __future__ import annotations

#: of secp256k1's group
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = ORDER // 2


def _length(data: bytes, pos: int) -> tuple[int, int] | None:
    """(length, next position) of a BER length at `pos`, or None if it runs out or cannot fit."""
    if pos >= len(data):
        return None
    first = data[pos]
    pos += 1
    if not first & 0x80:
        return first, pos
    count = first & 0x7F
    if count > len(data) - pos:
        return None
    value = data[pos : pos + count].lstrip(b"\0")
    if len(value) >= 8:  # sizeof(size_t) in Core's reader
        return None
    return int.from_bytes(value, "big"), pos + count


def _integer(data: bytes, pos: int) -> tuple[bytes, int] | None:
    if pos >= len(data) or data[pos] != 0x02:
        return None
    header = _length(data, pos + 1)
    if header is None:
        return None
    length, pos = header
    if length > len(data) - pos:
        return None
    return data[pos : pos + length], pos + length


def is_strict_der(signature: bytes) -> bool:
    """BIP66: strict DER of two positive integers; `signature` is without its hash-type byte."""
    size = len(signature)
    if not 8 <= size <= 72 or signature[0] != 0x30 or signature[1] != size - 2:
        return False
    r_size = signature[3]
    if 5 + r_size >= size:
        return False
    s_size = signature[5 + r_size]
    if r_size + s_size + 6 != size or signature[2] != 2 or signature[r_size + 4] != 2 or not r_size or not s_size:
        return False
    if signature[4] & 0x80 or (r_size > 1 and signature[4] == 0 and not signature[5] & 0x80):
        return False
    s_at = r_size + 6
    return not (signature[s_at] & 0x80 or (s_size > 1 and signature[s_at] == 0 and not signature[s_at + 1] & 0x80))


def parse_der_lax(signature: bytes) -> bytes | None:
    """R and S as 64 bytes (big-endian, 32 each), or None if there is no way to read them.

    Values of 2**256 or more, or at least the group order, turn the whole signature into zeros: well-formed, and never
    valid.
    """
    data = signature
    if not data or data[0] != 0x30:
        return None
    if len(data) < 2:
        return None
    # The sequence's own length is skipped, not checked: short forms are one byte, long forms say how many follow.
    pos = 2
    if data[1] & 0x80:
        count = data[1] & 0x7F
        if count > len(data) - pos:
            return None
        pos += count
    r = _integer(data, pos)
    if r is None:
        return None
    s = _integer(data, r[1])
    if s is None:
        return None
    r_bytes, s_bytes = r[0].lstrip(b"\0"), s[0].lstrip(b"\0")
    if len(r_bytes) > 32 or len(s_bytes) > 32:
        return bytes(64)
    compact = r_bytes.rjust(32, b"\0") + s_bytes.rjust(32, b"\0")
    if int.from_bytes(compact[:32], "big") >= ORDER or int.from_bytes(compact[32:], "big") >= ORDER:
        return bytes(64)
    return compact


def low_s(compact: bytes) -> bytes:
    """The same signature with S in the lower half of the order, the only half that libsecp256k1 verifies."""
    s = int.from_bytes(compact[32:], "big")
    return compact if s <= HALF_ORDER else compact[:32] + (ORDER - s).to_bytes(32, "big")
