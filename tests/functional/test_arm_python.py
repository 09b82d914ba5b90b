"""The miner's kernels as a 64-bit Arm machine's own Python and Numba choose and compile them.

PICKAXE_ARM_PYTHON is the command of such a Python with requirements.lock's numba and psutil: the interpreter itself on
an Arm machine, elsewhere for instance "qemu-aarch64 -L FOLDER FOLDER/usr/bin/python3.11". Minutes, under an emulator.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
from pathlib import Path

import pytest

from miner.device import NONCE_SPACE, HashJob
from miner.kernels.reference import hash_number, header_hash

SCRIPT = Path(__file__).resolve().parent.parent / "support" / "foreign_search.py"


@pytest.mark.functional
@pytest.mark.slow
def test_arms_own_numba_finds_what_hashlib_does(rng: random.Random, tmp_path: Path) -> None:
    command = os.environ.get("PICKAXE_ARM_PYTHON")
    if not command:
        pytest.skip("PICKAXE_ARM_PYTHON does not name a Python for 64-bit Arm")
    starts = [0, NONCE_SPACE - 7, *(rng.randrange(NONCE_SPACE) for _ in range(8))]
    jobs = [
        (rng.randbytes(80).hex(), rng.sample(range(NONCE_SPACE), rng.randint(1, 4)), f"{1 << bits:x}", start, 60)
        for start, bits in zip(starts, [*range(246, 256)], strict=True)
    ]
    run = subprocess.run(
        [*shlex.split(command), str(SCRIPT)],
        input=json.dumps(jobs),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
        env={**os.environ, "PICKAXE_CACHE": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    (architecture, features, timed), *results = [json.loads(line) for line in run.stdout.splitlines()]
    assert architecture == "aarch64"
    sha = ["armsha4", "armsha2"] if "sha2" in features else []
    assert timed == ["w4", *(sha or ["w1"])]
    assert [name for name, _ in results] == [*sha, "w4", "w1"]
    wanted = [_expected(*job) for job in jobs]
    assert sum(map(len, wanted)) > 50
    for name, found in results:
        assert [sorted(map(tuple, candidates)) for candidates in found] == wanted, name


def _expected(header: str, versions: list[int], target: str, start: int, count: int) -> list[tuple[int, int]]:
    job = HashJob(bytes.fromhex(header), tuple(versions), int(target, 16))
    return sorted(
        (version, nonce)
        for version in versions
        for nonce in ((start + n) % NONCE_SPACE for n in range(count))
        if hash_number(header_hash(job.header_for(version, nonce))) >> 224 <= job.target >> 224
    )
