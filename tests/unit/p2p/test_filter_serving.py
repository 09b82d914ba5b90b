"""BIP157: filters, filter headers and checkpoints are served within limits, and only where they are offered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from chain.block_filter import filter_hash
from chain.primitives.serialize import Reader
from chain.primitives.types import BlockHash
from p2p.config import P2PConfig
from p2p.constants import Services
from p2p.errors import PeerMisbehaviour
from p2p.messages import (
    MESSAGES,
    CFCheckpt,
    CFHeaders,
    CFilter,
    GetCFCheckpt,
    GetCFHeaders,
    GetCFilters,
    Message,
    Ping,
)
from tests.support.fake_node import FakeNode
from tests.support.simnet import Script, SimHost, SimNet, ready

OFFERING = Services.NETWORK | Services.WITNESS | Services.COMPACT_FILTERS
Body = Callable[[SimNet, SimHost, list[BlockHash]], Awaitable[None]]


@pytest.fixture(autouse=True)
def _answers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node never reads the answers, which it does not ask for; the test does."""
    for message in (CFilter, CFHeaders, CFCheckpt):
        monkeypatch.setitem(MESSAGES, message.command, message)


def serve(rng: random.Random, body: Body, *, services: Services = OFFERING, blocks: int = 2_100) -> None:
    async def main() -> None:
        net = SimNet(rng)
        host = net.add(FakeNode(), P2PConfig(services=services))
        host.node.extend(blocks)
        await body(net, host, [entry.header.hash for entry in host.node.active])

    asyncio.run(main())


def test_filters_come_in_order_and_before_the_pong(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost, chain: list[BlockHash]) -> None:
        peer = await ready(Script(net, host))
        await peer.say(GetCFilters(0, 100, chain[1_099]), Ping(7))
        assert peer.commands() == ["cfilter"] * 1_000 + ["pong"]
        answers = [CFilter.decode(payload) for command, payload in peer.heard if command == "cfilter"]
        assert [answer.block_hash for answer in answers] == chain[100:1_100]
        peer.heard.clear()
        await peer.say(GetCFHeaders(0, 100, chain[1_099]))
        headers = CFHeaders.decode(peer.last("cfheaders"))
        assert headers.hashes == tuple(filter_hash(answer.filter) for answer in answers)
        assert headers.prev_header == chain[99][::-1]
        await peer.say(GetCFHeaders(0, 0, chain[0]))
        assert CFHeaders.decode(peer.last("cfheaders")).prev_header == bytes(32)

    serve(rng, body)


def test_checkpoints_are_every_thousandth_header(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost, chain: list[BlockHash]) -> None:
        peer = await ready(Script(net, host))
        await peer.say(GetCFCheckpt(0, chain[2_050]))
        answer = CFCheckpt.decode(peer.last("cfcheckpt"))
        assert answer.headers == (chain[1_000][::-1], chain[2_000][::-1])
        await peer.say(GetCFCheckpt(0, chain[999]))
        assert CFCheckpt.decode(peer.last("cfcheckpt")).headers == ()

    serve(rng, body)


def _bad_requests(chain: list[BlockHash]) -> list[Message]:
    return [
        GetCFilters(0, 0, chain[1_000]),
        GetCFHeaders(0, 0, chain[2_000]),
        GetCFilters(0, 1_000, chain[999]),
        GetCFHeaders(0, 1_000, chain[999]),
        GetCFilters(255, 0, chain[5]),
        GetCFCheckpt(1, chain[5]),
        GetCFCheckpt(0, BlockHash(b"\x09" * 32)),
        GetCFHeaders(0, 0, BlockHash(b"\x09" * 32)),
    ]


def test_requests_that_no_honest_peer_makes_end_the_connection(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost, chain: list[BlockHash]) -> None:
        for request in _bad_requests(chain):
            peer = await ready(Script(net, host))
            await peer.say(request)
            assert peer.peer.disconnecting, request
            assert not peer.peer.should_discourage
            assert peer.commands() == []

    serve(rng, body)


def test_without_the_service_bit_every_request_ends_the_connection(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost, chain: list[BlockHash]) -> None:
        for request in (GetCFilters(0, 1, chain[2]), GetCFHeaders(0, 1, chain[2]), GetCFCheckpt(0, chain[2])):
            peer = await ready(Script(net, host))
            await peer.say(request)
            assert peer.peer.disconnecting

    serve(rng, body, services=Services.NETWORK | Services.WITNESS, blocks=3)


def test_filters_that_are_not_there_yet_are_not_answered(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost, chain: list[BlockHash]) -> None:
        host.node.has_filters = False
        peer = await ready(Script(net, host))
        await peer.say(GetCFilters(0, 1, chain[2]), GetCFHeaders(0, 1, chain[2]), GetCFCheckpt(0, chain[2]), Ping(1))
        assert peer.commands() == ["pong"]
        assert not peer.peer.disconnecting

    serve(rng, body, blocks=3)


def test_messages_decode_what_they_encode(rng: random.Random) -> None:
    stop = BlockHash(rng.randbytes(32))
    messages: list[Message] = [
        GetCFilters(0, rng.getrandbits(32), stop),
        GetCFHeaders(0, rng.getrandbits(32), stop),
        GetCFCheckpt(0, stop),
        CFilter(0, stop, rng.randbytes(300)),
        CFHeaders(0, stop, rng.randbytes(32), tuple(rng.randbytes(32) for _ in range(2_000))),
        CFCheckpt(0, stop, tuple(rng.randbytes(32) for _ in range(900))),
    ]
    for message in messages:
        payload = message.encode()
        assert type(message).decode(payload) == message
        assert len(payload) <= type(message).max_size
    assert Reader(CFilter(0, stop, b"").encode()).u8() == 0
    with pytest.raises(PeerMisbehaviour):
        CFHeaders.decode(bytes(65) + b"\xfd\xd1\x07" + bytes(32 * 2_001))
