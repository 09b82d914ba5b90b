"""Differential fuzzing against libbitcoinkernel, and of every parser: `make fuzz SECONDS=600`.

Rounds of every kind (tests/fuzz/judges.py) run in turn, each in a process of its own and from its own seed, until the
time is up or two judges differ. A difference is made as small as it gets, printed, and written to a file that
`python -m tests.fuzz --replay FILE` judges again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CASES = Path("build/fuzz")
READINGS = ("python", "compiled")  #: how blocks are read and connected: their seed chooses for each round


def main(arguments: Sequence[str] | None = None) -> int:
    """0: no difference; 1: one was found, or is still there."""
    from tests.fuzz.judges import JUDGES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31), help="of the first round")
    parser.add_argument("--only", nargs="+", choices=[*JUDGES, "coverage"], help="these kinds only")
    parser.add_argument("--count", type=int, help="how many to try in each round")
    parser.add_argument("--rounds", type=int, help="stop after so many")
    parser.add_argument("--cases", type=Path, default=CASES, help=f"where a difference is written (default {CASES})")
    parser.add_argument("--shrink-seconds", type=float, default=120.0, help="to spend on making a case small")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="judge a written case again")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return replay(options.replay)
    return fuzz(options)


def replay(path: Path) -> int:
    """Judge one case again."""
    from tests.fuzz.cases import load
    from tests.support.compiled import reading

    difference = None
    try:
        case = load(path)
        for how in READINGS:
            with reading(how):
                difference = difference or case.difference()
    except (OSError, ValueError, KeyError) as error:
        print(f"Error: {path} cannot be replayed: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {difference.text if difference is not None else 'no difference'}")
    return 0 if difference is None else 1


def fuzz(options: argparse.Namespace) -> int:
    """Rounds until time, number or agreement ends."""
    from tests.fuzz import coverage
    from tests.fuzz.judges import JUDGES

    print(f"first seed {options.seed}", flush=True)
    kinds = options.only or [*JUDGES, *(["coverage"] if coverage.AVAILABLE else [])]
    deadline = time.monotonic() + options.seconds
    tried: Counter[str] = Counter()
    for number, kind in enumerate(itertools.cycle(kinds)):
        if time.monotonic() > deadline or (options.rounds is not None and number >= options.rounds):
            break
        seed = options.seed + number
        if kind == "coverage":
            counts, found = coverage.one_round(seed, options)
        else:
            counts, found = _in_child(kind, seed, options)
        tried.update(counts)
        if found is not None:
            print(f"{kind}, seed {seed}: {found['difference']}")
            print(json.dumps(found["case"], indent=1)[:4000])
            print(f"written to {found['path']}: replay with python -m tests.fuzz --replay {found['path']}", flush=True)
            return 1
        print(", ".join(f"{count} {what}" for what, count in tried.items()) + ": no difference", flush=True)
    return 0


def _in_child(kind: str, seed: int, options: argparse.Namespace) -> tuple[Counter[str], dict[str, Any] | None]:
    """One round, in a process that may die."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_round, args=(kind, seed, options, sender))
    child.start()
    sender.close()
    try:
        counts, found = receiver.recv()
    except EOFError:
        child.join()
        command = f"python -m tests.fuzz --only {kind} --seed {seed} --rounds 1"
        return Counter(), {"difference": f"the process ended with {child.exitcode}", "case": command, "path": "none"}
    child.join()
    return counts, found


def _round(kind: str, seed: int, options: argparse.Namespace, sender: Connection) -> None:
    from tests.fuzz.cases import save, shrink
    from tests.fuzz.judges import JUDGES, Found
    from tests.support.compiled import reading

    judge, number = JUDGES[kind]
    tried: Counter[str] = Counter()

    def count(what: str, more: int) -> None:
        tried[what] += more

    found = None
    with reading(random.Random(f"{kind} {seed}").choice(READINGS)):
        try:
            judge(random.Random(seed), options.count or number, count)
        except Found as difference:
            found = report(difference.case, options, shrink, save)
    sender.send((tried, found))
    sender.close()


def report(case: Any, options: argparse.Namespace, shrink: Any, save: Any) -> dict[str, Any]:
    """Make a case small and write it."""
    print(f"the judges differ about a {case.kind}: making it smaller …", flush=True)
    try:
        small, how = shrink(case, seconds=options.shrink_seconds)
    except ValueError:  # it takes what came before it in the same round
        from tests.fuzz.cases import Difference

        small, how = case, Difference("", "not again when judged alone: replay its seed")
    path = save(small, how, options.cases)
    return {"difference": how.text, "case": {"kind": small.kind, **small.fields()}, "path": str(path)}


if __name__ == "__main__":
    sys.exit(main())
