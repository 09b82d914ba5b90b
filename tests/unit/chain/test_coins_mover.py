"""Coins go on and back along the chain, one block at a time, whoever's they are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.coins import CoinsCache
from chain.coins_mover import CoinsMover
from chain.consensus.errors import ConsensusError
from chain.params import network
from chain.primitives.errors import LocalFault
from chain.primitives.types import OutPoint, PackedCoin
from chain.script_queue import ScriptCache
from chain.storage.store import ChainStore
from chain.stored_blocks import StoredBlocks
from tests.support.block_generator import BlockGenerator

REGTEST = network("regtest")
BLOCKS = 112


class Walk:
    """A chain with spends, and a second set of coins that follows it from genesis."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.chain = Chainstate(REGTEST, folder / "chain", script_threads=0)
        generator = BlockGenerator(rng)
        for height in range(BLOCKS):
            block = generator.draft(3 if height > 100 else 0).build()
            self.chain.process_block(block)
            generator.adopt(block)
        self.store = ChainStore(folder / "coins", REGTEST.genesis_hash)
        self.coins = CoinsCache(self.store, 1 << 24)
        self.mover = CoinsMover(
            self.chain.index,
            StoredBlocks(self.chain.files, REGTEST),
            self.chain.files,
            pool=None,
            script_cache=ScriptCache(),
            assumevalid=None,
            minimum_chain_work=0,
        )

    def go_to(self, end: int, start: int = 0) -> None:
        active = self.chain.index.active
        for height in range(start, end):
            assert self.mover.connect(active[height + 1], active[height], self.coins).hash == active[height + 1].hash
        for height in range(start, end, -1):
            block, prev = self.mover.disconnect(active[height], self.coins)
            assert (block.hash, prev) == (active[height].hash, active[height - 1])

    def all_coins(self) -> dict[OutPoint, PackedCoin]:
        self.coins.flush(tip=REGTEST.genesis_hash, position=(0, 0), index={})
        return dict(self.store.iterate_coins())

    def close(self) -> None:
        self.chain.close()
        self.store.close()


@pytest.fixture
def walk(tmp_path: Path, rng: random.Random) -> Walk:
    return Walk(tmp_path, rng)


def test_another_set_of_coins_arrives_at_the_same(walk: Walk) -> None:
    undo_end = (walk.chain.datadir / "blocks" / "rev00000.dat").stat().st_size
    walk.go_to(BLOCKS)
    assert walk.all_coins() == dict(walk.chain.iterate_coins())
    assert (walk.chain.datadir / "blocks" / "rev00000.dat").stat().st_size == undo_end  # it was there already
    walk.close()


def test_back_and_on_again_changes_nothing(walk: Walk, rng: random.Random) -> None:
    height = rng.randrange(101, BLOCKS)
    walk.go_to(height)
    before = walk.all_coins()
    walk.go_to(BLOCKS, height)
    walk.go_to(height, BLOCKS)
    assert walk.all_coins() == before
    walk.go_to(0, height)
    assert walk.all_coins() == {}
    walk.close()


def test_a_block_that_does_not_fit_leaves_the_coins(walk: Walk) -> None:
    walk.go_to(100)
    before = walk.all_coins()
    active = walk.chain.index.active
    spending = next(entry for entry in active[102:] if walk.chain.read_undo(entry))
    with pytest.raises(ConsensusError):  # what it spends is not there yet, or not old enough
        walk.mover.connect(spending, active[100], walk.coins)
    assert walk.all_coins() == before
    walk.close()


def test_genesis_stays(walk: Walk) -> None:
    with pytest.raises(LocalFault, match="genesis block cannot be disconnected"):
        walk.mover.disconnect(walk.chain.index.genesis, walk.coins)
    walk.close()
