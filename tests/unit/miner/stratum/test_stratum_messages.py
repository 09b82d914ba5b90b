"""Stratum's lines: framing, and what is and is not a message."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.work.stratum.messages import (
    LineBuffer,
    Malformed,
    Rejection,
    Request,
    Response,
    clean_text,
    encode_error,
    encode_request,
    encode_result,
    parse_line,
)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_their_pieces(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    limit = 20
    whole = LineBuffer(limit)
    expected = whole.feed(stream)
    pieces = LineBuffer(limit)
    found = []
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        found += pieces.feed(stream[start:end])
    assert (found, pieces.overflowed) == (expected, whole.overflowed)
    too_long = next((index for index, line in enumerate(lines) if len(line) > limit), None)
    assert expected == lines[:too_long]
    assert whole.overflowed == (too_long is not None)


def test_a_line_without_end_is_not_kept() -> None:
    buffer = LineBuffer(100)
    assert buffer.feed(b"a\n" + b"x" * 101) == [b"a"]
    assert buffer.overflowed
    assert buffer.feed(b"\nb\n") == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"id":1,"result":NaN}', "not JSON"),
        (b'{"id":' + b"1" * 5000 + b',"result":1}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"{}", "neither a call nor an answer"),
        (b'{"method":1,"params":[]}', "not text"),
        (b'{"method":"mining.notify","params":{}}', "without a list"),
        (b'{"method":"x","params":[],"id":[]}', "impossible number"),
        (b'{"method":"x","params":[],"id":true}', "impossible number"),
        (b'{"id":"1","result":true}', "without the number"),
        (b'{"id":null,"error":"no"}', "without the number"),
        (b'{"id":true,"result":true}', "without the number"),
    ],
)
def test_what_is_no_message(line: bytes, error: str) -> None:
    with pytest.raises(Malformed, match=error):
        parse_line(line)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(repr))
def test_garbage_is_malformed_and_nothing_else(data: bytes | str) -> None:
    line = data if isinstance(data, bytes) else data.encode()
    with pytest.raises(Malformed):  # nothing of it is an object
        parse_line(line)


@given(
    st.dictionaries(
        st.sampled_from(["id", "method", "params", "result", "error", "reject-reason"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
            max_leaves=6,
        ),
    )
)
def test_any_json_object_is_a_message_or_malformed(message: dict[str, object]) -> None:
    try:
        parsed = parse_line(json.dumps(message).encode())
    except Malformed:
        return
    assert isinstance(parsed, Request | Response)


def test_what_is_sent_can_be_read() -> None:
    assert parse_line(encode_request(7, "mining.subscribe", ["a"])) == Request(7, "mining.subscribe", ["a"])
    assert parse_line(encode_result(7, True)) == Response(7, True, None)
    assert parse_line(encode_error(7, 21, "late")) == Response(7, None, Rejection(21, "late"))


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        ('"result":true,"error":null', None),
        ('"result":true,"error":false', None),
        ('"result":true,"error":""', None),
        ('"result":true', None),
        ('"result":false,"error":null', Rejection(20, "")),
        ('"result":false,"error":null,"reject-reason":"Above target"', Rejection(20, "Above target")),
        ('"result":null,"error":[21,"Job not found",null]', Rejection(21, "Job not found")),
        ('"result":null,"error":[23]', Rejection(23, "")),
        ('"result":null,"error":{"code":22,"message":"Duplicate"}', Rejection(22, "Duplicate")),
        ('"result":null,"error":"no"', Rejection(20, "no")),
        ('"result":null,"error":[-2,"?",null]', Rejection(20, "?")),
        ('"result":null,"error":[[],[]]', Rejection(20, "")),
        ('"result":null,"error":[true,"x"]', Rejection(20, "x")),
        ('"result":null,"error":[24,"\\u001b[31mred\\n"]', Rejection(24, "[31mred")),
    ],
)
def test_errors_come_in_many_shapes(body: str, rejection: Rejection | None) -> None:
    message = parse_line(f'{{"id":1,{body}}}'.encode())
    assert isinstance(message, Response)
    assert message.rejection == rejection


def test_rejections_read_well() -> None:
    assert str(Rejection(21, "Job not found")) == "21 stale: Job not found"
    assert str(Rejection(22, "Duplicate")) == "22 duplicate"
    assert str(Rejection(20, "")) == "20 other"


def test_foreign_text_cannot_touch_the_terminal() -> None:
    assert clean_text("a\x1b[2Jb\r\nc") == "a [2Jb  c"
    assert len(clean_text("x" * 10_000)) == 200
