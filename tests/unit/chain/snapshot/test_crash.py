"""A chain killed in any phase of its life on a UTXO snapshot comes back whole, and gets to the end.

PICKAXE_CRASHES sets how many times a process is killed at random (3 by default); besides, it is killed before and after
every step that exchanges folders.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.storage.layout import CHAINSTATE_DIR, OBSOLETE_DIR, SNAPSHOT_DIR
from tests.conftest import ROOT
from tests.support.snapshots import BASE_HEIGHT, TIP_HEIGHT, History, dump, validate

CRASHES = int(os.environ.get("PICKAXE_CRASHES", "3"))

#: Opens the chain and goes on from wherever it is: headers, snapshot, tip, blocks below, validation, and a second
#: opening, which exchanges the folders. With a third argument kills itself at the n-th call of a function of `os`,
#: `shutil` or the store, before or after it.
CHILD = """
import os, pickle, random, signal, sys
from dataclasses import replace
from pathlib import Path
from chain.chainstate import Chainstate
from chain.params import AssumeUtxo, network
from chain.primitives.block import Block
from chain.snapshot import load as load_module
from chain.storage.store import ChainStore
from tests.support.snapshots import BASE_HEIGHT, load, validate
import shutil

raws, snapshot, line = pickle.loads(Path(sys.argv[1]).read_bytes())
blocks = [Block.parse(raw) for raw in raws]
params = replace(network("regtest"), assumeutxo=(AssumeUtxo(*line),))
load_module.BATCH_COINS = 20
if len(sys.argv) > 3:
    where, when, left = sys.argv[3], sys.argv[4], int(sys.argv[5])
    owner, name = {"replace": (os, "replace"), "rmtree": (shutil, "rmtree"), "unlink": (Path, "unlink"),
        "take_index": (ChainStore, "take_index"), "confirm": (ChainStore, "confirm_snapshot"),
        "commit": (ChainStore, "commit")}[where]
    original = getattr(owner, name)

    def deadly(*args, **options):
        global left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def run(chain):
    chain.accept_headers([block.header for block in blocks])
    if chain.tip.height < BASE_HEIGHT and not chain.stands_on_snapshot:
        load(chain, snapshot)
    for high, low in zip(blocks[BASE_HEIGHT:] + [None] * len(blocks), blocks[:BASE_HEIGHT]):
        if high is not None:
            chain.process_block(high)
        chain.process_block(low)
        if random.random() < 0.2:
            chain.flush()
        if random.random() < 0.5:
            chain.advance_background(seconds=0)
    validate(chain)


print("ready", flush=True)
for _ in range(2):
    with Chainstate(params, Path(sys.argv[2]), script_threads=0, dbcache_bytes=20_000) as chain:
        run(chain)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def packed(history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "history"
    line = history.params.assumeutxo[0]
    fields = (line.height, line.block_hash, line.hash_serialized, line.chain_tx_count)
    path.write_bytes(pickle.dumps(([block.raw for block in history.blocks], history.snapshot, fields)))
    return path


def child(packed: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(packed), str(folder), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def check(history: History, folder: Path) -> tuple[int, int]:
    """Whatever the phase, the coins are those of the tip; heights of tip and of what is validated."""
    with Chainstate(history.params, folder, script_threads=0) as chain:
        tip = chain.tip.height
        if tip in history.totals:
            assert chain.utxo_stats() == history.totals[tip], tip
        else:
            assert not chain.stands_on_snapshot
        if chain.background is not None:
            assert tip >= BASE_HEIGHT
            assert chain.background.tip.height <= BASE_HEIGHT
        chain.verify_chain(3, 0 if chain.stands_on_snapshot else 10)
        return tip, chain.validated.height


def finish(history: History, folder: Path) -> None:
    with Chainstate(history.params, folder, script_threads=0) as chain:
        for block in history.blocks:
            chain.process_block(block)
        validate(chain)
    with Chainstate(history.params, folder, script_threads=0) as chain:
        assert not chain.stands_on_snapshot
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]
        assert dump(chain, BASE_HEIGHT)[0] == history.snapshot
        chain.verify_chain(4, 0)
    assert not (folder / SNAPSHOT_DIR).exists()
    assert not (folder / OBSOLETE_DIR).exists()


def test_killed_at_any_moment(tmp_path: Path, history: History, packed: Path, rng: random.Random) -> None:
    folder, runs, came_back = tmp_path / "0", 1, []
    duration = 0.0
    for _ in range(CRASHES):
        process = child(packed, folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        if not duration:
            assert process.stdout.readline() == "done\n"
            process.wait()
            duration = time.monotonic() - start
            folder = tmp_path / "1"
            process = child(packed, folder)
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(rng.random() * duration)
        process.send_signal(signal.SIGKILL)
        finished = process.communicate()[0] == "done\n"
        came_back.append(check(history, folder))
        if finished or rng.random() < 0.3:
            finish(history, folder)
            runs += 1
            folder = tmp_path / str(runs)
    print("came back at (tip, validated)", came_back)
    finish(history, folder)


#: One life, in which every step is the last of a process, before or after it: the mark of a loaded snapshot, the
#: removal of one without it, the confirmation, the copy of the header tree, both renames, the removal of the old coins.
STEPS = (
    ("commit", "after", 2),
    ("replace", "before", 1),
    ("rmtree", "after", 1),
    ("replace", "after", 1),
    ("confirm", "before", 1),
    ("confirm", "after", 1),
    ("take_index", "before", 1),
    ("take_index", "after", 1),
    ("replace", "before", 1),
    ("replace", "after", 1),
    ("replace", "before", 1),
    ("replace", "after", 1),
    ("rmtree", "before", 1),
)


def test_killed_at_every_step_of_one_life(tmp_path: Path, history: History, packed: Path) -> None:
    reached = []
    for where, when, number in STEPS:
        process = child(packed, tmp_path, where, when, str(number))
        process.communicate()
        assert process.returncode == -signal.SIGKILL, (where, when, number)
        if (tmp_path / CHAINSTATE_DIR).exists():
            names = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("chainstate"))
            reached.append((where, when, *names))
    assert reached[-1][2:] == (CHAINSTATE_DIR, OBSOLETE_DIR), reached
    assert check(history, tmp_path) == (TIP_HEIGHT, TIP_HEIGHT)
    finish(history, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "count"), [("replace", 4), ("rmtree", 3), ("take_index", 1), ("confirm", 1), ("commit", 12)]
)
def test_killed_between_the_steps(tmp_path: Path, history: History, packed: Path, where: str, count: int) -> None:
    """The same at the n-th call of each, from a new folder every time, looked at after each death."""
    killed = 0
    for number in range(1, count + 1):
        for when in ("before", "after"):
            folder = tmp_path / f"{number}{when}"
            process = child(packed, folder, where, when, str(number))
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            check(history, folder)
            finish(history, folder)
    assert killed >= 2
