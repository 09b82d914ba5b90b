"""Framing: the same events however the bytes are cut; each kind of damage has one verdict; memory stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.constants import MAX_MESSAGE_SIZE
from p2p.messages.ping import Ping
from p2p.transport_v1 import Broken, Corrupt, Event, Oversized, Received, TransportV1, frame, sanitize

MAGIC = bytes.fromhex("fabfb5da")


def feed(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    transport = TransportV1(MAGIC)
    events: list[Event] = []
    start = 0
    for cut in sorted(c % (len(data) + 1) for c in cuts or []):
        events += transport.receive_data(data[start:cut])
        start = cut
    return events + transport.receive_data(data[start:])


def corrupt(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


STREAM = b"".join(
    [
        frame(MAGIC, "ping", bytes(8)),
        frame(MAGIC, "verack", b""),
        frame(MAGIC, "unknown", b"x" * 3000),
        corrupt(frame(MAGIC, "ping", bytes(8)), 30),
        frame(MAGIC, "bad\x01name", b"abc"),
        frame(MAGIC, "ping", b"y" * 2000),
        frame(MAGIC, "inv", b"\xfd\x01\x00" + bytes(36)),
        corrupt(frame(MAGIC, "pong", b""), 0),
        frame(MAGIC, "ping", b"never seen"),
    ]
)


@given(st.lists(st.integers(0, 10_000), max_size=60))
@settings(deadline=None)
def test_events_do_not_depend_on_chunks(cuts: list[int]) -> None:
    assert feed(STREAM, cuts) == feed(STREAM)


def test_every_byte_alone() -> None:
    assert feed(STREAM, list(range(len(STREAM)))) == feed(STREAM)


def test_verdicts() -> None:
    events = feed(STREAM)
    damaged = events.pop(3)
    assert isinstance(damaged, Corrupt)
    assert damaged.reason.startswith("Header error: Wrong checksum (ping, 8 bytes), expected ")
    assert events == [
        Received("ping", bytes(8), 8),
        Received("verack", b"", 0),
        Received("unknown", b"", 3000),
        Corrupt("Header error: Invalid message type (badname, 3 bytes)", 3),
        Oversized("ping", b"", 2000),
        Received("inv", b"\xfd\x01\x00" + bytes(36), 39),
        Broken(f"Header error: Wrong MessageStart {corrupt(MAGIC, 0).hex()} received"),
    ]


def test_nothing_is_read_after_a_broken_header() -> None:
    transport = TransportV1(MAGIC)
    assert len(transport.receive_data(b"\0" * 24)) == 1
    assert transport.receive_data(frame(MAGIC, "ping", bytes(8))) == []


@pytest.mark.parametrize("size", [MAX_MESSAGE_SIZE + 1, 0xFFFFFFFF])
def test_an_absurd_length_breaks_the_connection_at_the_header(size: int) -> None:
    header = frame(MAGIC, "block", b"")[:16] + size.to_bytes(4, "little") + bytes(4)
    assert feed(header) == [Broken(f"Header error: Size too large (block, {size} bytes)")]


def test_memory_follows_what_arrived_not_what_was_announced() -> None:
    transport = TransportV1(MAGIC)
    header = frame(MAGIC, "block", b"")[:16] + MAX_MESSAGE_SIZE.to_bytes(4, "little") + bytes(4)
    transport.receive_data(header + bytes(1000))
    assert transport.buffered == 24 + 1000


def test_what_nobody_understands_is_not_kept() -> None:
    transport = TransportV1(MAGIC)
    header = frame(MAGIC, "mystery", b"")[:16] + (3_999_999).to_bytes(4, "little") + bytes(4)
    for _ in range(10):
        transport.receive_data(header + bytes(100_000))
        header = b""
    assert transport.buffered == 24


def test_a_list_too_long_to_keep_still_tells_its_count() -> None:
    payload = b"\xfd\xf2\x03" + bytes(30 * 1010)
    assert feed(frame(MAGIC, "addr", payload)) == [Oversized("addr", payload[:9], len(payload))]


def test_commands_end_in_zeros_only() -> None:
    data = bytearray(frame(MAGIC, "ping", bytes(8)))
    data[4:16] = b"ping\0\0\0x\0\0\0\0"
    assert feed(bytes(data)) == [Corrupt("Header error: Invalid message type (ping, 8 bytes)", 8)]


def test_frame() -> None:
    assert frame(MAGIC, "verack", b"") == MAGIC + b"verack" + bytes(6) + bytes(4) + bytes.fromhex("5df6e0e2")
    assert TransportV1(MAGIC).frame(Ping(1)) == frame(MAGIC, "ping", b"\x01" + bytes(7))
    with pytest.raises(ValueError):
        frame(MAGIC, "thirteenchars", b"")


def test_text_from_peers_is_cleaned() -> None:
    assert sanitize(b"/Sat<os>hi:\n0.1/\xff%s") == "/Satoshi:0.1/s"
