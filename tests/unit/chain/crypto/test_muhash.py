"""MuHash3072 against Core's vector, and that it is a hash of the set alone."""

from __future__ import annotations

import random

import pytest

from chain.crypto import muhash, muhash_native
from chain.crypto.muhash import MuHash


def element(number: int) -> bytes:
    return bytes((number,)) + bytes(31)


def test_vector_of_core() -> None:
    """muhash_tests.cpp: elements 0 and 1 put in, 2 taken out."""
    empty = MuHash()
    empty.insert([element(0), element(1)])
    empty.remove([element(2)])
    assert empty.digest()[::-1].hex() == "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863"


def test_order_and_detours_do_not_matter(rng: random.Random) -> None:
    elements = [rng.randbytes(60) for _ in range(50)]
    straight, detour = MuHash(), MuHash()
    straight.insert(elements)
    rng.shuffle(elements)
    detour.insert([*elements[:30], b"guest"])
    detour.remove([b"guest", elements[3]])
    detour.insert([*elements[30:], elements[3]])
    assert straight.digest() == detour.digest()
    detour.remove([elements[0]])
    assert straight.digest() != detour.digest()


def test_the_compiled_loop_multiplies_as_the_plain_one(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    elements = [rng.randbytes(rng.randrange(100)) for _ in range(400)]
    for start in (0, 1, muhash._PRIME - 1, rng.randrange(muhash._PRIME)):
        native = muhash._product(start, elements)
        with monkeypatch.context() as patched:
            patched.setattr(muhash, "_NATIVE_FROM", 1 << 60)
            assert muhash._product(start, elements) == native
    keys = rng.randbytes(32)
    factor = int.from_bytes(muhash._stretch(keys, 1), "little")
    for start in (muhash._MASK, muhash._PRIME, muhash._MASK >> 1):
        assert muhash_native.product(start, keys) % muhash._PRIME == start * factor % muhash._PRIME


def test_a_state_is_gone_on_from(rng: random.Random) -> None:
    first, second = [rng.randbytes(20) for _ in range(30)], [rng.randbytes(20) for _ in range(30)]
    whole = MuHash()
    whole.insert(first + second)
    whole.remove(first[:10])
    part = MuHash()
    part.insert(first)
    part = MuHash.from_state(part.state())
    part.remove(first[:10])
    part = MuHash.from_state(part.state())
    part.insert(second)
    assert part.digest() == whole.digest()
    with pytest.raises(ValueError, match="384 bytes"):
        MuHash.from_state(bytes(383))
