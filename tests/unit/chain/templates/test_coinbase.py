"""Coinbase transactions."""

from __future__ import annotations

import pytest

from chain.crypto.hashes import sha256d
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.templates.coinbase import coinbase_prefix, commitment_script, make_coinbase

SCRIPT = b"\x51"


@pytest.mark.parametrize(
    ("height", "prefix"),
    [
        (0, "00"),
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (500, "02f401"),
        (840_000, "0340d10c"),
    ],
)
def test_height_comes_first(height: int, prefix: str) -> None:
    assert coinbase_prefix(height).hex() == prefix


def test_fields() -> None:
    tx = make_coinbase(1000, SCRIPT, 5_000, extranonce=b"abcd", extra=b"/pickaxe/")
    assert tx.is_coinbase
    assert tx.script_sigs[0] == b"\x02\xe8\x03" + b"\x04abcd" + b"/pickaxe/"
    assert (tx.locktime, tx.sequences, tx.version) == (999, [0xFFFFFFFE], 2)
    assert (tx.values, tx.scripts, tx.has_witness) == ([5_000], [SCRIPT], False)


def test_script_is_never_too_short_and_not_too_long() -> None:
    assert make_coinbase(5, SCRIPT, 0).script_sigs[0] == b"\x55\x00"
    assert len(make_coinbase(1000, SCRIPT, 0, extra=b"x" * 97).script_sigs[0]) == 100
    with pytest.raises(ValueError, match="at most 100 bytes, not 101"):
        make_coinbase(1000, SCRIPT, 0, extra=b"x" * 98)


def test_witness_commitment() -> None:
    plain = Transaction.build(2, [TxIn(OutPoint(b"\1" * 36))], [TxOut(Amount(1), SCRIPT)], 0)
    signed = Transaction.build(2, [TxIn(OutPoint(b"\2" * 36), witness=(b"x",))], [TxOut(Amount(1), SCRIPT)], 0)
    left = sha256d(bytes(32) + plain.wtxid)
    right = sha256d(signed.wtxid * 2)
    script = commitment_script([plain, signed])
    assert script == bytes.fromhex("6a24aa21a9ed") + sha256d(sha256d(left + right) + bytes(32))
    tx = make_coinbase(1000, SCRIPT, 5, witness_commitment=script)
    assert (tx.values[1], tx.scripts[1], tx.witnesses) == (0, script, [(bytes(32),)])
    # With no other transaction the tree is the coinbase's zero leaf.
    assert commitment_script([])[6:] == sha256d(bytes(64))
