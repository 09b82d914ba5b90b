"""Golomb-Rice coded sets: many byte strings in about `p` + 2 bits each, asked "is any of these in it?" (BIP158).

Each element is hashed (SipHash-2-4 under the set's key) into the range 0 to n * m - 1; the sorted hashes are stored as
differences, each as its quotient by 2**p in unary and its remainder in p bits. A string that is not in the set matches
with probability 1 / m.

Large sets are hashed and matched by the compiled loops of `chain.crypto.gcs_native`; what is here defines the result.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chain.crypto.hashes import siphash24

_NATIVE_FROM = 48  #: with fewer hashes the plain loop is as fast, and a chain of small blocks never loads the compiler


def hash_elements(elements: Collection[bytes], key: bytes, span: int) -> list[int]:
    """Each element's place in 0 to `span` - 1, ascending; `key` are 16 bytes."""
    if len(elements) >= _NATIVE_FROM:
        from chain.crypto import gcs_native

        return gcs_native.hash_elements(elements, key, span).tolist()  # type: ignore[no-any-return]
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    return sorted([siphash24(k0, k1, element) * span >> 64 for element in elements])


def encode(values: Sequence[int], p: int) -> bytes:
    """Ascending values as Golomb-Rice coded differences, the last byte filled up with zero bits."""
    bits: list[str] = []
    last = 0
    mask = (1 << p) - 1
    for value in values:
        delta = value - last
        last = value
        bits.append("1" * (delta >> p) + f"0{delta & mask:0{p}b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def decode(data: bytes, count: int, p: int) -> list[int]:
    """The inverse of encode for `count` values; ValueError if `data` ends before them."""
    text = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
    values: list[int] = []
    value = pos = 0
    for _ in range(count):
        end = text.find("0", pos)
        after = end + 1 + p
        if end < 0 or after > len(text):
            raise ValueError("the coded set ends too early")
        value += (end - pos << p) + int(text[end + 1 : after], 2)
        values.append(value)
        pos = after
    return values


def match_any(data: bytes, count: int, p: int, key: bytes, span: int, elements: Collection[bytes]) -> bool:
    """Whether any of `elements` is (probably) in the set of `count` values coded in `data`. ValueError if that ends too
    early."""
    if not count or not elements:
        return False
    if count + len(elements) >= _NATIVE_FROM:
        from chain.crypto import gcs_native

        return gcs_native.match_any(data, count, p, gcs_native.hash_elements(elements, key, span))
    return not set(decode(data, count, p)).isdisjoint(hash_elements(elements, key, span))
