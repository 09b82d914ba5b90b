"""Stratum V2 pools over real sockets, beside pools of V1 in one list that changes while mining."""

from __future__ import annotations

import asyncio

import pytest

from chain.primitives.errors import UserError
from miner.work.stratum import source
from tests.support import stratum_v2_server
from tests.support.pool_server import Hostility
from tests.support.stratum_server import Pool, StratumServer
from tests.support.stratum_v2_server import AUTHORITY_SECRET, ConnectionV2, PoolV2, StratumV2Server
from tests.unit.miner.stratum.test_stratum_source import EASY, Harness, play, share_of

SHARE_TARGET = (1 << 250) - 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(source, "RETURN_S", 0.05)


def v1() -> StratumServer:
    return StratumServer(Pool(difficulty=EASY))


@pytest.mark.parametrize("only_standard", [False, True])
def test_shares_are_accepted_and_counted(only_standard: bool) -> None:
    server = StratumV2Server(PoolV2(only_standard=only_standard))

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        for number in range(5):
            assert (await harness.source.submit(share_of(job, number))).accepted
        again = await harness.source.submit(share_of(job))
        assert again.reason == "found twice"
        report = harness.report()
        assert report.difficulty is not None
        assert (report.accepted, report.duplicates, report.stale, report.rejected) == (5, 1, 0, {})
        assert report.accepted_difficulty == pytest.approx(5 * report.difficulty)
        assert (report.state, report.active, report.url, report.jobs) == ("mining", True, server.url, 1)
        assert report.estimate is not None
        assert report.best_difficulty >= report.difficulty
        assert report.last_share_age_s is not None
        server.pool.refuse_shares = "stale-share"
        late = await harness.source.submit(share_of(job, 7))
        assert (late.stale, late.reason) == (True, "stale-share")
        server.pool.refuse_shares = "bad-mood"
        assert (await harness.source.submit(share_of(job, 8))).reason == "bad-mood"
        report = harness.report()
        assert (report.stale, report.rejected) == (1, {"bad-mood": 1})
        assert report.rejected_difficulty == report.stale_difficulty == pytest.approx(report.difficulty)

    play(lambda: Harness(server.url), scenario, server)


def test_shares_wait_for_their_batch_without_holding_up_others() -> None:
    server = StratumV2Server(PoolV2(batch=40))

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        answers = await asyncio.gather(*(harness.source.submit(share_of(job, number)) for number in range(40)))
        assert all(answer.accepted for answer in answers)

    play(lambda: Harness(server.url), scenario, server)


def test_both_versions_stand_in_one_list() -> None:
    first, second = StratumV2Server(), v1()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        await first.stop()
        await harness.message(f"mining at pool 127.0.0.1:{second.port}")
        job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        assert "down:" in harness.report().state
        await first.start()
        await harness.until(lambda: harness.report().state == "mining")
        while not harness.jobs.empty():
            job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        assert first.pool.accepted
        assert [report.state for report in harness.source.pools()] == ["mining", "spare"]

    play(lambda: Harness(first.url, second.url), scenario, first, second)


@pytest.mark.parametrize(
    ("pool", "hostility", "complaint"),
    [
        (PoolV2(), stratum_v2_server.noise, "its handshake is not Stratum V2's"),
        (PoolV2(), stratum_v2_server.damages, "do not decrypt"),
        (PoolV2(), stratum_v2_server.hangs_up_in_mid_frame, "closed the connection"),
        (PoolV2(authority=bytes(31) + b"\x09"), None, "is not signed by the key in its address"),
        (PoolV2(users=set()), None, "refuses worker"),
        (PoolV2(replacements={0x1F: b"\x05"}), None, "it has not sent"),
    ],
)
def test_hostile_pools_are_left_for_the_next(
    pool: PoolV2, hostility: Hostility[ConnectionV2] | None, complaint: str
) -> None:
    bad, good = StratumV2Server(pool, hostility), v1()

    async def scenario(harness: Harness) -> None:
        await harness.message(complaint)
        await harness.message(f"mining at pool 127.0.0.1:{good.port}")
        job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


def test_a_silent_pool_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miner.work.stratum_v2.client.ANSWER_TIMEOUT_S", 0.5)
    bad, good = StratumV2Server(hostility=stratum_v2_server.silence), v1()

    async def scenario(harness: Harness) -> None:
        await harness.message("did not answer the handshake")
        assert (await harness.source.submit(share_of(await harness.job()))).accepted
        assert len(good.pool.accepted) == 1

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


@pytest.mark.parametrize("authority", [AUTHORITY_SECRET, bytes(31) + b"\x05"])
def test_redirects_are_followed_to_servers_of_the_same_authority_only(authority: bytes) -> None:
    """To another host as well: unlike V1's, the new server has to show a certificate."""
    first, second = StratumV2Server(), StratumV2Server(PoolV2(authority=authority))

    async def scenario(harness: Harness) -> None:
        await harness.job()
        for connection in first.pool.connections:
            connection.send(0x04, b"\x09localhost" + second.port.to_bytes(2, "little"))
        first.flush()
        if authority == AUTHORITY_SECRET:
            await harness.until(lambda: second.pool.connections and second.pool.connections[0].channel)
            await harness.message(f"mining at pool localhost:{second.port}")
        else:
            await harness.message("is not signed by the key in its address")
            assert second.pool.messages == {}
            await harness.until(lambda: harness.source.pool == f"127.0.0.1:{first.port}")

    play(lambda: Harness(first.url), scenario, first, second)


def test_leaving_closes_the_channel() -> None:
    server = StratumV2Server()

    async def scenario(harness: Harness) -> None:
        await harness.job()

    async def ends() -> None:
        async with server:
            harness = Harness(server.url)
            task = asyncio.create_task(harness.source.run())
            await harness.job()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            await harness.until(lambda: server.pool.closed)
            assert server.pool.closed == ["client-left"]

    asyncio.run(asyncio.wait_for(ends(), 20))
    play(lambda: Harness(server.url), scenario, server)


def test_the_hash_rate_is_told() -> None:
    server = StratumV2Server()

    def build() -> Harness:
        harness = Harness(server.url)
        harness.source.hash_rate = lambda: 3e12
        return harness

    async def scenario(harness: Harness) -> None:
        await harness.job()
        assert server.pool.rates == [pytest.approx(3e12)]

    play(build, scenario, server)


# --- the list changes ---


def test_switching_moves_to_a_pool_when_it_has_work() -> None:
    servers: list[StratumServer | StratumV2Server] = [v1(), StratumV2Server(), v1()]

    async def scenario(harness: Harness) -> None:
        await harness.job()
        control = harness.source.pool_control
        assert control is not None
        control.switch_pool(2)
        await harness.message(f"mining at pool 127.0.0.1:{servers[2].port}")
        assert [(report.number, report.priority) for report in harness.source.pools()] == [(2, 0), (0, 1), (1, 2)]
        assert [report.active for report in harness.source.pools()] == [True, False, False]
        control.switch_pool(1)
        await harness.message(f"mining at pool 127.0.0.1:{servers[1].port}")
        while not harness.jobs.empty():
            job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        with pytest.raises(UserError, match="there is no pool 9"):
            control.switch_pool(9)

    play(lambda: Harness(*(server.url for server in servers)), scenario, *servers)


def test_a_pool_that_is_left_may_still_answer() -> None:
    """Shares in flight at the switch, and one found just before it, are answered and counted."""
    first, second = StratumV2Server(PoolV2(batch=3)), v1()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        waiting = [asyncio.ensure_future(harness.source.submit(share_of(job, number))) for number in range(2)]
        await asyncio.sleep(0.02)
        harness.source.switch_pool(1)
        await harness.message(f"mining at pool 127.0.0.1:{second.port}")
        last = await harness.source.submit(share_of(job, 2))
        assert last.accepted
        assert all(answer.accepted for answer in await asyncio.gather(*waiting))
        await harness.until(lambda: not first.pool.connections)
        assert first.pool.closed == ["client-left"]
        assert (harness.report(1).accepted, harness.report(1).stale, harness.report(1).state) == (3, 0, "spare")

    play(lambda: Harness(first.url, second.url), scenario, first, second)


def test_a_pool_that_is_left_and_silent_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SETTLE_S", 0.1)
    first, second = StratumV2Server(PoolV2(batch=3)), v1()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        waiting = asyncio.ensure_future(harness.source.submit(share_of(job)))
        await asyncio.sleep(0.02)
        harness.source.switch_pool(1)
        answer = await waiting
        assert (answer.stale, answer.reason) == (True, "the connection was lost before its answer")

    play(lambda: Harness(first.url, second.url), scenario, first, second)


def test_switching_to_a_dead_pool_keeps_the_one_that_works() -> None:
    good, dead = v1(), v1()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        await dead.stop()
        harness.source.switch_pool(1)
        await harness.until(lambda: "down:" in harness.report(0).state)
        assert harness.source.pool == f"127.0.0.1:{good.port}"
        assert harness.report(1).active

    play(lambda: Harness(good.url, dead.url), scenario, good, dead)


def test_a_disabled_pool_is_left_and_not_tried() -> None:
    first, second = v1(), v1()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        harness.source.disable_pool(0)
        await harness.message(f"mining at pool 127.0.0.1:{second.port}")
        await harness.until(lambda: not first.pool.connections)
        tried = first.connected
        await asyncio.sleep(0.2)
        assert first.connected == tried
        assert (harness.report(0).state, harness.report(0).enabled) == ("disabled", False)
        with pytest.raises(UserError, match="is the last one enabled"):
            harness.source.disable_pool(1)
        with pytest.raises(UserError, match="is the last one enabled"):
            harness.source.remove_pool(1)
        harness.source.enable_pool(0)
        await harness.until(lambda: harness.report(0).active)

    play(lambda: Harness(first.url, second.url), scenario, first, second)


def test_pools_are_added_ordered_and_removed() -> None:
    first, second = v1(), StratumV2Server()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        number = harness.source.add_pool(second.url, "worker.1", "secret")
        assert number == 1
        assert harness.source.pool == f"127.0.0.1:{first.port}"
        harness.source.order_pools([1])
        await harness.until(lambda: harness.report(0).number == 1 and harness.report(0).active)
        harness.source.remove_pool(0)
        assert [report.number for report in harness.source.pools()] == [1]
        await harness.until(lambda: not first.pool.connections)
        assert harness.source.add_pool(first.url, "worker.1", None) == 2, "numbers are not used again"
        for url, error in (("http://x:1", "is not a pool's address"), ("h:1", "needs a user")):
            with pytest.raises(UserError, match=error):
                harness.source.add_pool(url, None, None)
        with pytest.raises(UserError, match="twice"):
            harness.source.order_pools([1, 1])

    play(lambda: Harness(first.url), scenario, first, second)


def test_the_list_may_change_while_no_pool_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BACKOFF_S", (60.0,))
    dead, good = v1(), v1()

    async def scenario(harness: Harness) -> None:
        await dead.stop()
        await harness.message("no connection")
        await asyncio.sleep(0.05)
        harness.source.add_pool(good.url, "worker.1", "secret")
        harness.source.switch_pool(1)
        await harness.job()
        assert harness.source.pool == f"127.0.0.1:{good.port}"

    play(lambda: Harness(dead.url), scenario, dead, good)
