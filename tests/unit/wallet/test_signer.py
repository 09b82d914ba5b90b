"""The signer: every script kind it promises, and what it must refuse."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from chain.params import network
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount
from wallet import signer
from wallet.descriptors import Expansion, parse_descriptor, taproot_output_key
from wallet.keys import ExtendedPrivateKey
from wallet.psbt import In, Psbt, PsbtError
from wallet.signer import MasterKeySource, SigningError, finalize_psbt, sign_psbt, taproot_secret, verify_signed

PREFIXES = network("regtest").addresses
MASTER = ExtendedPrivateKey.from_seed(bytes(range(32)))
OTHER = ExtendedPrivateKey.from_seed(bytes(range(1, 33)))
DESTINATION = b"\0\x14" + bytes(20)


def key(master: ExtendedPrivateKey = MASTER, branch: int = 0) -> str:
    return f"{master.to_text(PREFIXES)}/84h/{branch}"


DESCRIPTORS = {
    "p2pkh": f"pkh({key()})",
    "p2wpkh": f"wpkh({key()})",
    "p2sh-p2wpkh": f"sh(wpkh({key()}))",
    "p2tr": f"tr({key()})",
    "p2pk": f"pk({key()})",
    "bare multisig": f"multi(1,{key()},{key(OTHER)})",
    "p2sh multisig": f"sh(sortedmulti(1,{key()},{key(OTHER)}))",
    "p2wsh multisig": f"wsh(multi(2,{key()},{key(branch=1)},{key(OTHER)}))",
    "p2sh-p2wsh multisig": f"sh(wsh(multi(2,{key()},{key(branch=1)})))",
}


def prepare(*texts: str, value: int = 100_000) -> Psbt:
    """An unsigned PSBT that spends one output of each descriptor."""
    expansions = [parse_descriptor(text, PREFIXES).expand() for text in texts]
    # type: ignore[arg-type]
    funding = Transaction.build(2, [TxIn(bytes(36))], [TxOut(Amount(value), e.script_pubkey) for e in expansions])
    inputs = [TxIn(funding.outpoint(i), sequence=0xFFFFFFFD) for i in range(len(expansions))]
    psbt = Psbt.create(Transaction.build(2, inputs, [TxOut(Amount(value * len(texts) - 5_000), DESTINATION)]))
    for index, expansion in enumerate(expansions):
        fill(psbt, index, expansion, funding)
    return psbt


def fill(psbt: Psbt, index: int, expansion: Expansion, funding: Transaction) -> None:
    entry = psbt.inputs[index]
    entry.set(In.NON_WITNESS_UTXO, funding.raw)
    if expansion.redeem_script is not None:
        entry.set(In.REDEEM_SCRIPT, expansion.redeem_script)
    if expansion.witness_script is not None:
        entry.set(In.WITNESS_SCRIPT, expansion.witness_script)
    for derived in expansion.keys:
        path = b"".join(step.to_bytes(4, "little") for step in derived.path)
        if expansion.internal_key is not None:
            entry.set(In.TAP_INTERNAL_KEY, expansion.internal_key)
            entry.set(In.TAP_BIP32_DERIVATION, b"\0" + derived.fingerprint + path, expansion.internal_key)
        else:
            entry.set(In.BIP32_DERIVATION, derived.fingerprint + path, derived.pubkey)


@pytest.mark.parametrize("kind", list(DESCRIPTORS))
def test_signs_and_verifies(kind: str) -> None:
    psbt = prepare(DESCRIPTORS[kind])
    assert sign_psbt(psbt, MasterKeySource(MASTER)) == 1
    again = Psbt.parse(psbt.to_bytes())
    assert finalize_psbt(again)
    tx = verify_signed(again)
    assert tx.outputs == psbt.tx.outputs


def test_all_kinds_in_one_transaction() -> None:
    psbt = prepare(*DESCRIPTORS.values())
    assert sign_psbt(psbt, MasterKeySource(MASTER)) == len(DESCRIPTORS)
    assert finalize_psbt(psbt)
    assert len(verify_signed(psbt).prevouts) == len(DESCRIPTORS)


def test_two_signers_one_after_the_other() -> None:
    psbt = prepare(f"wsh(multi(2,{key()},{key(OTHER)}))")
    assert sign_psbt(psbt, MasterKeySource(MASTER)) == 1
    assert not finalize_psbt(psbt)
    assert sign_psbt(psbt, MasterKeySource(OTHER)) == 1
    assert finalize_psbt(psbt)


def test_a_stranger_signs_nothing() -> None:
    psbt = prepare(DESCRIPTORS["p2wpkh"], DESCRIPTORS["p2tr"])
    before = psbt.to_bytes()
    assert sign_psbt(psbt, MasterKeySource(OTHER)) == 0
    assert psbt.to_bytes() == before
    with pytest.raises(PsbtError, match="not signed"):
        psbt.extract()


def test_a_wrong_path_signs_nothing() -> None:
    psbt = prepare(DESCRIPTORS["p2wpkh"])
    (pubkey,) = psbt.inputs[0].derivations
    psbt.inputs[0].set(In.BIP32_DERIVATION, MASTER.fingerprint + (7).to_bytes(4, "little"), pubkey)
    assert sign_psbt(psbt, MasterKeySource(MASTER)) == 0


@pytest.mark.parametrize("kind", ["p2wpkh", "p2pkh", "p2wsh multisig"])
def test_amounts_are_not_taken_on_trust(kind: str) -> None:
    psbt = prepare(DESCRIPTORS[kind])
    out = psbt.spent_output(0)
    assert out is not None
    psbt.inputs[0].remove(In.NON_WITNESS_UTXO)
    psbt.inputs[0].set_witness_utxo(out)
    with pytest.raises(SigningError, match="previous transaction"):
        sign_psbt(psbt, MasterKeySource(MASTER))
    if kind != "p2pkh":
        assert sign_psbt(psbt, MasterKeySource(MASTER), trust_amounts=True) == 1


def test_two_claims_about_one_output_are_refused() -> None:
    psbt = prepare(DESCRIPTORS["p2wpkh"])
    out = psbt.spent_output(0)
    assert out is not None
    psbt.inputs[0].set_witness_utxo(TxOut(Amount(out.value - 1), out.script_pubkey))
    with pytest.raises(PsbtError, match="two different"):
        sign_psbt(psbt, MasterKeySource(MASTER))


@pytest.mark.parametrize("hash_type", [0x02, 0x03, 0x81, 0x83])
@pytest.mark.parametrize("kind", ["p2wpkh", "p2tr"])
def test_only_signatures_over_everything(kind: str, hash_type: int) -> None:
    psbt = prepare(DESCRIPTORS[kind])
    psbt.inputs[0].set(In.SIGHASH_TYPE, hash_type.to_bytes(4, "little"))
    with pytest.raises(SigningError, match="only ALL"):
        sign_psbt(psbt, MasterKeySource(MASTER))


@pytest.mark.parametrize("kind", list(DESCRIPTORS))
def test_a_bad_signature_never_leaves(kind: str, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    def spoil(name: str) -> None:
        original = getattr(signer, name)

        def spoiled(secret: bytes, digest: bytes, *rest: bytes) -> bytes:
            wrong = bytearray(digest)
            wrong[rng.randrange(32)] ^= 1 << rng.randrange(8)
            return bytes(original(secret, bytes(wrong), *rest))

        monkeypatch.setattr(signer, name, spoiled)

    spoil("sign_ecdsa")
    spoil("sign_schnorr")
    psbt = prepare(DESCRIPTORS[kind])
    sign_psbt(psbt, MasterKeySource(MASTER))
    with pytest.raises(SigningError, match="nothing was released"):
        finalize_psbt(psbt)


def test_the_signer_needs_no_network() -> None:
    code = "import sys, wallet.signer; print([m for m in ('socket', 'ssl', 'aiohttp', 'http') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "aiohttp" not in done.stdout
    assert "ssl" not in done.stdout
    assert "socket" not in done.stdout


def test_bip341_wallet_vectors(vectors: Path) -> None:
    data = json.loads((vectors / "core" / "bip341_wallet_vectors.json").read_text())
    for case in data["scriptPubKey"]:
        root = bytes.fromhex(case["intermediary"].get("merkleRoot") or "")
        output = taproot_output_key(bytes.fromhex(case["given"]["internalPubkey"]), root)
        assert output.hex() == case["intermediary"]["tweakedPubkey"]
    for case in data["keyPathSpending"]:
        for spending in case["inputSpending"]:
            root = bytes.fromhex(spending["given"]["merkleRoot"] or "")
            secret = taproot_secret(bytes.fromhex(spending["given"]["internalPrivkey"]), root)
            assert secret.hex() == spending["intermediary"]["tweakedPrivkey"]
