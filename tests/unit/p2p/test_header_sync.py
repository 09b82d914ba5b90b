"""Headers: asked for, received, refused, announced."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from chain.consensus.pow import retarget
from chain.interfaces import HeaderInfo
from chain.params import BITCOIN, TESTNET3
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.target import nbits_from_target
from chain.primitives.types import hash_to_hex
from p2p.headers_presync import HeadersPresync, permitted_transition
from p2p.messages import (
    GetData,
    GetHeaders,
    Headers,
    Inv,
    InvMessage,
    SendCmpct,
    SendHeaders,
)
from p2p.messages.inventory import MSG_BLOCK, MSG_WITNESS_BLOCK
from p2p.netaddress import NetAddress
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


def chain_on(parent: BlockHeader, height: int, count: int, time: int, salt: int = 0) -> list[Block]:
    """Blocks that the host does not know."""
    blocks = []
    for i in range(count):
        block = make_block(parent, height + i, time + i, salt=salt)
        blocks.append(block)
        parent = block.header
    return blocks


def headers_of(blocks: list[Block]) -> Headers:
    return Headers(tuple(b.header for b in blocks))


def test_the_first_peer_is_asked_from_the_block_before_the_best(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(3)
        peer = Script(net, host, ConnectionType.MANUAL)
        await ready(peer)
        assert peer.peer.sync.started
        second = Script(net, host, ConnectionType.MANUAL)
        await ready(second)
        assert not second.peer.sync.started  # far from today, one at a time

    simulate(rng, body)


def test_close_to_today_everyone_is_asked(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(2, time=int(net.now) - 600)
        for _ in range(3):
            peer = await ready(Script(net, host))
            assert peer.peer.sync.started

    simulate(rng, body)


def test_announced_headers_are_fetched_at_once(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        blocks = chain_on(host.node.active[-1].header, 2, 3, int(net.now) - 50)
        await peer.say(headers_of(blocks))
        asked = GetData.decode(peer.last("getdata"))
        assert asked.items == tuple(Inv(MSG_WITNESS_BLOCK, b.hash) for b in blocks)
        assert [h.height for h in peer.peer.sync.in_flight.values()] == [2, 3, 4]
        assert "sendheaders" in peer.commands()

    simulate(rng, body)


def test_unconnecting_headers_make_us_ask_for_what_lies_between(
    rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        net.now += 200
        blocks = chain_on(host.node.active[-1].header, 2, 4, int(net.now) - 50)
        await peer.say(headers_of(blocks[3:]))
        assert GetHeaders.decode(peer.last("getheaders")).locator[0] == host.node.tip().hash
        for _ in range(20):
            await peer.say(headers_of(blocks[3:]))
        assert peer.commands().count("getheaders") == 1  # not again while one is waiting
        assert not peer.peer.disconnecting
        assert peer.peer.sync.last_unknown == blocks[3].hash
        await peer.say(headers_of(blocks[:3]))
        await peer.say(headers_of(blocks[3:]))
        assert peer.peer.sync.best_known is not None
        assert peer.peer.sync.best_known.hash == blocks[3].hash
        first, before = hash_to_hex(blocks[3].hash), hash_to_hex(blocks[2].hash)
        text = f"received header {first}: missing prev block {before}, sending getheaders (1) to end (peer=1)"
        assert text in caplog.messages

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)


@pytest.mark.parametrize(
    ("fault", "text"),
    [("gap", "non-continuous headers sequence"), ("work", "header with invalid proof of work")],
)
def test_impossible_headers_are_misbehaviour(
    rng: random.Random, caplog: pytest.LogCaptureFixture, fault: str, text: str
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        blocks = chain_on(host.node.active[-1].header, 1, 3, int(net.now) - 50)
        headers = [b.header for b in blocks]
        if fault == "gap":
            del headers[1]
        else:
            header = headers[-1]
            while int.from_bytes(header.hash, "little") >> 255 == 0:
                h = header
                header = BlockHeader.build(h.version, h.prev_hash, h.merkle_root, h.time, h.nbits, h.nonce + 1)
            headers[-1] = header
        await peer.say(Headers(tuple(headers)))
        assert peer.peer.disconnecting
        assert host.engine._ctx.bans.discouraged(peer.peer.address or NetAddress.from_ip("1.1.1.1", 1))

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert f"Misbehaving: peer=1: {text}" in caplog.messages
    assert "Disconnecting and discouraging peer 1!" in caplog.messages


@pytest.mark.parametrize(
    ("kind", "permissions", "address", "survives", "discouraged"),
    [
        (ConnectionType.INBOUND, Permission.NOBAN, "8.8.8.8", True, False),
        (ConnectionType.MANUAL, Permission.NONE, "8.8.8.8", True, False),
        (ConnectionType.INBOUND, Permission.NONE, "127.0.0.1", False, False),
        (ConnectionType.INBOUND, Permission.NONE, "8.8.8.8", False, True),
        (ConnectionType.OUTBOUND_FULL_RELAY, Permission.NONE, "8.8.8.8", False, True),
    ],
)
def test_who_is_punished(
    rng: random.Random, kind: ConnectionType, permissions: Permission, address: str, survives: bool, discouraged: bool
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        where = NetAddress.from_ip(address, 8333)
        peer = await ready(Script(net, host, kind, permissions=permissions, address=where))
        blocks = chain_on(host.node.active[-1].header, 1, 3, int(net.now) - 50)
        await peer.say(headers_of([blocks[0], blocks[2]]))
        assert peer.peer.disconnecting is not survives
        assert host.engine._ctx.bans.discouraged(where) is discouraged

    simulate(rng, body)


@pytest.mark.parametrize("inbound", [True, False])
def test_headers_known_to_be_invalid_cost_only_outbound_peers(rng: random.Random, inbound: bool) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        kind = ConnectionType.INBOUND if inbound else ConnectionType.OUTBOUND_FULL_RELAY
        host.node.extend(1, time=int(net.now) - 60)
        bad = chain_on(host.node.active[-1].header, 2, 2, int(net.now) - 50)
        host.node.bad_blocks.add(bad[0].hash)
        host.node.accept_block(bad[0])
        peer = await ready(Script(net, host, kind))
        await peer.say(headers_of(bad))
        assert peer.peer.disconnecting is not inbound

    simulate(rng, body)


def test_inv_of_an_unknown_block_asks_for_headers(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1)
        first = await ready(Script(net, host, ConnectionType.MANUAL))  # the sync peer
        assert first.peer.sync.started
        second, third = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(2)]
        unknown = InvMessage((Inv(MSG_BLOCK, b"\x07" * 32),))
        await second.say(unknown)
        assert second.commands().count("getheaders") == 1
        await third.say(unknown)  # the same block does not start a third sync
        assert "getheaders" not in third.commands()

    simulate(rng, body)


def test_low_work_chains_are_not_stored(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(200, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        fork = chain_on(host.node.active[0].header, 1, 10, int(net.now) - 5000, salt=9)
        await peer.say(headers_of(fork))
        assert host.node.header(fork[0].hash) is None
        assert not peer.peer.disconnecting
        trusted = await ready(Script(net, host, permissions=Permission.NOBAN))
        await trusted.say(headers_of(fork))
        assert host.node.header(fork[-1].hash) is not None

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "Ignoring low-work chain (height=10) from peer=1" in caplog.messages


def test_a_silent_sync_peer_makes_room_for_another(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1)
        silent = await ready(Script(net, host, ConnectionType.MANUAL))
        other = await ready(Script(net, host, ConnectionType.MANUAL))
        assert silent.peer.sync.headers_timeout is not None
        net.now = silent.peer.sync.headers_timeout + 1
        silent.peer.last_receive = silent.peer.last_send = other.peer.last_receive = other.peer.last_send = net.now
        await net.run(2)
        assert silent.peer.disconnecting
        assert other.peer.sync.started

    with caplog.at_level(logging.INFO):
        simulate(rng, body)
    assert "Timeout downloading headers, disconnecting peer=1" in caplog.messages


def test_outbound_peers_must_follow(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(5, time=int(net.now) - 60)
        peer = await ready(Script(net, host, ConnectionType.BLOCK_RELAY))
        await net.run(0.5)
        net.now += 20 * 60 + 5
        peer.peer.last_receive = peer.peer.last_send = net.now
        await net.run(0.5)
        assert peer.peer.sync.chain_sent_getheaders
        assert peer.commands()[-1] == "getheaders"
        assert not peer.peer.disconnecting
        net.now += 125
        await net.run(0.5)
        assert peer.peer.disconnecting

    with caplog.at_level(logging.INFO):
        simulate(rng, body)
    assert any(m.startswith("Outbound peer has old chain, best known block = <none>") for m in caplog.messages)


# --- announcing


def announced(peer: Script, command: str) -> list[bytes]:
    """Hashes in announcements of one kind."""
    found: list[bytes] = []
    for name, payload in peer.heard:
        if name == command == "inv":
            found += [i.hash for i in InvMessage.decode(payload).items]
        elif name == command == "headers":
            found += [h.hash for h in Headers.decode(payload).headers]
        elif name == command == "cmpctblock":
            found.append(BlockHeader(payload[:80]).hash)
    return found


def test_announcements(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        by_inv, by_headers, by_compact = [await ready(Script(net, host)) for _ in range(3)]
        tip = host.node.active[-1].header
        for peer in (by_headers, by_compact):
            await peer.say(Headers((tip,)))  # so that we know that they have it
        await by_headers.say(SendHeaders())
        await by_compact.say(SendCmpct(True))
        new = host.node.extend(2, time=int(net.now) - 30)
        await net.run(0.3)
        assert announced(by_inv, "inv") == [new[-1]]
        assert announced(by_headers, "headers") == new
        one = host.node.extend(1, time=int(net.now) - 20)
        await net.run(0.3)
        assert announced(by_headers, "headers") == [*new, *one]
        assert announced(by_compact, "inv") == [new[-1], *one]  # two at once go by inv, and then nothing connects
        await by_compact.say(GetHeaders((new[-1],)))
        two = host.node.extend(1, time=int(net.now) - 10)
        await net.run(0.3)
        assert announced(by_compact, "cmpctblock")[-1:] == two
        # a long reorganisation goes by inv even to those who like headers
        by_headers.heard.clear()
        many = host.node.extend(9, time=int(net.now) - 9, on=host.node.active[1], salt=5)
        await net.run(0.3)
        assert announced(by_headers, "inv") == [many[-1]]

    simulate(rng, body)


def test_nothing_is_announced_to_whom_it_came_from(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        block = chain_on(host.node.active[-1].header, 2, 1, int(net.now) - 50)[0]
        await peer.say(Headers((block.header,)))
        host.node.accept_block(block)
        await net.run(0.5)
        assert announced(peer, "inv") == []

    simulate(rng, body)


def test_announcements_that_do_not_connect_go_by_inv(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(3, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        await peer.say(SendHeaders())
        new = host.node.extend(1, time=int(net.now) - 30)
        await net.run(0.3)
        assert announced(peer, "inv") == new  # we do not know that it has the parent
        await peer.say(GetHeaders(tuple(host.node.locator(new[0])[1:2])))
        newer = host.node.extend(1, time=int(net.now) - 20)
        await net.run(0.3)
        assert announced(peer, "headers")[-1:] == newer

    simulate(rng, body)


# --- low-work syncs


def presync_for(node: FakeNode, rng: random.Random, work: int, *, period: int = 10, buffer: int = 30) -> HeadersPresync:
    params = replace(node.params, header_commitment_period=period, header_redownload_buffer=buffer)
    start: HeaderInfo = node.tip()
    return HeadersPresync(params, start, int(start.chainwork) + 2 * work, 1_700_000_000.0, rng)


def test_presync_stores_nothing_before_the_work_is_shown_twice(rng: random.Random) -> None:
    node = FakeNode()
    headers = [b.header for b in chain_on(node.active[0].header, 1, 200, 1_699_000_000)]
    presync = presync_for(node, rng, 150)
    for part in (headers[:50], headers[50:100], headers[100:150]):
        progress = presync.process(part, full=True)
        assert progress.success
        assert progress.request_more
        assert not progress.ready
    assert presync.presync_height == -1  # the second pass
    assert presync.locator(node.locator()) == node.locator()
    stored: list[BlockHeader] = []
    for part in (headers[:50], headers[50:100], headers[100:150]):
        progress = presync.process(part, full=True)
        assert progress.success
        stored += progress.ready
        assert len(stored) >= min(len(part), 20)
    assert stored == headers[:150]
    assert presync.done


def test_presync_catches_another_chain_in_the_second_pass(rng: random.Random) -> None:
    node = FakeNode()
    caught = 0
    for attempt in range(10):
        shown = [b.header for b in chain_on(node.active[0].header, 1, 60, 1_699_000_000, salt=1)]
        other = [b.header for b in chain_on(node.active[0].header, 1, 60, 1_699_000_000, salt=2 + attempt)]
        presync = presync_for(node, rng, 60, period=2)
        assert presync.process(shown, full=True).success
        caught += not presync.process(other, full=True).success
    assert caught == 10  # 30 bits must agree by chance


def test_presync_ends_with_the_chain(rng: random.Random) -> None:
    node = FakeNode()
    headers = [b.header for b in chain_on(node.active[0].header, 1, 20, 1_699_000_000)]
    presync = presync_for(node, rng, 150)
    progress = presync.process(headers, full=False)
    assert progress.success
    assert not progress.request_more
    assert presync.done


def test_a_low_work_chain_of_4000_is_taken_once_its_work_is_known(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        other = FakeNode()
        other.extend(4100)
        server = net.add(other)
        host.node.minimum_work = other.active[4050].work
        host.node.initial_download = True
        net.connect(host, server)
        server.node.initial_download = False
        assert await net.run(200, lambda: host.node.tip().hash == other.tip().hash)

    simulate(rng, body)


def test_after_a_presync_that_fell_short_headers_are_asked_for_again(rng: random.Random) -> None:
    """At once with the next announcement, not only after two minutes."""

    async def body(net: SimNet, host: SimHost) -> None:
        host.node.minimum_work = 2 * 2500
        blocks = chain_on(host.node.active[0].header, 1, 2100, int(net.now) - 5000)
        peer = await ready(Script(net, host))
        await peer.say(headers_of(blocks[:2000]))
        assert GetHeaders.decode(peer.last("getheaders")).locator[0] == blocks[1999].hash
        peer.heard.clear()
        await peer.say(headers_of(blocks[2000:]))
        assert peer.peer.presynced_height == -1
        await peer.say(InvMessage((Inv(MSG_BLOCK, b"\x05" * 32),)))
        assert "getheaders" in peer.commands()

    simulate(rng, body)


def test_difficulty_moves_only_where_it_may() -> None:
    main, testnet = BITCOIN, TESTNET3
    assert permitted_transition(main, 2015, 0x1D00FFFF, 0x1D00FFFF)
    assert not permitted_transition(main, 2015, 0x1D00FFFF, 0x1C7FFF80)
    assert permitted_transition(main, 2016, 0x1D00FFFF, 0x1C3FFFC0)
    assert not permitted_transition(main, 2016, 0x1D00FFFF, 0x1C1FFFE0)
    assert not permitted_transition(main, 2016, 0x1C00FFFF, 0x1C04FFFF)
    assert permitted_transition(testnet, 2015, 0x1C00FFFF, 0x1D00FFFF)


def test_difficulty_may_move_wherever_a_retarget_can_take_it(rng: random.Random) -> None:
    for _ in range(300):
        old = nbits_from_target(rng.getrandbits(rng.randrange(40, 224)) | 1 << 30)
        new = retarget(old, rng.randrange(0, 5 * 14 * 86_400), BITCOIN)
        assert permitted_transition(BITCOIN, 4032, old, new)
        assert permitted_transition(BITCOIN, 4033, old, old)
        if new != old:
            assert not permitted_transition(BITCOIN, 4033, old, new)
    assert not permitted_transition(BITCOIN, 2016, 0x1B0404CB, 0x1B201013)  # eight times easier
    assert not permitted_transition(BITCOIN, 2016, 0x1B0404CB, 0x1A806019)  # eight times harder
