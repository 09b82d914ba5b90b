"""`pickaxe mine --url` as a user runs it: pools in this process, and a node behind a pool that judges the blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chain.params import NETWORKS
from tests.functional.processes import Node, nodes
from tests.support.miner_process import MinerProcess, miner_environment
from tests.support.pool_server import PASSWORD, USER, NodePool, example_job
from tests.support.stratum_server import (
    Pool,
    StratumServer,
    absurd_difficulties,
    only_garbage,
    some_garbage,
)
from tests.support.stratum_v2_server import PoolV2, StratumV2Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.functional

DEV = NETWORKS["dev"]
PAYOUT = b"\x00\x14" + bytes(range(20))
TIMEOUT_S = 120
V2_TARGET = (1 << 234) - 1


@pytest.fixture
def environment(pytestconfig: pytest.Config, tmp_path: Path) -> dict[str, str]:
    return miner_environment(pytestconfig, tmp_path)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, TIMEOUT_S))


def login(*servers: StratumServer | StratumV2Server) -> list[str]:
    return [*(part for server in servers for part in ("--url", server.url)), "--user", USER, "--password", PASSWORD]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: StratumServer(Pool(difficulty=2**-10)), id="v1"),
        pytest.param(lambda: StratumV2Server(PoolV2(target=V2_TARGET)), id="v2-extended"),
        pytest.param(lambda: StratumV2Server(PoolV2(target=V2_TARGET, only_standard=True)), id="v2-standard"),
    ],
)
def test_blocks_mined_at_a_pool_are_accepted_by_a_node(
    environment: dict[str, str], tmp_path: Path, make: Callable[[], StratumServer | StratumV2Server]
) -> None:
    node = Node(tmp_path / "node", "dev")

    async def scenario() -> None:
        async with (
            NodePool(node.url, node.cookie, PAYOUT, make()) as pool,
            await MinerProcess.start(environment, *login(pool.server)) as miner,
        ):
            await miner.line_with("mining at pool")
            await eventually("blocks are found", lambda: len(pool.results) >= 8)
            output = await miner.interrupt()
            await pool.settle()
            assert [answer for _, answer in pool.results if answer is not None] == []
            height = await asyncio.to_thread(node.call, "getblockcount")
            assert height == len(pool.results)
            chain = [await asyncio.to_thread(node.call, "getblockhash", number + 1) for number in range(height)]
            assert chain == [block for block, _ in pool.results]
            last = await asyncio.to_thread(node.call, "getblock", chain[-1], 2)
            assert last["tx"][0]["vout"][0]["scriptPubKey"]["hex"] == PAYOUT.hex()
            shares = pool.server.pool
            assert set(shares.rejected) <= {21, "invalid-job-id"}, shares.rejected  # late ones only
            assert "rejected 0," in output
            assert any("accepted: " + block in output for block in chain)

    async def stops_by_itself() -> None:
        async with (
            NodePool(node.url, node.cookie, PAYOUT, make()) as pool,
            await MinerProcess.start(environment, *login(pool.server), "--blocks", "2") as miner,
        ):
            status, output = await miner.finish()
            assert status == 0, output
            assert output.count(" accepted: ") >= 2

    with nodes(node):
        node.start()
        run(scenario())
        run(stops_by_itself())
        node.stop()


def test_every_share_is_taken_and_its_rolled_fields_are_used(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with (
            StratumServer(Pool(difficulty=2**-10)) as server,
            await MinerProcess.start(environment, *login(server), "--json") as miner,
        ):
            await eventually("shares are accepted", lambda: len(server.pool.accepted) >= 5)
            server.pool.new_job(clean=False)
            server.flush()
            assert len(server.pool.jobs) == 2
            await eventually("shares of it come", lambda: server.pool.accepted[-1].job == server.pool.current)
            server.pool.new_job()
            server.flush()
            await eventually("shares of it come", lambda: server.pool.accepted[-1].job == server.pool.current)
            output = await miner.interrupt()
            pool = server.pool
            assert set(pool.rejected) <= {21}, pool.rejected
            assert len({share.hash_hex for share in pool.accepted}) == len(pool.accepted)
            versions = {int.from_bytes(share.header[:4], "little") for share in pool.accepted}
            assert {version & ~pool.version_mask for version in versions} == {0x20000000}
            report = json.loads(output.strip().splitlines()[-1])
            [counts] = report["pools"]
            assert counts["accepted"] <= len(pool.accepted) <= counts["accepted"] + 50  # answers lost at the end
            assert (counts["rejected"], counts["state"], counts["user"]) == ({}, "mining", USER)
            assert report["hardware_errors"] == 0

    run(scenario())


def test_a_pool_without_version_rolling_gets_shares_too(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with StratumServer(Pool(difficulty=2**-10, knows_configure=False, extranonce2_size=2)) as server:
            server.pool.current = None
            job = example_job(9)
            server.pool.new_job(type(job)(**{**vars(job), "coinbase1": job.coinbase1 + b"\0\0"}))
            async with await MinerProcess.start(environment, *login(server)) as miner:
                await eventually("shares are accepted", lambda: len(server.pool.accepted) >= 3)
                await miner.interrupt()
                assert set(server.pool.rejected) == set()
                assert {share.header[:4] for share in server.pool.accepted} == {bytes.fromhex("00000020")}

    run(scenario())


def test_a_spare_pool_takes_over_and_gives_back(environment: dict[str, str]) -> None:
    """The first pool dies and returns; the spare one is used in between. Returning takes up to RETURN_S, which the
    unit tests shorten: here it is only seen that the spare one is used."""

    async def scenario() -> None:
        async with (
            StratumServer() as first,
            StratumServer() as spare,
            await MinerProcess.start(environment, *login(first, spare)) as miner,
        ):
            await eventually("shares are accepted", lambda: len(first.pool.accepted) >= 1)
            assert spare.connected == 0
            await first.stop()
            await eventually("shares are accepted", lambda: len(spare.pool.accepted) >= 1)
            output = await miner.interrupt()
            assert f"mining at pool 127.0.0.1:{spare.port}" in output

    run(scenario())


def test_hostile_pools_are_left_and_mining_goes_on_elsewhere(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with (
            StratumServer(hostility=only_garbage) as garbage,
            StratumServer(hostility=some_garbage) as good,
            await MinerProcess.start(environment, *login(garbage, good)) as miner,
        ):
            await eventually("shares are accepted", lambda: len(good.pool.accepted) >= 3)
            output = await miner.interrupt()
            assert "sends too much nonsense" in output
            assert "malformed 21" in output
            assert "bad jobs" in output  # the other one's

    run(scenario())


def test_absurd_difficulties_change_nothing(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with (
            StratumServer(hostility=absurd_difficulties) as server,
            await MinerProcess.start(environment, *login(server)) as miner,
        ):
            await eventually("shares are accepted", lambda: len(server.pool.accepted) >= 3)
            output = await miner.interrupt()
            assert "sets an absurd difficulty, inf: it is not a positive finite number" in output
            assert set(server.pool.rejected) == set()

    run(scenario())


def test_a_wrong_password_is_one_line_and_a_failure(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with (
            StratumServer(Pool(users={USER: "another"})) as server,
            await MinerProcess.start(environment, *login(server)) as miner,
        ):
            status, output = await miner.finish()
            assert status == 1
            assert output.strip() == (
                f"Error: pool 127.0.0.1:{server.port} refuses worker {USER} (Unauthorized worker):"
                " check --user and --password"
            )

    run(scenario())


def test_a_pool_on_another_network_is_named(environment: dict[str, str]) -> None:
    async def scenario() -> None:
        async with StratumServer() as server:
            server.pool.new_job(example_job(1, nbits=DEV.genesis.header.nbits))
            async with await MinerProcess.start(environment, *login(server), network="bitcoin") as miner:
                line = await miner.line_with("cannot be mined")
                assert "is the pool on another?" in line
                await miner.interrupt()
                assert server.pool.accepted == []

    run(scenario())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--url", "stratum+tcp://pool.example"), "is not a pool's address"),
        (("--url", "http://pool.example:80"), "is not a pool's address"),
        (("--url", "stratum+tcp://pool.example:99999"), "is not a pool's address"),
        (("--url", "stratum+tcp://pool.example:3333"), "needs a user"),
        (("--url", "stratum+tcp://u@p.example:1", "--rpc-url", "http://127.0.0.1:1"), "not from both"),
        ((), "say where to mine"),
    ],
)
def test_bad_arguments_are_one_line(environment: dict[str, str], arguments: tuple[str, ...], complaint: str) -> None:
    async def scenario() -> None:
        async with await MinerProcess.start(environment, *arguments) as miner:
            status, output = await miner.finish()
            assert status == 1
            assert output.startswith("Error: ")
            assert complaint in output
            assert len(output.strip().splitlines()) == 1

    run(scenario())
