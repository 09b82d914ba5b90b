"""The two curve backends against each other, and BIP340's vectors against both."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from types import ModuleType

import pytest

from chain.crypto import secp256k1_ecdsa, secp256k1_native
from chain.crypto.der import ORDER, parse_der_lax
from chain.crypto.hashes import sha256

BACKENDS = [secp256k1_native, secp256k1_ecdsa]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.NAME)
def test_bip340_vectors(backend: ModuleType, vectors: Path) -> None:
    rows = list(csv.DictReader((vectors / "bips/bip-0340_test-vectors.csv").open()))
    assert len(rows) == 19
    for row in rows:
        public, signature, message = (bytes.fromhex(row[name]) for name in ("public key", "signature", "message"))
        assert backend.verify_schnorr(public, signature, message) == (row["verification result"] == "TRUE"), row[
            "index"
        ]
        if row["secret key"] and len(message) == 32:
            secret = bytes.fromhex(row["secret key"])
            assert backend.xonly_from_secret(secret) == public
            assert backend.sign_schnorr(secret, message, bytes.fromhex(row["aux_rand"])) == signature


def test_backends_agree_on_everything_they_make(rng: random.Random) -> None:
    native, portable = BACKENDS
    for _ in range(8):
        secret, digest, tweak = (rng.randrange(1, ORDER).to_bytes(32, "big") for _ in range(3))
        public = native.pubkey_from_secret(secret)
        for name, args in {
            "pubkey_from_secret": (secret, False),
            "xonly_from_secret": (secret,),
            "compress_pubkey": (native.pubkey_from_secret(secret, False),),
            "sign_ecdsa": (secret, digest, True),
            "sign_schnorr": (secret, digest, tweak),
            "sign_recoverable": (secret, digest),
            "secret_tweak_add": (secret, tweak),
            "secret_negate": (secret,),
            "pubkey_tweak_add": (public, tweak),
            "xonly_tweak_add": (public[1:], tweak),
        }.items():
            assert getattr(native, name)(*args) == getattr(portable, name)(*args), name
        recid, compact = native.sign_recoverable(secret, digest)
        assert native.recover(recid, compact, digest) == portable.recover(recid, compact, digest) == public
        output, parity = native.xonly_tweak_add(public[1:], tweak)
        for backend in BACKENDS:
            assert backend.check_tap_tweak(output, parity, public[1:], tweak)
            assert not backend.check_tap_tweak(output, 1 - parity, public[1:], tweak)


def _mutations(rng: random.Random, data: bytes) -> list[bytes]:
    at = rng.randrange(len(data))
    return [data, data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :], data[:at], data + b"\0", b""]


def test_backends_agree_on_verdicts_over_mutations(rng: random.Random) -> None:
    native, portable = BACKENDS
    valid = 0
    for _ in range(12):
        secret, digest = rng.randbytes(32), rng.randbytes(32)
        for public in _mutations(rng, native.pubkey_from_secret(secret, rng.random() < 0.5)):
            assert native.is_valid_pubkey(public) == portable.is_valid_pubkey(public)
            for signature in _mutations(rng, native.sign_ecdsa(secret, digest)):
                verdict = native.verify_ecdsa(public, signature, digest)
                valid += verdict
                assert verdict == portable.verify_ecdsa(public, signature, digest), (public.hex(), signature.hex())
        signature = native.sign_schnorr(secret, digest, bytes(32))
        for mutated in _mutations(rng, signature):
            xonly = native.xonly_from_secret(secret)
            assert native.verify_schnorr(xonly, mutated, digest) == portable.verify_schnorr(xonly, mutated, digest)
    assert valid >= 12


def test_hybrid_keys_are_points_only_with_the_right_parity() -> None:
    key = secp256k1_native.pubkey_from_secret(sha256(b"hybrid"), False)
    right = 6 + (key[64] & 1)
    for backend in BACKENDS:
        assert backend.is_valid_pubkey(bytes([right]) + key[1:])
        assert not backend.is_valid_pubkey(bytes([right ^ 1]) + key[1:])


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.NAME)
def test_bad_secrets_and_tweaks_are_refused(backend: ModuleType) -> None:
    good = (7).to_bytes(32, "big")
    for bad in (bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(31), b""):
        with pytest.raises(ValueError, match="secret"):
            backend.pubkey_from_secret(bad)
    with pytest.raises(ValueError, match="tweak"):
        backend.secret_tweak_add(good, (ORDER - 7).to_bytes(32, "big"))
    with pytest.raises(ValueError, match="tweak"):
        backend.pubkey_tweak_add(backend.pubkey_from_secret(good), (ORDER - 7).to_bytes(32, "big"))


def test_grinding_gives_low_r() -> None:
    for i in range(20):
        signature = secp256k1_native.sign_ecdsa(sha256(b"k"), sha256(bytes([i])))
        compact = parse_der_lax(signature)
        assert compact is not None
        assert compact[0] < 0x80
        assert len(signature) <= 70 + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3006020101020101", (1, 1)),
        ("30060201ff0201ff", (255, 255)),  # no padding before a set top bit: unsigned all the same
        ("3099020101020101", None),  # long form announcing more length bytes than there are
        ("30ff020101020101", None),
        ("3008020200010202000100", (1, 1)),  # padding and trailing bytes pass
        ("30050201010201", None),
        ("3006030101020101", None),
        ("", None),
        ("30", None),
        ("308106020101020101", (1, 1)),  # long-form sequence length
        ("30070281010102 0101".replace(" ", ""), (1, 1)),  # long-form integer length
        ("3006020a01020101", None),
    ],
)
def test_lax_der(text: str, expected: tuple[int, int] | None) -> None:
    compact = parse_der_lax(bytes.fromhex(text))
    found = None if compact is None else (int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:], "big"))
    assert found == expected
