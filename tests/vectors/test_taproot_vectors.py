"""Taproot: the spends of Core's feature_taproot, and BIP341's wallet vectors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from chain.crypto.batch import SignatureBatch
from chain.crypto.secp256k1 import sign_schnorr, xonly_from_secret, xonly_tweak_add
from chain.params import network
from chain.primitives.coin import pack_coin
from chain.primitives.serialize import Reader
from chain.primitives.transaction import Transaction, TxIn
from chain.script.addresses import decode_address, encode_address
from chain.script.checks import defer_input, verify_input
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, ScriptFlags
from chain.script.interpreter import tapbranch_hash, tapleaf_hash, taptweak_hash
from chain.script.sighash import TxData, taproot_sighash
from chain.script.spends import SpendBatch, prover
from chain.script.standard import p2tr
from tests.support.scripts import flags_from_names, single_flags, trim_flags

#: Every set of consensus flags that makes sense: WITNESS needs P2SH, TAPROOT needs WITNESS.
CONSENSUS_FLAG_SETS = sorted(
    {
        flags
        for picks in itertools.product((True, False), repeat=len(single_flags(MANDATORY_FLAGS)))
        for flags in [
            sum(
                (flag for flag, picked in zip(single_flags(MANDATORY_FLAGS), picks, strict=True) if picked),
                ScriptFlags.NONE,
            )
        ]
        if flags == trim_flags(flags) and not (flags & ScriptFlags.TAPROOT and not flags & ScriptFlags.WITNESS)
    }
)


def _coin(data: bytes) -> bytes:
    reader = Reader(data)
    value = reader.i64()
    script = reader.var_bytes()
    reader.finish()
    return pack_coin(value, script, 0, False)


def _with_input(tx: Transaction, index: int, spend: dict[str, Any]) -> Transaction:
    inputs = list(tx.inputs)
    witness = tuple(bytes.fromhex(item) for item in spend["witness"])
    inputs[index] = TxIn(inputs[index].prevout, bytes.fromhex(spend["scriptSig"]), inputs[index].sequence, witness)
    return Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)


class _Spend:
    """One input of a transaction, verified by the interpreter and by the batched checks; they must agree."""

    def __init__(self, tx: Transaction, index: int, coins: list[bytes]) -> None:
        self.tx, self.index, self.coins = tx, index, coins
        self.txdata = TxData(tx, coins)

    def valid(self, flags: ScriptFlags) -> bool:
        error = verify_input(self.tx, self.index, self.coins[self.index], flags, self.txdata)
        return error is ScriptError.OK

    def batched(self, flags: ScriptFlags) -> bool:
        # The other inputs of these transactions are not signed for this test, so only this one's verdict counts.
        if (0, self.index) not in prover()([self.tx.raw, *self.coins], [len(self.coins)], flags):
            return True
        batch: SignatureBatch[str] = SignatureBatch()
        coin = self.coins[self.index]
        error = defer_input(self.tx, self.index, coin, flags, self.txdata, batch, "")
        return error is ScriptError.OK and batch.verify() is None


@pytest.mark.parametrize("part", range(4))
def test_script_assets(vectors: Path, part: int) -> None:
    lines = (vectors / "taproot" / "script_assets.jsonl").read_text().splitlines()
    assert len(lines) == 1388
    assert len(CONSENSUS_FLAG_SETS) == 64
    for line in lines[part::4]:
        case = json.loads(line)
        tx = Transaction.parse(bytes.fromhex(case["tx"]))
        coins = [_coin(bytes.fromhex(out)) for out in case["prevouts"]]
        index, flags = case["index"], flags_from_names(case["flags"])
        assert len(coins) == len(tx.prevouts)
        final = case.get("final", False)
        good = _Spend(_with_input(tx, index, case["success"]), index, coins)
        assert good.batched(flags), case["comment"]
        for others in CONSENSUS_FLAG_SETS:
            if final or others & flags == others:
                assert good.valid(others), (case["comment"], others)
        if "failure" in case:
            bad = _Spend(_with_input(tx, index, case["failure"]), index, coins)
            assert not bad.batched(flags), case["comment"]
            for others in CONSENSUS_FLAG_SETS:
                if others & flags == flags:
                    assert not bad.valid(others), (case["comment"], others)


WALLET_VECTORS = ("core/bip341_wallet_vectors.json", "bips/bip-0341_wallet-test-vectors.json")


def _merkle(tree: Any) -> tuple[bytes, list[tuple[Any, bytes, bytes]]]:
    """(root, leaves in order as (leaf, its hash, its path in the control block)) of BIP341's notation of a tree."""
    if isinstance(tree, dict):
        leaf = tapleaf_hash(bytes.fromhex(tree["script"]), tree["leafVersion"])
        return leaf, [(tree, leaf, b"")]
    (left, left_leaves), (right, right_leaves) = map(_merkle, tree)
    leaves = [(leaf, h, path + right) for leaf, h, path in left_leaves]
    leaves += [(leaf, h, path + left) for leaf, h, path in right_leaves]
    return tapbranch_hash(left, right), leaves


@pytest.mark.parametrize("name", WALLET_VECTORS)
def test_wallet_outputs(vectors: Path, name: str) -> None:
    prefixes = network("bitcoin").addresses
    cases = json.loads((vectors / name).read_text())["scriptPubKey"]
    for case in cases:
        internal = bytes.fromhex(case["given"]["internalPubkey"])
        tree = case["given"]["scriptTree"]
        root, leaves = _merkle(tree) if tree else (b"", [])
        assert root.hex() == (case["intermediary"]["merkleRoot"] or "")
        tweak = taptweak_hash(internal, root)
        assert tweak.hex() == case["intermediary"]["tweak"]
        output, parity = xonly_tweak_add(internal, tweak)
        assert output.hex() == case["intermediary"]["tweakedPubkey"]
        script = p2tr(output)
        assert script.hex() == case["expected"]["scriptPubKey"]
        assert encode_address(script, prefixes) == case["expected"]["bip350Address"]
        assert decode_address(case["expected"]["bip350Address"], prefixes) == script
        if leaves:
            assert [h.hex() for _, h, _ in leaves] == case["intermediary"]["leafHashes"]
            blocks = [bytes((leaf["leafVersion"] | parity,)) + internal + path for leaf, _, path in leaves]
            assert [block.hex() for block in blocks] == case["expected"]["scriptPathControlBlocks"]
    assert len(cases) == 7


@pytest.mark.parametrize("name", WALLET_VECTORS)
def test_wallet_key_path_spends(vectors: Path, name: str) -> None:
    for case in json.loads((vectors / name).read_text())["keyPathSpending"]:
        unsigned = Transaction.parse(bytes.fromhex(case["given"]["rawUnsignedTx"]))
        coins = [
            pack_coin(out["amountSats"], bytes.fromhex(out["scriptPubKey"]), 0, False)
            for out in case["given"]["utxosSpent"]
        ]
        txdata = TxData(unsigned, coins)
        parts = case["intermediary"]
        assert txdata.spent_values_hash().hex() == parts["hashAmounts"]
        assert txdata.outputs_hash().hex() == parts["hashOutputs"]
        assert txdata.prevouts_hash().hex() == parts["hashPrevouts"]
        assert txdata.spent_scripts_hash().hex() == parts["hashScriptPubkeys"]
        assert txdata.sequences_hash().hex() == parts["hashSequences"]
        inputs = list(unsigned.inputs)
        for spend in case["inputSpending"]:
            given, expected = spend["given"], spend["intermediary"]
            index, hash_type = given["txinIndex"], given["hashType"]
            digest = taproot_sighash(txdata, index, hash_type)
            assert digest is not None
            assert digest.hex() == expected["sigHash"]
            key = bytes.fromhex(expected["tweakedPrivkey"])
            assert p2tr(xonly_from_secret(key)) == coins[index][12:]
            signature = sign_schnorr(key, digest, bytes(32)) + (bytes((hash_type,)) if hash_type else b"")
            assert [signature.hex()] == spend["expected"]["witness"]
            inputs[index] = TxIn(inputs[index].prevout, b"", inputs[index].sequence, (signature,))
        # The vectors' fully signed transaction holds inputs of other kinds too: all are valid.
        signed = Transaction.parse(bytes.fromhex(case["auxiliary"]["fullySignedTx"]))
        assert [signed.witnesses[s["given"]["txinIndex"]] for s in case["inputSpending"]] == [
            inputs[s["given"]["txinIndex"]].witness for s in case["inputSpending"]
        ]
        batch = SpendBatch(MANDATORY_FLAGS)
        batch.add(signed, coins)
        assert batch.verify() is None
        assert all(
            verify_input(signed, i, coin, MANDATORY_FLAGS, TxData(signed, coins)) is ScriptError.OK
            for i, coin in enumerate(coins)
        )
