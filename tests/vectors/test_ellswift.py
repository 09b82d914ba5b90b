"""ElligatorSwift against the tables of BIP324, by the library and by Python's integers."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.crypto import ellswift, secp256k1


def rows(vectors: Path, name: str) -> list[dict[str, str]]:
    with (vectors / "bips" / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("decode", [ellswift.decode, ellswift.python_decode])
def test_decoding(vectors: Path, decode: Callable[[bytes], bytes]) -> None:
    table = rows(vectors, "bip-0324_ellswift_decode_test_vectors.csv")
    assert len(table) > 50
    for row in table:
        assert decode(bytes.fromhex(row["ellswift"])).hex() == row["x"], row["comment"]


def test_inverse_map(vectors: Path) -> None:
    table = rows(vectors, "bip-0324_xswiftec_inv_test_vectors.csv")
    assert len(table) > 20
    for row in table:
        u, x = int(row["u"], 16), int(row["x"], 16)
        for case in range(8):
            expected = row[f"case{case}_t"]
            t = ellswift.xswiftec_inv(x, u, case)
            assert ("" if t is None else f"{t:064x}") == expected, (row["comment"], case)
            if t is not None:
                assert ellswift.xswiftec(u, t) == x


@pytest.mark.parametrize("agree", [ellswift.shared_secret, ellswift.python_shared_secret])
def test_key_agreement(vectors: Path, agree: Callable[[bytes, bytes, bytes, bool], bytes]) -> None:
    for row in rows(vectors, "bip-0324_packet_encoding_test_vectors.csv"):
        shared = agree(
            bytes.fromhex(row["in_priv_ours"]),
            bytes.fromhex(row["in_ellswift_ours"]),
            bytes.fromhex(row["in_ellswift_theirs"]),
            row["in_initiating"] == "1",
        )
        assert shared.hex() == row["mid_shared_secret"]


@pytest.mark.parametrize("create", [ellswift.create, ellswift.python_create])
def test_encodings_stand_for_the_secrets_key(rng: random.Random, create: Callable[[bytes, bytes], bytes]) -> None:
    secret = rng.randbytes(32)
    encodings = {create(secret, rng.randbytes(32)) for _ in range(5)}
    assert len(encodings) == 5
    assert {ellswift.decode(encoding) for encoding in encodings} == {secp256k1.xonly_from_secret(secret)}


def test_both_sides_agree(rng: random.Random) -> None:
    (a, ell_a), (b, ell_b) = ellswift.generate(), ellswift.generate()
    assert ellswift.shared_secret(a, ell_a, ell_b, True) == ellswift.shared_secret(b, ell_b, ell_a, False)
    assert ellswift.shared_secret(a, ell_a, ell_b, True) != ellswift.shared_secret(a, ell_a, ell_b, False)


def test_impossible_arguments_are_refused() -> None:
    good, key = ellswift.generate()
    attempts: tuple[Callable[[], bytes], ...] = (
        lambda: ellswift.create(bytes(32), bytes(32)),
        lambda: ellswift.create(good, b""),
        lambda: ellswift.decode(bytes(63)),
        lambda: ellswift.shared_secret(bytes(32), key, key, True),
        lambda: ellswift.shared_secret(good, key[:-1], key, True),
    )
    for attempt in attempts:
        with pytest.raises(ValueError, match=r"key|bytes"):
            attempt()
