"""What collect_checks sets aside, what it answers at once, and how a failing batch is traced to its input."""

from __future__ import annotations

import random

import pytest

from chain.crypto.batch import SignatureBatch
from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import pubkey_from_secret, sign_ecdsa
from chain.primitives.transaction import Transaction, TxIn
from chain.script import checks, standard
from chain.script.checks import collect_checks, verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.script import push_data
from chain.script.sighash import TxData, legacy_sighash
from tests.support.spends import CHECKSIG, DROP, NOT, Output, Puzzle, SpendGenerator, high_s

Batch = SignatureBatch[tuple[int, int]]


class _Plain(SpendGenerator):
    """Only ordinary signatures and keys, so that tests know what to expect."""

    def hash_type(self) -> int:
        return 1

    def pubkey(self, secret: bytes, *, segwit: bool = False) -> bytes:
        return pubkey_from_secret(secret)

    def ecdsa(self, secret: bytes, digest: bytes, hash_type: int) -> bytes:
        return sign_ecdsa(secret, digest) + bytes((hash_type,))

    def _tap_hash_type(self) -> int:
        return 0

    def _annex(self) -> bytes | None:
        return None


@pytest.fixture
def plain(rng: random.Random) -> SpendGenerator:
    return _Plain(rng)


def collect(tx: Transaction, coins: list[bytes], flags: ScriptFlags = MANDATORY_FLAGS) -> Batch:
    batch: Batch = SignatureBatch()
    assert collect_checks(tx, TxData(tx, coins), coins, flags, batch, 9) is None
    return batch


@pytest.mark.parametrize("kind", ["p2pkh", "p2wpkh", "p2sh_p2wpkh", "p2tr_key"])
@pytest.mark.parametrize("flags", [MANDATORY_FLAGS, STANDARD_FLAGS])
def test_templates_run_no_script(
    plain: SpendGenerator, monkeypatch: pytest.MonkeyPatch, kind: str, flags: ScriptFlags
) -> None:
    def refuse(*args: object) -> ScriptError:
        raise AssertionError("a template went through the interpreter")

    tx, coins = plain.transaction([getattr(plain, kind)() for _ in range(4)])
    monkeypatch.setattr(checks, "verify_script", refuse)
    batch = collect(tx, coins, flags)
    assert len(batch) == 4
    assert batch.verify() is None


def _p2wsh(plain: SpendGenerator, puzzle: Puzzle) -> Output:
    return Output(
        "p2wsh",
        standard.p2wsh(sha256(puzzle.script)),
        lambda txdata, n, value: (b"", (*plain._segwit(puzzle, txdata, n, value), puzzle.script)),
    )


def _p2sh(plain: SpendGenerator, puzzle: Puzzle) -> Output:
    def unlock(txdata: TxData, n: int, value: int) -> tuple[bytes, tuple[bytes, ...]]:
        def sign(secret: bytes, hash_type: int) -> bytes:
            return sign_ecdsa(secret, legacy_sighash(txdata, n, puzzle.script, hash_type)) + bytes((hash_type,))

        return b"".join(map(push_data, (*puzzle.solve(sign), puzzle.script))), ()

    return Output("p2sh", standard.p2sh(hash160(puzzle.script)), unlock)


def _multisig(plain: SpendGenerator, required: int, total: int, signers: list[int]) -> Puzzle:
    secrets = [plain.secret() for _ in range(total)]
    script = standard.multisig(required, [pubkey_from_secret(secret) for secret in secrets])
    return Puzzle(script, lambda sign: [b"", *(sign(secrets[n], 1) for n in signers)])


@pytest.mark.parametrize(
    ("required", "total", "signers"),
    [(1, 1, [0]), (2, 2, [0, 1]), (2, 3, [0, 1]), (2, 3, [0, 2]), (2, 3, [1, 2]), (1, 3, [0]), (1, 3, [2])],
)
@pytest.mark.parametrize("kind", ["p2wsh", "p2sh", "verify"])
def test_multisig_is_one_check_of_the_batch(
    plain: SpendGenerator, kind: str, required: int, total: int, signers: list[int]
) -> None:
    """By template (P2WSH) and by the interpreter; whichever keys signed, and only them in their order."""
    puzzle = _multisig(plain, required, total, signers)
    if kind == "verify":
        puzzle = Puzzle(puzzle.script[:-1] + b"\xaf\x51", puzzle.solve)
    wrap = _p2sh if kind == "p2sh" else _p2wsh
    tx, coins = plain.transaction([wrap(plain, puzzle)])
    batch = collect(tx, coins)
    # Outside the template, as many keys as signatures leave no choice: each pair is a check.
    assert len(batch) == (required if kind != "p2wsh" and required == total else 1)
    assert batch.verify() is None
    if len(signers) > 1:
        tx, coins = plain.transaction([wrap(plain, Puzzle(puzzle.script, lambda sign: _swapped(puzzle.solve(sign))))])
        assert collect(tx, coins).verify() is not None
        assert verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins)) is not ScriptError.OK


def _swapped(stack: list[bytes]) -> list[bytes]:
    return [stack[0], *reversed(stack[1:])]


def test_multisig_template_leaves_the_unusual_to_the_interpreter(
    plain: SpendGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dummy that is not empty, a key or a count in another form, bytes after the script: not the template's."""
    usual = _multisig(plain, 2, 3, [0, 2])

    def spent(puzzle: Puzzle) -> tuple[Transaction, list[bytes]]:
        return plain.transaction([_p2wsh(plain, puzzle)])

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
    asked = []
    verify = checks.verify_script
    monkeypatch.setattr(checks, "verify_script", lambda *args: asked.append(args) or verify(*args))
    for tx, coins in unusual:
        for flags in (MANDATORY_FLAGS, MANDATORY_FLAGS & ~ScriptFlags.NULLDUMMY, STANDARD_FLAGS):
            asked.clear()
            batch: Batch = SignatureBatch()
            failed = collect_checks(tx, TxData(tx, coins), coins, flags, batch)
            assert asked
            valid = failed is None and batch.verify() is None
            assert valid == (verify_input(tx, 0, coins[0], flags, TxData(tx, coins)) is ScriptError.OK)


def test_a_check_whose_failure_is_no_failure_is_answered_at_once(plain: SpendGenerator) -> None:
    secret = plain.secret()
    key = push_data(pubkey_from_secret(secret))
    for tail in (NOT, DROP + b"\x51", b"\x63\x51\x67\x51\x68", b"\x73\x51"):
        wrong = Puzzle(key + CHECKSIG + tail, lambda sign: [sign(plain.secret(), 1)])
        tx, coins = plain.transaction([_p2wsh(plain, wrong)])
        batch: Batch = SignatureBatch()
        failed = collect_checks(tx, TxData(tx, coins), coins, MANDATORY_FLAGS, batch)
        assert len(batch) == 0
        error = verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins))
        assert (failed is None) == (error is ScriptError.OK)


def test_nullfail_makes_every_failure_fatal(plain: SpendGenerator) -> None:
    secret = plain.secret()
    puzzle = Puzzle(push_data(pubkey_from_secret(secret)) + CHECKSIG + DROP + b"\x51", lambda sign: [sign(secret, 1)])
    tx, coins = plain.transaction([_p2wsh(plain, puzzle)])
    assert len(collect(tx, coins)) == 0
    assert len(collect(tx, coins, STANDARD_FLAGS)) == 1


def test_tapscript_defers_all(plain: SpendGenerator, rng: random.Random) -> None:
    for _ in range(20):
        tx, coins = plain.transaction([plain.p2tr_script()])
        if verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins)) is ScriptError.OK:
            batch = collect(tx, coins)
            assert batch.verify() is None
            signatures = sum(len(item) in (64, 65) for item in tx.witnesses[0][:-2])
            assert len(batch) >= signatures or len(batch) == 0


def test_a_failing_batch_names_the_input(plain: SpendGenerator) -> None:
    tx, coins = plain.transaction([plain.p2wpkh(), plain.p2tr_key(), plain.p2pkh(), plain.p2wpkh()])
    inputs = list(tx.inputs)
    signature = inputs[1].witness[0]
    inputs[1] = TxIn(inputs[1].prevout, b"", inputs[1].sequence, (signature[:40] + b"\0" * 24 + signature[64:],))
    damaged = Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)
    assert collect(damaged, coins).verify() == (9, 1)
    error = verify_input(damaged, 1, coins[1], MANDATORY_FLAGS, TxData(damaged, coins))
    assert error is ScriptError.SCHNORR_SIG


def test_the_error_is_the_interpreters_even_if_a_deferred_signature_failed_first(plain: SpendGenerator) -> None:
    """CHECKSIGVERIFY with a wrong signature, then an operation that fails anyway: the first failure counts."""
    secret = plain.secret()
    script = push_data(pubkey_from_secret(secret)) + b"\xad\x6a"
    for signer, expected in ((secret, ScriptError.OP_RETURN), (plain.secret(), ScriptError.CHECKSIGVERIFY)):
        tx, coins = plain.transaction([_p2wsh(plain, Puzzle(script, lambda sign, key=signer: [sign(key, 1)]))])  # type: ignore[misc]
        batch: Batch = SignatureBatch()
        assert collect_checks(tx, TxData(tx, coins), coins, MANDATORY_FLAGS, batch) == (0, expected)
        assert len(batch) == 0


def test_policy_and_template(plain: SpendGenerator) -> None:
    """A high S is valid by consensus and refused by policy, in the fast path as in the slow one."""
    tx, coins = plain.transaction([plain.p2wpkh()])
    signature, key = tx.witnesses[0]
    witness = (high_s(signature[:-1]) + signature[-1:], key)
    changed = Transaction.build(
        tx.version, [TxIn(tx.prevouts[0], b"", tx.sequences[0], witness)], tx.outputs, tx.locktime
    )
    assert collect(changed, coins).verify() is None
    batch: Batch = SignatureBatch()
    failed = collect_checks(changed, TxData(changed, coins), coins, STANDARD_FLAGS, batch)
    assert failed == (0, ScriptError.SIG_HIGH_S)


def test_template_without_its_flag_goes_to_the_interpreter(plain: SpendGenerator) -> None:
    """Before segwit a P2WPKH output was anyone's; with a witness or without."""
    tx, coins = plain.transaction([plain.p2wpkh()])
    batch = collect(tx, coins, ScriptFlags.P2SH)
    assert len(batch) == 0
    tx, coins = plain.transaction([plain.p2tr_key()])
    assert len(collect(tx, coins, MANDATORY_FLAGS & ~ScriptFlags.TAPROOT)) == 0


def test_key_hash_must_match(plain: SpendGenerator) -> None:
    tx, coins = plain.transaction([plain.p2wpkh()])
    other = coins[0][:14] + hash160(b"another key")
    batch: Batch = SignatureBatch()
    assert collect_checks(tx, TxData(tx, [other]), [other], MANDATORY_FLAGS, batch, 5) is None
    assert batch.verify() == (5, 0)
    assert verify_input(tx, 0, other, MANDATORY_FLAGS, TxData(tx, [other])) is ScriptError.EQUALVERIFY
