"""ElligatorSwift: public keys as 64 uniform-looking bytes, and the key agreement over them (BIP324).

Used where a connection must not show that it begins with a key: BIP324's transport and Stratum V2's Noise handshake.
libsecp256k1 does the work where coincurve brings it; otherwise Python's integers do, which is not constant-time.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from chain.crypto import secp256k1
from chain.crypto.hashes import tagged_hash

ELLSWIFT_SIZE = 64
_TAG = "bip324_ellswift_xonly_ecdh"
_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SQRT_MINUS_3 = 0x0A2D2BA93507F1DF233770C2A797962CC61F6D15DA14ECD47D8D27AE1CD5F852


def create(secret: bytes, randomness: bytes) -> bytes:
    """One of the many encodings of a secret's public key; `randomness`: 32 bytes that choose which. ValueError for an
    impossible secret."""
    if len(secret) != 32 or len(randomness) != 32 or not secp256k1.is_valid_secret(secret):
        raise ValueError("a secret key and 32 random bytes are needed")
    return _create(secret, randomness)


def decode(encoding: bytes) -> bytes:
    """The x-only public key (32 bytes) that 64 bytes stand for; any 64 bytes stand for one."""
    if len(encoding) != ELLSWIFT_SIZE:
        raise ValueError(f"an ElligatorSwift key has {ELLSWIFT_SIZE} bytes, not {len(encoding)}")
    return _decode(encoding)


def shared_secret(secret: bytes, ours: bytes, theirs: bytes, initiating: bool) -> bytes:
    """BIP324's v2_ecdh: 32 bytes that both sides get. `ours` encodes the public key of `secret`; `initiating`: we began
    the connection."""
    if len(ours) != ELLSWIFT_SIZE or len(theirs) != ELLSWIFT_SIZE or len(secret) != 32:
        raise ValueError("two 64-byte keys and a 32-byte secret are needed")
    if not secp256k1.is_valid_secret(secret):
        raise ValueError("not a secret key")
    return _shared_secret(secret, ours, theirs, initiating)


# --- over Python's integers ---


def python_decode(encoding: bytes) -> bytes:
    """`decode` by BIP324's XSwiftEC."""
    return xswiftec(int.from_bytes(encoding[:32]) % _P, int.from_bytes(encoding[32:]) % _P).to_bytes(32)


def python_create(secret: bytes, randomness: bytes) -> bytes:
    """`create` by BIP324's XElligatorSwift; another encoding than the library's for the same randomness."""
    x = int.from_bytes(secp256k1.xonly_from_secret(secret))
    attempt = 0
    while True:
        digest = tagged_hash("pickaxe/ellswift", secret + randomness + attempt.to_bytes(4))
        u = int.from_bytes(digest) % _P
        case = tagged_hash("pickaxe/ellswift case", digest)[0] & 7
        if u and (t := xswiftec_inv(x, u, case)) is not None:
            return u.to_bytes(32) + t.to_bytes(32)
        attempt += 1


def python_shared_secret(secret: bytes, ours: bytes, theirs: bytes, initiating: bool) -> bytes:
    """`shared_secret` with the point multiplied in affine coordinates."""
    x = _multiply_x(int.from_bytes(python_decode(theirs)), int.from_bytes(secret)).to_bytes(32)
    first, second = (ours, theirs) if initiating else (theirs, ours)
    return tagged_hash(_TAG, first + second + x)


def xswiftec(u: int, t: int) -> int:
    """The x coordinate that field elements u and t stand for (BIP324)."""
    u = u or 1
    t = t or 1
    g = (u * u * u + 7) % _P
    if (g + t * t) % _P == 0:
        t = 2 * t % _P
    big_x = (g - t * t) * pow(2 * t, -1, _P) % _P
    big_y = (big_x + t) * pow(_SQRT_MINUS_3 * u, -1, _P) % _P
    x = (u + 4 * big_y * big_y) % _P
    if _is_valid_x(x):
        return x
    ratio = big_x * pow(big_y, -1, _P) % _P
    half = (_P + 1) // 2
    x = (-ratio - u) * half % _P
    return x if _is_valid_x(x) else (ratio - u) * half % _P


def xswiftec_inv(x: int, u: int, case: int) -> int | None:
    """The t of `case` 0..7 with xswiftec(u, t) = x, or None (BIP324)."""
    if case & 2 == 0:
        if _is_valid_x((-x - u) % _P):
            return None
        v = x
        denominator = (u * u + u * v + v * v) % _P
        if denominator == 0:
            return None
        s = -(u * u * u + 7) * pow(denominator, -1, _P) % _P
    else:
        s = (x - u) % _P
        if s == 0:
            return None
        r = _sqrt(-s * (4 * (u * u * u + 7) + 3 * s * u * u) % _P)
        if r is None or (case & 1 and r == 0):
            return None
        v = (-u + r * pow(s, -1, _P)) * pow(2, -1, _P) % _P
    w = _sqrt(s)
    if w is None:
        return None
    sign = -1 if case & 5 in (0, 5) else 1
    root = -_SQRT_MINUS_3 if case & 1 == 0 else _SQRT_MINUS_3
    return sign * w * (u * (1 + root) * pow(2, -1, _P) + v) % _P


def _is_valid_x(x: int) -> bool:
    return _sqrt((x * x * x + 7) % _P) is not None


def _sqrt(value: int) -> int | None:
    root = pow(value, (_P + 1) // 4, _P)
    return root if root * root % _P == value else None


def _multiply_x(x: int, factor: int) -> int:
    """The x coordinate of factor · (x, y); which of the two y does not matter."""
    y = _sqrt((x * x * x + 7) % _P)
    if y is None:
        raise ValueError("not the x coordinate of a point")
    total: tuple[int, int] | None = None
    point: tuple[int, int] | None = (x, y)
    factor %= _N
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    if total is None:
        raise ValueError("the shared point is at infinity")
    return total[0]


def _add(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, _P) % _P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P) % _P
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


_create: Callable[[bytes, bytes], bytes] = python_create
_decode: Callable[[bytes], bytes] = python_decode
_shared_secret: Callable[[bytes, bytes, bytes, bool], bytes] = python_shared_secret

if secp256k1.BACKEND_NAME == "libsecp256k1":
    from coincurve._libsecp256k1 import ffi, lib

    if hasattr(lib, "secp256k1_ellswift_xdh"):
        from chain.crypto.secp256k1_native import CONTEXT

        _BIP324_HASH = ffi.addressof(lib, "secp256k1_ellswift_xdh_hash_function_bip324")

        def _native_create(secret: bytes, randomness: bytes) -> bytes:
            out = ffi.new("unsigned char[64]")
            if not lib.secp256k1_ellswift_create(CONTEXT, out, secret, randomness):
                raise ValueError("not a secret key")
            return bytes(ffi.buffer(out))

        def _native_decode(encoding: bytes) -> bytes:
            point = ffi.new("secp256k1_pubkey *")
            out, size = ffi.new("unsigned char[33]"), ffi.new("size_t *", 33)
            lib.secp256k1_ellswift_decode(CONTEXT, point, encoding)
            lib.secp256k1_ec_pubkey_serialize(CONTEXT, out, size, point, 258)
            return bytes(ffi.buffer(out))[1:]

        def _native_shared_secret(secret: bytes, ours: bytes, theirs: bytes, initiating: bool) -> bytes:
            out = ffi.new("unsigned char[32]")
            first, second = (ours, theirs) if initiating else (theirs, ours)
            party = 0 if initiating else 1
            if not lib.secp256k1_ellswift_xdh(CONTEXT, out, first, second, secret, party, _BIP324_HASH, ffi.NULL):
                raise ValueError("not a secret key")
            return bytes(ffi.buffer(out))

        _create, _decode, _shared_secret = _native_create, _native_decode, _native_shared_secret


def generate() -> tuple[bytes, bytes]:
    """A fresh secret and an encoding of its public key."""
    while not secp256k1.is_valid_secret(secret := os.urandom(32)):
        pass
    return secret, create(secret, os.urandom(32))
