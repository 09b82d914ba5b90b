"""Bounds and canonical forms of the wire types, and text forms of amounts and targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives.amount import COIN, MAX_MONEY, format_amount, parse_amount
from chain.primitives.coin import coin_height, coin_is_coinbase, coin_script, coin_value, pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import MAX_SIZE, MAX_U64, Reader, var_bytes, write_compact_size
from chain.primitives.target import (
    decode_nbits,
    difficulty,
    nbits_from_target,
    target_from_nbits,
    target_of_difficulty,
    work_from_nbits,
)
from chain.primitives.types import hash_from_hex, hash_to_hex, make_outpoint, split_outpoint


@given(st.integers(0, MAX_U64))
def test_compact_size_round_trip(n: int) -> None:
    encoded = write_compact_size(n)
    reader = Reader(encoded)
    assert reader.compact_size(limit=MAX_U64) == n
    reader.finish()


@pytest.mark.parametrize(
    "encoded", ["fdfc00", "fd0000", "feffff0000", "fe00000000", "ffffffffff00000000", "ff0000000000000000"]
)
def test_longer_than_needed_is_refused(encoded: str) -> None:
    with pytest.raises(DecodeError, match="non-canonical"):
        Reader(bytes.fromhex(encoded)).compact_size()


def test_compact_size_is_bounded() -> None:
    assert Reader(write_compact_size(MAX_SIZE)).compact_size() == MAX_SIZE
    with pytest.raises(DecodeError, match="too large"):
        Reader(write_compact_size(MAX_SIZE + 1)).compact_size()
    with pytest.raises(DecodeError, match="wanted"):
        Reader(write_compact_size(MAX_SIZE) + b"x").var_bytes()


@given(st.binary(max_size=300), st.integers(0, 300))
def test_reader_never_reads_past_the_end(data: bytes, cut: int) -> None:
    encoded = var_bytes(data)
    if cut >= len(encoded):
        assert Reader(encoded).var_bytes() == data
    else:
        with pytest.raises(DecodeError):
            Reader(encoded[:cut]).var_bytes()


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", COIN), ("0.1", 10_000_000), ("20999999.99999999", 2099999999999999), ("1.500000000", 150_000_000)],
)
def test_amounts(text: str, value: int) -> None:
    assert parse_amount(text) == value
    assert parse_amount(format_amount(value)) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "1,5", "1e8", "0.000000001", "21000000.00000001", ".5", "1.", "NaN", "١", "1 2", "0x10"]
)
def test_what_is_not_an_amount(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_amount(text)


def test_negative_amounts_are_printed_with_one_sign() -> None:
    assert format_amount(-150_000_000) == "-1.50000000"
    assert format_amount(-1) == "-0.00000001"


@pytest.mark.parametrize(
    ("nbits", "value", "negative", "overflow"),
    [  # Core's arith_uint256_tests, bignum_SetCompact
        (0, 0, False, False),
        (0x00123456, 0, False, False),
        (0x01003456, 0, False, False),
        (0x02000056, 0, False, False),
        (0x01123456, 0x12, False, False),
        (0x02123456, 0x1234, False, False),
        (0x03123456, 0x123456, False, False),
        (0x04123456, 0x12345600, False, False),
        (0x04923456, 0x12345600, True, False),
        (0x01FEDCBA, 0x7E, True, False),
        (0x05009234, 0x92340000, False, False),
        (0x20123456, 0x123456 << 232, False, False),
        (0xFF123456, 0x123456 << 2016, False, True),
        (0x21010000, 0x010000 << 240, False, True),
        (0x2100FFFF, 0xFFFF << 240, False, False),
        (0x220000FF, 0xFF << 248, False, False),
        (0x23000001, 0x01 << 256, False, True),
    ],
)
def test_compact_targets(nbits: int, value: int, negative: bool, overflow: bool) -> None:
    assert decode_nbits(nbits) == (value, negative, overflow)
    assert (target_from_nbits(nbits) is None) == (negative or overflow or value == 0)


@given(st.integers(1, (1 << 256) - 1))
def test_compact_form_rounds_down(target: int) -> None:
    back = target_from_nbits(nbits_from_target(target))
    if back is None:
        pytest.fail("a positive target has a compact form")
    assert back <= target < back + (1 << max(0, target.bit_length() - 15))
    assert nbits_from_target(back) == nbits_from_target(target)


def test_work_and_difficulty_of_known_bits() -> None:
    assert work_from_nbits(0x1D00FFFF) == 0x100010001
    assert work_from_nbits(0x207FFFFF) == 2
    assert work_from_nbits(0) == 0
    assert difficulty(0x1D00FFFF) == 1.0
    assert difficulty(0x1B0404CB) == pytest.approx(16307.420938523983, rel=1e-15)


@given(st.integers(0, MAX_MONEY), st.binary(max_size=50), st.integers(0, (1 << 31) - 1), st.booleans())
def test_coin_round_trip(value: int, script: bytes, height: int, coinbase: bool) -> None:
    coin = pack_coin(value, script, height, coinbase)
    assert (coin_value(coin), coin_script(coin), coin_height(coin), coin_is_coinbase(coin)) == (
        value,
        script,
        height,
        coinbase,
    )


def test_hash_spellings() -> None:
    internal = bytes(range(32))
    assert hash_from_hex(hash_to_hex(internal)) == internal
    assert hash_to_hex(internal).startswith("1f1e")
    assert split_outpoint(make_outpoint(internal, 7)) == (internal, 7)
    for bad in ("", "00" * 31, "zz" * 32):
        with pytest.raises(ValueError):
            hash_from_hex(bad)


def test_target_of_a_difficulty() -> None:
    assert target_of_difficulty(1.0) == 0xFFFF << 208
    assert target_of_difficulty(2.0) == (0xFFFF << 208) // 2
    assert target_of_difficulty(1e-30) == (1 << 256) - 1
    assert difficulty(nbits_from_target(target_of_difficulty(0.001))) == pytest.approx(0.001, rel=1e-4)
