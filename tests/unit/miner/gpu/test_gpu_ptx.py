"""NVIDIA's variants, without a card: the PTX that its compiler makes of them, run in Python, hashes as hashlib does."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from benchmarks.gpu_code import ToolMissing, as_cuda, compiled, tool
from miner.device import HashJob
from miner.gpu.program import MULTIPLIERS, GpuVariant, Logic
from miner.gpu.tuner import stages
from miner.kernels.prepare import prepare
from miner.kernels.reference import hash_number, header_hash
from tests.support.ptx import PtxKernel
from tests.unit.miner.gpu.test_gpu_tuner import CARD

JOB, RESULTS = 0x1000, 0x100000
FAST = GpuVariant(logic=Logic.PTX, adds=1, shifts=1, rotates=4)
#: Everything else that the tuner may time on a card, by what it does to the arithmetic.
OTHERS = sorted(
    {
        GpuVariant(
            midstates=variant.midstates,
            logic=variant.logic,
            adds=variant.adds,
            shifts=variant.shifts,
            rotates=variant.rotates,
        )
        for stage in stages(CARD)
        for variant in stage(FAST)
    }
    - {FAST},
    key=str,
)


def ptx(variant: GpuVariant, folder: Path) -> PtxKernel:
    try:
        compiler = tool("nvcc")
    except ToolMissing as missing:
        pytest.skip(f"{missing}: NVIDIA's variants are not checked")
    (folder / "kernel.cu").write_text(as_cuda(variant))
    subprocess.run(
        [compiler, "-arch=sm_90", "-ptx", "-o", "kernel.ptx", "kernel.cu"], cwd=folder, check=True, capture_output=True
    )
    return PtxKernel((folder / "kernel.ptx").read_text())


@pytest.mark.parametrize(
    "variant", [FAST, *(pytest.param(variant, marks=pytest.mark.slow) for variant in OTHERS)], ids=str
)
def test_hashes_as_hashlib_does(variant: GpuVariant, rng: random.Random, tmp_path: Path) -> None:
    """A limit at each hash's top word takes it, one below refuses it: so that word is right to the bit."""
    kernel = ptx(variant, tmp_path)
    for versions in (1, 2):
        job = HashJob(rng.randbytes(80), tuple(rng.getrandbits(32) for _ in range(versions)), 0)
        start, thread = rng.getrandbits(32), rng.randrange(variant.group)
        nonce = (start + thread) & 0xFFFFFFFF
        tops = [hash_number(header_hash(job.header_for(version, nonce))) >> 224 for version in job.versions]
        for limit in {*tops, *(top - 1 for top in tops if top)}:
            padded = [*job.versions, *job.versions[:1] * (-versions % variant.midstates)]
            words = prepare(job.header, padded, (limit + 1 << 224) - 1)
            memory = {JOB + 4 * index: int(word) for index, word in enumerate(words)}
            memory |= {RESULTS + 4 * index: 0 for index in range(9)}
            special = {"%tid.x": thread, "%ntid.x": variant.group, "%ctaid.x": 0, "%nctaid.x": 1}
            kernel.run([JOB, len(tops), start, variant.group, RESULTS, *MULTIPLIERS], memory, special)
            found = [(memory[RESULTS + 4 + 8 * n], memory[RESULTS + 8 + 8 * n]) for n in range(memory[RESULTS])]
            assert sorted(found) == [(row, nonce) for row, top in enumerate(tops) if top <= limit]


@pytest.mark.slow
def test_counts_say_where_the_work_went() -> None:
    """The plain kernel fills the adder's pipe; with the multiplier's help both are even, and nothing is spilled."""
    try:
        plain, shared = compiled(GpuVariant(), 64), compiled(FAST, 64)
    except ToolMissing as missing:
        pytest.skip(f"{missing}: instructions are not counted")
    assert plain.bound == "adder"
    assert shared.adder < 0.75 * plain.adder
    assert 0.9 < shared.adder / shared.multiplier < 1.1
    assert shared.cycles < 0.75 * plain.cycles
    assert plain.spilled_bytes == shared.spilled_bytes == 0
