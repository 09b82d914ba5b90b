"""The portable backend of `chain.crypto.secp256k1`, over the pure-Python `ecdsa` package; Schnorr signatures (BIP340)
are built on its points.

The oracle of the tests and the fallback where libsecp256k1 has no wheel. Slow, and not constant-time: not for keys that
hold money.
"""

from __future__ import annotations

import hmac
from typing import Any

from ecdsa import ellipticcurve
from ecdsa.ecdsa import Public_key, Signature, generator_secp256k1

from chain.crypto.der import HALF_ORDER, ORDER, low_s, parse_der_lax
from chain.crypto.hashes import tagged_hash

NAME = "ecdsa"

_G: Any = generator_secp256k1
_CURVE: Any = _G.curve()
_P: int = _CURVE.p()
_INFINITY: Any = ellipticcurve.INFINITY


def _lift_x(x: int, odd: int) -> Any:
    """The point with this x and parity of y, or None."""
    if x >= _P:
        return None
    square = (pow(x, 3, _P) + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        return None
    if y & 1 != odd:
        y = _P - y
    return ellipticcurve.PointJacobi(_CURVE, x, y, 1, ORDER)


def _parse_pubkey(pubkey: bytes) -> Any:
    """The point of a SEC1 encoding, hybrid ones included, or None."""
    if len(pubkey) == 33 and pubkey[0] in (2, 3):
        return _lift_x(int.from_bytes(pubkey[1:], "big"), pubkey[0] & 1)
    if len(pubkey) == 65 and pubkey[0] in (4, 6, 7):
        x, y = int.from_bytes(pubkey[1:33], "big"), int.from_bytes(pubkey[33:], "big")
        if x >= _P or y >= _P or (y * y - pow(x, 3, _P) - 7) % _P:
            return None
        if pubkey[0] != 4 and pubkey[0] & 1 != y & 1:
            return None
        return ellipticcurve.PointJacobi(_CURVE, x, y, 1, ORDER)
    return None


def _point(pubkey: bytes) -> Any:
    point = _parse_pubkey(pubkey)
    if point is None:
        raise ValueError("not a public key on secp256k1")
    return point


def _serialize(point: Any, compressed: bool = True) -> bytes:
    x, y = int(point.x()), int(point.y())
    if compressed:
        return bytes([2 + (y & 1)]) + x.to_bytes(32, "big")
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def _scalar(secret: bytes) -> int:
    if not is_valid_secret(secret):
        raise ValueError("not a secret key: 32 bytes between 1 and the group order")
    return int.from_bytes(secret, "big")


def _require_32(data: bytes, what: str) -> None:
    if len(data) != 32:
        raise ValueError(f"{what} has 32 bytes, not {len(data)}")


def verify_ecdsa(pubkey: bytes, der_signature: bytes, digest: bytes) -> bool:
    """See `secp256k1_native.verify_ecdsa`."""
    point = _parse_pubkey(pubkey)
    compact = parse_der_lax(der_signature)
    if point is None or compact is None:
        return False
    compact = low_s(compact)
    r, s = int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:], "big")
    return bool(Public_key(_G, point, verify=False).verifies(int.from_bytes(digest, "big"), Signature(r, s)))


def verify_schnorr(xonly: bytes, signature: bytes, message: bytes) -> bool:
    """See `secp256k1_native.verify_schnorr`."""
    if len(xonly) != 32 or len(signature) != 64:
        return False
    point = _lift_x(int.from_bytes(xonly, "big"), 0)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= _P or s >= ORDER:
        return False
    e = int.from_bytes(tagged_hash("BIP0340/challenge", signature[:32] + xonly + message), "big") % ORDER
    nonce = _G * s + point * (ORDER - e)
    return bool(nonce != _INFINITY and nonce.y() & 1 == 0 and nonce.x() == r)


def is_valid_pubkey(pubkey: bytes) -> bool:
    """See `secp256k1_native.is_valid_pubkey`."""
    return _parse_pubkey(pubkey) is not None


def is_valid_xonly(xonly: bytes) -> bool:
    """See `secp256k1_native.is_valid_xonly`."""
    return len(xonly) == 32 and _lift_x(int.from_bytes(xonly, "big"), 0) is not None


def is_valid_secret(secret: bytes) -> bool:
    """See `secp256k1_native.is_valid_secret`."""
    return len(secret) == 32 and 0 < int.from_bytes(secret, "big") < ORDER


def pubkey_from_secret(secret: bytes, compressed: bool = True) -> bytes:
    """See `secp256k1_native.pubkey_from_secret`."""
    return _serialize(_G * _scalar(secret), compressed)


def xonly_from_secret(secret: bytes) -> bytes:
    """See `secp256k1_native.xonly_from_secret`."""
    return pubkey_from_secret(secret)[1:]


def compress_pubkey(pubkey: bytes) -> bytes:
    """See `secp256k1_native.compress_pubkey`."""
    return _serialize(_point(pubkey))


class _NonceGenerator:
    """HMAC-DRBG of RFC 6979 as libsecp256k1 runs it: the digest enters unreduced, extra data follows it."""

    def __init__(self, secret: bytes, digest: bytes, extra: bytes) -> None:
        self.key, self.value = bytes(32), b"\x01" * 32
        for byte in (b"\0", b"\1"):
            self.key = self._mac(self.value + byte + secret + digest + extra)
            self.value = self._mac(self.value)
        self.fresh = True

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, "sha256")

    def next(self) -> int:
        """The next nonce in 1 .. order - 1."""
        while True:
            if not self.fresh:
                self.key = self._mac(self.value + b"\0")
                self.value = self._mac(self.value)
            self.fresh = False
            self.value = self._mac(self.value)
            nonce = int.from_bytes(self.value, "big")
            if 0 < nonce < ORDER:
                return nonce


def _sign(secret: bytes, digest: bytes, extra: bytes) -> tuple[int, int, int]:
    """(r, s, recovery id) with low s."""
    _require_32(digest, "a digest")
    key, z = _scalar(secret), int.from_bytes(digest, "big")
    nonces = _NonceGenerator(secret, digest, extra)
    while True:
        k = nonces.next()
        point = _G * k
        r = point.x() % ORDER
        s = pow(k, -1, ORDER) * (z + r * key) % ORDER
        if r and s:
            recid = (2 if point.x() >= ORDER else 0) | (point.y() & 1)
            return (r, s, recid) if s <= HALF_ORDER else (r, ORDER - s, recid ^ 1)


def _der(r: int, s: int) -> bytes:
    def integer(value: int) -> bytes:
        data = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return b"\x02" + bytes([len(data)]) + data

    body = integer(r) + integer(s)
    return b"\x30" + bytes([len(body)]) + body


def sign_ecdsa(secret: bytes, digest: bytes, grind: bool = True) -> bytes:
    """See `secp256k1_native.sign_ecdsa`."""
    counter = 0
    while True:
        r, s, _ = _sign(secret, digest, counter.to_bytes(32, "little") if counter else b"")
        if not grind or r < 1 << 255:
            return _der(r, s)
        counter += 1


def sign_schnorr(secret: bytes, message: bytes, aux: bytes) -> bytes:
    """See `secp256k1_native.sign_schnorr`."""
    _require_32(message, "a message")
    _require_32(aux, "auxiliary randomness")
    key = _scalar(secret)
    point = _G * key
    if point.y() & 1:
        key = ORDER - key
    xonly = point.x().to_bytes(32, "big")
    masked = (key ^ int.from_bytes(tagged_hash("BIP0340/aux", aux), "big")).to_bytes(32, "big")
    k = int.from_bytes(tagged_hash("BIP0340/nonce", masked + xonly + message), "big") % ORDER
    if k == 0:
        raise ValueError("that key and message have no signature")
    nonce = _G * k
    if nonce.y() & 1:
        k = ORDER - k
    r = int(nonce.x()).to_bytes(32, "big")
    e = int.from_bytes(tagged_hash("BIP0340/challenge", r + xonly + message), "big") % ORDER
    return r + ((k + e * key) % ORDER).to_bytes(32, "big")


def sign_recoverable(secret: bytes, digest: bytes) -> tuple[int, bytes]:
    """See `secp256k1_native.sign_recoverable`."""
    r, s, recid = _sign(secret, digest, b"")
    return recid, r.to_bytes(32, "big") + s.to_bytes(32, "big")


def recover(recid: int, compact: bytes, digest: bytes, compressed: bool = True) -> bytes:
    """See `secp256k1_native.recover`."""
    _require_32(digest, "a digest")
    r, s = int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:], "big")
    if len(compact) != 64 or not 0 <= recid <= 3 or not 0 < r < ORDER or not 0 < s < ORDER:
        raise ValueError("not a recoverable signature")
    nonce = _lift_x(r + (ORDER if recid & 2 else 0), recid & 1)
    if nonce is None:
        raise ValueError("no public key fits that signature")
    inverse = pow(r, -1, ORDER)
    point = nonce * (s * inverse % ORDER) + _G * (-int.from_bytes(digest, "big") * inverse % ORDER)
    if point == _INFINITY:
        raise ValueError("no public key fits that signature")
    return _serialize(point, compressed)


def secret_tweak_add(secret: bytes, tweak: bytes) -> bytes:
    """See `secp256k1_native.secret_tweak_add`."""
    key = _scalar(secret)
    _require_32(tweak, "a tweak")
    total = (key + int.from_bytes(tweak, "big")) % ORDER
    if int.from_bytes(tweak, "big") >= ORDER or total == 0:
        raise ValueError("that tweak gives no secret key")
    return total.to_bytes(32, "big")


def secret_negate(secret: bytes) -> bytes:
    """See `secp256k1_native.secret_negate`."""
    return (ORDER - _scalar(secret)).to_bytes(32, "big")


def pubkey_tweak_add(pubkey: bytes, tweak: bytes) -> bytes:
    """See `secp256k1_native.pubkey_tweak_add`."""
    _require_32(tweak, "a tweak")
    point, scalar = _point(pubkey), int.from_bytes(tweak, "big")
    total = point + _G * scalar if 0 < scalar < ORDER else point
    if scalar >= ORDER or total == _INFINITY:
        raise ValueError("that tweak gives no public key")
    return _serialize(total)


def xonly_tweak_add(xonly: bytes, tweak: bytes) -> tuple[bytes, int]:
    """See `secp256k1_native.xonly_tweak_add`."""
    _require_32(xonly, "an x-only key")
    tweaked = pubkey_tweak_add(b"\x02" + xonly, tweak)
    return tweaked[1:], tweaked[0] & 1


def check_tap_tweak(output_xonly: bytes, parity: int, internal_xonly: bytes, tweak: bytes) -> bool:
    """See `secp256k1_native.check_tap_tweak`."""
    try:
        return xonly_tweak_add(internal_xonly, tweak) == (output_xonly, parity)
    except ValueError:
        return False
