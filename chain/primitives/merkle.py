"""Bitcoin's merkle tree: pairs hashed with SHA-256d, an odd last hash paired with itself."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from chain.crypto import many_hashes
from chain.primitives.types import ZERO_HASH


def merkle_root(hashes: Sequence[bytes]) -> tuple[bytes, bool]:
    """(root, mutated). `mutated` reports two equal hashes side by side on any level: such a list has the root of a
    different, shorter one (CVE-2012-2459), so a block that shows it must not be remembered as invalid under its
    hash."""
    if not hashes:
        return ZERO_HASH, False
    return many_hashes.merkle_root(hashes)


def merkle_branch(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from leaf `index` up to the root, lowest first."""
    branch = []
    level = list(hashes)
    while len(level) > 1:
        if len(level) & 1:
            level.append(level[-1])
        branch.append(level[index ^ 1])
        pairs = iter(level)
        level = [sha256(sha256(left + right).digest()).digest() for left, right in zip(pairs, pairs, strict=True)]
        index >>= 1
    return branch


def root_from_branch(leaf: bytes, branch: Sequence[bytes], index: int) -> bytes:
    """The root that a leaf at `index` with these siblings leads to. Miners keep the branch of the coinbase (index
    0)."""
    node = leaf
    for sibling in branch:
        pair = sibling + node if index & 1 else node + sibling
        node = sha256(sha256(pair).digest()).digest()
        index >>= 1
    return node
