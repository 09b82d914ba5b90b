"""Compiled code on disk that an older version or a power cut left there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SHAPE = "from typing import NamedTuple\n\n\nclass Pair(NamedTuple):\n    a: int\n    b: int\n"
SUM = """from {module} import Pair
from numba import typeof
from chain.crypto.compiled import compiled

@compiled(typeof(Pair(1, 2)))
def total(pair):
    return pair.a + pair.b{more}

print(total(Pair(3, 4)))
"""


def run(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, str(folder / "total.py")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_code_of_a_version_that_named_what_is_gone_is_compiled_anew(tmp_path: Path) -> None:
    before = tmp_path / "before.py"
    before.write_text(SHAPE)
    script = tmp_path / "total.py"
    script.write_text(SUM.format(module="before", more=""))
    assert run(tmp_path) == "7\n"
    kept = {path.name for path in (tmp_path / "cache").rglob("*.nbi")}
    assert kept
    before.rename(tmp_path / "after.py")
    script.write_text(SUM.format(module="after", more=" + 1"))
    assert run(tmp_path) == "8\n"
    assert {path.name for path in (tmp_path / "cache").rglob("*.nbi")} == kept, "it was the same place on disk"
    assert run(tmp_path) == "8\n"


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_code_that_a_power_cut_left_half_written_is_compiled_anew(tmp_path: Path, suffix: str, share: float) -> None:
    (tmp_path / "pair.py").write_text(SHAPE)
    (tmp_path / "total.py").write_text(SUM.format(module="pair", more=""))
    assert run(tmp_path) == "7\n"
    for path in (tmp_path / "cache").rglob(f"*.{suffix}"):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
    assert run(tmp_path) == "7\n"
    assert run(tmp_path) == "7\n"
