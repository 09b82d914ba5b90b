"""`pickaxe mine --device asic` end to end: a node, an emulated board behind a pty, blocks that the node accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.params import network
from chain.script.addresses import encode_address
from tests.functional.processes import Node, nodes, pickaxe
from tests.support.emulator import emulator_process

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
    with nodes(node), emulator_process(tmp_path, *emulated) as emulator:
        node.start()
        where = ["--network", "dev", "--address", PAYOUT, "--rpc-url", node.url, "--rpc-cookie", str(node.cookie)]
        done = pickaxe("mine", *emulator.options, *where, "--blocks", "3", "--quiet")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mined 3 blocks" in done.stdout
        assert "hardware errors 0" in done.stdout
        assert node.call("getblockcount") == 3


def test_older_boards_are_named_and_judged(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with emulator_process(tmp_path, "u3", "--zero-bits", "8", "--link", str(link)) as emulator:
        assert emulator.option("--board") == "u3"
        named = pickaxe("asic", "info", str(link), "--board", "u3")
        assert named.returncode == 0, named.stderr
        assert named.stdout.startswith("AntMiner U3, 225 MHz")
        judged = pickaxe("asic", "test", str(link), "--board", "u3", "--seconds", "5", "--zero-bits", "8")
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "self-test passed" in judged.stdout
        emulator.tell("wrong 0.5")
        judged = pickaxe("asic", "test", str(link), "--board", "u3", "--seconds", "5", "--zero-bits", "8")
        assert judged.returncode == 1
        assert "wrong nonces" in judged.stderr
        other = pickaxe("asic", "info", str(link), "--board", "avalon")
        assert other.returncode == 1
        assert "Error: " in other.stderr
        assert "to a reset" in other.stderr


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
