"""BIP158's test vectors: filters and filter headers of testnet blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.block_filter import basic_elements, basic_filter, filter_hash, filter_header, filter_matches
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin

FILE = "bip-0158_testnet-19.json"
NOT_IN_ANY = bytes.fromhex("0014") + b"\xee" * 20


def test_bip158(vectors: Path) -> None:
    path = vectors / "bips" / FILE
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = json.loads(path.read_text())[1:]
    assert len(rows) >= 10
    for _, hash_hex, block_hex, prev_scripts, prev_header_hex, filter_hex, header_hex, note in rows:
        block = Block.parse(bytes.fromhex(block_hex))
        assert block.hash[::-1].hex() == hash_hex
        coins = [pack_coin(0, bytes.fromhex(script), 0, False) for script in prev_scripts]
        elements = basic_elements(block, [coins])
        encoded = basic_filter(block.hash, elements)
        assert encoded.hex() == filter_hex, note
        header = filter_header(filter_hash(encoded), bytes.fromhex(prev_header_hex)[::-1])
        assert header[::-1].hex() == header_hex, note
        assert all(filter_matches(encoded, block.hash, [element]) for element in elements)
        assert not filter_matches(encoded, block.hash, [NOT_IN_ANY])
        assert filter_matches(encoded, block.hash, [NOT_IN_ANY, *elements]) == bool(elements)
