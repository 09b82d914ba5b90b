"""SHA-256 and RIPEMD-160 inside compiled loops that hold no GIL, where hashlib cannot be called.

One message at a time and portable, so about a third as fast as hashlib's on long messages; on the two or three blocks
of a signature hash or a key hash it costs less than a Python call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


def _root_fractions(power: float, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The first 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3)."""
    primes: list[int] = []
    n = 2
    while len(primes) < count:
        if all(n % p for p in primes):
            primes.append(n)
        n += 1
    root = 2 if power == 0.5 else 3
    words = []
    for prime in primes:
        low, high = 0, prime << 32  # floor(prime ** (1 / root) * 2 ** 32) by bisection, in integers
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= prime << 32 * root else (low, middle)
        words.append(low & 0xFFFFFFFF)
    return np.array(words, dtype=np.uint32)


_K = _root_fractions(1 / 3, 64)
_IV = _root_fractions(1 / 2, 8)

# RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996): word order, rotations and constants of the two lines
_RHO = [7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8]
_LEFT_ORDER = [list(range(16))]
_RIGHT_ORDER = [[(9 * i + 5) % 16 for i in range(16)]]
for _ in range(4):
    _LEFT_ORDER.append([_RHO[i] for i in _LEFT_ORDER[-1]])
    _RIGHT_ORDER.append([_RHO[i] for i in _RIGHT_ORDER[-1]])
_ROTATIONS = [  # by word, not by step
    [11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8],
    [12, 13, 11, 15, 6, 9, 9, 7, 12, 15, 11, 13, 7, 8, 7, 7],
    [13, 15, 14, 11, 7, 7, 6, 8, 13, 14, 13, 12, 5, 5, 6, 9],
    [14, 11, 12, 14, 8, 6, 5, 5, 15, 12, 15, 14, 9, 9, 8, 6],
    [15, 12, 13, 13, 9, 5, 8, 6, 14, 11, 12, 11, 8, 6, 5, 5],
]
_ORDER = np.array([_LEFT_ORDER, _RIGHT_ORDER], dtype=np.int64)
_ROTATE = np.array(
    [[[_ROTATIONS[j][word] for word in order[j]] for j in range(5)] for order in (_LEFT_ORDER, _RIGHT_ORDER)],
    dtype=np.uint32,
)
_ADD = np.array(
    [[0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E], [0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0]],
    dtype=np.uint32,
)


@njit(nogil=True, cache=True, inline="always")
def _rotr(x: Any, n: Any) -> Any:
    return np.uint32(x >> np.uint32(n) | x << np.uint32(32 - n))


@njit(nogil=True, cache=True)
def _compress(state: Any, w: Any) -> None:
    """One block: w[:16] is the message, the rest scratch."""
    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        s0 = _rotr(x, 7) ^ _rotr(x, 18) ^ np.uint32(x >> np.uint32(3))
        s1 = _rotr(y, 17) ^ _rotr(y, 19) ^ np.uint32(y >> np.uint32(10))
        w[t] = np.uint32(w[t - 16] + s0 + w[t - 7] + s1)
    a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    for t in range(64):
        s1 = _rotr(e, 6) ^ _rotr(e, 11) ^ _rotr(e, 25)
        t1 = np.uint32(h + s1 + (g ^ (e & (f ^ g))) + _K[t] + w[t])
        s0 = _rotr(a, 2) ^ _rotr(a, 13) ^ _rotr(a, 22)
        t2 = np.uint32(s0 + ((a & b) | (c & (a | b))))
        h, g, f, e, d, c, b, a = g, f, e, np.uint32(d + t1), c, b, a, np.uint32(t1 + t2)
    state[0] = np.uint32(state[0] + a)
    state[1] = np.uint32(state[1] + b)
    state[2] = np.uint32(state[2] + c)
    state[3] = np.uint32(state[3] + d)
    state[4] = np.uint32(state[4] + e)
    state[5] = np.uint32(state[5] + f)
    state[6] = np.uint32(state[6] + g)
    state[7] = np.uint32(state[7] + h)


@njit(nogil=True, cache=True)
def sha256_into(data: Any, start: Any, size: Any, out: Any, state: Any, w: Any) -> None:
    """SHA-256 of data[start:start+size] into out[:32]. `state` (8) and `w` (64) are u32 scratch; out may be data."""
    for i in range(8):
        state[i] = _IV[i]
    blocks = (size + 72) // 64
    for block in range(blocks):
        at = block * 64
        if at + 64 <= size:
            p = start + at
            for i in range(16):
                w[i] = np.uint32(
                    np.uint32(data[p]) << np.uint32(24)
                    | np.uint32(data[p + 1]) << np.uint32(16)
                    | np.uint32(data[p + 2]) << np.uint32(8)
                    | np.uint32(data[p + 3])
                )
                p += 4
        else:
            for i in range(16):
                word = np.uint32(0)
                for j in range(4):
                    n = at + 4 * i + j
                    byte = np.uint32(0)
                    if n < size:
                        byte = np.uint32(data[start + n])
                    elif n == size:
                        byte = np.uint32(0x80)
                    word = np.uint32(word << np.uint32(8) | byte)
                w[i] = word
            if block == blocks - 1:
                w[14] = np.uint32(size >> 29)
                w[15] = np.uint32(size << 3 & 0xFFFFFFFF)
        _compress(state, w)
    for i in range(8):
        for j in range(4):
            out[4 * i + j] = np.uint8(state[i] >> np.uint32(24 - 8 * j) & np.uint32(0xFF))


@njit(nogil=True, cache=True)
def ripemd160_of_32(data: Any, out: Any, w: Any) -> None:
    """RIPEMD-160 of data[:32] into out[:20]. `w` is u32 scratch of 16 words or more."""
    for i in range(8):
        w[i] = np.uint32(
            np.uint32(data[4 * i])
            | np.uint32(data[4 * i + 1]) << np.uint32(8)
            | np.uint32(data[4 * i + 2]) << np.uint32(16)
            | np.uint32(data[4 * i + 3]) << np.uint32(24)
        )
    for i in range(9, 16):
        w[i] = np.uint32(0)
    w[8] = np.uint32(0x80)
    w[14] = np.uint32(256)
    h0, h1, h2, h3, h4 = (
        np.uint32(0x67452301),
        np.uint32(0xEFCDAB89),
        np.uint32(0x98BADCFE),
        np.uint32(0x10325476),
        np.uint32(0xC3D2E1F0),
    )
    la, lb, lc, ld, le = h0, h1, h2, h3, h4
    for side in range(2):
        a, b, c, d, e = h0, h1, h2, h3, h4
        for j in range(5):
            function = j if side == 0 else 4 - j
            add = _ADD[side, j]
            for i in range(16):
                if function == 0:
                    f = b ^ c ^ d
                elif function == 1:
                    f = (b & c) | (~b & d)
                elif function == 2:
                    f = (b | ~c) ^ d
                elif function == 3:
                    f = (b & d) | (c & ~d)
                else:
                    f = b ^ (c | ~d)
                rotate = _ROTATE[side, j, i]
                t = np.uint32(a + np.uint32(f) + w[_ORDER[side, j, i]] + add)
                t = np.uint32(np.uint32(t << rotate | t >> np.uint32(np.uint32(32) - rotate)) + e)
                a, e, d, c, b = e, d, _rotr(c, 22), b, t
        if side == 0:
            la, lb, lc, ld, le = a, b, c, d, e
    words = (
        np.uint32(h1 + lc + d),
        np.uint32(h2 + ld + e),
        np.uint32(h3 + le + a),
        np.uint32(h4 + la + b),
        np.uint32(h0 + lb + c),
    )
    for i in range(5):
        for j in range(4):
            out[4 * i + j] = np.uint8(words[i] >> np.uint32(8 * j) & np.uint32(0xFF))
