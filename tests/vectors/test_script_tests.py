"""Bitcoin Core's script, transaction and signature-hash vectors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from chain.consensus.errors import ConsensusError
from chain.consensus.tx import check_transaction
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, hash_from_hex, make_outpoint
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.sighash import TxData, legacy_sighash
from chain.script.spends import SpendBatch
from tests.support.scripts import (
    ALL_FLAGS,
    assemble,
    fill_flags,
    flags_from_names,
    script_case,
    single_flags,
    trim_flags,
)


def _rows(path: Path) -> list[Any]:
    return [row for row in json.loads(path.read_text()) if len(row) > 1]


def _verify(tx: Transaction, coins: list[bytes], flags: ScriptFlags) -> bool:
    """Whether all inputs are valid; the interpreter and the batched checks must say the same."""
    txdata = TxData(tx, coins)
    valid = all(verify_input(tx, i, coin, flags, txdata) is ScriptError.OK for i, coin in enumerate(coins))
    batch = SpendBatch(flags)
    batch.add(tx, coins)
    assert (batch.verify() is None) == valid
    return valid


def test_script_tests(vectors: Path) -> None:
    rows = _rows(vectors / "core" / "script_tests.json")
    wrong: list[tuple[object, ...]] = []
    for row in rows:
        case = script_case(row)
        result = verify_input(case.spend, 0, case.coin, case.flags, TxData(case.spend, [case.coin]))
        batch = SpendBatch(case.flags)
        batch.add(case.spend, [case.coin])
        failure = batch.verify()
        expected = None if result is ScriptError.OK else (0, 0, result)
        if result.name != case.expected or failure != expected:
            wrong.append((row, result.name, failure))
    assert not wrong
    assert len(rows) == 1222


def _transaction_row(row: list[Any]) -> tuple[Transaction, list[bytes]]:
    coins: dict[OutPoint, bytes] = {}
    for txid_hex, index, script, *amount in row[0]:
        outpoint = make_outpoint(hash_from_hex(txid_hex), index & 0xFFFFFFFF)
        coins[outpoint] = pack_coin(amount[0] if amount else 0, assemble(script), 0, False)
    tx = Transaction.parse(bytes.fromhex(row[1]))
    return tx, [coins[prevout] for prevout in tx.prevouts]


def test_tx_valid(vectors: Path, rng: random.Random) -> None:
    rows = _rows(vectors / "core" / "tx_valid.json")
    for row in rows:
        tx, coins = _transaction_row(row)
        excluded = flags_from_names(row[2])
        check_transaction(tx)
        flags = ALL_FLAGS & ~excluded
        assert flags == fill_flags(flags), row
        assert _verify(tx, coins, flags), row
        for flag in single_flags(ALL_FLAGS):
            assert _verify(tx, coins, trim_flags(flags & ~flag)), (row, flag)
        for _ in range(4):
            assert _verify(tx, coins, trim_flags(flags & ScriptFlags(rng.getrandbits(21)))), row
        # The line names no more flags than it must: without any one of them the transaction fails.
        for flag in single_flags(excluded):
            assert not _verify(tx, coins, ALL_FLAGS & ~trim_flags(excluded & ~flag)), (row, flag)
    assert len(rows) == 121


def test_tx_invalid(vectors: Path, rng: random.Random) -> None:
    rows = _rows(vectors / "core" / "tx_invalid.json")
    for row in rows:
        tx, coins = _transaction_row(row)
        if row[2] == "BADTX":
            try:
                check_transaction(tx)
            except ConsensusError:
                continue
            raise AssertionError(row)
        check_transaction(tx)
        flags = flags_from_names(row[2])
        assert flags == fill_flags(flags), row
        assert not _verify(tx, coins, flags), row
        for flag in single_flags(ALL_FLAGS):
            assert not _verify(tx, coins, fill_flags(flags | flag)), (row, flag)
        for _ in range(4):
            assert not _verify(tx, coins, fill_flags(flags | ScriptFlags(rng.getrandbits(21)))), row
        for flag in single_flags(flags):
            assert _verify(tx, coins, trim_flags(flags & ~flag)), (row, flag)
    assert len(rows) == 93


def test_sighash(vectors: Path) -> None:
    rows = _rows(vectors / "core" / "sighash.json")
    for raw, script, index, hash_type, expected in rows:
        tx = Transaction.parse(bytes.fromhex(raw))
        digest = legacy_sighash(TxData(tx), index, bytes.fromhex(script), hash_type)
        assert digest == hash_from_hex(expected)
    assert len(rows) == 500
