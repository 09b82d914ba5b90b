"""`pickaxe up` as a newcomer runs it: it mines, stops where it was told to, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from node.up import demo
from node.up.processes import choose_port
from node.up.screen import PlainScreen
from tests.support.disk import small_disk
from tests.support.waiting import until

pytestmark = pytest.mark.functional


def _up(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "node.cli.main", "up", "--datadir", str(folder), "--plain", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _ended(process: subprocess.Popen[str]) -> bool:
    """False; fails where it has ended, with what it said."""
    assert process.poll() is None, process.communicate()[0]
    return False


def _children_of(folder: Path) -> list[str]:
    """Command lines of processes that work in the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines


def test_blocks_are_mined_and_summed_up_then_more(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    output, _ = _up(folder, "--blocks", "7", "--pace", "0").communicate(timeout=180)
    assert "height 7: 7 blocks" in output, output
    assert "wallet miner: 0.00000000 confirmed, 0.00000000 pending, 70.00000000 immature" in output
    output, _ = _up(folder, "--blocks", "3", "--pace", "0").communicate(timeout=180)
    assert "height 10: 3 blocks" in output, output
    assert "100.00000000 immature" in output
    assert _children_of(folder) == []


def test_ctrl_c_stops_every_part(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = _up(folder)
    log = folder / "logs" / "miner.log"
    until("a block is mined", lambda: _ended(process) or (log.exists() and "accepted" in log.read_text()), 120)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert re.search(r"^height \d+: \d+ blocks", output, re.MULTILINE), output
    assert _children_of(folder) == []


def test_a_busy_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = _up(folder)
    try:
        log = folder / "logs" / "miner.log"
        until("the first is at work", lambda: _ended(process) or log.exists(), 120)
        second = _up(folder)
        output, _ = second.communicate(timeout=120)
        assert second.returncode == 1
        last = output.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert "lock" in last
        assert "Traceback" not in output
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_a_port_that_is_taken_meanwhile_is_left_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        ports = iter([quicker.getsockname()[1]])
        monkeypatch.setattr(demo, "choose_port", lambda preferred: next(ports, None) or choose_port(preferred))
        screen = PlainScreen(Console(file=io.StringIO()))
        run = demo.Demo(demo.DemoOptions(tmp_path / "demo", blocks=1, pace_s=0.0, threads=1), screen)
        asyncio.run(run.run())
    assert run.state.height == 1


def test_a_full_disk_is_named_as_the_reason(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as folder:
        (folder / "logs").mkdir()
        (folder / "logs" / "node.log").touch()
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        process = _up(folder)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "the node did not start: " in output
    assert "No space left on device" in output
