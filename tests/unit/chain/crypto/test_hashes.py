"""Published digests, and our own RIPEMD-160 against OpenSSL's."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from chain.crypto import hashes
from chain.crypto.ripemd160 import ripemd160 as portable_ripemd160


@pytest.mark.parametrize(
    ("data", "digest"),
    [  # from the function's authors
        (b"", "9c1185a5c5e9fc54612808977ee8f548b2258d31"),
        (b"abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        (b"a" * 1_000_000, "52783243c1697bdbe16d37f97f68f08325dc1528"),
    ],
)
def test_ripemd160(data: bytes, digest: str) -> None:
    assert hashes.ripemd160(data).hex() == digest
    assert portable_ripemd160(data).hex() == digest


def test_portable_ripemd160_at_every_padding(rng: random.Random) -> None:
    if "ripemd160" not in hashlib.algorithms_available:
        pytest.skip("this OpenSSL has no RIPEMD-160 to compare with")
    for size in range(130):
        data = rng.randbytes(size)
        assert portable_ripemd160(data) == hashes.ripemd160(data)


def test_siphash() -> None:
    """The reference vector of the SipHash paper, and the first of its table."""
    k0, k1 = 0x0706050403020100, 0x0F0E0D0C0B0A0908
    assert hashes.siphash24(k0, k1, bytes(range(15))) == 0xA129CA6149BE45E5
    assert hashes.siphash24(k0, k1, b"") == 0x726FDB47DD0E0E31


def test_tagged_hash_and_the_rest() -> None:
    tag = hashlib.sha256(b"TapLeaf").digest()
    assert hashes.tagged_hash("TapLeaf", b"x") == hashlib.sha256(tag + tag + b"x").digest()
    assert hashes.sha256d(b"hello").hex() == "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"
    assert hashes.hash160(b"hello").hex() == "b6a9c8c230722b7c748331a8b450f05566dc7d0f"
    assert hashes.hmac_sha512(b"k", b"d") == hashes.hmac.digest(b"k", b"d", "sha512")


def test_hashes_in_compiled_code(rng: random.Random) -> None:
    from chain.crypto.hash_native import hash160_into, new_hasher, sha256_begin, sha256_blocks, sha256_end, sha256d_into

    hasher, out = new_hasher(), np.zeros(40, np.uint8)
    for size in [*range(200), 1000, 65535]:
        message = rng.randbytes(size)
        data = np.frombuffer(bytearray(b"abc" + message + b"xyz"), np.uint8)
        sha256d_into(hasher, data, 3, size, out, 5)
        assert out[5:37].tobytes() == hashes.sha256d(message)
        hash160_into(hasher, data, 3, size, out)
        assert out[:20].tobytes() == hashes.hash160(message)
        whole = rng.randrange(size // 64 + 1)
        sha256_begin(hasher)
        sha256_blocks(hasher, data, 3, whole)
        sha256_end(hasher, data, 3 + 64 * whole, size - 64 * whole, 64 * whole, out, 0)
        assert out[:32].tobytes() == hashes.sha256(message)


def test_compressing_with_and_without_the_processors_help(rng: random.Random) -> None:
    """Whichever of the two this processor would choose; the other one runs too if it can."""
    from chain.crypto import hash_native

    candidates = [hash_native.compress_portably]
    if hash_native.has_sha_extensions():
        candidates.append(hash_native.compress_with_extensions)
    for count in (1, 2, 5):
        message = rng.randbytes(64 * count)
        padding = b"\x80" + bytes(55) + (512 * count).to_bytes(8, "big")
        data = np.frombuffer(bytearray(b"x" + message + padding), np.uint8)
        for compress in candidates:
            state = hash_native.initial_state()
            compress(state, np.zeros(64, np.uint32), data, 1, count + 1)
            assert state.astype(">u4").tobytes() == hashes.sha256(message)
