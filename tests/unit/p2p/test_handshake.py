"""version and verack, in every order that peers try."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from p2p.config import P2PConfig
from p2p.constants import Services
from p2p.messages import (
    GetAddr,
    Message,
    Ping,
    SendAddrV2,
    SendCmpct,
    SendHeaders,
    VerAck,
    Version,
    WtxidRelay,
)
from p2p.peer import ConnectionType
from p2p.transport_v1 import frame
from tests.support.fake_node import FakeNode
from tests.support.simnet import Script, SimHost, SimNet

FULL = Services.NETWORK | Services.WITNESS


def version(
    number: int = 70016, services: int = FULL, *, nonce: int = 99, relay: bool = True, agent: bytes = b"/x/"
) -> Version:
    return Version(number, services, 1_700_000_000, nonce=nonce, relay=relay, user_agent=agent)


Body = Callable[[SimNet, SimHost], Awaitable[None]]


def simulate(rng: random.Random, body: Body, config: P2PConfig | None = None) -> None:
    async def main() -> None:
        net = SimNet(rng)
        await body(net, net.add(FakeNode(), config))

    asyncio.run(main())


def test_inbound(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        assert peer.heard == []  # the one who connects speaks first
        await peer.say(version())
        assert peer.commands() == ["version", "wtxidrelay", "sendaddrv2", "verack"]
        ours = Version.decode(peer.last("version"))
        assert ours.user_agent == b"/Pickaxe:0.1.0(testnode0; b)/"
        assert ours.services == FULL
        assert ours.relay
        await peer.say(WtxidRelay(), SendAddrV2(), VerAck())
        # a ping at once, so that peers can measure us and test frameworks can wait for its pong
        assert peer.commands()[4:6] == ["sendcmpct", "ping"]
        assert peer.peer.wtxid_relay
        assert peer.peer.wants_addr_v2
        assert peer.peer.handshake_done
        assert peer.peer.user_agent == "/x/"

    simulate(rng, body, P2PConfig(user_agent_comments=("testnode0", "b")))


@pytest.mark.parametrize("kind", [ConnectionType.MANUAL, ConnectionType.OUTBOUND_FULL_RELAY])
def test_outbound(rng: random.Random, kind: ConnectionType) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host, kind)
        assert peer.commands() == ["version"]
        await peer.say(version())
        assert peer.commands() == ["version", "wtxidrelay", "sendaddrv2", "verack", "getaddr"]

    simulate(rng, body)


def test_block_relay_only_peers_get_no_gossip(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host, ConnectionType.BLOCK_RELAY)
        assert not Version.decode(peer.last("version")).relay
        await peer.say(version(), VerAck())
        assert "getaddr" not in peer.commands()
        assert "feefilter" not in peer.commands()
        assert peer.peer.tx is None

    simulate(rng, body)


def test_feelers_hang_up_after_the_version(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host, ConnectionType.FEELER)
        await peer.say(version())
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "feeler connection completed, disconnecting peer=1" in caplog.messages


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (version(31799), "peer using obsolete version 31799, disconnecting peer=1"),
        (
            version(services=Services.WITNESS),
            "peer does not offer the expected services (00000008 offered, 00000009 expected), disconnecting peer=1",
        ),
        (
            version(services=Services.NETWORK),
            "peer does not offer the expected services (00000001 offered, 00000009 expected), disconnecting peer=1",
        ),
    ],
)
def test_useless_outbound_peers_are_dropped(
    rng: random.Random, caplog: pytest.LogCaptureFixture, message: Version, text: str
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host, ConnectionType.OUTBOUND_FULL_RELAY)
        await peer.say(message)
        assert peer.peer.disconnecting
        assert not host.engine.peers

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert text in caplog.messages


def test_pruned_peers_will_do_while_we_are_close_to_the_tip(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.node.extend(1, time=int(net.now) - 60)
        peer = Script(net, host, ConnectionType.OUTBOUND_FULL_RELAY)
        await peer.say(version(services=Services.NETWORK_LIMITED | Services.WITNESS))
        assert not peer.peer.disconnecting

    simulate(rng, body)


@pytest.mark.parametrize("kind", [ConnectionType.INBOUND, ConnectionType.MANUAL])
def test_others_may_offer_nothing(rng: random.Random, kind: ConnectionType) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host, kind)
        await peer.say(version(services=0), VerAck())
        assert peer.peer.handshake_done

    simulate(rng, body)


def test_old_peers_are_spared_what_they_do_not_know(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say(version(60000), WtxidRelay(), VerAck())
        assert peer.commands()[:3] == ["version", "verack", "ping"]
        assert not {"sendcmpct", "sendheaders", "feefilter"} & set(peer.commands())
        assert not peer.peer.wtxid_relay
        assert peer.last("ping") == b""
        await peer.say(Ping(5))
        assert "pong" not in peer.commands()

    simulate(rng, body)


def test_ourselves(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        outbound = Script(net, host, ConnectionType.MANUAL)
        inbound = Script(net, host)
        await inbound.say(version(nonce=outbound.peer.nonce))
        assert inbound.peer.disconnecting
        assert inbound.heard == []

    with caplog.at_level(logging.INFO):
        simulate(rng, body)
    assert any(m.startswith("connected to self at ") and m.endswith(", disconnecting") for m in caplog.messages)


@pytest.mark.parametrize(
    ("late", "text"),
    [
        (WtxidRelay(), "wtxidrelay received after verack, disconnecting peer=1"),
        (SendAddrV2(), "sendaddrv2 received after verack, disconnecting peer=1"),
    ],
)
def test_features_after_verack_end_the_connection(
    rng: random.Random, caplog: pytest.LogCaptureFixture, late: Message, text: str
) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say(version(), VerAck(), late)
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert text in caplog.messages


def test_everything_else_waits(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say(VerAck(), Ping(1))
        assert peer.heard == []
        await peer.say(version(), Ping(1), GetAddr())
        assert "pong" not in peer.commands()
        await peer.say(
            SendHeaders(), SendCmpct(True), WtxidRelay(), WtxidRelay(), VerAck(), VerAck(), version(), Ping(2)
        )
        assert peer.peer.prefers_headers
        assert peer.peer.sync.wants_compact
        assert peer.last("pong") == b"\x02" + bytes(7)
        assert not peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    for text in (
        'non-version message before version handshake. Message "verack" from peer=1',
        'Unsupported message "ping" prior to verack from peer=1',
        "ignoring duplicate wtxidrelay from peer=1",
        "ignoring redundant verack message from peer=1",
        "redundant version message from peer=1",
    ):
        assert text in caplog.messages


def test_a_cut_version_is_dropped_and_the_next_counts(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say_bytes(frame(host.node.params.magic, "version", version().encode()[:30]))
        assert not peer.peer.disconnecting
        await peer.say(version())
        assert "verack" in peer.commands()

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert any(m.startswith("ProcessMessages(version, 30 bytes): Exception ") for m in caplog.messages)


def test_another_network_is_one_line_and_the_end(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say_bytes(frame(bytes.fromhex("f9beb4d9"), "version", version().encode()))
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert "Header error: Wrong MessageStart f9beb4d9 received, peer=1" in caplog.messages


@pytest.mark.parametrize("said", ["nothing", "version"])
def test_a_handshake_that_takes_too_long(rng: random.Random, caplog: pytest.LogCaptureFixture, said: str) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        if said == "version":
            await peer.say(version())
        await net.run(59)
        assert not peer.peer.disconnecting
        await net.run(3)
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    expected = {
        "nothing": "socket no message in first 60 seconds, never received from peer, never sent to peer, "
        "disconnecting peer=1",
        "version": "version handshake timeout, disconnecting peer=1",
    }
    assert expected[said] in caplog.messages


def test_silence(rng: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say(version(), VerAck())
        await net.run(20 * 60 - 1)
        assert not peer.peer.disconnecting
        await net.run(5)
        assert peer.peer.disconnecting

    with caplog.at_level(logging.DEBUG):
        simulate(rng, body)
    assert any("timeout" in m and m.endswith("disconnecting peer=1") for m in caplog.messages)


def test_pings_measure(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = Script(net, host)
        await peer.say(version(), VerAck())
        nonce = peer.last("ping")
        net.now += 0.25
        await peer.say_bytes(frame(host.node.params.magic, "pong", nonce))
        assert peer.peer.last_ping == pytest.approx(0.25)
        assert not peer.peer.ping_nonce
        count = peer.commands().count("ping")
        await net.run(119)
        assert peer.commands().count("ping") == count
        await net.run(3)
        assert peer.commands().count("ping") == count + 1
        for junk in (b"", bytes(8), b"\x01" * 8):
            await peer.say_bytes(frame(host.node.params.magic, "pong", junk))
        assert not peer.peer.disconnecting

    simulate(rng, body)
