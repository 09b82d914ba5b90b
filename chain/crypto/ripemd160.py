"""RIPEMD-160 in Python, for machines whose OpenSSL no longer offers it.

Source: Dobbertin, Bosselaers, Preneel, "RIPEMD-160: A Strengthened Version of RIPEMD" (1996).
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_INITIAL = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
_LEFT_K = (0x00000000, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_RIGHT_K = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0x00000000)
_RHO = (7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8)
_SHIFTS = (
    (11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    (12, 13, 11, 15, 6, 9, 9, 7, 12, 15, 11, 13, 7, 8, 7, 7),
    (13, 15, 14, 11, 7, 7, 6, 8, 13, 14, 13, 12, 5, 5, 6, 9),
    (14, 11, 12, 14, 8, 6, 5, 5, 15, 12, 15, 14, 9, 9, 8, 6),
    (15, 12, 13, 13, 9, 5, 8, 6, 14, 11, 12, 11, 8, 6, 5, 5),
)


def _orders(first: list[int]) -> list[list[int]]:
    """Message word order of the five rounds: each is the one before, seen through the permutation rho."""
    orders = [first]
    while len(orders) < 5:
        orders.append([_RHO[i] for i in orders[-1]])
    return orders


_LEFT_ORDER = _orders(list(range(16)))
_RIGHT_ORDER = _orders([(9 * i + 5) % 16 for i in range(16)])


def _f(j: int, x: int, y: int, z: int) -> int:
    if j == 0:
        return x ^ y ^ z
    if j == 1:
        return (x & y) | (~x & z)
    if j == 2:
        return (x | ~y) ^ z
    if j == 3:
        return (x & z) | (y & ~z)
    return x ^ (y | ~z)


def _line(
    state: tuple[int, ...], words: list[int], orders: list[list[int]], constants: tuple[int, ...], functions: range
) -> tuple[int, ...]:
    a, b, c, d, e = state
    for j, function in enumerate(functions):
        for word in orders[j]:
            t = (a + _f(function, b, c, d) + words[word] + constants[j]) & _MASK
            s = _SHIFTS[j][word]
            t = ((t << s | t >> (32 - s)) + e) & _MASK
            a, e, d, c, b = e, d, (c << 10 | c >> 22) & _MASK, b, t
    return a, b, c, d, e


def ripemd160(data: bytes) -> bytes:
    """RIPEMD-160 of `data`, 20 bytes."""
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + (8 * len(data)).to_bytes(8, "little")
    h: tuple[int, ...] = _INITIAL
    for start in range(0, len(padded), 64):
        words = [int.from_bytes(padded[i : i + 4], "little") for i in range(start, start + 64, 4)]
        left = _line(h, words, _LEFT_ORDER, _LEFT_K, range(5))
        right = _line(h, words, _RIGHT_ORDER, _RIGHT_K, range(4, -1, -1))
        h = tuple((h[(i + 1) % 5] + left[(i + 2) % 5] + right[(i + 3) % 5]) & _MASK for i in range(5))
    return b"".join(x.to_bytes(4, "little") for x in h)
