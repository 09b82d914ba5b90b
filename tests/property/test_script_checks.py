"""Three judges of the same spends: the interpreter, the batched checks, and libbitcoinkernel.

PICKAXE_DIFFERENTIAL_SPENDS multiplies how many are tried (1 by default: some seconds).
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from chain.primitives.coin import coin_script, coin_value, pack_coin
from chain.primitives.transaction import Transaction
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags
from chain.script.sighash import TxData
from chain.script.spends import SpendBatch, prover
from tests.support.scripts import ALL_FLAGS, fill_flags, spend_of, trim_flags
from tests.support.spends import SpendGenerator, damage

TIMES = int(os.environ.get("PICKAXE_DIFFERENTIAL_SPENDS", "1"))

pbk = pytest.importorskip("pbk", reason="py-bitcoinkernel, a development dependency, is not installed")


def flag_sets(rng: random.Random) -> list[ScriptFlags]:
    """Consensus, policy, none, and two random sets."""
    consensus = trim_flags(MANDATORY_FLAGS & ScriptFlags(rng.getrandbits(21)))
    any_flags = fill_flags(ALL_FLAGS & ScriptFlags(rng.getrandbits(21)))
    return [MANDATORY_FLAGS, STANDARD_FLAGS, ScriptFlags.NONE, consensus, any_flags]


def judge(tx: Transaction, coins: list[bytes], flags: ScriptFlags) -> list[ScriptError]:
    """The interpreter's verdict on each input, after checking that the batched checks come to the same."""
    txdata = TxData(tx, coins)
    errors = [verify_input(tx, n, coin, flags, txdata) for n, coin in enumerate(coins)]
    first = next(((3, n, error) for n, error in enumerate(errors) if error is not ScriptError.OK), None)
    batch = SpendBatch(flags)
    batch.add(tx, coins, 3)
    assert batch.verify() == first
    # What the first failure hides: nothing that is invalid may be proven valid.
    for _, n in {(0, n) for n in range(len(coins))} - set(prover()([tx.raw, *coins], [len(coins)], flags)):
        assert errors[n] is ScriptError.OK
    return errors


def kernel(tx: Transaction, coins: list[bytes], flags: ScriptFlags) -> list[bool]:
    """libbitcoinkernel's verdict on each input."""
    spent = [pbk.TransactionOutput(pbk.ScriptPubkey(coin_script(coin)), coin_value(coin)) for coin in coins]
    parsed = pbk.Transaction(tx.raw)
    data = pbk.script.PrecomputedTransactionData(parsed, spent)
    bits = pbk.ScriptVerificationFlags(int(flags))
    return [
        pbk.ScriptPubkey(coin_script(coin)).verify(coin_value(coin), parsed, data, n, bits)
        for n, coin in enumerate(coins)
    ]


def _compare(rng: random.Random, tx: Transaction, coins: list[bytes], seen: Counter[ScriptError]) -> None:
    for flags in flag_sets(rng):
        errors = judge(tx, coins, flags)
        seen.update(errors)
        if not flags & ~MANDATORY_FLAGS and not (flags & ScriptFlags.TAPROOT and not flags & ScriptFlags.WITNESS):
            verdicts = kernel(tx, coins, flags)
            assert verdicts == [error is ScriptError.OK for error in errors], (tx.raw.hex(), flags, errors)


@pytest.mark.parametrize("part", range(4))
def test_spends_and_damaged_spends(rng: random.Random, part: int) -> None:
    generator = SpendGenerator(rng)
    seen: Counter[ScriptError] = Counter()
    for _ in range(60 * TIMES):
        tx, coins = generator.transaction()
        _compare(rng, tx, coins, seen)
        for _ in range(6):
            damaged, damaged_coins = damage(rng, tx, coins)
            _compare(rng, damaged, damaged_coins, seen)
    assert seen[ScriptError.OK] > 500
    assert len(seen) > 15, seen
    print(f"judged {sum(seen.values())} spends")


INTERESTING = [
    *(bytes((op,)) for op in range(0x4F, 0xBB)),
    b"\0",
    b"\x01\x00",
    b"\x01\x80",
    b"\x02\x01\x00",
    b"\x04\xff\xff\xff\x7f",
    b"\x05\xff\xff\xff\xff\x7f",
    b"\x4c\x01\x07",
    b"\x4d\x02\x00\x01\x02",
    b"\x4e\x01\x00\x00\x00\x05",
    b"\x4d\x09\x02" + bytes(521),
    b"\x4c",
    b"\x03\x01",
]
_DISABLED = set(b"\x7e\x7f\x80\x81\x83\x84\x85\x86\x8d\x8e\x95\x96\x97\x98\x99\x62\x65\x66\x50\x89\x8a\x6a")


def random_script(rng: random.Random) -> bytes:
    """Operations at random: mostly those that work, on a stack that holds something."""
    pieces = [rng.choice((b"\x51", b"\x52", b"\x53", b"\0", b"\x01\x09", b"\x4f")) for _ in range(rng.randrange(6))]
    for _ in range(rng.randrange(1, 25)):
        piece = rng.choice(INTERESTING)
        if (piece[0] in _DISABLED or len(piece) > 500 or piece in (b"\x4c", b"\x03\x01")) and rng.random() < 0.9:
            continue
        if 0x63 <= piece[0] <= 0x64 and rng.random() < 0.7:
            pieces += [b"\x51", piece, rng.choice((b"\x52", b"\x75", b"\x6a")), b"\x67", b"\x51", b"\x68"]
            continue
        pieces.append(piece)
    if rng.random() < 0.7:
        pieces.append(b"\x51")
    return b"".join(pieces)


def spends_of_script(rng: random.Random, script: bytes) -> list[tuple[Transaction, bytes]]:
    """(transaction, coin) that run `script` on random arguments: bare, with a random scriptSig, and behind each kind of
    hash.
    """
    from chain.crypto.hashes import hash160, sha256
    from chain.crypto.secp256k1 import xonly_tweak_add
    from chain.script import standard
    from chain.script.interpreter import tapleaf_hash, taptweak_hash
    from chain.script.script import push_data
    from tests.support.scripts import NUMS_KEY

    items = tuple(rng.choice((b"", b"\x01", b"\x02", b"\x80", b"abc")) for _ in range(rng.randrange(4)))
    pushes = b"".join(map(push_data, items))
    output, parity = xonly_tweak_add(NUMS_KEY, taptweak_hash(NUMS_KEY, tapleaf_hash(script)))
    control = bytes((0xC0 | parity,)) + NUMS_KEY
    return [
        spend_of(script_pubkey, script_sig, witness, 1000)
        for script_pubkey, script_sig, witness in (
            (script, pushes, ()),
            (script, random_script(rng), ()),
            (standard.p2sh(hash160(script)), pushes + push_data(script), ()),
            (standard.p2wsh(sha256(script)), b"", (*items, script)),
            (standard.p2tr(output), b"", (*items, script, control)),
        )
    ]


@pytest.mark.parametrize("part", range(2))
def test_random_scripts(rng: random.Random, part: int) -> None:
    seen: Counter[ScriptError] = Counter()
    for _ in range(500 * TIMES):
        for tx, coin in spends_of_script(rng, random_script(rng)):
            _compare(rng, tx, [coin], seen)
    assert seen[ScriptError.OK] > 300
    assert len(seen) > 15, seen
    print(f"judged {sum(seen.values())} spends")


def test_the_kernel_is_asked_the_same_question() -> None:
    """Guards the comparison itself: a valid and an invalid spend, told apart."""
    tx, coin = spend_of(b"\x51")
    assert kernel(tx, [coin], MANDATORY_FLAGS) == [True]
    assert kernel(tx, [pack_coin(0, b"\0", 0, False)], MANDATORY_FLAGS) == [False]
