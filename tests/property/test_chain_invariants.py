"""What holds for any valid blocks, in whatever order headers and blocks come, go and come back: the tip has the most
work, the store holds exactly the coins of that tip, and no money was made or lost.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import lmdb
import pytest

from chain.chainstate import Chainstate
from chain.consensus.errors import BlockResult, ConsensusError
from chain.consensus.subsidy import block_subsidy
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.types import BlockHash
from tests.support.block_generator import BlockGenerator

pytestmark = pytest.mark.usefixtures("both_readings")

TREES = int(os.environ.get("PICKAXE_TREES", "4"))
REGTEST = network("regtest")
TRUNK = 101  #: from then on there is something to spend

Coins = dict[bytes, bytes]


@dataclass(frozen=True)
class Known:
    """A block of the tree, the coins after it, and what of the subsidies up to it nobody can ever spend."""

    block: Block
    height: int
    coins: Coins
    lost: int


def make_tree(rng: random.Random, branches: int) -> dict[BlockHash, Known]:
    """A trunk, then branches that begin anywhere near its end; coins are followed by a plain dictionary."""
    generator = BlockGenerator(rng)
    known = {REGTEST.genesis_hash: Known(REGTEST.genesis, 0, {}, 0)}

    def grow(transactions: int) -> None:
        draft = generator.draft(transactions)
        if rng.random() < 0.3:  # a miner that takes less than it may
            first = draft.payouts[0]
            draft = replace(draft, payouts=(first._replace(value=first.value // 2), *draft.payouts[1:]))
        block = draft.build()
        before = known[block.header.prev_hash]
        coins, lost, fees, claimed = dict(before.coins), before.lost, 0, 0
        for number, tx in enumerate(block.transactions):
            if number:
                spent = sum(int.from_bytes(coins.pop(outpoint)[:8], "little") for outpoint in tx.prevouts)
                fees += spent - sum(tx.values)
            else:
                claimed = sum(tx.values)
            for n, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True)):
                if script[:1] == b"\x6a" or len(script) > 10_000:
                    lost += value
                else:
                    code = ((before.height + 1) << 1 | (number == 0)).to_bytes(4, "little")
                    coins[tx.outpoint(n)] = value.to_bytes(8, "little") + code + script
        lost += block_subsidy(before.height + 1, REGTEST) + fees - claimed
        known[block.hash] = Known(block, before.height + 1, coins, lost)
        generator.adopt(block)

    for number in range(TRUNK):
        grow(0 if number < TRUNK - 3 else 3)
    recent = list(known)[-3:]
    for _ in range(branches):
        generator.go_to(rng.choice(recent[-12:]))
        for _ in range(rng.randint(1, 4)):
            grow(rng.choice((0, 1, 3)))
            recent.append(generator.tip.hash)
    return known


def check(chain: Chainstate, known: dict[BlockHash, Known]) -> None:
    """The coins are those of the tip, and their sum is what was issued less what was lost."""
    here = known[chain.tip.hash]
    assert {bytes(outpoint): bytes(coin) for outpoint, coin in chain.iterate_coins()} == here.coins
    issued = sum(block_subsidy(height, REGTEST) for height in range(1, here.height + 1))
    assert chain.utxo_stats().total_amount == issued - here.lost


def records(folder: Path) -> tuple[bytes | None, list[tuple[bytes, bytes]]]:
    """The tip and the coins in a closed chain's database, byte for byte."""
    with lmdb.open(str(folder / "chainstate"), readonly=True, lock=False, max_dbs=4) as env, env.begin() as txn:
        coins = list(txn.cursor(env.open_db(b"coins", txn, create=False)))
        tip = txn.get(b"tip", db=env.open_db(b"meta", txn, create=False))
    return tip, coins


def test_any_order_of_headers_and_blocks_leads_to_the_same_tip(tmp_path: Path, rng: random.Random) -> None:
    """Headers and blocks of a tree, shuffled, some sent twice, with restarts: the most work wins, and among equals one
    of them.
    """
    for number in range(TREES):
        known = make_tree(rng, 5)
        blocks = [item.block for item in known.values() if item.height]
        best = max(item.height for item in known.values())
        tops = {block_hash for block_hash, item in known.items() if item.height == best}
        folder = tmp_path / str(number)
        waiting = [*blocks, *rng.sample(blocks, 10)]
        rng.shuffle(waiting)
        chain = Chainstate(REGTEST, folder, script_threads=0, dbcache_bytes=rng.choice((1, 1 << 20)))
        try:
            for block in blocks if rng.random() < 0.5 else ():
                chain.accept_headers([block.header])
            while waiting:
                left = []
                for block in waiting:
                    try:
                        chain.process_block(block)
                    except ConsensusError as error:
                        if error.result is not BlockResult.MISSING_PREV:
                            raise
                        left.append(block)
                    if rng.random() < 0.02:
                        check(chain, known)
                    if rng.random() < 0.01:
                        chain.close()
                        chain = Chainstate(REGTEST, folder, script_threads=0)
                assert len(left) < len(waiting)
                waiting = left
            assert chain.tip.hash in tops
            check(chain, known)
        finally:
            chain.close()


def test_disconnecting_restores_the_store_byte_for_byte(tmp_path: Path, rng: random.Random) -> None:
    """Any walk of invalidations, and what is taken back of them, ends where a chain that never left is."""
    known = make_tree(rng, 6)
    folder = tmp_path / "wandering"
    with Chainstate(REGTEST, folder, script_threads=0) as chain:
        for item in known.values():
            if item.height:
                chain.process_block(item.block)
        high = [block_hash for block_hash, item in known.items() if item.height > TRUNK - 10]
        for _ in range(25):
            chosen = rng.choice(high)
            if rng.random() < 0.6:
                chain.invalidate_block(chosen)
            else:
                chain.reconsider_block(chosen)
            check(chain, known)
        tip = chain.tip.hash
    path = []
    at = tip
    while known[at].height:
        path.append(known[at].block)
        at = BlockHash(known[at].block.header.prev_hash)
    with Chainstate(REGTEST, tmp_path / "straight", script_threads=0) as chain:
        for block in reversed(path):
            chain.process_block(block)
    assert records(folder) == records(tmp_path / "straight")
