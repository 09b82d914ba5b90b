"""The compiled loop of `chain.crypto.batch`: signature records in, number of the first invalid one out, no GIL in
between.

A record: kind (0 ECDSA, 1 Schnorr), key length, signature length, 32 bytes of digest, key, signature. A record without
a key is one that was checked already. The addresses of libsecp256k1's functions are arguments, not constants, so that
Numba can keep the machine code on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from coincurve._libsecp256k1 import ffi, lib
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from chain.crypto.secp256k1_native import CONTEXT


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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _verify(data: Any, functions: Any) -> Any:
    context, parse_key, parse_signature, normalize = functions[0], functions[1], functions[2], functions[3]
    verify_ecdsa, parse_xonly, verify_schnorr = functions[4], functions[5], functions[6]
    compact = np.zeros(64, dtype=np.uint8)
    key = np.zeros(
        64, dtype=np.uint8
    )  # secp256k1_pubkey, secp256k1_xonly_pubkey and secp256k1_ecdsa_signature: 64 opaque bytes each
    signature = np.zeros(64, dtype=np.uint8)
    key_at, signature_at = np.uint64(key.ctypes.data), np.uint64(signature.ctypes.data)
    compact_at, base = np.uint64(compact.ctypes.data), np.uint64(data.ctypes.data)
    size = len(data)
    pos: Any = 0
    number = 0
    while pos < size:
        kind, key_size, signature_size = data[pos], np.int64(data[pos + 1]), np.int64(data[pos + 2])
        digest_at = base + np.uint64(pos + 3)
        encoded_key_at = base + np.uint64(pos + 35)
        start = pos + 35 + key_size
        pos = start + signature_size
        if key_size:
            if kind == 0:
                if not _der_lax(data, start, pos, compact):
                    return number
                if _call4(parse_key, context, key_at, encoded_key_at, np.uint64(key_size)) != 1:
                    return number
                if _call3(parse_signature, context, signature_at, compact_at) != 1:
                    return number
                _call3(normalize, context, signature_at, signature_at)
                if _call4(verify_ecdsa, context, signature_at, digest_at, key_at) != 1:
                    return number
            else:
                if key_size != 32 or signature_size != 64:
                    return number
                if _call3(parse_xonly, context, key_at, encoded_key_at) != 1:
                    return number
                if _call5(verify_schnorr, context, base + np.uint64(start), digest_at, np.uint64(32), key_at) != 1:
                    return number
        number += 1
    return -1


def verify_records(records: bytearray) -> int:
    """The number of the first record whose signature is invalid, or -1."""
    return int(_verify(np.frombuffer(records, dtype=np.uint8), _FUNCTIONS))
