"""What usual signatures sign: the signature hashes of the original algorithm and BIP143 with SIGHASH_ALL, of BIP341 by
key without annex. The twins of those in `chain.script.sighash`, which has all others too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, INTS, copy, inner
from chain.crypto.hash_native import (
    sha256_begin,
    sha256_blocks,
    sha256_end,
    sha256_into,
    sha256d_into,
)
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.native.layout import (
    COIN,
    COIN_SIZE,
    INPUT_COUNT,
    LOCKTIME,
    OUTPUT_COUNT,
    OUTPUTS,
    OUTPUTS_END,
    PREVOUT,
    SEQUENCE,
    VERSION,
    write_compact_size,
)
from chain.script.native.layout import CONTEXT, TAG
from chain.script.sighash import SIGHASH_ALL

# What inputs share, in `Context.shared`: by SHA-256, and of three of them once more. After these BIP341's tag.
_PREVOUTS, _SEQUENCES, _OUTPUTS, _VALUES, _SCRIPTS, _PREVOUTS2, _SEQUENCES2, _OUTPUTS2 = range(0, 256, 32)
_BLANK_INPUT = 41  # outpoint, the length of no script, sequence


@inner(BYTES, INTS, BYTES, INT)
def _finish(data: Any, facts: Any, message: Any, size: Any) -> Any:
    """Lock time and hash type; the position after them."""
    size = copy(data, facts[LOCKTIME], 4, message, size)
    message[size] = np.uint8(SIGHASH_ALL)
    message[size + 1] = np.uint8(0)
    message[size + 2] = np.uint8(0)
    message[size + 3] = np.uint8(0)
    return size + 4


@inner(CONTEXT, BYTES, INT)
def share_segwit(context: Any, data: Any, count: Any) -> None:
    """The digests of all outpoints, sequences and outputs."""
    hasher, inputs, facts, shared, message = (
        context.hasher,
        context.inputs,
        context.facts,
        context.shared,
        context.message,
    )
    size: Any = 0
    for n in range(count):
        size = copy(data, inputs[n, PREVOUT], 36, message, size)
    sha256_into(hasher, message, 0, size, shared, _PREVOUTS)
    sha256_into(hasher, shared, _PREVOUTS, 32, shared, _PREVOUTS2)
    size = 0
    for n in range(count):
        size = copy(data, inputs[n, SEQUENCE], 4, message, size)
    sha256_into(hasher, message, 0, size, shared, _SEQUENCES)
    sha256_into(hasher, shared, _SEQUENCES, 32, shared, _SEQUENCES2)
    sha256_into(hasher, data, facts[OUTPUTS], facts[OUTPUTS_END] - facts[OUTPUTS], shared, _OUTPUTS)
    sha256_into(hasher, shared, _OUTPUTS, 32, shared, _OUTPUTS2)


@inner(CONTEXT, BYTES, INT)
def share_taproot(context: Any, data: Any, count: Any) -> None:
    """The digests of all spent values and scripts, which BIP341 has beside those of `share_segwit`."""
    hasher, inputs, shared, message = context.hasher, context.inputs, context.shared, context.message
    size: Any = 0
    for n in range(count):
        size = copy(data, inputs[n, COIN], 8, message, size)
    sha256_into(hasher, message, 0, size, shared, _VALUES)
    size = 0
    for n in range(count):
        script_size = inputs[n, COIN_SIZE] - SCRIPT_OFFSET
        size = write_compact_size(message, size, script_size)
        size = copy(data, inputs[n, COIN] + SCRIPT_OFFSET, script_size, message, size)
    sha256_into(hasher, message, 0, size, shared, _SCRIPTS)


@inner(CONTEXT, BYTES, INT, BYTES, INT, INT)
def segwit_digest(context: Any, data: Any, number: Any, code: Any, code_at: Any, code_size: Any) -> None:
    """BIP143 of input `number`, after `share_segwit`; code[code_at:code_at+code_size] is the script code, below 600
    bytes.
    """
    row, facts, shared, message = context.inputs[number], context.facts, context.shared, context.message
    size = copy(data, facts[VERSION], 4, message, 0)
    size = copy(shared, _PREVOUTS2, 32, message, size)
    size = copy(shared, _SEQUENCES2, 32, message, size)
    size = copy(data, row[PREVOUT], 36, message, size)
    size = write_compact_size(message, size, code_size)
    size = copy(code, code_at, code_size, message, size)
    size = copy(data, row[COIN], 8, message, size)
    size = copy(data, row[SEQUENCE], 4, message, size)
    size = copy(shared, _OUTPUTS2, 32, message, size)
    size = _finish(data, facts, message, size)
    sha256d_into(context.hasher, message, 0, size, context.digest, 0)


@inner(CONTEXT, BYTES, INT, INT)
def taproot_digest(context: Any, data: Any, number: Any, hash_type: Any) -> None:
    """BIP341 of input `number`, after `share_segwit` and `share_taproot`, for SIGHASH_DEFAULT and SIGHASH_ALL."""
    facts, shared, message = context.facts, context.shared, context.message
    size = copy(shared, TAG, 64, message, 0)
    message[size] = np.uint8(0)  # epoch
    message[size + 1] = np.uint8(hash_type)
    size = copy(data, facts[VERSION], 4, message, size + 2)
    size = copy(data, facts[LOCKTIME], 4, message, size)
    size = copy(shared, _PREVOUTS, 32, message, size)
    size = copy(shared, _VALUES, 32, message, size)
    size = copy(shared, _SCRIPTS, 32, message, size)
    size = copy(shared, _SEQUENCES, 32, message, size)
    size = copy(shared, _OUTPUTS, 32, message, size)
    message[size] = np.uint8(0)  # spend type
    for i in range(4):
        message[size + 1 + i] = np.uint8(number >> (8 * i) & 0xFF)
    sha256_into(context.hasher, message, 0, size + 5, context.digest, 0)


@inner(CONTEXT, BYTES, INT)
def write_blank(context: Any, data: Any, count: Any) -> Any:
    """To `context.blank` what the original algorithm signs with all scripts empty. Returns its size and where its first
    input begins; begins the prefix that `legacy_digest` keeps.
    """
    inputs, facts, blank = context.inputs, context.facts, context.blank
    size = copy(data, facts[VERSION], 4, blank, 0)
    size = copy(data, facts[INPUT_COUNT], inputs[0, PREVOUT] - facts[INPUT_COUNT], blank, size)
    first = size
    for n in range(count):
        size = copy(data, inputs[n, PREVOUT], 36, blank, size)
        blank[size] = np.uint8(0)
        size = copy(data, inputs[n, SEQUENCE], 4, blank, size + 1)
    size = copy(data, facts[OUTPUT_COUNT], facts[OUTPUTS_END] - facts[OUTPUT_COUNT], blank, size)
    size = _finish(data, facts, blank, size)
    sha256_begin(context.hasher)
    for i in range(8):
        context.prefix[i] = context.hasher[0][i]
    context.prefix[8] = np.uint32(0)
    return size, first


@inner(CONTEXT, BYTES, INT, INT, INT)
def legacy_digest(context: Any, data: Any, number: Any, size: Any, first: Any) -> None:
    """The original algorithm for input `number`, with the script of its coin (below 253 bytes) as script code; `size`
    and `first` are those of `write_blank`.

    A transaction is hashed anew for each of its inputs. As inputs come in order, the whole blocks before one are hashed
    once for all that follow: prefix[:8] is the state after them, prefix[8] their number.
    """
    row, hasher, prefix, blank, message = (
        context.inputs[number],
        context.hasher,
        context.prefix,
        context.blank,
        context.message,
    )
    script_at = first + _BLANK_INPUT * number + 36
    whole, before = script_at >> 6, np.int64(prefix[8])
    for i in range(8):
        hasher[0][i] = prefix[i]
    sha256_blocks(hasher, blank, before << 6, whole - before)
    for i in range(8):
        prefix[i] = hasher[0][i]
    prefix[8] = np.uint32(whole)
    done = whole << 6
    script_size = row[COIN_SIZE] - SCRIPT_OFFSET
    end = copy(blank, done, script_at - done, message, 0)
    end = write_compact_size(message, end, script_size)
    end = copy(data, row[COIN] + SCRIPT_OFFSET, script_size, message, end)
    end = copy(blank, script_at + 1, size - script_at - 1, message, end)
    sha256_end(hasher, message, 0, end, done, context.digest, 0)
    sha256_into(hasher, context.digest, 0, 32, context.digest, 0)
