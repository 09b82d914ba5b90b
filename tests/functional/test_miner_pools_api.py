"""Pools changed by a farm tool while `pickaxe mine` mines at them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.processes import free_port
from tests.support.stratum_server import PASSWORD, USER, StratumServer

pytestmark = pytest.mark.functional

TIMEOUT_S = 120


async def ask(port: int, command: str, parameter: object = None) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(json.dumps({"command": command, "parameter": parameter}).encode())
        answer: dict[str, Any] = json.loads((await reader.read()).rstrip(b"\0"))
        return answer
    finally:
        writer.close()


async def until_shares(server: StratumServer) -> None:
    """Until this pool has taken one more share."""
    before = len(server.pool.accepted)
    while len(server.pool.accepted) == before:  # noqa: ASYNC110 (the pool has no event for it)
        await asyncio.sleep(0.05)


def test_pools_are_added_switched_disabled_and_removed_while_mining(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with StratumServer() as first, StratumServer() as second:
            api_port = free_port()
            miner = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "node.cli.main", "mine", "--network", "dev", "--threads", "1", "--quiet"),
                *("--url", first.url, "--user", USER, "--api", str(api_port), "--api-write"),
                env={**os.environ, "PICKAXE_DATADIR": str(tmp_path), "PICKAXE_POOL_PASSWORD": PASSWORD},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                await play(api_port, first, second)
                output = (await miner.communicate())[0].decode()
                assert miner.returncode == 0, output
                assert PASSWORD not in output
            finally:
                if miner.returncode is None:
                    miner.kill()
                    print((await miner.communicate())[0].decode())

    async def play(port: int, first: StratumServer, second: StratumServer) -> None:
        await until_shares(first)
        escaped = PASSWORD.replace("\\", "\\\\").replace(",", "\\,")
        added = await ask(port, "addpool", f"{second.url},{USER},{escaped}")
        assert (added["STATUS"][0]["Code"], added["STATUS"][0]["Msg"]) == (55, f"Added pool 1: '{second.url}'")
        assert (await ask(port, "switchpool", 1))["STATUS"][0]["Code"] == 27
        await until_shares(second)
        places = (await ask(port, "pools"))["POOLS"]
        assert {place["POOL"]: (place["Priority"], place["Stratum Active"]) for place in places} == {
            0: (1, False),
            1: (0, True),
        }
        by_url = {place["URL"]: place for place in places}
        assert by_url[second.url]["Accepted"] >= 1
        assert by_url[second.url]["User"] == USER
        assert (await ask(port, "disablepool", 1))["STATUS"][0]["Code"] == 48
        await until_shares(first)
        assert (await ask(port, "disablepool", 0))["STATUS"][0]["Code"] == 51  # the last one
        assert (await ask(port, "removepool", 1))["STATUS"][0]["Code"] == 68
        assert (await ask(port, "removepool", 0))["STATUS"][0]["Code"] == 66
        assert [place["POOL"] for place in (await ask(port, "pools"))["POOLS"]] == [0]
        summary = (await ask(port, "summary"))["SUMMARY"][0]
        assert summary["Accepted"] > 0
        assert (await ask(port, "quit"))["STATUS"] == "BYE"

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))
