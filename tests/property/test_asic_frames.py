"""Laws of the BM13xx wire that hold for any frames and any damage."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.asic import crc
from miner.asic.bm13xx import pll, ticket_mask
from miner.asic.bm13xx.frames import (
    Reply,
    ReplyDecoder,
    chain_inactive,
    chip_order,
    full_header_job,
    midstate_job,
    read_register,
    set_address,
    write_register,
)
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.work import split_versions
from miner.asic.emulator import hashing
from miner.asic.emulator.wire import Command, HostFrames, Work, nonce_reply, register_reply
from miner.kernels.midstate import midstate

BYTE = st.integers(0, 255)
WORD = st.integers(0, 0xFFFF_FFFF)
#: Bytes as chips send them, but for AA: two frames can be told from one that contains a preamble only by what follows.
PLAIN = st.integers(0, 255).filter(lambda byte: byte != 0xAA)
#: Nor 55: one more byte, or another bit, may make an AA before it, and what then looks like a frame passes a five-bit
#: checksum now and then and takes the next frame with it.
PLAINEST = PLAIN.filter(lambda byte: byte != 0x55)


def long_replies(byte: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    word = st.tuples(byte, byte, byte, byte).map(lambda parts: int.from_bytes(bytes(parts), "big"))
    nonce = st.builds(
        nonce_reply, word, byte, byte, st.tuples(byte, byte).map(lambda parts: int.from_bytes(bytes(parts), "big"))
    )
    return st.one_of(nonce, st.builds(register_reply, word, byte, byte, st.just(True)))


def decode_in(pieces: list[bytes], size: int = 11) -> list[Reply]:
    decoder = ReplyDecoder(size)
    return [reply for piece in pieces for reply in decoder.receive_data(piece)]


@given(st.binary(max_size=400), st.lists(long_replies(BYTE), max_size=20), st.data())
def test_replies_do_not_depend_on_how_the_bytes_are_cut(noise: bytes, frames: list[bytes], data: st.DataObject) -> None:
    stream = noise + b"".join(frames) + noise[::-1]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    for size in (9, 11):
        assert decode_in(pieces, size) == decode_in([stream], size)


@given(st.lists(long_replies(BYTE), max_size=30))
def test_whole_frames_all_arrive(frames: list[bytes]) -> None:
    assert len(decode_in([b"".join(frames)])) == len(frames)


@given(st.lists(long_replies(PLAIN), min_size=1, max_size=20), st.data())
def test_a_lost_byte_costs_one_frame(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    at = data.draw(st.integers(0, len(stream) - 1))
    whole = decode_in([stream])
    got = decode_in([stream[:at] + stream[at + 1 :]])
    assert got == whole[: at // 11] + whole[at // 11 + 1 :]


@given(st.lists(long_replies(BYTE), min_size=1, max_size=20), st.data())
def test_a_lost_byte_never_costs_more_than_two_frames(frames: list[bytes], data: st.DataObject) -> None:
    """Whatever the frames contain, preambles of their own included."""
    stream = b"".join(frames)
    at = data.draw(st.integers(0, len(stream) - 1))
    whole = decode_in([stream])
    got = decode_in([stream[:at] + stream[at + 1 :]])
    assert len(got) >= len(whole) - 2
    assert got[: at // 11] == whole[: at // 11]


@given(st.lists(long_replies(PLAINEST), min_size=1, max_size=20), st.data(), BYTE)
def test_an_extra_byte_costs_one_frame_at_most(frames: list[bytes], data: st.DataObject, extra: int) -> None:
    stream = b"".join(frames)
    at = data.draw(st.integers(0, len(stream)))
    whole = decode_in([stream])
    got = decode_in([stream[:at] + bytes((extra,)) + stream[at:]])
    hit = at // 11
    assert got[:hit] == whole[:hit]
    assert got[len(got) - len(whole[hit + 1 :]) :] == whole[hit + 1 :]


@given(st.lists(long_replies(PLAINEST), min_size=1, max_size=20), st.data(), st.integers(0, 7))
def test_a_flipped_bit_costs_its_own_frame_only(frames: list[bytes], data: st.DataObject, bit: int) -> None:
    stream = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(stream) - 1))
    whole = decode_in([bytes(stream)])
    stream[at] ^= 1 << bit
    got = decode_in([bytes(stream)])
    hit = at // 11
    assert got == whole[:hit] + whole[hit + 1 :], "CRC5 finds every single flipped bit"


@given(st.binary(max_size=3000))
def test_noise_is_survived(noise: bytes) -> None:
    decoder = ReplyDecoder(11)
    decoder.receive_data(noise)
    decoder.receive_data(bytes(11))
    assert decoder.receive_data(register_reply(7, 1, 2, True))[-1] == (7, 1, 2)
    HostFrames(True).receive_data(noise)
    HostFrames(False).receive_data(noise)


@given(BYTE, BYTE, WORD)
def test_the_chips_understand_every_command(address: int, register: int, value: int) -> None:
    cases = {
        set_address(address): Command("address", address),
        chain_inactive(): Command("inactive", None),
        read_register(register): Command("read", None, register),
        read_register(register, address): Command("read", address, register),
        write_register(register, value): Command("write", None, register, value),
        write_register(register, value, address): Command("write", address, register, value),
    }
    assert HostFrames(True).receive_data(b"\x55" + b"".join(cases)) == list(cases.values())


@given(st.binary(min_size=80, max_size=80), BYTE, st.sampled_from([0x36, 0x56, 0xFF]), st.integers(1, 40))
def test_the_chips_understand_every_job(header: bytes, job_id: int, length: int, piece: int) -> None:
    frame = full_header_job(header, job_id, length_byte=length)
    frames = HostFrames(True)
    got = [work for at in range(0, 88, piece) for work in frames.receive_data(frame[at : at + piece])]
    (work,) = got
    assert isinstance(work, Work)
    assert (work.job_id, work.tail, work.head) == (job_id, header[64:76], header[4:64])
    assert work.version == int.from_bytes(header[:4], "little")

    states = [midstate(header[:64]), *([midstate(header[16:])] * 3)]
    (work,) = HostFrames(False).receive_data(midstate_job(header[64:76], states, job_id))
    assert isinstance(work, Work)
    assert (work.job_id, work.tail) == (job_id, header[64:76])
    assert work.midstates[0] == hashing.midstate(header[:64])
    assert len(work.midstates) == 4


@given(st.binary(min_size=64, max_size=64))
def test_two_ways_to_a_midstate(block: bytes) -> None:
    assert b"".join(word.to_bytes(4, "big") for word in hashing.midstate(block)) == midstate(block)
    assert chip_order(chip_order(block)) == block


@given(st.binary(max_size=40), st.integers(0, 7))
def test_response_checksums_leave_nothing(body: bytes, kind: int) -> None:
    last = kind << 5 | crc.crc5_of_response(body, kind)
    assert crc.crc5(body + bytes((last,))) == 0


@given(st.binary(min_size=2, max_size=2), st.integers(0, 31))
def test_two_bytes_in_one_step_of_crc5(pair: bytes, start: int) -> None:
    assert crc.CRC5_PAIRS[int.from_bytes(pair, "little") ^ start << 3] == crc.crc5(pair, start)


@given(st.integers(0, 32), st.binary(min_size=32, max_size=32), st.integers(0, 10))
def test_ticket_masks_count_leading_zeros(bits: int, digest: bytes, zeros: int) -> None:
    shown = bytes(4) + ((int.from_bytes(digest, "big") >> 32 + zeros).to_bytes(28, "big"))
    value = ticket_mask.register_value(1 << bits)
    assert ticket_mask.difficulty_of(value) == 1 << bits
    assert ticket_mask.passes(value, shown) == (256 - int.from_bytes(shown, "big").bit_length() >= 32 + bits)


@given(st.sampled_from(list(MODELS)), st.floats(56, 620))
def test_clock_settings_read_back(chip: str, mhz: float) -> None:
    rules = MODELS[chip].pll
    setting = pll.find(mhz, rules)
    assert pll.decode(setting.register_value(rules), rules) == setting
    assert abs(setting.frequency_mhz - mhz) < 0.02 * mhz


@given(st.floats(50, 600), st.floats(50, 600))
def test_ramps_never_step_far(start: float, target: float) -> None:
    steps = [start, *pll.ramp(start, target)]
    assert steps[-1] == target
    assert all(abs(b - a) <= 2 * 6.25 for a, b in itertools.pairwise(steps))
    assert sorted(steps) in (steps, steps[::-1])


@given(WORD, st.integers(0, 600), st.integers(0, 16), st.sampled_from([4, 65536]))
def test_versions_are_split_without_loss(version: int, count: int, start: int, largest: int) -> None:
    mask = 0x1FFF_E000
    rolled = [version ^ (index << 13) for index in range(start, start + count)]
    jobs = list(split_versions(tuple(rolled), bytes(80), largest, mask))
    got = [job.rolled(index) for job in jobs for index in range(job.version_count)]
    assert sorted(got) == sorted(value & 0xFFFFFFFF for value in rolled)
    assert all(job.version_count <= largest and job.version & job.version_mask == 0 for job in jobs)
    assert all(job.version_mask & ~mask == 0 for job in jobs)


@pytest.mark.parametrize("model", MODELS)
@given(nonce=WORD, chips=st.integers(1, 16))
def test_any_nonce_names_a_chip_of_the_chain_or_none(model: str, nonce: int, chips: int) -> None:
    chip = MODELS[model].chip_of(nonce, chips)
    assert chip is None or 0 <= chip < chips
