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

from chain.crypto.batch_native import new_curve
from chain.crypto.compiled import BYTES, INT, INTS, TABLE, compiled, inlined, inner
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.native.layout import (
    COIN,
    COIN_SIZE,
    FIRST_INPUT,
    INPUT_COLUMNS,
    INPUTS,
    SCRIPT_SIZE,
    TRANSACTION_COLUMNS,
    read_transaction,
)
from chain.primitives.native.tables import BlockTables
from chain.script.flags import ScriptFlags
from chain.script.native.digests import share_segwit, share_taproot, write_blank
from chain.script.native.layout import CONTEXT, Context, new_context
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


@inner(CONTEXT, BYTES, INT, INT, INT, INTS, TABLE, INT)
def _prove_transaction(
    context: Any, data: Any, count: Any, number: Any, flags: Any, done: Any, open_inputs: Any, found: Any
) -> Any:
    """Prove the inputs of the transaction that `context` describes. Those left open are written to `open_inputs`, from
    row `found` on; the row after them.
    """
    for i in range(4):
        done[i] = 0
    for n in range(count):
        if not _prove_input(context, data, count, n, flags, done):
            open_inputs[found, 0] = number
            open_inputs[found, 1] = n
            found += 1
    return found


@compiled(CONTEXT, BYTES, INTS, INTS, INT, TABLE)
def _prove(context: Any, data: Any, sizes: Any, counts: Any, flags: Any, open_inputs: Any) -> Any:
    """`sizes` are those of a transaction, of the coins it spends, of the next transaction...; `counts` how many coins
    each spends. Writes the inputs not proven to `open_inputs`, in order, and returns their number.
    """
    done = np.zeros(4, dtype=np.int64)
    inputs, facts = context.inputs, context.facts
    found: Any = 0
    part = 0
    pos = np.int64(0)
    for transaction in range(len(counts)):
        count = counts[transaction]
        start, end = pos, pos + sizes[part]
        readable = read_transaction(data, start, end, inputs, 0, facts) == end and facts[INPUTS] == count
        pos = end
        for n in range(count):
            inputs[n, COIN] = pos
            inputs[n, COIN_SIZE] = sizes[part + 1 + n]
            pos += sizes[part + 1 + n]
        part += 1 + count
        if readable:
            found = _prove_transaction(context, data, count, transaction, flags, done, open_inputs, found)
        else:
            for n in range(count):
                open_inputs[found, 0] = transaction
                open_inputs[found, 1] = n
                found += 1
    return found


@compiled(CONTEXT, BYTES, TABLE, TABLE, INT, INT, BYTES, INT, TABLE)
def _prove_range(
    context: Any,
    data: Any,
    transactions: Any,
    inputs: Any,
    first: Any,
    last: Any,
    known: Any,
    flags: Any,
    open_inputs: Any,
) -> Any:
    """As `_prove` for the rows `first` to `last` of a block's tables, without those transactions that are `known`."""
    done = np.zeros(4, dtype=np.int64)
    found: Any = 0
    for number in range(first, last):
        if known[number]:
            continue
        for column in range(TRANSACTION_COLUMNS):
            context.facts[column] = transactions[number, column]
        count, row = context.facts[INPUTS], context.facts[FIRST_INPUT]
        for n in range(count):
            for column in range(INPUT_COLUMNS):
                context.inputs[n, column] = inputs[row + n, column]
        found = _prove_transaction(context, data, count, number, flags, done, open_inputs, found)
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


def open_inputs_of(tables: BlockTables, first: int, last: int, known: bytearray, flags: int) -> list[tuple[int, int]]:
    """The same for the transactions `first` to `last` (excluded) of a block whose tables name the coins, in its data
    too; number and index are the block's. Those that `known` marks by a 1 need no proof.
    """
    counts = tables.transactions[first:last, INPUTS]
    found = np.empty((int(counts.sum()), 2), dtype=np.int64)
    number = _prove_range(
        _local.context_for(int(counts.max(initial=0)), len(tables.data)),
        tables.data,
        tables.transactions,
        tables.inputs,
        first,
        last,
        np.frombuffer(known, dtype=np.uint8),
        flags,
        found,
    )
    return [(transaction, index) for transaction, index in found[:number].tolist()]
