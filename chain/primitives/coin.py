"""A coin (unspent output) packed into bytes: the one form in which it is cached, stored and signed over.

Layout: u64 LE value in satoshi, u32 LE (height << 1 | coinbase), scriptPubKey. The value comes first so that
``coin[:8]`` is what BIP143 and BIP341 hash. Bytes keep millions of cached coins small: one object each, nothing for the
garbage collector to walk.
"""

from __future__ import annotations

from chain.primitives.types import Amount, Height, PackedCoin

SCRIPT_OFFSET = 12
#: bytes; a longer script fails (legacy and segwit v0), so that an output with one can never be spent and is no coin
MAX_SCRIPT_SIZE = 10_000


def pack_coin(value: int, script_pubkey: bytes, height: int, coinbase: bool) -> PackedCoin:
    """Pack an output created at `height`."""
    return PackedCoin(value.to_bytes(8, "little") + (height << 1 | coinbase).to_bytes(4, "little") + script_pubkey)


def coin_value(coin: bytes) -> Amount:
    """The value in satoshi."""
    return Amount(int.from_bytes(coin[:8], "little"))


def coin_script(coin: bytes) -> bytes:
    """The scriptPubKey."""
    return coin[SCRIPT_OFFSET:]


def coin_height(coin: bytes) -> Height:
    """The height of the block that created it."""
    return Height(int.from_bytes(coin[8:12], "little") >> 1)


def coin_is_coinbase(coin: bytes) -> bool:
    """Whether a coinbase transaction created it."""
    return bool(coin[8] & 1)
