"""SHA-256's state after the first block of a header, which many boards are told instead of the header."""

from __future__ import annotations

from miner.kernels.sha256_constants import IV, MASK, K


def midstate(block: bytes) -> bytes:
    """SHA-256's state after a 64-byte block: words a..h, big-endian. A quarter of a millisecond; hashlib does not give
    it away."""
    words = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for t in range(16, 64):
        s0, s1 = words[t - 15], words[t - 2]
        s0 = (s0 >> 7 | s0 << 25) ^ (s0 >> 18 | s0 << 14) ^ s0 >> 3
        s1 = (s1 >> 17 | s1 << 15) ^ (s1 >> 19 | s1 << 13) ^ s1 >> 10
        words.append((words[t - 16] + (s0 & MASK) + words[t - 7] + (s1 & MASK)) & MASK)
    a, b, c, d, e, f, g, h = IV
    for word, constant in zip(words, K, strict=True):
        s1 = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)
        s0 = (a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)
        t1 = h + (s1 & MASK) + (e & f ^ ~e & g) + constant + word
        t2 = (s0 & MASK) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = t1 + t2 & MASK, a, b, c, d + t1 & MASK, e, f, g
    return b"".join(
        (before + after & MASK).to_bytes(4, "big") for before, after in zip(IV, (a, b, c, d, e, f, g, h), strict=True)
    )
