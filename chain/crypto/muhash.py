"""MuHash3072: a hash of a set, kept up to date by multiplying elements in and dividing them out (Core: crypto/muhash).

Each element is hashed with SHA-256, stretched by ChaCha20 to 3072 bits, and taken as a number modulo the prime
2**3072 - 1103717. The set's hash is SHA-256 of the product, so the order of additions and removals does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from itertools import islice

import numpy as np
import numpy.typing as npt

_PRIME_DISTANCE = 1_103_717
_BITS = 3072
_PRIME: int = 2**_BITS - _PRIME_DISTANCE
_MASK: int = 2**_BITS - 1
_BYTES = _BITS // 8
_CHACHA_BLOCKS = _BYTES // 64
_NATIVE_FROM = 200  # elements at once for which the compiled loop is worth loading
_CHUNK = 2048  # elements stretched together: enough for array operations to pay, small enough for the cache

_Words = npt.NDArray[np.uint32]
_QUARTER_ROUNDS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


class MuHash:
    """A set of byte strings, of which only the product of additions and that of removals are kept."""

    __slots__ = ("_denominator", "_numerator")

    def __init__(self) -> None:
        self._numerator = 1
        self._denominator = 1

    def insert(self, elements: Iterable[bytes]) -> None:
        """Add elements."""
        self._numerator = _product(self._numerator, elements)

    def remove(self, elements: Iterable[bytes]) -> None:
        """Take elements out that were added, or will be."""
        self._denominator = _product(self._denominator, elements)

    def digest(self) -> bytes:
        """32 bytes; in internal order, so display them reversed as any hash."""
        return sha256(self.state()).digest()

    def state(self) -> bytes:
        """All there is to know of the set, 384 bytes: `from_state` goes on from there."""
        if self._denominator != 1:
            self._numerator = self._numerator * pow(self._denominator, -1, _PRIME) % _PRIME
            self._denominator = 1
        return self._numerator.to_bytes(_BYTES, "little")

    @classmethod
    def from_state(cls, state: bytes) -> MuHash:
        """The set that `state` was taken of. ValueError for the wrong number of bytes."""
        if len(state) != _BYTES:
            raise ValueError(f"the state of a MuHash has {_BYTES} bytes, not {len(state)}")
        muhash = cls()
        muhash._numerator = int.from_bytes(state, "little")
        return muhash


def _product(start: int, elements: Iterable[bytes]) -> int:
    product: int = start
    source = iter(elements)
    while chunk := list(islice(source, _CHUNK)):
        keys = b"".join([sha256(element).digest() for element in chunk])
        if len(chunk) >= _NATIVE_FROM:
            from chain.crypto import muhash_native

            product = muhash_native.product(product, keys)
            continue
        stretched = _stretch(keys, len(chunk))
        for at in range(0, len(stretched), _BYTES):
            product *= int.from_bytes(stretched[at : at + _BYTES], "little")
            # 2**3072 is the distance modulo the prime. Once leaves 21 bits above 3072, twice none that could pile up.
            product = (product >> _BITS) * _PRIME_DISTANCE + (product & _MASK)
            product = (product >> _BITS) * _PRIME_DISTANCE + (product & _MASK)
    return product % _PRIME


def _stretch(keys: bytes, count: int) -> bytes:
    """ChaCha20 with a zero nonce under `count` 32-byte keys: the first 384 bytes of each stream, one after another."""
    start: _Words = np.zeros((16, count, _CHACHA_BLOCKS), np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", "<u4").astype(np.uint32)[:, None, None]
    start[4:12] = np.frombuffer(keys, "<u4").astype(np.uint32).reshape(count, 8).T[:, :, None]
    start[12] = np.arange(_CHACHA_BLOCKS, dtype=np.uint32)
    state = start.copy()
    for _ in range(10):
        for a, b, c, d in _QUARTER_ROUNDS:
            state[a] += state[b]
            state[d] = _rotate(state[d] ^ state[a], 16)
            state[c] += state[d]
            state[b] = _rotate(state[b] ^ state[c], 12)
            state[a] += state[b]
            state[d] = _rotate(state[d] ^ state[a], 8)
            state[c] += state[d]
            state[b] = _rotate(state[b] ^ state[c], 7)
    state += start
    return np.ascontiguousarray(state.transpose(1, 2, 0)).astype("<u4").tobytes()


def _rotate(words: _Words, bits: int) -> _Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
