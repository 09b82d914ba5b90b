"""Where the time of a piece of work goes, by file and by function: what the benchmarks' --profile prints."""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections import defaultdict
from collections.abc import Callable


def print_profile(work: Callable[[], object]) -> None:
    """Run `work` under the profiler and print to stderr; the calling thread alone is seen."""
    profiler = cProfile.Profile()
    profiler.enable()
    work()
    profiler.disable()
    print_stats(profiler)


def print_stats(profiler: cProfile.Profile) -> None:
    """What a profiler saw."""
    stats = pstats.Stats(profiler)
    by_file: dict[str, float] = defaultdict(float)
    for (file, _, name), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        by_file[name if file == "~" else file.rsplit("/main/", 1)[-1]] += own
    total = sum(by_file.values())
    print("\nwhere the main thread's time goes (profiled: slower than the run above)", file=sys.stderr)
    for file, own in sorted(by_file.items(), key=lambda item: -item[1])[:22]:
        print(f"  {100 * own / total:5.1f} %  {file}", file=sys.stderr)
    stats.stream = sys.stderr  # type: ignore[attr-defined]
    stats.sort_stats("tottime").print_stats(25)
