"""The ticket mask: which hashes a chip reports (REFERENCE.md §7).

A hash is reported when its top 32 bits are zero and those the mask selects are too: on average one in 2^32 * D.
"""

from __future__ import annotations

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def floor_power_of_two(difficulty: float) -> int:
    """The largest power of two that is not above `difficulty`, at least 1."""
    return 1 << max(0, int(difficulty).bit_length() - 1)


def register_value(difficulty: int) -> int:
    """TICKET_MASK for a difficulty that is a power of two up to 2^32; ValueError for another."""
    if difficulty < 1 or difficulty & (difficulty - 1) or difficulty > 1 << 32:
        raise ValueError(f"a ticket difficulty is a power of two up to 2^32, not {difficulty}")
    return int.from_bytes((difficulty - 1).to_bytes(4, "big").translate(_REVERSED), "big")


def difficulty_of(value: int) -> int:
    """The difficulty a mask of consecutive ones stands for; ValueError for another mask."""
    mask = int.from_bytes(value.to_bytes(4, "big").translate(_REVERSED), "big")
    if mask & (mask + 1):
        raise ValueError(f"ticket mask {value:08x} does not select consecutive bits")
    return mask + 1


def passes(value: int, display_bytes: bytes) -> bool:
    """Whether a hash (32 bytes, display order) gets through a mask, bit by bit, its first four bytes aside."""
    mask = value.to_bytes(4, "little")
    return all(display_bytes[4 + at] & mask[at] == 0 for at in range(4))
