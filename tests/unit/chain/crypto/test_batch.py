"""A batch must give exactly the verdict of its checks done one by one."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest

from chain.crypto import batch as batch_module
from chain.crypto import secp256k1_native as curve
from chain.crypto.batch import SignatureBatch
from chain.crypto.der import is_strict_der


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


def _ecdsa_damage(rng: random.Random, signature: bytes) -> bytes:
    at = rng.choice((0, 1, 2, 3, 4, 5, 4 + signature[3], 5 + signature[3], 6 + signature[3], len(signature) - 1))
    at = min(at, len(signature) - 1)
    return signature[:at] + bytes((signature[at] ^ 1 << rng.randrange(8),)) + signature[at + 1 :]


@pytest.mark.parametrize("portable", [False, True])
def test_multisig(rng: random.Random, portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to hand in signatures for keys, beside OP_CHECKMULTISIG's algorithm written down once more."""
    if portable:
        monkeypatch.setattr(batch_module, "_verifier", batch_module._verify_one_by_one)
    verdicts = []
    for _ in range(150):
        total = rng.choice((1, 2, 3, 3, 5, 16, 20))
        secrets = [rng.randbytes(32) for _ in range(total)]
        keys = [curve.pubkey_from_secret(secret, rng.random() < 0.7) for secret in secrets]
        signers = sorted(rng.sample(range(total), rng.randint(1, total)))
        if rng.random() < 0.3:
            rng.shuffle(signers)
        if rng.random() < 0.2:
            keys[rng.randrange(total)] = rng.randbytes(rng.choice((0, 1, 33, 65)))
        digests = [rng.randbytes(32) for _ in signers]
        signatures = [
            curve.sign_ecdsa(secrets[n], digest, grind=False) for n, digest in zip(signers, digests, strict=True)
        ]
        if rng.random() < 0.2:
            signatures[-1] = _ecdsa_damage(rng, signatures[-1])
        matched, key_at = 0, 0
        while matched < len(signatures) and key_at < total:
            matched += curve.verify_ecdsa(keys[key_at], signatures[matched], digests[matched])
            key_at += 1
        batch: SignatureBatch[int] = SignatureBatch()
        batch.add_schnorr(b"", b"", bytes(32), 0)  # checked already
        batch.add_multisig(keys, signatures, digests, 1)
        expected = None if matched == len(signatures) else 1
        assert batch.verify() == expected
        verdicts.append(expected is None)
    assert 30 < sum(verdicts) < 145


def test_kept_keys_are_never_mistaken(rng: random.Random) -> None:
    """Keys that share a row with one another, valid and not, in any order: the verdict is that of each alone."""
    cases = []
    for _ in range(24):
        secret, digest = rng.randbytes(32), rng.randbytes(32)
        key, signature = curve.pubkey_from_secret(secret), curve.sign_ecdsa(secret, digest)
        cases.append((key, signature, digest))
        for wrong in (b"\0" + key[1:], bytes((key[0] ^ 1,)) + key[1:], key[:-1] + b"\0", bytes(33)):
            cases.append((wrong, signature, digest))
    for _ in range(600):
        batch: SignatureBatch[int] = SignatureBatch()
        case = rng.choice(cases)
        batch.add_ecdsa(*case, 0)
        assert (batch.verify() is None) == curve.verify_ecdsa(*case)


def test_strict_der_in_compiled_code(rng: random.Random) -> None:
    from chain.crypto.batch_native import is_strict_der_at

    seen = set()
    for _ in range(4000):
        signature = curve.sign_ecdsa(rng.randbytes(32), rng.randbytes(32), grind=False)
        for _ in range(rng.randrange(3)):
            signature = _ecdsa_damage(rng, signature)
        if rng.random() < 0.1:
            signature = signature[: rng.randrange(len(signature))] + rng.randbytes(rng.randrange(5))
        data = np.frombuffer(bytearray(b"xx" + signature + b"yyyyyyyyy"), dtype=np.uint8)
        strict = is_strict_der(signature)
        assert bool(is_strict_der_at(data, 2, 2 + len(signature))) == strict, signature.hex()
        seen.add(strict)
    assert len(seen) == 2


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
