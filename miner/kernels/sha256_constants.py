"""SHA-256's constants and scalar word functions (FIPS 180-4), and the padding that a block header's hash always has."""

from __future__ import annotations

MASK = 0xFFFFFFFF


def _fraction_words(root: int, count: int) -> list[int]:
    """The first 32 bits of the fractional parts of the square (2) or cube (3) roots of the first `count` primes."""
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return [_integer_root(prime << 32 * root, root) & MASK for prime in primes]


def _integer_root(value: int, root: int) -> int:
    low, high = 0, 1 << value.bit_length() // root + 1
    while low < high:
        middle = (low + high + 1) // 2
        if middle**root <= value:
            low = middle
        else:
            high = middle - 1
    return low


K = _fraction_words(3, 64)
IV = _fraction_words(2, 8)

#: Words 4..15 of a header's second block: the end bit, zeros, and the length of 80 bytes in bits.
PADDING_WORDS_80 = [0x80000000, *[0] * 10, 80 * 8]
#: Words 8..15 of the block that holds a 32-byte digest.
PADDING_WORDS_32 = [0x80000000, *[0] * 6, 32 * 8]


def rotr(word: int, count: int) -> int:
    return (word >> count | word << 32 - count) & MASK


def sigma0(word: int) -> int:
    """Schedule function σ0."""
    return rotr(word, 7) ^ rotr(word, 18) ^ word >> 3


def sigma1(word: int) -> int:
    """Schedule function σ1."""
    return rotr(word, 17) ^ rotr(word, 19) ^ word >> 10
