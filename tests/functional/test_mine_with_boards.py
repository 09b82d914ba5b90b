"""`pickaxe mine --device asic` end to end: a node, an emulated board behind a pty, blocks that the node accepts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.params import network
from chain.script.addresses import encode_address
from tests.functional.processes import Node, nodes, pickaxe

pytestmark = pytest.mark.functional

PAYOUT = encode_address(b"\x00\x14" + bytes(range(20)), network("dev").addresses) or ""


def test_blocks_from_an_emulated_board_are_accepted(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    emulator = subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", "asic", "emulate", "bm1370", "--chips", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        with nodes(node):
            node.start()
            assert emulator.stdout is not None
            advice = next(line for line in emulator.stdout if "--port" in line)  # it says how to mine on it
            board = re.findall(r"--\S+ \S+", advice)
            options = [part for option in board if "address" not in option for part in option.split()]
            where = ["--network", "dev", "--address", PAYOUT, "--rpc-url", node.url, "--rpc-cookie", str(node.cookie)]
            done = pickaxe("mine", *options, *where, "--blocks", "3", "--quiet")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "mined 3 blocks" in done.stdout
            assert "hardware errors 0" in done.stdout
            assert node.call("getblockcount") == 3
    finally:
        emulator.send_signal(signal.SIGINT)
        emulator.communicate(timeout=30)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--device", "asic"], "--port"),
        (["--port", "/dev/ttyACM0"], "--device asic"),
        (["--device", "asic", "--port", "/dev/ttyACM0", "--threads", "2"], "--threads"),
        (["--device", "asic", "--port", "/dev/ttyACM0", "--model", "bm9999"], "bm9999"),
    ],
)
def test_options_that_do_not_fit_are_named(options: list[str], wanted: str, tmp_path: Path) -> None:
    done = pickaxe("mine", "--network", "dev", "--datadir", str(tmp_path), "--address", PAYOUT, *options)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert wanted in done.stderr
    assert len(done.stderr.splitlines()) == 1
