"""Blocks and header chains built by hand, without a chainstate."""

from __future__ import annotations

from collections.abc import Sequence

from chain.consensus.block import witness_commitment
from chain.consensus.pow import check_proof_of_work, next_nbits
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount
from chain.script.script import push_int

OP_TRUE = b"\x51"


def coinbase(
    height: int,
    outputs: Sequence[TxOut] = (TxOut(Amount(0), OP_TRUE),),
    *,
    extra: bytes = b"\0",
    witness: tuple[bytes, ...] = (),
    locktime: int | None = None,
    sequence: int = 0xFFFFFFFE,
) -> Transaction:
    """A coinbase that meets BIP34 and BIP54."""
    return Transaction.build(
        2,
        [TxIn(NULL_OUTPOINT, push_int(height) + extra, sequence, witness)],
        outputs,
        height - 1 if locktime is None else locktime,
    )


def commit(block_txs: Sequence[Transaction], reserved: bytes = bytes(32)) -> TxOut:
    """The witness commitment output for these transactions (the coinbase's own id does not count)."""
    root = merkle_root([ZERO_HASH, *[tx.wtxid for tx in block_txs[1:]]])[0]
    return TxOut(Amount(0), bytes.fromhex("6a24aa21a9ed") + witness_commitment(root, reserved))


def make_block(
    prev: BlockIndexEntry,
    params: NetworkParams,
    transactions: Sequence[Transaction],
    *,
    time: int | None = None,
    version: int = 0x20000000,
    root: bytes | None = None,
    solve: bool = True,
) -> Block:
    """A block on `prev`, one interval later, with its nonce found (so only for the easiest targets)."""
    time = prev.time + params.block_interval_s if time is None else time
    root = merkle_root([tx.txid for tx in transactions])[0] if root is None else root
    nbits = next_nbits(prev, time, params)
    header = BlockHeader.build(version, prev.hash, root, time, nbits, 0)
    nonce = 0
    while solve and not check_proof_of_work(header.hash, nbits, params):
        nonce += 1
        header = BlockHeader.build(version, prev.hash, root, time, nbits, nonce)
    return Block.build(header, transactions)


def add_header(
    index: HeaderIndex,
    prev: BlockIndexEntry,
    *,
    time: int | None = None,
    version: int = 4,
    nbits: int | None = None,
    salt: int = 0,
) -> BlockIndexEntry:
    """Enter a header without work or checks: for rules that only read what is there."""
    time = prev.time + index.params.block_interval_s if time is None else time
    nbits = prev.nbits if nbits is None else nbits
    return index.add(BlockHeader.build(version, prev.hash, salt.to_bytes(32, "little"), time, nbits, 0))


def add_headers(
    index: HeaderIndex, prev: BlockIndexEntry, count: int, *, version: int = 4, salt: int = 0
) -> BlockIndexEntry:
    """Enter `count` of them; the last one."""
    for _ in range(count):
        prev = add_header(index, prev, version=version, salt=salt)
    return prev
