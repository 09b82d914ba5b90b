"""Consensus rules on real transactions and blocks: accepted as they are, refused for the right reason when altered."""

from __future__ import annotations

import bz2
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chain.consensus.block import (
    ConnectChecks,
    accept_header,
    bip30_lookups_needed,
    check_block,
    contextual_check_block,
)
from chain.consensus.errors import BlockResult, ConsensusError
from chain.consensus.subsidy import total_subsidy
from chain.consensus.tx import check_transaction
from chain.index import HeaderIndex
from chain.params import BITCOIN, TESTNET3, NetworkParams
from chain.primitives.block import Block
from chain.primitives.coin import coin_value, pack_coin
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import Reader
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount, OutPoint, make_outpoint

pytestmark = pytest.mark.usefixtures("both_readings")

NOW = 1_795_219_200


def cases(vectors: Path, name: str) -> Iterator[tuple[Transaction, str]]:
    for case in json.loads((vectors / "core" / f"{name}.json").read_text()):
        if isinstance(case[0], list):
            yield Transaction.parse(bytes.fromhex(case[1])), case[2]


def test_cores_valid_transactions(vectors: Path) -> None:
    count = 0
    for tx, _ in cases(vectors, "tx_valid"):
        check_transaction(tx)
        count += 1
    assert count > 100


def test_cores_bad_transactions(vectors: Path) -> None:
    """Core marks with BADTX those that fail before any script runs."""
    reasons = []
    for tx, flags in cases(vectors, "tx_invalid"):
        if flags != "BADTX":
            check_transaction(tx)
            continue
        with pytest.raises(ConsensusError) as caught:
            check_transaction(tx)
        reasons.append(caught.value.reason)
    assert sorted(reasons) == [
        "bad-cb-length",
        "bad-cb-length",
        "bad-txns-inputs-duplicate",
        "bad-txns-prevout-null",
        "bad-txns-prevout-null",
        "bad-txns-txouttotal-toolarge",
        "bad-txns-vout-empty",
        "bad-txns-vout-negative",
        "bad-txns-vout-toolarge",
    ]


def first_blocks(vectors: Path) -> list[Block]:
    packed = bz2.decompress((vectors / "blocks" / "mainnet" / "blocks1-256.dat.bz2").read_bytes())
    blocks, pos = [], 0
    while pos < len(packed):
        assert packed[pos : pos + 4] == BITCOIN.magic
        size = int.from_bytes(packed[pos + 4 : pos + 8], "little")
        blocks.append(Block.parse(packed[pos + 8 : pos + 8 + size]))
        pos += 8 + size
    return blocks


def test_bitcoins_first_blocks_connect(vectors: Path) -> None:
    """All rules but scripts, over a dictionary of coins; what exists at the end is what was issued."""
    index = HeaderIndex(BITCOIN)
    tip = index.genesis
    coins: dict[OutPoint, bytes] = {}
    for block in first_blocks(vectors):
        prev = accept_header(block.header, index.entries, BITCOIN, NOW)
        assert prev is tip
        check_block(block, BITCOIN)
        contextual_check_block(block, prev, BITCOIN)
        rules = ConnectChecks(block.hash, prev, BITCOIN)
        assert bip30_lookups_needed(block.hash, prev, BITCOIN)
        for position, tx in enumerate(block.transactions):
            if position:
                rules.transaction(tx, [coins.pop(outpoint) for outpoint in tx.prevouts])
            else:
                rules.coinbase(tx)
            for n, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True)):
                assert make_outpoint(tx.txid, n) not in coins
                coins[make_outpoint(tx.txid, n)] = pack_coin(value, script, rules.height, position == 0)
        rules.finish(block.transactions[0])
        tip = index.add(block.header)
    assert tip.height == 255
    assert sum(map(coin_value, coins.values())) == total_subsidy(255, BITCOIN) - total_subsidy(0, BITCOIN)


REAL = [("mainnet", 300025), ("testnet3", 928816), ("testnet3", 928831)]


def load(vectors: Path, name: str, height: int) -> tuple[Block, list[list[bytes]], NetworkParams]:
    """A block, the coins that each of its transactions but the first spends, and its network."""
    folder = vectors / "blocks" / name
    block = Block.parse((folder / f"block{height}.raw").read_bytes())
    reader = Reader((folder / f"block{height}-prevouts.raw").read_bytes())
    spent: list[list[bytes]] = []
    for tx in block.transactions[1:]:
        spent.append([pack_coin(reader.i64(), reader.var_bytes(), 1, False) for _ in tx.prevouts])
    reader.finish()
    return block, spent, BITCOIN if name == "mainnet" else TESTNET3


def connect(block: Block, spent: list[list[bytes]], height: int, params: NetworkParams) -> ConnectChecks:
    """Relative locks need headers that the vectors do not have, so BIP68 is left out."""
    index = HeaderIndex(params)
    index.genesis.height = height - 1
    rules = ConnectChecks(block.hash, index.genesis, replace(params, csv_height=1 << 31))
    rules.coinbase(block.transactions[0])
    for tx, coins in zip(block.transactions[1:], spent, strict=True):
        rules.transaction(tx, coins)
    rules.finish(block.transactions[0])
    return rules


def fitted(block: Block, transactions: list[Transaction]) -> Block:
    """The block with other transactions and the merkle root that goes with them (but not the work)."""
    raw = bytearray(block.header.raw)
    raw[36:68] = merkle_root([tx.txid for tx in transactions])[0]
    return Block.build(type(block.header).parse(bytes(raw)), transactions)


@pytest.mark.parametrize(("name", "height"), REAL)
def test_whole_blocks_pass(vectors: Path, name: str, height: int) -> None:
    block, spent, params = load(vectors, name, height)
    check_block(block, params)
    rules = connect(block, spent, height, params)
    paid = sum(block.transactions[0].values)
    assert paid <= rules.fees + (params.initial_subsidy >> height // 210_000)
    assert 0 < rules.sigop_cost <= 80_000


@pytest.mark.parametrize("name", ["block413567", "block426884", "block482683"])
def test_other_whole_blocks_pass_what_needs_no_coins(vectors: Path, name: str) -> None:
    block = Block.parse((vectors / "blocks" / "mainnet" / f"{name}.raw").read_bytes())
    check_block(block, BITCOIN)
    index = HeaderIndex(BITCOIN)
    index.genesis.height = int(name[5:]) - 1
    index.genesis._median_time = block.header.time - 3600
    contextual_check_block(block, index.genesis, BITCOIN)
    index.genesis.height += 1
    with pytest.raises(ConsensusError, match="bad-cb-height"):
        contextual_check_block(block, index.genesis, BITCOIN)


@pytest.mark.parametrize(("name", "height"), REAL)
def test_altered_blocks_are_refused(vectors: Path, name: str, height: int, rng: random.Random) -> None:
    block, spent, params = load(vectors, name, height)
    txs = block.transactions

    def reason(altered: Block, **options: bool) -> str:
        with pytest.raises(ConsensusError) as caught:
            check_block(altered, params, **options)
        return caught.value.reason

    def connect_reason(altered: Block, coins: list[list[bytes]]) -> str:
        with pytest.raises(ConsensusError) as caught:
            connect(altered, coins, height, params)
        return caught.value.reason

    for _ in range(10):  # a flipped bit in the header, in a transaction
        raw = bytearray(block.raw)
        raw[rng.randrange(80)] ^= 1 << rng.randrange(8)
        assert reason(Block.parse(bytes(raw))) == "high-hash"
        at = rng.randrange(1, len(txs))
        stripped = bytearray(txs[at].stripped)
        stripped[-1 - rng.randrange(4)] ^= 1 << rng.randrange(8)
        changed = Transaction.parse(bytes(stripped))
        assert reason(Block.build(block.header, [*txs[:at], changed, *txs[at + 1 :]])) == "bad-txnmrklroot"
    assert reason(Block.build(block.header, txs[:-1])) == "bad-txnmrklroot"
    assert reason(Block.build(block.header, [*txs[:5], txs[6], txs[5], *txs[7:]])) == "bad-txnmrklroot"
    # with a root that fits, as if it had been mined so
    assert reason(fitted(block, txs[1:]), check_pow=False) == "bad-cb-missing"
    assert reason(fitted(block, [*txs, txs[0]]), check_pow=False) in {"bad-cb-multiple", "bad-blk-length"}
    first = txs[0]
    greedy = Transaction.build(
        first.version,
        first.inputs,
        [TxOut(Amount(first.values[0] + 10**9), b"\x51"), *first.outputs[1:]],
        first.locktime,
    )
    assert connect_reason(fitted(block, [greedy, *txs[1:]]), spent) == "bad-cb-amount"
    # coins that are worth less, or came from a coinbase a moment ago
    at = rng.randrange(len(spent))
    poor: list[bytes] = [pack_coin(0, b"\x51", 1, False) for _ in spent[at]]
    assert connect_reason(block, [*spent[:at], poor, *spent[at + 1 :]]) == "bad-txns-in-belowout"
    fresh: list[bytes] = [pack_coin(coin_value(coin), coin[12:], height - 99, True) for coin in spent[at]]
    assert connect_reason(block, [*spent[:at], fresh, *spent[at + 1 :]]) == "bad-txns-premature-spend-of-coinbase"


def test_altered_witnesses_are_a_mutation(vectors: Path, rng: random.Random) -> None:
    """They leave the block's hash as it is, so the hash must not be blamed."""
    block, _, params = load(vectors, "testnet3", 928816)
    index = HeaderIndex(params)
    index.genesis.height = 928_815
    index.genesis._median_time = block.header.time - 3600
    contextual_check_block(block, index.genesis, params)
    for _ in range(5):
        at = rng.choice(
            [n for n, tx in enumerate(block.transactions) if n and tx.witnesses[-1] and len(tx.witnesses[-1][-1]) > 4]
        )
        tx = block.transactions[at]
        raw = bytearray(tx.raw)
        raw[-6] ^= 1 << rng.randrange(8)
        changed = Transaction.parse(bytes(raw))
        assert changed.txid == tx.txid
        altered = Block.build(block.header, [*block.transactions[:at], changed, *block.transactions[at + 1 :]])
        assert altered.hash == block.hash
        check_block(altered, params)
        with pytest.raises(ConsensusError) as caught:
            contextual_check_block(altered, index.genesis, params)
        assert caught.value.reason == "bad-witness-merkle-match"
        assert caught.value.result is BlockResult.MUTATED
