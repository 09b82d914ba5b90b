"""What defer_input sets aside and what it answers at once."""

from __future__ import annotations

import random

import pytest

from chain.crypto.batch import SignatureBatch
from chain.crypto.secp256k1 import pubkey_from_secret
from chain.primitives.transaction import Transaction
from chain.script.checks import defer_input, verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.script import push_data
from chain.script.sighash import TxData
from tests.support.plain_spends import PlainSpends, multisig, p2sh, p2wsh, swapped
from tests.support.spends import CHECKSIG, DROP, NOT, Puzzle

Batch = SignatureBatch[tuple[int, int]]


@pytest.fixture
def plain(rng: random.Random) -> PlainSpends:
    return PlainSpends(rng)


def collect(tx: Transaction, coins: list[bytes], flags: ScriptFlags = MANDATORY_FLAGS) -> Batch:
    batch: Batch = SignatureBatch()
    assert all(error is ScriptError.OK for error in _defer_all(tx, coins, flags, batch))
    return batch


def _defer_all(tx: Transaction, coins: list[bytes], flags: ScriptFlags, batch: Batch) -> list[ScriptError]:
    txdata = TxData(tx, coins)
    return [defer_input(tx, n, coin, flags, txdata, batch, (9, n)) for n, coin in enumerate(coins)]


@pytest.mark.parametrize(
    ("required", "total", "signers"),
    [(1, 1, [0]), (2, 2, [0, 1]), (2, 3, [0, 1]), (2, 3, [0, 2]), (2, 3, [1, 2]), (1, 3, [0]), (1, 3, [2])],
)
@pytest.mark.parametrize("kind", ["p2wsh", "p2sh", "verify"])
def test_multisig_is_one_check_of_the_batch(
    plain: PlainSpends, kind: str, required: int, total: int, signers: list[int]
) -> None:
    """Whichever keys signed, and only them in their order."""
    puzzle = multisig(plain, required, total, signers)
    if kind == "verify":
        puzzle = Puzzle(puzzle.script[:-1] + b"\xaf\x51", puzzle.solve)
    wrap = p2sh if kind == "p2sh" else p2wsh
    tx, coins = plain.transaction([wrap(plain, puzzle)])
    batch = collect(tx, coins)
    # As many keys as signatures leave no choice: each pair is a check.
    assert len(batch) == (required if required == total else 1)
    assert batch.verify() is None
    if len(signers) > 1:
        tx, coins = plain.transaction([wrap(plain, Puzzle(puzzle.script, lambda sign: swapped(puzzle.solve(sign))))])
        assert collect(tx, coins).verify() is not None
        assert verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins)) is not ScriptError.OK


def test_a_check_whose_failure_is_no_failure_is_answered_at_once(plain: PlainSpends) -> None:
    secret = plain.secret()
    key = push_data(pubkey_from_secret(secret))
    for tail in (NOT, DROP + b"\x51", b"\x63\x51\x67\x51\x68", b"\x73\x51"):
        wrong = Puzzle(key + CHECKSIG + tail, lambda sign: [sign(plain.secret(), 1)])
        tx, coins = plain.transaction([p2wsh(plain, wrong)])
        batch: Batch = SignatureBatch()
        errors = _defer_all(tx, coins, MANDATORY_FLAGS, batch)
        assert len(batch) == 0
        assert errors == [verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins))]


def test_nullfail_makes_every_failure_fatal(plain: PlainSpends) -> None:
    secret = plain.secret()
    puzzle = Puzzle(push_data(pubkey_from_secret(secret)) + CHECKSIG + DROP + b"\x51", lambda sign: [sign(secret, 1)])
    tx, coins = plain.transaction([p2wsh(plain, puzzle)])
    assert len(collect(tx, coins)) == 0
    assert len(collect(tx, coins, STANDARD_FLAGS)) == 1


def test_tapscript_defers_all(plain: PlainSpends, rng: random.Random) -> None:
    for _ in range(20):
        tx, coins = plain.transaction([plain.p2tr_script()])
        if verify_input(tx, 0, coins[0], MANDATORY_FLAGS, TxData(tx, coins)) is ScriptError.OK:
            batch = collect(tx, coins)
            assert batch.verify() is None
            signatures = sum(len(item) in (64, 65) for item in tx.witnesses[0][:-2])
            assert len(batch) >= signatures or len(batch) == 0


def test_the_error_is_the_interpreters_even_if_a_deferred_signature_failed_first(plain: PlainSpends) -> None:
    """CHECKSIGVERIFY with a wrong signature, then an operation that fails anyway: the first failure counts."""
    secret = plain.secret()
    script = push_data(pubkey_from_secret(secret)) + b"\xad\x6a"
    for signer, expected in ((secret, ScriptError.OP_RETURN), (plain.secret(), ScriptError.CHECKSIGVERIFY)):
        tx, coins = plain.transaction([p2wsh(plain, Puzzle(script, lambda sign, key=signer: [sign(key, 1)]))])  # type: ignore[misc]
        batch: Batch = SignatureBatch()
        assert _defer_all(tx, coins, MANDATORY_FLAGS, batch) == [expected]
        assert len(batch) == 0
