"""How fast are headers checked and entered, and how fast and how large is the header tree from disk? Beside
libbitcoinkernel.

    python -m benchmarks.headers [--headers ../shared/vectors/headers/mainnet-0-9999.bin] [--tree 100000]

The first line feeds real mainnet headers to both, all checks included. The others rebuild a tree of --tree headers from
rows as a restart does, and read it; libbitcoinkernel has no counterpart to them that could be timed alone. Times are
processor time of one thread, the best of several rounds.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from chain.consensus.block import accept_header
from chain.index import HAVE_DATA, VALID_SCRIPTS, HeaderIndex
from chain.params import BITCOIN
from chain.primitives.header import BlockHeader
from chain.primitives.types import BlockHash
from chain.storage.layout import INDEX_RECORD

Row = tuple[BlockHash, bytes]


def timed(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def accept(raws: list[bytes]) -> HeaderIndex:
    """Ours: parse, hash, check and enter."""
    index = HeaderIndex(BITCOIN)
    now = time.time()
    for raw in raws:
        header = BlockHeader.parse(raw)
        accept_header(header, index.entries, BITCOIN, now)
        index.add(header)
    return index


def accept_in_kernel(raws: list[bytes]) -> float:
    """Seconds of processor time for the same in libbitcoinkernel."""
    import pbk

    with tempfile.TemporaryDirectory() as folder:
        options = pbk.ContextOptions()
        options.set_chainparams(pbk.ChainParameters(pbk.ChainType.MAINNET))
        chain_options = pbk.ChainstateManagerOptions(pbk.Context(options), folder, folder + "/blocks")
        chain_options.update_block_tree_db_in_memory(True)
        chain_options.update_chainstate_db_in_memory(True)
        chain = pbk.ChainstateManager(chain_options)
        headers = [pbk.BlockHeader(raw) for raw in raws]
        start = time.process_time()
        for header in headers:
            chain.process_block_header(header)
        taken = time.process_time() - start
        if chain.best_entry.height != len(raws):
            raise SystemExit("libbitcoinkernel did not take all headers")
        del chain
    return taken


def rows(count: int) -> list[Row]:
    """A chain of made-up headers as it is stored."""
    made: list[Row] = []
    prev = BITCOIN.genesis.header
    for height in range(1, count + 1):
        prev = BlockHeader.build(4, prev.hash, os.urandom(32), prev.time + 600, 0x1D00FFFF, height)
        record = INDEX_RECORD.pack(prev.raw, height, VALID_SCRIPTS | HAVE_DATA, 2, 0, height * 300, height * 100)
        made.append((prev.hash, record))
    return made


def restore(stored: list[Row]) -> HeaderIndex:
    """What a restart does."""
    index = HeaderIndex(BITCOIN)
    index.restore(stored)
    index.finish_restore(index.entries[stored[-1][0]])
    return index


def line(what: str, seconds: float, count: int, ratio: str = "-") -> None:
    """Print one line of the table."""
    print(f"{what:<44}{seconds:>10.3f}{seconds / count * 1e6:>12.2f}{ratio:>10}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "vectors" / "headers" / "mainnet-0-9999.bin"
    parser.add_argument("--headers", type=Path, default=default)
    parser.add_argument("--tree", type=int, default=100_000)
    args = parser.parse_args()
    print(f"{'':<44}{'seconds':>10}{'µs each':>12}{'ratio':>10}")
    if args.headers.is_file():
        data = args.headers.read_bytes()
        raws = [data[at : at + 80] for at in range(80, len(data), 80)]
        kernel = min(accept_in_kernel(raws) for _ in range(3))
        line(f"libbitcoinkernel accepts {len(raws):,} headers", kernel, len(raws), "1.00")
        ours = timed(lambda: accept(raws))
        line("Pickaxe accepts them", ours, len(raws), f"{kernel / ours:.2f}")
    else:
        print(f"no headers in {args.headers}: set --headers")
    stored = rows(args.tree)
    line(f"Pickaxe rebuilds a tree of {args.tree:,}", timed(lambda: restore(stored)), args.tree)
    index = restore(stored)
    tip = index.active[-1]
    heights = random.Random(1).choices(range(args.tree), k=100_000)
    line("any ancestor of the tip", timed(lambda: [tip.ancestor(height) for height in heights]), len(heights))
    line("a block locator", timed(lambda: [index.locator() for _ in range(1000)]), 1000)
    tracemalloc.start()
    again = restore(stored)
    used = tracemalloc.get_traced_memory()[0]
    print(f"memory of the tree: {used / len(again):.0f} bytes a header, its 80 bytes among them, besides its hash")


if __name__ == "__main__":
    main()
