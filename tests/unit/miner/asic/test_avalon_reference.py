"""avalon/REFERENCE.md says what the code does: its frames and tables, computed again."""

from __future__ import annotations

import re
from pathlib import Path

import miner.asic.avalon as package
from miner.asic.avalon import frames
from miner.asic.avalon.frames import Settings, parse_result, result_key, task_frame

TEXT = (Path(package.__file__).parent / "REFERENCE.md").read_text()
#: Bitcoin's block 171874 as far as a task tells it; its midstate is icarus/REFERENCE.md's golden work.
GOLDEN_BODY = bytes.fromhex("4a548fe471fa3a9a1371144556c3f64d2500b4826008fe4bbf7698c94eba7946ce22a72f4f6726141a0b3287")


def section(number: int) -> str:
    return re.split(r"^## §\d+ .*$", TEXT, flags=re.MULTILINE)[number]


def frames_in(text: str) -> list[bytes]:
    return [bytes.fromhex(found.replace("\n", " ")) for found in re.findall(r"`((?:[0-9A-F]{2}\s?)+)`", text)]


def test_tasks_are_those_of_the_reference() -> None:
    first, later, idle = frames_in(section(2))
    settings = Settings(282, 32)
    header = bytes(range(80))
    for known, task in (
        (first, task_frame(header, settings, set_up=True)),
        (later, task_frame(header, settings)),
        (idle, task_frame(header, settings, idle=True)),
    ):
        assert task[:12] == known[:12]
        assert len(task) == 96
    assert first[12:56] == GOLDEN_BODY
    assert task_frame(header, settings)[56:] == first[56:], "the nonce table"
    assert task_frame(header, settings, flush=True)[0] == 0xA6
    (reset,) = frames_in(section(3))
    assert frames.reset_frame() == reset


def test_clock_and_timeout_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (.. ..) \| (\d+) \|$", section(2), flags=re.MULTILINE)
    assert len(rows) == 6
    for mhz, clock, timeout in rows:
        task = task_frame(bytes(80), Settings(int(mhz), 24), set_up=True)
        assert task[6:8] == bytes.fromhex(clock)
        assert task[2] == int(timeout)
        assert task[3] == 24


def test_a_result_is_read_as_the_reference_says() -> None:
    record = bytes.fromhex("a2870100") + result_key(GOLDEN_BODY)
    record += bytes((10, 11, 0, 45, 0xF6, 30, 0, 0, 5, 0, 3, 0, 7, 0xA0, 45, 31))
    result = parse_result(record)
    assert record[frames.KEY] == result_key(GOLDEN_BODY)
    assert result.nonce.to_bytes(4, "little") == bytes.fromhex("000187a2"), "as in the header"
    assert result.fans_rpm == (1200, 1320, 0)
    assert result.temperatures_c == (45, -10, 30)
    assert (result.chip, result.row) == (7, 31)


def test_the_reset_reply_tells_the_version() -> None:
    record = bytes.fromhex("aa55aa55") + bytes(40) + bytes((1, 15, 0xD6)) + bytes(17)
    assert frames.parse_reset_reply(b"\0\xaa" + record) == "2013-06-15.1"
    assert frames.parse_reset_reply(record[:-1]) is None
    assert frames.parse_reset_reply(bytes(200)) is None
