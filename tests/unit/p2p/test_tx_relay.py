"""Transactions between peers: asked of one at a time, passed on to the others, remembered when refused."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount
from p2p.config import P2PConfig
from p2p.messages import FeeFilter, GetData, Inv, InvMessage, NotFound, Ping, TxMessage
from p2p.messages.inventory import MSG_TX, MSG_WITNESS_TX, MSG_WTX
from p2p.orphans import OrphanPool
from p2p.peer import ConnectionType
from p2p.permissions import Permission
from p2p.tx_relay import topological
from p2p.tx_request import TxAnnouncement, TxRequests
from tests.support.fake_node import FakeNode, make_transaction
from tests.support.simnet import Script, SimHost, SimNet, ready

Body = Callable[[SimNet, SimHost], Awaitable[None]]


def simulate(rng: random.Random, body: Body, config: P2PConfig | None = None) -> None:
    async def main() -> None:
        net = SimNet(rng)
        await body(net, net.add(FakeNode(), config))

    asyncio.run(main())


def inv_of(*txs: Transaction) -> InvMessage:
    return InvMessage(tuple(Inv(MSG_WTX, tx.wtxid) for tx in txs))


def asked(peer: Script) -> list[Inv]:
    return [inv for name, payload in peer.heard if name == "getdata" for inv in GetData.decode(payload).items]


def told(peer: Script) -> list[bytes]:
    return [inv.hash for name, payload in peer.heard if name == "inv" for inv in InvMessage.decode(payload).items]


def child_of(parent: Transaction, salt: int = 0) -> Transaction:
    return Transaction.build(2, [TxIn(parent.outpoint(0))], [TxOut(Amount(500), b"\x51" * 30 + bytes([salt]))])


def test_outbound_peers_are_asked_first_then_the_next(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        tx = make_transaction(1)
        inbound = await ready(Script(net, host))
        outbound = await ready(Script(net, host, ConnectionType.MANUAL))
        await inbound.say(inv_of(tx))
        await outbound.say(inv_of(tx))
        assert asked(outbound) == [Inv(MSG_WTX, tx.wtxid)]
        await net.run(50)
        assert asked(inbound) == []
        await net.run(12)  # a minute without an answer
        assert asked(inbound) == [Inv(MSG_WTX, tx.wtxid)]
        await inbound.say(TxMessage(tx))
        assert tx.wtxid in host.node.pool
        assert not len(host.engine.transactions.requests)

    simulate(rng, body)


def test_notfound_passes_the_turn(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        tx = make_transaction(1)
        a, b = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(2)]
        await a.say(inv_of(tx))
        await b.say(inv_of(tx))
        first, second = (a, b) if asked(a) else (b, a)
        assert asked(second) == []
        await first.say(NotFound((Inv(MSG_WTX, tx.wtxid),)))
        await net.run(0.3)
        assert asked(second) == [Inv(MSG_WTX, tx.wtxid)]

    simulate(rng, body)


def test_a_peer_that_leaves_passes_the_turn(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        tx = make_transaction(1)
        a, b = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(2)]
        await a.say(inv_of(tx))
        await b.say(inv_of(tx))
        first, second = (a, b) if asked(a) else (b, a)
        first.peer.disconnect()
        await net.run(0.3)
        assert asked(second) == [Inv(MSG_WTX, tx.wtxid)]

    simulate(rng, body)


def test_accepted_transactions_reach_the_others(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        source, wtxid_peer = [await ready(Script(net, host)) for _ in range(2)]
        poor = await ready(Script(net, host))
        await poor.say(FeeFilter(10_000_000))
        await net.run(0.3)
        tx = make_transaction(1, witness=True)
        await source.say(TxMessage(tx))
        assert await net.run(600, lambda: bool(told(wtxid_peer)))  # at a random time, five seconds on average
        await net.run(60)
        assert told(wtxid_peer) == [tx.wtxid]
        assert told(source) == []  # it knows
        assert told(poor) == []  # it said what it would refuse

    simulate(rng, body)


def test_noban_peers_hear_at_once(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        friend = await ready(Script(net, host, permissions=Permission.NOBAN))
        await net.run(0.2)
        tx = make_transaction(1)
        host.node.add_transaction(tx)
        await net.run(0.2)
        assert told(friend) == [tx.wtxid]

    simulate(rng, body)


def test_refused_transactions_are_not_asked_for_again_until_a_block(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        tx = make_transaction(1)
        host.node.bad_transactions.add(tx.wtxid)
        a, b = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(2)]
        await a.say(TxMessage(tx))
        assert not a.peer.disconnecting  # what policy or a soft fork refuses is not an attack
        await b.say(inv_of(tx))
        await net.run(1)
        assert asked(b) == []
        host.node.extend(1, time=int(net.now) - 50)
        await b.say(inv_of(tx))
        await net.run(1)
        assert asked(b) == [Inv(MSG_WTX, tx.wtxid)]

    simulate(rng, body)


def test_orphans_find_their_parents(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        parent = make_transaction(1)
        child, grandchild = child_of(parent), None
        grandchild = child_of(child)
        host.node.known_outpoints = set(parent.prevouts)
        peer = await ready(Script(net, host, ConnectionType.MANUAL))
        await peer.say(TxMessage(grandchild), TxMessage(child))
        assert len(host.engine.transactions.orphans) == 2
        await net.run(3)  # by txid, after two seconds in which they might come by themselves
        assert Inv(MSG_WITNESS_TX, parent.txid) in asked(peer)
        await peer.say(TxMessage(parent), Ping(1))
        assert peer.commands()[-1] == "pong"
        assert set(host.node.pool) == {parent.wtxid, child.wtxid, grandchild.wtxid}
        assert len(host.engine.transactions.orphans) == 0

    simulate(rng, body)


def test_children_of_rejected_parents_are_rejected(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        parent = make_transaction(1)
        child = child_of(parent)
        host.node.known_outpoints = set(parent.prevouts)
        host.node.bad_transactions.add(parent.wtxid)
        peer = await ready(Script(net, host, ConnectionType.MANUAL))
        await peer.say(TxMessage(parent), TxMessage(child))
        assert len(host.engine.transactions.orphans) == 0
        await peer.say(inv_of(child))
        await net.run(3)
        assert asked(peer) == []

    simulate(rng, body)


@pytest.mark.parametrize("message", ["inv", "tx"])
def test_blocksonly_peers_must_not_send_any(rng: random.Random, caplog: pytest.LogCaptureFixture, message: str) -> None:
    tx = make_transaction(1)

    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say(inv_of(tx) if message == "inv" else TxMessage(tx))
        assert peer.peer.disconnecting
        friend = await ready(Script(net, host, permissions=Permission.RELAY))
        await friend.say(TxMessage(tx))
        assert tx.wtxid in host.node.pool

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body, P2PConfig(blocks_only=True))
    assert any(m.endswith("sent in violation of protocol, disconnecting peer=1") for m in caplog.messages)


def test_during_initial_download_transactions_are_ignored(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.initial_download = True
        peer = await ready(Script(net, host))
        assert FeeFilter.decode(b"\0" * 8)  # the filter that keeps them away was sent in the handshake
        assert peer.peer.fee_filter_sent == 9_936_506
        await peer.say(inv_of(make_transaction(1)), TxMessage(make_transaction(2)))
        await net.run(5)
        assert asked(peer) == []
        assert not host.node.pool
        host.node.initial_download = False
        await net.run(1)
        assert 0 < peer.peer.fee_filter_sent <= 200

    simulate(rng, body)


def test_malformed_transactions_are_dropped_with_one_line(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    from p2p.transport_v1 import frame

    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host))
        await peer.say_bytes(frame(host.node.params.magic, "tx", make_transaction(1).raw[:-3]))
        await peer.say(Ping(1))
        assert peer.commands() == ["pong"]

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert sum("Exception" in m for m in caplog.messages) == 1


# --- the tracker


def announce(requests: TxRequests, peer: int, tx: bytes, *, preferred: bool = False, time: float = 0.0) -> None:
    requests.announced(peer, TxAnnouncement(True, tx), preferred, time)


def test_tracker_asks_one_peer_at_a_time(rng: random.Random) -> None:
    requests = TxRequests(rng)
    for peer in range(5):
        announce(requests, peer, b"x", preferred=peer == 3)
    ready_now = [peer for peer in range(5) if requests.requestable(peer, 1.0)[0]]
    assert ready_now == [3]
    requests.requested(3, b"x", 61.0)
    assert requests.count_in_flight(3) == 1
    assert not any(requests.requestable(peer, 2.0)[0] for peer in range(5))
    chosen = {peer: requests.requestable(peer, 62.0) for peer in range(5)}
    assert sum(bool(c) for c, _ in chosen.values()) == 1
    assert requests.count_in_flight(3) == 0
    for peer in range(5):
        requests.answered(peer, b"x")
    assert len(requests) == 0


def test_tracker_spreads_requests_among_equals(rng: random.Random) -> None:
    requests = TxRequests(rng)
    hashes = [bytes([i]) for i in range(200)]
    for tx in hashes:
        for peer in (1, 2):
            announce(requests, peer, tx)
    counts = [len(requests.requestable(peer, 1.0)[0]) for peer in (1, 2)]
    assert sum(counts) == 200
    assert min(counts) > 50


def test_tracker_against_a_plain_model(rng: random.Random) -> None:
    """Random operations: at most one request per hash, counts right, nothing left behind."""
    requests = TxRequests(rng)
    now = 0.0
    in_flight: dict[bytes, tuple[int, float]] = {}
    for _ in range(3000):
        now += rng.random()
        peer, tx = rng.randrange(4), bytes([rng.randrange(10)])
        match rng.randrange(6):
            case 0 | 1:
                announce(requests, peer, tx, preferred=peer == 0, time=now + rng.choice([0, 2]))
            case 2 | 3:
                for announcement in requests.requestable(peer, now)[0]:
                    old = in_flight.get(announcement.hash)
                    assert old is None or old[1] <= now, "asked twice"
                    requests.requested(peer, announcement.hash, now + 5)
                    in_flight[announcement.hash] = (peer, now + 5)
            case 4:
                requests.answered(peer, tx)
                if in_flight.get(tx, (None,))[0] == peer:
                    del in_flight[tx]
            case _:
                if rng.random() < 0.3:
                    requests.disconnected(peer)
                    in_flight = {h: f for h, f in in_flight.items() if f[0] != peer}
                else:
                    requests.forget(tx)
                    in_flight.pop(tx, None)
        assert all(0 <= requests.count_in_flight(p) <= 10 for p in range(4))
    for peer in range(4):
        requests.disconnected(peer)
    assert len(requests) == 0


# --- the orphan pool


def test_orphans_are_bounded_in_number(rng: random.Random) -> None:
    pool = OrphanPool(rng, 10)
    for salt in range(100):
        pool.add(make_transaction(salt), 1)
    pool.add(make_transaction(1000), 2)
    assert len(pool) == 10
    assert make_transaction(1000).wtxid in pool  # the crowd loses, not the newcomer


def test_orphans_are_bounded_in_weight_per_peer(rng: random.Random) -> None:
    pool = OrphanPool(rng, 100)
    big = [
        Transaction.build(2, [TxIn(make_transaction(i).outpoint(0))], [TxOut(Amount(1), bytes(49_000))])
        for i in range(10)
    ]
    for tx in big:
        pool.add(tx, 1)
    assert len(pool) == 2
    too_big = Transaction.build(2, [TxIn(make_transaction(1).outpoint(0))], [TxOut(Amount(1), bytes(100_000))])
    assert not pool.add(too_big, 2)


def test_orphans_go_with_their_last_announcer(rng: random.Random) -> None:
    pool = OrphanPool(rng, 10)
    tx = make_transaction(1)
    pool.add(tx, 1)
    pool.add(tx, 2)
    pool.forget_peer(1)
    assert tx.wtxid in pool
    pool.parent_accepted(tx.prevouts[0][:32])
    assert pool.has_work(2)
    pool.forget_peer(2)
    assert len(pool) == 0
    assert pool.next_work(2) is None


def test_a_block_that_spends_the_same_removes_orphans(rng: random.Random) -> None:
    pool = OrphanPool(rng, 10)
    tx, other = make_transaction(1), make_transaction(2)
    pool.add(tx, 1)
    pool.add(other, 1)
    pool.forget_spent([tx])
    assert tx.wtxid not in pool
    assert other.wtxid in pool


def test_batches_are_sorted_by_fee_rate_but_parents_come_first() -> None:
    node = FakeNode()
    parent = make_transaction(1)
    child = child_of(parent)
    rich = make_transaction(2)
    entries = [
        node.add_transaction(parent, fee=100),
        node.add_transaction(child, fee=50_000),
        node.add_transaction(rich, fee=20_000),
    ]
    assert [e.txid for e in topological(entries)] == [parent.txid, child.txid, rich.txid]


def test_txid_peers_get_txids(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        from p2p.messages import Pong, VerAck, Version

        peer = Script(net, host)
        await peer.say(Version(70015, 9, int(net.now), nonce=5), VerAck())
        await peer.say(Pong(peer.peer.ping_nonce))
        peer.heard.clear()
        await net.run(0.2)
        tx = make_transaction(1, witness=True)
        host.node.add_transaction(tx)
        assert await net.run(600, lambda: bool(told(peer)))
        assert told(peer) == [tx.txid]
        await peer.say(InvMessage((Inv(MSG_WTX, b"\x01" * 32), Inv(MSG_TX, b"\x02" * 32))))
        await net.run(5)
        assert [i.hash for i in asked(peer)] == [b"\x02" * 32]  # wtxids were not agreed on

    simulate(rng, body)
