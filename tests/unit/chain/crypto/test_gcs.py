"""Golomb-Rice coded sets: encode and decode are inverses, and the compiled loops do what the plain ones do."""

from __future__ import annotations

import random

import pytest

from chain.crypto import gcs, gcs_native
from chain.crypto.hashes import siphash24


def _elements(rng: random.Random, count: int) -> list[bytes]:
    return [rng.randbytes(rng.randrange(0, 60)) + n.to_bytes(4, "big") for n in range(count)]


@pytest.mark.parametrize("p", [1, 7, 8, 19, 32])
def test_decode_is_the_inverse_of_encode(p: int, rng: random.Random) -> None:
    for count in (0, 1, 2, 47, 500):
        values = sorted(rng.randrange(count << (p + rng.randrange(3))) for _ in range(count))
        coded = gcs.encode(values, p)
        assert gcs.decode(coded, count, p) == values
        if count:
            with pytest.raises(ValueError, match="too early"):
                gcs.decode(coded[:-1] if len(coded) > 1 else b"", count, p)


def test_native_hashes_are_the_plain_ones(rng: random.Random) -> None:
    for span in (1, 784_931, 784_931 * 20_000, (1 << 64) - 1):
        key = rng.randbytes(16)
        elements = _elements(rng, 100)
        k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
        plain = sorted(siphash24(k0, k1, element) * span >> 64 for element in elements)
        assert gcs_native.hash_elements(elements, key, span).tolist() == plain
        assert gcs.hash_elements(elements, key, span) == plain
        assert gcs.hash_elements(elements[:5], key, span) == sorted(
            siphash24(k0, k1, element) * span >> 64 for element in elements[:5]
        )


def test_native_matching_is_the_plain_one(rng: random.Random) -> None:
    p = 4  # many false matches: both answers occur
    outcomes = set()
    for _ in range(200):
        count = rng.randrange(1, 60)
        key = rng.randbytes(16)
        span = count << p
        coded = gcs.encode(gcs.hash_elements(_elements(rng, count), key, span), p)
        others = [rng.randbytes(20) for _ in range(rng.randrange(1, 5))]
        hashes = gcs.hash_elements(others, key, span)
        plain = not set(gcs.decode(coded, count, p)).isdisjoint(hashes)
        native = gcs_native.match_any(coded, count, p, gcs_native.hash_elements(others, key, span))
        assert plain == native == gcs.match_any(coded, count, p, key, span, others)
        outcomes.add(plain)
    assert outcomes == {True, False}


def test_native_matching_notices_missing_bytes(rng: random.Random) -> None:
    key = rng.randbytes(16)
    span = 100 * 784_931
    coded = gcs.encode(gcs.hash_elements(_elements(rng, 100), key, span), 19)
    beyond = gcs_native.hash_elements([b"x"], key, span)
    beyond[0] = span  # looked for until the end
    assert not gcs_native.match_any(coded, 100, 19, beyond)
    for size in range(0, len(coded) - 1, 7):
        with pytest.raises(ValueError, match="too early"):
            gcs_native.match_any(coded[:size], 100, 19, beyond)


def test_nothing_matches_nothing() -> None:
    assert not gcs.match_any(b"", 0, 19, bytes(16), 0, [b"a"])
    assert not gcs.match_any(gcs.encode([5], 19), 1, 19, bytes(16), 784_931, [])
