"""What do the checksums over the database's pages cost while blocks are connected, and at the start?

    python -m benchmarks.page_checksums [--coins 1000000] [--blocks 24] [--dbcache 300 4] [--folder DIR]

Full blocks that spend random coins, old and new, are connected to a set of --coins coins on disk and flushed (at the
end, and before whenever --dbcache is full): the chains of benchmarks/growth.py, made once and kept in --folder. All
that follows a commit, reading its pages, their CRC-32 and writing the sums durably, is timed within each run; the share
is that of the whole run. A cache much too small for the work makes many commits and so the largest share. The best of
--rounds counts. Then comparing the whole database with its sums, as every start does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from benchmarks.growth import connect, copy_of, make_store
from benchmarks.growth_chain import growth_chain
from benchmarks.replay_chain import CACHE
from chain.storage import page_checksums
from chain.storage.page_checksums import PageChecksums


class Cost(NamedTuple):
    """Seconds of one run."""

    elapsed_share: float
    processor_share: float
    processor_s: float
    pages: int
    commits: int


def measure(datadir: Path, blocks: Path, dbcache_mb: int, threads: int) -> Cost:
    """Connect the blocks with a clock on every update of the sums."""
    elapsed = processor = 0.0
    pages = commits = 0
    update, page_sum = PageChecksums.update, page_checksums._sum

    def timed(sums: PageChecksums) -> None:
        nonlocal elapsed, processor, commits
        start, used = time.perf_counter(), time.thread_time()
        update(sums)
        elapsed += time.perf_counter() - start
        processor += time.thread_time() - used
        commits += 1

    def counted(page: bytes) -> int:
        nonlocal pages
        pages += 1
        return page_sum(page)

    with patch.object(PageChecksums, "update", timed), patch.object(page_checksums, "_sum", counted):
        run = connect(datadir, blocks, dbcache_mb, threads)
    return Cost(elapsed / run["elapsed_s"], processor / run["processor_s"], processor, pages, commits)


def verify(folder: Path) -> tuple[float, int]:
    """(processor seconds, bytes) of comparing a database with its sums."""
    start = time.process_time()
    PageChecksums(folder, repair="", read_only=True).verify()
    return time.process_time() - start, (folder / page_checksums.DATA_FILE).stat().st_size


def main() -> None:
    """Make what is missing, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coins", type=int, default=1_000_000)
    parser.add_argument("--blocks", type=int, default=24, help="full blocks to connect")
    parser.add_argument("--dbcache", type=int, nargs="+", default=[300, 4], help="MB for coins; one line for each")
    parser.add_argument("--folder", type=Path, default=CACHE, help="where chains and data folders are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="script threads")
    options = parser.parse_args()
    chain = growth_chain(options.folder, options.coins, options.blocks)
    make_store(chain, argparse.Namespace(dbcache=300, threads=options.threads))
    print(f"{options.coins:,} coins, {options.blocks} blocks")
    print(f"{'--dbcache':<11}{'commits':>9}{'pages':>9}{'µs a page':>11}{'CPU share':>11}{'time share':>12}")
    for dbcache in options.dbcache:
        costs = []
        for _ in range(options.rounds):
            with copy_of(chain.store, False) as datadir:
                costs.append(measure(datadir, chain.blocks, dbcache, options.threads))
        best = min(costs, key=lambda cost: cost.processor_share)
        share = min(cost.elapsed_share for cost in costs)
        each = best.processor_s / best.pages * 1e6
        print(f"{dbcache:<11}{best.commits:>9}{best.pages:>9}{each:>11.1f}{best.processor_share:>11.2%}{share:>12.2%}")
    with copy_of(chain.store, False) as datadir:
        taken, size = min(verify(datadir / "chainstate") for _ in range(options.rounds))
    print(f"at the start: {taken:.3f} s for {size >> 20} MB, {taken / options.coins * 1e6:.3f} s for a million coins")


if __name__ == "__main__":
    main()
