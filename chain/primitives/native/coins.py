"""The outputs of a whole block as coins, in one compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np

from chain.crypto.compiled import BYTES, INT, INTS, TABLE, compiled, copy
from chain.primitives.coin import MAX_SCRIPT_SIZE, SCRIPT_OFFSET
from chain.primitives.native.layout import OUTPUT_NUMBER, OUTPUTS, read_compact_size
from chain.primitives.native.tables import BlockTables
from chain.primitives.types import OutPoint, PackedCoin

_OP_RETURN = 0x6A
_MIN_OUTPUT = 9  #: bytes


@compiled(BYTES, TABLE, BYTES, INT, BYTES, BYTES, INTS)
def _pack_outputs(data: Any, transactions: Any, ids: Any, height: Any, outpoints: Any, coins: Any, ends: Any) -> Any:
    """Outpoints go to `outpoints`, 36 bytes each, packed coins to `coins`, where each ends to `ends`; their number."""
    found = 0
    at: Any = 0
    for number in range(len(transactions)):
        code = height << 1 | (1 if number == 0 else 0)
        pos: Any = transactions[number, OUTPUTS]
        for index in range(transactions[number, OUTPUT_NUMBER]):
            size, script = read_compact_size(data, pos + 8)
            if size <= MAX_SCRIPT_SIZE and not (size > 0 and data[script] == _OP_RETURN):
                copy(ids, 64 * number, 32, outpoints, 36 * found)
                for i in range(4):
                    outpoints[36 * found + 32 + i] = np.uint8(index >> (8 * i) & 0xFF)
                    coins[at + 8 + i] = np.uint8(code >> (8 * i) & 0xFF)
                copy(data, pos, 8, coins, at)
                at = copy(data, script, size, coins, at + SCRIPT_OFFSET)
                ends[found] = at
                found += 1
            pos = script + size
    return found


def pack_outputs(tables: BlockTables, height: int) -> dict[OutPoint, PackedCoin]:
    """The spendable outputs of a block at `height`; see `chain.connect.outputs_as_coins`."""
    total = int(tables.transactions[:, OUTPUT_NUMBER].sum())
    outpoints = np.empty(36 * total, np.uint8)
    coins = np.empty(len(tables.data) + (SCRIPT_OFFSET - _MIN_OUTPUT) * total, np.uint8)
    ends = np.empty(total, np.int64)
    found = _pack_outputs(tables.data, tables.transactions, tables.ids, height, outpoints, coins, ends)
    ends = ends[:found].tolist()
    keys, packed = outpoints[: 36 * found].tobytes(), coins[: ends[-1] if ends else 0].tobytes()
    made: dict[OutPoint, PackedCoin] = {}
    at = start = 0
    for end in ends:
        made[keys[at : at + 36]] = packed[start:end]  # type: ignore[index,assignment]  # naming the types costs calls
        at += 36
        start = end
    return made
