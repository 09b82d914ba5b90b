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


@pytest.mark.parametrize(
    "emulated",
    [
        ["bm1370", "--chips", "2"],
        ["u3"],
        ["avalon"],
        ["bitaxe-gamma"],
        ["gekko-r606"],
        pytest.param(["gekko-compac"], marks=pytest.mark.slow),
        pytest.param(["u1"], marks=pytest.mark.slow),  # whole nonce ranges of seconds
        pytest.param(["erupter"], marks=pytest.mark.slow),
        pytest.param(["icarus"], marks=pytest.mark.slow),
    ],
)
def test_blocks_from_an_emulated_board_are_accepted(emulated: list[str], tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    emulator = subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", "asic", "emulate", *emulated],
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


def test_older_boards_are_named_and_judged(tmp_path: Path) -> None:
    link = tmp_path / "board"
    emulator = subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", "asic", "emulate", "u3", "--zero-bits", "8", "--link", str(link)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        assert emulator.stdout is not None
        assert emulator.stdin is not None
        assert "--board u3" in "".join(line for line in [emulator.stdout.readline(), emulator.stdout.readline()])
        named = pickaxe("asic", "info", str(link), "--board", "u3")
        assert named.returncode == 0, named.stderr
        assert named.stdout.startswith("AntMiner U3, 225 MHz")
        judged = pickaxe("asic", "test", str(link), "--board", "u3", "--seconds", "5", "--zero-bits", "8")
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "self-test passed" in judged.stdout
        emulator.stdin.write("wrong 0.5\n")
        emulator.stdin.flush()
        judged = pickaxe("asic", "test", str(link), "--board", "u3", "--seconds", "5", "--zero-bits", "8")
        assert judged.returncode == 1
        assert "wrong nonces" in judged.stderr
        other = pickaxe("asic", "info", str(link), "--board", "avalon")
        assert other.returncode == 1
        assert "Error: " in other.stderr
        assert "to a reset" in other.stderr
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
