"""Snapshot files: bytes that are known, and everything that can be wrong with one."""

from __future__ import annotations

import io
import random
from hashlib import sha256

import pytest

from chain.params import network
from chain.primitives.coin import pack_coin
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.snapshot.format import (
    HEADER_SIZE,
    MetadataError,
    SetHash,
    SnapshotError,
    SnapshotMetadata,
    encode_group,
    groups,
    read_coins,
    read_metadata,
)
from chain.utxo_stats import UtxoHash, utxo_totals

REGTEST = network("regtest")
Coins = list[tuple[OutPoint, PackedCoin]]


def make_coins(rng: random.Random, count: int) -> Coins:
    """Coins of all kinds of scripts; some transactions have many."""
    coins = {}
    while len(coins) < count:
        txid = rng.randbytes(32)
        for index in rng.sample(range(70_000), rng.choice((1, 1, 1, 2, 5, 40))):
            script = rng.choice(
                (
                    b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xac",
                    b"\xa9\x14" + rng.randbytes(20) + b"\x87",
                    b"\x21\x02" + rng.randbytes(32) + b"\xac",
                    b"\x00\x14" + rng.randbytes(20),
                    b"\x51\x20" + rng.randbytes(32),
                    rng.randbytes(rng.randrange(200)),
                    b"",
                )
            )
            value = rng.choice((0, 1, 5_000_000_000, rng.randrange(21 * 10**14)))
            outpoint = OutPoint(txid + index.to_bytes(4, "little"))
            coins[outpoint] = PackedCoin(pack_coin(value, script, rng.randrange(500), rng.random() < 0.5))
    return sorted(coins.items())


def encode(coins: Coins, base: bytes = bytes(32), count: int | None = None) -> bytes:
    head = SnapshotMetadata(BlockHash(base), len(coins) if count is None else count).encode(REGTEST.magic)
    return head + b"".join(encode_group(txid, group) for txid, group in groups(coins))


def decode(data: bytes, height: int = 500) -> Coins:
    file = io.BytesIO(data)
    metadata = read_metadata(file, REGTEST)
    return [coin for batch in read_coins(file, metadata.coins_count, height, batch=7) for coin in batch]


def refusal(data: bytes, height: int = 500) -> str:
    with pytest.raises(SnapshotError) as caught:
        decode(data, height)
    return str(caught.value)


def test_a_coinbase_coin_byte_for_byte() -> None:
    """Regtest's block 1 as Core writes it: 50 coins to a public key, all fields spelled out."""
    txid = bytes(range(32))
    key = b"\x02" + bytes(range(100, 132))
    coin = pack_coin(50 * 10**8, b"\x21" + key + b"\xac", 1, True)
    data = encode([(OutPoint(txid + bytes(4)), PackedCoin(coin))], bytes(range(32, 64)))
    assert data == (
        b"utxo\xff" + b"\x02\x00" + bytes.fromhex("fabfb5da") + bytes(range(32, 64)) + b"\x01" + bytes(7)
        + txid + b"\x01" + b"\x00" + b"\x03" + b"\x32" + key
    )  # fmt: skip
    assert decode(data) == [(txid + bytes(4), coin)]


def test_round_trip(rng: random.Random) -> None:
    coins = make_coins(rng, 3000)
    data = encode(coins)
    assert sorted(decode(data)) == coins
    assert encode(sorted(decode(data))) == data


def test_coins_of_a_transaction_stand_in_the_order_of_cores_keys() -> None:
    """VARINT(index) as bytes: 16512 is 80 80 00, between 255, 80 7f, and 256, 81 00."""
    indexes = [0, 127, 128, 255, 16512, 256, 70_000, 16511]
    coins = [(OutPoint(bytes(32) + n.to_bytes(4, "little")), PackedCoin(pack_coin(1, b"", 1, False))) for n in indexes]
    assert [int.from_bytes(outpoint[32:], "little") for outpoint, _ in decode(encode(sorted(coins)))] == indexes


def test_the_hash_is_gettxoutsetinfos(rng: random.Random) -> None:
    coins = make_coins(rng, 1000)
    hasher = SetHash()
    for start in range(0, len(coins), 13):
        hasher.update(coins[start : start + 13])
    assert hasher.digest() == utxo_totals(coins, UtxoHash.HASH_SERIALIZED_3).digest
    assert hasher.count == len(coins)


def test_every_truncation_is_refused(rng: random.Random) -> None:
    data = encode(make_coins(rng, 30))
    for size in range(len(data)):
        expected = "AutoFile::read: end of file" if size < HEADER_SIZE else "Bad snapshot format or truncated snapshot"
        assert refusal(data[:size]).startswith(expected), size


def test_no_damage_goes_unnoticed(rng: random.Random) -> None:
    """A flipped bit is refused, or shows in the hash of the coins or in the header."""
    coins = make_coins(rng, 40)
    data = encode(coins)
    good = utxo_totals(coins, UtxoHash.HASH_SERIALIZED_3).digest
    for _ in range(2000):
        position, bit = rng.randrange(len(data)), rng.randrange(8)
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        if 11 <= position < 43:
            continue  # the base block's hash: looked up in the network's table
        try:
            read = decode(bytes(damaged))
        except SnapshotError:
            continue
        assert utxo_totals(sorted(dict(read).items()), UtxoHash.HASH_SERIALIZED_3).digest != good, (position, bit)


def test_headers_that_are_refused() -> None:
    good = encode([])
    cases = [
        (b"\xf0\x0f\x00\xf0\x00" + good[5:], "Invalid UTXO set snapshot magic bytes."),
        (good[:5] + b"\x01\x00" + good[7:], "Version of snapshot 1 does not match any of the supported versions."),
        (
            good[:7] + network("bitcoin").magic + good[11:],
            "The network of the snapshot (main) does not match the network of this node (regtest).",
        ),
        (
            good[:7] + network("pickaxe").magic + good[11:],
            "The network of the snapshot (pickaxe) does not match the network of this node (regtest).",
        ),
        (good[:7] + bytes(4) + good[11:], "This snapshot has been created for an unrecognized network."),
    ]
    for data, text in cases:
        with pytest.raises(MetadataError) as caught:
            decode(data)
        assert str(caught.value).startswith(text)


def test_coins_that_are_refused(rng: random.Random) -> None:
    coins = make_coins(rng, 20)
    data = encode(coins)
    first = encode(coins[:1])
    count = slice(43, 51)
    fewer = bytearray(data)
    fewer[count] = (len(coins) - 1).to_bytes(8, "little")
    assert refusal(bytes(fewer)).startswith(
        (
            "Mismatch in coins count in snapshot metadata and actual snapshot data",
            "Bad snapshot - coins left over after",
        )
    )
    assert refusal(data + b"\0") == f"Bad snapshot - coins left over after deserializing {len(coins)} coins"
    more = bytearray(data)
    more[count] = (len(coins) + 1).to_bytes(8, "little")
    assert refusal(bytes(more)) == f"Bad snapshot format or truncated snapshot after deserializing {len(coins)} coins"
    huge = first[:83] + b"\xfd\xff\xff" + first[84:]
    assert refusal(huge) == "Mismatch in coins count in snapshot metadata and actual snapshot data"
    above = encode([(coins[0][0], PackedCoin(pack_coin(1, b"", 501, False)))])
    assert refusal(above) == "Bad snapshot data after deserializing 0 coins"
    assert decode(above, height=501)
    rich = encode([(coins[0][0], PackedCoin((21 * 10**14 + 1).to_bytes(8, "little") + bytes(4)))])
    assert refusal(rich) == "Bad snapshot data after deserializing 0 coins - bad tx out value"


def test_an_empty_snapshot() -> None:
    assert decode(encode([])) == []
    assert SetHash().digest() == sha256(sha256().digest()).digest()
