"""The kernel's text and its variants."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import miner.kernels
from miner.gpu import program
from miner.gpu.program import CAPACITY, MULTIPLIERS, GpuVariant, Logic, definitions, source, source_stamp
from miner.kernels.layout import MAX_MIDSTATES

KERNEL = (Path(miner.kernels.__file__).parent / "sha256d.cl").read_text()


def test_every_name_that_the_kernel_leaves_open_is_defined() -> None:
    code = re.sub(r"//.*|\"[^\"\n]*\"", "", KERNEL)
    own = set(re.findall(r"#define (\w+)", code))
    used = set(re.findall(r"\b(?:K\d+|IV\d|[SM]_[A-Z0-9_]+|SECOND_[AE]0|SIGMA[01]_(?:\d+|PADDING))\b", code))
    used |= {"WIDTH", "MIDSTATES", "NONCES", "GROUP", "LOGIC", "ADDS", "SHIFTS", "ROTATES", "CAPACITY", "LIMIT"}
    # M_W16_K16 and its like stand in the text as they are; nothing is pasted together
    assert len(used) > 100
    assert used - own <= definitions(GpuVariant()).keys()


def test_variants_have_different_names_and_texts() -> None:
    variants = [
        GpuVariant(width, midstates, nonces, group, logic, adds, shifts, rotates)
        for width, midstates, nonces, group, logic in itertools.product((1, 4), (1, 2), (1, 4), (64, 256), Logic)
        for adds, shifts, rotates in itertools.product((0, 1, 2), (0, 1), (0, 4))
    ]
    assert len({str(variant) for variant in variants}) == len(variants)
    assert len({source(variant) for variant in variants}) == len(variants)


def test_one_nonce_fits_the_result_buffer_under_all_versions() -> None:
    """Otherwise a range could not be made small enough for an easy target."""
    assert MAX_MIDSTATES <= CAPACITY


def test_multipliers_are_what_the_kernel_calls_them() -> None:
    signature = KERNEL[KERNEL.index("void search(") :].split(")")[0]
    names = re.findall(r"const uint (one|power\d+)", signature)
    assert [1 if name == "one" else 1 << int(name.removeprefix("power")) for name in names] == list(MULTIPLIERS)


def test_stamp_follows_the_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = source_stamp()
    changed = tmp_path / "sha256d.cl"
    changed.write_text(KERNEL.replace("power30", "power31"))
    monkeypatch.setattr(program, "_SOURCE", changed)
    source_stamp.cache_clear()
    try:
        assert source_stamp() != before
    finally:
        source_stamp.cache_clear()
