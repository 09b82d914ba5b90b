"""A batch must give exactly the verdict of its checks done one by one."""

from __future__ import annotations

import random
import threading
import time

import pytest

from chain.crypto import batch as batch_module
from chain.crypto import secp256k1_native as curve
from chain.crypto.batch import SignatureBatch


def _ecdsa_case(rng: random.Random) -> tuple[bytes, bytes, bytes]:
    secret, digest = rng.randbytes(32), rng.randbytes(32)
    key, signature = curve.pubkey_from_secret(secret, rng.random() < 0.7), bytearray(curve.sign_ecdsa(secret, digest))
    kind = rng.randrange(8)
    if kind == 0:
        signature[rng.randrange(len(signature))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del signature[rng.randrange(len(signature)) :]
    elif kind == 2:
        signature += rng.randbytes(rng.randrange(1, 240))
    elif kind == 3:
        key = key[:-1] + bytes([key[-1] ^ 1])
    elif kind == 4:  # the other S: valid all the same
        compact = curve.parse_der_lax(bytes(signature))
        assert compact is not None
        high = (batch_order() - int.from_bytes(compact[32:], "big")).to_bytes(33, "big")
        body = b"\x02\x21\0" + compact[:32] + b"\x02\x21" + high
        signature = bytearray(b"\x30" + bytes([len(body)]) + body)
    elif kind == 5:  # long-form lengths
        signature = bytearray(b"\x30\x81" + bytes([len(signature) - 2]) + bytes(signature[2:]))
    return key, bytes(signature), digest


def batch_order() -> int:
    from chain.crypto.der import ORDER

    return ORDER


@pytest.mark.parametrize("portable", [False, True])
def test_batch_of_one_agrees_with_the_single_check(
    rng: random.Random, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if portable:
        monkeypatch.setattr(batch_module, "_verifier", batch_module._verify_one_by_one)
    verdicts = []
    for _ in range(300):
        key, signature, digest = _ecdsa_case(rng)
        batch: SignatureBatch[str] = SignatureBatch()
        batch.add_ecdsa(key, signature, digest, "tag")
        expected = curve.verify_ecdsa(key, signature, digest)
        assert (batch.verify() is None) == expected, (key.hex(), signature.hex(), digest.hex())
        verdicts.append(expected)
    assert len(set(verdicts)) == 2


def test_the_first_failure_is_named(rng: random.Random) -> None:
    cases = []
    while len(cases) < 40:
        case = _ecdsa_case(rng)
        if curve.verify_ecdsa(*case):
            cases.append(case)
    for bad in (0, 17, 39, None):
        batch: SignatureBatch[int] = SignatureBatch()
        for i, (key, signature, digest) in enumerate(cases):
            batch.add_ecdsa(key, signature, bytes(32) if i == bad else digest, i)
        assert batch.verify() == bad


def test_schnorr_and_oversized_signatures(rng: random.Random) -> None:
    secret, digest = rng.randbytes(32), rng.randbytes(32)
    key, signature = curve.xonly_from_secret(secret), curve.sign_schnorr(secret, digest, bytes(32))
    ecdsa = curve.sign_ecdsa(secret, digest) + bytes(300)  # trailing bytes pass in lax DER, however many
    public = curve.pubkey_from_secret(secret)
    batch: SignatureBatch[str] = SignatureBatch()
    batch.add_ecdsa(public, ecdsa, digest, "long")
    batch.add_schnorr(key, signature, digest, "schnorr")
    assert batch.verify() is None
    batch.add_ecdsa(public, ecdsa, bytes(32), "long and wrong")
    batch.add_schnorr(key, signature, bytes(32), "wrong")
    assert batch.verify() == "long and wrong"
    assert len(batch) == 4
    for wrong in ((key[:31], signature), (key, signature[:63]), (b"\xff" * 32, signature), (key, bytes(64))):
        alone: SignatureBatch[str] = SignatureBatch()
        alone.add_schnorr(wrong[0], wrong[1], digest, "wrong")
        assert alone.verify() == "wrong"


def test_an_empty_batch_holds() -> None:
    assert SignatureBatch[int]().verify() is None


def test_python_runs_while_a_batch_is_verified(rng: random.Random) -> None:
    secret, digest = rng.randbytes(32), rng.randbytes(32)
    key, signature = curve.pubkey_from_secret(secret), curve.sign_ecdsa(secret, digest)
    batch: SignatureBatch[int] = SignatureBatch()
    for i in range(3000):
        batch.add_ecdsa(key, signature, digest, i)
    batch_module.verifier()(bytearray())  # compile first
    done = threading.Event()
    thread = threading.Thread(target=lambda: (batch.verify(), done.set()))
    steps = 0
    thread.start()
    while not done.is_set():
        steps += 1
        time.sleep(0)
    thread.join()
    assert steps > 100  # one call takes some 100 ms; were the lock held, this loop could not turn
