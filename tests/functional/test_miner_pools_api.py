"""Pools changed by a farm tool while `pickaxe mine` mines at them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.miner_process import MinerProcess, miner_environment
from tests.support.pool_server import PASSWORD, USER
from tests.support.ports import free_port
from tests.support.stratum_server import StratumServer
from tests.support.waiting import eventually

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
    await eventually("another share", lambda: len(server.pool.accepted) > before)


async def pools_once_accepted(port: int, url: str) -> list[dict[str, Any]]:
    """What the API says of the pools when this one's answer to a share has come."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            places: list[dict[str, Any]] = (await ask(port, "pools"))["POOLS"]
            if any(place["URL"] == url and place["Accepted"] for place in places):
                return places
            await asyncio.sleep(0.05)


def test_pools_are_added_switched_disabled_and_removed_while_mining(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    environment = miner_environment(pytestconfig, tmp_path, PICKAXE_POOL_PASSWORD=PASSWORD)

    async def scenario() -> None:
        async with StratumServer() as first, StratumServer() as second:
            api_port = free_port()
            where = ("--url", first.url, "--user", USER, "--api", str(api_port), "--api-write")
            async with await MinerProcess.start(environment, *where) as miner:
                await play(api_port, first, second)
                status, output = await miner.finish()
                assert status == 0, output
                assert PASSWORD not in output

    async def play(port: int, first: StratumServer, second: StratumServer) -> None:
        await until_shares(first)
        escaped = PASSWORD.replace("\\", "\\\\").replace(",", "\\,")
        added = await ask(port, "addpool", f"{second.url},{USER},{escaped}")
        assert (added["STATUS"][0]["Code"], added["STATUS"][0]["Msg"]) == (55, f"Added pool 1: '{second.url}'")
        assert (await ask(port, "switchpool", 1))["STATUS"][0]["Code"] == 27
        places = await pools_once_accepted(port, second.url)
        assert {place["POOL"]: (place["Priority"], place["Stratum Active"]) for place in places} == {
            0: (1, False),
            1: (0, True),
        }
        assert {place["URL"]: place["User"] for place in places} == {first.url: USER, second.url: USER}
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
