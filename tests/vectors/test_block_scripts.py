"""Every input of real blocks, and what a flipped bit does to it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.transaction import Transaction, TxIn
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, ScriptFlags
from chain.script.script import iterate, push_data
from chain.script.sighash import TxData
from chain.script.spends import SpendBatch
from tests.support.scripts import read_block_with_coins

BLOCKS = [
    ("mainnet/block300025", ScriptFlags.P2SH, 1427),
    ("testnet3/block928816", MANDATORY_FLAGS, 8692),
    ("testnet3/block928831", MANDATORY_FLAGS, 9984),
]


@pytest.mark.parametrize(("name", "flags", "input_count"), BLOCKS)
def test_every_input_is_valid(vectors: Path, name: str, flags: ScriptFlags, input_count: int) -> None:
    block, spent = read_block_with_coins(vectors / "blocks", name)
    batch = SpendBatch(flags)
    for position, (tx, coins) in enumerate(zip(block.transactions[1:], spent, strict=True), 1):
        batch.add(tx, coins, position)
    assert batch.verify() is None
    assert batch.inputs == input_count


@pytest.mark.parametrize(("name", "flags", "input_count"), BLOCKS)
def test_the_interpreter_agrees(
    vectors: Path, rng: random.Random, name: str, flags: ScriptFlags, input_count: int
) -> None:
    block, spent = read_block_with_coins(vectors / "blocks", name)
    for tx, coins in rng.sample(list(zip(block.transactions[1:], spent, strict=True)), 60):
        txdata = TxData(tx, coins)
        for index, coin in enumerate(coins):
            assert verify_input(tx, index, coin, flags, txdata) is ScriptError.OK


def _flip(rng: random.Random, data: bytes) -> bytes:
    bit = rng.randrange(len(data) * 8)
    return data[: bit // 8] + bytes((data[bit // 8] ^ 1 << bit % 8,)) + data[bit // 8 + 1 :]


def _is_signature(data: bytes) -> bool:
    return (len(data) in (64, 65)) or (len(data) >= 60 and data[0] == 0x30)


def _damaged(
    rng: random.Random, tx: Transaction, index: int, coins: Sequence[bytes]
) -> Iterator[tuple[str, Transaction, Sequence[bytes]]]:
    """The transaction with one bit of a signature, of the spent amount, or of the spent script changed."""
    coin = coins[index]
    script_sig, witness = tx.script_sigs[index], tx.witnesses[index]

    def replaced(script_sig: bytes, witness: tuple[bytes, ...]) -> Transaction:
        inputs = list(tx.inputs)
        inputs[index] = TxIn(inputs[index].prevout, script_sig, inputs[index].sequence, witness)
        return Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)

    signatures = [n for n, item in enumerate(witness) if _is_signature(item)]
    if signatures:
        n = rng.choice(signatures)
        yield "signature", replaced(script_sig, (*witness[:n], _flip(rng, witness[n]), *witness[n + 1 :])), coins
        yield "amount", tx, [*coins[:index], _flip(rng, coin[:6]) + coin[6:], *coins[index + 1 :]]
    pushes = [data or b"" for _, data in iterate(script_sig)]
    if any(map(_is_signature, pushes)):
        n = rng.choice([n for n, data in enumerate(pushes) if _is_signature(data)])
        # The low bits of a hash type other than ALL, or the length of a DER field, may leave a legacy signature valid
        # under lax parsing: flip inside R and S.
        body = pushes[n][:6] + _flip(rng, pushes[n][6:30]) + pushes[n][30:]
        changed = b"".join(push_data(data if i != n else body) for i, data in enumerate(pushes))
        yield "signature", replaced(changed, witness), coins
    hash_at = SCRIPT_OFFSET + (3 if len(coin) == 37 else 2)
    if len(coin) in (34, 35, 37, 46):
        script = coin[:hash_at] + _flip(rng, coin[hash_at : hash_at + 20]) + coin[hash_at + 20 :]
        yield "script", tx, [*coins[:index], script, *coins[index + 1 :]]


@pytest.mark.parametrize(("name", "flags", "input_count"), BLOCKS)
def test_one_flipped_bit_is_caught(
    vectors: Path, rng: random.Random, name: str, flags: ScriptFlags, input_count: int
) -> None:
    """In every input by the interpreter; in some, whole transactions through the batch too."""
    block, spent = read_block_with_coins(vectors / "blocks", name)
    batched = set(rng.sample(range(len(spent)), 120))
    tried: Counter[str] = Counter()
    for number, (tx, coins) in enumerate(zip(block.transactions[1:], spent, strict=True)):
        chosen = rng.randrange(len(coins)) if number in batched else None
        for index in range(len(coins)):
            for what, damaged, damaged_coins in _damaged(rng, tx, index, coins):
                txdata = TxData(damaged, damaged_coins)
                error = verify_input(damaged, index, damaged_coins[index], flags, txdata)
                assert error is not ScriptError.OK, (what, tx, index)
                tried[what] += 1
                if index == chosen:
                    batch = SpendBatch(flags)
                    batch.add(damaged, damaged_coins, 7)
                    # Another input may be first: all sign all outpoints, and segwit's later ones all amounts.
                    failure = batch.verify()
                    assert failure is not None, (what, tx, index)
                    assert failure.input != index or failure == (7, index, error)
    assert tried["signature"] == input_count
    assert tried["script"] > 0.99 * input_count  # the rest has no template whose hash could be flipped
    assert tried["amount"] > 0.99 * input_count or flags == ScriptFlags.P2SH  # only segwit signs amounts
