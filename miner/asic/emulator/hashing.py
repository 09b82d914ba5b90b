"""SHA-256d over many nonces at once, from a midstate, in numpy: how an emulated chip finds nonces that are true.

Some 0.5 million hashes a second on one core, without compiling anything and mostly without the interpreter lock. The
miner's own kernels start from whole headers, which a BM1397 is never told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from miner.kernels.sha256_constants import IV, K

Words: TypeAlias = npt.NDArray[np.uint32]

_IV = tuple(np.uint32(word) for word in IV)
_K = tuple(np.uint32(word) for word in K)
_BIT_REVERSED = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint32)
_SHIFTS = {count: (np.uint32(count), np.uint32(32 - count)) for count in (2, 6, 7, 11, 13, 17, 18, 19, 22, 25)}


def midstate(block: bytes) -> tuple[int, ...]:
    """SHA-256's state after one 64-byte block."""
    words = [np.array([int.from_bytes(block[at : at + 4], "big")], np.uint32) for at in range(0, 64, 4)]
    return tuple(int(word[0]) for word in _compress([np.array([word], np.uint32) for word in _IV], words))


def search(state: Sequence[int], tail: bytes, nonces: Words, zero_bits: int) -> list[tuple[int, int]]:
    """Those of the nonces (little-endian numbers) whose hash has at least `zero_bits` leading zero bits, up to 32:
    (nonce, leading zero bits)."""
    first = np.zeros(len(nonces), np.uint32)
    words = [np.uint32(int.from_bytes(tail[at : at + 4], "big")) + first for at in range(0, 12, 4)]
    words += [nonces.byteswap(), first + np.uint32(1 << 31), *[first] * 10, first + np.uint32(640)]
    digest = _compress([np.uint32(word) + first for word in state], words)
    digest += [first + np.uint32(1 << 31), *[first] * 6, first + np.uint32(256)]
    result = _compress([word + first for word in _IV], digest)
    top = result[7].byteswap()
    passing = np.flatnonzero(top < np.uint32(1 << 32 - zero_bits) if zero_bits else np.ones(len(nonces), bool))
    return [(int(nonces[at]), _leading_zeros(result, int(at))) for at in passing]


def swept(position: int, count: int) -> Words:
    """Nonces number `position` .. `position + count - 1` of a chain's sweep.

    The chips' counter is the big-endian end of a nonce, its other end names core and chip. So the first byte (core) and
    the second (chip, in an order that soon touches all) run fastest, then the counter upwards.
    """
    index = np.arange(position, position + count, dtype=np.uint64)
    chip = _BIT_REVERSED[(index >> np.uint64(8) & np.uint64(0xFF)).astype(np.intp)]
    counter = (index >> np.uint64(16)).astype(np.uint32)
    high = (counter >> np.uint32(8) | counter << np.uint32(8)) & np.uint32(0xFFFF)
    nonces: Words = (index & np.uint64(0xFF)).astype(np.uint32) | chip << np.uint32(8) | high << np.uint32(16)
    return nonces


def _leading_zeros(result: list[Words], at: int) -> int:
    digest = b"".join(int(word[at]).to_bytes(4, "big") for word in result)
    return 256 - int.from_bytes(digest, "little").bit_length()


def _compress(state: list[Words], words: list[Words]) -> list[Words]:
    window = list(words)
    a, b, c, d, e, f, g, h = state
    for t in range(64):
        if t >= 16:
            s0, s1 = window[t - 15], window[t - 2]
            window.append(
                (_rotate(s1, 17) ^ _rotate(s1, 19) ^ s1 >> np.uint32(10))
                + window[t - 7]
                + (_rotate(s0, 7) ^ _rotate(s0, 18) ^ s0 >> np.uint32(3))
                + window[t - 16]
            )
        t1 = h + (_rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)) + (g ^ e & (f ^ g)) + _K[t] + window[t]
        t2 = (_rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)) + (a & b ^ c & (a ^ b))
        a, b, c, d, e, f, g, h = t1 + t2, a, b, c, d + t1, e, f, g
    return [before + after for before, after in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def _rotate(word: Words, count: int) -> Words:
    right, left = _SHIFTS[count]
    return word >> right | word << left
