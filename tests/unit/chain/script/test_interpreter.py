"""Limits and rules of the interpreter that Core's vectors touch lightly; libbitcoinkernel is asked where it can be."""

from __future__ import annotations

import pytest

from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import sign_schnorr, xonly_from_secret, xonly_tweak_add
from chain.primitives.coin import coin_script, coin_value
from chain.primitives.transaction import Transaction, TxIn
from chain.script import standard
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.interpreter import eval_script, tapleaf_hash, taptweak_hash, verify_script, witness_size
from chain.script.machine import SigVersion
from chain.script.script import push_data
from chain.script.sighash import TxData, hash_annex, taproot_sighash
from tests.support.scripts import NUMS_KEY, assemble, spend_of

BASE, V0, TAPSCRIPT = SigVersion.BASE, SigVersion.WITNESS_V0, SigVersion.TAPSCRIPT
OK = ScriptError.OK


class _NoTransaction:
    """A checker for scripts that must not ask."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def run(
    script: bytes, sigversion: SigVersion = BASE, flags: ScriptFlags = MANDATORY_FLAGS, stack: list[bytes] | None = None
) -> ScriptError:
    return eval_script([] if stack is None else stack, script, flags, _NoTransaction(), sigversion)  # type: ignore[arg-type]


def spend(
    script_pubkey: bytes, *witness: bytes, script_sig: bytes = b"", flags: ScriptFlags = MANDATORY_FLAGS
) -> ScriptError:
    """The verdict on a spend; under consensus flags libbitcoinkernel must agree."""
    tx, coin = spend_of(script_pubkey, script_sig, witness, 1000)
    error = verify_input(tx, 0, coin, flags, TxData(tx, [coin]))
    if flags == MANDATORY_FLAGS:
        assert _kernel(tx, coin) == (error is OK)
    return error


def _kernel(tx: Transaction, coin: bytes) -> bool:
    pbk = pytest.importorskip("pbk")
    script = pbk.ScriptPubkey(coin_script(coin))
    parsed = pbk.Transaction(tx.raw)
    data = pbk.script.PrecomputedTransactionData(parsed, [pbk.TransactionOutput(script, coin_value(coin))])
    return bool(script.verify(coin_value(coin), parsed, data, 0, pbk.ScriptVerificationFlags(int(MANDATORY_FLAGS))))


def tapscript(script: bytes, leaf_version: int = 0xC0) -> tuple[bytes, bytes]:
    """(scriptPubKey, control block) of an output that only this script spends."""
    output, parity = xonly_tweak_add(NUMS_KEY, taptweak_hash(NUMS_KEY, tapleaf_hash(script, leaf_version)))
    return standard.p2tr(output), bytes((leaf_version | parity,)) + NUMS_KEY


def spend_tapscript(script: bytes, *items: bytes, flags: ScriptFlags = MANDATORY_FLAGS) -> ScriptError:
    script_pubkey, control = tapscript(script)
    return spend(script_pubkey, *items, script, control, flags=flags)


def test_script_size() -> None:
    script = (b"\x4d\x07\x02" + bytes(519)) * 19
    script += b"\x51" * (10_000 - len(script))
    assert len(script) == 10_000
    assert run(script) is OK
    assert run(script + b"\x51") is ScriptError.SCRIPT_SIZE
    assert run(script + b"\x51", V0) is ScriptError.SCRIPT_SIZE
    assert run(script + b"\x51", TAPSCRIPT) is OK


def test_operation_count() -> None:
    assert run(b"\x61" * 201) is OK
    assert run(b"\x61" * 202) is ScriptError.OP_COUNT
    assert run(b"\x61" * 202, V0) is ScriptError.OP_COUNT
    assert run(b"\x61" * 20_000, TAPSCRIPT) is OK
    assert run(b"\0\x63" + b"\x61" * 199 + b"\x68") is OK  # skipped operations count too: 201
    assert run(b"\0\x63" + b"\x61" * 200 + b"\x68") is ScriptError.OP_COUNT
    assert run(b"\x51" * 900) is OK  # pushes do not count
    assert run(b"\x50" * 1) is ScriptError.BAD_OPCODE
    # A multisig's keys count: 190 + 1 + 10 = 201.
    keys = b"\0" + b"\0" + b"\x51" * 10 + b"\x5a\xae"
    assert run(b"\x61" * 190 + keys) is OK
    assert run(b"\x61" * 191 + keys) is ScriptError.OP_COUNT


def test_element_size() -> None:
    push = push_data(bytes(520))
    too_long = push_data(bytes(521))
    for version in (BASE, V0, TAPSCRIPT):
        assert run(push, version) is OK
        assert run(too_long, version) is ScriptError.PUSH_SIZE
        assert run(b"\0\x63" + too_long + b"\x68", version) is ScriptError.PUSH_SIZE
    witness_script = b"\x75\x51"
    p2wsh = standard.p2wsh(sha256(witness_script))
    assert spend(p2wsh, bytes(520), witness_script) is OK
    assert spend(p2wsh, bytes(521), witness_script) is ScriptError.PUSH_SIZE
    assert spend_tapscript(witness_script, bytes(520)) is OK
    assert spend_tapscript(witness_script, bytes(521)) is ScriptError.PUSH_SIZE
    assert spend_tapscript(b"\x50", bytes(521)) is OK  # OP_SUCCESS is seen first


def test_stack_size() -> None:
    assert run(b"\x51" * 1000) is OK
    assert run(b"\x51" * 1001) is ScriptError.STACK_SIZE
    assert run(b"\x51" * 999 + b"\x6b\x51") is OK  # 999 and 1 on the alternative stack
    assert run(b"\x51" * 999 + b"\x6b\x51\x51") is ScriptError.STACK_SIZE
    assert run(b"\x51" * 999 + b"\x6e\x6d") is ScriptError.STACK_SIZE  # even for one operation
    for script, error in ((b"\x61", ScriptError.STACK_SIZE), (b"\x75", ScriptError.CLEANSTACK)):
        assert spend(standard.p2wsh(sha256(script)), *[b""] * 1001, script) is error
    many = b"\x75" * 1000 + b"\x51"
    assert spend_tapscript(many, *[b""] * 1000) is OK
    assert spend_tapscript(b"\x75" + many, *[b""] * 1001) is ScriptError.STACK_SIZE
    assert spend_tapscript(b"\x75" * 2000 + b"\x50", *[b""] * 1001) is OK


def test_op_success() -> None:
    assert spend_tapscript(b"\x6a\x4c\x01\x50\x50") is OK
    assert spend_tapscript(b"\x50\x4c") is OK  # what follows is not even read
    assert spend_tapscript(b"\x4c\x50") is ScriptError.BAD_OPCODE  # the push is cut short before it
    assert spend_tapscript(b"\x01\x50") is OK  # a pushed byte is no opcode
    assert spend_tapscript(b"\x50", flags=STANDARD_FLAGS) is ScriptError.DISCOURAGE_OP_SUCCESS
    assert spend_tapscript(b"\xff\x51") is ScriptError.BAD_OPCODE
    assert run(b"\x50") is ScriptError.BAD_OPCODE


def test_minimal_if() -> None:
    script = b"\x63\x51\x67\x51\x68"
    p2wsh = standard.p2wsh(sha256(script))
    for item in (b"\x02", b"\0", b"\x01\0", b"\x80"):
        assert spend(p2wsh, item, script) is OK
        assert spend(p2wsh, item, script, flags=STANDARD_FLAGS) is ScriptError.MINIMALIF
        assert spend_tapscript(script, item) is ScriptError.TAPSCRIPT_MINIMALIF
    for item in (b"", b"\x01"):
        assert spend(p2wsh, item, script, flags=STANDARD_FLAGS) is OK
        assert spend_tapscript(script, item) is OK


def test_tapscript_refuses_checkmultisig() -> None:
    for op in (b"\xae", b"\xaf"):
        assert spend_tapscript(b"\0\0\0" + op) is ScriptError.TAPSCRIPT_CHECKMULTISIG
    assert spend_tapscript(b"\0\x63\xae\x68\x51") is OK


def test_taproot_structure() -> None:
    script_pubkey, control = tapscript(b"\x51")
    assert spend(script_pubkey, b"\x51", control) is OK
    assert spend(script_pubkey) is ScriptError.WITNESS_PROGRAM_WITNESS_EMPTY
    assert spend(script_pubkey, b"\x51", control, b"\x50annex") is OK
    assert spend(script_pubkey, b"\x51", control, b"annex") is ScriptError.TAPROOT_WRONG_CONTROL_SIZE
    for wrong in (control[:-1], control + b"\0", control + bytes(31), control + bytes(32 * 129), b""):
        assert spend(script_pubkey, b"\x51", wrong) is ScriptError.TAPROOT_WRONG_CONTROL_SIZE
    assert spend(script_pubkey, b"\x51", control + bytes(32 * 128)) is ScriptError.WITNESS_PROGRAM_MISMATCH
    assert spend(script_pubkey, b"\x51", bytes((control[0] ^ 1,)) + control[1:]) is ScriptError.WITNESS_PROGRAM_MISMATCH
    assert spend(script_pubkey, b"\x52", control) is ScriptError.WITNESS_PROGRAM_MISMATCH
    assert spend(script_pubkey, b"\x51", control[:1] + b"\xff" * 32) is ScriptError.WITNESS_PROGRAM_MISMATCH
    assert spend(script_pubkey, b"\x51", control, script_sig=b"\0") is ScriptError.WITNESS_MALLEATED
    # An annex alone is no annex: it is the key path's signature.
    assert spend(script_pubkey, b"\x50" + bytes(10)) is ScriptError.SCHNORR_SIG_SIZE
    # Inside P2SH it means nothing yet.
    redeem = script_pubkey
    assert spend(standard.p2sh(hash160(redeem)), b"x", script_sig=push_data(redeem)) is OK


def test_unknown_leaf_versions_and_programs() -> None:
    script_pubkey, control = tapscript(b"\x6a", 0xC2)
    assert spend(script_pubkey, b"\x6a", control) is OK
    policy = spend(script_pubkey, b"\x6a", control, flags=STANDARD_FLAGS)
    assert policy is ScriptError.DISCOURAGE_UPGRADABLE_TAPROOT_VERSION
    future = standard.witness_output(2, bytes(31) + b"\x01")
    assert spend(future) is OK
    assert spend(future, flags=STANDARD_FLAGS) is ScriptError.DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM
    assert spend(standard.ANCHOR_SCRIPT, flags=STANDARD_FLAGS) is OK
    assert spend(b"\0\x03abc") is ScriptError.WITNESS_PROGRAM_WRONG_LENGTH


def test_without_the_taproot_flag_anyone_spends() -> None:
    script_pubkey, _ = tapscript(b"\x51")
    tx, coin = spend_of(script_pubkey)
    flags = MANDATORY_FLAGS & ~ScriptFlags.TAPROOT
    assert verify_input(tx, 0, coin, flags, TxData(tx)) is OK


SECRET = bytes(31) + b"\x07"
KEY = xonly_from_secret(SECRET)


def _sign_tapscript(
    script: bytes, annex: bytes | None = None, codeseparator_pos: int = 0xFFFFFFFF
) -> tuple[Transaction, bytes]:
    """A spend of `script` with one signature by KEY as its only argument."""
    script_pubkey, control = tapscript(script)
    tx, coin = spend_of(script_pubkey, amount=1000)
    digest = taproot_sighash(
        TxData(tx, [coin]),
        0,
        0,
        annex_hash=None if annex is None else hash_annex(annex),
        leaf_hash=tapleaf_hash(script),
        codeseparator_pos=codeseparator_pos,
    )
    assert digest is not None
    witness = (sign_schnorr(SECRET, digest, bytes(32)), script, control, *([] if annex is None else [annex]))
    signed = Transaction.build(tx.version, [TxIn(tx.prevouts[0], b"", tx.sequences[0], witness)], tx.outputs, 0)
    return signed, coin


@pytest.mark.parametrize("annex", [None, b"\x50" + bytes(49), b"\x50" + bytes(99)])
def test_signature_checks_have_a_budget(annex: bytes | None) -> None:
    """BIP342: 50 weight units for each check, from the witness's size and 50."""
    verdicts = []
    for count in range(1, 25):
        script = (b"\x76" + push_data(KEY) + b"\xad") * (count - 1) + push_data(KEY) + b"\xac"
        tx, coin = _sign_tapscript(script, annex)
        error = verify_input(tx, 0, coin, MANDATORY_FLAGS, TxData(tx, [coin]))
        budget = witness_size(tx.witnesses[0]) + 50
        assert budget == len(tx.raw) - len(tx.stripped) - 2 + 50
        assert error is (OK if 50 * count <= budget else ScriptError.TAPSCRIPT_VALIDATION_WEIGHT)
        assert _kernel(tx, coin) == (error is OK)
        verdicts.append(error is OK)
    assert len(set(verdicts)) == 2


def test_empty_signatures_and_unknown_keys() -> None:
    assert spend_tapscript(push_data(KEY) + b"\xac\x91", b"") is OK
    assert spend_tapscript(push_data(KEY) + b"\xac\x91", b"\x01") is ScriptError.SCHNORR_SIG_SIZE
    assert spend_tapscript(b"\0\xac", b"") is ScriptError.TAPSCRIPT_EMPTY_PUBKEY
    unknown = push_data(KEY + b"\0") + b"\xac"
    assert spend_tapscript(unknown, b"anything") is OK
    policy = spend_tapscript(unknown, b"anything", flags=STANDARD_FLAGS)
    assert policy is ScriptError.DISCOURAGE_UPGRADABLE_PUBKEYTYPE
    # The budget pays for unknown keys too.
    assert spend_tapscript(b"\x76\x51\xad" * 9 + b"\x51\xac", b"x") is ScriptError.TAPSCRIPT_VALIDATION_WEIGHT


def test_checksigadd() -> None:
    script = push_data(KEY) + b"\xba\x58\x9c"
    assert spend_tapscript(script, b"", b"\x08") is OK
    assert spend_tapscript(script, b"", b"\x08\0") is OK  # not minimal, and only policy minds
    assert spend_tapscript(script, b"", b"\x08\0", flags=STANDARD_FLAGS) is ScriptError.SCRIPTNUM
    assert spend_tapscript(script, b"\x08") is ScriptError.INVALID_STACK_OPERATION
    assert run(b"\0\0\0\xba") is ScriptError.BAD_OPCODE
    assert run(b"\0\0\0\xba", V0) is ScriptError.BAD_OPCODE


def test_the_last_executed_codeseparator_is_signed() -> None:
    script = b"\x61\xab\x51\x63\xab\x67\xab\x68" + push_data(KEY) + b"\xac"
    for position, expected in ((4, OK), (1, ScriptError.SCHNORR_SIG), (6, ScriptError.SCHNORR_SIG)):
        tx, coin = _sign_tapscript(script, codeseparator_pos=position)
        assert verify_input(tx, 0, coin, MANDATORY_FLAGS, TxData(tx, [coin])) is expected
        assert _kernel(tx, coin) == (expected is OK)


def test_disabled_opcodes_fail_where_they_are_skipped() -> None:
    assert run(b"\x51\x51\x51\x63\x51\x67\x7e\x68") is ScriptError.DISABLED_OPCODE
    assert run(b"\x51\x63\x51\x67\x65\x68") is ScriptError.BAD_OPCODE
    assert run(b"\x51\x63\x51\x67\x62\xff\x68") is OK


def test_constant_script_code() -> None:
    flags = ScriptFlags.CONST_SCRIPTCODE
    assert run(b"\x51\x63\x51\x67\xab\x68", flags=flags) is ScriptError.OP_CODESEPARATOR
    assert run(b"\xab\x51", V0, flags) is OK
    assert run(b"\xab\x51") is OK


def test_altstack_is_per_script() -> None:
    assert verify_script(b"\x51\x6b", b"\x6c", (), MANDATORY_FLAGS, _NoTransaction()) is (  # type: ignore[arg-type]
        ScriptError.INVALID_ALTSTACK_OPERATION
    )


def test_conditionals_do_not_span_scripts() -> None:
    error = verify_script(b"\x51\x63", b"\x68\x51", (), MANDATORY_FLAGS, _NoTransaction())  # type: ignore[arg-type]
    assert error is ScriptError.UNBALANCED_CONDITIONAL


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("1 2 3 4 5 6 2ROT DEPTH 6 NUMEQUALVERIFY 2 EQUALVERIFY 1 EQUALVERIFY 6 EQUAL", OK),
        ("1 2 3 4 2SWAP 2 EQUALVERIFY 1 EQUAL", OK),
        ("1 2 3 4 2OVER 2 EQUALVERIFY 1 EQUAL", OK),
        ("1 2 TUCK 2 EQUALVERIFY 1 EQUALVERIFY 2 EQUAL", OK),
        ("1 2 3 2 PICK 1 EQUAL", OK),
        ("1 2 3 2 ROLL 1 EQUALVERIFY 3 EQUALVERIFY 2 EQUAL", OK),
        ("1 2 3 ROT 1 EQUAL", OK),
        ("1 2 3 3 PICK", ScriptError.INVALID_STACK_OPERATION),
        ("1 2 3 -1 ROLL", ScriptError.INVALID_STACK_OPERATION),
        ("0 IFDUP DEPTH 1 EQUAL", OK),
        ("0x04 0xffffff7f 1ADD SIZE 5 EQUAL", OK),
        ("0x04 0xffffff7f 1ADD 1ADD", ScriptError.SCRIPTNUM),
        ("-5 ABS 5 EQUALVERIFY 5 NEGATE -5 EQUAL", OK),
        ("3 1 3 WITHIN NOT", OK),
        ("1 1 3 WITHIN", OK),
        ("1 2 NUMEQUALVERIFY", ScriptError.NUMEQUALVERIFY),
        ("0x01 0x80 NOT", OK),
        ("1 VERIF", ScriptError.BAD_OPCODE),
        ("RETURN", ScriptError.OP_RETURN),
    ],
)
def test_operations(script: str, error: ScriptError) -> None:
    assert run(assemble(script)) is error


def test_messages_are_distinct() -> None:
    messages = [error.message for error in ScriptError]
    assert len(set(messages)) == len(messages)
    assert ScriptError.NULLFAIL.message == "Signature must be zero for failed CHECK(MULTI)SIG operation"
