"""A chain that is killed at any moment comes back at a tip that it had, with exactly that tip's coins.

PICKAXE_CRASHES sets how many times a process is killed (20 by default).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.block import Block
from tests.conftest import ROOT
from tests.support.block_generator import BlockGenerator

CRASHES = int(os.environ.get("PICKAXE_CRASHES", "20"))
REGTEST = network("regtest")

CHILD = """
import sys
from pathlib import Path
from chain.chainstate import Chainstate
from chain.params import network
from chain.storage import store
from chain.storage.block_files import scan_blocks

if sys.argv[4] == "journal":
    store.ONE_TRANSACTION_PAGES, store.JOURNAL_PIECE = -1, 10
params = network("regtest")
blocks = [block for _, block in scan_blocks(Path(sys.argv[1]), params.magic)]
chain = Chainstate(params, Path(sys.argv[2]), dbcache_bytes=int(sys.argv[3]), script_threads=1)
chain.accept_headers([block.header for block in blocks])
print("ready", flush=True)
for block in blocks:
    chain.process_block(block)
print("done", flush=True)
chain.close()
"""


def make_history(rng: random.Random) -> list[Block]:
    """A chain of 118 blocks, ten more, and a branch that replaces those."""
    generator = BlockGenerator(rng)
    blocks = []

    def grow(count: int) -> None:
        for _ in range(count):
            block = generator.draft(5).build()
            generator.adopt(block)
            blocks.append(block)

    grow(128)
    generator.go_back(10)
    grow(12)
    return blocks


def test_killed_at_any_moment(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_history(rng)
    history = tmp_path / "history.dat"
    history.write_bytes(b"".join(REGTEST.magic + len(b.raw).to_bytes(4, "little") + b.raw for b in blocks))
    expected = {}
    with Chainstate(REGTEST, tmp_path / "clean", script_threads=1) as chain:
        expected[chain.tip.hash] = chain.utxo_stats()
        duration = 0.0
        for block in blocks:
            start = time.monotonic()
            chain.process_block(block)
            duration += time.monotonic() - start
            expected[chain.tip.hash] = chain.utxo_stats()
        final = chain.tip.hash
    came_back = []
    folder, folders = tmp_path / "run0", 1
    for _ in range(CRASHES):
        budget, way = rng.choice(("1000", "60000", "100000000")), rng.choice(("at once", "journal"))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(history), str(folder), budget, way],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.random() * duration)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        with Chainstate(REGTEST, folder, script_threads=1) as chain:
            assert chain.utxo_stats() == expected[chain.tip.hash], f"at {chain.tip}"
            chain.verify_chain(2, 20)
            came_back.append(chain.tip.height)
            finished = chain.tip.hash == final
        if finished:  # until then the same folder is hit again
            folder, folders = tmp_path / f"run{folders}", folders + 1
    print("came back at heights", came_back, "in", folders, "folders")
    with Chainstate(REGTEST, folder, script_threads=1) as chain:
        for block in blocks:
            chain.process_block(block)
        assert chain.tip.hash == final
        assert chain.utxo_stats() == expected[final]
        chain.verify_chain(4, 0)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with Chainstate(REGTEST, tmp_path):
        code = "import sys; from pathlib import Path; from chain.chainstate import Chainstate; "
        code += "from chain.params import network; Chainstate(network('regtest'), Path(sys.argv[1]))"
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Cannot obtain a lock on directory" in done.stderr
