"""Indexes over random chains with reorganisations, restarts and crashes equal what is computed from the chain."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.index_chain import catch_up, check_all, grow, open_all, reorganise
from tests.support.regtest import RegtestNode


def check_story(tmp_path: Path, rng: random.Random, steps: int) -> None:
    with RegtestNode(tmp_path) as node:
        grow(node, rng, 102)
        indexes = open_all(node.chain)
        for _ in range(steps):
            what = rng.randrange(8)
            if what == 0:
                reorganise(node, rng, rng.randrange(1, 8))
            elif what == 1:
                node.chain.flush()
            elif what == 2:
                for index in indexes:
                    index.commit()
            elif what == 3:  # a crash: what was not committed is gone
                for index in indexes:
                    index.close()
                indexes = open_all(node.chain)
            elif what == 4:
                for _ in range(rng.randrange(20)):
                    indexes.work(0)
            elif what == 5:  # the tip goes back, and may come again
                block_hash = node.chain.index.active[node.chain.tip.height - rng.randrange(5)].hash
                node.follow(node.chain.invalidate_block(block_hash))
                if rng.random() < 0.5:
                    catch_up(indexes)
                    check_all(indexes)
                if rng.random() < 0.5:
                    node.follow(node.chain.reconsider_block(block_hash))
            else:
                grow(node, rng, rng.randrange(1, 6))
        catch_up(indexes)
        check_all(indexes)
        indexes.close()


def test_indexes_equal_recomputation(tmp_path: Path, rng: random.Random) -> None:
    check_story(tmp_path, rng, 25)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_indexes_equal_recomputation_at_length(tmp_path: Path, rng: random.Random, number: int) -> None:
    check_story(tmp_path, rng, 120)
