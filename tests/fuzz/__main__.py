"""Differential fuzzing against libbitcoinkernel: `make fuzz SECONDS=600`.

The generators of tests/property run again and again, each time with another seed and far more cases than in `make
test`, until the time is up or the two judges differ. A difference is printed with its case and the seed that replays
it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

#: test -> what sets its size in one round (about a minute each on one core)
JUDGES = {
    "tests/property/test_script_checks.py": {"PICKAXE_DIFFERENTIAL_SPENDS": "5"},
    "tests/property/test_kernel_differential.py": {"PICKAXE_DIFFERENTIAL_BLOCKS": "3000"},
    "tests/property/test_kernel_rules.py": {
        "PICKAXE_DIFFERENTIAL_HEADERS": "15000",
        "PICKAXE_DIFFERENTIAL_CHECKS": "15000",
    },
}


def one_round(test: str, sizes: dict[str, str], seed: int) -> tuple[bool, str]:
    """(whether the judges agreed, what was printed)."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", test]
    done = subprocess.run(
        command,
        env={**os.environ, **sizes, "PICKAXE_SEED": str(seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode == 0, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    arguments = parser.parse_args()
    print(f"first seed {arguments.seed}", flush=True)
    deadline = time.monotonic() + arguments.seconds
    judged: Counter[str] = Counter()
    for number, (test, sizes) in enumerate(itertools.cycle(JUDGES.items())):
        if time.monotonic() > deadline:
            break
        seed = arguments.seed + number
        agreed, output = one_round(test, sizes, seed)
        if not agreed:
            print(output[-20_000:])
            settings = " ".join(f"{name}={value}" for name, value in sizes.items())
            print(f"the judges differ: replay with PICKAXE_SEED={seed} {settings} python -m pytest {test}")
            return 1
        for count, what in re.findall(r"judged (\d+) (\w+)", output):
            judged[what] += int(count)
        print(", ".join(f"{count} {what}" for what, count in judged.items()) + ": no difference", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
