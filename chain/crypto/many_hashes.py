"""Merkle trees, hashed in one call.

By hashlib at first, one pair at a time; once `load` has been called by compiled code, which holds no GIL and, where the
processor has SHA-256 instructions, takes a fifth of the time. The two agree (`tests/unit/chain/crypto`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from types import ModuleType

_FEW = 16  #: up to so many hashlib is as fast, since a call of compiled code costs some microseconds
_native: ModuleType | None = None


def load() -> None:
    """Use compiled code from now on. Loading it takes up to a second."""
    global _native
    from chain.crypto import hash_native

    _native = hash_native


def merkle_root(hashes: Sequence[bytes]) -> tuple[bytes, bool]:
    """(root, mutated) of one hash or more, 32 bytes each; see `chain.primitives.merkle.merkle_root`."""
    if _native is not None and len(hashes) > _FEW:
        found: tuple[bytes, bool] = _native.merkle_root(hashes)
        return found
    level = list(hashes)
    mutated = False
    while len(level) > 1:
        for i in range(0, len(level) - 1, 2):
            if level[i] == level[i + 1]:
                mutated = True
                break
        if len(level) & 1:
            level.append(level[-1])
        pairs = iter(level)
        level = [sha256(sha256(left + right).digest()).digest() for left, right in zip(pairs, pairs, strict=True)]
    return level[0], mutated
