"""REFERENCE.md is true: its frames parse, its clocks compute, and every section the code cites is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from miner.asic import transport
from miner.asic.bm13xx import pll
from miner.asic.bm13xx.frames import NonceReply, ReplyDecoder
from miner.asic.bm13xx.models import MODELS
from miner.asic.emulator.wire import Command, HostFrames, Work

FOLDER = Path(transport.__file__).parent
TEXT = (FOLDER / "bm13xx/REFERENCE.md").read_text()
FRAMES = [bytes.fromhex(text) for text in re.findall(r"`((?:[0-9A-F]{2} ){5,}[0-9A-F]{2})`", TEXT)]
CLOCKS = re.findall(r"^\| (bm\d+) \| ([\d.]+) \| ((?:[0-9A-F]{2} ?){4}) \|$", TEXT, re.M)
CHIPS = re.findall(r"^\| (bm\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", TEXT, re.M)


def test_there_is_something_to_check() -> None:
    assert (len(FRAMES) > 30, len(CLOCKS), len(CHIPS)) == (True, 8, 5)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.hex(" ")[:40])
def test_every_frame_is_whole(frame: bytes) -> None:
    if frame.startswith(b"\x55\xaa"):
        (got,) = HostFrames(full_header=True).receive_data(frame)
        assert isinstance(got, Command | Work)
    else:
        assert len(ReplyDecoder(len(frame)).receive_data(frame)) == 1


def test_the_share_that_a_pool_accepted_answers_the_job_above_it() -> None:
    (job,) = HostFrames(True).receive_data(next(frame for frame in FRAMES if len(frame) == 88))
    (reply,) = ReplyDecoder(11).receive_data(bytes.fromhex("AA554C0352750CD205A29C"))
    assert isinstance(job, Work)
    assert isinstance(reply, NonceReply)
    assert MODELS["bm1370"].job_id_of(reply.tag) == job.job_id == 0x68


@pytest.mark.parametrize(("chip", "mhz", "value"), CLOCKS)
def test_every_clock_computes(chip: str, mhz: str, value: str) -> None:
    rules = MODELS[chip].pll
    assert pll.find(float(mhz), rules).register_value(rules) == int(value.replace(" ", ""), 16)


@pytest.mark.parametrize(("chip", "cores", "engines", "mhz", "mv", "rate"), CHIPS)
def test_the_models_are_the_tables(chip: str, cores: str, engines: str, mhz: str, mv: str, rate: str) -> None:
    model = MODELS[chip]
    assert (model.cores, model.units, model.default_mhz, model.default_mv) == (
        int(cores),
        int(engines),
        float(mhz),
        int(mv),
    )
    assert model.nominal_hash_rate(model.default_mhz) / 1e9 == pytest.approx(float(rate), rel=1e-3)


def test_every_section_that_is_cited_exists() -> None:
    """In the REFERENCE.md of the folder, or in the one that the module names."""
    for path in FOLDER.rglob("*.py"):
        text = path.read_text()
        named = re.search(r"(\w+)/REFERENCE\.md", text[: text.find("\nfrom ")])
        home = path.parent / "REFERENCE.md"
        if named is not None:
            home = FOLDER / named.group(1) / "REFERENCE.md"
        elif not home.exists():
            home = FOLDER / "bm13xx/REFERENCE.md"
        sections = set(re.findall(r"^#+ (§[\d.]+)", home.read_text(), re.M))
        for cited in re.findall(r"§\d+(?:\.\d+)?", text):
            assert cited in sections, f"{path.name} cites {cited}, which {home} has not"
