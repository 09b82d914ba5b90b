"""BIP54's own vectors: timestamps, coinbases and transaction sizes, under mainnet's rules with BIP54 from height 1."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.consensus import bip54
from chain.consensus.block import check_block, check_header, contextual_check_block, contextual_check_header
from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import BITCOIN
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction

PARAMS = replace(BITCOIN, bip54_height=1)
TIMEWARP = {"time-timewarp-attack", "time-murch-zawy-attack"}


def load(vectors: Path, name: str) -> Any:
    return json.loads((vectors / "bips" / f"bip-0054_{name}.json").read_text())


def test_timestamps(vectors: Path) -> None:
    """A tree of header chains; each leaf says whether its last header is valid."""
    seen: list[bool] = []

    def walk(node: dict[str, Any], index: HeaderIndex, tip: BlockIndexEntry | None, failed: str) -> None:
        for text in node["block_headers"]:
            header = BlockHeader.parse(bytes.fromhex(text))
            if header.raw == BITCOIN.genesis.header.raw:
                tip = index.genesis
                continue
            assert tip is not None
            assert not failed, node.get("comment")
            check_header(header, PARAMS)
            try:
                contextual_check_header(header, tip, PARAMS, header.time)
            except ConsensusError as error:
                failed = error.reason
            else:
                assert header.prev_hash == tip.hash
                tip = index.add(header)
        if "valid" in node:
            assert (failed == "") is node["valid"], node["comment"]
            assert not failed or failed in TIMEWARP
            seen.append(node["valid"])
        for extension in node.get("extensions", []):
            walk(extension, index, tip, failed)

    walk(load(vectors, "timestamps"), HeaderIndex(PARAMS), None, "")
    assert True in seen
    assert False in seen


def test_coinbases(vectors: Path) -> None:
    for case in load(vectors, "coinbases"):
        index = HeaderIndex(PARAMS)
        tip = index.genesis
        *before, last = [Block.parse(bytes.fromhex(text)) for text in case["block_chain"]]
        for block in before[1:]:
            tip = index.add(block.header)
        check_block(last, PARAMS)
        params = replace(PARAMS, bip34_height=1, csv_height=1)
        if case["valid"]:
            contextual_check_block(last, tip, params)
            continue
        with pytest.raises(ConsensusError) as caught:
            contextual_check_block(last, tip, params)
        assert caught.value.reason in {"bad-cb-locktime", "bad-cb-sequence", "bad-txns-nonfinal"}, case["comment"]
        if caught.value.reason != "bad-txns-nonfinal":  # valid without BIP54
            contextual_check_block(last, tip, replace(params, bip54_height=None))


def test_transaction_sizes(vectors: Path) -> None:
    for case in load(vectors, "txsize"):
        tx = Transaction.parse(bytes.fromhex(case["tx"]))
        if case["valid"]:
            bip54.check_size(tx)
        else:
            with pytest.raises(ConsensusError, match="bad-txns-size-64"):
                bip54.check_size(tx)
