"""Two judges of the same blocks: our chainstate and libbitcoinkernel must agree, to the word.

Blocks come from `tests.support.block_generator`. PICKAXE_DIFFERENTIAL_BLOCKS sets how many damaged blocks are tried
(250 by default: some seconds).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.primitives.amount import COIN
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.primitives.transaction import TxOut
from chain.primitives.types import Amount
from tests.support.block_generator import BlockGenerator, Unparsed
from tests.support.kernel import KernelJudge, Verdict, pbk, same_verdict, submit_to_ours

pytestmark = pytest.mark.usefixtures("both_readings")

TRIES = int(os.environ.get("PICKAXE_DIFFERENTIAL_BLOCKS", "250"))
DAMAGED_PER_BLOCK = 12


class Pair:
    """Both judges, asked the same."""

    def __init__(self, folder: Path) -> None:
        self.ours = Chainstate(BlockGenerator(random.Random(0)).params, folder / "ours", script_threads=1)
        self.kernel = KernelJudge(folder / "kernel")

    def submit(self, raw: bytes, what: str) -> Verdict:
        """The verdict, once they agree on it."""
        kernel = self.kernel.submit(raw)
        ours = submit_to_ours(self.ours, raw)
        assert same_verdict(ours, kernel), (
            f"{what}: ours {ours}, kernel {kernel}, block {raw.hex() if len(raw) < 20_000 else len(raw)}"
        )
        return ours

    def close(self) -> None:
        self.ours.close()
        self.kernel.close()


def grow(pair: Pair, generator: BlockGenerator, blocks: int, *, transactions: int = 5) -> None:
    """Blocks that both must take."""
    for _ in range(blocks):
        block = generator.draft(transactions).build()
        verdict = pair.submit(block.raw, f"valid block at {generator.tip.height + 1}")
        assert verdict.text == ""
        generator.adopt(block)


def is_block(raw: bytes) -> bool:
    try:
        Block.parse(raw)
    except DecodeError:
        return False
    return True


def test_damaged_blocks_get_the_same_verdict(rng: random.Random, tmp_path: Path) -> None:
    generator = BlockGenerator(rng)
    pair = Pair(tmp_path)
    seen: Counter[str] = Counter()
    try:
        grow(pair, generator, 110)
        tried = 0
        while tried < TRIES:
            draft = generator.draft()
            for _ in range(DAMAGED_PER_BLOCK):
                name, block = generator.damaged(draft)
                before = pair.ours.tip.hash
                verdict = pair.submit(block.raw, name)
                tried += 1
                seen[verdict.text.split(",")[0] or "valid"] += 1
                if pair.ours.tip.hash != before:  # not damaged enough
                    generator.adopt(Block.parse(block.raw) if isinstance(block, Unparsed) else block)
                    break
            else:
                block = draft.build()
                verdict = pair.submit(block.raw, "undamaged")
                assert verdict.text == ""
                generator.adopt(block)
            assert generator.tip.hash == pair.ours.tip.hash
        print(*(f"{count:6d} {text}" for text, count in seen.most_common()), sep="\n")
        assert seen["valid"] < tried // 2
    finally:
        pair.close()
    print(f"judged {TRIES} blocks")


def test_forks_lead_to_the_same_tip_and_undo_data(rng: random.Random, tmp_path: Path) -> None:
    generator = BlockGenerator(rng)
    pair = Pair(tmp_path)
    try:
        grow(pair, generator, 105, transactions=2)
        for _ in range(8):
            depth = rng.randint(1, 6)
            generator.go_back(depth)
            for _ in range(depth + rng.randint(0, 2)):
                block = generator.draft(3).build()
                pair.submit(block.raw, "fork")
                generator.adopt(block)
            # The longer branch won in both, or neither moved: go on from where they are.
            generator.go_back(0)
            tip = generator.index.get(pair.ours.tip.hash)
            assert tip is not None
            generator.tip = tip
            generator.go_back(0)
        kernel = pair.kernel.chain
        for entry in pair.ours.index.active[1:]:
            theirs = kernel.block_spent_outputs[kernel.block_tree_entries[_kernel_hash(entry.hash)]]
            spent = [
                [
                    (c.output.amount, bytes(c.output.script_pubkey), c.confirmation_height, c.is_coinbase)
                    for c in tx.coins
                ]
                for tx in theirs.transactions
            ]
            ours = [
                [
                    (
                        int.from_bytes(coin[:8], "little"),
                        coin[12:],
                        int.from_bytes(coin[8:12], "little") >> 1,
                        bool(coin[8] & 1),
                    )
                    for coin in coins
                ]
                for coins in pair.ours.read_undo(entry)
            ]
            assert spent == ours
    finally:
        pair.close()


def test_trees_of_blocks_in_any_order_lead_to_the_same_tips(rng: random.Random, tmp_path: Path) -> None:
    """Branches, some with a block that cannot be connected; headers before blocks or not at all; all tips on the way
    compared.
    """
    for round_number in range(6):
        generator = BlockGenerator(rng)
        (tmp_path / str(round_number)).mkdir()
        pair = Pair(tmp_path / str(round_number))
        try:
            grow(pair, generator, 3, transactions=0)
            parents = [generator.tip.hash]
            tree: list[Block] = []
            for _ in range(30):
                generator.go_to(rng.choice(parents[-8:]))
                draft = generator.draft(1)
                if rng.random() < 0.15:
                    draft = replace(draft, payouts=(TxOut(Amount(51 * COIN), b"\x51"),))
                block = draft.build()
                generator.adopt(block)
                parents.append(block.hash)
                tree.append(block)
            if rng.random() < 0.7:
                for block in tree:
                    assert pair.kernel.submit_header(block.header.raw) == ""
                    pair.ours.accept_headers([block.header])
            for _ in range(3):  # what came before its parent is refused at first
                rng.shuffle(tree)
                for block in tree:
                    pair.submit(block.raw, "tree")
                    assert pair.ours.index.best_header.height == pair.kernel.chain.best_entry.height
        finally:
            pair.close()


def _kernel_hash(internal: bytes) -> object:
    return pbk.BlockHash(internal)
