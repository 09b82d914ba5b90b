"""A whole node, killed at random moments while it syncs and reorganises, comes back at a tip that it had, with exactly
that tip's coins.

One data folder goes through all kills until the chain is complete, then a new one begins. Blocks arrive by RPC, from a
peer and from a file, in random mixture; flushes happen in between. PICKAXE_NODE_CRASHES sets how many times the node
is killed (20 by default).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.types import OutPoint, PackedCoin
from chain.utxo_stats import UtxoHash, utxo_totals
from tests.functional.processes import CallError, Node, nodes
from tests.support.block_generator import BlockGenerator

pytestmark = pytest.mark.functional

CRASHES = int(os.environ.get("PICKAXE_NODE_CRASHES", "20"))
KILL_WITHIN_S = 0.5  #: all blocks take about twice as long
REGTEST = network("regtest")


def make_history(rng: random.Random) -> list[Block]:
    """A chain of 122 blocks with three reorganisations, each some blocks deep, in the order in which a node sees it."""
    generator = BlockGenerator(rng)
    blocks: list[Block] = []

    def grow(count: int) -> None:
        for _ in range(count):
            block = generator.draft(1).build()
            generator.adopt(block)
            blocks.append(block)

    grow(104)
    for depth in (3, 8, 1):
        grow(depth)
        generator.go_back(depth)
        grow(depth + 2)
    return blocks


class Replay:
    """What a chain that was never interrupted says of every block that can be a tip."""

    def __init__(self, folder: Path, blocks: list[Block]) -> None:
        self._coins: dict[str, list[tuple[OutPoint, PackedCoin]]] = {}
        with Chainstate(REGTEST, folder / "as it came", script_threads=1) as chain:
            self._follow(chain, blocks)
            self.final = chain.tip.hash[::-1].hex()
            last = {entry.hash for entry in chain.index.active}
        with Chainstate(REGTEST, folder / "without the detours", script_threads=1) as chain:
            self._follow(chain, [block for block in blocks if block.hash in last])

    def _follow(self, chain: Chainstate, blocks: list[Block]) -> None:
        self._note(chain)
        for block in blocks:
            chain.process_block(block)
            self._note(chain)

    def _note(self, chain: Chainstate) -> None:
        self._coins[chain.tip.hash[::-1].hex()] = list(chain.iterate_coins())

    def digest(self, tip_hex: str, kind: UtxoHash) -> str:
        """In the form of gettxoutsetinfo."""
        return utxo_totals(self._coins[tip_hex], kind).digest[::-1].hex()

    def check(self, node: Node) -> tuple[int, str]:
        """(height, tip) of a node whose coins are those of its tip; it may be moving on meanwhile."""
        for kind in (UtxoHash.HASH_SERIALIZED_3, UtxoHash.MUHASH):
            stats = node.call("gettxoutsetinfo", str(kind))
            assert stats[str(kind)] == self.digest(stats["bestblock"], kind), (kind, stats)
        return int(stats["height"]), str(stats["bestblock"])


class Feeder(threading.Thread):
    """Sends blocks by RPC, and now and then what makes the node flush, until the node is gone. A chain that is complete
    is taken back by hand first, which is one long reorganisation.
    """

    def __init__(self, node: Node, blocks: list[Block], rng: random.Random, *, complete: bool) -> None:
        super().__init__()
        self.node, self.blocks = node, blocks
        self.flush_at = {rng.randrange(len(blocks)) for _ in range(rng.choice((0, 3, 40)))}
        self.take_back = rng.randrange(60, 120) if complete else 0
        self.failure: AssertionError | None = None

    def run(self) -> None:
        with contextlib.suppress(OSError, HTTPException, CallError, ValueError):
            if self.take_back:
                block_hash = self.node.call("getblockhash", self.take_back)
                self.node.call("invalidateblock", block_hash)
                self.node.call("gettxoutsetinfo", "none")
                self.node.call("reconsiderblock", block_hash)
                return
            for number, block in enumerate(self.blocks):
                answer = self.node.call("submitblock", block.raw.hex())
                if answer not in (None, "duplicate", "inconclusive"):
                    self.failure = AssertionError(f"{answer} of a valid block at {number}")
                if number in self.flush_at:
                    self.node.call("gettxoutsetinfo", "none")


def forgive(node: Node) -> bool:
    """Take back what a kill in the midst of `invalidateblock` left marked; whether there was any."""
    marked = [tip["hash"] for tip in node.call("getchaintips") if tip["status"] == "invalid"]
    for block_hash in marked:
        node.call("reconsiderblock", block_hash)
    return bool(marked)


def test_killed_at_any_moment(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_history(rng)
    replay = Replay(tmp_path / "clean", blocks)
    history = tmp_path / "history.dat"
    history.write_bytes(b"".join(REGTEST.magic + len(b.raw).to_bytes(4, "little") + b.raw for b in blocks))
    peer = Node(tmp_path / "peer", "regtest", "--connect", "0")
    victim = Node(tmp_path / "victim", "regtest", "--connect", "0", "--dbcache", "4")
    came_back: list[int] = []
    folders = 1
    with nodes(peer, victim):
        peer.start("--loadblock", str(history))
        for _ in range(CRASHES):
            source = rng.choice(("rpc", "rpc", "peer", "file"))
            victim.start(*(("--loadblock", str(history)) if source == "file" else ()))
            height, tip_hex = replay.check(victim)
            came_back.append(height)
            if forgive(victim):
                tip_hex = replay.check(victim)[1]
            feeder = None
            complete = tip_hex == replay.final
            if source == "rpc" or complete:
                feeder = Feeder(victim, blocks, rng, complete=complete)
                feeder.start()
            elif source == "peer":
                victim.call("addnode", peer.address, "onetry")
            time.sleep(rng.random() ** 2 * KILL_WITHIN_S)
            assert victim.process is not None
            victim.process.kill()
            victim.process.wait()
            if feeder is not None:
                feeder.join()
                assert feeder.failure is None, feeder.failure
            victim.kill()
            if complete and rng.random() < 0.6:
                shutil.rmtree(victim.folder)
                folders += 1
        print("came back at heights", came_back, "in", folders, "folders")
        victim.start()
        replay.check(victim)
        forgive(victim)
        if victim.call("getbestblockhash") != replay.final:
            victim.call("addnode", peer.address, "onetry")
            victim.wait_for_block(replay.final)
        assert replay.check(victim)[1] == replay.final
        assert victim.call("verifychain", 4, 0) is True
        victim.stop()
