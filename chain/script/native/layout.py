"""Where the parts of a transaction are in a buffer, for the compiled loops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import typeof

from chain.crypto.batch_native import Curve, new_curve
from chain.crypto.compiled import BYTES, INT, inner
from chain.crypto.hash_native import new_hasher
from chain.script.sighash import TAPSIGHASH_TAG

#: Columns of `Context.inputs`: positions in the buffer, and sizes. A witness's position is that of its first item.
PREVOUT, SCRIPT, SCRIPT_SIZE, SEQUENCE, WITNESS, WITNESS_ITEMS, COIN, COIN_SIZE = range(8)

#: Positions in `Context.facts`: the transaction's parts that are not an input's.
VERSION, INPUT_COUNT, OUTPUT_COUNT, OUTPUTS, OUTPUTS_END, LOCKTIME = range(6)

TAG = 256  #: where in `Context.shared` BIP341's tag is

MAX_KEYS = 16  #: of a multisig script that names its counts by OP_1 to OP_16


class Context(NamedTuple):
    """Memory of one thread for proving the transactions of a buffer, one after the other."""

    curve: Curve
    hasher: Any  # see `chain.crypto.hash_native.new_hasher`
    inputs: Any  # i64[inputs, 8]
    facts: Any  # i64[6]
    signatures: Any  # i64[MAX_KEYS]: positions
    shared: Any  # u8[320]: digests that inputs share, see `chain.script.native.digests`; BIP341's tag
    prefix: Any  # u32[9]: see `legacy_digest`
    blank: Any  # u8[]: see `write_blank`
    message: Any  # u8[]: what is to be hashed next
    digest: Any  # u8[32]
    code: Any  # u8[25]: a P2PKH script, what BIP143 makes of a key's hash


def new_context(curve: Curve, inputs: int, size: int) -> Context:
    """Memory for transactions of at most so many inputs, and bytes with the coins that they spend."""
    size += 4 * inputs + 1024  # compact sizes of the coins' scripts; a BIP143 message with a script code
    return Context(
        curve,
        new_hasher(),
        np.zeros((inputs, 8), dtype=np.int64),
        np.zeros(6, dtype=np.int64),
        np.zeros(MAX_KEYS, dtype=np.int64),
        np.frombuffer(bytearray(TAG) + TAPSIGHASH_TAG, dtype=np.uint8),
        np.zeros(9, dtype=np.uint32),
        np.zeros(size, dtype=np.uint8),
        np.zeros(size, dtype=np.uint8),
        np.zeros(32, dtype=np.uint8),
        np.frombuffer(bytearray(b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"), dtype=np.uint8),
    )


CONTEXT = typeof(new_context(new_curve(), 1, 1))


@inner(BYTES, INT)
def read_compact_size(data: Any, pos: Any) -> Any:
    """(value, next position)."""
    first = np.int64(data[pos])
    if first < 0xFD:
        return first, pos + 1
    width = 1 << (first - 0xFC)
    value = np.int64(0)
    for i in range(width):
        value |= np.int64(data[pos + 1 + i]) << (8 * i)
    return value, pos + 1 + width


@inner(BYTES, INT, INT)
def write_compact_size(out: Any, at: Any, value: Any) -> Any:
    """The next position."""
    if value < 0xFD:
        out[at] = np.uint8(value)
        return at + 1
    width = 2 if value < 0x10000 else 4
    out[at] = np.uint8(0xFD if width == 2 else 0xFE)
    for i in range(width):
        out[at + 1 + i] = np.uint8(value >> (8 * i) & 0xFF)
    return at + 1 + width


@inner(BYTES, INT, INT, BYTES, INT)
def copy(data: Any, start: Any, size: Any, out: Any, at: Any) -> Any:
    """data[start:start+size] to out[at]; the next position."""
    for i in range(size):
        out[at + i] = data[start + i]
    return at + size


@inner(BYTES, INT, BYTES, INT, INT)
def equal(a: Any, a_at: Any, b: Any, b_at: Any, size: Any) -> Any:
    """Whether two places hold the same bytes."""
    same = True
    for i in range(size):
        same = same and a[a_at + i] == b[b_at + i]
    return same


@inner(CONTEXT, BYTES, INT, INT, INT)
def read_transaction(context: Any, data: Any, start: Any, end: Any, count: Any) -> Any:
    """Note where everything is in the transaction data[start:end], which `Transaction` has parsed or built and which
    spends `count` coins, at least one. False if it cannot be as it says.
    """
    inputs, facts = context.inputs, context.facts
    facts[VERSION] = start
    pos: Any = start + 4
    has_witness = data[pos] == 0
    if has_witness:
        pos += 2
    facts[INPUT_COUNT] = pos
    found, pos = read_compact_size(data, pos)
    if found != count:
        return False
    for n in range(count):
        row = inputs[n]
        row[PREVOUT] = pos
        size, pos = read_compact_size(data, pos + 36)
        row[SCRIPT] = pos
        row[SCRIPT_SIZE] = size
        pos += size
        row[SEQUENCE] = pos
        pos += 4
        row[WITNESS_ITEMS] = 0
    facts[OUTPUT_COUNT] = pos
    outputs, pos = read_compact_size(data, pos)
    facts[OUTPUTS] = pos
    for _ in range(outputs):
        size, pos = read_compact_size(data, pos + 8)
        pos += size
    facts[OUTPUTS_END] = pos
    if has_witness:
        for n in range(count):
            items, pos = read_compact_size(data, pos)
            inputs[n, WITNESS_ITEMS] = items
            inputs[n, WITNESS] = pos
            for _ in range(items):
                size, pos = read_compact_size(data, pos)
                pos += size
    facts[LOCKTIME] = pos
    return pos + 4 == end
