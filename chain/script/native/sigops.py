"""Signature operations of transactions: the twins of `sigop_count` and what is built on it in `chain.script.script`."""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, INTS, TABLE, inner
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.native.layout import (
    COIN,
    COIN_SIZE,
    FIRST_INPUT,
    INPUTS,
    OUTPUT_NUMBER,
    OUTPUTS,
    SCRIPT,
    SCRIPT_SIZE,
    WITNESS,
    WITNESS_ITEMS,
    read_compact_size,
    read_number,
)
from chain.primitives.transaction import WITNESS_SCALE_FACTOR
from chain.script.flags import ScriptFlags
from chain.script.script import MAX_PUBKEYS_PER_MULTISIG

_P2SH, _WITNESS = int(ScriptFlags.P2SH), int(ScriptFlags.WITNESS)
_PUSHDATA1, _PUSHDATA4, _OP_1, _OP_16 = 0x4C, 0x4E, 0x51, 0x60
_CHECKSIG, _CHECKSIGVERIFY, _CHECKMULTISIG, _CHECKMULTISIGVERIFY = 0xAC, 0xAD, 0xAE, 0xAF


@inner(BYTES, INT, INT)
def _pushed(data: Any, pos: Any, end: Any) -> Any:
    """(where what the push at `pos` pushes begins, where it ends); the end is -1 if the script ends before it."""
    opcode = np.int64(data[pos])
    pos += 1
    size = opcode
    if opcode >= _PUSHDATA1:
        width = 1 << (opcode - _PUSHDATA1)
        if pos + width > end:
            return pos, -1
        size = read_number(data, pos, width)
        pos += width
    return pos, pos + size if pos + size <= end else -1


@inner(BYTES, INT, INT, INT)
def count_sigops(data: Any, start: Any, size: Any, accurate: Any) -> Any:
    """Those of the script data[start:start+size]."""
    count = 0
    last: Any = 0
    pos: Any = start
    end = start + size
    while pos < end:
        opcode = np.int64(data[pos])
        if opcode <= _PUSHDATA4:
            _, pos = _pushed(data, pos, end)
            if pos < 0:
                break
        else:
            pos += 1
            if opcode in (_CHECKSIG, _CHECKSIGVERIFY):
                count += 1
            elif opcode in (_CHECKMULTISIG, _CHECKMULTISIGVERIFY):
                count += last - _OP_1 + 1 if accurate and _OP_1 <= last <= _OP_16 else MAX_PUBKEYS_PER_MULTISIG
        last = opcode
    return count


@inner(BYTES, INTS, TABLE)
def legacy_sigops(data: Any, row: Any, inputs: Any) -> Any:
    """Inaccurate count over all scriptSigs and scriptPubKeys of a transaction (Core's GetLegacySigOpCount)."""
    count = np.int64(0)
    for n in range(row[FIRST_INPUT], row[FIRST_INPUT] + row[INPUTS]):
        count += count_sigops(data, inputs[n, SCRIPT], inputs[n, SCRIPT_SIZE], 0)
    pos: Any = row[OUTPUTS]
    for _ in range(row[OUTPUT_NUMBER]):
        size, pos = read_compact_size(data, pos + 8)
        count += count_sigops(data, pos, size, 0)
        pos += size
    return count


@inner(BYTES, INT, INT)
def _is_p2sh(data: Any, at: Any, size: Any) -> Any:
    return size == 23 and data[at] == 0xA9 and data[at + 1] == 20 and data[at + 22] == 0x87


@inner(BYTES, INT, INT)
def _last_push(data: Any, start: Any, size: Any) -> Any:
    """(where, size) of what a push-only script pushes last; of size 0 if that is a number or nothing, or the script is
    not push-only or cut short.
    """
    pos: Any = start
    at = start
    end = start + size
    while pos < end:
        opcode = np.int64(data[pos])
        if opcode > _OP_16:
            return start, 0
        if opcode <= _PUSHDATA4:
            at, pos = _pushed(data, pos, end)
            if pos < 0:
                return start, 0
        else:
            pos += 1
            at = pos
    return at, pos - at


@inner(BYTES, INTS, INT, INT)
def _witness_sigops(data: Any, row: Any, program: Any, size: Any) -> Any:
    """Those in the witness of an input (a row of the table) that spends the witness program at `program`, script
    opcodes included.
    """
    if size < 4 or data[program] != 0 or data[program + 1] != size - 2:
        return 0
    if size == 22:
        return 1
    if size != 34 or row[WITNESS_ITEMS] == 0:
        return 0
    at: Any = row[WITNESS]
    item = np.int64(0)
    for _ in range(row[WITNESS_ITEMS]):
        at += item
        item, at = read_compact_size(data, at)
    return count_sigops(data, at, item, 1)


@inner(BYTES, INTS, INT)
def input_sigop_cost(data: Any, row: Any, flags: Any) -> Any:
    """What an input adds to its transaction's BIP141 cost beside the legacy operations. Its coin is known."""
    script, size = row[COIN] + SCRIPT_OFFSET, row[COIN_SIZE] - SCRIPT_OFFSET
    if not _is_p2sh(data, script, size):
        return _witness_sigops(data, row, script, size) if flags & _WITNESS else 0
    if not flags & _P2SH:
        return 0
    redeem, redeem_size = _last_push(data, row[SCRIPT], row[SCRIPT_SIZE])
    cost = WITNESS_SCALE_FACTOR * count_sigops(data, redeem, redeem_size, 1)
    return cost + _witness_sigops(data, row, redeem, redeem_size) if flags & _WITNESS else cost


@inner(BYTES, INTS)
def input_legacy_sigops(data: Any, row: Any) -> Any:
    """Accurate count of the scriptSig, scriptPubKey and redeem script that an input runs, as BIP54 bounds it."""
    script, size = row[COIN] + SCRIPT_OFFSET, row[COIN_SIZE] - SCRIPT_OFFSET
    count = count_sigops(data, row[SCRIPT], row[SCRIPT_SIZE], 1)
    if _is_p2sh(data, script, size):
        redeem, redeem_size = _last_push(data, row[SCRIPT], row[SCRIPT_SIZE])
        return count + count_sigops(data, redeem, redeem_size, 1)
    return count + count_sigops(data, script, size, 1)
