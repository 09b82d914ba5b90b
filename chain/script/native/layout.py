"""The memory in which compiled loops prove spends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import typeof

from chain.crypto.batch_native import Curve, new_curve
from chain.crypto.hash_native import new_hasher
from chain.primitives.native.layout import INPUT_COLUMNS, TRANSACTION_COLUMNS
from chain.script.sighash import TAPSIGHASH_TAG

TAG = 256  #: where in `Context.shared` BIP341's tag is

MAX_KEYS = 16  #: of a multisig script that names its counts by OP_1 to OP_16


class Context(NamedTuple):
    """Memory of one thread for proving the transactions of a buffer, one after the other."""

    curve: Curve
    hasher: Any  # see `chain.crypto.hash_native.new_hasher`
    inputs: Any  # i64[inputs, INPUT_COLUMNS]: those of one transaction, see `chain.primitives.native.layout`
    facts: Any  # i64[TRANSACTION_COLUMNS]: its row
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
        np.zeros((inputs, INPUT_COLUMNS), dtype=np.int64),
        np.zeros(TRANSACTION_COLUMNS, dtype=np.int64),
        np.zeros(MAX_KEYS, dtype=np.int64),
        np.frombuffer(bytearray(TAG) + TAPSIGHASH_TAG, dtype=np.uint8),
        np.zeros(9, dtype=np.uint32),
        np.zeros(size, dtype=np.uint8),
        np.zeros(size, dtype=np.uint8),
        np.zeros(32, dtype=np.uint8),
        np.frombuffer(bytearray(b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"), dtype=np.uint8),
    )


CONTEXT = typeof(new_context(new_curve(), 1, 1))
