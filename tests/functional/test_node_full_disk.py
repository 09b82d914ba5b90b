"""A node on a file system of its own that fills up: one line, nothing lost, and it goes on once there is space."""

from __future__ import annotations

import contextlib
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.functional.processes import CallError, Node, nodes
from tests.support.disk import resize_disk, small_disk

pytestmark = pytest.mark.functional

ADDRESS = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"


def test_a_disk_that_fills_up_stops_the_node_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3 << 20) as disk:
        node = Node(disk / "node", "regtest", "--connect", "0")
        node.folder.mkdir()
        (node.folder / "output").symlink_to(tmp_path / "output")  # what it says must not need space there
        with nodes(node):
            node.start()
            (disk / "ballast").write_bytes(bytes(2 << 20))
            reached: list[str] = []
            with contextlib.suppress(CallError, OSError, HTTPException, ValueError):
                while len(reached) < 10_000:
                    reached += node.call("generatetoaddress", 50, ADDRESS)
                    node.call("gettxoutsetinfo", "none")  # flushes
            assert node.process is not None
            assert node.process.wait(60) == 1
            assert reached
            said = node.output()
            assert said.startswith("Error: "), said
            assert "disk is full" in said
            assert said.count("\n") == 1, said
            resize_disk(disk, 64 << 20)
            node.start()
            assert node.call("getblockcount") >= len(reached)
            assert node.call("getblockhash", len(reached)) == reached[-1]
            assert node.call("verifychain", 4, 0) is True
            tip = node.call("generatetoaddress", 10, ADDRESS)[-1]
            stats = node.call("gettxoutsetinfo")
            node.stop()
            node.start()
            assert node.call("getbestblockhash") == tip
            assert node.call("gettxoutsetinfo")["hash_serialized_3"] == stats["hash_serialized_3"]
