"""Run by another machine's Python (tests/functional/test_arm_python.py): searches with every kernel that this machine
can use and says what it found. Needs Numba and psutil, nothing of the test tools.

Standard input: JSON list of [header hex, versions, target hex, start, count]. Standard output: one JSON line about the
machine, then one for each kernel: [its name, [[[version, nonce] ...] for each job]].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from miner.cpu.device import CpuDevice
from miner.cpu.features import contenders, host_processor, usable_variants
from miner.device import NONCE_SPACE, HashJob


def main() -> None:
    jobs = json.load(sys.stdin)
    processor = host_processor()
    timed = [str(variant) for variant in contenders(processor)]
    print(json.dumps([processor.architecture, sorted(processor.features), timed]), flush=True)
    for variant in usable_variants(processor):
        device = CpuDevice("cpu0", variant, 4)
        found = []
        for header, versions, target, start, count in jobs:
            job = HashJob(bytes.fromhex(header), tuple(versions), int(target, 16))
            candidates, done = [], 0
            while done < count:
                result = device.search(job, (start + done) % NONCE_SPACE, count - done)
                candidates += [[candidate.version, candidate.nonce] for candidate in result.candidates]
                done += result.done
            found.append(candidates)
        print(json.dumps([str(variant), found]), flush=True)


if __name__ == "__main__":
    main()
