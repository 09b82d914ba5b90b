"""`pickaxe mine` as a user runs it: a process of its own against a node that judges its blocks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chain.params import NETWORKS
from chain.script.addresses import encode_address
from tests.support.miner_process import MinerProcess, miner_environment
from tests.support.template_node import PASSWORD, USER, TemplateNode

pytestmark = pytest.mark.functional

DEV = NETWORKS["dev"]
PAYOUT = b"\x00\x14" + bytes(range(20))
ADDRESS = encode_address(PAYOUT, DEV.addresses) or ""
TIMEOUT_S = 120


@pytest.fixture
def environment(pytestconfig: pytest.Config, tmp_path: Path) -> dict[str, str]:
    return miner_environment(pytestconfig, tmp_path, PICKAXE_RPC_PASSWORD=PASSWORD)


def login(node: TemplateNode) -> list[str]:
    return ["--threads", "2", "--address", ADDRESS, "--rpc-url", node.url, "--rpc-user", USER]


def play(scenario: Callable[[TemplateNode], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        node = TemplateNode()
        await node.start()
        try:
            await asyncio.wait_for(scenario(node), TIMEOUT_S)
        finally:
            await node.stop()

    asyncio.run(run())


def test_mines_the_blocks_asked_for_and_ends(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        async with await MinerProcess.start(environment, *login(node), "--blocks", "20") as miner:
            status, output = await miner.finish()
        assert (status, node.complaints) == (0, []), output
        assert len(node.blocks) == 20
        assert "mined 20 blocks" in output
        assert "rejected 0, stale 0, hardware errors 0" in output
        assert all(block.transactions[0].scripts[0] == PAYOUT for block in node.blocks)

    play(scenario)


def test_control_c_ends_with_a_summary_and_status_zero(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        node.nbits = 0x1B00FFFF  # far too hard to find anything
        async with await MinerProcess.start(environment, *login(node)) as miner:
            await miner.line_with("mining on node")
            await asyncio.sleep(1)
            assert "mined 0 blocks" in await miner.interrupt()

    play(scenario)


def test_more_control_c_does_not_spoil_the_end(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        node.nbits = 0x1B00FFFF
        async with await MinerProcess.start(environment, *login(node)) as miner:
            await miner.line_with("mining on node")
            end = asyncio.create_task(miner.finish())
            while not end.done():  # one must fall between the loop's end and the program's
                with contextlib.suppress(ProcessLookupError):  # already through
                    miner.process.send_signal(signal.SIGINT)
                await asyncio.sleep(0.002)
            status, output = await end
            assert status == 0, output
            assert "mined 0 blocks" in output

    play(scenario)


def test_cookie_and_datadir_are_found(environment: dict[str, str], tmp_path: Path) -> None:
    async def scenario(node: TemplateNode) -> None:
        node.credentials = ("__cookie__", "0123abcd")
        cookie = tmp_path / DEV.data_folder / ".cookie"
        cookie.parent.mkdir(parents=True)
        cookie.write_text("__cookie__:0123abcd")
        arguments = ("--address", f"addr({ADDRESS})", "--rpc-url", node.url, "--blocks", "1")
        async with await MinerProcess.start(environment, *arguments) as miner:
            status, output = await miner.finish()
        assert status == 0, output
        assert len(node.blocks) == 1

    play(scenario)


def test_wrong_password_is_one_line_and_a_failure(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        node.credentials = (USER, "another")
        async with await MinerProcess.start(environment, *login(node)) as miner:
            status, output = await miner.finish()
        assert status == 1
        assert output.strip().splitlines() == [f"Error: node {node.url.rstrip('/')} refuses this user and password"]

    play(scenario)


def test_node_of_another_network_is_refused(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        node.genesis_hex = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
        async with await MinerProcess.start(environment, *login(node)) as miner:
            status, output = await miner.finish()
        assert status == 1
        assert "is not on network 'dev'" in output

    play(scenario)


def test_waits_for_a_node_that_is_not_up_yet_and_survives_its_restart(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        await node.stop()
        async with await MinerProcess.start(environment, *login(node), "--blocks", "3", "--pace", "0.1") as miner:
            await miner.line_with("does not answer")
            await node.start()
            await miner.line_with("block 1 accepted")
            status, output = await miner.finish()
        assert status == 0, output
        assert len(node.blocks) == 3

    play(scenario)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--address", "nonsense"), "is not an address of network 'dev'"),
        (("--address", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"), "is not an address of network 'dev'"),
        (("--address", "wpkh(xpub)"), "cannot be mined to"),
        (("--address", "raw(zz)"), "does not hold a script"),
        (("--address", ADDRESS, "--network", "nowhere"), "There is no network 'nowhere'"),
        (("--address", ADDRESS, "--rpc-url", "127.0.0.1"), "is not an RPC address"),
    ],
)
def test_bad_arguments_are_one_line(environment: dict[str, str], arguments: tuple[str, ...], complaint: str) -> None:
    async def scenario(node: TemplateNode) -> None:
        async with await MinerProcess.start(environment, *arguments) as miner:
            status, output = await miner.finish()
        assert status == 1
        assert complaint in output
        assert output.startswith("Error: ")
        assert len(output.strip().splitlines()) == 1

    play(scenario)


def test_the_port_that_a_node_wrote_down_is_used(environment: dict[str, str], tmp_path: Path) -> None:
    async def scenario(node: TemplateNode) -> None:
        folder = tmp_path / DEV.data_folder
        folder.mkdir(parents=True)
        (folder / ".cookie").write_text(f"{USER}:{PASSWORD}")
        (folder / "rpc.port").write_text(str(node.port))
        async with await MinerProcess.start(environment, "--address", ADDRESS, "--blocks", "2") as miner:
            status, output = await miner.finish()
        assert status == 0, output
        assert len(node.blocks) == 2

    play(scenario)


def test_json_lines_for_other_programs(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        async with await MinerProcess.start(environment, "--json", *login(node), "--blocks", "2") as miner:
            status, output = await miner.finish()
        assert status == 0, output
        lines = [json.loads(line) for line in output.split("\n") if line]
        assert lines[-1]["accepted"] == 2
        assert [device["name"] for device in lines[-1]["devices"]] == ["cpu0", "cpu1"]
        assert any("block 2 accepted" in line.get("message", "") for line in lines)

    play(scenario)


def test_mining_goes_on_where_the_disk_of_the_log_is_full(environment: dict[str, str]) -> None:
    async def scenario(node: TemplateNode) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli.main", "mine", "--network", "dev", "--quiet", "--blocks", "3"),
            *login(node),
            env=environment,
            stdout=full,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(full)
        _, said = await process.communicate()
        assert (process.returncode, len(node.blocks)) == (0, 3), said
        line = b"pickaxe: cannot write the output (No space left on device): mining goes on without it\n"
        assert said == line

    play(scenario)
