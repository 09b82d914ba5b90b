"""Bitcoin Core's base58 and key_io vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.crypto.hashes import hash160
from chain.params import network
from chain.primitives.errors import DecodeError
from chain.script import base58
from chain.script.addresses import decode_address, decode_wif, encode_address, encode_wif
from chain.script.script import disassemble
from chain.script.standard import classify, p2sh

CHAINS = {
    "main": "bitcoin",
    "test": "testnet3",
    "testnet4": "testnet4",
    "signet": "signet",
    "regtest": "regtest",
}


def test_base58(vectors: Path) -> None:
    rows = json.loads((vectors / "core" / "base58_encode_decode.json").read_text())
    for data_hex, text in rows:
        assert base58.encode(bytes.fromhex(data_hex)) == text
        assert base58.decode(text) == bytes.fromhex(data_hex)
    assert rows


def test_valid_addresses_and_keys(vectors: Path) -> None:
    rows = json.loads((vectors / "core" / "key_io_valid.json").read_text())
    for text, payload_hex, meta in rows:
        prefixes = network(CHAINS[meta["chain"]]).addresses
        payload = bytes.fromhex(payload_hex)
        if meta["isPrivkey"]:
            assert decode_wif(text, prefixes) == (payload, meta["isCompressed"])
            assert encode_wif(payload, prefixes, compressed=meta["isCompressed"]) == text
            with pytest.raises(DecodeError):
                decode_address(text, prefixes)
        else:
            assert decode_address(text, prefixes) == payload
            assert encode_address(payload, prefixes) == text
            with pytest.raises(DecodeError):
                decode_wif(text, prefixes)
            if meta.get("tryCaseFlip"):
                assert decode_address(text.swapcase(), prefixes) == payload
            else:
                with pytest.raises(DecodeError):
                    decode_address(text.swapcase(), prefixes)
    assert len(rows) > 60


def test_invalid_addresses_and_keys(vectors: Path) -> None:
    rows = json.loads((vectors / "core" / "key_io_invalid.json").read_text())
    for (text,) in rows:
        for name in CHAINS.values():
            prefixes = network(name).addresses
            with pytest.raises(DecodeError):
                decode_address(text, prefixes)
            with pytest.raises(DecodeError):
                decode_wif(text, prefixes)
    assert len(rows) > 50


def test_decodescript(vectors: Path) -> None:
    """The scripts of Core's decodescript vectors: text, kind, address and the P2SH address around them."""
    prefixes = network("regtest").addresses
    rows = json.loads((vectors / "core" / "rpc_decodescript.json").read_text())
    for script_hex, expected in rows:
        script = bytes.fromhex(script_hex)
        assert disassemble(script) == expected["asm"]
        assert classify(script)[0] == expected["type"]
        assert encode_address(script, prefixes) == expected.get("address")
        if "p2sh" in expected:
            assert encode_address(p2sh(hash160(script)), prefixes) == expected["p2sh"]
    assert len(rows) >= 5
