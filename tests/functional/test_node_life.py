"""Starting, stopping and everything that can go wrong on the way: one line for the user, nothing lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functional.processes import CallError, Node, nodes, pickaxe
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.functional

ADDRESS = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"


def _one_line(text: str) -> str:
    assert text.startswith("Error: "), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


def test_a_restart_continues_where_it_stopped(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        tip = node.call("generatetoaddress", 5, ADDRESS)[-1]
        stats = node.call("gettxoutsetinfo")
        node.stop()
        assert not node.cookie.exists()
        node.start()
        assert node.call("getbestblockhash") == tip
        assert node.call("gettxoutsetinfo")["hash_serialized_3"] == stats["hash_serialized_3"]


def test_a_killed_node_comes_back_with_its_blocks(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        tip = node.call("generatetoaddress", 30, ADDRESS)[-1]
        node.kill()
        node.start()
        assert node.call("getbestblockhash") == tip


def test_compiled_code_is_loaded_while_rpc_is_served(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest", "--debug", "all")
    log = tmp_path / "regtest" / "debug.log"

    heights: list[int] = []

    def loaded() -> bool:
        heights.append(node.call("getblockcount"))
        return "Compiled code is loaded" in log.read_text(errors="replace")

    with nodes(node):
        node.start()
        until("the compiled code is loaded", loaded, 300)  # compiled, even, if nobody has done that before
        node.stop()
    assert set(heights) == {0}
    assert len(heights) > 1, "nothing was served before the code was there"
    assert "Could not load compiled code" not in log.read_text(errors="replace")


@pytest.mark.parametrize("seconds", [0.0, 0.5, 0.8, 1.2])
def test_a_stop_does_not_wait_for_compiled_code(tmp_path: Path, seconds: float) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        tip = node.call("generatetoaddress", 1, ADDRESS)[-1]
        time.sleep(seconds)  # wherever it is by then
        node.stop()  # with exit status 0
        assert node.output() == ""
        node.start()
        assert node.call("getbestblockhash") == tip


@pytest.mark.parametrize("option", ["--reindex", "--reindex-chainstate"])
def test_a_reindex_rebuilds_the_same_state(tmp_path: Path, option: str) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        tip = node.call("generatetoaddress", 40, ADDRESS)[-1]
        stats = node.call("gettxoutsetinfo")
        node.stop()
        node.start(option)
        assert node.call("getbestblockhash") == tip
        assert node.call("gettxoutsetinfo")["hash_serialized_3"] == stats["hash_serialized_3"]
        node.stop()
        node.start()
        assert node.call("getbestblockhash") == tip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        assert node.process is not None
        node.process.send_signal(number)
        assert node.process.wait(60) == 0
        assert node.output() == ""


def test_the_stop_call_answers_and_ends_waiting_calls(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        assert node.call("stop") == "Pickaxe stopping"
        assert node.process is not None
        assert node.process.wait(60) == 0


def test_a_second_node_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        cookie = node.cookie.read_text()
        second = pickaxe("node", "--network", "regtest", "--datadir", str(tmp_path), "--rpc-port", str(free_port()))
        assert second.returncode == 1
        assert "Cannot obtain a lock on directory" in _one_line(second.stderr)
        assert node.cookie.read_text() == cookie
        assert node.call("getblockcount") == 0


def test_a_taken_rpc_port_is_named(tmp_path: Path) -> None:
    node = Node(tmp_path / "a", "regtest")
    with nodes(node):
        node.start()
        options = ["--network", "regtest", "--datadir", str(tmp_path / "b"), "--no-listen"]
        second = pickaxe("node", *options, "--rpc-port", str(node.rpc_port))
        assert second.returncode == 1
        assert f"127.0.0.1:{node.rpc_port}" in _one_line(second.stderr)


def test_a_folder_of_another_network_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, "regtest")
    with nodes(node):
        node.start()
        node.stop()
    shutil.copytree(tmp_path / "regtest", tmp_path / "dev")
    wrong = pickaxe(
        "node", "--network", "dev", "--datadir", str(tmp_path), "--no-listen", "--rpc-port", str(free_port())
    )
    assert wrong.returncode == 1
    _one_line(wrong.stderr)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--network", "moon"], "moon"),
        (["--network", "regtest", "--loadblock", "/no/such/file"], "/no/such/file"),
        (["--network", "regtest", "--assumevalid", "xyz"], "xyz"),
        (["--network", "regtest", "--bind", "nowhere:port"], "nowhere:port"),
        (["--network", "regtest", "--prune", "100"], "minimum of 550 MiB"),
        (["--config", "/no/such.toml"], "/no/such.toml"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    failed = pickaxe("node", "--datadir", str(tmp_path), "--rpc-port", str(free_port()), "--no-listen", *arguments)
    assert failed.returncode == 1
    assert complaint in _one_line(failed.stderr)


def test_a_bad_config_file_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "pickaxe.toml").write_text("[peers]\nlisten = 3\n")
    failed = pickaxe("node", "--network", "regtest", "--datadir", str(tmp_path))
    assert failed.returncode == 1
    line = _one_line(failed.stderr)
    assert "pickaxe.toml" in line
    assert "peers.listen must be true or false" in line


def test_a_full_disk_stops_the_node_and_loses_nothing(tmp_path: Path) -> None:
    """No file may exceed a limit, which is how a full disk looks to a program: a write fails half-way."""
    limit = 300_000  # bytes
    command = [sys.executable, "-m", "node.cli.main", "node", "--network", "regtest", "--datadir", str(tmp_path)]
    node = Node(tmp_path, "regtest")
    node.folder.mkdir(parents=True, exist_ok=True)

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with nodes(node), (tmp_path / "output").open("ab") as output:
        ports = ["--bind", node.address, "--rpc-port", str(node.rpc_port), "--quiet"]
        node.process = subprocess.Popen([*command, *ports], stdout=output, stderr=output, preexec_fn=starve)
        _wait_for_answer(node)
        reached: list[str] = []
        with contextlib.suppress(CallError, OSError, ValueError):
            while len(reached) < 10_000:
                reached += node.call("generatetoaddress", 50, ADDRESS)
        assert node.process.wait(60) == 1
        assert "disk is full" in _one_line(node.output())
        node._forget()
        node.start()
        height = node.call("getblockcount")
        assert height >= len(reached)
        assert node.call("verifychain", 4, 0) is True
        node.call("generatetoaddress", 1, ADDRESS)
        assert node.call("getblockcount") == height + 1


def _wait_for_answer(node: Node) -> None:
    from tests.support.waiting import until

    def answers() -> bool:
        try:
            return bool(node.call("getblockcount") == 0)
        except (OSError, CallError, ValueError):
            return False

    until("the node answers", answers)


def test_bitcoind_takes_cores_options_and_files(tmp_path: Path) -> None:
    rpc_port, port = free_port(), free_port()
    (tmp_path / "bitcoin.conf").write_text(
        f"regtest=1\n[regtest]\nport={port}\nrpcport={rpc_port}\nconnect=0\nprinttoconsole=0\nbind=127.0.0.1\n"
    )
    daemon = [sys.executable, "-m", "node.bitcoind", f"-datadir={tmp_path}"]
    node = Node(tmp_path, "regtest")
    node.port, node.rpc_port = port, rpc_port
    with nodes(node), (tmp_path / "output").open("ab") as output:
        node.process = subprocess.Popen([*daemon, "-debug", "-uacomment=x"], stdout=output, stderr=output)
        _wait_for_answer(node)
        assert node.call("getnetworkinfo")["subversion"] == "/Pickaxe:0.1.0(x)/"
        folders = {p.name for p in (tmp_path / "regtest").iterdir() if p.is_dir()}
        assert folders <= {"blocks", "chainstate", "indexes", "wallets"}
        assert list((tmp_path / "regtest" / "wallets").iterdir()) == []
        assert (tmp_path / "regtest" / "debug.log").read_text("utf-8")
        assert node.call("stop")
        assert node.process.wait(60) == 0
        assert node.output() == ""


@pytest.mark.parametrize(
    ("arguments", "status", "stream", "text"),
    [
        (["-h"], 0, "stdout", "Options"),
        (["-version"], 0, "stdout", "version"),
        (["-fakearg"], 1, "stderr", "Error parsing command line arguments: Invalid parameter -fakearg"),
        (
            ["-datadir=/no/such/folder"],
            1,
            "stderr",
            'Error: Specified data directory "/no/such/folder" does not exist.',
        ),
    ],
)
def test_bitcoind_exit_codes(arguments: list[str], status: int, stream: str, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "node.bitcoind", *arguments], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.returncode == status
    assert text in getattr(done, stream)


@pytest.mark.parametrize("option", ["-pid", "-rpccookiefile"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, option: str) -> None:
    """What is in its place, here a folder, stays."""
    place = tmp_path / "place"
    place.mkdir()
    for value in ("/", str(place), str(tmp_path / "no" / "file")):
        done = subprocess.run(
            [sys.executable, "-m", "node.bitcoind", f"-datadir={tmp_path}", "-regtest", f"{option}={value}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert f"Cannot write {value}: " in _one_line(done.stderr)
    assert place.is_dir()
