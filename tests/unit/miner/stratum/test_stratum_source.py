"""Pools over real sockets: failover and return, lost connections, redirects, TLS, hostile pools, and accounting."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.primitives.errors import UserError
from miner.device import Candidate
from miner.share import Finding, Share, check_candidate
from miner.work.job import Job, UnitSequence
from miner.work.source import PoolReport
from miner.work.stratum import client, session, source
from miner.work.stratum.account import PoolAccount
from miner.work.stratum.address import PoolAddress, parse_pool_url
from miner.work.stratum.client import ClientOptions
from miner.work.stratum.messages import Rejection
from miner.work.stratum.source import StratumSource
from tests.support import stratum_server
from tests.support.certificates import certificate
from tests.support.pool_server import PASSWORD, USER, Hostility, PoolServer, example_job
from tests.support.stratum_server import Pool, PoolConnection, StratumServer

TIMEOUT_S = 20
EASY = 2**-26  # 64 hashes a share, for hashlib


class Harness:
    """A source running against pools."""

    def __init__(self, *urls: str, tls: ssl.SSLContext | None = None, may_redirect: bool = False) -> None:
        self.jobs: asyncio.Queue[Job | None] = asyncio.Queue()
        self.messages: list[str] = []
        self.source = StratumSource(
            [parse_pool_url(url, USER, PASSWORD) for url in urls],
            lambda pool: ClientOptions(user=pool.user, password=pool.password, easiest_share_target=(1 << 256) - 1),
            on_job=self.jobs.put_nowait,
            on_message=self.messages.append,
            tls=tls,
            may_redirect=may_redirect,
        )

    async def job(self) -> Job:
        """The next job, past any stop."""
        while (job := await self.jobs.get()) is None:
            pass
        return job

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 (counters and lists have no event; the scenario has a timeout)
            await asyncio.sleep(0.005)

    async def message(self, text: str) -> None:
        await self.until(lambda: any(text in message for message in self.messages))

    def report(self, index: int = 0) -> PoolReport:
        return self.source.pools()[index]


def play(
    harness: Callable[[], Harness], scenario: Callable[[Harness], Awaitable[None]], *pools: PoolServer[Any, Any]
) -> None:
    """Start the pools, run the scenario against a running source, and leave nothing behind."""

    async def run() -> None:
        for pool in pools:
            await pool.start()
        subject = harness()
        task = asyncio.create_task(subject.source.run())
        wanted = asyncio.ensure_future(scenario(subject))
        try:
            done, _ = await asyncio.wait({task, wanted}, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            assert done, subject.messages
            for finished in done:
                finished.result()
        finally:
            task.cancel()
            wanted.cancel()
            await asyncio.gather(task, wanted, return_exceptions=True)
            for pool in pools:
                await pool.stop()

    asyncio.run(run())


def share_of(job: Job, skip: int = 0, unit_number: int = 0) -> Share:
    """A share, the (skip + 1)th of that unit; every unit has one version."""
    sequence = UnitSequence(job)
    unit = [sequence.take(1) for _ in range(unit_number + 1)][-1]
    assert unit is not None
    nonce = 0
    while True:
        share = check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce))
        if share.finding in (Finding.BLOCK, Finding.SHARE):
            if skip == 0:
                return share
            skip -= 1
        nonce += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(source, "RETURN_S", 0.05)


def easy(hostility: Hostility[PoolConnection] | None = None) -> StratumServer:
    return StratumServer(Pool(difficulty=EASY), hostility)


def test_shares_are_accepted_and_counted() -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        for number in range(5):
            answer = await harness.source.submit(share_of(job, number))
            assert (answer.accepted, answer.stale, answer.reason) == (True, False, None)
        assert len(server.pool.accepted) == 5
        again = await harness.source.submit(share_of(job))
        assert (again.accepted, again.reason) == (False, "found twice")
        report = harness.report()
        assert (report.accepted, report.duplicates, report.stale, report.rejected) == (5, 1, 0, {})
        assert report.accepted_difficulty == 5 * EASY
        assert (report.state, report.connections, report.difficulty) == ("mining", 1, EASY)
        assert server.pool.calls["mining.submit"] == 5

    play(lambda: Harness(server.url), scenario, server)


def test_version_bits_that_the_pool_has_set_are_kept() -> None:
    """Rolled bits replace those of the job's version under the mask, and only there."""
    server = easy()
    server.pool.version_mask = 0x00FFE000
    server.pool.new_job(replace(example_job(1), version=0x3FABC004))

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        for number in range(40):
            assert (await harness.source.submit(share_of(job, unit_number=number))).accepted
        versions = {int.from_bytes(share.header[:4], "little") for share in server.pool.accepted}
        assert len(versions) == 40
        assert {version & ~0x00FFE000 for version in versions} == {0x3FABC004 & ~0x00FFE000}

    play(lambda: Harness(server.url), scenario, server)


def test_answers_are_waited_for_together() -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        answers = await asyncio.gather(*(harness.source.submit(share_of(job, number)) for number in range(10)))
        assert all(answer.accepted for answer in answers)

    play(lambda: Harness(server.url), scenario, server)


@pytest.mark.parametrize(
    ("code", "reason", "stale"),
    [
        (20, "20 other: Bad time", False),
        (21, "21 stale: Job not found", True),
        (22, "22 duplicate: Duplicate share", False),
        (23, "23 low difficulty: Low difficulty share", False),
    ],
)
def test_refusals_are_counted_by_reason(code: int, reason: str, stale: bool) -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        server.pool.refuse_shares = [code, reason.split(": ")[1], None]
        answer = await harness.source.submit(share_of(job))
        assert (answer.accepted, answer.stale, answer.reason) == (False, stale, reason)
        report = harness.report()
        assert report.stale == int(stale)
        assert report.rejected == ({} if stale else {reason.split(":")[0]: 1})

    play(lambda: Harness(server.url), scenario, server)


async def refused_in_a_row(harness: Harness, job: Job, count: int) -> None:
    for number in range(count):
        await harness.source.submit(share_of(job, number))


def test_a_pool_that_takes_no_share_comes_after_all_others_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, spare = easy(), easy()
    monkeypatch.setattr(session, "MOST_REFUSED", 3)
    looks, look = 0, StratumSource._better_than

    async def counted(subject: StratumSource, pool: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look(subject, pool)

    monkeypatch.setattr(StratumSource, "_better_than", counted)

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        await refused_in_a_row(harness, job, 1)
        bad.pool.refuse_shares = [23, "Low difficulty share", None]
        await refused_in_a_row(harness, job, 3)  # the first is a duplicate, and never goes out
        bad.pool.refuse_shares = [21, "Job not found", None]
        for number in range(3, 9):
            assert (await harness.source.submit(share_of(job, number))).stale
        bad.pool.refuse_shares = [23, "Low difficulty share", None]
        await harness.source.submit(share_of(job, 9))
        await harness.message("it refused our last 3 shares (23 low difficulty: Low difficulty share); trying")
        await harness.until(lambda: harness.report(1).active)
        await harness.until(lambda: looks >= 3)
        assert bad.connected == 1, "it is not tried again beside the work"
        bad.pool.refuse_shares = None
        harness.source.switch_pool(0)
        await harness.until(lambda: harness.report(0).active)

    play(lambda: Harness(bad.url, spare.url), scenario, bad, spare)


def test_an_outcast_is_used_where_there_is_no_other_and_forgiven_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, spare = easy(), easy()
    monkeypatch.setattr(session, "MOST_REFUSED", 1)

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        await spare.stop()
        bad.pool.refuse_shares = [20, "?", None]
        await harness.source.submit(share_of(job))
        await harness.until(lambda: bad.connected == 2 and harness.report(0).active)
        assert harness.source._pools[0].shunned_until > 0.0, "it is an outcast all the same"
        await spare.start()
        await harness.until(lambda: harness.report(1).active)
        assert bad.connected == 2
        bad.pool.refuse_shares = None
        harness.source._pools[0].shunned_until = 0.0
        await harness.until(lambda: harness.report(0).active)
        assert bad.connected == 3

    play(lambda: Harness(bad.url, spare.url), scenario, bad, spare)


@pytest.mark.parametrize("code", [24, 25])
def test_a_pool_that_forgot_us_is_logged_in_to_again(code: int) -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        server.pool.refuse_shares = [code, "?", None]
        assert not (await harness.source.submit(share_of(job))).accepted
        server.pool.refuse_shares = None
        job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        assert server.connected == 2

    play(lambda: Harness(server.url), scenario, server)


def test_new_jobs_make_old_shares_stale_only_when_clean() -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        first = await harness.job()
        assert server.pool.current is not None
        server.pool.new_job(replace(server.pool.current, time=server.pool.current.time + 1), clean=False)
        server.flush()
        second = await harness.job()
        assert (await harness.source.submit(share_of(first))).accepted  # late, but it still counts
        server.pool.new_job()
        server.flush()
        await harness.job()
        late = await harness.source.submit(share_of(second))
        assert (late.accepted, late.stale, late.reason) == (False, True, "the pool has newer work")
        assert server.pool.calls["mining.submit"] == 1
        assert harness.report().stale == 1

    play(lambda: Harness(server.url), scenario, server)


def test_work_sent_again_is_searched_elsewhere() -> None:
    """A new mask publishes the same work again: its units must not repeat the first one's extranonces."""
    server = easy()

    async def scenario(harness: Harness) -> None:
        first = await harness.job()
        for connection in server.pool.connections:
            connection.call("mining.set_version_mask", "00006000")
        server.flush()
        second = await harness.job()
        assert second.version_mask == 0x6000
        assert first.extranonce(0) != second.extranonce(0)
        assert len(first.extranonce(0)) == len(second.extranonce(0))
        assert (await harness.source.submit(share_of(first))).accepted
        assert (await harness.source.submit(share_of(second))).accepted

    play(lambda: Harness(server.url), scenario, server)


def test_a_lost_connection_stops_work_and_comes_back() -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        server.disconnect()
        assert await harness.jobs.get() is None
        late = await harness.source.submit(share_of(job, 1))
        assert (late.accepted, late.stale) == (False, True)
        fresh = await harness.job()
        assert (await harness.source.submit(share_of(fresh))).accepted
        assert (harness.report().connections, harness.report().accepted) == (2, 2)

    play(lambda: Harness(server.url), scenario, server)


def test_a_pool_that_is_down_is_tried_again_and_named_once() -> None:
    server = easy()

    async def scenario(harness: Harness) -> None:
        await server.stop()
        await harness.message("Connect call failed")
        await asyncio.sleep(0.2)
        assert sum("Connect call failed" in message for message in harness.messages) == 1
        await server.start()
        await harness.until(lambda: harness.source.pool is not None)

    play(lambda: Harness(server.url), scenario, server)


def test_failover_and_back() -> None:
    first, second = easy(), easy()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        assert harness.source.pool == f"127.0.0.1:{first.port}"
        await first.stop()
        job = await harness.job()
        assert harness.source.pool == f"127.0.0.1:{second.port}"
        assert (await harness.source.submit(share_of(job))).accepted
        assert len(second.pool.accepted) == 1
        await first.start()
        await harness.until(lambda: harness.source.pool == f"127.0.0.1:{first.port}")
        while not harness.jobs.empty():
            job = await harness.job()
        assert (await harness.source.submit(share_of(job))).accepted
        assert len(first.pool.accepted) == 1
        assert [report.state for report in harness.source.pools()] == ["mining", "spare"]
        await harness.until(lambda: second.pool.connections == [])

    play(lambda: Harness(first.url, second.url), scenario, first, second)


def test_refused_workers() -> None:
    """One pool that refuses us is left for the next; where all do, that is the user's to mend."""
    refusing, other = StratumServer(Pool(users={})), easy()

    async def elsewhere(harness: Harness) -> None:
        await harness.job()
        assert harness.source.pool == f"127.0.0.1:{other.port}"
        assert "refuses worker" in harness.report().state

    play(lambda: Harness(refusing.url, other.url), elsewhere, refusing, other)

    async def never(harness: Harness) -> None:
        await asyncio.sleep(TIMEOUT_S)

    again, too = StratumServer(Pool(users={})), StratumServer(Pool(users={}))
    with pytest.raises(UserError, match="check --user and --password"):
        play(lambda: Harness(again.url, too.url), never, again, too)


@pytest.mark.parametrize(
    ("hostility", "complaint"),
    [
        (stratum_server.only_garbage, "too much nonsense"),
        (stratum_server.endless_line, "a line without end"),
        (stratum_server.flood, "floods us"),
        (stratum_server.hangs_up_in_mid_line, "closed the connection"),
        (stratum_server.wrong_ids, "did not answer mining.subscribe"),
        (stratum_server.silence, "did not answer mining.subscribe"),
    ],
)
def test_hostile_pools_are_left(
    monkeypatch: pytest.MonkeyPatch, hostility: Hostility[PoolConnection], complaint: str
) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 1.0)
    bad, good = easy(hostility), easy()

    async def scenario(harness: Harness) -> None:
        await harness.until(lambda: harness.source.pool == f"127.0.0.1:{good.port}")
        assert complaint in harness.report().state
        while True:  # whatever work the first one sent
            job = await harness.job()
            answer = await harness.source.submit(share_of(job))
            if answer.accepted:
                break
        assert len(good.pool.accepted) == 1

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


def test_a_pool_that_stays_bad_is_complained_of_once() -> None:
    bad, good = easy(stratum_server.only_garbage), easy()

    async def scenario(harness: Harness) -> None:
        await harness.until(lambda: bad.connected >= 4)  # tried again and again beside the good one's work
        assert harness.source.pool == f"127.0.0.1:{good.port}"
        assert sum("sends not JSON" in message and "nonsense" not in message for message in harness.messages) == 1

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


def test_a_pool_without_work_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_JOB_TIMEOUT_S", 0.5)

    def no_work(connection: stratum_server.PoolConnection, output: bytes) -> tuple[bytes, bool]:
        return b"".join(line + b"\n" for line in output.splitlines() if b"mining.notify" not in line[:60]), False

    bad, good = easy(no_work), easy()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        assert "sent no work within" in harness.report().state

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


def test_a_pool_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SILENCE_S", 0.15)
    server = easy()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        assert await harness.jobs.get() is None
        await harness.message("was silent for")
        await harness.job()

    play(lambda: Harness(server.url), scenario, server)


def test_a_pool_that_sends_the_same_work_for_ever_is_left_until_it_has_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SHUN_S", 0.0)
    stuck, spare = easy(), easy()

    async def scenario(harness: Harness) -> None:
        await harness.job()
        active = harness.source._active
        assert active is not None
        long_ago = active._news_at = asyncio.get_running_loop().time() - session.NEWS_S / 2
        stuck.pool.new_job(example_job(5))
        stuck.flush()
        await harness.job()
        assert active._news_at > long_ago
        active._news_at -= session.NEWS_S
        stuck.pool.new_job(example_job(5), clean=False)  # the same again is no news
        stuck.flush()
        await harness.message("it has sent no new work for 30 min; trying")
        await harness.until(lambda: harness.report(1).active)
        tried = stuck.connected
        await harness.until(lambda: stuck.connected >= tried + 3)
        assert harness.report(1).active, "it still has work for that block alone"
        stuck.pool.new_job(example_job(7))
        await harness.until(lambda: harness.report(0).active)

    play(lambda: Harness(stuck.url, spare.url), scenario, stuck, spare)


def test_shares_that_hardly_ever_come_are_remarked_upon_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LOOK_S", 0.001)
    monkeypatch.setattr(source, "WINDOW_S", 0.0)
    server = StratumServer(Pool(difficulty=1e9))
    remark = "a share of difficulty 1e+09 takes 2.2 years on average at 61.00 GH/s; --suggest-difficulty asks"

    async def scenario(harness: Harness) -> None:
        await harness.job()
        assert harness.report().share_interval_s is None
        harness.source.hash_rate = lambda: 61e9
        await harness.message(remark)
        interval_s = harness.report().share_interval_s
        assert interval_s is not None
        assert 2.2 < interval_s / (365.25 * 86400) < 2.3
        server.pool.connections[0].set_difficulty(1)
        await easier_or_harder(harness)
        assert harness.report().share_interval_s == pytest.approx(2**32 / 61e9, rel=1e-4)
        server.pool.connections[0].set_difficulty(1e9)
        await easier_or_harder(harness)
        await harness.until(lambda: sum(remark in message for message in harness.messages) == 2)

    async def easier_or_harder(harness: Harness) -> None:
        server.pool.new_job()
        server.flush()
        await harness.job()
        looks = 0
        rate = harness.source.hash_rate

        def counted() -> float:
            nonlocal looks
            looks += 1
            return rate()

        harness.source.hash_rate = counted
        await harness.until(lambda: looks >= 5)

    play(lambda: Harness(server.url), scenario, server)


def test_a_share_that_is_never_answered_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 1.0)

    def deaf(connection: stratum_server.PoolConnection, output: bytes) -> tuple[bytes, bool]:
        return (b"" if connection.pool.calls["mining.submit"] else output), False

    server = easy(deaf)

    async def scenario(harness: Harness) -> None:
        answer = await harness.source.submit(share_of(await harness.job()))
        assert (answer.accepted, answer.stale) == (False, True)
        await harness.message("did not answer mining.submit")

    play(lambda: Harness(server.url), scenario, server)


def test_reconnect_loops_are_left() -> None:
    bad, good = easy(stratum_server.reconnect_loop), easy()

    async def scenario(harness: Harness) -> None:
        await harness.until(lambda: harness.source.pool == f"127.0.0.1:{good.port}")
        assert 1 <= bad.connected <= 6
        assert (await harness.source.submit(share_of(await last_job(harness)))).accepted

    play(lambda: Harness(bad.url, good.url), scenario, bad, good)


async def last_job(harness: Harness) -> Job:
    job = await harness.job()
    while not harness.jobs.empty():
        job = await harness.job()
    return job


def test_other_hosts_are_followed_only_where_allowed() -> None:
    elsewhere = easy(stratum_server.redirect_elsewhere)

    async def ignored(harness: Harness) -> None:
        job = await harness.job()
        await harness.message("another host, thief.example: ignored (--follow-redirects allows it)")
        assert (await harness.source.submit(share_of(job))).accepted
        assert elsewhere.connected == 1

    play(lambda: Harness(elsewhere.url), ignored, elsewhere)

    target = easy()

    def to_target(connection: stratum_server.PoolConnection, output: bytes) -> tuple[bytes, bool]:
        connection.call("client.reconnect", "localhost", target.port, 0)
        more = connection.data_to_send() if connection.authorized else b""
        return output + more, False

    origin = easy(to_target)

    async def followed(harness: Harness) -> None:
        await harness.until(lambda: harness.source.pool == f"localhost:{target.port}")
        assert (await harness.source.submit(share_of(await last_job(harness)))).accepted
        assert len(target.pool.accepted) == 1

    play(lambda: Harness(origin.url, may_redirect=True), followed, origin, target)


def test_another_port_of_the_same_host_is_followed() -> None:
    target = easy()

    def to_target(connection: stratum_server.PoolConnection, output: bytes) -> tuple[bytes, bool]:
        connection.call("client.reconnect", "", str(target.port), 0)
        more = connection.data_to_send() if connection.authorized else b""
        return output + more, False

    origin = easy(to_target)

    async def scenario(harness: Harness) -> None:
        await harness.until(lambda: harness.source.pool == f"127.0.0.1:{target.port}")
        assert (await harness.source.submit(share_of(await last_job(harness)))).accepted
        assert len(target.pool.accepted) == 1

    play(lambda: Harness(origin.url), scenario, origin, target)


def test_nobody_waits_for_a_pool_while_another_has_work() -> None:
    def later(connection: stratum_server.PoolConnection, output: bytes) -> tuple[bytes, bool]:
        connection.call("client.reconnect", None, None, 500)
        more = connection.data_to_send() if connection.authorized else b""
        return output + more, False

    first, spare = easy(later), easy()

    async def scenario(harness: Harness) -> None:
        await harness.until(lambda: harness.source.pool == f"127.0.0.1:{spare.port}")
        assert (await harness.source.submit(share_of(await last_job(harness)))).accepted
        assert (len(first.pool.accepted), len(spare.pool.accepted)) == (0, 1)

    play(lambda: Harness(first.url, spare.url), scenario, first, spare)


def test_a_pool_that_hangs_up_on_configure_is_mined_without() -> None:
    server = easy(stratum_server.hangs_up_on_configure)

    async def scenario(harness: Harness) -> None:
        job = await harness.job()
        assert job.version_mask == 0
        assert (await harness.source.submit(share_of(job))).accepted

    play(lambda: Harness(server.url), scenario, server)


def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(tmp_path: Path) -> None:
    trusted, untrusted, plain = easy(), easy(), easy()
    trusted.tls, path = certificate(tmp_path)
    untrusted.tls = trusted.tls

    async def works(harness: Harness) -> None:
        assert (await harness.source.submit(share_of(await harness.job()))).accepted

    play(lambda: Harness(trusted.url, tls=ssl.create_default_context(cafile=str(path))), works, trusted)

    async def refused(harness: Harness) -> None:
        await harness.message("its certificate is not trusted")
        assert untrusted.pool.calls == {}  # not even our name went out

    play(lambda: Harness(untrusted.url), refused, untrusted)

    async def no_tls(harness: Harness) -> None:
        await harness.message(f"write stratum+tcp:// if port {plain.port} is the pool's one without TLS")

    play(lambda: Harness(plain.url.replace("tcp", "ssl")), no_tls, plain)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("stratum+tcp://pool.example:3333", PoolAddress("pool.example", 3333, False, "u", "p")),
        ("pool.example:3333", PoolAddress("pool.example", 3333, False, "u", "p")),
        ("stratum+ssl://pool.example:443/", PoolAddress("pool.example", 443, True, "u", "p")),
        ("stratum+tcp://a%40b:c%3Ad@pool.example:1", PoolAddress("pool.example", 1, False, "a@b", "c:d")),
        ("stratum+tcp://a@pool.example:1", PoolAddress("pool.example", 1, False, "a", "p")),
        ("stratum+tls://[::1]:2", PoolAddress("::1", 2, True, "u", "p")),
    ],
)
def test_pool_urls(url: str, address: PoolAddress) -> None:
    assert parse_pool_url(url, "u", "p") == address
    assert "c:d" not in address.name


@pytest.mark.parametrize(
    "url",
    [
        *("", "pool.example", "stratum+tcp://:1", "stratum+tcp://h:0", "http://h:1", "stratum+tcp://h:1/x", "//h:1"),
        *("tcp://a\0b:1", "tcp://a b:1", "tcp://\ud800:1", "tcp://h\x1b(B:1"),
    ],
)
def test_bad_pool_urls_are_named_without_their_password(url: str) -> None:
    with pytest.raises(UserError, match="is not a pool's address"):
        parse_pool_url(url, "u", "p")
    with pytest.raises(UserError) as error:
        parse_pool_url("stratum+tcp://me:secret@h:0", None, None)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("user", ["me\0", "me\x1b[2J", "me\n", "\udcff"])
def test_users_are_text(user: str) -> None:
    with pytest.raises(UserError, match=r"characters that are no text: '(me.*)?'$"):
        parse_pool_url("tcp://h:1", user, None)
    assert parse_pool_url("tcp://h:1", "Jürgen 👩\u200d🔧.1", None).user == "Jürgen 👩\u200d🔧.1"


def test_a_host_that_no_resolver_takes_is_a_failure_of_its_pool_alone() -> None:
    async def scenario() -> None:
        account = PoolAccount(PoolAddress("a\0b", 1, False, USER, ""))
        options = ClientOptions(user=USER, password="")
        client_of_v1 = client.StratumClient(options, asyncio.get_running_loop().time)
        connection = session.Session(
            account.address, account, client_of_v1, on_job=lambda *_: None, on_message=lambda _: None, tls=None
        )
        assert str(await connection.run()).startswith("no connection (")

    asyncio.run(scenario())


def test_accounts() -> None:
    account = PoolAccount(parse_pool_url("h:1", "u", None))
    for code in (20, 21, 22, 23, 24, 25, 25):
        account.answered(8.0, Rejection(code, "x"))
    account.answered(8.0, None)
    report = account.report()
    assert (report.accepted, report.accepted_difficulty, report.stale) == (1, 8.0, 1)
    assert report.rejected == {
        "20 other": 1,
        "22 duplicate": 1,
        "23 low difficulty": 1,
        "24 unauthorized": 1,
        "25 not subscribed": 2,
    }
