"""Coverage-guided fuzzing of the parsers with atheris: one round runs each of some targets for a few seconds in a
process of its own, whose imports atheris instruments.

    python -m tests.fuzz.coverage TARGET SECONDS SEED CORPUS
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

AVAILABLE = importlib.util.find_spec("atheris") is not None
TARGETS_PER_ROUND = 6
SECONDS_PER_TARGET = 5
_RUNS = re.compile(r"Done (\d+) runs|#(\d+)\tDONE")


def one_round(seed: int, options: argparse.Namespace) -> tuple[Counter[str], dict[str, Any] | None]:
    """(how many inputs were tried, the case that failed)."""
    from tests.fuzz.__main__ import report
    from tests.fuzz.cases import ParserCase, save, shrink
    from tests.fuzz.parsers import TARGETS

    tried: Counter[str] = Counter()
    rng = random.Random(seed)
    for name in rng.sample(list(TARGETS), TARGETS_PER_ROUND):
        corpus = options.cases / "corpus" / name.replace(" ", "-")
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(TARGETS[name].seeds()):
            (corpus / f"seed{number}").write_bytes(data)
        with TemporaryDirectory() as folder, TemporaryDirectory() as scratch:
            command = [
                sys.executable,
                "-m",
                "tests.fuzz.coverage",
                name,
                str(SECONDS_PER_TARGET),
                str(seed),
                str(corpus),
            ]
            done = subprocess.run(
                [*command, folder],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "TMPDIR": scratch},  # atheris ends without cleaning up
            )
            for match in _RUNS.finditer(done.stdout):
                tried["guided"] += int(match[1] or match[2])
                break
            failed = sorted(Path(folder).iterdir())
            if failed:
                return tried, report(ParserCase(name, failed[0].read_bytes()), options, shrink, save)
            if done.returncode != 0:
                raise RuntimeError(f"atheris ended with {done.returncode}: {done.stdout[-2000:]}")
    return tried, None


def main() -> None:
    """The instrumented process: ends with an input in the last folder if there is one that fails."""
    import atheris

    name, seconds, seed, corpus, artifacts = sys.argv[1:6]
    with atheris.instrument_imports(include=["chain", "p2p", "wallet"]):
        from tests.fuzz.parsers import TARGETS
    target = TARGETS[name]
    runs = 0

    def one_input(data: bytes) -> None:
        nonlocal runs
        runs += 1
        difference = target.difference(data, memory=runs % 256 == 0)
        if difference:
            raise AssertionError(difference)

    arguments = [f"-max_total_time={seconds}", f"-seed={int(seed) % (1 << 31) + 1}", f"-artifact_prefix={artifacts}/"]
    atheris.Setup([sys.argv[0], *arguments, "-max_len=4096", "-rss_limit_mb=0", corpus], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
