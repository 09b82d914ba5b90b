"""What does a block cost in a reorganisation? Taking off and connecting, beside connecting for the first time.

    python -m benchmarks.reorg [--blocks 100] [--per-block 2000] [--rounds 3] [--profile]

A chain of full blocks is connected; then comes another branch with one block more, which holds the same transactions
in other blocks, as the branches of a real fork mostly do. Its blocks are handed over beforehand and only stored, so
that one call takes --blocks blocks off and connects as many others. Every script is run both times. Each round is a
process of its own with a new data folder; the medians count, in processor time of all threads and in elapsed time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.profiling import print_profile
from benchmarks.replay_chain import CACHE, ReplayChain, iterate_blocks, replay_chain
from chain import native
from chain.chainstate import Chainstate
from chain.consensus.block import witness_commitment
from chain.events import BlockConnected, BlockDisconnected
from chain.index import BlockIndexEntry
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount
from chain.script.script import push_int


def other_block(prev: BlockHeader, height: int, transactions: list[Transaction]) -> Block:
    """A block after `prev` with these transactions and a coinbase of its own."""
    commitment = witness_commitment(merkle_root([ZERO_HASH, *[tx.wtxid for tx in transactions]])[0])
    coinbase = Transaction.build(
        2,
        [TxIn(NULL_OUTPOINT, push_int(height) + b"\x05other", witness=(ZERO_HASH,))],
        [TxOut(Amount(0), b"\x51"), TxOut(Amount(0), b"\x6a\x24\xaa\x21\xa9\xed" + commitment)],
    )
    root, _ = merkle_root([coinbase.txid, *[tx.txid for tx in transactions]])
    nonce, target = 0, target_from_nbits(prev.nbits) or 0
    while True:
        header = BlockHeader.build(4, prev.hash, root, prev.time + 600, prev.nbits, nonce)
        if int.from_bytes(header.hash, "little") <= target:
            return Block.build(header, [coinbase, *transactions])
        nonce += 1


def measure(path: Path, setup: int, threads: int, profile: bool) -> dict[str, float]:
    """In the child: seconds for connecting at first, and for the reorganisation."""
    params = network("regtest")
    native.load()
    with (
        tempfile.TemporaryDirectory(prefix="reorg-") as folder,
        Chainstate(params, Path(folder), script_threads=threads) as chain,
    ):
        fork: BlockIndexEntry = chain.tip
        first_s, first_cpu_s, blocks = 0.0, 0.0, 0
        other: list[bytes] = []
        prev = chain.tip.header
        for number, raw in enumerate(iterate_blocks(path)):
            if number == setup:
                fork, prev = chain.tip, chain.tip.header
            start, start_cpu = time.perf_counter(), time.process_time()
            block = Block.parse(raw)
            chain.process_block(block)
            if number >= setup:
                first_s += time.perf_counter() - start
                first_cpu_s += time.process_time() - start_cpu
                blocks += 1
                made = other_block(prev, fork.height + blocks, block.transactions[1:])
                other.append(made.raw)
                prev = made.header
        last = other_block(prev, fork.height + blocks + 1, [])
        for raw in other:
            chain.accept_block(Block.parse(raw))
        if chain.tip.height != fork.height + blocks or chain.activate_best_chain():
            raise SystemExit("the other branch was taken too early: that is a bug, not a measurement")
        chain.accept_block(last)
        marks: list[tuple[float, float]] = []

        def mark() -> None:
            marks.append((time.perf_counter(), time.process_time()))

        disconnect_tip = chain._disconnect_tip

        def disconnect_and_mark() -> None:  # the reorganisation is one call: note when its first half ends
            disconnect_tip()
            if chain.tip is fork:
                mark()

        chain._disconnect_tip = disconnect_and_mark  # type: ignore[method-assign]
        mark()
        if profile:
            print_profile(chain.activate_best_chain)
            return {}
        events = chain.activate_best_chain()
        mark()
        off = sum(isinstance(event, BlockDisconnected) for event in events)
        on = sum(isinstance(event, BlockConnected) for event in events)
        if (off, on) != (blocks, blocks + 1) or chain.tip.hash != last.hash:
            raise SystemExit("the reorganisation went another way: that is a bug, not a measurement")
    times = [[end - begin for begin, end in zip(a, b, strict=True)] for a, b in pairwise(marks)]
    return {
        "first_s": first_s / blocks,
        "first_cpu_s": first_cpu_s / blocks,
        "off_s": times[0][0] / blocks,
        "off_cpu_s": times[0][1] / blocks,
        "on_s": times[1][0] / blocks,
        "on_cpu_s": times[1][1] / blocks,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def spawn(chain: ReplayChain, threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reorg", "--run", str(chain.path), "--setup", str(chain.setup_blocks)]
    done = subprocess.run([*command, "--threads", str(threads)], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--per-block", type=int, default=2000, help="transactions in each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="script threads")
    parser.add_argument("--profile", action="store_true", help="show where the time of the reorganisation goes")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--setup", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options.run, options.setup, options.threads, False)))
        return
    chain = replay_chain(CACHE, options.blocks * options.per_block, options.per_block)
    if options.profile:
        measure(chain.path, chain.setup_blocks, options.threads, True)
        return
    runs: list[dict[str, Any]] = [spawn(chain, options.threads) for _ in range(options.rounds)]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    print(f"{chain.blocks} blocks of {options.per_block} transactions each way; peak {median['peak_mb']:.0f} MB")
    print(f"{'ms a block':<40}{'CPU':>9}{'elapsed':>9}{'ratio':>9}{'ratio':>9}")
    lines = {
        "connected for the first time": "first",
        "taken off": "off",
        "the others connected": "on",
    }
    for name, key in lines.items():
        cpu, elapsed = median[f"{key}_cpu_s"], median[f"{key}_s"]
        print(
            f"{name:<40}{cpu * 1e3:>9.1f}{elapsed * 1e3:>9.1f}"
            f"{cpu / median['first_cpu_s']:>9.2f}{elapsed / median['first_s']:>9.2f}"
        )


if __name__ == "__main__":
    main()
