"""What we give to others, and what we keep to ourselves."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from chain.primitives.block import Block
from chain.primitives.types import ZERO_HASH, BlockHash
from p2p.config import P2PConfig
from p2p.constants import Services
from p2p.messages import (
    BlockTxn,
    CmpctBlock,
    GetBlocks,
    GetBlockTxn,
    GetData,
    GetHeaders,
    Headers,
    Inv,
    InvMessage,
    NotFound,
    Ping,
    TxMessage,
)
from p2p.messages.inventory import MSG_BLOCK, MSG_CMPCT_BLOCK, MSG_TX, MSG_WITNESS_BLOCK, MSG_WITNESS_TX, MSG_WTX
from p2p.permissions import Permission
from tests.support.fake_node import FakeNode, make_block, make_transaction
from tests.support.simnet import Script, SimHost, SimNet, ready

Body = Callable[[SimNet, SimHost], Awaitable[None]]
NONE = BlockHash(ZERO_HASH)


def simulate(rng: random.Random, body: Body, config: P2PConfig | None = None) -> None:
    async def main() -> None:
        net = SimNet(rng)
        await body(net, net.add(FakeNode(), config))

    asyncio.run(main())


def test_headers_after_the_fork_point(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        node = host.node
        node.extend(2500)
        peer = await ready(Script(net, host))

        async def ask(locator: list[BlockHash], stop: BlockHash = NONE) -> list[bytes]:
            await peer.say(GetHeaders(tuple(locator), stop))
            return [h.hash for h in Headers.decode(peer.last("headers")).headers]

        chain = [e.header.hash for e in node.active]
        assert await ask([chain[0]]) == chain[1:2001]
        assert await ask([chain[2400]]) == chain[2401:]
        assert await ask([BlockHash(b"\x09" * 32), chain[7], chain[0]], chain[9]) == chain[8:10]
        assert await ask([chain[-1]]) == []
        assert await ask([], chain[5]) == [chain[5]]
        assert await ask([BlockHash(b"\x09" * 32)]) == chain[1:2001]
        heard = len(peer.heard)
        await peer.say(GetHeaders((), BlockHash(b"\x09" * 32)))
        assert len(peer.heard) == heard  # unknown: no answer

    simulate(rng, body)


def test_no_headers_while_our_chain_is_worth_little(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(5)
        host.node.minimum_work = 1 << 40
        peer = await ready(Script(net, host))
        await peer.say(GetHeaders((host.node.active[0].header.hash,)))
        assert Headers.decode(peer.last("headers")).headers == ()
        friend = await ready(Script(net, host, permissions=Permission.DOWNLOAD))
        await friend.say(GetHeaders((host.node.active[0].header.hash,)))
        assert len(Headers.decode(friend.last("headers")).headers) == 5

    simulate(rng, body)


@pytest.mark.parametrize("message", [GetHeaders, GetBlocks])
def test_a_locator_too_long_ends_the_connection(
    rng: random.Random, message: type[GetHeaders] | type[GetBlocks]
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say(message((NONE,) * 101))
        assert not peer.peer.disconnecting
        await peer.say(message((NONE,) * 102))
        assert peer.peer.disconnecting

    simulate(rng, body)


def test_getblocks_goes_on_when_the_last_one_is_fetched(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        chain = [host.node.active[0].header.hash, *host.node.extend(600)]
        peer = await ready(Script(net, host))
        await peer.say(GetBlocks((chain[0],)))
        first = InvMessage.decode(peer.last("inv"))
        assert [i.hash for i in first.items] == chain[1:501]
        await peer.say(GetData((Inv(MSG_WITNESS_BLOCK, chain[500]),)))
        assert InvMessage.decode(peer.last("inv")).items == (Inv(MSG_BLOCK, chain[600]),)
        await peer.say(GetBlocks((chain[500],), chain[510]))
        assert [i.hash for i in InvMessage.decode(peer.last("inv")).items] == chain[501:510]

    simulate(rng, body)


def test_blocks_in_each_form(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        node = host.node
        tx = make_transaction(5, witness=True)
        block = make_block(node.active[0].header, 1, int(net.now) - 60, transactions=[tx])
        node.accept_block(block)
        peer = await ready(Script(net, host))
        kinds = (MSG_WITNESS_BLOCK, MSG_BLOCK, MSG_CMPCT_BLOCK)
        await peer.say(GetData(tuple(Inv(k, block.hash) for k in kinds)))
        answers = [(name, payload) for name, payload in peer.heard if name in ("block", "cmpctblock")]
        assert [name for name, _ in answers] == ["block", "block", "cmpctblock"]
        assert answers[0][1] == block.raw
        assert Block.parse(answers[1][1]).transactions[1].raw == tx.stripped
        assert CmpctBlock.decode(answers[2][1]).header == block.header
        await peer.say(GetBlockTxn(block.hash, (1,)))
        assert BlockTxn.decode(peer.last("blocktxn")).transactions == (tx,)

    simulate(rng, body)


def test_old_blocks_are_not_sent_compact(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        hashes = host.node.extend(12, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        await peer.say(GetData((Inv(MSG_CMPCT_BLOCK, hashes[0]), Inv(MSG_CMPCT_BLOCK, hashes[-1]))))
        assert [c for c in peer.commands() if c.endswith("block")] == ["block", "cmpctblock"]
        peer.heard.clear()
        await peer.say(GetBlockTxn(hashes[0], (0,)))
        assert peer.commands()[0] == "block"  # costs the one who asks as much as us
        await peer.say(GetBlockTxn(hashes[-1], (0, 1)))
        assert peer.peer.disconnecting

    simulate(rng, body)


def test_stale_blocks_are_served_only_while_young(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        node = host.node
        node.extend(2, time=int(net.now) - 60)
        stale = make_block(node.active[0].header, 1, int(net.now) - 50, salt=8)
        old = make_block(node.active[0].header, 1, int(net.now) - 40 * 86400, salt=9)
        for block in (stale, old):
            node.accept_block(block)
        peer = await ready(Script(net, host))
        await peer.say(GetData((Inv(MSG_WITNESS_BLOCK, old.hash), Inv(MSG_WITNESS_BLOCK, stale.hash))))
        await peer.say(GetHeaders((), old.hash))
        await peer.say(GetHeaders((), stale.hash))
        assert [p for n, p in peer.heard if n == "block"] == [stale.raw]
        assert [Headers.decode(p).headers for n, p in peer.heard if n == "headers"] == [(stale.header,)]

    simulate(rng, body)


def test_pruned_nodes_do_not_tell_how_far(rng: random.Random) -> None:
    config = P2PConfig(services=Services.NETWORK_LIMITED | Services.WITNESS)

    async def body(net: SimNet, host: SimHost) -> None:
        hashes = host.node.extend(300)
        peer = await ready(Script(net, host))
        peer.peer.our_services = int(config.services)
        await peer.say(GetData((Inv(MSG_WITNESS_BLOCK, hashes[20]),)))
        assert peer.commands()[-1] == "block"
        await peer.say(GetData((Inv(MSG_WITNESS_BLOCK, hashes[0]),)))
        assert peer.peer.disconnecting

    simulate(rng, body, config)


def test_transactions_only_after_they_were_announced(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await net.run(0.2)
        tx = make_transaction(1, witness=True)
        host.node.add_transaction(tx)
        await peer.say(GetData((Inv(MSG_WTX, tx.wtxid), Inv(MSG_TX, tx.txid), Inv(MSG_WTX, b"\x03" * 32))))
        assert [i.hash for i in NotFound.decode(peer.last("notfound")).items] == [tx.wtxid, tx.txid, b"\x03" * 32]
        assert await net.run(600, lambda: "inv" in peer.commands())
        assert InvMessage.decode(peer.last("inv")).items == (Inv(MSG_WTX, tx.wtxid),)
        await peer.say(GetData((Inv(MSG_WTX, tx.wtxid), Inv(MSG_TX, tx.txid), Inv(MSG_WITNESS_TX, tx.txid))))
        sent = [payload for name, payload in peer.heard if name == "tx"]
        assert sent == [tx.raw, tx.stripped, tx.raw]
        # and still when a block has just taken it out of the mempool
        block = make_block(host.node.active[-1].header, 1, int(net.now), transactions=[tx])
        host.node.accept_block(block)
        await net.run(0.2)
        peer.heard.clear()
        await peer.say(GetData((Inv(MSG_WTX, tx.wtxid),)))
        assert TxMessage.decode(peer.last("tx")).transaction == tx

    simulate(rng, body)


def test_requests_are_answered_in_order_and_unknown_kinds_skipped(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        hashes = host.node.extend(2, time=int(net.now) - 60)
        peer = await ready(Script(net, host))
        mixed = (
            Inv(99, b"\x01" * 32),
            Inv(MSG_WITNESS_BLOCK, hashes[0]),
            Inv(MSG_WTX, bytes(32)),
            Inv(MSG_BLOCK, hashes[1]),
        )
        await peer.say(GetData(mixed), Ping(1))
        assert peer.commands() == ["block", "notfound", "block", "pong"] or peer.commands() == [
            "block",
            "block",
            "notfound",
            "pong",
        ]

    simulate(rng, body)


def test_mempool_is_a_privilege(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    from p2p.messages import MemPool

    async def body(net: SimNet, host: SimHost) -> None:
        tx = make_transaction(3)
        host.node.add_transaction(tx, announce=False)
        stranger = await ready(Script(net, host))
        await stranger.say(MemPool())
        assert stranger.peer.disconnecting
        friend = await ready(Script(net, host, permissions=Permission.MEMPOOL | Permission.NOBAN))
        await friend.say(MemPool())
        assert InvMessage.decode(friend.last("inv")).items == (Inv(MSG_WTX, tx.wtxid),)

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "mempool request with bloom filters disabled, disconnecting peer=1" in caplog.messages


def test_bloom_filters_are_not_offered(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        peer.peer.send_raw("x", b"", 0.0)
        from p2p.transport_v1 import frame

        await peer.say_bytes(frame(host.node.params.magic, "filterload", bytes(40_000)))
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "filterload received despite not offering bloom services, disconnecting peer=1" in caplog.messages


def test_unknown_messages_are_ignored(rng: random.Random) -> None:
    from p2p.transport_v1 import frame

    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say_bytes(frame(host.node.params.magic, "mystery", bytes(1000)))
        await peer.say(Ping(4))
        assert peer.commands() == ["pong"]
        assert peer.peer.received_per_message["*other*"] == 1024

    simulate(rng, body)


@pytest.mark.parametrize(
    ("command", "count"), [("inv", 50_001), ("getdata", 50_001), ("addr", 1010), ("addrv2", 1010), ("headers", 2001)]
)
def test_lists_too_long(rng: random.Random, caplog: pytest.LogCaptureFixture, command: str, count: int) -> None:
    from chain.primitives.serialize import write_compact_size
    from p2p.transport_v1 import frame

    size = {"inv": 36, "getdata": 36, "addr": 30, "addrv2": 13, "headers": 81}[command]

    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say_bytes(frame(host.node.params.magic, command, write_compact_size(count) + bytes(size * count)))
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert f"Misbehaving: peer=1: {command} message size = {count}" in caplog.messages
