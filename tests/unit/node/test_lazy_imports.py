"""What a command must not import before it is needed: `pickaxe --help` answers at once, a node starts in a second.

Times are `benchmarks/start.py`'s; these tests name the module that makes them worse.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    *("numba", "llvmlite", "numpy", "pyopencl", "lmdb", "coincurve", "cffi", "cryptography", "aiohttp", "asyncio"),
    *("ssl", "rich", "serial", "psutil", "prometheus_client", "pynvml", "sqlite3", "http", "multiprocessing"),
}
OURS = {"chain", "p2p", "miner", "wallet", "pool", "node.app", "node.up", "node.rpc", "node.config"}

#: Code that stands for a command, and what it has no business with.
CASES = {
    "pickaxe --help": (
        "from node.cli.main import cli; cli(['--help'], standalone_mode=False)",
        HEAVY | OURS,
    ),
    "pickaxe --version": (
        "from node.cli.main import cli; cli(['--version'], standalone_mode=False)",
        HEAVY | OURS,
    ),
    "pickaxe node --help": (
        "from node.cli.main import cli; cli(['node', '--help'], standalone_mode=False)",
        {"numba", "llvmlite", "numpy", "pyopencl", "lmdb", "aiohttp", "rich", "serial", "sqlite3", "p2p", "miner"}
        | {"node.app", "node.rpc"},
    ),
    "pickaxe node": (
        "import node.app",
        {"numba", "llvmlite", "numpy", "pyopencl", "rich", "serial", "sqlite3", "miner"},
    ),
}


@pytest.mark.parametrize("command", CASES)
def test_a_command_imports_no_more_than_it_needs(command: str) -> None:
    code, forbidden = CASES[command]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, sep='\\n', file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "sys" in loaded
    assert not loaded & forbidden, f"{command} imports {sorted(loaded & forbidden)}"
