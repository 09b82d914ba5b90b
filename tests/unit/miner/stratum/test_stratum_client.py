"""The client's protocol, without sockets: handshake, work, shares, extensions, and everything a pool may do wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.target import DIFFICULTY_1_TARGET
from miner.work.stratum import client as module
from miner.work.stratum.client import (
    EASIEST_SHARE_TARGET,
    Authorized,
    ClientOptions,
    Closed,
    Complaint,
    DifficultySet,
    Event,
    NewWork,
    Notice,
    Reconnect,
    ShareAnswer,
    Step,
    StratumClient,
    Trouble,
    Unsent,
)
from miner.work.stratum.jobs import Work, target_of_share
from miner.work.stratum.messages import Rejection
from tests.support.pool_server import USER, example_job
from tests.support.stratum_server import Pool, PoolConnection

OPTIONS = ClientOptions(user=USER, password="secret")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """A client, and what it said."""

    def __init__(self, options: ClientOptions = OPTIONS, configure: bool = True) -> None:
        self.clock = Clock()
        self.client = StratumClient(options, self.clock)
        self.client.start(configure)
        self.sent: list[dict[str, Any]] = []
        self.collect()

    def collect(self) -> list[dict[str, Any]]:
        fresh = [json.loads(line) for line in self.client.data_to_send().splitlines()]
        self.sent += fresh
        return fresh

    def number_of(self, method: str) -> int:
        return next(int(message["id"]) for message in self.sent if message.get("method") == method)

    def receive(self, *messages: object) -> list[Event]:
        data = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        events = self.client.receive_data(data)
        self.collect()
        return events

    def call(self, method: str, *params: object, number: int | None = None) -> list[Event]:
        return self.receive({"id": number, "method": method, "params": params})

    def answer(self, method: str, result: object, error: object = None) -> list[Event]:
        return self.receive({"id": self.number_of(method), "result": result, "error": error})

    @staticmethod
    def step_of(client: StratumClient) -> Step:
        return client.step

    def log_in(self, mask: str | None = "1fffe000") -> Wire:
        if mask is not None:
            self.answer("mining.configure", {"version-rolling": True, "version-rolling.mask": mask})
        self.answer("mining.subscribe", [[["mining.notify", "1"]], "0a0b0a0b", 4])
        assert self.answer("mining.authorize", True) == [Authorized()]
        return self

    def notify(self, number: int = 1, clean: bool = True, **changes: Any) -> Work:
        events = self.call("mining.notify", *example_job(number, **changes).notify(clean))
        assert len(events) == 1
        assert isinstance(events[0], NewWork)
        assert isinstance(events[0].work, Work)
        return events[0].work


def test_handshake() -> None:
    wire = Wire(ClientOptions(user="u", password="p", minimum_difficulty=8.0, suggested_difficulty=16.0))
    configure, subscribe = wire.sent
    assert configure["method"] == "mining.configure"
    assert configure["params"] == [
        ["version-rolling", "minimum-difficulty"],
        {
            "version-rolling.mask": "1fffe000",
            "version-rolling.min-bit-count": 2,
            "minimum-difficulty.value": 8.0,
        },
    ]
    assert (subscribe["method"], len(subscribe["params"])) == ("mining.subscribe", 1)
    assert wire.answer("mining.configure", {"version-rolling": True, "version-rolling.mask": "18000000"}) == []
    assert Wire.step_of(wire.client) is Step.CONNECTED
    wire.answer("mining.subscribe", [[], "0a0b0a0b", 4])
    assert Wire.step_of(wire.client) is Step.SUBSCRIBED
    assert [message["method"] for message in wire.sent[2:]] == ["mining.authorize", "mining.extranonce.subscribe"]
    assert wire.sent[2]["params"] == ["u", "p"]
    assert wire.answer("mining.authorize", True) == [Authorized()]
    assert (wire.sent[-1]["method"], wire.sent[-1]["params"]) == ("mining.suggest_difficulty", [16.0])
    work = wire.notify()
    assert (work.extranonce1, work.extranonce2_size, work.version_mask) == (b"\x0a\x0b\x0a\x0b", 4, 0x18000000)
    assert work.difficulty == 1.0


def test_nothing_is_configured_where_nothing_is_wanted() -> None:
    assert [message["method"] for message in Wire(configure=False).sent] == ["mining.subscribe"]
    options = ClientOptions(user="u", password="p", version_mask=0)
    assert [message["method"] for message in Wire(options).sent] == ["mining.subscribe"]


@pytest.mark.parametrize(
    "result",
    [
        None,
        False,
        {},
        [],
        {"version-rolling": False},
        {"version-rolling": "not supported", "version-rolling.mask": "1fffe000"},
        {"version-rolling": True},
        {"version-rolling": True, "version-rolling.mask": 5},
        {"version-rolling": True, "version-rolling.mask": "1fffe0000"},
        {"version-rolling": True, "version-rolling.mask": "x"},
    ],
)
def test_pools_without_version_rolling_are_mined_without(result: object) -> None:
    wire = Wire()
    wire.answer("mining.configure", result)
    wire.log_in(mask=None)
    work = wire.notify()
    assert work.version_mask == 0
    wire.client.submit(work, bytes(4), 1_700_000_001, 1, work.notify.version)
    assert len(wire.collect()[0]["params"]) == 5


def test_a_pool_that_refuses_or_ignores_configure_is_mined() -> None:
    wire = Wire()
    wire.answer("mining.configure", None, [20, "Unknown method", None])
    assert wire.log_in(mask=None).notify().version_mask == 0
    wire = Wire().log_in(mask=None)
    wire.clock.now += 31
    assert wire.client.check_timeouts() == []
    assert wire.notify().version_mask == 0


def test_shares_are_sent_as_pools_read_them() -> None:
    wire = Wire().log_in()
    work = wire.notify()
    number = wire.client.submit(work, b"\x01\x02\x03\x04", 0x6553F101, 0xDEADBEEF, 0x20000000 | 0x00A0_2000)
    message = wire.collect()[0]
    assert message == {
        "id": number,
        "method": "mining.submit",
        "params": [USER, "job1", "01020304", "6553f101", "deadbeef", "00a02000"],
    }
    assert wire.answer("mining.submit", True) == [ShareAnswer(int(message["id"]), None)]


@pytest.mark.parametrize(
    ("result", "error", "rejection"),
    [
        (None, [21, "Job not found", None], Rejection(21, "Job not found")),
        (None, [22, "Duplicate share", None], Rejection(22, "Duplicate share")),
        (None, [23, "Low difficulty share", None], Rejection(23, "Low difficulty share")),
        (None, [24, "Unauthorized worker", None], Rejection(24, "Unauthorized worker")),
        (None, [25, "Not subscribed", None], Rejection(25, "Not subscribed")),
        (None, [99, "Bored", None], Rejection(20, "Bored")),
        (False, None, Rejection(20, "")),
        (None, None, Rejection(20, "no clear answer")),
        ("yes", None, Rejection(20, "no clear answer")),
    ],
)
def test_refused_shares_carry_the_pools_reason(result: object, error: object, rejection: Rejection) -> None:
    wire = Wire().log_in()
    number = wire.client.submit(wire.notify(), bytes(4), 1_700_000_001, 1, 0x20000000)
    wire.collect()
    assert wire.answer("mining.submit", result, error) == [ShareAnswer(int(str(number)), rejection)]


def test_the_same_share_goes_out_once() -> None:
    wire = Wire().log_in()
    work = wire.notify()
    share = (work, bytes(4), 1_700_000_001, 1, 0x20000000)
    assert isinstance(wire.client.submit(*share), int)
    assert wire.client.submit(*share) is Unsent.DUPLICATE
    for other in (
        (work, b"\1\0\0\0", *share[2:]),
        (work, bytes(4), 1_700_000_002, 1, 0x20000000),
        (work, bytes(4), 1_700_000_001, 2, 0x20000000),
        (work, bytes(4), 1_700_000_001, 1, 0x20002000),
    ):
        assert isinstance(wire.client.submit(*other), int)


def test_shares_count_until_clean_jobs() -> None:
    wire = Wire().log_in()
    first, parent = wire.notify(1), example_job(1).prev_hash
    second = example_job(2).notify(clean=False)
    second[1] = example_job(1).notify(True)[1]  # the same parent
    [event] = wire.call("mining.notify", *second)
    assert isinstance(event, NewWork)
    assert isinstance(event.work, Work)
    assert (event.clean, event.work.notify.prev_hash) == (False, parent)
    assert isinstance(wire.client.submit(first, bytes(4), 1_700_000_001, 1, 0x20000000), int)
    wire.notify(3, clean=True)
    assert wire.client.submit(first, bytes(4), 1_700_000_001, 2, 0x20000000) is Unsent.STALE
    assert wire.client.submit(event.work, bytes(4), 1_700_000_001, 2, 0x20000000) is Unsent.STALE


def test_a_new_parent_makes_old_jobs_stale_whatever_the_pool_says() -> None:
    wire = Wire().log_in()
    first = wire.notify(1)
    [event] = wire.call("mining.notify", *example_job(2).notify(clean=False))
    assert isinstance(event, NewWork)
    assert isinstance(event.work, Work)
    assert event.clean
    assert wire.client.submit(first, bytes(4), 1_700_000_001, 1, 0x20000000) is Unsent.STALE


def test_job_numbers_may_be_used_again() -> None:
    wire = Wire().log_in()
    first = wire.notify(1)
    fields = example_job(1).notify(clean=False)
    fields[7] = "6553f1ff"
    wire.call("mining.notify", *fields)
    assert wire.client.submit(first, bytes(4), 1_700_000_001, 1, 0x20000000) is Unsent.STALE


def test_only_so_many_jobs_are_kept() -> None:
    wire = Wire().log_in()
    works = []
    for number in range(100):
        fields = example_job(1).notify(clean=False)
        fields[0] = f"j{number}"
        [event] = wire.call("mining.notify", *fields)
        assert isinstance(event, NewWork)
        assert isinstance(event.work, Work)
        works.append(event.work)
    verdicts = [wire.client.submit(work, bytes(4), 1_700_000_001, 1, 0x20000000) for work in works]
    assert [isinstance(verdict, int) for verdict in verdicts] == [False] * 36 + [True] * 64


def test_difficulty_holds_from_the_next_job_on() -> None:
    wire = Wire().log_in()
    before = wire.notify(1)
    assert wire.call("mining.set_difficulty", 0.5) == [DifficultySet(0.5)]
    after = wire.notify(2)
    assert (before.difficulty, before.share_target) == (1.0, DIFFICULTY_1_TARGET)
    assert (after.difficulty, after.share_target) == (0.5, 0x1FFFE << 208)


def test_absurd_difficulties_are_ignored_and_easy_ones_bounded() -> None:
    wire = Wire().log_in()
    wire.call("mining.set_difficulty", 64)
    values: list[object] = [0, -1, "8", None, True, [], 10**400, 1e300]
    for value in values:
        [event] = wire.call("mining.set_difficulty", value)
        assert isinstance(event, Complaint)
        assert event.trouble is Trouble.DIFFICULTY
    [event] = wire.client.receive_data(b'{"id":null,"method":"mining.set_difficulty","params":[1e999]}\n')
    assert isinstance(event, Complaint)
    assert wire.notify(1).share_target == target_of_share(64.0)
    wire.call("mining.set_difficulty", 1e-30)
    assert wire.notify(2).share_target == EASIEST_SHARE_TARGET


def test_set_extranonce_holds_from_the_next_job_on() -> None:
    wire = Wire().log_in()
    before = wire.notify(1)
    assert wire.call("mining.set_extranonce", "0c0d", 6) == []
    after = wire.notify(2)
    assert (before.extranonce1, before.extranonce2_size) == (b"\x0a\x0b\x0a\x0b", 4)
    assert (after.extranonce1, after.extranonce2_size) == (b"\x0c\x0d", 6)
    for params in ([], ["zz", 4], ["00", 0], ["00", 17], ["00", True], ["00" * 33, 4], [5, 4], ["00", "4"]):
        [event] = wire.call("mining.set_extranonce", *params)
        assert isinstance(event, Complaint)
    assert wire.notify(3).extranonce1 == b"\x0c\x0d"


def test_a_new_version_mask_is_in_force_at_once() -> None:
    wire = Wire().log_in()
    old = wire.notify(1)
    [event] = wire.call("mining.set_version_mask", "00006000")
    assert isinstance(event, NewWork)
    assert isinstance(event.work, Work)
    assert (event.work.version_mask, event.clean) == (0x6000, False)
    assert wire.call("mining.set_version_mask", "00006000") == []
    assert wire.client.submit(old, bytes(4), 1_700_000_001, 1, 0x20000000 | 1 << 20) is Unsent.STALE
    assert isinstance(wire.client.submit(old, bytes(4), 1_700_000_001, 1, 0x20002000), int)
    assert wire.collect()[0]["params"][5] == "00002000"
    [event] = wire.call("mining.set_version_mask", "ffffffff")
    assert isinstance(event, NewWork)
    assert isinstance(event.work, Work)
    assert event.work.version_mask == 0x1FFFE000  # never more than asked for


def test_calls_of_the_pool_are_answered() -> None:
    wire = Wire().log_in()
    for method, result in (("mining.ping", "pong"), ("client.get_version", module.USER_AGENT)):
        assert wire.call(method, number=77) == []
        assert wire.sent[-1] == {"id": 77, "result": result, "error": None}
    wire.call("mining.teleport", number=78)
    assert wire.sent[-1]["error"][0] == -3
    count = len(wire.sent)
    assert wire.call("mining.teleport") == []
    assert len(wire.sent) == count
    assert wire.call("client.show_message", "hello\x1b[2J\nyou") == [Notice("hello [2J you")]
    assert wire.call("client.show_message") == [Notice("None")]


def test_reconnects() -> None:
    wire = Wire().log_in()
    assert wire.call("client.reconnect") == [Reconnect(None, None, 0.0)]
    assert wire.call("client.reconnect", "b.example", 3334, 5) == [Reconnect("b.example", 3334, 5.0)]
    assert wire.call("client.reconnect", "b.example", "3334", "5") == [Reconnect("b.example", 3334, 0.0)]
    assert wire.call("client.reconnect", "", 3334, 1e9) == [Reconnect(None, 3334, 0.0)]
    for params in ([5], ["b", 0], ["b", 65536], ["b", "x"], ["b", True], ["b\n"], ["b" * 300]):
        [event] = wire.call("client.reconnect", *params)
        assert isinstance(event, Complaint)


def test_refusals_end_the_session() -> None:
    wire = Wire()
    [event] = wire.answer("mining.subscribe", None, [20, "banned", None])
    assert event == Closed("refuses the subscription (20 other: banned)")
    wire = Wire()
    wire.answer("mining.subscribe", [[], "00", 4])
    [event] = wire.answer("mining.authorize", None, [24, "who are you", None])
    assert event == Closed(f"refuses worker {USER} (who are you)", refused=True)
    assert wire.call("client.show_message", "more") == []
    wire = Wire()
    wire.answer("mining.subscribe", [[], "00", 4])
    [event] = wire.answer("mining.authorize", False)
    assert isinstance(event, Closed)
    assert event.refused


@pytest.mark.parametrize("result", [None, 5, [], [[], "00"], [[], 0, 4], [[], "0", 4], [[], "00", "4"], [[], "00", 99]])
def test_a_nonsensical_subscription_ends_the_session(result: object) -> None:
    [event] = Wire().answer("mining.subscribe", result)
    assert isinstance(event, Closed)


def test_silence_to_a_call_ends_the_session() -> None:
    wire = Wire()
    assert wire.client.next_deadline() == 1030
    wire.clock.now = 1029.9
    assert wire.client.check_timeouts() == []
    wire.clock.now = 1030.0
    assert wire.client.check_timeouts() == [Closed("did not answer mining.subscribe within 30 s")]
    assert wire.client.next_deadline() is None
    wire = Wire().log_in()
    wire.clock.now = 1020
    wire.client.submit(wire.notify(), bytes(4), 1_700_000_001, 1, 0x20000000)
    wire.clock.now = 1030
    assert wire.client.check_timeouts() == []  # extranonce.subscribe may go unanswered
    wire.clock.now = 1050
    assert wire.client.check_timeouts() == [Closed("did not answer mining.submit within 30 s")]


def test_jobs_of_a_wrong_network_are_named() -> None:
    wire = Wire(ClientOptions(user="u", password="p", easiest_target=DIFFICULTY_1_TARGET)).log_in()
    [event] = wire.call("mining.notify", *example_job(1, nbits=0x207FFFFF).notify(True))
    assert isinstance(event, Complaint)
    assert event.trouble is Trouble.BAD_JOB
    assert "another" in event.text


def test_some_nonsense_is_borne_and_much_is_not() -> None:
    wire = Wire().log_in()
    events = [event for _ in range(25) for event in wire.client.receive_data(b"{\n")]
    assert [type(event) for event in events] == [Complaint] * 21 + [Closed]


def test_floods_and_endless_lines_end_the_session() -> None:
    wire = Wire().log_in()
    line = b'{"id":null,"method":"mining.set_difficulty","params":[8]}\n'
    events = wire.client.receive_data(line * 5000)
    assert events[-1] == Closed("floods us with messages")
    assert len(events) == 2001
    assert Wire().log_in().client.receive_data(b"\n \r\n" * 1500) == [Closed("floods us with messages")]
    assert Wire().log_in().client.receive_data(b"\n" * 1000) == []
    wire = Wire().log_in()
    for _ in range(50):  # many, but slowly
        wire.clock.now += 1
        assert all(isinstance(event, DifficultySet) for event in wire.client.receive_data(line * 100))
    [event] = wire.client.receive_data(b"x" * (600 << 10))
    assert event == Closed("sends a line without end")


def test_answers_to_nothing_are_complained_of() -> None:
    wire = Wire().log_in()
    [event] = wire.receive({"id": 999, "result": True, "error": None})
    assert isinstance(event, Complaint)
    number = wire.client.submit(wire.notify(), bytes(4), 1_700_000_001, 1, 0x20000000)
    answer = {"id": number, "result": True, "error": None}
    first, second = wire.receive(answer, answer)
    assert isinstance(first, ShareAnswer)
    assert isinstance(second, Complaint)


def test_work_before_the_subscription_is_refused() -> None:
    [event] = Wire().call("mining.notify", *example_job(1).notify(True))
    assert isinstance(event, Complaint)


def conversation() -> bytes:
    """What a pool says to a client, with some nonsense in between."""
    pool = Pool()
    connection: PoolConnection = pool.connect()
    client = StratumClient(OPTIONS, Clock())
    client.start()
    pool.new_job()
    said = b""
    for _ in range(4):
        connection.receive_data(client.data_to_send())
        output = connection.data_to_send()
        client.receive_data(output)
        said += output + b"{}\n\r\n"
    pool.new_job(clean=False)
    connection.call("client.show_message", "hello")
    connection.call("mining.set_version_mask", "00006000")
    connection.call("mining.ping", number=5)
    return said + connection.data_to_send() + b"x" * 50


@given(st.lists(st.integers(0, 4000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    stream = conversation()
    outcomes = []
    for edges in ([0, len(stream)], sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})):
        client = StratumClient(OPTIONS, Clock())
        client.start()
        events: list[Event] = []
        for index in range(len(edges) - 1):
            events += client.receive_data(stream[edges[index] : edges[index + 1]])
        outcomes.append((events, client.data_to_send()))
    assert outcomes[0] == outcomes[1]
    assert sum(isinstance(event, NewWork) for event in outcomes[0][0]) == 3


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_garbage_never_raises(data: st.DataObject) -> None:
    """Whatever comes, there are events: the known methods with any parameters, and answers with any result."""
    wire = Wire()
    if data.draw(st.booleans()):
        wire.log_in()
        wire.notify()
    methods = st.sampled_from(sorted(wire.client._handlers))
    for _ in range(data.draw(st.integers(1, 5))):
        message = data.draw(
            st.fixed_dictionaries({"id": st.none() | st.integers(), "method": methods, "params": st.lists(_JSON)})
            | st.fixed_dictionaries({"id": st.integers(1, 5), "result": _JSON, "error": _JSON})
            | _JSON
        )
        piece = json.dumps(message).encode() + b"\n" + data.draw(st.binary(max_size=20))
        for event in (*wire.client.receive_data(piece), *wire.client.check_timeouts()):
            assert isinstance(event, Event)
        for line in wire.client.data_to_send().splitlines():
            assert isinstance(json.loads(line), dict)
