"""What gettxoutsetinfo reports: totals over all unspent coins, and a hash by which two nodes can compare them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING

from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.serialize import var_bytes
from chain.primitives.types import OutPoint, PackedCoin

if TYPE_CHECKING:
    from chain.crypto.muhash import MuHash

BOGO_BYTES = 32 + 4 + 4 + 8 + 2  # Core's GetBogoSize: a coin's size independent of any database
_STEP_COINS = 10_000


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
    *_, found = totals_in_steps(coins, kind)
    if found is None:
        raise RuntimeError("no totals at the end of all coins")
    return found


def totals_in_steps(coins: Iterable[tuple[OutPoint, PackedCoin]], kind: UtxoHash) -> Iterator[UtxoTotals | None]:
    """utxo_totals for a thread that has other things to do: None after each some thousand coins, at last the totals."""
    transactions = outputs = bogo_size = amount = 0
    hasher = _Hasher(kind)
    serialized: list[bytes] = []
    for _, group in groupby(coins, key=lambda item: item[0][:32]):
        # An index is little-endian, so byte order is not its order from 256 outputs on.
        items = sorted(group, key=lambda item: int.from_bytes(item[0][32:], "little"))
        transactions += 1
        outputs += len(items)
        for outpoint, coin in items:
            bogo_size += BOGO_BYTES + len(coin) - SCRIPT_OFFSET
            amount += int.from_bytes(coin[:8], "little")
            serialized.append(serialize_coin(outpoint, coin))
        if len(serialized) >= _STEP_COINS:
            hasher.insert(serialized)
            serialized = []
            yield None
    hasher.insert(serialized)
    yield UtxoTotals(transactions, outputs, bogo_size, amount, hasher.digest())


class _Hasher:
    """Either hash of serialized coins, or none."""

    def __init__(self, kind: UtxoHash) -> None:
        self._muhash: MuHash | None = None
        self._serialized = sha256() if kind is UtxoHash.HASH_SERIALIZED_3 else None
        if kind is UtxoHash.MUHASH:
            from chain.crypto.muhash import MuHash  # brings numpy, which a node's start need not wait for

            self._muhash = MuHash()

    def insert(self, coins: Sequence[bytes]) -> None:
        if self._muhash is not None:
            self._muhash.insert(coins)
        if self._serialized is not None:
            self._serialized.update(b"".join(coins))

    def digest(self) -> bytes:
        if self._muhash is not None:
            return self._muhash.digest()
        return b"" if self._serialized is None else sha256(self._serialized.digest()).digest()
