"""What does a transaction cost when the set of unspent coins has grown, and how much memory does it take?

    python -m benchmarks.growth [--coins 5000000] [--blocks 24] [--dbcache 300] [--folder DIR] [--cold]

Full blocks that spend random coins, old and new, are connected to a set of --coins coins on disk and to a small one
with the same --dbcache (MB); the ratio is that of the costs per transaction, in processor time and in elapsed time,
flush to disk included. Each run is a process of its own that opens a copy of the data folder, rounds alternate and the
best of each counts. Memory: the peak of all of it (VmHWM), and what of it is the process's own (RssAnon, sampled; the
rest are libraries, and the database file as the page cache holds it). `--cold` adds runs for which the page cache was
told to forget the database.

Data folders are made once, by connecting the blocks that make the coins with the same --dbcache, and kept in --folder
(the user's cache folder by default; 5 million coins take about 1.2 GB there, and a run another copy of the database).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.growth_chain import GrowthChain, growth_chain
from benchmarks.replay_chain import CACHE, iterate_blocks

SMALL = 250_000
MARGIN_MB = 400  #: what peak memory may exceed --dbcache by
MIB = 1 << 20


class MemorySampler:
    """Peaks of this process's memory (Linux): of all as the kernel keeps it, of its own looked at every 10 ms."""

    def __init__(self) -> None:
        self.rss = self.anonymous = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._look()

    def _look(self) -> None:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        self.rss = max(self.rss, int(fields["VmHWM"].split()[0]) // 1024)
        self.anonymous = max(self.anonymous, int(fields["RssAnon"].split()[0]) // 1024)


def connect(datadir: Path, blocks: Path, dbcache_mb: int, threads: int) -> dict[str, Any]:
    """In the child: open, connect a file of blocks, flush; what it took."""
    from chain import native
    from chain.chainstate import Chainstate
    from chain.params import network
    from chain.primitives.block import Block

    native.load()
    transactions = 0
    with (
        MemorySampler() as memory,
        Chainstate(network("regtest"), datadir, dbcache_bytes=dbcache_mb * MIB, script_threads=threads) as chain,
    ):
        opened = time.perf_counter()
        start = time.process_time()
        for raw in iterate_blocks(blocks):
            block = Block.parse(raw)
            chain.process_block(block)
            transactions += len(block.transactions) - 1
        before_flush = time.perf_counter()
        chain.flush()
        finished = time.perf_counter()
        processor_s = time.process_time() - start
        tip = chain.tip.hash[::-1].hex()
        coins, size = chain.coins_on_disk()
    return {
        "transactions": transactions,
        "processor_s": processor_s,
        "elapsed_s": finished - opened,
        "flush_s": finished - before_flush,
        "rss_mb": memory.rss,
        "anonymous_mb": memory.anonymous,
        "tip": tip,
        "coins": coins,
        "size_mb": size // MIB,
    }


def spawn(datadir: Path, blocks: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`connect` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--run", str(datadir), str(blocks)]
    command += ["--dbcache", str(options.dbcache), "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def make_store(chain: GrowthChain, options: argparse.Namespace) -> None:
    """Connect the blocks that make the coins, unless that was done before."""
    if chain.store.exists():
        return
    unfinished = chain.store.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    made = spawn(unfinished, chain.setup, options)
    unfinished.rename(chain.store)
    print(
        f"made {made['coins']:,} coins, {made['size_mb']} MB in the database, in {made['elapsed_s']:.0f} s"
        f" ({made['elapsed_s'] / made['coins'] * 1e6:.1f} µs a coin); peak memory {made['rss_mb']} MB"
        f" ({made['anonymous_mb']} MB its own)",
        flush=True,
    )


@contextmanager
def copy_of(store: Path, cold: bool) -> Iterator[Path]:
    """A copy of a data folder to write to; with `cold` it is on disk but not in the page cache."""
    with tempfile.TemporaryDirectory(prefix="growth-", dir=store.parent) as folder:
        copy = Path(folder) / "data"
        shutil.copytree(store, copy)
        for path in copy.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                if cold:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        yield copy


def report(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]], limit_mb: int) -> None:
    """Print one line of the table."""

    def cost(of: list[dict[str, Any]], key: str) -> float:
        return float(min(run[key] / run["transactions"] for run in of)) * 1e6

    memory = max(run["rss_mb"] for run in runs)
    print(
        f"{name:<26}{cost(runs, 'processor_s'):>9.1f}{cost(runs, 'elapsed_s'):>9.1f}"
        f"{cost(runs, 'processor_s') / cost(base, 'processor_s'):>9.2f}"
        f"{cost(runs, 'elapsed_s') / cost(base, 'elapsed_s'):>9.2f}"
        f"{memory:>9}{max(run['anonymous_mb'] for run in runs):>9}  {'within' if memory <= limit_mb else 'above'}",
        flush=True,
    )


def main() -> None:
    """Make what is missing, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coins", type=int, default=5_000_000)
    parser.add_argument("--small", type=int, default=SMALL, help="coins of the small set")
    parser.add_argument("--blocks", type=int, default=24, help="full blocks to connect")
    parser.add_argument("--dbcache", type=int, default=300, help="MB for coins, as the node's --dbcache")
    parser.add_argument("--folder", type=Path, default=CACHE, help="where chains and data folders are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="script threads")
    parser.add_argument("--cold", action="store_true", help="also with nothing of the database in the page cache")
    parser.add_argument("--make-only", action="store_true", help="make chains and data folders, measure nothing")
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(connect(options.run[0], options.run[1], options.dbcache, options.threads)))
        return
    chains = {
        f"{count:,} coins": growth_chain(options.folder, count, options.blocks)
        for count in (options.small, options.coins)
    }
    for chain in chains.values():
        make_store(chain, options)
    if options.make_only:
        return
    candidates = [(name, chain, False) for name, chain in chains.items()]
    if options.cold:
        candidates += [(f"{name}, cold", chain, True) for name, chain in chains.items()]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in candidates}
    for _ in range(options.rounds):
        for name, chain, cold in candidates:
            with copy_of(chain.store, cold) as datadir:
                results[name].append(spawn(datadir, chain.blocks, options))
    limit = options.dbcache + MARGIN_MB
    first = next(iter(results.values()))
    print(f"{options.blocks} blocks, {first[0]['transactions']:,} transactions, --dbcache={options.dbcache}")
    print(f"{'':<26}{'CPU µs':>9}{'µs':>9}{'ratio':>9}{'ratio':>9}{'peak MB':>9}{'own MB':>9}  {limit} MB")
    for name, runs in results.items():
        report(name, runs, results[name.replace(f"{options.coins:,}", f"{options.small:,}")], limit)


if __name__ == "__main__":
    main()
