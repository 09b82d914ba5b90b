"""Blocks rebuilt from short ids (BIP152)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction
from p2p.messages import (
    BlockMessage,
    BlockTxn,
    CmpctBlock,
    GetBlockTxn,
    GetData,
    Headers,
    Inv,
    Ping,
    SendCmpct,
    TxMessage,
)
from p2p.messages.compact import short_id, short_id_key
from p2p.messages.inventory import MSG_CMPCT_BLOCK, MSG_WITNESS_BLOCK
from tests.support.fake_node import FakeNode, make_block, make_transaction
from tests.support.simnet import Script, SimHost, SimNet, ready

Body = Callable[[SimNet, SimHost], Awaitable[None]]


def simulate(rng: random.Random, body: Body) -> None:
    async def main() -> None:
        net = SimNet(rng)
        host = net.add(FakeNode())
        host.node.extend(1, time=int(net.now) - 60)
        await body(net, host)

    asyncio.run(main())


def block_with(host: SimHost, net: SimNet, count: int) -> tuple[Block, list[Transaction]]:
    txs = [make_transaction(100 + i, witness=True) for i in range(count)]
    tip = host.node.active[-1]
    return make_block(tip.header, tip.height + 1, int(net.now) - 30, transactions=txs), txs


def test_a_block_whose_transactions_we_have_needs_no_question(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say(SendCmpct(False))
        block, txs = block_with(host, net, 5)
        for tx in txs:
            host.node.add_transaction(tx)
        await peer.say(CmpctBlock.from_block(block, 7), Ping(1))
        assert host.node.tip().hash == block.hash
        assert "getblocktxn" not in peer.commands()
        assert peer.peer.sync.compact_to  # it was first: it may announce the next unasked
        assert SendCmpct.decode(peer.last("sendcmpct")).high_bandwidth

    simulate(rng, body)


def test_what_is_missing_is_asked_for(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, txs = block_with(host, net, 5)
        for tx in txs[:2]:
            host.node.add_transaction(tx)
        await peer.say(CmpctBlock.from_block(block, 7))
        assert GetBlockTxn.decode(peer.last("getblocktxn")) == GetBlockTxn(block.hash, (3, 4, 5))
        assert host.engine.download.requested(block.hash)
        await peer.say(BlockTxn(block.hash, tuple(txs[2:])))
        assert host.node.tip().hash == block.hash
        assert not host.engine.download.requested(block.hash)

    simulate(rng, body)


def test_refused_orphaned_and_replaced_transactions_need_no_question(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, (refused, replaced, orphan) = block_with(host, net, 3)
        host.node.bad_transactions.add(refused.wtxid)
        replacement = make_transaction(999, spend=replaced.prevouts[0])
        await peer.say(*(TxMessage(tx) for tx in (refused, replaced, replacement)))
        host.node.known_outpoints = set()
        await peer.say(TxMessage(orphan))
        assert set(host.node.pool) == {replacement.wtxid}
        await peer.say(CmpctBlock.from_block(block, 7), Ping(1))
        assert host.node.tip().hash == block.hash
        assert "getblocktxn" not in peer.commands()

    simulate(rng, body)


def test_a_wrong_rebuild_is_fetched_whole_and_never_punished(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, txs = block_with(host, net, 2)
        await peer.say(CmpctBlock.from_block(block, 7))
        await peer.say(BlockTxn(block.hash, (txs[1], txs[0])))
        assert GetData.decode(peer.last("getdata")).items == (Inv(MSG_WITNESS_BLOCK, block.hash),)
        assert not peer.peer.disconnecting
        await peer.say(BlockMessage(block.raw))
        assert host.node.tip().hash == block.hash

    simulate(rng, body)


def test_trying_again_after_a_wrong_rebuild_is_misbehaviour(
    rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, txs = block_with(host, net, 2)
        await peer.say(CmpctBlock.from_block(block, 7))
        for _ in range(2):
            await peer.say(BlockTxn(block.hash, (txs[1], txs[0])))
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "Misbehaving: peer=1: previous compact block reconstruction attempt failed" in caplog.messages


def test_transactions_not_asked_for(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, txs = block_with(host, net, 3)
        await peer.say(BlockTxn(block.hash, tuple(txs)))
        assert not peer.peer.disconnecting
        await peer.say(CmpctBlock.from_block(block, 7))
        await peer.say(BlockTxn(block.hash, tuple(txs[:1])))
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "Peer 1 sent us block transactions for block we weren't expecting" in caplog.messages
    assert "Misbehaving: peer=1: invalid compact block/non-matching block transactions" in caplog.messages


@pytest.mark.parametrize("fault", ["empty", "index", "work"])
def test_impossible_compact_blocks(rng: random.Random, fault: str) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, _ = block_with(host, net, 1)
        good = CmpctBlock.from_block(block, 7)
        header = good.header
        if fault == "work":
            while int.from_bytes(header.hash, "little") >> 255 == 0:
                h = header
                header = BlockHeader.build(h.version, h.prev_hash, h.merkle_root, h.time, h.nbits, h.nonce + 1)
        bad = {
            "empty": CmpctBlock(header, 7, (), ()),
            "index": CmpctBlock(header, 7, good.short_ids, ((9, block.transactions[0]),)),
            "work": CmpctBlock(header, 7, good.short_ids, good.prefilled),
        }[fault]
        await peer.say(bad)
        assert peer.peer.disconnecting

    simulate(rng, body)


def test_an_invalid_block_by_compact_announcement_is_forgiven(rng: random.Random) -> None:
    """BIP152 lets peers announce before they have validated."""

    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, _ = block_with(host, net, 0)
        host.node.bad_blocks.add(block.hash)
        await peer.say(CmpctBlock.from_block(block, 7), Ping(1))
        assert not peer.peer.disconnecting
        assert host.node.header(block.hash).failed  # type: ignore[union-attr]

    simulate(rng, body)


def test_colliding_short_ids_mean_the_whole_block(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        block, _ = block_with(host, net, 2)
        good = CmpctBlock.from_block(block, 7)
        await peer.say(CmpctBlock(good.header, 7, (good.short_ids[0],) * 2, good.prefilled))
        assert GetData.decode(peer.last("getdata")).items == (Inv(MSG_WITNESS_BLOCK, block.hash),)
        assert not peer.peer.disconnecting

    simulate(rng, body)


def test_far_ahead_it_is_but_a_header(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        parent = host.node.active[-1].header
        blocks = []
        for i in range(5):
            block = make_block(parent, 2 + i, int(net.now) - 30 + i)
            blocks.append(block)
            parent = block.header
        await peer.say(Headers(tuple(b.header for b in blocks[:4])))
        peer.heard.clear()
        await peer.say(CmpctBlock.from_block(blocks[4], 7))
        assert GetData.decode(peer.last("getdata")).items == (Inv(MSG_WITNESS_BLOCK, blocks[4].hash),)
        unknown = make_block(make_block(parent, 8, int(net.now)).header, 9, int(net.now) + 1)
        net.now += 130
        await peer.say(CmpctBlock.from_block(unknown, 7))
        assert "getheaders" in peer.commands()

    simulate(rng, body)


def test_single_announcements_are_asked_for_compact(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say(SendCmpct(False))
        block, _ = block_with(host, net, 1)
        await peer.say(Headers((block.header,)))
        assert GetData.decode(peer.last("getdata")).items == (Inv(MSG_CMPCT_BLOCK, block.hash),)

    simulate(rng, body)


def test_three_peers_announce_unasked(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peers = [await ready(Script(net, host)) for _ in range(4)]
        for peer in peers:
            await peer.say(SendCmpct(False))
            block, _ = block_with(host, net, 0)
            await peer.say(BlockMessage(block.raw))
        assert [p.peer.sync.compact_to for p in peers] == [False, True, True, True]

    simulate(rng, body)


def test_short_ids_match_bip152s_definition() -> None:
    block = make_block(FakeNode().active[0].header, 1, 1_700_000_000)
    key = short_id_key(block.header, 5)
    assert len(short_id(key, bytes(32))) == 6
    assert short_id(key, bytes(32)) != short_id(short_id_key(block.header, 6), bytes(32))
