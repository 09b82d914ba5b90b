"""Merkle trees, by hashlib and by compiled code."""

from __future__ import annotations

import random

import pytest

from chain.crypto import many_hashes
from chain.crypto.hashes import sha256d


@pytest.fixture(params=["hashlib", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs both ways."""
    monkeypatch.setattr(many_hashes, "_native", None)
    monkeypatch.setattr(many_hashes, "_FEW", 0)
    if request.param == "compiled":
        many_hashes.load()


def merkle_root(level: list[bytes]) -> tuple[bytes, bool]:
    """Once more, by recursion."""
    if len(level) == 1:
        return level[0], False
    repeated = any(level[n : n + 1] == level[n + 1 : n + 2] for n in range(0, len(level), 2))
    level = level + level[-1:] * (len(level) % 2)
    root, mutated = merkle_root([sha256d(level[n] + level[n + 1]) for n in range(0, len(level), 2)])
    return root, mutated or repeated


@pytest.mark.usefixtures("way")
def test_merkle_root(rng: random.Random) -> None:
    seen = set()
    for _ in range(200):
        hashes = [rng.randbytes(32) for _ in range(rng.randint(1, 40))]
        if rng.random() < 0.3:
            hashes += hashes[-rng.choice((1, 2, 4)) :]
        if rng.random() < 0.2:
            at = rng.randrange(len(hashes))
            hashes[at] = hashes[at ^ 1] if at ^ 1 < len(hashes) else hashes[at]
        expected = merkle_root(hashes)
        assert many_hashes.merkle_root(hashes) == expected
        seen.add(expected[1])
    assert seen == {False, True}
