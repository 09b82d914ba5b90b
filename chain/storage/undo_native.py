"""Undo data of a whole block in one compiled call; the twin of `chain.storage.undo.encode_undo`."""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, TABLE, compiled, copy, inner
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.native.layout import (
    COIN,
    COIN_SIZE,
    FIRST_INPUT,
    INPUTS,
    read_number,
    write_compact_size,
)
from chain.primitives.native.tables import BlockTables
from chain.storage.compression import SPECIAL_SCRIPTS

_OVERHEAD = 32  #: bytes at most that a coin takes beside its script, the count before it included


@inner(BYTES, INT, INT)
def _write_varint(out: Any, at: Any, number: Any) -> Any:
    """The next position."""
    size, rest = 1, number
    while rest > 0x7F:
        rest = (rest >> 7) - 1
        size += 1
    rest = number
    for i in range(size):
        out[at + size - 1 - i] = np.uint8(rest & 0x7F | (0x80 if i else 0))
        rest = (rest >> 7) - 1
    return at + size


@inner(INT)
def _compress_amount(amount: Any) -> Any:
    if amount == 0:
        return amount
    exponent = 0
    while exponent < 9 and amount % 10 == 0:
        amount //= 10
        exponent += 1
    if exponent == 9:
        return 1 + (amount - 1) * 10 + 9
    return 1 + (amount // 10 * 9 + amount % 10 - 1) * 10 + exponent


@inner(BYTES, INT, INT, BYTES, INT)
def _write_script(data: Any, start: Any, size: Any, out: Any, at: Any) -> Any:
    """The next position; -1 for a script that may be an uncompressed key's, which takes arithmetic to tell."""
    end = start + size
    if size == 25 and data[start] == 0x76 and data[start + 1] == 0xA9 and data[start + 2] == 20:
        if data[end - 2] == 0x88 and data[end - 1] == 0xAC:
            out[at] = np.uint8(0)
            return copy(data, start + 3, 20, out, at + 1)
    elif size == 23 and data[start] == 0xA9 and data[start + 1] == 20:
        if data[end - 1] == 0x87:
            out[at] = np.uint8(1)
            return copy(data, start + 2, 20, out, at + 1)
    elif size == 35 and data[start] == 33 and data[end - 1] == 0xAC:
        if data[start + 1] == 2 or data[start + 1] == 3:
            return copy(data, start + 1, 33, out, at)
    elif size == 67 and data[start] == 65 and data[start + 1] == 4 and data[end - 1] == 0xAC:
        return -1
    at = _write_varint(out, at, size + SPECIAL_SCRIPTS)
    return copy(data, start, size, out, at)


@compiled(BYTES, TABLE, TABLE, BYTES)
def _encode(data: Any, transactions: Any, inputs: Any, out: Any) -> Any:
    at = write_compact_size(out, 0, len(transactions) - 1)
    for number in range(1, len(transactions)):
        first, count = transactions[number, FIRST_INPUT], transactions[number, INPUTS]
        at = write_compact_size(out, at, count)
        for n in range(first, first + count):
            coin = inputs[n, COIN]
            code = read_number(data, coin + 8, 4)
            at = _write_varint(out, at, code)
            if code > 1:
                out[at] = np.uint8(0)
                at += 1
            at = _write_varint(out, at, _compress_amount(read_number(data, coin, 8)))
            at = _write_script(data, coin + SCRIPT_OFFSET, inputs[n, COIN_SIZE] - SCRIPT_OFFSET, out, at)
            if at < 0:
                return at
    return at


def encode_undo(tables: BlockTables) -> bytes | None:
    """Undo data of a block whose tables name the coins that it spends; None where only Python can compress one."""
    out = np.empty(len(tables.data) + _OVERHEAD * len(tables.inputs) + _OVERHEAD, np.uint8)
    size = _encode(tables.data, tables.transactions, tables.inputs, out)
    return out[:size].tobytes() if size >= 0 else None
