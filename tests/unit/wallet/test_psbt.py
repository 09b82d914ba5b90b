"""PSBT: Core's vectors for every role."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.crypto.secp256k1 import pubkey_from_secret, xonly_from_secret
from chain.params import network
from chain.primitives.amount import parse_amount
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import hash_from_hex, make_outpoint
from chain.script.addresses import decode_address, decode_wif
from wallet.psbt import Psbt, PsbtError, combine
from wallet.signer import SigningError, finalize_psbt, sign_psbt, verify_signed

REGTEST = network("regtest").addresses


class _Cases(dict[str, Any]):
    def __repr__(self) -> str:
        return "rpc_psbt.json"


class SecretsSource:
    """A KeySource of secrets given one by one, as BIP174's vectors do."""

    def __init__(self, keys: Iterable[tuple[bytes, bool]]) -> None:
        """`keys`: (32-byte secret, whether its public key is compressed)."""
        self._secrets: dict[bytes, bytes] = {}
        for secret, compressed in keys:
            self._secrets[pubkey_from_secret(secret, compressed)] = secret
            self._secrets[xonly_from_secret(secret)] = secret

    def secret_for(self, pubkey: bytes, fingerprint: bytes, path: tuple[int, ...]) -> bytes | None:
        return self._secrets.get(pubkey)


@pytest.fixture(scope="module")
def cases(vectors: Path) -> dict[str, Any]:
    return _Cases(json.loads((vectors / "core" / "rpc_psbt.json").read_text()))


def test_valid_ones_parse_and_come_back(cases: dict[str, Any]) -> None:
    assert len(cases["valid"]) == 34
    for text in cases["valid"]:
        again = Psbt.from_base64(text).to_base64()
        assert Psbt.from_base64(again).to_base64() == again
        assert len(again) == len(text)


def test_invalid_ones_are_refused(cases: dict[str, Any]) -> None:
    assert len(cases["invalid"]) == 41
    for text in cases["invalid"]:
        with pytest.raises(PsbtError):
            Psbt.from_base64(text)


def test_refusals_say_what_core_says(cases: dict[str, Any]) -> None:
    for text, message in cases["invalid_with_msg"]:
        with pytest.raises(PsbtError) as caught:
            Psbt.from_base64(text)
        assert message in str(caught.value)


def test_every_truncation_is_refused(cases: dict[str, Any]) -> None:
    whole = base64.b64decode(cases["valid"][1])
    for size in range(len(whole)):
        with pytest.raises(PsbtError):
            Psbt.parse(whole[:size])
    with pytest.raises(PsbtError):
        Psbt.parse(whole + b"\0")


def test_creator(cases: dict[str, Any]) -> None:
    (case,) = cases["creator"]
    inputs = [TxIn(make_outpoint(hash_from_hex(i["txid"]), i["vout"])) for i in case["inputs"]]
    outputs = [
        TxOut(parse_amount(str(amount)), decode_address(address, REGTEST))
        for out in case["outputs"]
        for address, amount in out.items()
    ]
    assert Psbt.create(Transaction.build(2, inputs, outputs)).to_base64() == case["result"]


def test_signer(cases: dict[str, Any]) -> None:
    """Byte for byte what Core makes. The last two vectors carry a signature that was not ground to a low R, and scripts
    that do not match: there the same keys must have signed the good input, and nothing the bad one."""
    assert len(cases["signer"]) == 6
    refused = []
    for number, case in enumerate(cases["signer"]):
        psbt = Psbt.from_base64(case["psbt"])
        keys = SecretsSource(decode_wif(wif, REGTEST) for wif in case["privkeys"])
        try:
            sign_psbt(psbt, keys, trust_amounts=True)
        except SigningError:
            refused.append(number)
        if number < 4:
            assert psbt.to_base64() == case["result"]
        expected = Psbt.from_base64(case["result"])
        assert [set(i.partial_sigs) for i in psbt.inputs] == [set(i.partial_sigs) for i in expected.inputs]
    assert refused == [3, 4, 5]


def test_combiner(cases: dict[str, Any]) -> None:
    for case in cases["combiner"]:
        assert combine([Psbt.from_base64(text) for text in case["combine"]]).to_base64() == case["result"]


def test_finalizer(cases: dict[str, Any]) -> None:
    (case,) = cases["finalizer"]
    psbt = Psbt.from_base64(case["finalize"])
    assert finalize_psbt(psbt)
    assert psbt.to_base64() == case["result"]


def test_extractor(cases: dict[str, Any]) -> None:
    (case,) = cases["extractor"]
    psbt = Psbt.from_base64(case["extract"])
    assert psbt.extract().raw.hex() == case["result"]
    assert verify_signed(psbt).raw.hex() == case["result"]


def test_combining_different_transactions_is_refused(cases: dict[str, Any]) -> None:
    with pytest.raises(PsbtError, match="different"):
        combine([Psbt.from_base64(cases["valid"][0]), Psbt.from_base64(cases["valid"][1])])


@given(st.integers(0, 10**9), st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_ones_never_do_worse_than_a_clear_refusal(
    cases: dict[str, Any], pick: int, data: st.DataObject
) -> None:
    """Parse, sign and finalize anything near a real PSBT: it works, or it is one line that says why not."""
    signers = cases["signer"]
    texts = [*cases["valid"], *(case["psbt"] for case in signers), *(case["result"] for case in signers)]
    raw = bytearray(base64.b64decode(texts[pick % len(texts)]))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(5, len(raw) - 1))
        raw[position] = data.draw(st.integers(0, 255))
    keys = SecretsSource(decode_wif(wif, REGTEST) for case in signers for wif in case["privkeys"])
    message = ""
    try:
        psbt = Psbt.parse(bytes(raw))
        psbt.to_bytes()
        sign_psbt(psbt, keys, trust_amounts=True)
        finalize_psbt(psbt)
        psbt.extract()
    except PsbtError as error:
        message = str(error)
    assert "\n" not in message
