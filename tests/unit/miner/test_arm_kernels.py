"""The kernels' code for 64-bit Arm, read as assembly; tests/contract/test_hash_device.py runs it."""

from __future__ import annotations

from collections import Counter

import pytest

from miner.kernels.standalone import Machine, compile_module, count_instructions
from miner.kernels.variant import Variant
from tests.support.aarch64 import PLAIN, WITH_SHA2

SHA_INSTRUCTIONS = ("sha256h", "sha256h2", "sha256su0", "sha256su1")


def sha_counts(counts: Counter[str]) -> tuple[int, ...]:
    assert not [name for name in counts if name.startswith("sha") and name not in SHA_INSTRUCTIONS]
    return tuple(counts[name] for name in SHA_INSTRUCTIONS)


@pytest.mark.parametrize("width", [2, 4])
def test_sha_instructions_are_no_more_than_the_work_asks(width: int) -> None:
    """Per hash 15 groups of four rounds, then 15 and the half of one that yields e; no word is computed twice, and
    those that padding alone decides are not computed at all."""
    assembly, _ = compile_module(Variant(width, sha_extensions=True, arm=True), WITH_SHA2)
    counts = count_instructions(assembly)
    assert sha_counts(counts["compress"]) == (30 * width, 31 * width, 11 * width, 12 * width)
    assert sha_counts(counts["expand"]) == (0, 0, 10 * width, 12 * width)
    assert counts["compress"]["add"] <= 19 * width  # 14 W + K, 2 after round 3, 2 after round 63, parts of the last
    assert counts["compress"].total() <= 172 * width  # a move for each group, loads


@pytest.mark.parametrize("width", [1, 4])
def test_other_variants_ask_for_nothing_that_every_arm_has_not(width: int) -> None:
    assembly, _ = compile_module(Variant(width), PLAIN)
    counts = count_instructions(assembly)
    assert sha_counts(counts["expand"]) == sha_counts(counts["compress"]) == (0, 0, 0, 0)
    vectors = assembly.count(".4s")
    assert vectors > 3000 if width == 4 else vectors == 0


@pytest.mark.parametrize("processor", ["apple-a7", "apple-m1", "apple-m4"])
def test_apples_processors_have_the_instructions_by_name(processor: str) -> None:
    """features.processor_of relies on it: an instruction that LLVM thinks missing would end the process here."""
    machine = Machine("arm64-apple-darwin", processor)
    assembly, _ = compile_module(Variant(2, sha_extensions=True, arm=True), machine)
    assert sha_counts(count_instructions(assembly)["compress"]) == (60, 62, 22, 24)
