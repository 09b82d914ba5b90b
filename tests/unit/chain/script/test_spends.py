"""Which spends compiled code proves valid, which it leaves open, and what a batch says of invalid ones."""

from __future__ import annotations

import random

import pytest

from chain.crypto.hashes import hash160
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxIn
from chain.script import spends
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.sighash import TxData
from chain.script.spends import InputFailure, SpendBatch, prover
from tests.support.plain_spends import PlainSpends, multisig, p2wsh, swapped
from tests.support.spends import Output, Puzzle, high_s

KINDS = ["p2pkh", "p2wpkh", "p2sh_p2wpkh", "p2tr_key"]


@pytest.fixture
def plain(rng: random.Random) -> PlainSpends:
    return PlainSpends(rng)


def verify(tx: Transaction, coins: list[bytes], flags: ScriptFlags = MANDATORY_FLAGS) -> InputFailure | None:
    batch = SpendBatch(flags)
    batch.add(tx, coins, 9)
    return batch.verify()


def left_open(tx: Transaction, coins: list[bytes], flags: ScriptFlags = MANDATORY_FLAGS) -> list[int]:
    return [index for _, index in prover()([tx.raw, *coins], [len(coins)], flags)]


def multisig_output(plain: PlainSpends, required: int, total: int) -> Output:
    return p2wsh(plain, multisig(plain, required, total, list(range(total - required, total))))


def with_witness(tx: Transaction, index: int, witness: tuple[bytes, ...]) -> Transaction:
    inputs = list(tx.inputs)
    inputs[index] = TxIn(tx.prevouts[index], tx.script_sigs[index], tx.sequences[index], witness)
    return Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)


@pytest.mark.parametrize("flags", [MANDATORY_FLAGS, STANDARD_FLAGS])
@pytest.mark.parametrize("count", [1, 3, 40, 300])
def test_common_spends_are_proven(plain: PlainSpends, rng: random.Random, flags: ScriptFlags, count: int) -> None:
    """All kinds in one transaction, few inputs and many."""
    outputs = [
        multisig_output(plain, 2, 3) if kind == "multisig" else getattr(plain, kind)()
        for kind in (rng.choice([*KINDS, "multisig"]) for _ in range(count))
    ]
    tx, coins = plain.transaction(outputs)
    # One program in 256 begins with a zero byte: taproot's are looked at twice, since zeros are a false on the stack.
    assert [n for n in left_open(tx, coins, flags) if coins[n][12:15] != b"\x51\x20\x00"] == []
    assert verify(tx, coins, flags) is None


@pytest.mark.parametrize(("required", "total"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 5), (1, 15), (15, 15)])
def test_multisig_of_any_size(plain: PlainSpends, required: int, total: int) -> None:
    tx, coins = plain.transaction([multisig_output(plain, required, total)])
    assert left_open(tx, coins) == []
    if required > 1:
        puzzle = multisig(plain, required, total, list(range(required)))
        tx, coins = plain.transaction([p2wsh(plain, Puzzle(puzzle.script, lambda sign: swapped(puzzle.solve(sign))))])
        assert left_open(tx, coins) == [0]
        assert verify(tx, coins) is not None


def test_many_transactions_keep_apart(plain: PlainSpends, rng: random.Random) -> None:
    """What the inputs of a transaction share is not shared with the next one's."""
    batch, parts, counts = SpendBatch(MANDATORY_FLAGS), list[bytes](), list[int]()
    broken = rng.randrange(100)
    for number in range(100):
        tx, coins = plain.transaction([getattr(plain, rng.choice(KINDS))() for _ in range(rng.randint(1, 4))])
        if number == broken:
            coins = [*coins[:-1], pack_coin(1, b"\0", 1, False)]
        batch.add(tx, coins, 2 * number)
        parts += [tx.raw, *coins]
        counts.append(len(coins))
    failure = batch.verify()
    assert failure is not None
    # Taproot signs all coins: an earlier input of the transaction may be the first to fail.
    assert failure.position == 2 * broken
    assert {number for number, _ in prover()(parts, counts, MANDATORY_FLAGS)} >= {broken}


def test_the_unusual_is_left_to_the_interpreter(plain: PlainSpends) -> None:
    """A dummy that is not empty, a key or a count in another form, bytes after the script."""
    usual = multisig(plain, 2, 3, [0, 2])

    def spent(puzzle: Puzzle) -> tuple[Transaction, list[bytes]]:
        return plain.transaction([p2wsh(plain, puzzle)])

    unusual = [
        spent(Puzzle(usual.script, lambda sign: [b"\x01", *usual.solve(sign)[1:]])),
        spent(Puzzle(usual.script, lambda sign: [*usual.solve(sign), b"\x01"])),
        spent(Puzzle(usual.script + b"\x61", usual.solve)),
        spent(Puzzle(b"\x01\x02" + usual.script[1:], usual.solve)),
        spent(Puzzle(usual.script[:-2] + b"\x54\xae", usual.solve)),
        spent(Puzzle(b"\x50" + usual.script[1:], usual.solve)),
        spent(Puzzle(usual.script[:2] + b"\x05" + usual.script[3:], usual.solve)),
        spent(Puzzle(b"", lambda sign: [b"\x01", b"\x01"])),
    ]
    for tx, coins in unusual:
        for flags in (MANDATORY_FLAGS, MANDATORY_FLAGS & ~ScriptFlags.NULLDUMMY, STANDARD_FLAGS):
            assert left_open(tx, coins, flags) == [0]
            error = verify_input(tx, 0, coins[0], flags, TxData(tx, coins))
            assert verify(tx, coins, flags) == (None if error is ScriptError.OK else (9, 0, error))


@pytest.mark.parametrize("kind", KINDS)
def test_one_damaged_byte_is_left_open(plain: PlainSpends, rng: random.Random, kind: str) -> None:
    """Anywhere in the witness or scriptSig, in the coin, in another input or an output: nothing of it is proven."""
    tx, coins = plain.transaction([getattr(plain, kind)() for _ in range(2)])
    for _ in range(60):
        index = rng.randrange(2)
        script_sig, witness = tx.script_sigs[index], list(tx.witnesses[index])
        part = rng.randrange(len(witness) + bool(script_sig))
        inputs = list(tx.inputs)
        if part == len(witness):
            script_sig = damaged(rng, script_sig)
        else:
            witness[part] = damaged(rng, witness[part])
        inputs[index] = TxIn(tx.prevouts[index], script_sig, tx.sequences[index], tuple(witness))
        changed = Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)
        error = verify_input(changed, index, coins[index], MANDATORY_FLAGS, TxData(changed, coins))
        assert (index in left_open(changed, coins)) or error is ScriptError.OK
        assert verify(changed, coins) == (None if error is ScriptError.OK else (9, index, error))


def damaged(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]


def test_a_failing_batch_names_the_input(plain: PlainSpends) -> None:
    tx, coins = plain.transaction([plain.p2wpkh(), plain.p2tr_key(), plain.p2pkh(), plain.p2wpkh()])
    signature = tx.witnesses[1][0]
    changed = with_witness(tx, 1, (signature[:40] + b"\0" * 24 + signature[64:],))
    assert verify(changed, coins) == (9, 1, ScriptError.SCHNORR_SIG)


def test_the_first_failure_counts_whoever_finds_it(plain: PlainSpends) -> None:
    """A deferred signature of one input is found wrong after another input's script has failed at once."""
    script = multisig(plain, 1, 2, [0]).script
    wrong = multisig(plain, 1, 2, [1])
    deferred = p2wsh(plain, Puzzle(script + b"\x61", wrong.solve))  # not the template
    tx, coins = plain.transaction([plain.p2wpkh(), deferred, plain.p2wpkh()])
    coins[2] = pack_coin(1, b"\x6a", 1, False)
    expected = [verify_input(tx, n, coin, MANDATORY_FLAGS, TxData(tx, coins)) for n, coin in enumerate(coins)]
    assert expected[0] is ScriptError.OK
    assert expected[1] is not ScriptError.OK
    assert verify(tx, coins) == (9, 1, expected[1])


def test_policy_is_obeyed(plain: PlainSpends) -> None:
    """A high S is valid by consensus and refused by policy, in the fast path as in the slow one."""
    for kind in ("p2wpkh", "p2sh_p2wpkh"):
        tx, coins = plain.transaction([getattr(plain, kind)()])
        signature, key = tx.witnesses[0]
        changed = with_witness(tx, 0, (high_s(signature[:-1]) + signature[-1:], key))
        assert left_open(changed, coins) == []
        assert left_open(changed, coins, STANDARD_FLAGS) == [0]
        assert verify(changed, coins, STANDARD_FLAGS) == (9, 0, ScriptError.SIG_HIGH_S)


def test_without_its_flag_a_program_is_anyones(plain: PlainSpends) -> None:
    for kind, flags in (("p2wpkh", ScriptFlags.P2SH), ("p2tr_key", MANDATORY_FLAGS & ~ScriptFlags.TAPROOT)):
        tx, coins = plain.transaction([getattr(plain, kind)()])
        assert left_open(tx, coins, flags) == [0]
        assert verify(tx, coins, flags) is None


def test_key_hash_must_match(plain: PlainSpends) -> None:
    tx, coins = plain.transaction([plain.p2wpkh()])
    other = coins[0][:14] + hash160(b"another key")
    assert verify(tx, [other]) == (9, 0, ScriptError.EQUALVERIFY)


def test_without_compiled_code_the_interpreter_does_it_all(plain: PlainSpends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spends, "_prover", spends._leave_all_open)
    tx, coins = plain.transaction([getattr(plain, kind)() for kind in KINDS])
    assert left_open(tx, coins) == [0, 1, 2, 3]
    assert verify(tx, coins) is None
    assert verify(tx, [*coins[:3], pack_coin(1, b"\0", 1, False)]) is not None


def test_an_empty_batch_holds_nothing_invalid() -> None:
    assert SpendBatch(MANDATORY_FLAGS).verify() is None
    assert prover()([], [], 0) == []
