"""The address book and the gossip that fills it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chain.primitives.errors import DecodeError
from p2p.addrman import BUCKET_SIZE, NEW_BUCKETS_PER_SOURCE_GROUP, AddrMan
from p2p.constants import Services
from p2p.messages import Addr, AddrV2, GetAddr
from p2p.netaddress import NetAddress, NetworkId, TimedAddress, split_host_port
from p2p.peer import ConnectionType
from p2p.permissions import Permission
from tests.support.fake_node import FakeNode
from tests.support.simnet import START, Script, SimHost, SimNet, ready

NOW = int(START)
FULL = int(Services.NETWORK | Services.WITNESS)


def ip(text: str, port: int = 8333) -> NetAddress:
    return NetAddress.from_ip(text, port)


def seen(address: NetAddress, *, age: int = 0, services: int = FULL) -> TimedAddress:
    return TimedAddress(NOW - age, services, address)


def some(count: int, rng: random.Random) -> list[TimedAddress]:
    return [seen(ip(f"{rng.randrange(11, 120)}.{rng.randrange(256)}.{rng.randrange(256)}.9")) for _ in range(count)]


def book(rng: random.Random, path: Path | None = None) -> AddrMan:
    return AddrMan(lambda: START, rng, path)


def test_only_addresses_that_can_be_reached_are_kept(rng: random.Random) -> None:
    man = book(rng)
    useless = ["127.0.0.1", "10.1.2.3", "192.168.1.1", "0.0.0.0", "255.255.255.255", "::1", "fe80::1", "224.0.0.1"]
    assert man.add([seen(ip(a)) for a in useless], source=None) == 0
    assert man.add([seen(ip("8.8.8.8", 0))], source=None) == 0
    assert man.add([seen(ip("8.8.8.8")), seen(ip("2001:4860:4860::8888"))], source=None) == 2
    assert man.add([seen(ip("8.8.8.8"))], source=None) == 0
    assert man.counts == (2, 0)


def test_one_source_can_fill_little(rng: random.Random) -> None:
    man = book(rng)
    for _ in range(60):
        man.add(some(1000, rng), source=ip("99.1.1.1"))
    assert len(man) <= NEW_BUCKETS_PER_SOURCE_GROUP * BUCKET_SIZE


def test_what_worked_is_tried_again(rng: random.Random) -> None:
    man = book(rng)
    man.add(some(100, rng), source=ip("99.1.1.1"))
    chosen = man.select()
    assert chosen is not None
    assert man.good(chosen.address)
    assert man.counts == (len(man) - 1, 1)
    assert not man.good(ip("1.2.3.4"))
    picked = {man.select() for _ in range(200)}
    assert chosen.address in {p.address for p in picked if p}
    assert all(p.address != chosen.address for p in [man.select(new_only=True) for _ in range(100)] if p)


def test_failures_make_an_address_worthless(rng: random.Random) -> None:
    now = [START]
    man = AddrMan(lambda: now[0], rng)
    man.add([seen(ip("8.8.8.8"))], source=ip("99.1.1.1"))
    assert man.sample(None, None, None)
    for _ in range(3):
        man.attempt(ip("8.8.8.8"), count_failure=True)
    now[0] += 120
    assert man.sample(None, None, None) == []


def test_samples(rng: random.Random) -> None:
    man = book(rng)
    man.add([seen(ip("2001:4860:4860::8888")), *some(500, rng)], source=ip("99.1.1.1"))
    total = len(man)
    assert len(man.sample(1000, 23, None)) == total * 23 // 100
    assert len(man.sample(10, 23, None)) == 10
    assert [s.address for s in man.sample(None, None, "ipv6")] == [ip("2001:4860:4860::8888")]


def test_peers_dat(rng: random.Random, tmp_path: Path) -> None:
    path = tmp_path / "peers.dat"
    man = book(rng, path)
    man.add(some(300, rng), source=ip("99.1.1.1"))
    chosen = man.select()
    assert chosen is not None
    man.good(chosen.address)
    man.attempt(chosen.address, count_failure=True)
    man.save()
    assert [p.name for p in tmp_path.iterdir()] == ["peers.dat"]
    again = book(rng, path)
    assert again.counts == man.counts
    assert again.to_bytes() == man.to_bytes()


@pytest.mark.parametrize("damage", ["cut", "bit", "magic", "count", "empty"])
def test_damaged_peers_dat_is_kept_aside(
    rng: random.Random, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    from chain.crypto.hashes import sha256d

    path = tmp_path / "peers.dat"
    man = book(rng, path)
    man.add(some(20, rng), source=ip("99.1.1.1"))
    data = man.to_bytes()
    body = data[:-32]
    path.write_bytes(
        {
            "cut": data[: rng.randrange(len(data))],
            "bit": data[:50] + bytes([data[50] ^ 4]) + data[51:],
            "magic": b"X" + body[1:] + sha256d(b"X" + body[1:]),
            "count": body[:40] + b"\xff\xff\xff\x7f" + body[44:] + sha256d(body[:40] + b"\xff\xff\xff\x7f" + body[44:]),
            "empty": b"",
        }[damage]
    )
    broken = path.read_bytes()
    again = book(rng, path)
    assert len(again) == 0
    assert len(caplog.records) == 1
    assert (tmp_path / "peers.dat.bad").read_bytes() == broken
    with pytest.raises(DecodeError):
        again.from_bytes(broken)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3.4", ("1.2.3.4", 7)),
        ("1.2.3.4:99", ("1.2.3.4", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 7)),
        ("2001:db8::1", ("2001:db8::1", 7)),
        ("node.example:1", ("node.example", 1)),
    ],
)
def test_hosts_and_ports(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 7) == expected


@pytest.mark.parametrize("text", ["host:", "host:0", "host:65536", "host:x", ":5"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(ValueError):
        split_host_port(text, 7)


def test_text_forms() -> None:
    assert str(ip("::1", 5)) == "[::1]:5"
    assert str(NetAddress.from_ip("::ffff:1.2.3.4", 5)) == "1.2.3.4:5"
    onion = NetAddress(
        NetworkId.TORV3, bytes.fromhex("79bcc625184b05194975c28b66b66b0469f7f6556fb1ac3189a79b40dda32f1f"), 1
    )
    assert onion.host == "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"  # BIP155's example
    assert ip("10.0.0.1").network_name == "not_publicly_routable"


# --- gossip

Body = Callable[[SimNet, SimHost], Awaitable[None]]


def simulate(rng: random.Random, body: Body) -> None:
    async def main() -> None:
        net = SimNet(rng)
        await body(net, net.add(FakeNode()))

    asyncio.run(main())


def test_gossip_is_rate_limited(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        stranger = await ready(Script(net, host))
        await stranger.say(AddrV2(tuple(some(500, rng))))
        assert stranger.peer.addr.processed == 1
        assert stranger.peer.addr.rate_limited == 499
        net.now += 1000
        await stranger.say(AddrV2(tuple(some(500, rng))))
        assert 100 <= stranger.peer.addr.processed <= 102
        friend = await ready(Script(net, host, permissions=Permission.ADDR))
        await friend.say(Addr(tuple(some(500, rng))))
        assert friend.peer.addr.processed == 500
        asked = await ready(Script(net, host, ConnectionType.OUTBOUND_FULL_RELAY))
        await asked.say(Addr(tuple(some(1000, rng))))  # the answer to our getaddr
        assert asked.peer.addr.processed >= 999

    simulate(rng, body)


def test_fresh_addresses_go_on_to_two_peers(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peers = [await ready(Script(net, host, ConnectionType.MANUAL)) for _ in range(6)]
        source = await ready(Script(net, host))
        address = seen(ip("8.8.4.4"))
        await source.say(AddrV2((address._replace(time=int(net.now)),)))

        def informed() -> list[Script]:
            return [p for p in peers if "addrv2" in p.commands()]

        assert await net.run(800, lambda: len(informed()) == 2)  # each at a random time, half a minute on average
        await net.run(300)
        heard = informed()
        assert len(heard) == 2
        assert AddrV2.decode(heard[0].last("addrv2")).addresses[0].address == ip("8.8.4.4")
        assert "addrv2" not in source.commands()

    simulate(rng, body)


def test_getaddr_is_answered_once_and_to_inbound_peers_only(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        host.engine._ctx.addrman.add(some(600, rng), source=ip("99.1.1.1"))
        total = len(host.engine._ctx.addrman)
        inbound = await ready(Script(net, host))
        await inbound.say(GetAddr())
        assert await net.run(800, lambda: "addrv2" in inbound.commands())
        got = [a for n, p in inbound.heard if n == "addrv2" for a in AddrV2.decode(p).addresses]
        assert len(got) == total * 23 // 100
        await inbound.say(GetAddr())
        await net.run(300)
        assert inbound.commands().count("addrv2") == 1
        second = await ready(Script(net, host))
        await second.say(GetAddr())
        assert await net.run(800, lambda: "addrv2" in second.commands())
        same = [a for n, p in second.heard if n == "addrv2" for a in AddrV2.decode(p).addresses]
        assert set(same) == set(got)  # asking often does not map our book
        outbound = await ready(Script(net, host, ConnectionType.MANUAL))
        await outbound.say(GetAddr())
        await net.run(300)
        assert "addrv2" not in outbound.commands()

    simulate(rng, body)


def test_addr_fetch_ends_with_the_answer(rng: random.Random) -> None:
    async def body(net: SimNet, host: SimHost) -> None:
        peer = await ready(Script(net, host, ConnectionType.ADDR_FETCH))
        await peer.say(AddrV2(tuple(some(1, rng))))
        assert not peer.peer.disconnecting
        await peer.say(AddrV2(tuple(some(5, rng))))
        assert peer.peer.disconnecting
        assert len(host.engine._ctx.addrman) >= 3  # some may want the same slot
        slow = await ready(Script(net, host, ConnectionType.ADDR_FETCH))
        await net.run(302)
        assert slow.peer.disconnecting

    simulate(rng, body)
