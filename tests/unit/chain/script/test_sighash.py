"""Signature hashes: the parts that inputs share give what each input alone gives, and the old quirks are kept."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from chain.primitives.coin import pack_coin
from chain.primitives.serialize import var_bytes, write_compact_size
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script.sighash import (
    SINGLE_BUG_DIGEST,
    TxData,
    find_and_delete,
    legacy_sighash,
    segwit_v0_sighash,
    taproot_sighash,
)

HASH_TYPES = [*range(0, 5), *range(0x80, 0x85), 0x21, 0xFF]


def _transaction(rng: random.Random, inputs: int, outputs: int) -> tuple[Transaction, list[bytes]]:
    tx = Transaction.build(
        rng.getrandbits(32),
        [TxIn(OutPoint(rng.randbytes(36)), rng.randbytes(3), rng.getrandbits(32)) for _ in range(inputs)],
        [TxOut(Amount(rng.getrandbits(40)), rng.randbytes(rng.choice((0, 22, 300)))) for _ in range(outputs)],
        rng.getrandbits(32),
    )
    return tx, [pack_coin(rng.getrandbits(40), rng.randbytes(rng.choice((22, 260))), 0, False) for _ in range(inputs)]


def _double(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def _u32(n: int) -> bytes:
    return n.to_bytes(4, "little")


def _legacy(tx: Transaction, index: int, code: bytes, hash_type: int) -> bytes:
    """The original algorithm as it was: edit a copy of the transaction, serialize it, hash it."""
    base = hash_type & 0x1F
    inputs = [
        TxIn(p, code if n == index else b"", s if n == index or base not in (2, 3) else 0)
        for n, (p, s) in enumerate(zip(tx.prevouts, tx.sequences, strict=True))
    ]
    outputs = list(tx.outputs)
    if base == 2:
        outputs = []
    elif base == 3:
        if index >= len(outputs):
            return SINGLE_BUG_DIGEST
        outputs = [TxOut(Amount(-1), b"")] * index + [outputs[index]]
    if hash_type & 0x80:
        inputs = [inputs[index]]
    return _double(Transaction.build(tx.version, inputs, outputs, tx.locktime).raw + _u32(hash_type))


def _bip143(tx: Transaction, index: int, code: bytes, value: int, hash_type: int) -> bytes:
    base, anyone = hash_type & 0x1F, hash_type & 0x80
    prevouts = bytes(32) if anyone else _double(b"".join(tx.prevouts))
    sequences = bytes(32) if anyone or base in (2, 3) else _double(b"".join(map(_u32, tx.sequences)))
    serialized = [out.value.to_bytes(8, "little") + var_bytes(out.script_pubkey) for out in tx.outputs]
    if base == 3:
        outputs = _double(serialized[index]) if index < len(serialized) else bytes(32)
    else:
        outputs = bytes(32) if base == 2 else _double(b"".join(serialized))
    message = _u32(tx.version) + prevouts + sequences + tx.prevouts[index] + var_bytes(code)
    message += value.to_bytes(8, "little") + _u32(tx.sequences[index]) + outputs + _u32(tx.locktime) + _u32(hash_type)
    return _double(message)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2), (15, 5), (16, 1), (40, 300)])
def test_shared_parts_change_nothing(rng: random.Random, inputs: int, outputs: int) -> None:
    tx, coins = _transaction(rng, inputs, outputs)
    shared = TxData(tx, coins)
    order = list(range(inputs)) + rng.sample(range(inputs), inputs)
    for index in order:
        code = b"\x76\xa9\x14" + rng.randbytes(20).replace(b"\xab", b"\xac") + b"\x88\xac"
        for hash_type in HASH_TYPES:
            assert legacy_sighash(shared, index, code, hash_type) == _legacy(tx, index, code, hash_type)
            value = rng.getrandbits(40)
            expected = _bip143(tx, index, code, value, hash_type)
            assert segwit_v0_sighash(shared, index, code, value, hash_type) == expected
            fresh = TxData(tx, coins)
            leaf = rng.choice((None, rng.randbytes(32)))
            assert taproot_sighash(shared, index, hash_type, leaf_hash=leaf) == taproot_sighash(
                fresh, index, hash_type, leaf_hash=leaf
            )


def test_hash_types_of_taproot(rng: random.Random) -> None:
    tx, coins = _transaction(rng, 3, 2)
    txdata = TxData(tx, coins)
    allowed = {n for n in range(256) if taproot_sighash(txdata, 0, n) is not None}
    assert allowed == {0, 1, 2, 3, 0x81, 0x82, 0x83}
    assert taproot_sighash(txdata, 2, 3) is None  # SINGLE without its output
    assert taproot_sighash(txdata, 2, 0x83) is None
    digests = {taproot_sighash(txdata, 1, n) for n in allowed}
    assert len(digests) == 7


def test_taproot_needs_the_spent_coins(rng: random.Random) -> None:
    tx, coins = _transaction(rng, 2, 1)
    for spent in (None, coins[:1]):
        with pytest.raises(ValueError, match="coin"):
            taproot_sighash(TxData(tx, spent), 0, 0)


def test_single_without_output_signs_one(rng: random.Random) -> None:
    tx, _ = _transaction(rng, 3, 2)
    assert legacy_sighash(TxData(tx), 2, b"\xac", 3) == SINGLE_BUG_DIGEST
    assert legacy_sighash(TxData(tx), 2, b"\xac", 0x83) == SINGLE_BUG_DIGEST
    assert legacy_sighash(TxData(tx), 1, b"\xac", 3) != SINGLE_BUG_DIGEST


def test_code_separators_are_left_out(rng: random.Random) -> None:
    tx, _ = _transaction(rng, 1, 1)
    txdata = TxData(tx)
    plain = legacy_sighash(txdata, 0, b"\x51\x02\xab\xab\xac", 1)
    assert legacy_sighash(txdata, 0, b"\xab\x51\xab\x02\xab\xab\xab\xac\xab", 1) == plain


def test_a_push_cut_short_ends_what_is_signed(rng: random.Random) -> None:
    """Core announces the whole script's length but writes it only up to the push that fails."""
    tx, _ = _transaction(rng, 1, 1)
    head = _u32(tx.version) + b"\x01" + tx.prevouts[0]
    tail = _u32(tx.sequences[0]) + write_compact_size(1) + tx.raw[-4 - len(TxData(tx).outputs()) : -4]
    tail += _u32(tx.locktime) + _u32(1)
    for code, written in (
        (b"\x51\x05abc", b"\x51\x05"),
        (b"\x51\x4c", b"\x51\x4c"),
        (b"\x51\x4c\x09abc", b"\x51\x4c\x09"),
        (b"\x51\x4d\x09", b"\x51\x4d"),
    ):
        expected = _double(head + bytes((len(code),)) + written + tail)
        assert legacy_sighash(TxData(tx), 0, code, 1) == expected


@pytest.mark.parametrize(
    ("script", "sig", "expected", "count"),
    [
        ("0302ff03", "02ff03", "", 1),
        ("0302ff030302ff03", "02ff03", "", 2),
        ("0302ff03510302ff03", "02ff03", "51", 2),
        ("0402ff0303", "02ff03", "0402ff0303", 0),  # inside another push
        ("020302ff030302ff03", "02ff03", "020302ff030302ff03", 0),  # at no opcode boundary
        ("00ac00", "", "ac", 2),  # an empty signature is OP_0
        ("0101015101", "01", "015101", 1),
        ("5103", "02ff03", "5103", 0),
        ("03feed", "feed", "03feed", 0),
        ("02feed51026969", "feed", "51026969", 1),
        ("516902feed69", "feed", "516969", 1),
        ("4c02feed", "feed", "4c02feed", 0),  # the same bytes pushed in another way
        ("02feed4c", "feed", "4c", 1),  # what cannot be read is kept
    ],
)
def test_find_and_delete(script: str, sig: str, expected: str, count: int) -> None:
    result = find_and_delete(bytes.fromhex(script), bytes.fromhex(sig))
    assert result == (bytes.fromhex(expected), count)
