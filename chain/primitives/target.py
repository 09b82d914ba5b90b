"""Targets, their compact form (nBits) and the work they stand for. All integers."""

from __future__ import annotations

from chain.primitives.types import Nbits, Target, Work

DIFFICULTY_1_TARGET = 0xFFFF << 208


def decode_nbits(nbits: int) -> tuple[int, bool, bool]:
    """(magnitude, negative, overflow) of a compact number, as Core's arith_uint256::SetCompact reads it."""
    exponent = nbits >> 24
    mantissa = nbits & 0x007FFFFF
    value = mantissa >> (8 * (3 - exponent)) if exponent <= 3 else mantissa << (8 * (exponent - 3))
    negative = mantissa != 0 and bool(nbits & 0x00800000)
    overflow = mantissa != 0 and (
        exponent > 34 or (mantissa > 0xFF and exponent > 33) or (mantissa > 0xFFFF and exponent > 32)
    )
    return value, negative, overflow


def target_from_nbits(nbits: int) -> Target | None:
    """The target, or None where the compact form is negative, overflows 256 bits or is zero: no hash can meet those."""
    value, negative, overflow = decode_nbits(nbits)
    return None if negative or overflow or value == 0 else Target(value)


def nbits_from_target(target: int) -> Nbits:
    """The compact form of a target, rounded down to its 23-bit mantissa."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << (8 * (3 - size)) if size <= 3 else target >> (8 * (size - 3))
    if mantissa & 0x00800000:  # bit 23 is the sign: move one byte up
        mantissa >>= 8
        size += 1
    return Nbits(size << 24 | mantissa)


def work_from_target(target: int) -> Work:
    """Expected hashes to meet a target: floor(2**256 / (target + 1))."""
    return Work((1 << 256) // (target + 1))


def work_from_nbits(nbits: int) -> Work:
    """Work of a block with these bits; 0 where they stand for no target."""
    target = target_from_nbits(nbits)
    return Work(0) if target is None else work_from_target(target)


def target_of_difficulty(value: float) -> Target:
    """The target that is `value` (> 0) times as hard as difficulty 1, kept within 256 bits."""
    numerator, denominator = value.as_integer_ratio()
    return Target(min(DIFFICULTY_1_TARGET * denominator // numerator, (1 << 256) - 1))


def difficulty(nbits: int) -> float:
    """Difficulty relative to Bitcoin's easiest target (0x1d00ffff), by Core's own order of roundings
    (rpc/blockchain.cpp)."""
    shift = nbits >> 24 & 0xFF
    mantissa = nbits & 0x00FFFFFF
    if mantissa == 0:
        return 0.0
    value = 0xFFFF / mantissa
    while shift < 29:
        value *= 256.0
        shift += 1
    while shift > 29:
        value /= 256.0
        shift -= 1
    return value
