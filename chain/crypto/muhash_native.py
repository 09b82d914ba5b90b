"""The compiled loop of `chain.crypto.muhash`: elements' digests in, their product out, no GIL in between.

A number has 48 words of 64 bits, lowest first. Products of two words are 128 bits wide, which Numba has no type for:
the one multiplication that is needed is written in LLVM's own terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_WORDS = 48
_BYTES = 8 * _WORDS
_DISTANCE = np.uint64(1_103_717)  #: the prime is 2**3072 less this
_ZERO = np.uint64(0)


def product(start: int, keys: bytes) -> int:
    """`start` times the elements whose 32-byte keys are given, below 2**3072 and congruent modulo the prime."""
    value = np.frombuffer(start.to_bytes(_BYTES, "little"), "<u8").astype(np.uint64)
    _multiply_all(value, np.frombuffer(keys, "<u4").astype(np.uint32))
    return int.from_bytes(value.astype("<u8").tobytes(), "little")


@intrinsic
def _multiply_add(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """(low word, high word) of a * b + c + d."""
    signature = types.UniTuple(types.uint64, 2)(*[types.uint64] * 4)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        a, b, c, d = (builder.zext(arg, wide) for arg in args)
        total = builder.add(builder.add(builder.mul(a, b), c), d)
        high = builder.lshr(total, ir.Constant(wide, 64))
        parts = [builder.trunc(total, word), builder.trunc(high, word)]
        return context.make_tuple(builder, signature.return_type, parts)

    return signature, codegen


@njit(nogil=True, cache=True)
def _rotate(word: Any, bits: Any) -> Any:
    return (word << np.uint32(bits)) | (word >> np.uint32(32 - bits))


@njit(nogil=True, cache=True)
def _quarter_round(s: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    s[a] += s[b]
    s[d] = _rotate(s[d] ^ s[a], 16)
    s[c] += s[d]
    s[b] = _rotate(s[b] ^ s[c], 12)
    s[a] += s[b]
    s[d] = _rotate(s[d] ^ s[a], 8)
    s[c] += s[d]
    s[b] = _rotate(s[b] ^ s[c], 7)


@njit(nogil=True, cache=True)
def _stretch(keys: Any, at: Any, element: Any) -> None:
    """Fill `element` with the first 384 bytes of ChaCha20's stream under the key at keys[at:at + 8]."""
    start = np.empty(16, np.uint32)
    state = np.empty(16, np.uint32)
    start[0] = 0x61707865
    start[1] = 0x3320646E
    start[2] = 0x79622D32
    start[3] = 0x6B206574
    for n in range(8):
        start[4 + n] = keys[at + n]
    for n in range(13, 16):
        start[n] = 0
    for block in range(6):
        start[12] = block
        state[:] = start
        for _ in range(10):
            _quarter_round(state, 0, 4, 8, 12)
            _quarter_round(state, 1, 5, 9, 13)
            _quarter_round(state, 2, 6, 10, 14)
            _quarter_round(state, 3, 7, 11, 15)
            _quarter_round(state, 0, 5, 10, 15)
            _quarter_round(state, 1, 6, 11, 12)
            _quarter_round(state, 2, 7, 8, 13)
            _quarter_round(state, 3, 4, 9, 14)
        state += start
        for n in range(8):
            element[8 * block + n] = np.uint64(state[2 * n]) | np.uint64(state[2 * n + 1]) << np.uint64(32)


@njit(nogil=True, cache=True)
def _multiply_all(value: Any, keys: Any) -> None:
    """Multiply `value` by every element in place."""
    element = np.empty(_WORDS, np.uint64)
    wide = np.empty(2 * _WORDS, np.uint64)
    for at in range(0, len(keys), 8):
        _stretch(keys, at, element)
        wide[:] = _ZERO
        for i in range(_WORDS):
            carry = _ZERO
            factor = value[i]
            for j in range(_WORDS):
                wide[i + j], carry = _multiply_add(factor, element[j], wide[i + j], carry)
            wide[i + _WORDS] = carry
        # 2**3072 is the distance modulo the prime: fold the upper half onto the lower, and what sticks out again.
        carry = _ZERO
        for i in range(_WORDS):
            value[i], carry = _multiply_add(wide[i + _WORDS], _DISTANCE, wide[i], carry)
        while carry:
            value[0], overflow = _multiply_add(carry, _DISTANCE, value[0], _ZERO)
            carry = overflow
            for i in range(1, _WORDS):
                if not carry:
                    break
                value[i] += carry
                carry = np.uint64(value[i] < carry)
