"""What gettxoutsetinfo reports: totals over all unspent coins, and a hash by which two nodes can compare them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import groupby

from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.serialize import var_bytes
from chain.primitives.types import OutPoint, PackedCoin

BOGO_BYTES = 32 + 4 + 4 + 8 + 2  # Core's GetBogoSize: a coin's size independent of any database


class UtxoHash(StrEnum):
    """The hashes that Core offers over the set of unspent coins."""

    NONE = "none"
    HASH_SERIALIZED_3 = "hash_serialized_3"  #: SHA-256d of all coins in order of txid and index
    MUHASH = "muhash"  #: independent of order, can be kept up to date


@dataclass(frozen=True, slots=True)
class UtxoTotals:
    """Totals over a set of coins. `digest` is empty without a hash; amounts in satoshi."""

    transactions: int
    outputs: int
    bogo_size: int
    total_amount: int
    digest: bytes


def serialize_coin(outpoint: bytes, coin: bytes) -> bytes:
    """The bytes that both hashes take of a coin: outpoint, u32 height << 1 | coinbase, output."""
    return outpoint + coin[8:SCRIPT_OFFSET] + coin[:8] + var_bytes(coin[SCRIPT_OFFSET:])


def utxo_totals(coins: Iterable[tuple[OutPoint, PackedCoin]], kind: UtxoHash) -> UtxoTotals:
    """Over `coins`, whose outpoints ascend as bytes."""
    transactions = outputs = bogo_size = amount = 0

    def count() -> Iterator[bytes]:
        nonlocal transactions, outputs, bogo_size, amount
        for _, group in groupby(coins, key=lambda item: item[0][:32]):
            # An index is little-endian, so byte order is not its order from 256 outputs on.
            items = sorted(group, key=lambda item: int.from_bytes(item[0][32:], "little"))
            transactions += 1
            outputs += len(items)
            for outpoint, coin in items:
                bogo_size += BOGO_BYTES + len(coin) - SCRIPT_OFFSET
                amount += int.from_bytes(coin[:8], "little")
                yield serialize_coin(outpoint, coin)

    digest = b""
    if kind is UtxoHash.MUHASH:
        from chain.crypto.muhash import MuHash  # brings numpy, which a node's start need not wait for

        muhash = MuHash()
        muhash.insert(count())
        digest = muhash.digest()
    elif kind is UtxoHash.HASH_SERIALIZED_3:
        inner = sha256()
        for data in count():
            inner.update(data)
        digest = sha256(inner.digest()).digest()
    else:
        for _ in count():
            pass
    return UtxoTotals(transactions, outputs, bogo_size, amount, digest)
