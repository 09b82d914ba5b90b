"""A process that connects blocks and indexes them, killed at random moments, ends with indexes that say what the chain
says. PICKAXE_INDEX_CRASHES sets how many times it is killed (6 by default)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.block import Block
from chain.storage.index_store import read_mark
from tests.support.block_generator import BlockGenerator
from tests.support.index_chain import ALL_KINDS, check_all, open_all
from tests.support.index_follower import write_blocks

pytestmark = pytest.mark.functional

CRASHES = int(os.environ.get("PICKAXE_INDEX_CRASHES", "6"))
KILL_WITHIN_S = 0.7


def make_history(rng: random.Random) -> list[Block]:
    """In the order in which a node sees them: a chain with three reorganisations."""
    generator = BlockGenerator(rng)
    blocks: list[Block] = []

    def grow(count: int) -> None:
        for _ in range(count):
            block = generator.draft(2).build()
            generator.adopt(block)
            blocks.append(block)

    grow(104)
    for depth in (4, 9, 2):
        grow(depth)
        generator.go_back(depth)
        grow(depth + 3)
    return blocks


def _start(folder: Path, blocks: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.index_follower", str(folder), str(blocks), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_while_indexing(tmp_path: Path, rng: random.Random) -> None:
    blocks_file = tmp_path / "blocks"
    kills, heights, number = 0, set(), 0
    while kills < CRASHES:
        write_blocks(blocks_file, make_history(rng))
        folder = tmp_path / f"chain{number}"
        number += 1
        while True:
            process = _start(folder, blocks_file, rng.getrandbits(32))
            try:
                if kills < CRASHES:
                    time.sleep(rng.uniform(0, KILL_WITHIN_S))
                    kills += process.poll() is None
                    process.kill()
                process.wait(120)
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            if process.returncode == 0:
                break
            assert process.returncode == -9
            marks = [read_mark(folder / "indexes" / kind.folder) for kind in ALL_KINDS]
            heights.update(mark.height for mark in marks if mark is not None)
        with Chainstate(network("regtest"), folder, script_threads=0) as chain:
            indexes = open_all(chain)
            assert all(index.synced for index in indexes)
            check_all(indexes)
            indexes.close()
    print("heights of the marks that kills left:", sorted(heights))
