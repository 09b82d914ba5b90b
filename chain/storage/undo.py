"""Undo data: the coins that a block spent, in Bitcoin Core's CBlockUndo form.

CompactSize count of transactions without the coinbase; for each, CompactSize count of inputs; for each input
VARINT(height << 1 | coinbase), a zero byte when the height is not 0 (where old versions kept a transaction
version), VARINT(compressed amount), compressed script.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import read_compact_size_at, write_compact_size
from chain.primitives.types import PackedCoin
from chain.storage.compression import (
    SPECIAL_SCRIPTS,
    compress_amount,
    compress_script,
    decompress_amount,
    decompress_script,
    read_varint,
    write_varint,
)

#: Coins of these sizes have scripts that no template shrinks (P2WPKH, P2WSH and P2TR are among them): how they begin.
_PLAIN_SIZES = {
    SCRIPT_OFFSET + length: write_varint(length + SPECIAL_SCRIPTS) for length in (*range(23), 24, *range(26, 35))
}


def encode_undo(spent: Sequence[Sequence[bytes]]) -> bytes:
    """`spent[i]` are the packed coins that transaction i + 1 of the block spends, in input order."""
    parts = [write_compact_size(len(spent))]
    append = parts.append
    from_bytes = int.from_bytes
    origins: dict[bytes, bytes] = {}  # most coins of a block come from few heights
    for coins in spent:
        append(write_compact_size(len(coins)))
        for coin in coins:
            code = coin[8:SCRIPT_OFFSET]
            origin = origins.get(code)
            if origin is None:
                n = from_bytes(code, "little")
                origin = origins[code] = write_varint(n) + (b"\x00" if n > 1 else b"")
            append(origin)
            append(write_varint(compress_amount(from_bytes(coin[:8], "little"))))
            size = len(coin)
            if size in _PLAIN_SIZES:
                append(_PLAIN_SIZES[size])
                append(coin[SCRIPT_OFFSET:])
            else:
                append(compress_script(coin[SCRIPT_OFFSET:]))
    return b"".join(parts)


def decode_undo(data: bytes) -> list[list[PackedCoin]]:
    """The inverse of encode_undo; DecodeError if the bytes are not whole undo data."""
    try:
        count, pos = read_compact_size_at(data, 0)
        block: list[list[PackedCoin]] = []
        for _ in range(count):
            inputs, pos = read_compact_size_at(data, pos)
            coins: list[PackedCoin] = []
            for _ in range(inputs):
                code, pos = read_varint(data, pos)
                if code > 1:
                    _, pos = read_varint(data, pos)
                amount, pos = read_varint(data, pos)
                script, pos = decompress_script(data, pos)
                value = decompress_amount(amount)
                coins.append(PackedCoin(value.to_bytes(8, "little") + code.to_bytes(4, "little") + script))
            block.append(coins)
    except (IndexError, OverflowError):
        raise DecodeError("undo data ends too early or holds impossible numbers") from None
    if pos != len(data):
        raise DecodeError(f"{len(data) - pos} bytes after the undo data")
    return block
