"""Who is let in, who must go, and what the user may configure."""

from __future__ import annotations

import ipaddress
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from p2p.addrman import AddrMan
from p2p.banman import BanManager, parse_subnet
from p2p.config import P2PConfig
from p2p.constants import service_names
from p2p.errors import RequestRefused
from p2p.eviction import Candidate, select_peer_to_evict
from p2p.netaddress import NetAddress, NetworkId, TimedAddress
from p2p.outbound import OutboundPlan
from p2p.peer import ConnectionType, Peer
from p2p.permissions import ALL_PERMISSIONS, Permission, parse_permissions, parse_whitelist, permission_names
from p2p.rolling import RollingSet

NOW = 1_700_000_000.0


def candidate(number: int, rng: random.Random, **changes: object) -> Candidate:
    base = Candidate(
        id=number,
        connected_at=NOW + number,
        min_ping=rng.random(),
        last_block=0.0,
        last_tx=0.0,
        relevant_services=True,
        relay_txs=True,
        keyed_group=rng.getrandbits(32),
        prefer_evict=False,
        is_local=False,
        network=NetworkId.IPV4,
        noban=False,
        inbound=True,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_few_peers_are_all_protected(rng: random.Random) -> None:
    assert select_peer_to_evict([candidate(i, rng) for i in range(12)]) is None


def test_noban_and_outbound_peers_are_never_evicted(rng: random.Random) -> None:
    assert select_peer_to_evict([candidate(i, rng, noban=True) for i in range(200)]) is None
    assert select_peer_to_evict([candidate(i, rng, inbound=False) for i in range(200)]) is None


def test_the_youngest_of_the_largest_group_goes(rng: random.Random) -> None:
    crowd = [candidate(i, rng, keyed_group=7, min_ping=1.0) for i in range(100, 160)]
    others = [candidate(i, rng, min_ping=1.0) for i in range(40)]
    assert select_peer_to_evict(crowd + others) == 159


@pytest.mark.parametrize("field", ["min_ping", "last_tx", "last_block"])
def test_the_useful_are_protected(rng: random.Random, field: str) -> None:
    useful: dict[str, object] = {"min_ping": {"min_ping": 0.0}}.get(field, {field: NOW})  # type: ignore[assignment]
    peers = [candidate(i, rng, keyed_group=i, min_ping=1.0) for i in range(60)]
    peers[-1] = replace(peers[-1], keyed_group=0, **useful)  # type: ignore[arg-type]
    for _ in range(20):
        evicted = select_peer_to_evict(peers)
        assert evicted is not None
        assert evicted != 59
        peers = [p for p in peers if p.id != evicted]
        if len(peers) < 25:
            break


def test_those_that_misbehaved_go_first(rng: random.Random) -> None:
    peers = [candidate(i, rng, min_ping=1.0) for i in range(80)]
    for i, bad in enumerate(peers):
        if i % 2:
            peers[i] = replace(bad, prefer_evict=True)
    evicted = select_peer_to_evict(peers)
    assert evicted is not None
    assert evicted % 2


def test_overlay_peers_keep_their_places(rng: random.Random) -> None:
    """Slow networks lose by every other measure; some are kept all the same."""
    peers = [candidate(i, rng, keyed_group=i + 1000, min_ping=0.1) for i in range(60)]
    peers += [
        candidate(i, rng, keyed_group=1, min_ping=9.0, network=NetworkId.TORV3, connected_at=NOW + 500 + i)
        for i in range(60, 64)
    ]
    for _ in range(30):
        evicted = select_peer_to_evict(peers)
        assert evicted is not None
        peers = [p for p in peers if p.id != evicted]
    assert any(p.network == NetworkId.TORV3 for p in peers)


# --- bans


def test_bans_last_as_long_as_they_should(tmp_path: Path) -> None:
    now = [NOW]
    path = tmp_path / "banlist.json"
    bans = BanManager(lambda: now[0], path)
    bans.ban(parse_subnet("1.2.3.0/24"), int(NOW) + 100)
    bans.ban(parse_subnet("2001:db8::1"), int(NOW) + 500)
    assert bans.banned(NetAddress.from_ip("1.2.3.77", 1))
    assert not bans.banned(NetAddress.from_ip("1.2.4.77", 1))
    with pytest.raises(RequestRefused, match="already banned") as refused:
        bans.ban(parse_subnet("1.2.3.9/24"), int(NOW) + 100)
    assert refused.value.kind == RequestRefused.ALREADY_ADDED
    again = BanManager(lambda: now[0], path)
    assert again.bans() == bans.bans()
    assert json.loads(path.read_text())["banned_nets"][0]["address"] == "1.2.3.0/24"
    now[0] += 101
    assert not again.banned(NetAddress.from_ip("1.2.3.77", 1))
    assert [str(s) for s in again.bans()] == ["2001:db8::1/128"]
    again.unban(parse_subnet("2001:db8::1"))
    with pytest.raises(RequestRefused, match="Unban failed"):
        again.unban(parse_subnet("2001:db8::1"))
    with pytest.raises(RequestRefused, match="Invalid IP/Subnet"):
        parse_subnet("1.2.3.4/33")


@pytest.mark.parametrize("content", [b"", b"not json", b'{"banned_nets": [{"address": "x"}]}', b"[]"])
def test_a_damaged_ban_list_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    path = tmp_path / "banlist.json"
    path.write_bytes(content)
    assert BanManager(lambda: NOW, path).bans() == {}
    assert len(caplog.records) == 1


def test_discouragement_forgets_the_oldest() -> None:
    bans = BanManager(lambda: NOW)
    for i in range(60_000):
        bans.discourage(NetAddress(NetworkId.IPV4, i.to_bytes(4, "big"), 1))
    assert bans.discouraged(NetAddress(NetworkId.IPV4, (59_999).to_bytes(4, "big"), 2))  # whatever the port


def test_rolling_sets_are_bounded(rng: random.Random) -> None:
    seen = RollingSet(100)
    keys = [rng.randbytes(8) for _ in range(1000)]
    for i, key in enumerate(keys):
        seen.add(key)
        assert all(k in seen for k in keys[max(0, i - 99) : i + 1])
        assert len(seen) <= 200
    assert keys[0] not in seen
    seen.clear()
    assert keys[-1] not in seen


# --- permissions and configuration


def test_permissions() -> None:
    assert parse_permissions("1.2.3.4")[0] == Permission.NOBAN | Permission.MEMPOOL | Permission.RELAY
    assert parse_permissions("noban,in,out@1.2.3.4") == (Permission.NOBAN, True, True, "1.2.3.4")
    assert parse_permissions("out,relay@x")[1:3] == (False, True)
    assert parse_permissions("all@x")[0] == ALL_PERMISSIONS
    assert permission_names(Permission.NOBAN) == ["noban", "download"]
    assert permission_names(ALL_PERMISSIONS) == [
        "bloomfilter",
        "noban",
        "forcerelay",
        "relay",
        "mempool",
        "download",
        "addr",
    ]
    with pytest.raises(UserError, match="Invalid P2P permission: 'oopsie'"):
        parse_permissions("oopsie@1.2.3.4")
    with pytest.raises(UserError, match="Only direction was set, no permissions"):
        parse_permissions("in,out@1.2.3.4")


def test_whitelist() -> None:
    entry = parse_whitelist("noban@127.0.0.0/8")
    assert entry.covers(NetAddress.from_ip("127.1.2.3", 1))
    assert not entry.covers(NetAddress.from_ip("::1", 1))
    assert entry.network == ipaddress.ip_network("127.0.0.0/8")
    with pytest.raises(UserError, match=r"Invalid netmask specified in -whitelist: '1\.2\.3\.4/33'"):
        parse_whitelist("1.2.3.4/33")


def test_user_agents() -> None:
    assert P2PConfig().user_agent == b"/Pickaxe:0.1.0/"
    assert P2PConfig(user_agent_comments=("testnode0", "foo")).user_agent == b"/Pickaxe:0.1.0(testnode0; foo)/"
    with pytest.raises(
        UserError, match=r"^Total length of network version string \([0-9]+\) exceeds maximum length \(256\)"
    ):
        _ = P2PConfig(user_agent_comments=("a" * 256,)).user_agent
    for unsafe in "/:()₿🏃":
        with pytest.raises(UserError, match="contains unsafe characters"):
            _ = P2PConfig(user_agent_comments=(unsafe,)).user_agent


def test_service_names() -> None:
    assert service_names(0b1001 | 1 << 30) == ["NETWORK", "WITNESS", "UNKNOWN[2^30]"]


# --- which connections to open


def outbound_peer(number: int, kind: ConnectionType, address: str) -> Peer:
    return Peer(
        number,
        magic=b"abcd",
        address=NetAddress.from_ip(address, 8333),
        name=address,
        connection_type=kind,
        sink=lambda data: None,
        now=NOW,
        nonce=1,
    )


def test_outbound_connections_are_opened_in_distinct_groups(rng: random.Random) -> None:
    man = AddrMan(lambda: NOW, rng)
    source = NetAddress.from_ip("99.1.1.1", 1)
    addresses = [NetAddress.from_ip(f"{20 + i % 15}.1.{i}.1", 8333) for i in range(200)]
    man.add([TimedAddress(int(NOW), 9, a) for a in addresses], source=source, time_penalty_s=0)
    peers: dict[int, Peer] = {}
    plan = OutboundPlan(P2PConfig(), man, lambda: NOW, rng, peers)
    kinds = []
    for i in range(20):
        wanted = plan.next_connection(())
        if wanted is None:
            break
        kinds.append(wanted.connection_type)
        peers[i] = outbound_peer(i, wanted.connection_type, wanted.address.host)
    assert kinds.count(ConnectionType.OUTBOUND_FULL_RELAY) == 8
    assert kinds.count(ConnectionType.BLOCK_RELAY) == 2
    groups = [p.address.group for p in peers.values() if p.address]
    assert len(set(groups)) == len(groups)


def test_no_connections_to_nodes_that_cannot_help(rng: random.Random) -> None:
    man = AddrMan(lambda: NOW, rng)
    man.add([TimedAddress(int(NOW), 1, NetAddress.from_ip("8.8.8.8", 8333))], source=None)
    plan = OutboundPlan(P2PConfig(), man, lambda: NOW, rng, {})
    assert plan.next_connection(()) is None
    assert plan.seed_nodes_to_ask() == []
    assert OutboundPlan(
        P2PConfig(seed_nodes=("a",)), AddrMan(lambda: NOW, rng), lambda: NOW, rng, {}
    ).seed_nodes_to_ask() == ["a"]
