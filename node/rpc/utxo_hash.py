"""Totals and hashes over all unspent outputs, as gettxoutsetinfo reports them (Core: kernel/coinstats.cpp, crypto/muhash.cpp)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from chain.primitives.coin import coin_value
from chain.primitives.serialize import var_bytes
from chain.primitives.types import OutPoint, PackedCoin

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

MUHASH_PRIME: Final = (1 << 3072) - 1103717
_MUHASH_BYTES: Final = 384
_BOGO_BYTES: Final = 50  #: Core's estimate of an output without its script: outpoint, height, value, length


@dataclass(slots=True)
class UtxoStats:
    """`total` in satoshi; `digest` in internal byte order, empty for hash type none."""

    txouts: int = 0
    transactions: int = 0
    bogosize: int = 0
    total: int = 0
    digest: bytes = b""
    disk_size: int = 0


def utxo_statistics(chain: Chainstate, hash_type: str) -> UtxoStats:
    """One pass over all coins. `hash_type` is hash_serialized_3, muhash or none."""
    stats = UtxoStats()
    serialized = sha256()
    muhash = MuHash() if hash_type == "muhash" else None
    last_txid = b""
    for outpoint, coin in _in_core_order(chain.iterate_coins()):
        stats.txouts += 1
        stats.total += coin_value(coin)
        stats.bogosize += _BOGO_BYTES + len(coin) - 12
        if outpoint[:32] != last_txid:
            last_txid = outpoint[:32]
            stats.transactions += 1
        if hash_type != "none":
            data = serialize_coin(outpoint, coin)
            if muhash is not None:
                muhash.insert(data)
            else:
                serialized.update(data)
    if muhash is not None:
        stats.digest = muhash.finalize()
    elif hash_type != "none":
        stats.digest = sha256(serialized.digest()).digest()
    stats.disk_size = chain.coins_on_disk()[1]
    return stats


def serialize_coin(outpoint: bytes, coin: bytes) -> bytes:
    """What both hashes commit to: outpoint, height and coinbase flag, output."""
    return outpoint + coin[8:12] + coin[:8] + var_bytes(coin[12:])


def _in_core_order(coins: Iterator[tuple[OutPoint, PackedCoin]]) -> Iterator[tuple[OutPoint, PackedCoin]]:
    """By txid, then by the number of the output; our store sorts its little-endian bytes."""
    group: list[tuple[OutPoint, PackedCoin]] = []
    for item in coins:
        if group and item[0][:32] != group[0][0][:32]:
            yield from sorted(group, key=_output_number)
            group = []
        group.append(item)
    yield from sorted(group, key=_output_number)


def _output_number(item: tuple[OutPoint, PackedCoin]) -> int:
    return int.from_bytes(item[0][32:], "little")


class MuHash:
    """MuHash3072: a set hash, the product of the elements' 3072-bit numbers modulo a prime."""

    def __init__(self) -> None:
        self._product = 1

    def insert(self, data: bytes) -> None:
        number = int.from_bytes(_chacha20_stream(sha256(data).digest()), "little")
        self._product = self._product * number % MUHASH_PRIME

    def finalize(self) -> bytes:
        """32 bytes."""
        return sha256(self._product.to_bytes(_MUHASH_BYTES, "little")).digest()


_CONSTANTS: Final = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS: Final = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _chacha20_stream(key: bytes) -> bytes:
    """The first 384 bytes of ChaCha20's key stream (RFC 8439) with nonce 0, counter from 0."""
    words = struct.unpack("<8I", key)
    out = []
    for counter in range(_MUHASH_BYTES // 64):
        start = (*_CONSTANTS, *words, counter, 0, 0, 0)
        s = list(start)
        for _ in range(10):
            for a, b, c, d in _ROUNDS:
                s[a] = (s[a] + s[b]) & 0xFFFFFFFF
                x = s[d] ^ s[a]
                s[d] = (x << 16 | x >> 16) & 0xFFFFFFFF
                s[c] = (s[c] + s[d]) & 0xFFFFFFFF
                x = s[b] ^ s[c]
                s[b] = (x << 12 | x >> 20) & 0xFFFFFFFF
                s[a] = (s[a] + s[b]) & 0xFFFFFFFF
                x = s[d] ^ s[a]
                s[d] = (x << 8 | x >> 24) & 0xFFFFFFFF
                s[c] = (s[c] + s[d]) & 0xFFFFFFFF
                x = s[b] ^ s[c]
                s[b] = (x << 7 | x >> 25) & 0xFFFFFFFF
        out.append(struct.pack("<16I", *((x + y) & 0xFFFFFFFF for x, y in zip(s, start, strict=True))))
    return b"".join(out)
