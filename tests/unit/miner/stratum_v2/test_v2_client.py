"""The Stratum V2 client without sockets, against a pool core written apart from it."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from chain.crypto import ellswift
from chain.primitives.errors import UserError
from miner.device import Candidate
from miner.share import Finding, Share, check_candidate
from miner.work.job import UnitSequence
from miner.work.stratum.address import parse_pool_url
from miner.work.stratum.client import (
    Authorized,
    ClientOptions,
    Closed,
    Complaint,
    DifficultySet,
    Event,
    NewWork,
    Reconnect,
    ShareAnswer,
    Trouble,
    Unsent,
)
from miner.work.stratum_v2.client import SHARE_PATIENCE_S, ChannelWork, StratumV2Client
from miner.work.stratum_v2.messages import Message, parse
from miner.work.stratum_v2.noise import ANSWER_SIZE, Cipher, Initiator, NoiseError
from miner.work.stratum_v2.wire import MAX_PAYLOAD, BadMessage, Frame, FrameDecoder, encode_frame
from tests.support.pool_server import USER, example_job
from tests.support.stratum_v2_server import EASY_TARGET, ConnectionV2, PoolV2

SPEC_KEY = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh"
OPTIONS = ClientOptions(user=USER, password="x", easiest_share_target=(1 << 256) - 1)


class Link:
    """A client and a pool with a perfect wire between them. `size`: bytes that arrive at once."""

    def __init__(
        self, pool: PoolV2 | None = None, options: ClientOptions = OPTIONS, size: int = 1 << 20, rate: float = 0.0
    ) -> None:
        self.now = 1000.0
        self.rate = rate
        self.size = size
        self.pool = pool or PoolV2()
        if self.pool.current is None:
            self.pool.new_job()
        address = parse_pool_url(f"stratum2+tcp://pool.example:3333/{self.pool.key}", USER, None)
        self.client = StratumV2Client(options, address, lambda: self.now, hash_rate=lambda: self.rate)
        self.server: ConnectionV2 = self.pool.connect()
        self.events: list[Event] = []
        self.client.start()

    def run(self) -> list[Event]:
        """Carry bytes both ways until both are quiet; the events since the last time."""
        while True:
            there, back = self.client.data_to_send(), self.server.data_to_send()
            if not there and not back:
                break
            self.server.receive_data(there)
            for start in range(0, len(back), self.size):
                self.events += self.client.receive_data(back[start : start + self.size])
        events, self.events = self.events, []
        return events

    def share(self, skip: int = 0) -> Share:
        """The (skip + 1)th share of the newest work."""
        unit = UnitSequence(self.work.job(b"", None)).take(1)
        assert unit is not None
        nonce = 0
        while True:
            share = check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce))
            if share.finding in (Finding.BLOCK, Finding.SHARE):
                if skip == 0:
                    return share
                skip -= 1
            nonce += 1

    def submit(self, share: Share) -> int | Unsent:
        unit, work = share.unit, self.work
        extranonce2 = unit.job.extranonce(unit.extranonce2)[len(work.extranonce1) :]
        return self.client.submit(work, extranonce2, unit.time, share.candidate.nonce, share.candidate.version)

    work: ChannelWork

    def mine(self) -> list[Event]:
        """Run, and remember the newest work."""
        events = self.run()
        for event in events:
            if isinstance(event, NewWork):
                assert isinstance(event.work, ChannelWork)
                self.work = event.work
        return events


def mining(pool: PoolV2 | None = None, **arguments: Any) -> Link:
    link = Link(pool, **arguments)
    events = link.mine()
    assert [type(event) for event in events] == [Authorized, DifficultySet, NewWork], events
    return link


@pytest.mark.parametrize("size", [1, 7, 22, 100, 1 << 20])
def test_from_the_handshake_to_an_accepted_share_however_bytes_arrive(size: int) -> None:
    link = mining(size=size)
    answers = [link.submit(link.share(number)) for number in range(3)]
    assert answers == [1, 2, 3]
    assert link.run() == [ShareAnswer(number, None) for number in (1, 2, 3)]
    assert len(link.pool.accepted) == 3
    assert not link.pool.rejected


@pytest.mark.parametrize("only_standard", [False, True])
def test_every_rolled_field_reaches_the_pool(only_standard: bool, rng: random.Random) -> None:
    """Versions, and extranonces where there are any: the pool rebuilds each header from what was submitted."""
    link = mining(PoolV2(only_standard=only_standard, target=(1 << 255) - 1))
    job = link.work.job(b"" if only_standard else b"\x07", None)
    sequence = UnitSequence(job)
    headers = set()
    for _ in range(40):
        unit = sequence.take(1)
        assert unit is not None
        for nonce in range(4):
            share = check_candidate(unit, Candidate(unit.hash_job.versions[0], nonce))
            if share.finding in (Finding.BLOCK, Finding.SHARE):
                assert link.submit(share)
                headers.add(share.header)
    link.run()
    assert {share.header for share in link.pool.accepted} == headers
    assert not link.pool.rejected
    assert link.pool.messages[0x1A if only_standard else 0x1B] == len(headers)


def test_an_extended_channel_rolls_its_extranonce_when_versions_are_fixed() -> None:
    link = mining(PoolV2(version_rolling=False, target=(1 << 255) - 1))
    link.now = time.monotonic()
    link.pool.new_job()
    link.mine()
    sequence = UnitSequence(link.work.job(b"", None))
    units = [sequence.take(4) for _ in range(3)]
    assert [unit and unit.extranonce2 for unit in units] == [0, 1, 2]
    assert {unit.time for unit in units if unit} == {link.work.min_ntime}, "the time goes no faster than the clock"
    for unit in units:
        assert unit is not None
        (version,) = unit.hash_job.versions
        nonce = next(n for n in range(1000) if check_candidate(unit, Candidate(version, n)).finding is Finding.SHARE)
        link.submit(check_candidate(unit, Candidate(version, nonce)))
    link.run()
    assert len(link.pool.accepted) == 3


def test_a_standard_channel_goes_on_in_time_as_the_clock_does() -> None:
    link = mining(PoolV2(only_standard=True, version_rolling=True))
    link.now = time.monotonic()
    link.pool.new_job()
    link.mine()
    job = link.work.job(b"", None)
    sequence = UnitSequence(job)
    assert sequence.take(1 << 16) is not None
    assert sequence.take(1) is None, "its one header is used up until the next second"
    aged = UnitSequence(replace(job, received_at=(job.received_at or 0.0) - 2.0))
    assert [unit and unit.time - job.time for unit in (aged.take(1 << 16) for _ in range(4))][:3] == [0, 1, 2]


def test_a_pool_without_extended_channels_gives_a_standard_one() -> None:
    link = mining(PoolV2(only_standard=True))
    assert link.pool.messages[0x13] == link.pool.messages[0x10] == 1
    assert link.work.extranonce2_size == 0
    refusing = Link(PoolV2(only_standard=True, flags=2))
    assert refusing.run()[-1] == Closed("opens no channel for us (unsupported-channel)")


def test_only_the_job_named_with_a_new_block_is_valid() -> None:
    link = mining()
    late = link.share()
    link.pool.new_job(clean=False)
    (event,) = link.run()
    assert isinstance(event, NewWork)
    assert not event.clean
    assert link.submit(late) == 1, "its work still counts"
    link.work = event.work  # type: ignore[assignment]
    assert link.submit(link.share()) == 2
    assert link.run() == [ShareAnswer(1, None), ShareAnswer(2, None)]
    old = link.share(1)
    link.pool.new_job()
    (event,) = link.run()
    assert isinstance(event, NewWork)
    assert event.clean
    assert link.submit(old) is Unsent.STALE


def test_a_share_goes_out_once() -> None:
    link = mining()
    share = link.share()
    assert link.submit(share) == 1
    assert link.submit(share) is Unsent.DUPLICATE


def test_answers_come_in_batches() -> None:
    link = mining(PoolV2(batch=4))
    for number in range(6):
        link.submit(link.share(number))
    assert link.run() == [ShareAnswer(number, None) for number in (1, 2, 3, 4)]
    assert link.client.next_deadline() == link.now + SHARE_PATIENCE_S
    link.now += SHARE_PATIENCE_S
    (closed,) = link.client.check_timeouts()
    assert closed == Closed("did not answer shares within 300 s")


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("stale-share", 21),
        ("invalid-job-id", 21),
        ("duplicate-share", 22),
        ("difficulty-too-low", 23),
        ("invalid-channel-id", 25),
        ("some other reason", 20),
    ],
)
def test_refusals_carry_the_pools_code(code: str, meaning: int) -> None:
    link = mining(PoolV2(refuse_shares=code))
    link.submit(link.share())
    (answer,) = link.run()
    assert isinstance(answer, ShareAnswer)
    assert answer.rejection is not None
    assert (answer.rejection.code, answer.rejection.reason, str(answer.rejection)) == (meaning, code, code)


def test_a_new_target_holds_from_the_next_job_on() -> None:
    link = mining()
    first = link.work
    link.server.set_target(EASY_TARGET >> 8)
    (event,) = link.run()
    assert isinstance(event, DifficultySet)
    assert link.submit(link.share()) == 1
    link.pool.new_job()
    link.mine()
    assert (first.share_target, link.work.share_target) == (EASY_TARGET, EASY_TARGET >> 8)
    link.submit(link.share())
    assert [event for event in link.run() if isinstance(event, ShareAnswer)][-1].rejection is None


def test_a_new_extranonce_prefix_holds_from_the_next_job_on() -> None:
    link = mining()
    link.server.set_prefix(b"\xaa\xbb\xcc")
    assert link.run() == []
    assert link.submit(link.share()) == 1
    link.pool.new_job()
    link.mine()
    assert link.work.extranonce1 == b"\xaa\xbb\xcc"
    link.submit(link.share())
    assert link.run() == [ShareAnswer(2, None)]
    link.server.set_prefix(b"\xaa")
    (complaint,) = link.run()
    assert isinstance(complaint, Complaint)


def test_shares_easier_than_we_care_for_are_not_asked_of_devices() -> None:
    link = mining(options=replace(OPTIONS, easiest_share_target=1 << 240))
    assert link.work.share_target == 1 << 240


def test_the_pool_is_told_our_hash_rate_when_it_changes() -> None:
    link = mining(rate=0.0)
    assert link.pool.rates == [pytest.approx(1e7)]
    for rate in (5e12, 5.1e12, 0.0, 8e12):
        link.rate = rate
        link.now += 61
        assert link.client.check_timeouts() == []
        link.run()
    assert link.pool.rates == [pytest.approx(rate) for rate in (1e7, 5e12, 8e12)]


def test_goodbye_closes_the_channel() -> None:
    link = mining()
    link.client.goodbye()
    link.run()
    assert link.pool.closed == ["client-left"]


def test_redirects_and_closed_channels() -> None:
    link = mining()
    link.server.send(0x04, b"\x04here" + struct.pack("<H", 34254))
    link.server.send(0x04, b"\x00" + struct.pack("<H", 0))
    assert link.run() == [Reconnect("here", 34254, 0.0), Reconnect(None, None, 0.0)]
    link.server.send(0x18, struct.pack("<I", 5) + b"\x04gone")
    assert link.run() == [Closed("closed our channel (gone)")]
    assert link.client.receive_data(b"anything") == []


def test_messages_to_another_group_follow_the_regrouping() -> None:
    link = mining()
    link.server.send(0x25, struct.pack("<IHI", 78, 1, 5))
    link.pool.group = 78
    link.pool.new_job()
    assert [type(event) for event in link.run()] == [NewWork]


@pytest.mark.parametrize(
    ("pool", "reason", "refused"),
    [
        (PoolV2(users=set()), f"refuses worker {USER} (unknown-user)", True),
        (PoolV2(version=3), "speaks version 3 of the protocol, not 2", False),
        (PoolV2(setup_error="unsupported-protocol"), "refuses the connection (unsupported-protocol)", False),
        (PoolV2(authority=bytes(31) + b"\x07"), "its certificate is not signed by the key in its address", False),
        (PoolV2(valid_for=(-7200, -3600)), "its certificate has expired", False),
        (PoolV2(valid_for=(3600, 7200)), "its certificate is not valid yet: is the clock right?", False),
    ],
)
def test_what_ends_a_connection_at_its_beginning(pool: PoolV2, reason: str, refused: bool) -> None:
    (closed,) = Link(pool).run()
    assert isinstance(closed, Closed)
    assert closed.reason.startswith(reason)
    assert closed.refused == refused


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({"nbits": 0}, "its bits 00000000 are impossible"),
        ({"nbits": 0x207FFFFF}, "are easier than this network allows"),
        ({"coinbase1": b"\x01"}, "its coinbase is no transaction"),
    ],
)
def test_jobs_that_cannot_be_mined_are_named(change: dict[str, Any], trouble: str) -> None:
    link = mining(options=replace(OPTIONS, easiest_target=1 << 224))
    link.pool.new_job(replace(example_job(50), **change))
    first, *rest = link.run()
    assert isinstance(first, Complaint)
    assert first.trouble is Trouble.BAD_JOB
    assert trouble in first.text
    assert not [event for event in rest if isinstance(event, NewWork)]
    assert isinstance(rest[-1], Closed), "the old block's work is worth nothing any more"


def test_a_target_of_zero_and_shares_never_sent_are_named() -> None:
    link = mining()
    link.server.set_target(0)
    link.server.send(0x1D, struct.pack("<II", 5, 99) + b"\x00")
    link.server.send(0x21, struct.pack("<I", 6) + bytes(32))
    troubles = [event for event in link.run() if isinstance(event, Complaint)]
    assert [event.trouble for event in troubles] == [Trouble.DIFFICULTY, Trouble.MALFORMED, Trouble.MALFORMED]


@pytest.mark.parametrize("kind", [0x01, 0x11, 0x14, 0x12, 0x15, 0x1F, 0x20, 0x21, 0x19, 0x1C, 0x1D, 0x18, 0x17, 0x25])
def test_short_messages_are_counted_and_enough_of_them_end_it(kind: int) -> None:
    link = mining()
    for _ in range(30):
        link.server.send(kind, b"\x05\x00\x00")
    events = link.run()
    assert [type(event) for event in events] == [Complaint] * 21 + [Closed]


def test_unknown_kinds_and_extensions_are_left_alone() -> None:
    link = mining()
    for kind in (0x03, 0x22, 0x50, 0x76, 0xFF):
        link.server.send(kind, b"whatever")
    link.server.send(0x21, b"of an extension", extension=0x4001)
    link.server.send(0x21, struct.pack("<I", 5) + bytes(31) + b"\x01" + b"more", extension=0x8000)
    assert [type(event) for event in link.run()] == [DifficultySet]


def test_a_flood_and_a_job_never_sent_end_it() -> None:
    link = mining()
    for _ in range(2100):
        link.server.send(0x50, b"")
    assert link.run() == [Closed("floods us with messages")]
    link = mining()
    link.server.send(0x20, struct.pack("<II", 5, 999) + bytes(40))
    assert link.run() == [Closed("names a job for the new block that it has not sent")]


def test_a_long_message_ends_it_before_its_bytes_are_taken() -> None:
    link = mining()
    link.server.send(0x1F, bytes(MAX_PAYLOAD + 1))
    (closed,) = link.run()
    assert isinstance(closed, Closed)
    assert "a message of" in closed.reason
    whole = mining()
    whole.server.send(0x70, bytes(MAX_PAYLOAD))
    assert whole.run() == [], "in blocks of 65,519 bytes"


def test_a_silent_pool_is_given_up() -> None:
    link = Link()
    link.now += 31
    assert link.client.check_timeouts() == [Closed("did not answer the handshake within 30 s")]


@pytest.mark.parametrize("position", range(0, ANSWER_SIZE, 9))
def test_any_damage_to_the_handshake_is_noticed(position: int, rng: random.Random) -> None:
    link = Link()
    link.server.receive_data(link.client.data_to_send())
    answer = bytearray(link.server.data_to_send())
    assert len(answer) == ANSWER_SIZE
    answer[position] ^= 1 << rng.randrange(8)
    (closed,) = link.client.receive_data(bytes(answer))
    assert isinstance(closed, Closed)
    assert "handshake" in closed.reason


def test_frames_are_damaged_replayed_or_reordered_in_vain(rng: random.Random) -> None:
    key = rng.randbytes(32)

    def frames(count: int) -> list[bytes]:
        cipher = Cipher(key)
        return [encode_frame(cipher, 0x20, bytes([index]) * 40) for index in range(count)]

    def attempt(data: bytes) -> list[Frame]:
        got: list[Frame] = []
        decoder = FrameDecoder(Cipher(key))
        for start in range(0, len(data), 33):
            decoder.feed(data[start : start + 33], got.append)
        return got

    one, two = frames(2)
    assert [frame.payload[0] for frame in attempt(one + two)] == [0, 1]
    damaged = bytearray(one + two)
    damaged[rng.randrange(len(damaged))] ^= 1
    for bad in (bytes(damaged), one + one, two + one):
        with pytest.raises(NoiseError):
            attempt(bad)


def test_every_truncation_of_every_message_is_refused_or_means_nothing(rng: random.Random) -> None:
    understood = set()
    for kind in range(256):
        payload = rng.randbytes(400)
        for length in (*range(80), 399):
            try:
                message = parse(kind, payload[:length])
            except BadMessage:
                understood.add(kind)
                continue
            assert message is None or isinstance(message, Message)
            assert (message is None) == (kind not in understood), "what can be too short is a message when it is not"
    assert len(understood) == len(get_args(Message)) + 1  # both kinds of channel open with the same


def test_whatever_a_pool_sends_is_answered_with_events(rng: random.Random) -> None:
    """Kinds, channels and payloads at random, half of them true messages with bytes changed: never an exception."""
    for _ in range(60):
        link = mining()
        for _ in range(20):
            kind = rng.choice([0x01, 0x02, 0x04, 0x11, 0x12, 0x14, *range(0x15, 0x26), rng.randrange(256)])
            payload = bytearray(rng.randbytes(rng.choice([0, 4, 8, 12, 45, 60, 200])))
            if rng.random() < 0.7:
                payload[:4] = struct.pack("<I", 5)
            link.server.send(kind, bytes(payload))
        for event in (*link.run(), *link.client.check_timeouts()):
            assert isinstance(event, Event)


def test_the_ephemeral_key_is_another_one_every_time() -> None:
    key = parse_pool_url(f"stratum2+tcp://h:1/{SPEC_KEY}", "u", None).authority_key
    assert key is not None
    assert len({Initiator(key).hello for _ in range(3)}) == 3
    fixed = ellswift.generate()
    assert Initiator(key, fixed).hello == fixed[1]


def test_the_specifications_address() -> None:
    address = parse_pool_url(f"stratum2+tcp://thepool.com:34254/{SPEC_KEY}", "u", None)
    assert address.authority_key is not None
    assert address.authority_key[:8] == bytes([118, 99, 112, 0, 151, 156, 28, 17])
    assert address.authority_key[24:] == bytes([174, 227, 90, 224, 176, 138, 116, 85])
    assert address.url == f"stratum2+tcp://thepool.com:34254/{SPEC_KEY}"
    assert address.at("other", None).authority_key == address.authority_key


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", "its address needs the pool's key"),
        ("/", "its address needs the pool's key"),
        ("/" + SPEC_KEY[:-1], "is a character missing?"),
        ("/" + SPEC_KEY.replace("9", "8", 1), "is a character missing?"),
        ("/1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "is not the key of a Stratum V2 pool"),
    ],
)
def test_bad_keys_are_named(path: str, error: str) -> None:
    with pytest.raises(UserError, match=error.replace("?", r"\?")):
        parse_pool_url(f"stratum2+tcp://pool.example:3333{path}", "u", None)


def test_a_client_needs_a_key() -> None:
    build: Callable[[], StratumV2Client] = lambda: StratumV2Client(OPTIONS, parse_pool_url("h:1", "u", None))  # noqa: E731
    with pytest.raises(ValueError, match="known by its key"):
        build()
