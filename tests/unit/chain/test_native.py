"""When compiled code is used, and when Python does without."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from chain import native
from chain.crypto import secp256k1
from chain.primitives import block
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script import spends
from tests.support.blocks import coinbase
from tests.support.compiled import reading


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    with reading("python"):
        yield


def block_of(rng: random.Random, transactions: int) -> bytes:
    spend = TxIn(OutPoint(rng.randbytes(36)))
    some = [Transaction.build(2, [spend], [TxOut(Amount(n), b"")]) for n in range(1, transactions)]
    return Block.build(BlockHeader.build(4, bytes(32), bytes(32), 0, 0, 0), [coinbase(1), *some]).raw


def test_blocks_of_some_size_are_read_by_compiled_code_once_it_is_loaded(rng: random.Random) -> None:
    large, small = block_of(rng, 9), block_of(rng, 8)
    before = Block.parse(large)
    assert before.tables is None
    native.load()
    assert Block.parse(large).tables is not None
    assert Block.parse(small).tables is None
    assert before.tables is not None, "also for blocks that were read before, or built"
    assert Block.parse(large + b"\0", allow_trailing=True).raw == large


def test_without_libsecp256k1_python_does_it_all(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secp256k1, "BACKEND_NAME", "ecdsa")
    monkeypatch.setattr(spends, "_prover", None)
    native.load()
    assert block._compiled is None
    assert Block.parse(block_of(rng, 20)).tables is None
