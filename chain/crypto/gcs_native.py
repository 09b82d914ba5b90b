"""The compiled loops of `chain.crypto.gcs`: hashing many elements, and looking for sorted hashes in a coded set."""

from __future__ import annotations

from collections.abc import Collection
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_Values = npt.NDArray[np.uint64]
_U = np.uint64


def hash_elements(elements: Collection[bytes], key: bytes, span: int) -> _Values:
    """As `chain.crypto.gcs.hash_elements`, as an array."""
    sizes = [len(element) for element in elements]
    ends = np.fromiter(accumulate(sizes), np.int64, len(sizes))
    data = np.frombuffer(b"".join(elements), np.uint8)
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    values = _hash_all(data, ends, _U(k0), _U(k1), _U(span))
    values.sort()
    return values  # type: ignore[no-any-return]


def match_any(data: bytes, count: int, p: int, wanted: _Values) -> bool:
    """Whether any of the ascending `wanted` hashes is coded in `data`. ValueError if that ends too early."""
    found = _match(np.frombuffer(data, np.uint8), count, p, wanted)
    if found < 0:
        raise ValueError("the coded set ends too early")
    return bool(found)


@njit(nogil=True, cache=True)
def _rotate(word: Any, bits: Any) -> Any:
    return (word << _U(bits)) | (word >> _U(64 - bits))


@njit(nogil=True, cache=True)
def _round(v0: Any, v1: Any, v2: Any, v3: Any) -> Any:
    v0 = v0 + v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 = v2 + v3
    v3 = _rotate(v3, 16) ^ v2
    v0 = v0 + v3
    v3 = _rotate(v3, 21) ^ v0
    v2 = v2 + v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@njit(nogil=True, cache=True)
def _hash_all(data: Any, ends: Any, k0: Any, k1: Any, span: Any) -> Any:
    """SipHash-2-4 of the slices of `data` that end at `ends`, each scaled to 0 to `span` - 1 by the upper half of the
    128-bit product."""
    values = np.empty(len(ends), np.uint64)
    low32 = _U(0xFFFFFFFF)
    start = 0
    for number in range(len(ends)):
        end = ends[number]
        v0 = k0 ^ _U(0x736F6D6570736575)
        v1 = k1 ^ _U(0x646F72616E646F6D)
        v2 = k0 ^ _U(0x6C7967656E657261)
        v3 = k1 ^ _U(0x7465646279746573)
        size = end - start
        pos = start
        while True:
            left = end - pos
            word = _U(0)
            for n in range(min(left, 8)):
                word |= _U(data[pos + n]) << _U(8 * n)
            if left < 8:
                word |= _U(size & 0xFF) << _U(56)
            v3 ^= word
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0 ^= word
            if left < 8:
                break
            pos += 8
        v2 ^= _U(0xFF)
        for _ in range(4):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        hashed = v0 ^ v1 ^ v2 ^ v3
        start = end
        a, b = hashed >> _U(32), hashed & low32
        c, d = span >> _U(32), span & low32
        middle = a * d + (b * d >> _U(32))
        other = b * c + (middle & low32)
        values[number] = a * c + (middle >> _U(32)) + (other >> _U(32))
    return values


@njit(nogil=True, cache=True)
def _match(data: Any, count: Any, p: Any, wanted: Any) -> Any:
    """1 if a wanted value is found, 0 if none is, -1 if the data end before `count` values."""
    total = 8 * len(data)
    pos = 0
    value = _U(0)
    next_wanted = 0
    for _ in range(count):
        quotient = _U(0)
        while True:
            if pos >= total:
                return -1
            bit = data[pos >> 3] >> (7 - (pos & 7)) & 1
            pos += 1
            if not bit:
                break
            quotient += _U(1)
        if pos + p > total:
            return -1
        remainder = _U(0)
        left = p
        while left > 0:
            offset = pos & 7
            take = min(8 - offset, left)
            chunk = (_U(data[pos >> 3]) >> _U(8 - offset - take)) & _U((1 << take) - 1)
            remainder = (remainder << _U(take)) | chunk
            pos += take
            left -= take
        value += (quotient << _U(p)) + remainder
        while next_wanted < len(wanted) and wanted[next_wanted] < value:
            next_wanted += 1
        if next_wanted == len(wanted):
            return 0
        if wanted[next_wanted] == value:
            return 1
    return 0
