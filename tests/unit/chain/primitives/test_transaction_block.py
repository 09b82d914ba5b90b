"""Transactions and blocks: real ones parse and rebuild to the same bytes; anything cut, grown or lying is refused."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from chain.crypto.hashes import sha256d
from chain.primitives.block import Block, block_merkle_root, witness_merkle_root
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_branch, merkle_root, root_from_branch
from chain.primitives.serialize import var_bytes
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, make_outpoint

BLOCKS = ["mainnet/block300025", "mainnet/block413567", "mainnet/block482683", "testnet3/block928831"]


def _random_transaction(rng: random.Random) -> Transaction:
    inputs = [
        TxIn(
            make_outpoint(rng.randbytes(32), rng.randrange(1 << 32)),
            rng.randbytes(rng.choice((0, 1, 107, 252, 253, 600))),
            rng.randrange(1 << 32),
            tuple(rng.randbytes(rng.choice((0, 33, 72, 300))) for _ in range(rng.choice((0, 0, 2, 5)))),
        )
        for _ in range(rng.randrange(1, 5))
    ]
    outputs = [
        TxOut(Amount(rng.randrange(-(1 << 63), 1 << 63)), rng.randbytes(rng.choice((0, 22, 34, 253))))
        for _ in range(rng.randrange(0, 5))
    ]
    return Transaction.build(rng.randrange(1 << 32), inputs, outputs, rng.randrange(1 << 32))


def test_build_and_parse_are_inverse(rng: random.Random) -> None:
    for _ in range(200):
        tx = _random_transaction(rng)
        again = Transaction.parse(tx.raw)
        for name in (*Transaction.__slots__, "txid", "wtxid", "base_size", "weight", "vsize", "inputs", "outputs"):
            if not name.startswith("_"):
                assert getattr(again, name) == getattr(tx, name), name
        assert len(tx.stripped) == tx.base_size
        assert tx.serialized_outputs == b"".join(
            value.to_bytes(8, "little", signed=True) + var_bytes(script)
            for value, script in zip(tx.values, tx.scripts, strict=True)
        )
        assert again.serialized_outputs == tx.serialized_outputs
        assert Transaction.parse(tx.stripped, allow_witness=False).txid == tx.txid
        if not tx.has_witness:
            assert tx.txid == tx.wtxid


def test_every_cut_and_every_extra_byte_is_refused(rng: random.Random) -> None:
    for _ in range(20):
        tx = _random_transaction(rng)
        for cut in range(len(tx.raw)):
            with pytest.raises(DecodeError):
                Transaction.parse(tx.raw[:cut])
        with pytest.raises(DecodeError, match="after the transaction"):
            Transaction.parse(tx.raw + b"\0")


def test_witness_flags() -> None:
    plain = Transaction.build(2, [TxIn(NULL_OUTPOINT)], [TxOut(Amount(1), b"")])
    body = plain.raw[4:-4]
    with pytest.raises(DecodeError, match="Superfluous"):
        Transaction.parse(plain.raw[:4] + b"\0\1" + body + b"\0" + plain.raw[-4:])
    with pytest.raises(DecodeError, match="Unknown transaction optional data"):
        Transaction.parse(plain.raw[:4] + b"\0\2" + body + plain.raw[-4:])
    empty = Transaction.parse(bytes(4) + b"\0\0" + bytes(4))  # a count of no inputs, then of no outputs
    assert (empty.prevouts, empty.values, empty.has_witness) == ([], [], False)


@pytest.mark.parametrize("claim", [b"\xfe\xff\xff\xff\x01", b"\xff" + b"\xff" * 8, b"\xfd\xff\xff"])
def test_a_lying_count_allocates_nothing(claim: bytes) -> None:
    for data in (bytes(4) + claim + bytes(500), bytes(4) + b"\1" + bytes(36) + claim + bytes(100)):
        tracemalloc.start()
        with pytest.raises(DecodeError):
            Transaction.parse(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


@pytest.mark.parametrize("name", BLOCKS)
def test_real_blocks(vectors: Path, name: str) -> None:
    raw = (vectors / f"blocks/{name}.raw").read_bytes()
    block = Block.parse(raw)
    assert block_merkle_root(block) == (block.header.merkle_root, False)
    assert block.base_size == len(raw) - sum(tx.total_size - tx.base_size for tx in block.transactions)
    assert Block.build(block.header, block.transactions).raw == raw
    commitment = [s for s in block.transactions[0].scripts if s[:6] == bytes.fromhex("6a24aa21a9ed")]
    if commitment:
        nonce = block.transactions[0].witnesses[0][0]
        assert sha256d(witness_merkle_root(block) + nonce) == commitment[-1][6:38]
    for cut in (0, 80, 81, 100, len(raw) - 1):
        with pytest.raises(DecodeError):
            Block.parse(raw[:cut])
    with pytest.raises(DecodeError, match="after the block"):
        Block.parse(raw + b"\0")


def test_header_fields() -> None:
    header = BlockHeader.build(-1, b"\1" * 32, b"\2" * 32, 0xFFFFFFFF, 0x1D00FFFF, 7)
    again = BlockHeader.parse(header.raw)
    assert (again.version, again.prev_hash, again.merkle_root) == (-1, b"\1" * 32, b"\2" * 32)
    assert (again.time, again.nbits, again.nonce, again.hash) == (0xFFFFFFFF, 0x1D00FFFF, 7, header.hash)
    with pytest.raises(DecodeError):
        BlockHeader.parse(header.raw[:79])


def test_merkle_branches_lead_to_the_root(rng: random.Random) -> None:
    for count in (1, 2, 3, 7, 8, 100):
        leaves = [rng.randbytes(32) for _ in range(count)]
        root, mutated = merkle_root(leaves)
        assert not mutated
        for index in range(count):
            assert root_from_branch(leaves[index], merkle_branch(leaves, index), index) == root


def test_a_duplicated_tail_is_reported(rng: random.Random) -> None:
    leaves = [rng.randbytes(32) for _ in range(6)]
    assert merkle_root(leaves)[0] == merkle_root([*leaves, *leaves[4:]])[0]
    assert merkle_root([*leaves, *leaves[4:]])[1]
    assert merkle_root([leaves[0], leaves[0]])[1]
    assert merkle_root([])[0] == bytes(32)
