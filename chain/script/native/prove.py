"""The compiled loop of `chain.script.spends`: transactions and the coins they spend in, the inputs that are not proven
valid out, no GIL in between.

Proven are the common spends: P2PKH, P2WPKH (plain and in P2SH), P2WSH of m-of-n multisig, and P2TR by key, with the
usual hash type (SIGHASH_ALL; for P2TR also the default). All else about such a spend must be usual too: strict DER, a
low S where policy demands it, compressed keys. Then no flag has anything to object, and the spend is valid exactly if
its hashes and signatures are. Nothing here says that an input is invalid, or why: that is the interpreter's to say.

These are rules written a second time, for speed. `tests/property/test_script_checks.py` holds them against the
interpreter and libbitcoinkernel.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from chain.crypto.batch_native import new_curve
from chain.crypto.compiled import BYTES, INT, INTS, compiled, inlined
from chain.primitives.coin import SCRIPT_OFFSET
from chain.script.flags import ScriptFlags
from chain.script.native.digests import share_segwit, share_taproot, write_blank
from chain.script.native.layout import COIN, COIN_SIZE, CONTEXT, SCRIPT_SIZE, Context, new_context, read_transaction
from chain.script.native.templates import (
    prove_key_hash_program,
    prove_p2pkh,
    prove_p2sh_p2wpkh,
    prove_p2tr_key,
    prove_p2wsh_multisig,
)

_P2SH, _WITNESS, _TAPROOT = (int(flag) for flag in (ScriptFlags.P2SH, ScriptFlags.WITNESS, ScriptFlags.TAPROOT))


@inlined
def _prove_input(context: Any, data: Any, count: Any, number: Any, flags: Any, done: Any) -> Any:
    """`done` remembers what the transaction's inputs share: whether `share_segwit` and `share_taproot` have run, and
    what `write_blank` returned.
    """
    row = context.inputs[number]
    size = row[COIN_SIZE] - SCRIPT_OFFSET
    script = row[COIN] + SCRIPT_OFFSET
    if size == 25:
        if data[script] != 0x76 or data[script + 1] != 0xA9 or data[script + 2] != 20:
            return False
        if data[script + 23] != 0x88 or data[script + 24] != 0xAC:
            return False
        if done[2] == 0:
            done[2], done[3] = write_blank(context, data, count)
        return prove_p2pkh(context, data, number, flags, done[2], done[3])
    if (size != 22 and size != 23 and size != 34) or not flags & _WITNESS or not flags & _P2SH:
        return False
    if done[0] == 0:
        share_segwit(context, data, count)
        done[0] = 1
    if size == 23:
        if data[script] != 0xA9 or data[script + 1] != 20 or data[script + 22] != 0x87:
            return False
        return prove_p2sh_p2wpkh(context, data, number, flags)
    if data[script + 1] != size - 2:
        return False
    if data[script] == 0:
        if size == 34:
            return prove_p2wsh_multisig(context, data, number, flags)
        return row[SCRIPT_SIZE] == 0 and prove_key_hash_program(context, data, number, flags, script + 2)
    if data[script] != 0x51 or size != 34 or not flags & _TAPROOT:
        return False
    if done[1] == 0:
        share_taproot(context, data, count)
        done[1] = 1
    return prove_p2tr_key(context, data, number)


@compiled(CONTEXT, BYTES, INTS, INTS, INT, types.int64[:, ::1])
def _prove(context: Any, data: Any, sizes: Any, counts: Any, flags: Any, open_inputs: Any) -> Any:
    """`sizes` are those of a transaction, of the coins it spends, of the next transaction...; `counts` how many coins
    each spends. Writes the inputs not proven to `open_inputs`, in order, and returns their number.
    """
    done = np.zeros(4, dtype=np.int64)
    found = 0
    part = 0
    pos = np.int64(0)
    for transaction in range(len(counts)):
        count = counts[transaction]
        start, end = pos, pos + sizes[part]
        pos = end
        for n in range(count):
            context.inputs[n, COIN] = pos
            context.inputs[n, COIN_SIZE] = sizes[part + 1 + n]
            pos += sizes[part + 1 + n]
        part += 1 + count
        for i in range(4):
            done[i] = 0
        readable = count > 0 and read_transaction(context, data, start, end, count)
        for n in range(count):
            if not readable or not _prove_input(context, data, count, n, flags, done):
                open_inputs[found, 0] = transaction
                open_inputs[found, 1] = n
                found += 1
    return found


class _Local(threading.local):
    """Each thread its own memory, which grows with what it is given."""

    def __init__(self) -> None:
        self.inputs, self.size = 256, 1 << 16
        self.context = new_context(new_curve(), self.inputs, self.size)

    def context_for(self, inputs: int, size: int) -> Context:
        if inputs > self.inputs or size > self.size:
            self.inputs, self.size = max(inputs, self.inputs), max(size, self.size)
            self.context = new_context(self.context.curve, self.inputs, self.size)
        return self.context


_local = _Local()


def open_inputs(parts: Sequence[bytes], counts: Sequence[int], flags: int) -> list[tuple[int, int]]:
    """The inputs that are not proven valid: (number of the transaction, index), in order.

    `parts` are, for each transaction, its serialization and then the packed coins that it spends, `counts[i]` of them.
    """
    data = bytearray().join(parts)
    found = np.empty((sum(counts), 2), dtype=np.int64)
    number = _prove(
        _local.context_for(max(counts, default=0), len(data)),
        np.frombuffer(data, dtype=np.uint8),
        np.fromiter(map(len, parts), np.int64, len(parts)),
        np.array(counts, dtype=np.int64),
        flags,
        found,
    )
    return [(transaction, index) for transaction, index in found[:number].tolist()]
