"""Blocks in flight: how many, from whom, and what happens to those who do not deliver."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from chain.interfaces import BlockOutcome, HeadersOutcome
from chain.primitives.block import Block
from p2p.constants import Services
from p2p.messages import BlockMessage, GetData, Headers, Inv, InvMessage, Ping
from p2p.messages.inventory import MSG_BLOCK, MSG_WITNESS_BLOCK
from p2p.peer import ConnectionType
from p2p.permissions import Permission
from tests.support.fake_node import FakeNode, make_block
from tests.support.simnet import Script, SimHost, SimNet, ready

Body = Callable[[SimNet, SimHost], Awaitable[None]]


def simulate(rng: random.Random, body: Body) -> None:
    async def main() -> None:
        net = SimNet(rng)
        await body(net, net.add(FakeNode()))

    asyncio.run(main())


def future_blocks(host: SimHost, count: int, time: int) -> list[Block]:
    parent, height = host.node.active[-1].header, len(host.node.active)
    blocks = []
    for i in range(count):
        block = make_block(parent, height + i, time + i // 2)
        blocks.append(block)
        parent = block.header
    return blocks


async def show_headers(peer: Script, blocks: list[Block]) -> None:
    for start in range(0, len(blocks), 2000):
        await peer.say(Headers(tuple(b.header for b in blocks[start : start + 2000])))


def asked(peer: Script) -> list[bytes]:
    """Hashes of all blocks asked for so far."""
    return [inv.hash for name, payload in peer.heard if name == "getdata" for inv in GetData.decode(payload).items]


def test_sixteen_in_flight_per_peer_and_nobody_asked_twice(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.initial_download = True
        blocks = future_blocks(host, 100, int(net.now) - 100_000)
        peers = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(3)]
        for peer in peers:
            await show_headers(peer, blocks)
        await net.run(0.5)
        requests = [asked(p) for p in peers]
        assert [len(r) for r in requests] == [16, 16, 16]
        assert [h for r in requests for h in r] == [b.hash for b in blocks[:48]]
        by_hash = {b.hash: b for b in blocks}
        await peers[0].say(BlockMessage(by_hash[requests[0][0]].raw))
        assert asked(peers[0])[16:] == [blocks[48].hash]  # as soon as one has come
        assert host.node.requested_flags == [True]

    simulate(rng, body)


def test_witnesses_are_asked_for_from_those_who_have_them(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        blocks = future_blocks(host, 1, int(net.now) - 50)
        without = await ready(Script(net, host), services=Services.NETWORK)
        await show_headers(without, blocks)
        assert asked(without) == []  # segwit is active from the start on this network
        full = await ready(Script(net, host))
        await show_headers(full, blocks)
        items = GetData.decode(full.last("getdata")).items
        assert [i.type for i in items] == [MSG_WITNESS_BLOCK]
        assert MSG_BLOCK != MSG_WITNESS_BLOCK

    simulate(rng, body)


def test_during_initial_download_inbound_peers_are_spared(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.initial_download = True
        blocks = future_blocks(host, 40, int(net.now) - 100_000)
        outbound = await ready(Script(net, host, ConnectionType.MANUAL))
        inbound = await ready(Script(net, host))
        for peer in (outbound, inbound):
            await show_headers(peer, blocks)
        await net.run(0.3)
        assert len(asked(outbound)) == 16
        assert asked(inbound) == []

    simulate(rng, body)


def test_pruned_peers_are_asked_for_recent_blocks_only(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        blocks = future_blocks(host, 300, int(net.now) - 3000)
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host), services=Services.NETWORK_LIMITED | Services.WITNESS)
        await show_headers(peer, blocks)
        await net.run(2)
        assert blocks[0].hash not in asked(peer)
        assert blocks[12].hash not in asked(peer)

    simulate(rng, body)


def test_a_peer_that_holds_up_the_window_is_replaced(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.initial_download = True
        blocks = future_blocks(host, 1100, int(net.now) - 1_000_000)
        by_hash = {b.hash: b for b in blocks}
        slow = await ready(Script(net, host, ConnectionType.MANUAL))
        await show_headers(slow, blocks)
        await net.run(0.2)
        held = asked(slow)
        assert held == [b.hash for b in blocks[:16]]
        fast = await ready(Script(net, host, ConnectionType.MANUAL))
        await show_headers(fast, blocks)
        served = 0
        while served < len(asked(fast)):  # everything but what the slow one was asked for
            block_hash = asked(fast)[served]
            served += 1
            await fast.say(BlockMessage(by_hash[block_hash].raw))
        assert set(asked(fast)) == {b.hash for b in blocks[16:1024]}
        await net.run(1.5)
        assert slow.peer.sync.stalling_since
        assert not slow.peer.disconnecting
        await net.run(1.5)
        assert slow.peer.disconnecting
        await net.run(0.3)
        assert set(asked(fast)) >= set(held)  # they are asked of the other at once
        assert host.engine.download.stalling_timeout_s == 4
        for block_hash in held:
            await fast.say(BlockMessage(by_hash[block_hash].raw))
        assert host.node.tip().height >= 1024
        assert host.engine.download.stalling_timeout_s == 2

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    for text in (
        "Stall started peer=1",
        "Peer is stalling block download, disconnecting peer=1",
        "Increased stalling timeout temporarily to 4 seconds",
        "Decreased stalling timeout to 2 seconds",
    ):
        assert text in caplog.messages


def test_one_block_in_a_block_interval_is_the_least(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        blocks = future_blocks(host, 2, int(net.now) - 50)
        peer = await ready(Script(net, host))
        await show_headers(peer, blocks)
        await net.run(host.node.params.block_interval_s - 1)
        assert not peer.peer.disconnecting
        await net.run(5)
        assert peer.peer.disconnecting
        assert not host.engine.download.requested(blocks[0].hash)

    with caplog.at_level(logging.INFO):
        simulate(rng, body)
    assert any(m.startswith("Timeout downloading block ") for m in caplog.messages)


def test_whoever_announces_a_block_is_asked_for_it(rng: random.Random) -> None:
    """Also without NODE_NETWORK, but then for nothing else."""

    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        blocks = future_blocks(host, 20, int(net.now) - 50)
        peer = await ready(Script(net, host), services=Services.WITNESS)
        await show_headers(peer, blocks[:1])
        assert asked(peer) == [blocks[0].hash]
        await show_headers(peer, blocks[1:])
        await net.run(2)
        assert asked(peer) == [blocks[0].hash]

    simulate(rng, body)


def test_the_sender_of_headers_is_asked_before_others_who_know_them(rng: random.Random) -> None:
    """Although the chain puts them into the tree before the sender's message is done."""

    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        blocks = future_blocks(host, 3, int(net.now) - 50)
        sender, other = [await ready(Script(net, host)) for _ in range(2)]
        process = host.node.process_headers

        async def slowly(headers: list[bytes], *, min_pow_checked: bool = True) -> HeadersOutcome:
            outcome = await process(headers, min_pow_checked=min_pow_checked)
            await other.say(InvMessage(tuple(Inv(MSG_BLOCK, b.hash) for b in blocks)))
            return outcome

        host.node.process_headers = slowly  # type: ignore[method-assign, assignment]
        await show_headers(sender, blocks)
        assert asked(sender) == [b.hash for b in blocks]
        assert asked(other) == []

    simulate(rng, body)


def test_a_block_that_is_with_the_chain_is_asked_of_nobody(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        blocks = future_blocks(host, 2, int(net.now) - 50)
        sender, other = [await ready(Script(net, host)) for _ in range(2)]
        for peer in (sender, other):
            await show_headers(peer, blocks)
        process = host.node.process_block

        async def slowly(raw: bytes, *, requested: bool) -> BlockOutcome:
            await net.run(3)  # everybody is looked at many times
            return await process(raw, requested=requested)

        host.node.process_block = slowly  # type: ignore[method-assign]
        await sender.say(BlockMessage(blocks[0].raw))
        assert host.node.tip().hash == blocks[0].hash
        assert asked(other) == []
        assert not host.engine.download.processing

    simulate(rng, body)


def test_unrequested_blocks_are_offered_as_such(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        block = future_blocks(host, 1, int(net.now) - 50)[0]
        await peer.say(BlockMessage(block.raw), Ping(3))
        assert host.node.requested_flags == [False]
        assert host.node.tip().hash == block.hash
        assert peer.commands()[-1] == "pong"

    simulate(rng, body)


def test_unrequested_low_work_blocks_are_not_looked_at(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(200, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        fork = make_block(host.node.active[0].header, 1, int(net.now) - 10, salt=3)
        await peer.say(BlockMessage(fork.raw))
        assert host.node.header(fork.hash) is None
        assert host.node.requested_flags == []
        assert not peer.peer.disconnecting

    simulate(rng, body)


@pytest.mark.parametrize("fault", ["invalid", "mutated", "orphan"])
def test_bad_blocks_end_the_connection(rng: random.Random, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        blocks = future_blocks(host, 2, int(net.now) - 50)
        block = blocks[0]
        if fault == "invalid":
            host.node.bad_blocks.add(block.hash)
        elif fault == "mutated":
            block = Block.build(block.header, [*block.transactions, *block.transactions])
        else:
            block = blocks[1]
        await peer.say(BlockMessage(block.raw))
        assert peer.peer.disconnecting
        if fault == "mutated":  # says nothing about the hash: the real one is still welcome
            other = await ready(Script(net, host))
            await other.say(BlockMessage(blocks[0].raw))
            assert host.node.tip().hash == blocks[0].hash

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert any(m.startswith("Misbehaving: peer=1") for m in caplog.messages)
    if fault == "mutated":
        assert "Misbehaving: peer=1: mutated block" in caplog.messages


def test_whoever_sent_a_block_answers_for_it_later(rng: random.Random) -> None:
    from chain.interfaces import Verdict

    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        early = await ready(Script(net, host))
        blocks = future_blocks(host, 2, int(net.now) - 50)
        await early.say(Headers(tuple(b.header for b in blocks)), BlockMessage(blocks[1].raw))
        assert not early.peer.disconnecting
        host.engine.on_block_rejected(blocks[1].hash, Verdict.INVALID, "bad-later")
        assert early.peer.disconnecting

    simulate(rng, body)


def test_noban_peers_survive_bad_blocks(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host, permissions=Permission.NOBAN))
        block = future_blocks(host, 1, int(net.now) - 50)[0]
        host.node.bad_blocks.add(block.hash)
        await peer.say(BlockMessage(block.raw), Ping(1))
        assert not peer.peer.disconnecting
        assert peer.commands()[-1] == "pong"

    simulate(rng, body)


def test_blocks_below_a_snapshot_come_after_those_that_the_tip_needs(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        blocks = future_blocks(host, 60, int(net.now) - 100)
        for block in blocks:
            host.node._add_header(block.header)
        host.node.adopt_snapshot(blocks[49].hash)
        peer = await ready(Script(net, host, ConnectionType.MANUAL))
        await show_headers(peer, blocks)
        await net.run(0.5)
        assert asked(peer) == [b.hash for b in [*blocks[50:], *blocks[:6]]]
        for block in blocks[50:]:
            await peer.say(BlockMessage(block.raw))
        assert host.node.tip().hash == blocks[-1].hash
        await net.run(1.5)
        assert asked(peer)[16:] == [b.hash for b in blocks[6:16]]  # and on, although nothing is missing at the tip
        for block in blocks[:50]:
            await peer.say(BlockMessage(block.raw))
            await net.run(0.1)
        await net.run(1.5)
        assert set(asked(peer)) == {b.hash for b in blocks}
        assert len(asked(peer)) == 60

    simulate(rng, body)


def test_only_peers_with_all_blocks_and_the_snapshot_are_asked_for_those_below_it(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        blocks = future_blocks(host, 20, int(net.now) - 100)
        for block in blocks:
            host.node._add_header(block.header)
        host.node.adopt_snapshot(blocks[-1].hash)
        limited = await ready(Script(net, host), services=Services.NETWORK_LIMITED | Services.WITNESS)
        behind = await ready(Script(net, host))
        await show_headers(limited, blocks)
        await show_headers(behind, blocks[:10])
        await net.run(2)
        assert asked(limited) == []
        assert asked(behind) == []

    simulate(rng, body)
