"""Where everything is in serialized transactions, for the compiled loops: tables of positions, no object per field."""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, INTS, TABLE, inner

#: Columns of a table of inputs: positions, and sizes. A witness's position is that of its first item; without witness
#: it has none. Where the spent coin is, is filled in by whoever has it.
PREVOUT, SCRIPT, SCRIPT_SIZE, SEQUENCE, WITNESS, WITNESS_ITEMS, COIN, COIN_SIZE, INPUT_COLUMNS = range(9)

#: Columns of a table of transactions: positions, then the row of the first input and how many there are, and the number
#: of outputs. Between OUTPUTS_END and LOCKTIME is the witness. The last two are for whoever counts (satoshi of all
#: outputs, signature operations as Core's GetLegacySigOpCount).
(
    VERSION,
    INPUT_COUNT,
    OUTPUT_COUNT,
    OUTPUTS,
    OUTPUTS_END,
    LOCKTIME,
    END,
    FIRST_INPUT,
    INPUTS,
    OUTPUT_NUMBER,
    VALUE_OUT,
    SIGOPS,
    TRANSACTION_COLUMNS,
) = range(13)


@inner(BYTES, INT)
def read_compact_size(data: Any, pos: Any) -> Any:
    """(value, next position) where one is known to be."""
    first = np.int64(data[pos])
    if first < 0xFD:
        return first, pos + 1
    width = 1 << (first - 0xFC)
    value = np.int64(0)
    for i in range(width):
        value |= np.int64(data[pos + 1 + i]) << (8 * i)
    return value, pos + 1 + width


@inner(BYTES, INT, INT)
def _read_size(data: Any, pos: Any, end: Any) -> Any:
    """(value, next position) of the size of something that ends before `end`; (-1, `end`) if it cannot be that, or is
    not spelled in the shortest way.
    """
    if pos >= end:
        return -1, end
    first = np.int64(data[pos])
    if first < 0xFD:
        return (first, pos + 1) if pos + 1 + first <= end else (-1, end)
    if first == 0xFF or pos + 5 > end:
        return -1, end
    value, after = read_compact_size(data, pos)
    if value < 0xFD or (first == 0xFE and value <= 0xFFFF) or after + value > end:
        return -1, end
    return value, after


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


@inner(BYTES, INT, INT)
def read_number(data: Any, at: Any, width: Any) -> Any:
    """`width` bytes, the lowest first; eight make a signed number."""
    value = np.int64(0)
    for i in range(width):
        value |= np.int64(data[at + i]) << (8 * i)
    return value


@inner(BYTES, INT, BYTES, INT, INT)
def equal(a: Any, a_at: Any, b: Any, b_at: Any, size: Any) -> Any:
    """Whether two places hold the same bytes."""
    same = True
    for i in range(size):
        same = same and a[a_at + i] == b[b_at + i]
    return same


@inner(BYTES, INT, INT, TABLE, INT, INTS)
def read_transaction(data: Any, start: Any, end: Any, inputs: Any, first: Any, row: Any) -> Any:
    """Note in `row` and from inputs[first] on where everything is in the transaction at data[start], which ends at or
    before data[end]. The position after it; -1 if it is malformed, has no input, or has more than the table has room
    for: `Transaction.parse` will tell.
    """
    pos: Any = start + 4
    if pos + 2 > end:
        return -1
    has_witness = data[pos] == 0
    if has_witness:
        if data[pos + 1] != 1:
            return -1
        pos += 2
    row[VERSION] = start
    row[INPUT_COUNT] = pos
    row[FIRST_INPUT] = first
    count, pos = _read_size(data, pos, end)
    if count < 1 or first + count > len(inputs):
        return -1
    row[INPUTS] = count
    for n in range(first, first + count):
        if pos + 36 >= end:
            return -1
        inputs[n, PREVOUT] = pos
        size, pos = _read_size(data, pos + 36, end)
        inputs[n, SCRIPT] = pos
        inputs[n, SCRIPT_SIZE] = size
        pos += size
        inputs[n, SEQUENCE] = pos
        pos += 4
        inputs[n, WITNESS_ITEMS] = 0
        if size < 0 or pos > end:
            return -1
    row[OUTPUT_COUNT] = pos
    outputs, pos = _read_size(data, pos, end)
    if outputs < 0:
        return -1
    row[OUTPUTS] = pos
    row[OUTPUT_NUMBER] = outputs
    for _ in range(outputs):
        if pos + 8 >= end:
            return -1
        size, pos = _read_size(data, pos + 8, end)
        if size < 0:
            return -1
        pos += size
    row[OUTPUTS_END] = pos
    if has_witness:
        some = False
        for n in range(first, first + count):
            items, pos = _read_size(data, pos, end)
            if items < 0:
                return -1
            some = some or items > 0
            inputs[n, WITNESS_ITEMS] = items
            inputs[n, WITNESS] = pos
            for _ in range(items):
                size, pos = _read_size(data, pos, end)
                if size < 0:
                    return -1
                pos += size
        if not some:
            return -1
    row[LOCKTIME] = pos
    row[END] = pos + 4
    return pos + 4 if pos + 4 <= end else -1
