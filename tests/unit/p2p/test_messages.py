"""Every message: decode undoes encode; cut short, it is refused; counts above the limits are misbehaviour."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.serialize import write_compact_size
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash
from p2p.errors import PeerDropped, PeerMisbehaviour
from p2p.messages import (
    MESSAGES,
    Addr,
    AddrV2,
    BlockMessage,
    BlockTxn,
    CmpctBlock,
    FeeFilter,
    FilterClear,
    GetAddr,
    GetBlocks,
    GetBlockTxn,
    GetCFCheckpt,
    GetCFHeaders,
    GetCFilters,
    GetData,
    GetHeaders,
    Headers,
    Inv,
    InvMessage,
    MemPool,
    Message,
    NotFound,
    Ping,
    Pong,
    SendAddrV2,
    SendCmpct,
    SendHeaders,
    TxMessage,
    VerAck,
    Version,
    WtxidRelay,
)
from p2p.messages.block import without_witnesses
from p2p.messages.registry import max_size
from p2p.netaddress import NetAddress, NetworkId, TimedAddress
from tests.support.fake_node import FakeNode, make_block, make_transaction

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
i32, i64 = (st.integers(-(1 << bits), (1 << bits) - 1) for bits in (31, 63))
hash32 = st.binary(min_size=32, max_size=32)
hashes = hash32.map(BlockHash)
headers = st.binary(min_size=80, max_size=80).map(BlockHeader)
transactions = st.builds(make_transaction, st.integers(0, (1 << 32) - 1), witness=st.booleans())

v4 = st.builds(NetAddress, st.just(NetworkId.IPV4), st.binary(min_size=4, max_size=4), u16)
v6 = st.builds(NetAddress, st.just(NetworkId.IPV6), st.binary(min_size=16, max_size=16), u16).filter(
    lambda a: NetAddress.from_v1(a.address, a.port) == a and a.address[:6] != bytes.fromhex("fd6b88c08724")
)
overlay = st.one_of(
    st.builds(NetAddress, st.just(NetworkId.TORV3), st.binary(min_size=32, max_size=32), u16),
    st.builds(NetAddress, st.just(NetworkId.I2P), st.binary(min_size=32, max_size=32), u16),
    st.builds(NetAddress, st.just(NetworkId.CJDNS), st.binary(min_size=16, max_size=16), u16),
    st.builds(NetAddress, st.integers(7, 255), st.binary(min_size=1, max_size=512), u16),
)
timed_v1 = st.builds(TimedAddress, u32, u64, st.one_of(v4, v6))
timed_v2 = st.builds(TimedAddress, u32, u64, st.one_of(v4, v6, overlay))
invs = st.lists(st.builds(Inv, u32, hash32), max_size=20).map(tuple)
locators = st.lists(hashes, max_size=101).map(tuple)
indexes = st.lists(st.integers(0, 0xFFFF), unique=True, max_size=20).map(sorted).map(tuple)


@st.composite
def compact_blocks(draw: st.DrawFn) -> CmpctBlock:
    positions = draw(indexes)
    prefilled = tuple((i, draw(transactions)) for i in positions[:4])
    ids = tuple(draw(st.lists(st.binary(min_size=6, max_size=6), max_size=20)))
    return CmpctBlock(draw(headers), draw(u64), ids, prefilled)


EXAMPLES: dict[str, st.SearchStrategy[Message]] = {
    "version": st.builds(
        Version,
        version=i32,
        services=u64,
        time=st.integers(0, (1 << 63) - 1),
        receiver=st.one_of(v4, v6),
        nonce=u64,
        user_agent=st.binary(max_size=256),
        start_height=i32,
        relay=st.booleans(),
        receiver_services=u64,
        sender_services=u64,
    ),
    "verack": st.just(VerAck()),
    "wtxidrelay": st.just(WtxidRelay()),
    "sendaddrv2": st.just(SendAddrV2()),
    "sendheaders": st.just(SendHeaders()),
    "getaddr": st.just(GetAddr()),
    "mempool": st.just(MemPool()),
    "filterclear": st.just(FilterClear()),
    "getcfilters": st.builds(GetCFilters, u8, u32, hashes),
    "getcfheaders": st.builds(GetCFHeaders, u8, u32, hashes),
    "getcfcheckpt": st.builds(GetCFCheckpt, u8, hashes),
    "ping": st.builds(Ping, st.one_of(st.none(), u64)),
    "pong": st.builds(Pong, u64),
    "addr": st.builds(Addr, st.lists(timed_v1, max_size=10).map(tuple)),
    "addrv2": st.builds(AddrV2, st.lists(timed_v2, max_size=10).map(tuple)),
    "inv": st.builds(InvMessage, invs),
    "getdata": st.builds(GetData, invs),
    "notfound": st.builds(NotFound, invs),
    "getheaders": st.builds(GetHeaders, locators, hashes, i32),
    "getblocks": st.builds(GetBlocks, locators, hashes, i32),
    "headers": st.builds(Headers, st.lists(headers, max_size=10).map(tuple)),
    "block": st.builds(BlockMessage, st.binary(min_size=81, max_size=500)),
    "tx": st.builds(TxMessage, transactions),
    "feefilter": st.builds(FeeFilter, i64),
    "sendcmpct": st.builds(SendCmpct, st.booleans(), u64),
    "cmpctblock": compact_blocks(),
    "getblocktxn": st.builds(GetBlockTxn, hashes, indexes),
    "blocktxn": st.builds(BlockTxn, hashes, st.lists(transactions, max_size=4).map(tuple)),
}


def test_every_registered_message_has_an_example() -> None:
    assert set(EXAMPLES) == set(MESSAGES)


@pytest.mark.parametrize("command", sorted(MESSAGES))
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_decode_undoes_encode(command: str, data: st.DataObject) -> None:
    message = data.draw(EXAMPLES[command])
    payload = message.encode()
    decoded = MESSAGES[command].decode(payload)
    assert decoded == message
    assert decoded.encode() == payload
    assert message.command == command
    limit = max_size(command)
    assert limit is not None
    assert len(payload) <= limit


@pytest.mark.parametrize("command", sorted(MESSAGES))
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_cut_short_it_is_refused_or_means_less(command: str, data: st.DataObject) -> None:
    """Never anything but DecodeError; some fields are optional, so a cut may leave a shorter valid message."""
    payload = data.draw(EXAMPLES[command]).encode()
    cut = payload[: data.draw(st.integers(0, max(len(payload) - 1, 0)))]
    try:
        decoded = MESSAGES[command].decode(cut)
    except DecodeError:
        return
    assert command in OPTIONAL_TAIL or decoded.encode() == cut


#: messages of which a cut can be a valid message with other content
OPTIONAL_TAIL = {"version", "ping", "pong", "block", "verack", "wtxidrelay", "sendaddrv2", "sendheaders", "getaddr"} | {
    "mempool",
    "filterclear",
}


@pytest.mark.parametrize("command", sorted(MESSAGES))
@given(payload=st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_noise_is_refused_or_decoded(command: str, payload: bytes) -> None:
    try:
        decoded = MESSAGES[command].decode(payload)
    except (DecodeError, PeerMisbehaviour, PeerDropped):
        return
    if command != "pong":  # which remembers how long it was
        assert MESSAGES[command].decode(decoded.encode()) == decoded


@pytest.mark.parametrize("command", sorted(set(MESSAGES) - {"block", "ping", "pong"}))
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_bytes_after_the_message_are_ignored(command: str, data: st.DataObject) -> None:
    """Core does so, and later versions rely on it. (A block is judged by whoever owns the chain; ping and pong tell
    lengths apart.)"""
    message = data.draw(EXAMPLES[command])
    assert MESSAGES[command].decode(message.encode() + b"later") == message


@pytest.mark.parametrize(
    ("command", "limit", "size"),
    [
        ("inv", 50_000, 36),
        ("getdata", 50_000, 36),
        ("notfound", 50_000, 36),
        ("addr", 1_000, 30),
        ("headers", 2_000, 81),
    ],
)
def test_counts_above_the_limit_are_misbehaviour(command: str, limit: int, size: int) -> None:
    payload = write_compact_size(limit + 1) + bytes(size) * (limit + 1)
    with pytest.raises(PeerMisbehaviour, match=f"^{command} message size = {limit + 1}$"):
        MESSAGES[command].decode(payload)


@pytest.mark.parametrize("command", ["getheaders", "getblocks"])
def test_a_locator_of_102_drops_the_peer(command: str) -> None:
    payload = bytes(4) + write_compact_size(102) + bytes(32 * 103)
    with pytest.raises(PeerDropped, match=f"^{command} locator size 102 > 101$"):
        MESSAGES[command].decode(payload)


def test_a_count_without_entries_allocates_nothing() -> None:
    with pytest.raises(DecodeError):
        InvMessage.decode(write_compact_size(50_000))
    with pytest.raises(DecodeError):
        CmpctBlock.decode(bytes(88) + write_compact_size(0x02000000))


def test_addrv2_rules() -> None:
    entry = TimedAddress(1, 1, NetAddress(NetworkId.IPV4, b"\x01\x02\x03\x04", 8333)).encode_v2()
    too_long = entry[:6] + write_compact_size(513) + bytes(513) + bytes(2)
    with pytest.raises(DecodeError, match="Address too long: 513 > 512"):
        AddrV2.decode(b"\x01" + too_long)
    wrong = entry[:6] + b"\x05" + bytes(5) + bytes(2)
    with pytest.raises(DecodeError, match=r"BIP155 IPV4 address with length 5 \(should be 4\)"):
        AddrV2.decode(b"\x01" + wrong)


def test_a_version_of_old_peers_ends_early() -> None:
    payload = Version(60002, 1, 5, nonce=7, user_agent=b"/x/", start_height=3, relay=False).encode()
    assert Version.decode(payload[:46]) == Version(60002, 1, 5)
    no_relay = Version.decode(payload[:-1])
    assert no_relay.relay
    assert no_relay.start_height == 3


def test_a_user_agent_of_257_bytes_is_refused() -> None:
    payload = Version(70016, 0, 0).encode()
    long = payload[:80] + write_compact_size(257) + bytes(257) + payload[81:]
    with pytest.raises(DecodeError):
        Version.decode(long)


def test_compact_blocks_name_every_transaction_of_their_block(rng: random.Random) -> None:
    node = FakeNode()
    txs = [make_transaction(rng.getrandbits(31), witness=True) for _ in range(5)]
    block = make_block(node.active[0].header, 1, 1_700_000_000, transactions=txs)
    compact = CmpctBlock.from_block(block, rng.getrandbits(64))
    assert len(compact.short_ids) == 5
    assert compact.prefilled == ((0, block.transactions[0]),)
    assert CmpctBlock.decode(compact.encode()) == compact


def test_blocks_without_witnesses_have_stripped_transactions() -> None:
    node = FakeNode()
    tx = make_transaction(9, witness=True)
    raw = make_block(node.active[0].header, 1, 1_700_000_000, transactions=[tx]).raw
    stripped = without_witnesses(raw)
    assert stripped.endswith(tx.stripped)
    assert Transaction.parse(tx.stripped).txid == tx.txid
    assert len(stripped) < len(raw)
