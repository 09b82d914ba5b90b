"""MuHash3072 against Core's vector, and that it is a hash of the set alone."""

from __future__ import annotations

import random

from chain.crypto.muhash import MuHash


def element(number: int) -> bytes:
    return bytes((number,)) + bytes(31)


def test_vector_of_core() -> None:
    """muhash_tests.cpp: elements 0 and 1 put in, 2 taken out."""
    muhash = MuHash()
    muhash.insert([element(0), element(1)])
    muhash.remove([element(2)])
    assert muhash.digest()[::-1].hex() == "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863"


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
