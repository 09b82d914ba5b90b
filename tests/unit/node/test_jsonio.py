"""Money through JSON: exact both ways."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives.amount import MAX_MONEY
from node.rpc import jsonio
from node.rpc.errors import RpcError


@given(st.integers(-MAX_MONEY, MAX_MONEY))
def test_an_amount_is_written_with_eight_places_and_read_back_exactly(sat: int) -> None:
    text = jsonio.dumps({"a": [jsonio.money(sat)]})
    value = json.loads(text, parse_float=Decimal)["a"][0]
    assert value * 100_000_000 == sat
    assert text.partition(".")[2].rstrip("]}").isdigit()
    if sat >= 0:
        assert jsonio.parse_money(value) == sat
        assert jsonio.parse_money(str(value)) == sat


@pytest.mark.parametrize(
    ("value", "sat"),
    [
        (1, 100_000_000),
        ("0.00000001", 1),
        (Decimal("1E-8"), 1),
        ("1e-8", 1),
        ("21000000", MAX_MONEY),
        (0, 0),
        ("0.10", 10_000_000),
    ],
)
def test_amounts_that_are_taken(value: Any, sat: int) -> None:
    assert jsonio.parse_money(value) == sat


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "Amount is not a number or string"),
        (None, "Amount is not a number or string"),
        ([], "Amount is not a number or string"),
        ("", "Invalid amount"),
        ("1.", "Invalid amount"),
        (".5", "Invalid amount"),
        ("+1", "Invalid amount"),
        ("01", "Invalid amount"),
        ("0.000000001", "Invalid amount"),
        ("1e999", "Invalid amount"),
        ("1 ", "Invalid amount"),
        ("1٢", "Invalid amount"),
        ("21000000.00000001", "Amount out of range"),
        (-1, "Amount out of range"),
    ],
)
def test_amounts_that_are_refused(value: Any, text: str) -> None:
    with pytest.raises(RpcError) as caught:
        jsonio.parse_money(value)
    assert caught.value.message == text


def test_text_that_looks_like_a_marked_number_stays_text() -> None:
    hostile = 'x"0.5" \\u0000'
    assert json.loads(jsonio.dumps([hostile, jsonio.money(5)])) == [hostile, 5e-08]


def test_decimals_go_out_as_they_came() -> None:
    assert jsonio.dumps(jsonio.loads("[1.5,1E-8,-0.10]")) == "[1.5,1E-8,-0.10]"


def test_lone_surrogates_go_back_as_they_came() -> None:
    assert json.loads(jsonio.encode(["\ud800", "é", jsonio.money(1)])) == ["\ud800", "é", 1e-08]
    assert jsonio.encode(["é"]) == '["é"]'.encode()


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "[" * 100_000, b"\xff", "1e99999999999999999999", "1" * 5000]
)
def test_what_is_not_json_raises_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        jsonio.loads(text)
