"""Opcodes, pushes, disassembly, numbers and signature-operation counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.crypto.hashes import hash160, sha256
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, OutPoint
from chain.script import standard
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.numbers import decode_number, encode_number, is_minimal_number, is_true
from chain.script.opcodes import OP_SUCCESS, OPCODE_NAMES, Opcode, small_int_opcode
from chain.script.operations import HANDLERS
from chain.script.script import (
    TruncatedScript,
    disassemble,
    is_minimal_push,
    is_push_only,
    iterate,
    last_push,
    legacy_sigop_count,
    p2sh_sigop_count,
    push_data,
    push_int,
    push_minimal,
    sigop_cost,
    sigop_count,
    witness_program,
    witness_sigop_count,
)
from tests.support.scripts import assemble, flags_from_names

KEY = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


def test_opcode_names_are_cores() -> None:
    assert [OPCODE_NAMES[n] for n in (0, 0x4F, 0x51, 0x60, 0x50)] == ["0", "-1", "1", "16", "OP_RESERVED"]
    assert OPCODE_NAMES[0xB1] == "OP_CHECKLOCKTIMEVERIFY"
    assert OPCODE_NAMES[0xBB] == "OP_UNKNOWN"
    assert OPCODE_NAMES[0xFF] == "OP_INVALIDOPCODE"


def test_op_success_is_bip342s_list() -> None:
    text = "80, 98, 126-129, 131-134, 137-138, 141-142, 149-153, 187-254"
    expected: set[int] = set()
    for part in text.split(", "):
        first, _, last = part.partition("-")
        expected.update(range(int(first), int(last or first) + 1))
    assert expected == OP_SUCCESS


def test_every_opcode_that_does_something_has_a_handler() -> None:
    unknown = HANDLERS[0xFF]
    without = {op.name for op in Opcode if op > Opcode.OP_16 and HANDLERS[op] is unknown}
    disabled = "CAT SUBSTR LEFT RIGHT INVERT AND OR XOR 2MUL 2DIV MUL DIV MOD LSHIFT RSHIFT"
    never = "VER VERIF VERNOTIF RESERVED1 RESERVED2 INVALIDOPCODE"
    assert without == {"OP_" + name for name in (disabled + " " + never).split()}


def test_small_ints() -> None:
    assert [small_int_opcode(n) for n in (0, 1, 16)] == [Opcode.OP_0, Opcode.OP_1, Opcode.OP_16]
    for wrong in (-1, 17):
        with pytest.raises(ValueError, match="no opcode"):
            small_int_opcode(wrong)


@given(st.integers(-(2**40), 2**40))
def test_numbers_round_trip(n: int) -> None:
    data = encode_number(n)
    assert decode_number(data) == n
    assert is_minimal_number(data)
    assert is_true(data) == (n != 0)
    if data:
        longer = data[:-1] + bytes((data[-1] & 0x7F, data[-1] & 0x80))
        assert decode_number(longer) == n
        assert not is_minimal_number(longer) or data[-1] & 0x7F == 0


def test_number_edges() -> None:
    assert encode_number(128) == b"\x80\0"
    assert encode_number(-128) == b"\x80\x80"
    assert encode_number(-127) == b"\xff"
    assert not is_minimal_number(b"\x80")
    assert not is_minimal_number(b"\0")
    assert not is_true(b"\0\0\x80")
    assert is_true(b"\x80\0")


@pytest.mark.parametrize("size", [0, 1, 75, 76, 255, 256, 65535, 65536])
def test_pushes_are_minimal_and_read_back(size: int) -> None:
    data = b"\x77" * size
    script = push_data(data)
    assert list(iterate(script)) == [(script[0], data)]
    assert is_minimal_push(script[0], data)
    assert is_push_only(script)
    assert push_minimal(data) == script
    assert last_push(script) == data


def test_push_minimal_and_push_int() -> None:
    assert push_minimal(b"\x10") == b"\x60"
    assert push_minimal(b"\x81") == b"\x4f"
    assert push_minimal(b"\x11") == b"\x01\x11"
    assert push_data(b"\x10") == b"\x01\x10"
    assert [push_int(n) for n in (0, -1, 1, 16, 17, 1000)] == [
        b"\0",
        b"\x4f",
        b"\x51",
        b"\x60",
        b"\x01\x11",
        b"\x02\xe8\x03",
    ]
    assert not is_minimal_push(1, b"\x10")
    assert not is_minimal_push(0x4C, b"abc")
    assert not is_minimal_push(0x4D, bytes(255))
    assert not is_minimal_push(0x4E, bytes(65535))


@pytest.mark.parametrize("script", ["02ff", "4c", "4c02ff", "4d01", "4d0200ff", "4e010000", "4effffffff00", "5105"])
def test_truncated_pushes(script: str) -> None:
    data = bytes.fromhex(script)
    with pytest.raises(TruncatedScript):
        list(iterate(data))
    assert not is_push_only(data)
    assert last_push(data) is None
    assert disassemble(data).endswith("[error]")
    assert sigop_count(b"\xac" + data, True) == 1


def test_push_only_includes_reserved_but_no_operation() -> None:
    assert is_push_only(b"\x50\x60\x4f\0")
    assert not is_push_only(b"\x51\x61")
    assert is_push_only(b"")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("", ""),
        ("00", "0"),
        ("4f", "-1"),
        ("0101", "1"),
        ("0181", "-1"),
        ("0180", "0"),
        ("04ffffffff", "-2147483647"),
        ("0500000000ff", "00000000ff"),
        ("76a914" + "11" * 20 + "88ac", "OP_DUP OP_HASH160 " + "11" * 20 + " OP_EQUALVERIFY OP_CHECKSIG"),
        ("6a0568656c6c6f", "OP_RETURN 68656c6c6f"),
        ("51b2ba", "1 OP_CHECKSEQUENCEVERIFY OP_CHECKSIGADD"),
    ],
)
def test_disassembly(script: str, text: str) -> None:
    assert disassemble(bytes.fromhex(script)) == text


def test_disassembly_names_the_hash_type_of_signatures() -> None:
    der = "304402200a5c6163f07b8d3b013c4d1d6dba25e780b39658d79ba37af7057a3b7f15ffa1"
    der += "02201fd9b4eaa9943f734928b99a83592c2e7bf342ea2680f6a2bb705167966b7420"
    script = push_data(bytes.fromhex(der + "83")) + push_data(KEY)
    assert disassemble(script) == f"{der}83 {KEY.hex()}"
    assert disassemble(script, decode_sighash=True) == f"{der}[SINGLE|ANYONECANPAY] {KEY.hex()}"
    assert disassemble(b"\x6a" + script, decode_sighash=True) == f"OP_RETURN {der}83 {KEY.hex()}"


def test_witness_programs() -> None:
    assert witness_program(b"\0\x14" + bytes(20)) == (0, bytes(20))
    assert witness_program(b"\x60\x02ab") == (16, b"ab")
    for wrong in (
        b"\x51\x01a",
        b"\x51\x29" + bytes(41),
        b"\x61\x02ab",
        b"\x51\x03ab",
        b"\x4f\x02ab",
        b"\x51\x4c\x02ab",
    ):
        assert witness_program(wrong) is None


def test_sigop_counts() -> None:
    multi = standard.multisig(1, [KEY, KEY])
    assert sigop_count(multi, True) == 2
    assert sigop_count(multi, False) == 20
    assert sigop_count(b"\xae", True) == 20
    assert sigop_count(b"\x51\x61\xae", True) == 20  # the count must stand right before
    assert sigop_count(b"\x02\xac\xac\xac\xad", False) == 2
    assert sigop_count(assemble("0 IF CHECKSIG ENDIF"), True) == 1
    redeem = push_data(multi)
    assert p2sh_sigop_count(b"\0" + redeem, standard.p2sh(hash160(multi))) == 2
    assert p2sh_sigop_count(b"\x61" + redeem, standard.p2sh(hash160(multi))) == 0  # not push-only
    assert p2sh_sigop_count(redeem, multi) == 0
    assert p2sh_sigop_count(redeem + b"\x51", standard.p2sh(hash160(multi))) == 0


def test_witness_sigop_counts() -> None:
    multi = standard.multisig(2, [KEY, KEY, KEY])
    p2wsh = standard.p2wsh(sha256(multi))
    p2wpkh = standard.p2wpkh(hash160(KEY))
    assert witness_sigop_count(b"", p2wpkh, ()) == 1
    assert witness_sigop_count(b"", p2wsh, (b"", multi)) == 3
    assert witness_sigop_count(b"", p2wsh, ()) == 0
    assert witness_sigop_count(push_data(p2wsh), standard.p2sh(hash160(p2wsh)), (multi,)) == 3
    assert witness_sigop_count(b"\x61" + push_data(p2wsh), standard.p2sh(hash160(p2wsh)), (multi,)) == 0
    assert witness_sigop_count(b"", standard.p2tr(bytes(32)), (multi,)) == 0


def test_sigop_cost() -> None:
    multi = standard.multisig(2, [KEY, KEY, KEY])
    p2wpkh = standard.p2wpkh(hash160(KEY))
    spends = [
        (standard.p2pkh(hash160(KEY)), b"", ()),  # counted where it was created, not here
        (p2wpkh, b"", (b"", KEY)),
        (standard.p2sh(hash160(p2wpkh)), push_data(p2wpkh), (b"", KEY)),
        (standard.p2sh(hash160(multi)), b"\0" + push_data(multi), ()),
        (standard.p2wsh(sha256(multi)), b"", (b"", multi)),
        (b"\x51", b"\xac", ()),
        (standard.p2tr(bytes(32)), b"", (multi,)),
    ]
    tx = Transaction.build(
        2,
        [TxIn(OutPoint(bytes(35) + bytes((n,))), sig, 0, witness) for n, (_, sig, witness) in enumerate(spends)],
        [TxOut(Amount(1), script) for script in (standard.p2pkh(bytes(20)), multi, p2wpkh, standard.p2tr(bytes(32)))],
    )
    coins = [pack_coin(1, script, 0, False) for script, _, _ in spends]
    assert legacy_sigop_count(tx) == 1 + 1 + 20
    assert sigop_cost(tx, coins, ScriptFlags.NONE) == 22 * 4
    assert sigop_cost(tx, coins, ScriptFlags.P2SH) == (22 + 3) * 4
    assert sigop_cost(tx, coins, MANDATORY_FLAGS) == (22 + 3) * 4 + 1 + 1 + 3


def test_sigop_cost_of_a_coinbase_is_legacy_only() -> None:
    tx = Transaction.build(1, [TxIn(NULL_OUTPOINT, b"\xac\xac")], [TxOut(Amount(1), b"\xac")])
    assert sigop_cost(tx, [], MANDATORY_FLAGS) == 12


def test_the_shortcut_of_sigop_counting_counts_the_same(rng: random.Random) -> None:
    """Templates that legacy_sigop_count recognises by shape, against the walk."""
    for _ in range(300):
        script = rng.choice((b"\0\x14", b"\xa9\x14", b"\x51\x20", b"\0\x20", b"\x76\xa9\x14")) + rng.randbytes(
            rng.choice((19, 20, 21, 22, 32))
        )
        script += rng.choice((b"", b"\x87", b"\x88\xac"))
        tx = Transaction.build(1, [TxIn(OutPoint(bytes(36)))], [TxOut(Amount(0), script)])
        expected = 0
        try:
            for opcode, _ in iterate(script):
                expected += {0xAC: 1, 0xAD: 1, 0xAE: 20, 0xAF: 20}.get(opcode, 0)
        except TruncatedScript:
            pass
        assert legacy_sigop_count(tx) == expected


def test_flag_names() -> None:
    assert flags_from_names("") == flags_from_names("NONE") == ScriptFlags.NONE
    assert flags_from_names("P2SH,WITNESS") == ScriptFlags.P2SH | ScriptFlags.WITNESS
    with pytest.raises(KeyError):
        flags_from_names("P2SH,NOSUCH")
    assert not MANDATORY_FLAGS & ~STANDARD_FLAGS
    assert not STANDARD_FLAGS & ScriptFlags.SIGPUSHONLY
