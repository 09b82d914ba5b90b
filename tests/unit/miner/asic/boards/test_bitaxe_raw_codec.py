"""The control channel's frames: the reference's examples, three framings of replies, errors, any chunking."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from miner.asic.boards import bitaxe_raw as raw
from miner.asic.boards.bitaxe_raw import ControlCodec, Framing, Reply, Request

REFERENCE = (Path(raw.__file__).parent / "REFERENCE.md").read_text()
EXAMPLES = dict(re.findall(r"^\| ([^|]+) \| `((?:[0-9A-F]{2} )+[0-9A-F]{2})` \|$", REFERENCE, re.M))
REQUESTS: dict[str, tuple[Request, int]] = {
    "I2C at 400 kHz, id 1": (raw.i2c_frequency(400_000), 1),
    "I2C at 100 kHz, id 1": (raw.i2c_frequency(100_000), 1),
    "write DE to 4F, id 1": (raw.i2c_write(0x4F, b"\xde"), 1),
    "read 1 from 4C, id 1": (raw.i2c_read(0x4C, 1), 1),
    "write FE, read 2 from 32, id 1": (raw.i2c_write_read(0x32, b"\xfe", 2), 1),
    "reset low, id 0": (raw.gpio_set(0, False), 0),
    "reset high, id 0": (raw.gpio_set(0, True), 0),
    "read reset, id 0": (raw.gpio_get(0), 0),
    "ADC 50, id 0": (raw.adc_read(raw.ADC_VDD), 0),
    "LED magenta, id 0": (raw.led(255, 0, 255), 0),
}


def test_the_reference_has_an_example_of_every_request() -> None:
    assert set(EXAMPLES) == set(REQUESTS)


@pytest.mark.parametrize("name", REQUESTS)
def test_examples_of_the_reference(name: str) -> None:
    request, request_id = REQUESTS[name]
    assert request.encode(request_id) == bytes.fromhex(EXAMPLES[name])


def codec_for(framing: Framing, request: Request) -> tuple[ControlCodec, int]:
    codec = ControlCodec(framing)
    return codec, codec.begin(request)[2]


@pytest.mark.parametrize(
    ("answer", "framing"),
    [
        ("01 00 00 01", Framing.DATA_LENGTH),
        ("04 00 00 01", Framing.TOTAL_LENGTH),
        ("05 00 00 00 01", Framing.STATUS_BYTE),
    ],
)
def test_a_gpio_read_tells_the_framing(answer: str, framing: Framing) -> None:
    codec = ControlCodec()
    codec.begin(raw.gpio_get(0))
    assert codec.receive_data(bytes.fromhex(answer)) == Reply(b"\x01")
    assert codec.framing is framing


def test_nothing_is_asked_before_the_framing_is_known() -> None:
    with pytest.raises(ValueError, match="GPIO read"):
        ControlCodec().begin(raw.i2c_read(0x4C, 1))


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 18, 19, 23, 64, 256])
def test_replies_in_any_pieces(framing: Framing, size: int, rng: random.Random) -> None:
    for _ in range(20):
        data = rng.randbytes(size)
        codec, request_id = codec_for(framing, Request(5, 0x30, b"", size))
        frame = raw.encode_reply(framing, request_id, data)
        reply, at = None, 0
        while at < len(frame) and reply is None:
            step = rng.randint(1, len(frame))
            reply = codec.receive_data(frame[at : at + step])
            at += step
        assert reply == Reply(data)


@pytest.mark.parametrize(
    ("framing", "frame", "words"),
    [
        (Framing.DATA_LENGTH, "04 00 00 11", "invalid command"),
        (Framing.TOTAL_LENGTH, "04 00 00 10", "timeout"),
        (Framing.STATUS_BYTE, "04 00 00 13", "fault"),
        (Framing.DATA_LENGTH, "12 00 00 FF" + b"I2C Read Error".hex(), "I2C Read Error"),
        (Framing.TOTAL_LENGTH, "12 00 00 FF" + b"I2C Read Error".hex(), "I2C Read Error"),
        (Framing.STATUS_BYTE, "12 00 00 FF" + b"I2C Read Error".hex(), "I2C Read Error"),
    ],
)
def test_errors_in_words(framing: Framing, frame: str, words: str) -> None:
    codec, request_id = codec_for(framing, raw.i2c_read(0x4C, 2))
    assert request_id == 0
    assert codec.receive_data(bytes.fromhex(frame)) == Reply(b"", words)


def test_a_short_error_that_looks_like_a_long_success_is_told_by_the_silence_after_it() -> None:
    codec, _ = codec_for(Framing.DATA_LENGTH, raw.i2c_frequency(100_000))  # four data bytes: length 4, as the error's
    assert codec.receive_data(bytes.fromhex("04 00 00 11")) is None
    assert codec.quiet() == Reply(b"", "invalid command")
    codec.begin(raw.i2c_frequency(100_000))
    assert codec.receive_data(bytes.fromhex("04 00 01 A0 86 01 00")) == Reply(bytes.fromhex("A0 86 01 00"))


@pytest.mark.parametrize("framing", Framing)
def test_every_byte_can_be_read(framing: Framing) -> None:
    """0x10 in a status register once looked like the error code of a timeout."""
    for value in range(256):
        codec, request_id = codec_for(framing, raw.i2c_read(0x24, 1))
        assert codec.receive_data(raw.encode_reply(framing, request_id, bytes((value,)))) == Reply(bytes((value,)))


def test_an_answer_that_comes_too_late_does_not_spoil_the_next() -> None:
    codec = ControlCodec(Framing.TOTAL_LENGTH)
    codec.begin(raw.gpio_get(0))
    codec.begin(raw.i2c_read(0x4C, 2))
    late, due = (
        raw.encode_reply(Framing.TOTAL_LENGTH, 0, b"\x01"),
        raw.encode_reply(Framing.TOTAL_LENGTH, 1, b"\x19\x02"),
    )
    assert codec.receive_data(late + due) == Reply(b"\x19\x02")
    assert codec.stray_bytes == len(late)


def test_ids_go_round_and_leave_out_the_one_of_unparsable_requests() -> None:
    codec = ControlCodec(Framing.TOTAL_LENGTH)
    ids = [codec.begin(raw.gpio_get(0))[2] for _ in range(600)]
    assert 0xFF not in ids
    assert ids[:3] == [0, 1, 2]
    assert len(set(ids)) == 255


def test_noise_never_breaks_it(rng: random.Random) -> None:
    for _ in range(300):
        framing, size = rng.choice(list(Framing)), rng.randint(1, 8)
        codec, _ = codec_for(framing, raw.i2c_read(0x4C, size))
        for _ in range(5):
            for reply in (codec.receive_data(rng.randbytes(rng.randint(0, 20))), codec.quiet()):
                assert reply is None or isinstance(reply, Reply)
        request_id, data = codec.begin(raw.i2c_read(0x4C, size))[2], rng.randbytes(size)
        assert codec.receive_data(raw.encode_reply(framing, request_id, data)) == Reply(data), "understood as before"


def test_requests_have_a_largest_size() -> None:
    with pytest.raises(ValueError, match="4098"):
        raw.i2c_write(0x24, bytes(5000)).encode(0)
