"""Bits flipped, bytes lost and files cut short anywhere in a chain's folder: what comes of it is a fault that names the
damage and what to do, or right coins; never wrong coins, a crash or a hang. What the fault says to do repairs it.

All tries run in a child process, so that one that ends the process is seen. PICKAXE_DAMAGES sets how many (24 by
default: some seconds).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.index import BlockIndexEntry
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from chain.storage.block_files import scan_blocks
from chain.utxo_stats import UtxoHash, UtxoTotals
from tests.conftest import ROOT
from tests.support.block_generator import BlockGenerator

DAMAGES = int(os.environ.get("PICKAXE_DAMAGES", "24"))
REGTEST = network("regtest")
TIME_LIMIT_S = 60

Expected = dict[bytes, tuple[UtxoTotals, UtxoTotals]]


def make_history(rng: random.Random) -> list[Block]:
    """A chain of 120 blocks with a reorganisation near its end."""
    generator = BlockGenerator(rng)
    blocks: list[Block] = []

    def grow(count: int, transactions: int) -> None:
        for _ in range(count):
            block = generator.draft(transactions).build()
            generator.adopt(block)
            blocks.append(block)

    grow(101, 0)
    grow(17, 3)
    generator.go_back(4)
    grow(6, 3)
    return blocks


def coins_of(chain: Chainstate) -> tuple[UtxoTotals, UtxoTotals]:
    return chain.utxo_stats(UtxoHash.HASH_SERIALIZED_3), chain.utxo_stats(UtxoHash.MUHASH)


def prepare(folder: Path, blocks: list[Block], *, xor: bool) -> Expected:
    """`closed`: a chain that was closed; `killed`: one whose last 30 blocks were not flushed. And all coins on the
    way.
    """
    expected: Expected = {}
    with Chainstate(REGTEST, folder / "closed", script_threads=0, block_xor=xor) as chain:
        expected[chain.tip.hash] = coins_of(chain)
        for number, block in enumerate(blocks):
            chain.process_block(block)
            if number < len(blocks) - 30:
                expected[chain.tip.hash] = coins_of(chain)  # this flushes
            if number == len(blocks) - 30:
                chain.flush()
        chain.files.sync()
        shutil.copytree(folder / "closed", folder / "killed", ignore=shutil.ignore_patterns("lock.mdb"))
    with Chainstate(REGTEST, folder / "replay", script_threads=0) as chain:
        for block in blocks:
            chain.process_block(block)
            expected.setdefault(chain.tip.hash, coins_of(chain))
    with Chainstate(REGTEST, folder / "straight", script_threads=0) as straight:
        for entry in chain.index.active[1:]:
            straight.process_block(next(block for block in blocks if block.hash == entry.hash))
            expected.setdefault(straight.tip.hash, coins_of(straight))
    return expected


def harm(rng: random.Random, path: Path) -> str:
    """Damage one file; what was done."""
    data = bytearray(path.read_bytes())
    size = len(data)
    kind = rng.choice(("bit", "bit", "bit", "bits", "zeros", "noise", "cut", "gone"))
    if kind == "gone" and rng.random() < 0.7:
        kind = "bit"
    at = rng.randrange(size) if size else 0
    if kind == "gone":
        path.unlink()
        return f"{path.name} gone"
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "bits":
        for _ in range(rng.randrange(2, 200)):
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        length = min(size - at, rng.choice((1, 512, 4096)))
        data[at : at + length] = bytes(length)
    elif kind == "noise":
        length = min(size - at, rng.choice((8, 512, 4096)))
        data[at : at + length] = rng.randbytes(length)
    else:
        del data[at:]
    path.write_bytes(data)
    return f"{path.name} {kind} at {at} of {size}"


def place_of(tip: BlockIndexEntry, blocks: list[Block]) -> bytes:
    """The hash of the block of the history that `tip` is. A bit flipped in a header can make another block of the same
    transactions, whose work regtest accepts half the time: after --reindex that may be the tip, and is as right.
    """
    same = (block for block in blocks if block.header.merkle_root == tip.header.merkle_root)
    return next((block.hash for block in blocks if block.hash == tip.hash), next(same, tip).hash)


def use(folder: Path, expected: Expected, blocks: list[Block], **options: bool) -> None:
    """Open a chain and do with it what a node does; whatever tip it has on the way, its coins must be that tip's."""
    with Chainstate(REGTEST, folder, script_threads=0, **options) as chain:
        for _ in chain.reindex() if options else ():
            pass
        assert coins_of(chain) == expected[place_of(chain.tip, blocks)], "wrong coins at start"
        for entry in chain.index.active[1:]:
            if entry.have_data:
                chain.read_block(entry)
        if chain.tip.height > 1:
            fork = chain.index.active[max(1, chain.tip.height - 12)]
            chain.invalidate_block(fork.hash)
            assert coins_of(chain) == expected[place_of(chain.tip, blocks)], "wrong coins after going back"
            chain.reconsider_block(fork.hash)
        for block in blocks:
            chain.process_block(block)
        assert coins_of(chain) == expected[place_of(chain.tip, blocks)], "wrong coins at the end"
        assert place_of(chain.tip, blocks) == blocks[-1].hash
        chain.verify_chain(4, 0)


def attempt(folder: Path, expected: Expected, blocks: list[Block], options: dict[str, bool]) -> str:
    """`use`; the fault, if there is one."""
    try:
        use(folder, expected, blocks, **options)
    except LocalFault as fault:
        return str(fault)
    return ""


def one_try(rng: random.Random, clean: Path, folder: Path, expected: Expected, blocks: list[Block]) -> str:
    """Damage, use, repair; what happened, in brief."""
    shutil.copytree(clean, folder)
    names = [
        "blocks/blk00000.dat",
        "blocks/rev00000.dat",
        "blocks/xor.dat",
        "chainstate/data.mdb",
        "chainstate/pages.sum",
        "chainstate/pages.last",
    ]
    chosen = [rng.choice(names)] if rng.random() < 0.8 else rng.sample(names, 2)
    done = ", ".join(harm(rng, folder / name) for name in chosen)
    print(clean.name, done, flush=True)
    outcome = "right"
    repair: dict[str, bool] = {}
    while True:
        message = attempt(folder, expected, blocks, repair)
        if not message:
            break
        print("   ", message, flush=True)
        assert "\n" not in message
        assert "reindex" not in repair, message
        if "--reindex-chainstate" in message:
            assert not repair, message
            outcome, repair = "coins", {"reindex_chainstate": True}
        else:  # which the repair of the coins may come to as well: it reads all blocks
            assert "--reindex " in message, message
            outcome, repair = "all", {"reindex": True}
    shutil.rmtree(folder)
    return f"{chosen[0] if len(chosen) == 1 else 'two'}: {outcome}"


def main(folder: Path, seed: int, count: int) -> None:
    """The child."""
    rng = random.Random(seed)
    blocks = [block for _, block in scan_blocks(folder / "history.dat", REGTEST.magic)]
    seen: Counter[str] = Counter()
    bases = {}
    for xor in (False, True):
        bases[folder / str(xor)] = prepare(folder / str(xor), blocks, xor=xor)
    for number in range(count):
        signal.alarm(TIME_LIMIT_S)
        base, expected = rng.choice(list(bases.items()))
        clean = base / rng.choice(("closed", "closed", "killed"))
        seen[one_try(rng, clean, folder / f"try{number}", expected, blocks)] += 1
    signal.alarm(0)
    print(*(f"{number:6d} {what}" for what, number in sorted(seen.items())), sep="\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a time limit by signal")
def test_damage_is_named_or_does_no_harm(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_history(rng)
    records = (REGTEST.magic + len(b.raw).to_bytes(4, "little") + b.raw for b in blocks)
    (tmp_path / "history.dat").write_bytes(b"".join(records))
    command = [sys.executable, "-m", "tests.property.test_damage", str(tmp_path), str(rng.randrange(1 << 30))]
    done = subprocess.run([*command, str(DAMAGES)], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-6000:])
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-3000:]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
