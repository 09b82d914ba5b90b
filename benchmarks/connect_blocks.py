"""How fast are blocks connected? Ours beside Bitcoin Core's kernel: same file, same run, as a ratio.

    python -m benchmarks.connect_blocks [--rounds 3] [--transactions 60000] [--profile] [--in-turns]

The file is a chain of blocks made by `benchmarks.replay_chain`. Each run is a process of its own with a new data
folder: it reads the file, connects the blocks that make the coins, then is timed while it connects the rest, flush to
disk included. Rounds alternate between the candidates and the best of each counts, since these machines are shared.
Processor time beside the elapsed time tells what a candidate needs from what the machine gave it: on a virtual machine
the hypervisor's share (steal) is printed too.

A shared machine may change its pace within seconds, and then whoever had the better moment is ahead. So at last both
connect each block right after one another, in one process, and the medians over the blocks are compared (--in-turns:
only that, --rounds times).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.profiling import print_stats
from benchmarks.replay_chain import CACHE, ReplayChain, describe, read_blocks, replay_chain


def connect_ours(path: Path, setup: int, folder: Path, threads: int, profile: bool) -> tuple[float, float, str]:
    """(seconds, seconds of processor time, tip hash) of `chain.chainstate`."""
    from chain import native
    from chain.chainstate import Chainstate
    from chain.params import network
    from chain.primitives.block import Block

    raws = read_blocks(path)
    native.load()  # compiled code is loaded at start-up, not while blocks arrive
    chain = Chainstate(network("regtest"), folder, script_threads=threads)
    for raw in raws[:setup]:
        chain.process_block(Block.parse(raw))
    profiler = cProfile.Profile() if profile else None
    start, cpu = time.perf_counter(), time.process_time()
    if profiler:
        profiler.enable()
    blocks = chain.read_ahead(map(Block.parse, raws[setup:]), lambda block: block)  # as an import does
    for block in blocks:
        chain.process_block(block, meanwhile=blocks.fetch)
    chain.flush()
    if profiler:
        profiler.disable()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    tip = chain.tip.hash[::-1].hex()
    chain.close()
    if profiler:
        print_stats(profiler)
    return seconds, cpu, tip


def kernel_chain(folder: Path, threads: int) -> Any:
    """A chain of libbitcoinkernel's in `folder`."""
    import pbk

    pbk.logging_set_options(pbk.LoggingOptions())
    options = pbk.ContextOptions()
    options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
    context = pbk.Context(options)
    chain_options = pbk.ChainstateManagerOptions(context, str(folder), str(folder / "blocks"))
    chain_options.set_worker_threads_num(threads)
    return pbk.ChainstateManager(chain_options)


def connect_kernel(path: Path, setup: int, folder: Path, threads: int) -> tuple[float, float, str]:
    """(seconds, seconds of processor time, tip hash) of libbitcoinkernel, in-process through its Python binding; the
    binding's own cost is two calls a block (its usual constructor of a block would cost it a tenth more).
    """
    from tests.support.kernel import kernel_block

    raws = read_blocks(path)
    chain = kernel_chain(folder, threads)
    for raw in raws[:setup]:
        chain.process_block(kernel_block(raw))
    start, cpu = time.perf_counter(), time.process_time()
    for raw in raws[setup:]:
        chain.process_block(kernel_block(raw))
    tip = str(chain.get_active_chain().block_tree_entries[-1].block_hash)
    del chain  # flushes
    return time.perf_counter() - start, time.process_time() - cpu, tip


def in_turns(chain: ReplayChain, threads: int, workers: int, folder: Path) -> tuple[float, float]:
    """Medians over the blocks of the kernel's elapsed and processor time against ours, with so many threads each."""
    from chain import native
    from chain.chainstate import Chainstate
    from chain.params import network
    from chain.primitives.block import Block
    from tests.support.kernel import kernel_block

    native.load()
    raws = read_blocks(chain.path)
    setup, measured = raws[: chain.setup_blocks], raws[chain.setup_blocks :]
    kernel = kernel_chain(folder / "kernel", workers)
    with Chainstate(network("regtest"), folder / "ours", script_threads=threads) as ours:
        for raw in setup:
            ours.process_block(Block.parse(raw))
            kernel.process_block(kernel_block(raw))
        blocks = ours.read_ahead(map(Block.parse, measured), lambda block: block)
        elapsed, processor = [], []
        for number, raw in enumerate(measured):
            turns: dict[str, Callable[[], object]] = {
                "ours": lambda: ours.process_block(next(blocks), meanwhile=blocks.fetch),
                "kernel": lambda raw=raw: kernel.process_block(kernel_block(raw)),  # type: ignore[misc]
            }
            took = {}
            for name in sorted(turns, reverse=bool(number % 2)):
                start, cpu = time.perf_counter(), time.process_time()
                turns[name]()
                took[name] = time.perf_counter() - start, time.process_time() - cpu
            elapsed.append(took["kernel"][0] / took["ours"][0])
            processor.append(took["kernel"][1] / took["ours"][1])
        if str(kernel.get_active_chain().block_tree_entries[-1].block_hash) != ours.tip.hash[::-1].hex():
            raise SystemExit("the candidates disagree about the tip: that is a bug, not a measurement")
    return statistics.median(elapsed), statistics.median(processor)


def print_in_turns(chain: ReplayChain, rounds: int) -> None:
    """A row for each pair of thread settings."""
    print(f"{'ours':>16s}{'libbitcoinkernel':>18s}   the kernel's time ÷ ours, each round   and processor time")
    for threads, workers in ((1, 1), (1, 2), (2, 1), (2, 2)):
        ratios = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="connect-blocks-") as folder:
                ratios.append(in_turns(chain, threads, workers, Path(folder)))
        times, cpus = ("  ".join(f"{ratio[kind]:.2f}" for ratio in ratios) for kind in (0, 1))
        print(f"{threads:8d} threads{workers:10d} workers   {times:38s}{cpus}")


def run_one(arguments: argparse.Namespace) -> None:
    """In the child: connect once and print one line of JSON."""
    folder = Path(tempfile.mkdtemp(prefix="connect-blocks-"))
    try:
        if arguments.run == "ours":
            seconds, cpu, tip = connect_ours(
                arguments.file, arguments.setup, folder, arguments.threads, arguments.profile
            )
        else:
            seconds, cpu, tip = connect_kernel(arguments.file, arguments.setup, folder, arguments.threads)
    finally:
        shutil.rmtree(folder)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "tip": tip, "peak_mib": peak_mib}))


def spawn(chain: ReplayChain, name: str, threads: int, profile: bool = False) -> dict[str, float | str]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.connect_blocks", "--run", name, "--threads", str(threads)]
    command += ["--file", str(chain.path), "--setup", str(chain.setup_blocks)] + ["--profile"] * profile
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return result


def _stolen() -> float:
    """Seconds that the processors would have run had the hypervisor let them (proc(5), /proc/stat); 0 if unknown."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=10)
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transactions", type=int, default=60_000)
    parser.add_argument("--profile", action="store_true", help="also show where our time goes")
    parser.add_argument("--in-turns", action="store_true", help="compare block by block only")
    parser.add_argument("--run", choices=["ours", "kernel"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--setup", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_one(arguments)
        return
    chain = replay_chain(CACHE, arguments.transactions)
    print(f"{chain.transactions} transactions in {chain.blocks} blocks; {describe(chain)}")
    if arguments.in_turns:
        print_in_turns(chain, arguments.rounds)
        return
    candidates = [("ours", 1), ("ours", 2), ("kernel", 0), ("kernel", 1), ("kernel", 2)]
    results: dict[tuple[str, int], list[dict[str, float | str]]] = defaultdict(list)
    began, stolen = time.perf_counter(), _stolen()
    for _ in range(arguments.rounds):
        for candidate in candidates:
            results[candidate].append(spawn(chain, *candidate))
    if len({run["tip"] for runs in results.values() for run in runs}) != 1:
        raise SystemExit("the candidates disagree about the tip: that is a bug, not a measurement")
    stolen = (_stolen() - stolen) / (time.perf_counter() - began) / (os.cpu_count() or 1)
    rates = {c: chain.transactions / min(float(run["seconds"]) for run in runs) for c, runs in results.items()}
    best = max(rate for (name, _), rate in rates.items() if name == "kernel")
    print(f"{'':26s}{'tx/s':>9s}{'µs/tx':>8s}{'CPU µs/tx':>11s}{'peak MiB':>10s}{'ratio to the kernel’s best':>28s}")
    for (name, threads), rate in rates.items():
        label = f"ours, {threads} script threads" if name == "ours" else f"libbitcoinkernel, {threads} workers"
        peak = max(int(run["peak_mib"]) for run in results[name, threads])
        cpu_us = 1e6 * min(float(run["cpu"]) for run in results[name, threads]) / chain.transactions
        print(f"{label:26s}{rate:9.0f}{1e6 / rate:8.1f}{cpu_us:11.1f}{peak:10d}{rate / best:28.2f}")
    print(f"the hypervisor took {stolen:.0%} of the processors' time meanwhile")
    print_in_turns(chain, 1)
    if arguments.profile:
        spawn(chain, "ours", 2, profile=True)


if __name__ == "__main__":
    main()
