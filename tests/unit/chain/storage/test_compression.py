"""Core's compact integers, amounts and scripts, and undo data made of them."""

from __future__ import annotations

import random

import pytest

from chain.crypto.secp256k1 import pubkey_from_secret
from chain.primitives.coin import pack_coin
from chain.primitives.errors import DecodeError
from chain.storage.compression import (
    compress_amount,
    compress_script,
    decompress_amount,
    decompress_script,
    read_varint,
    write_varint,
)
from chain.storage.undo import decode_undo, encode_undo

# From the comment on VARINT in Core's serialize.h, and from its compress_tests.cpp.
VARINTS = {0: "00", 1: "01", 127: "7f", 128: "8000", 255: "807f", 256: "8100", 16383: "fe7f", 16384: "ff00"}
VARINTS |= {16511: "ff7f", 65535: "82fe7f", 2**32: "8efefeff00"}
AMOUNTS = {0: 0, 1: 1, 1_000_000: 0x7, 100_000_000: 0x9, 50 * 100_000_000: 0x32, 21_000_000 * 100_000_000: 0x1406F40}


@pytest.mark.parametrize(("number", "encoded"), VARINTS.items())
def test_varint_vectors(number: int, encoded: str) -> None:
    assert write_varint(number).hex() == encoded
    assert read_varint(bytes.fromhex(encoded), 0) == (number, len(encoded) // 2)


@pytest.mark.parametrize(("amount", "compressed"), AMOUNTS.items())
def test_amount_vectors(amount: int, compressed: int) -> None:
    assert compress_amount(amount) == compressed
    assert decompress_amount(compressed) == amount


def test_numbers_come_back(rng: random.Random) -> None:
    for _ in range(3000):
        number = rng.getrandbits(rng.randrange(1, 57))
        assert read_varint(b"\xff" + write_varint(number) + b"\x01", 1) == (number, 1 + len(write_varint(number)))
        amount = rng.randrange(10 ** rng.randrange(1, 17)) * 10 ** rng.randrange(10) % (21 * 10**14 + 1)
        assert decompress_amount(compress_amount(amount)) == amount


def test_varint_beyond_64_bits_is_refused() -> None:
    with pytest.raises(DecodeError):
        read_varint(b"\xff" * 10 + b"\0", 0)


def _scripts(rng: random.Random) -> list[tuple[bytes, int]]:
    """(script, bytes that it shrinks to)."""
    secret = rng.randbytes(31) + b"\1"
    short, long = pubkey_from_secret(secret), pubkey_from_secret(secret, compressed=False)
    off_curve = long[:-1] + bytes((long[-1] ^ 1,))
    return [
        (b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xac", 21),
        (b"\xa9\x14" + rng.randbytes(20) + b"\x87", 21),
        (b"\x21" + short + b"\xac", 33),
        (b"\x41" + long + b"\xac", 33),
        (b"\x41" + off_curve + b"\xac", 68),
        (b"\x21\x05" + short[1:] + b"\xac", 36),
        (b"\x00\x14" + rng.randbytes(20), 23),
        (b"\x51\x20" + rng.randbytes(32), 35),
        (b"", 1),
        (b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xad", 26),
        (rng.randbytes(300), 302),
    ]


def test_scripts_come_back(rng: random.Random) -> None:
    for _ in range(20):
        for script, size in _scripts(rng):
            packed = compress_script(script)
            assert len(packed) == size
            assert decompress_script(b"x" + packed + b"y", 1) == (script, 1 + size)


def test_compressed_key_off_the_curve_is_refused() -> None:
    with pytest.raises(DecodeError):
        decompress_script(b"\x04" + (5).to_bytes(32, "big"), 0)  # no point has x = 5


def test_undo_data_come_back_and_cut_ones_are_refused(rng: random.Random) -> None:
    block = [
        [pack_coin(rng.randrange(10**15), script, rng.choice((0, 1, 700_000)), rng.random() < 0.3) for _ in range(3)]
        for script, _ in _scripts(rng)
    ]
    block.append([])
    data = encode_undo(block)
    assert decode_undo(data) == block
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            decode_undo(data[:end])
    with pytest.raises(DecodeError):
        decode_undo(data + b"\0")


def test_undo_data_are_laid_out_as_core_does() -> None:
    coin = pack_coin(5_000_000_000, bytes.fromhex("76a914") + bytes(20) + bytes.fromhex("88ac"), 9, True)
    # one transaction, one input: code 9*2+1, version byte 0, amount 0x32, script type 0 and hash
    assert encode_undo([[coin]]).hex() == "01" + "01" + "13" + "00" + "32" + "00" + "00" * 20
    assert encode_undo([[pack_coin(0, b"", 0, False)]]).hex() == "01" + "01" + "00" + "00" + "06"


def test_short_varints_are_spelled_by_the_definition() -> None:
    """Numbers of one, two and three bytes have a short way; around every border it gives what the loop gives."""

    def by_definition(n: int) -> bytes:
        out = [n & 0x7F]
        while n > 0x7F:
            n = (n >> 7) - 1
            out.append(n & 0x7F | 0x80)
        return bytes(out[::-1])

    for border in (0, 0x80, 0x4080, 0x204080, 0x10204080):
        for n in range(max(0, border - 300), border + 300):
            assert write_varint(n) == by_definition(n), n
    for n in range(0, 0x204080, 61):
        assert write_varint(n) == by_definition(n), n
