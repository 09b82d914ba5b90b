"""Blocks and undo data as the files have them: whatever is not what was written there is damage, and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.index import HAVE_DATA, HAVE_UNDO
from chain.params import network
from chain.primitives.errors import LocalFault
from chain.stored_blocks import RECENT_BLOCKS, StoredBlocks
from tests.support.block_generator import BlockGenerator

REGTEST = network("regtest")


@pytest.fixture
def chain(tmp_path: Path, rng: random.Random) -> Chainstate:
    """Closed, with 110 blocks, spends among them: files and entries stay readable."""
    chain = Chainstate(REGTEST, tmp_path, script_threads=0)
    generator = BlockGenerator(rng)
    for height in range(110):
        block = generator.draft(3 if height > 100 else 0).build()
        chain.process_block(block)
        generator.adopt(block)
    chain.close()
    return chain


def test_what_was_written_is_read(chain: Chainstate) -> None:
    blocks = StoredBlocks(chain.files, REGTEST)
    for entry in chain.index.active:
        block = blocks.read(entry)
        assert block.hash == entry.hash
        assert block.raw == blocks.read_raw(entry)
        undo = blocks.read_undo(entry)
        spends = [tx for tx in block.transactions if not tx.is_coinbase] if entry.height else []
        assert [len(coins) for coins in undo] == [len(tx.inputs) for tx in spends]


def test_what_is_not_there_is_said_so(chain: Chainstate) -> None:
    blocks, entry = StoredBlocks(chain.files, REGTEST), chain.tip
    name = entry.hash[::-1].hex()
    entry.status &= ~HAVE_UNDO
    with pytest.raises(LocalFault, match=f"^The undo data of block {name} are not on disk$"):
        blocks.read_undo(entry)
    entry.status &= ~HAVE_DATA
    with pytest.raises(LocalFault, match=f"^Block {name} is not on disk$"):
        blocks.read(entry)


def _first_byte(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def _last_byte(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def _transaction_count(raw: bytes) -> bytes:
    return raw[:80] + b"\xff" * 9 + raw[89:]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_first_byte, "another block is in its place"),
        (_last_byte, "bad-txnmrklroot, hashMerkleRoot mismatch"),
        (_transaction_count, ""),
    ],
)
def test_damage_is_named_with_its_block(chain: Chainstate, damage: Callable[[bytes], bytes], what: str) -> None:
    entry = chain.tip
    path = chain.datadir / "blocks" / "blk00000.dat"
    data = path.read_bytes()
    raw = chain.files.read_block(entry.file_number, entry.data_pos)
    path.write_bytes(data.replace(raw, damage(raw)))
    with pytest.raises(LocalFault, match=r"start with --reindex to rebuild$") as caught:
        StoredBlocks(chain.files, REGTEST).read(entry)
    assert str(caught.value).startswith(f"Block {entry.hash[::-1].hex()} at height 110 is damaged on disk ({what}")


def test_only_so_many_blocks_that_arrived_are_held(chain: Chainstate) -> None:
    blocks = StoredBlocks(chain.files, REGTEST)
    read = [blocks.read(entry) for entry in chain.index.active[: RECENT_BLOCKS + 2]]
    for block in read:
        blocks.remember(block)
    assert [blocks.recent(block.hash) for block in read] == [None, None, *read[2:]]
    blocks.forget(read[-1].hash)
    blocks.forget(read[-1].hash)
    assert blocks.recent(read[-1].hash) is None
