"""Totals and hashes over coins, against a plain computation in Core's order."""

from __future__ import annotations

import random
from hashlib import sha256

from chain.primitives.coin import pack_coin
from chain.primitives.types import OutPoint, PackedCoin, make_outpoint
from chain.utxo_stats import UtxoHash, serialize_coin, utxo_totals


def test_totals_and_order(rng: random.Random) -> None:
    coins: dict[OutPoint, PackedCoin] = {}
    txids = sorted(rng.randbytes(32) for _ in range(20))
    for txid in txids:
        for index in rng.sample(range(600), 12):
            coins[make_outpoint(txid, index)] = pack_coin(rng.randrange(10**12), rng.randbytes(30), 7, False)
    in_core_order = sorted(coins, key=lambda op: (op[:32], int.from_bytes(op[32:], "little")))
    assert in_core_order != sorted(coins)  # what the test is about
    serialized = [serialize_coin(op, coins[op]) for op in in_core_order]
    totals = utxo_totals(sorted(coins.items()), UtxoHash.HASH_SERIALIZED_3)
    assert totals.digest == sha256(sha256(b"".join(serialized)).digest()).digest()
    assert (totals.transactions, totals.outputs, totals.bogo_size) == (20, 240, 240 * 80)
    assert totals.total_amount == sum(int.from_bytes(coin[:8], "little") for coin in coins.values())
    assert utxo_totals(sorted(coins.items()), UtxoHash.NONE).digest == b""


def test_serialization_of_a_coin() -> None:
    coin = pack_coin(5_000_000_000, b"\x51", 9, True)
    data = serialize_coin(make_outpoint(bytes(32), 2), coin)
    assert data.hex() == "00" * 32 + "02000000" + "13000000" + "00f2052a01000000" + "0151"
