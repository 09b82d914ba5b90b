"""The getblocktemplate source against a node in the same process, and against broken ones."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chain.params import NETWORKS
from chain.primitives.block import Block
from chain.primitives.errors import UserError
from miner.device import Candidate
from miner.share import Finding, Share, check_candidate
from miner.work import getblocktemplate, rpc
from miner.work.getblocktemplate import TemplateSource
from miner.work.job import Job, UnitSequence
from miner.work.rpc import Endpoint, NodeClient, NodeUnreachable, RpcError, WrongPassword
from miner.work.template import solved_block
from tests.support.certificates import certificate
from tests.support.template_node import PASSWORD, USER, TemplateNode

DEV = NETWORKS["dev"]
TIMEOUT_S = 30


class Harness:
    """A source running against nodes."""

    def __init__(self, *nodes: TemplateNode) -> None:
        self.jobs: asyncio.Queue[Job | None] = asyncio.Queue()
        self.messages: list[str] = []
        self.source = TemplateSource(
            [Endpoint(node.url, user=USER, password=PASSWORD) for node in nodes],
            DEV,
            b"\x51",
            on_job=self.jobs.put_nowait,
            on_message=self.messages.append,
        )

    async def job(self) -> Job:
        job = await asyncio.wait_for(self.jobs.get(), TIMEOUT_S)
        assert job is not None
        return job

    async def message(self, text: str) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not any(text in message for message in self.messages):  # noqa: ASYNC110 (a list has no event)
                await asyncio.sleep(0.01)

    async def calls(self, node: TemplateNode, method: str, count: int) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while node.calls.count(method) < count:  # noqa: ASYNC110 (the node has no event for it)
                await asyncio.sleep(0.01)


def play(scenario: Callable[[Harness, TemplateNode], Awaitable[None]], node: TemplateNode | None = None) -> None:
    async def run() -> None:
        subject = node or TemplateNode()
        await subject.start()
        harness = Harness(subject)
        task = asyncio.create_task(harness.source.run())
        try:
            await asyncio.wait_for(scenario(harness, subject), TIMEOUT_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await harness.source.close()
            await subject.stop()

    asyncio.run(run())


def solve(job: Job) -> Share:
    unit = UnitSequence(job).take(1)
    assert unit is not None
    nonce = 0
    while True:
        share = check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce))
        if share.finding is Finding.BLOCK:
            return share
        nonce += 1


def mined(job: Job) -> Block:
    share = solve(job)
    return Block.parse(solved_block(job, share.unit.extranonce2, share.header))


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getblocktemplate, "_BACKOFF_S", (0.01, 0.02))


def test_blocks_are_submitted_and_the_next_template_follows() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        for height in range(1, 5):
            job = await harness.job()
            while job.height < height:
                job = await harness.job()
            answer = await harness.source.submit(solve(job))
            assert (answer.accepted, answer.reason) == (True, None)
            harness.source.request_refresh(job)
        assert len(node.blocks) == 4
        assert node.complaints == []

    play(scenario)


def test_long_poll_brings_another_miners_block() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        first = await harness.job()
        await harness.calls(node, "getblocktemplate", 2)
        share = solve(first)
        node.extend(mined(first))
        second = await harness.job()
        assert (first.height, second.height) == (1, 2)
        late = await harness.source.submit(share)
        assert (late.accepted, late.stale) == (False, True)

    play(scenario)


def test_long_polls_that_bring_nothing_new_are_not_asked_for_in_a_rush(monkeypatch: pytest.MonkeyPatch) -> None:
    class Caching(TemplateNode):
        async def _rpc_getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
            return self.template()

    pauses: asyncio.Queue[float] = asyncio.Queue()

    async def pause(event: asyncio.Event, timeout_s: float) -> bool:
        pauses.put_nowait(timeout_s)
        await event.wait()
        return True

    monkeypatch.setattr(getblocktemplate, "sleep_or_event", pause)

    async def scenario(harness: Harness, node: TemplateNode) -> None:
        assert await pauses.get() == getblocktemplate.REFRESH_S / 6
        assert node.calls.count("getblocktemplate") == 2
        first = await harness.job()
        node.extend(mined(first))
        harness.source.request_refresh(first)
        while (await harness.job()).height < 2:
            pass

    play(scenario, Caching())


def test_refusals_carry_the_nodes_reason() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        node.refuse = "bad-cb-amount"
        answer = await harness.source.submit(solve(await harness.job()))
        assert (answer.accepted, answer.stale, answer.reason) == (False, False, "bad-cb-amount")

    play(scenario)


def test_a_block_waits_for_a_node_that_starts() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        share = solve(await harness.job())
        node.errors["submitblock"] = (-28, "Loading block index…")
        offered = asyncio.create_task(harness.source.submit(share))
        await harness.calls(node, "submitblock", 1)
        node.errors.clear()
        assert (await offered).accepted
        node.errors["submitblock"] = (-22, "Block decode failed")
        assert (await harness.source.submit(share)).reason == "Block decode failed"

    play(scenario)


def with_nodes(count: int, scenario: Callable[..., Awaitable[None]]) -> None:
    """Run a scenario with so many nodes, of which the first gives the work."""

    async def run() -> None:
        nodes = [TemplateNode() for _ in range(count)]
        for node in nodes:
            await node.start()
        harness = Harness(*nodes)
        task = asyncio.create_task(harness.source.run())
        try:
            await asyncio.wait_for(scenario(harness, *nodes), TIMEOUT_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await harness.source.close()
            for node in nodes:
                await node.stop()

    asyncio.run(run())


def test_a_block_is_offered_to_all_nodes() -> None:
    async def scenario(harness: Harness, first: TemplateNode, second: TemplateNode) -> None:
        assert (await harness.source.submit(solve(await harness.job()))).accepted
        await harness.calls(first, "submitblock", 1)
        await harness.calls(second, "submitblock", 1)

    with_nodes(2, scenario)


def test_a_block_whose_node_has_died_is_taken_by_another() -> None:
    async def scenario(harness: Harness, first: TemplateNode, second: TemplateNode) -> None:
        share = solve(await harness.job())
        await first.stop()
        assert (await harness.source.submit(share)).accepted
        assert len(second.blocks) == 1

    with_nodes(2, scenario)


def test_a_block_that_others_refuse_is_offered_to_its_own_node_when_that_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getblocktemplate, "_OTHERS_S", 0.05)

    async def scenario(harness: Harness, first: TemplateNode, second: TemplateNode) -> None:
        share = solve(await harness.job())
        await first.stop()
        second.refuse = "prev-blk-not-found"
        answer = await harness.source.submit(share)
        assert (answer.accepted, answer.stale, answer.reason) == (False, True, "prev-blk-not-found")
        await first.start()
        await harness.message(f"node {first.url.rstrip('/')} took a block after all")
        assert len(first.blocks) == 1

    with_nodes(2, scenario)


def test_a_dead_spare_node_delays_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getblocktemplate, "_OTHERS_S", 0.05)
    monkeypatch.setattr(getblocktemplate, "SUBMIT_PATIENCE_S", 1e9)

    async def scenario(harness: Harness, first: TemplateNode, second: TemplateNode) -> None:
        share = solve(await harness.job())
        await second.stop()
        first.refuse = "bad-cb-amount"
        assert (await harness.source.submit(share)).reason == "bad-cb-amount"
        first.refuse = None
        assert (await harness.source.submit(share)).accepted

    with_nodes(2, scenario)


def test_a_work_id_goes_to_its_own_node_alone() -> None:
    async def scenario(harness: Harness, first: TemplateNode, second: TemplateNode) -> None:
        arguments: dict[int, tuple[Any, ...]] = {}
        for node in (first, second):

            async def submitblock(*given: Any, port: int = node.port) -> str | None:
                arguments[port] = given[1:]
                return "inconclusive"

            node._rpc_submitblock = submitblock  # type: ignore[method-assign]
        first.changes["workid"] = "w7"
        first.extend(mined(await harness.job()))
        while (job := await harness.job()).origin.work_id is None:
            pass
        assert (await harness.source.submit(solve(job))).stale
        assert arguments == {first.port: ({"workid": "w7"},), second.port: ()}

    with_nodes(2, scenario)


def test_what_a_node_says_is_fit_for_a_terminal() -> None:
    nasty = "\x1b[2Jgone\n\ud800"

    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.message("gives no work: [2Jgone;")
        node.errors.clear()
        node.changes["rules"] = [f"!{nasty}"]
        await harness.message("does not know:  [2Jgone")
        node.changes.clear()
        node.refuse = nasty
        answer = await harness.source.submit(solve(await harness.job()))
        assert answer.reason == "[2Jgone"
        assert all(message.isprintable() for message in harness.messages)

    play(scenario, TemplateNode(errors={"getblocktemplate": (-1, nasty)}))


def test_a_foreign_genesis_is_shown_in_one_line() -> None:
    async def run() -> None:
        node = TemplateNode(genesis_hex="\x1b[2J" + "x" * 10_000)
        await node.start()
        harness = Harness(node)
        with pytest.raises(UserError, match="is not on network 'dev'") as error:
            await harness.source.run()
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 300
        await harness.source.close()
        await node.stop()

    asyncio.run(run())


def test_a_node_that_restarts_is_found_again() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        first = await harness.job()
        await node.stop()
        await harness.message("trying again")
        node.extend(mined(first))
        await node.start()
        while (job := await harness.job()).height < 2:
            pass
        assert job.prev_hash == node.tip_hash

    play(scenario)


def test_a_bad_template_is_reported_and_the_next_good_one_taken() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.message("witness commitment")
        assert await harness.job(), "devices begin while it is still being checked"
        assert await harness.jobs.get() is None, "and stop again"
        await harness.calls(node, "getblocktemplate", 5)
        assert len(harness.messages) == 1, "said once"
        node.changes.clear()
        await harness.message("mining on node")
        while not harness.jobs.empty():
            last = await harness.jobs.get()
        assert last is not None

    play(scenario, TemplateNode(changes={"default_witness_commitment": "6a24aa21a9ed" + "11" * 32}))


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b"null", b"[" * 100_000])
def test_something_that_is_no_node_is_reported(answer: bytes) -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.message("not as a node does")
        assert harness.jobs.empty()

    play(scenario, TemplateNode(raw_answer=answer))


def test_a_node_that_is_still_loading_is_waited_for() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.message("Loading block index")
        assert harness.jobs.empty()
        node.errors.clear()
        assert (await harness.job()).prev_hash == node.tip_hash

    play(scenario, TemplateNode(errors={"getblocktemplate": (-28, "Loading block index…")}))


def test_a_repeated_failure_is_said_once() -> None:
    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.calls(node, "getblocktemplate", 6)
        assert sum("initial sync" in message for message in harness.messages) == 1

    play(scenario, TemplateNode(errors={"getblocktemplate": (-10, "in initial sync")}))


def test_a_spare_node_takes_over() -> None:
    async def run() -> None:
        good, dead = TemplateNode(), TemplateNode()
        await good.start()
        await dead.start()
        await dead.stop()
        harness = Harness(dead, good)
        task = asyncio.create_task(harness.source.run())
        try:
            await harness.job()
            assert harness.source.node == good.url.rstrip("/")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await harness.source.close()
            await good.stop()

    asyncio.run(run())


def test_the_first_node_gets_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it is behind, and not to one of another network."""
    monkeypatch.setattr(getblocktemplate, "RETURN_S", 0.05)

    async def run() -> None:
        first, second = TemplateNode(), TemplateNode()
        await first.start()
        await second.start()
        harness = Harness(first, second)
        task = asyncio.create_task(harness.source.run())
        try:
            job = await harness.job()
            await first.stop()
            await harness.message(f"mining on node {harness.source._clients[1].endpoint}")
            while (await harness.source.submit(share := solve(job))).stale:
                job = await harness.job()
            block = Block.parse(solved_block(job, share.unit.extranonce2, share.header))
            await harness.message("mining on node")
            await first.start()
            await harness.calls(first, "getblocktemplate", first.calls.count("getblocktemplate") + 3)
            assert harness.source.node == str(harness.source._clients[1].endpoint), "it is a block behind"
            first.extend(block)
            async with asyncio.timeout(TIMEOUT_S):
                while harness.source.node != str(harness.source._clients[0].endpoint):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            while not harness.jobs.empty():
                job = await harness.job()
            assert job.height == 2
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await harness.source.close()
            await first.stop()
            await second.stop()

    asyncio.run(run())


def test_wrong_network_and_wrong_password_end_the_run() -> None:
    async def run(node: TemplateNode, complaint: str) -> None:
        await node.start()
        harness = Harness(node)
        try:
            with pytest.raises(UserError, match=complaint):
                await asyncio.wait_for(harness.source.run(), TIMEOUT_S)
        finally:
            await harness.source.close()
            await node.stop()

    asyncio.run(run(TemplateNode(genesis_hex="ab" * 32), "not on network 'dev'"))
    asyncio.run(run(TemplateNode(credentials=("a", "b")), "refuses this user and password"))


def test_work_stops_when_no_node_answers_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getblocktemplate, "STALE_AFTER_S", 0.05)

    async def scenario(harness: Harness, node: TemplateNode) -> None:
        await harness.job()
        await node.stop()
        assert await asyncio.wait_for(harness.jobs.get(), TIMEOUT_S) is None

    play(scenario)


def test_templates_are_renewed_without_a_new_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getblocktemplate, "REFRESH_S", 0.05)

    async def scenario(harness: Harness, node: TemplateNode) -> None:
        jobs = [await harness.job() for _ in range(3)]
        assert {job.height for job in jobs} == {1}

    play(scenario)


def test_signet_needs_its_operators() -> None:
    with pytest.raises(UserError, match="signed by its operators"):
        TemplateSource([], NETWORKS["signet"], b"\x51", on_job=lambda job: None, on_message=lambda text: None)


def test_client_tells_failures_apart(tmp_path: Path) -> None:
    async def run() -> None:
        node = TemplateNode(errors={"getblocktemplate": (-9, "not connected")})
        await node.start()
        async with NodeClient(Endpoint(node.url, user=USER, password=PASSWORD)) as client:
            assert await client.call("getblockhash", 0)
            with pytest.raises(RpcError, match="not connected") as caught:
                await client.call("getblocktemplate", {})
            assert caught.value.code == -9
        cookie = tmp_path / ".cookie"
        async with NodeClient(Endpoint(node.url, cookie=cookie)) as client:
            with pytest.raises(NodeUnreachable, match=r"has no cookie .*: is it running"):
                await client.call("getblockhash", 0)
            cookie.mkdir()
            with pytest.raises(NodeUnreachable, match=r"cannot read .* \(Is a directory\): name another file"):
                await client.call("getblockcount")
            cookie.rmdir()
            cookie.write_text("__cookie__:old")
            with pytest.raises(WrongPassword, match="refuses the cookie"):
                await client.call("getblockhash", 0)
            cookie.write_text(f"{USER}:{PASSWORD}\n")  # rewritten, as by a node that restarts
            assert await client.call("getblockhash", 0)
        await node.stop()
        async with NodeClient(Endpoint(node.url, user=USER, password=PASSWORD)) as client:
            with pytest.raises(NodeUnreachable, match="does not answer"):
                await client.call("getblockhash", 0)

    asyncio.run(run())


def test_nodes_behind_tls_and_names_that_no_host_has(tmp_path: Path) -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=certificate(tmp_path)[0])
        port = server.sockets[0].getsockname()[1]
        async with NodeClient(Endpoint(f"https://127.0.0.1:{port}", user=USER, password="\udcff")) as client:
            with pytest.raises(NodeUnreachable, match=r"a certificate that is not trusted .*self-signed"):
                await client.call("getblockhash", 0)
        for name in ("a..b", "a" * 70):
            async with NodeClient(Endpoint(f"http://{name}:1")) as client:
                with pytest.raises(NodeUnreachable, match="a name that no host can have"):
                    await client.call("getblockhash", 0)
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "_RESPONSE_LIMIT", 1000)

    async def run() -> None:
        node = TemplateNode(raw_answer=b"x" * 5000)
        await node.start()
        async with NodeClient(Endpoint(node.url)) as client:
            with pytest.raises(NodeUnreachable, match="not a node's answer"):
                await client.call("getblockhash", 0)
        await node.stop()

    asyncio.run(run())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8332", "ftp://host/", "http://", "http://[::1", "http://host:notaport"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="is not an RPC address"):
        Endpoint(url)


def test_a_password_in_the_url_is_used_and_never_shown() -> None:
    endpoint = Endpoint("http://me:s%40cret@127.0.0.1:8332/")
    assert endpoint.authorization() == "Basic " + base64.b64encode(b"me:s@cret").decode()
    assert endpoint.address == "http://127.0.0.1:8332/"
    assert "cret" not in str(endpoint)
