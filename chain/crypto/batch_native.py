"""The compiled loop of `chain.crypto.batch`: signature records in, number of the first invalid one out, no GIL in
between.

Records, by their first byte:

* 0 ECDSA, 1 Schnorr: key length, signature length, 32 bytes of digest, key, signature. One without a key was checked
  already.
* 2, m-of-n: n, m, length of what follows (u16 BE); n key lengths, m signature lengths, m digests, keys, signatures.

The addresses of libsecp256k1's functions are arguments, not constants, so that Numba can keep the machine code on disk.
What takes a `Curve` can be called from other compiled loops.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from coincurve._libsecp256k1 import ffi, lib
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic

from chain.crypto.compiled import BYTES, INT, compiled, inner
from chain.crypto.secp256k1_native import CONTEXT

_ECDSA, _MULTISIG = 0, 2
_KEPT_KEYS = 1024  # a power of two; 104 bytes each for each thread


def _address(name: str) -> int:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


_FUNCTIONS = np.array(
    [
        int(ffi.cast("uintptr_t", CONTEXT)),
        _address("secp256k1_ec_pubkey_parse"),
        _address("secp256k1_ecdsa_signature_parse_compact"),
        _address("secp256k1_ecdsa_signature_normalize"),
        _address("secp256k1_ecdsa_verify"),
        _address("secp256k1_xonly_pubkey_parse"),
        _address("secp256k1_schnorrsig_verify"),
    ],
    dtype=np.uint64,
)


def _caller(argument_count: int) -> Any:
    """Code that calls the C function at an address with word-sized arguments; it returns the function's int."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.IntType(32), [word] * argument_count)
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])

    return types.int32(*[types.uint64] * (argument_count + 1)), codegen


@intrinsic
def _call3(typingctx: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
    return _caller(3)


@intrinsic
def _call4(typingctx: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return _caller(4)


@intrinsic
def _call5(typingctx: Any, function: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    return _caller(5)


@inner(BYTES, INT, INT)
def _ber_length(data: Any, pos: Any, end: Any) -> Any:
    """(length, next position); length -1 if it cannot be read. The twin of `chain.crypto.der._length`."""
    if pos >= end:
        return -1, pos
    first = np.int64(data[pos])
    pos += 1
    if first < 0x80:
        return first, pos
    count = first & 0x7F
    if count > end - pos:
        return -1, pos
    while count > 0 and data[pos] == 0:
        pos += 1
        count -= 1
    if count >= 8:
        return -1, pos
    value = np.int64(0)
    for _ in range(count):
        value = value << 8 | np.int64(data[pos])
        pos += 1
    return value, pos


@inner(BYTES, INT, INT, BYTES, INT)
def _integer(data: Any, pos: Any, end: Any, out: Any, at: Any) -> Any:
    """Copy one DER integer right-aligned into out[at:at+32]; the next position, -1 if malformed, -2 if it has more than
    32 bytes."""
    if pos >= end or data[pos] != 0x02:
        return -1
    length, pos = _ber_length(data, pos + 1, end)
    if length < 0 or length > end - pos:
        return -1
    stop = pos + length
    while pos < stop and data[pos] == 0:
        pos += 1
    if stop - pos > 32:
        return -2 - stop
    for i in range(stop - pos):
        out[at + 32 - (stop - pos) + i] = data[pos + i]
    return stop


@inner(BYTES, INT, INT, BYTES)
def _der_lax(data: Any, start: Any, end: Any, out: Any) -> Any:
    """Lax DER to 64 bytes. False where `chain.crypto.der.parse_der_lax` gives None or zeros: neither can be valid."""
    out[:] = 0
    if end - start < 2 or data[start] != 0x30:
        return False
    pos: Any = start + 2
    if data[start + 1] & 0x80:
        count = np.int64(data[start + 1] & 0x7F)
        if count > end - pos:
            return False
        pos += count
    pos = _integer(data, pos, end, out, 0)
    if pos < 0:
        return False
    return _integer(data, pos, end, out, 32) >= 0


@compiled(BYTES, INT, INT)
def is_strict_der_at(data: Any, start: Any, end: Any) -> Any:
    """BIP66. The twin of `chain.crypto.der.is_strict_der`."""
    size = end - start
    if size < 8 or size > 72 or data[start] != 0x30 or np.int64(data[start + 1]) != size - 2 or data[start + 2] != 2:
        return False
    r_size = np.int64(data[start + 3])
    if r_size == 0 or 5 + r_size >= size:
        return False
    s_size = np.int64(data[start + 5 + r_size])
    s_at = start + 6 + r_size
    if s_size == 0 or r_size + s_size + 6 != size or data[s_at - 2] != 2:
        return False
    if data[start + 4] & 0x80 or (r_size > 1 and data[start + 4] == 0 and not data[start + 5] & 0x80):
        return False
    return not (data[s_at] & 0x80 or (s_size > 1 and data[s_at] == 0 and not data[s_at + 1] & 0x80))


class Curve(NamedTuple):
    """libsecp256k1 and memory for one thread to call it with."""

    functions: Any  # u64[7]: see `_FUNCTIONS`
    keys: Any  # u8[_KEPT_KEYS, 104]: see `parse_key_at`
    key: Any  # u8[64]: secp256k1_pubkey or secp256k1_xonly_pubkey
    signature: Any  # u8[64]: secp256k1_ecdsa_signature
    compact: Any  # u8[64]: R and S


def new_curve() -> Curve:
    """A `Curve` with no keys kept yet."""
    keys = np.zeros((_KEPT_KEYS, 104), dtype=np.uint8)
    return Curve(_FUNCTIONS, keys, *(np.zeros(64, dtype=np.uint8) for _ in range(3)))


CURVE = typeof(new_curve())


@inner(CURVE, BYTES, INT, INT)
def parse_key_at(curve: Any, data: Any, start: Any, size: Any) -> Any:
    """A public key to its 64 opaque bytes in `curve.key`; False if it is none. Taking a compressed key apart costs a
    square root, a seventh of a verification: those seen last are kept, rows of 33 bytes, whether they count, and from
    40 on the 64.
    """
    functions, keys = curve.functions, curve.keys
    if size != 33:
        base = np.uint64(data.ctypes.data) + np.uint64(start)
        return _call4(functions[1], functions[0], np.uint64(curve.key.ctypes.data), base, np.uint64(size)) == 1
    row = keys[(np.int64(data[start + 7]) << 8 | np.int64(data[start + 19])) & (len(keys) - 1)]
    same = row[33] == 1
    for i in range(33):
        if row[i] != data[start + i]:
            same = False
            break
    if not same:
        base = np.uint64(data.ctypes.data) + np.uint64(start)
        row[33] = 0
        if _call4(functions[1], functions[0], np.uint64(row.ctypes.data) + np.uint64(40), base, np.uint64(33)) != 1:
            return False
        for i in range(33):
            row[i] = data[start + i]
        row[33] = 1
    for i in range(64):  # assigning a slice would take Numba seconds to compile
        curve.key[i] = row[40 + i]
    return True


@inner(CURVE, BYTES, INT, INT, BYTES, INT)
def verify_ecdsa_at(curve: Any, data: Any, start: Any, end: Any, digests: Any, digest_at: Any) -> Any:
    """Whether the lax-DER signature data[start:end] over digests[digest_at:digest_at+32] is of the key in `curve.key`.
    High S is accepted.
    """
    functions, compact, signature = curve.functions, curve.compact, curve.signature
    if not _der_lax(data, start, end, compact):
        return False
    context, signature_at = functions[0], np.uint64(signature.ctypes.data)
    if _call3(functions[2], context, signature_at, np.uint64(compact.ctypes.data)) != 1:
        return False
    _call3(functions[3], context, signature_at, signature_at)
    digest = np.uint64(digests.ctypes.data) + np.uint64(digest_at)
    return _call4(functions[4], context, signature_at, digest, np.uint64(curve.key.ctypes.data)) == 1


@inner(CURVE, BYTES, INT, INT, BYTES, INT)
def verify_schnorr_at(curve: Any, data: Any, key_at: Any, signature_at: Any, digests: Any, digest_at: Any) -> Any:
    """BIP340: whether the 64 bytes at data[signature_at] are of the key data[key_at:key_at+32] over
    digests[digest_at:digest_at+32].
    """
    functions = curve.functions
    base, key = np.uint64(data.ctypes.data), np.uint64(curve.key.ctypes.data)
    if _call3(functions[5], functions[0], key, base + np.uint64(key_at)) != 1:
        return False
    digest = np.uint64(digests.ctypes.data) + np.uint64(digest_at)
    return _call5(functions[6], functions[0], base + np.uint64(signature_at), digest, np.uint64(32), key) == 1


@inner(CURVE, BYTES, INT, INT, INT)
def _verify_multisig(curve: Any, data: Any, pos: Any, total: Any, required: Any) -> Any:
    """Whether each signature belongs to one of the keys in the same order, tried from the last of both as
    OP_CHECKMULTISIG does. At `pos`: a length byte for each key, one for each signature, the digests, keys, signatures.
    """
    lengths = pos
    digests = lengths + total + required
    key_end: Any = digests + 32 * required
    for i in range(total):
        key_end += np.int64(data[lengths + i])
    signature_end: Any = key_end
    for i in range(required):
        signature_end += np.int64(data[lengths + total + i])
    key_at, signature_at = total, required
    while signature_at:
        if signature_at > key_at:
            return False
        key_size = np.int64(data[lengths + key_at - 1])
        start = signature_end - np.int64(data[lengths + total + signature_at - 1])
        if parse_key_at(curve, data, key_end - key_size, key_size) and verify_ecdsa_at(
            curve, data, start, signature_end, data, digests + 32 * (signature_at - 1)
        ):
            signature_at -= 1
            signature_end = start
        key_at -= 1
        key_end -= key_size
    return True


@compiled(CURVE, BYTES)
def _verify(curve: Any, data: Any) -> Any:
    size = len(data)
    pos: Any = 0
    number = 0
    while pos < size:
        kind, key_size, signature_size = data[pos], np.int64(data[pos + 1]), np.int64(data[pos + 2])
        if kind == _MULTISIG:
            total, required, length = key_size, signature_size, np.int64(data[pos + 3]) << 8 | np.int64(data[pos + 4])
            if not _verify_multisig(curve, data, pos + 5, total, required):
                return number
            pos += 5 + length
        else:
            digest = pos + 3
            key = digest + 32
            start = key + key_size
            pos = start + signature_size
            if key_size == 0:
                pass
            elif kind == _ECDSA:
                if not parse_key_at(curve, data, key, key_size):
                    return number
                if not verify_ecdsa_at(curve, data, start, pos, data, digest):
                    return number
            elif key_size != 32 or signature_size != 64 or not verify_schnorr_at(curve, data, key, start, data, digest):
                return number
        number += 1
    return -1


class _Local(threading.local):
    """Each thread its own, so that no two write to a row at once."""

    def __init__(self) -> None:
        self.curve = new_curve()


_local = _Local()


def verify_records(records: bytearray) -> int:
    """The number of the first record whose signature is invalid, or -1."""
    return int(_verify(_local.curve, np.frombuffer(records, dtype=np.uint8)))
