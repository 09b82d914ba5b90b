"""The libsecp256k1 backend of `chain.crypto.secp256k1`, through the library handle that coincurve carries.

Calls go straight to the C functions: coincurve's classes cost more per call than the curve operations they wrap are
worth on the hot path.
"""

from __future__ import annotations

import os

from coincurve._libsecp256k1 import ffi, lib

from chain.crypto.der import low_s, parse_der_lax

NAME = "libsecp256k1"

# Created for signing and verifying and blinded with fresh randomness once; verification does not depend on it.
CONTEXT = lib.secp256k1_context_create(1)
if not lib.secp256k1_context_randomize(CONTEXT, os.urandom(32)):
    raise ImportError("libsecp256k1 refused its randomness")

_COMPRESSED = 258
_UNCOMPRESSED = 2
_new = ffi.new
_ecdsa_verify = lib.secp256k1_ecdsa_verify
_schnorr_verify = lib.secp256k1_schnorrsig_verify
_pubkey_parse = lib.secp256k1_ec_pubkey_parse
_xonly_parse = lib.secp256k1_xonly_pubkey_parse
_signature_parse = lib.secp256k1_ecdsa_signature_parse_compact


def _compact(der_signature: bytes) -> bytes | None:
    """64 bytes with low S from a lax DER signature, or None.

    The library's own strict reader is no shortcut: it takes an integer with its top bit set for negative, the lax one
    for unsigned.
    """
    compact = parse_der_lax(der_signature)
    return None if compact is None else low_s(compact)


def verify_ecdsa(pubkey: bytes, der_signature: bytes, digest: bytes) -> bool:
    """Whether a lax-DER signature over a 32-byte digest is valid; high S is accepted, as consensus does."""
    key = _new("secp256k1_pubkey *")
    if not _pubkey_parse(CONTEXT, key, pubkey, len(pubkey)):
        return False
    compact = _compact(der_signature)
    if compact is None:
        return False
    signature = _new("secp256k1_ecdsa_signature *")
    if not _signature_parse(CONTEXT, signature, compact):
        return False
    return bool(_ecdsa_verify(CONTEXT, signature, digest, key))


def verify_schnorr(xonly: bytes, signature: bytes, message: bytes) -> bool:
    """BIP340 verification of a 64-byte signature; `message` may have any length."""
    if len(xonly) != 32 or len(signature) != 64:
        return False
    key = _new("secp256k1_xonly_pubkey *")
    if not _xonly_parse(CONTEXT, key, xonly):
        return False
    return bool(_schnorr_verify(CONTEXT, signature, message, len(message), key))


def is_valid_pubkey(pubkey: bytes) -> bool:
    """Whether SEC1 bytes (33 or 65, hybrid included) are a point on the curve."""
    return bool(_pubkey_parse(CONTEXT, _new("secp256k1_pubkey *"), pubkey, len(pubkey)))


def is_valid_xonly(xonly: bytes) -> bool:
    """Whether 32 bytes are the x coordinate of a point."""
    return len(xonly) == 32 and bool(_xonly_parse(CONTEXT, _new("secp256k1_xonly_pubkey *"), xonly))


def is_valid_secret(secret: bytes) -> bool:
    """Whether 32 bytes are a scalar in 1 .. order - 1."""
    return len(secret) == 32 and bool(lib.secp256k1_ec_seckey_verify(CONTEXT, secret))


def _pubkey(pubkey: bytes) -> object:
    key = _new("secp256k1_pubkey *")
    if not _pubkey_parse(CONTEXT, key, pubkey, len(pubkey)):
        raise ValueError("not a public key on secp256k1")
    return key


def _serialize(key: object, compressed: bool = True) -> bytes:
    size = 33 if compressed else 65
    out = _new("unsigned char[]", size)
    length = _new("size_t *", size)
    lib.secp256k1_ec_pubkey_serialize(CONTEXT, out, length, key, _COMPRESSED if compressed else _UNCOMPRESSED)
    return bytes(ffi.buffer(out, size))


def pubkey_from_secret(secret: bytes, compressed: bool = True) -> bytes:
    """The public key of a 32-byte secret."""
    _require_secret(secret)
    key = _new("secp256k1_pubkey *")
    lib.secp256k1_ec_pubkey_create(CONTEXT, key, secret)
    return _serialize(key, compressed)


def xonly_from_secret(secret: bytes) -> bytes:
    """The x-only public key (BIP340) of a 32-byte secret."""
    return pubkey_from_secret(secret)[1:]


def compress_pubkey(pubkey: bytes) -> bytes:
    """Any valid encoding to the 33-byte one."""
    return _serialize(_pubkey(pubkey))


def _require_secret(secret: bytes) -> None:
    if not is_valid_secret(secret):
        raise ValueError("not a secret key: 32 bytes between 1 and the group order")


def _require_32(data: bytes, what: str) -> None:
    if len(data) != 32:
        raise ValueError(f"{what} has 32 bytes, not {len(data)}")


def sign_ecdsa(secret: bytes, digest: bytes, grind: bool = True) -> bytes:
    """DER signature with RFC 6979 nonce and low S. With `grind`, nonces are retried with Core's counter until R is low:
    71 bytes at most."""
    _require_secret(secret)
    _require_32(digest, "a digest")
    signature = _new("secp256k1_ecdsa_signature *")
    compact = _new("unsigned char[64]")
    counter = 0
    while True:
        extra = counter.to_bytes(32, "little") if counter else ffi.NULL
        lib.secp256k1_ecdsa_sign(CONTEXT, signature, digest, secret, ffi.NULL, extra)
        lib.secp256k1_ecdsa_signature_serialize_compact(CONTEXT, compact, signature)
        if not grind or compact[0] < 0x80:
            break
        counter += 1
    out = _new("unsigned char[72]")
    length = _new("size_t *", 72)
    lib.secp256k1_ecdsa_signature_serialize_der(CONTEXT, out, length, signature)
    return bytes(ffi.buffer(out, length[0]))


def sign_schnorr(secret: bytes, message: bytes, aux: bytes) -> bytes:
    """BIP340 signature of a 32-byte message with 32 bytes of auxiliary randomness."""
    _require_secret(secret)
    _require_32(message, "a message")
    _require_32(aux, "auxiliary randomness")
    keypair = _new("secp256k1_keypair *")
    lib.secp256k1_keypair_create(CONTEXT, keypair, secret)
    out = _new("unsigned char[64]")
    lib.secp256k1_schnorrsig_sign32(CONTEXT, out, message, keypair, aux)
    return bytes(ffi.buffer(out, 64))


def sign_recoverable(secret: bytes, digest: bytes) -> tuple[int, bytes]:
    """(recovery id 0-3, 64-byte compact signature), for signed messages."""
    _require_secret(secret)
    _require_32(digest, "a digest")
    signature = _new("secp256k1_ecdsa_recoverable_signature *")
    lib.secp256k1_ecdsa_sign_recoverable(CONTEXT, signature, digest, secret, ffi.NULL, ffi.NULL)
    out = _new("unsigned char[64]")
    recid = _new("int *")
    lib.secp256k1_ecdsa_recoverable_signature_serialize_compact(CONTEXT, out, recid, signature)
    return recid[0], bytes(ffi.buffer(out, 64))


def recover(recid: int, compact: bytes, digest: bytes, compressed: bool = True) -> bytes:
    """The public key that made a recoverable signature; ValueError if there is none."""
    _require_32(digest, "a digest")
    signature = _new("secp256k1_ecdsa_recoverable_signature *")
    if len(compact) != 64 or not 0 <= recid <= 3:
        raise ValueError("not a recoverable signature")
    if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(CONTEXT, signature, compact, recid):
        raise ValueError("not a recoverable signature")
    key = _new("secp256k1_pubkey *")
    if not lib.secp256k1_ecdsa_recover(CONTEXT, key, signature, digest):
        raise ValueError("no public key fits that signature")
    return _serialize(key, compressed)


def secret_tweak_add(secret: bytes, tweak: bytes) -> bytes:
    """secret + tweak modulo the order; ValueError if the tweak is out of range or the sum is zero."""
    _require_secret(secret)
    _require_32(tweak, "a tweak")
    out = _new("unsigned char[32]", secret)
    if not lib.secp256k1_ec_seckey_tweak_add(CONTEXT, out, tweak):
        raise ValueError("that tweak gives no secret key")
    return bytes(ffi.buffer(out, 32))


def secret_negate(secret: bytes) -> bytes:
    """The secret of the point mirrored on the x axis."""
    _require_secret(secret)
    out = _new("unsigned char[32]", secret)
    lib.secp256k1_ec_seckey_negate(CONTEXT, out)
    return bytes(ffi.buffer(out, 32))


def pubkey_tweak_add(pubkey: bytes, tweak: bytes) -> bytes:
    """P + tweak·G, 33 bytes; ValueError if the tweak is out of range or the sum is infinity."""
    _require_32(tweak, "a tweak")
    key = _pubkey(pubkey)
    if not lib.secp256k1_ec_pubkey_tweak_add(CONTEXT, key, tweak):
        raise ValueError("that tweak gives no public key")
    return _serialize(key)


def xonly_tweak_add(xonly: bytes, tweak: bytes) -> tuple[bytes, int]:
    """(x-only key, parity 0 or 1) of lift_x(xonly) + tweak·G (BIP341)."""
    _require_32(xonly, "an x-only key")
    tweaked = pubkey_tweak_add(b"\x02" + xonly, tweak)
    return tweaked[1:], tweaked[0] & 1


def check_tap_tweak(output_xonly: bytes, parity: int, internal_xonly: bytes, tweak: bytes) -> bool:
    """Whether internal + tweak·G is the output key with that parity (BIP341)."""
    key = _new("secp256k1_xonly_pubkey *")
    if len(internal_xonly) != 32 or not _xonly_parse(CONTEXT, key, internal_xonly):
        return False
    return bool(lib.secp256k1_xonly_pubkey_tweak_add_check(CONTEXT, output_xonly, parity, key, tweak))
