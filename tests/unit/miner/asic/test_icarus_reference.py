"""icarus/REFERENCE.md says what the code does: every frame and every row of its tables, computed again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import miner.asic.icarus as package
from miner.asic.icarus import frames
from miner.asic.icarus.models import ICARUS_MODELS
from miner.kernels.reference import hash_number, header_hash
from tests.unit.miner.asic.test_bm13xx_codec import V3_HEADER

TEXT = (Path(package.__file__).parent / "REFERENCE.md").read_text()


def section(number: int) -> str:
    return re.split(r"^## §\d+ .*$", TEXT, flags=re.MULTILINE)[number]


def frames_in(text: str) -> list[bytes]:
    return [bytes.fromhex(found.replace("\n", " ")) for found in re.findall(r"`((?:[0-9A-F]{2}\s?)+)`", text)]


def rows(text: str) -> list[list[str]]:
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [row for row in found if row[0] and not row[0].startswith("---")][1:]


def test_known_works() -> None:
    assert frames_in(section(4)) == [
        frames.GOLDEN.frame,
        *frames.GOLDEN.nonces,
        *frames.FAR.nonces,
        frames.FAR.frame,
    ]
    assert frames_in(section(5)) == [frames.DIVISION.frame]
    for reply, engines in rows(section(5)):
        assert frames.engines_of(bytes.fromhex(reply)) == int(engines)
        assert bytes.fromhex(reply) in frames.DIVISION.nonces
    assert frames.engines_of(None) == frames.engines_of(b"\0\0\0\0") == 2


@pytest.mark.parametrize(
    ("number", "register_of", "reference"), [(7, frames.u1_register, 25), (8, frames.u3_register, 50)]
)
def test_clock_commands(number: int, register_of: object, reference: int) -> None:
    table = [row for row in rows(section(number)) if len(row) == 3]
    assert len(table) >= 8
    for mhz, register, frame in table:
        value = int(register, 16)
        assert frames.register_mhz(value, reference) == float(mhz)
        assert frames.clock_command(value) == bytes.fromhex(frame.strip("`"))
        ours = register_of(float(mhz))  # type: ignore[operator]
        assert frames.register_mhz(ours, reference) == float(mhz), "another register may mean the same clock"


def test_voltage_commands() -> None:
    table = [row for row in rows(section(8)) if len(row) == 2 and row[0].isdigit()]
    assert len(table) == 5
    for millivolts, frame in table:
        assert frames.voltage_command(int(millivolts)) == bytes.fromhex(frame.strip("`"))


def test_timing_table() -> None:
    for name, ns, engines, range_s in rows(section(6)):
        model = ICARUS_MODELS[name]
        assert model.ns_per_hash == pytest.approx(float(ns), rel=1e-3)
        assert model.engines == int(engines)
        assert model.range_s() == pytest.approx(float(range_s), rel=0.01)


def test_a_header_becomes_the_frame_that_the_reference_gives() -> None:
    """The second work is a header that the BM13xx vectors spell out."""
    assert frames.work_frame(V3_HEADER) == frames.FAR.frame
    assert frames.work_frame(V3_HEADER, 30)[51] == 30
    digest = hash_number(header_hash(V3_HEADER[:76] + frames.FAR.nonces[0]))
    assert digest >> 224 == 0
    assert frames.position_of(frames.FAR.nonces[0]) == 3_516_793_354
    assert frames.hashes_at(frames.GOLDEN.nonces[0], 1) == 100_259
    assert frames.hashes_at(bytes.fromhex("82540e46"), 2) == (39_063_110 + 1) * 2


def test_clock_commands_of_other_boards_are_never_sent() -> None:
    assert frames.is_clock_command(bytes(32) + bytes(24) + b"\xff" * 4 + bytes(4))
    assert not frames.is_clock_command(frames.GOLDEN.frame)
