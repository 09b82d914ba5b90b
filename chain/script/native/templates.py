"""The common spends: each function says whether one input is such a spend, beyond doubt valid."""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.batch_native import is_strict_der_at, parse_key_at, verify_ecdsa_at, verify_schnorr_at
from chain.crypto.compiled import BYTES, INT, copy, inner
from chain.crypto.hash_native import hash160_into, sha256_into
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.native.layout import (
    COIN,
    SCRIPT,
    SCRIPT_SIZE,
    WITNESS,
    WITNESS_ITEMS,
    equal,
    read_compact_size,
)
from chain.script.flags import ScriptFlags
from chain.script.native.digests import legacy_digest, segwit_digest, taproot_digest
from chain.script.native.layout import CONTEXT, MAX_KEYS
from chain.script.sighash import SIGHASH_ALL, SIGHASH_DEFAULT

_LOW_S = int(ScriptFlags.LOW_S)
_MIN_SIGNATURE, _MAX_SIGNATURE = 60, 73  # with the hash type; shorter ones are valid but rare
_HALF_ORDER = np.frombuffer(
    bytes.fromhex("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0"), dtype=np.uint8
)
_OP_0, _OP_1_MINUS_1, _OP_CHECKMULTISIG = 0x00, 0x50, 0xAE


@inner(BYTES, INT, INT, INT)
def _is_usual_signature(data: Any, start: Any, size: Any, flags: Any) -> Any:
    """Strict DER of a usual size with SIGHASH_ALL, and with a low S where a flag demands it."""
    if size < _MIN_SIGNATURE or size > _MAX_SIGNATURE or data[start + size - 1] != SIGHASH_ALL:
        return False
    if not is_strict_der_at(data, start, start + size - 1):
        return False
    if flags & _LOW_S:
        s_size = np.int64(data[start + 5 + np.int64(data[start + 3])])
        s_at = start + size - 1 - s_size
        if s_size == 33:  # strict DER: the first is zero
            s_size -= 1
            s_at += 1
        if s_size > 32:
            return False
        if s_size == 32:
            for i in range(32):
                if data[s_at + i] != _HALF_ORDER[i]:
                    return data[s_at + i] < _HALF_ORDER[i]
    return True


@inner(BYTES, INT)
def _is_compressed(data: Any, at: Any) -> Any:
    return data[at] == 2 or data[at] == 3


@inner(CONTEXT, BYTES, INT, INT, INT)
def _has_hash(context: Any, data: Any, start: Any, size: Any, hash_at: Any) -> Any:
    """Whether HASH160 of data[start:start+size] is data[hash_at:hash_at+20]."""
    hash160_into(context.hasher, data, start, size, context.digest)
    return equal(context.digest, 0, data, hash_at, 20)


@inner(CONTEXT, BYTES, INT, INT, INT, INT)
def prove_p2pkh(context: Any, data: Any, number: Any, flags: Any, blank_size: Any, first: Any) -> Any:
    """Signature and key pushed by their length. The signature is longer than all that the script pushes, so there is
    nothing for FindAndDelete to find. `blank_size` and `first` are `write_blank`'s.
    """
    row = context.inputs[number]
    script, end = row[SCRIPT], row[SCRIPT] + row[SCRIPT_SIZE]
    if row[WITNESS_ITEMS] != 0 or row[SCRIPT_SIZE] < _MIN_SIGNATURE + 35:
        return False
    size = np.int64(data[script])
    if size > _MAX_SIGNATURE:
        return False
    key_at = script + size + 2
    if key_at >= end:
        return False
    key_size = end - key_at
    if data[key_at - 1] != key_size:
        return False
    if not (key_size == 33 and _is_compressed(data, key_at)) and not (key_size == 65 and data[key_at] == 4):
        return False
    if not _is_usual_signature(data, script + 1, size, flags):
        return False
    if not _has_hash(context, data, key_at, key_size, row[COIN] + SCRIPT_OFFSET + 3):
        return False
    if not parse_key_at(context.curve, data, key_at, key_size):
        return False
    legacy_digest(context, data, number, blank_size, first)
    return verify_ecdsa_at(context.curve, data, script + 1, script + size, context.digest, 0)


@inner(CONTEXT, BYTES, INT, INT, INT)
def prove_key_hash_program(context: Any, data: Any, number: Any, flags: Any, program: Any) -> Any:
    """The witness of a version 0 program of 20 bytes. One that is false on the stack is no key's hash."""
    row = context.inputs[number]
    if row[WITNESS_ITEMS] != 2:
        return False
    size, signature = read_compact_size(data, row[WITNESS])
    if not _is_usual_signature(data, signature, size, flags):
        return False
    key_size, key_at = read_compact_size(data, signature + size)
    if key_size != 33 or not _is_compressed(data, key_at) or not _has_hash(context, data, key_at, 33, program):
        return False
    if not parse_key_at(context.curve, data, key_at, 33):
        return False
    copy(data, program, 20, context.code, 3)
    segwit_digest(context, data, number, context.code, 0, 25)
    return verify_ecdsa_at(context.curve, data, signature, signature + size - 1, context.digest, 0)


@inner(CONTEXT, BYTES, INT, INT)
def prove_p2sh_p2wpkh(context: Any, data: Any, number: Any, flags: Any) -> Any:
    """The program as the one push of the scriptSig."""
    row = context.inputs[number]
    script = row[SCRIPT]
    if row[SCRIPT_SIZE] != 23 or data[script] != 22 or data[script + 1] != _OP_0 or data[script + 2] != 20:
        return False
    if not _has_hash(context, data, script + 1, 22, row[COIN] + SCRIPT_OFFSET + 2):
        return False
    return prove_key_hash_program(context, data, number, flags, script + 3)


@inner(CONTEXT, BYTES, INT, INT)
def prove_p2wsh_multisig(context: Any, data: Any, number: Any, flags: Any) -> Any:
    """m-of-n with compressed keys: each signature belongs to one of the keys in the same order, tried from the last of
    both as OP_CHECKMULTISIG does.
    """
    row = context.inputs[number]
    required = row[WITNESS_ITEMS] - 2
    if row[SCRIPT_SIZE] != 0 or required < 1 or required > MAX_KEYS:
        return False
    size, pos = read_compact_size(data, row[WITNESS])
    if size != 0:
        return False
    for n in range(required):
        context.signatures[n] = pos
        size, pos = read_compact_size(data, pos)
        if not _is_usual_signature(data, pos, size, flags):
            return False
        pos += size
    size, script = read_compact_size(data, pos)
    total = (size - 3) // 34
    if total < required or total > MAX_KEYS or size != 34 * total + 3:
        return False
    end = script + size
    if data[script] != _OP_1_MINUS_1 + required or data[end - 2] != _OP_1_MINUS_1 + total:
        return False
    if data[end - 1] != _OP_CHECKMULTISIG:
        return False
    for n in range(total):
        key_at = script + 2 + 34 * n
        if data[key_at - 1] != 33 or not _is_compressed(data, key_at):
            return False
    sha256_into(context.hasher, data, script, size, context.digest, 0)
    if not equal(context.digest, 0, data, row[COIN] + SCRIPT_OFFSET + 2, 32):
        return False
    segwit_digest(context, data, number, data, script, size)
    key = total
    while required:
        if required > key:
            return False
        at = context.signatures[required - 1]  # of its length, one byte
        if parse_key_at(context.curve, data, script + 2 + 34 * (key - 1), 33) and verify_ecdsa_at(
            context.curve, data, at + 1, at + np.int64(data[at]), context.digest, 0
        ):
            required -= 1
        key -= 1
    return True


@inner(CONTEXT, BYTES, INT)
def prove_p2tr_key(context: Any, data: Any, number: Any) -> Any:
    """One signature, with the default hash type left out or SIGHASH_ALL named."""
    row = context.inputs[number]
    program = row[COIN] + SCRIPT_OFFSET + 2
    if row[SCRIPT_SIZE] != 0 or row[WITNESS_ITEMS] != 1:
        return False
    if data[program] == 0:  # a program of zeros, or of zeros and a sign, is a false on the stack; they begin so
        return False
    size, signature = read_compact_size(data, row[WITNESS])
    if size != 64 and not (size == 65 and data[signature + 64] == SIGHASH_ALL):
        return False
    taproot_digest(context, data, number, SIGHASH_ALL if size == 65 else SIGHASH_DEFAULT)
    return verify_schnorr_at(context.curve, data, program, signature, context.digest, 0)
