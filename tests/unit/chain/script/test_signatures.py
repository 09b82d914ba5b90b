"""The shape of signatures and keys."""

from __future__ import annotations

import random

import pytest

from chain.crypto.der import ORDER
from chain.crypto.secp256k1 import sign_ecdsa
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.signatures import (
    HALF_ORDER,
    check_pubkey_encoding,
    check_signature_encoding,
    has_pubkey_size,
    is_defined_hashtype,
    is_low_s,
    is_valid_signature_encoding,
)
from tests.support.spends import high_s


def der(r: int, s: int, hash_type: int = 1) -> bytes:
    def integer(n: int) -> bytes:
        data = n.to_bytes((n.bit_length() + 8) // 8, "big")
        return b"\x02" + bytes((len(data),)) + data

    body = integer(r) + integer(s)
    return b"\x30" + bytes((len(body),)) + body + bytes((hash_type,))


def test_strict_der(rng: random.Random) -> None:
    good = der(rng.getrandbits(250) | 1, rng.getrandbits(250) | 1)
    assert is_valid_signature_encoding(good)
    assert is_valid_signature_encoding(der(0, 0))
    r_size = good[3]
    bad = [
        good[:8],
        good + b"\0",
        b"\x31" + good[1:],
        good[:1] + bytes((good[1] + 1,)) + good[2:],
        good[:2] + b"\x03" + good[3:],
        good[:3] + bytes((r_size + 1,)) + good[4:],
        good[:3] + b"\x7f" + good[4:],
        good[: 4 + r_size] + b"\x03" + good[5 + r_size :],
        good[:4] + bytes((good[4] | 0x80,)) + good[5:],
        good[: 6 + r_size] + bytes((good[6 + r_size] | 0x80,)) + good[7 + r_size :],
        b"\x30\x07\x02\x00\x02\x02\x01\x01\x01\x01",  # empty R
        b"\x30\x07\x02\x02\x01\x01\x02\x00\x01\x01",  # empty S
        b"\x30\x07\x02\x02\x00\x01\x02\x01\x01\x01",  # padded R
        b"\x30\x07\x02\x01\x01\x02\x02\x00\x01\x01",  # padded S
        bytes(74),
        b"",
    ]
    for sig in bad:
        assert not is_valid_signature_encoding(sig), sig.hex()


def test_low_s() -> None:
    assert is_low_s(der(1, HALF_ORDER))
    assert not is_low_s(der(1, HALF_ORDER + 1))
    assert not is_low_s(der(1, ORDER - 1))
    # Out of the group: Core's parser makes zeros of the whole signature, and zero is low.
    assert is_low_s(der(1, ORDER))
    assert is_low_s(der(ORDER, ORDER - 1))
    assert not is_low_s(der(ORDER - 1, ORDER - 1))


def test_what_each_flag_demands(rng: random.Random) -> None:
    sig = sign_ecdsa(rng.randbytes(32), rng.randbytes(32)) + b"\x01"
    negated = high_s(sig[:-1]) + b"\x01"
    odd = sig[:-1] + b"\x04"
    loose = sig[:1] + b"\x81" + sig[1:]
    ok = ScriptError.OK
    for flags in (0, ScriptFlags.NULLFAIL):
        assert [check_signature_encoding(s, int(flags)) for s in (sig, negated, odd, loose, b"")] == [ok] * 5
    dersig = [check_signature_encoding(s, int(ScriptFlags.DERSIG)) for s in (sig, negated, odd, loose, b"")]
    assert dersig == [ok, ok, ok, ScriptError.SIG_DER, ok]
    low = [check_signature_encoding(s, int(ScriptFlags.LOW_S)) for s in (sig, negated, odd, loose, b"")]
    assert low == [ok, ScriptError.SIG_HIGH_S, ok, ScriptError.SIG_DER, ok]
    strict = [check_signature_encoding(s, int(ScriptFlags.STRICTENC)) for s in (sig, negated, odd, loose, b"")]
    assert strict == [ok, ok, ScriptError.SIG_HASHTYPE, ScriptError.SIG_DER, ok]


@pytest.mark.parametrize(
    ("key", "size", "strict", "segwit"),
    [
        (b"\x02" + bytes(32), True, True, True),
        (b"\x03" + bytes(32), True, True, True),
        (b"\x04" + bytes(64), True, True, False),
        (b"\x06" + bytes(64), True, False, False),
        (b"\x07" + bytes(64), True, False, False),
        (b"\x05" + bytes(64), False, False, False),
        (b"\x04" + bytes(32), False, False, False),
        (b"\x02" + bytes(64), False, False, False),
        (b"\x02" + bytes(31), False, False, False),
        (b"", False, False, False),
    ],
)
def test_public_keys(key: bytes, size: bool, strict: bool, segwit: bool) -> None:
    assert has_pubkey_size(key) == size
    strictenc, compressed = int(ScriptFlags.STRICTENC), int(ScriptFlags.WITNESS_PUBKEYTYPE)
    assert check_pubkey_encoding(key, strictenc, True) is (ScriptError.OK if strict else ScriptError.PUBKEYTYPE)
    expected = ScriptError.OK if segwit else ScriptError.WITNESS_PUBKEYTYPE
    assert check_pubkey_encoding(key, compressed, True) is expected
    assert check_pubkey_encoding(key, compressed, False) is ScriptError.OK


def test_defined_hash_types() -> None:
    assert {n for n in range(256) if is_defined_hashtype(bytes((n,)))} == {1, 2, 3, 0x81, 0x82, 0x83}
    assert not is_defined_hashtype(b"")
