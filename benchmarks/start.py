"""How long until a node answers, and until `pickaxe --help` does?

    python -m benchmarks.start [--headers 100000] [--rounds 5] [--imports]

A regtest data folder with that many headers is made once a run. Then `pickaxe node` is started on it again and again,
timed from the start of the process until its RPC answers that it knows all headers; nothing of the data folder is
removed from the page cache. Python finds its byte code, as in any installation: a first start, which is not counted,
writes it to a folder of this run's own, whatever PYTHONDONTWRITEBYTECODE says. (Compiling all modules at every start
would take 0.4 s more.) `--help` is timed from start to end. The medians count; processor time is the process's
own, all threads. `--imports` adds the modules whose import takes the node longest.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.header import BlockHeader
from chain.primitives.target import target_from_nbits
from tests.functional.processes import Node, nodes

LIMIT_S = {"node": 2.0, "help": 0.2}


def make_headers(folder: Path, count: int) -> None:
    """A chain of that many headers, each with proof of work (two tries on average), in a data folder."""
    params, rng = network("regtest"), random.Random(1)
    with Chainstate(params, folder / params.data_folder, script_threads=0) as chain:
        prev = params.genesis.header
        target = target_from_nbits(prev.nbits) or 0
        headers: list[BlockHeader] = []
        while len(headers) < count:
            root = rng.randbytes(32)
            nonce = 0
            while True:
                header = BlockHeader.build(4, prev.hash, root, prev.time + 60, prev.nbits, nonce)
                if int.from_bytes(header.hash, "little") <= target:
                    break
                nonce += 1
            headers.append(header)
            prev = header
        chain.accept_headers(headers)


def start_node(folder: Path, count: int) -> tuple[float, float]:
    """(elapsed seconds, processor seconds) until RPC answers."""
    node = Node(folder, "regtest", "--no-listen")
    with nodes(node):
        start = time.perf_counter()
        node.start()
        known = node.call("getblockchaininfo")["headers"]
        elapsed = time.perf_counter() - start
        if node.process is None or known != count:
            raise SystemExit(f"the node knows {known} headers, not {count}: that is a bug, not a measurement")
        times = psutil.Process(node.process.pid).cpu_times()
        node.stop()
    return elapsed, times.user + times.system


def show_help() -> tuple[float, float]:
    """(elapsed seconds, processor seconds) of `pickaxe --help`."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "node.cli.main", "--help"], stdout=subprocess.DEVNULL)
    waited = psutil.Process(process.pid)
    times = waited.cpu_times()
    while process.poll() is None:
        try:
            times = waited.cpu_times()
        except psutil.Error:
            break
        time.sleep(0.002)
    process.wait()
    return time.perf_counter() - start, times.user + times.system


def slow_imports(count: int = 15) -> None:
    """What the node's modules cost to import, the dearest by themselves first."""
    code = "import node.app, node.cli.node"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    rows = re.findall(r"import time: +(\d+) \| +(\d+) \| +(\S+)", done.stderr)
    total = sum(int(own) for own, _, _ in rows)
    print(f"\n{len(rows)} modules, {total / 1e3:.0f} ms; the dearest by themselves:")
    for own, _, name in sorted(rows, key=lambda row: -int(row[0]))[:count]:
        print(f"  {int(own) / 1e3:7.1f} ms  {name}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--imports", action="store_true", help="also what the node's imports cost")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "code"))
        measure(Path(folder, "data"), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Start both again and again, and print the table."""
    print(f"{'':<44}{'elapsed s':>10}{'CPU s':>8}{'limit s':>9}{'of it':>7}")
    show_help()
    helps = [show_help() for _ in range(options.rounds)]
    make_headers(folder, options.headers)
    start_node(folder, options.headers)
    starts = [start_node(folder, options.headers) for _ in range(options.rounds)]
    lines = {
        f"pickaxe node with {options.headers:,} headers, to RPC": ("node", starts),
        "pickaxe --help": ("help", helps),
    }
    for name, (key, times) in lines.items():
        elapsed, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:<44}{elapsed:>10.3f}{processor:>8.3f}{LIMIT_S[key]:>9.1f}{elapsed / LIMIT_S[key]:>7.0%}")
    if options.imports:
        slow_imports()


if __name__ == "__main__":
    main()
