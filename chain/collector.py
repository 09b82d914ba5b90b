"""Python's cycle collector, in a process that holds a chain. Its settings are the whole process's."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: For gc.set_threshold. A block makes some ten thousand lists and tuples that no cycle holds; at Python's own threshold
#: of 700 looking through them again and again takes a tenth of the time in which a block is connected.
THRESHOLDS = (50_000, 20, 50)


def tune() -> None:
    """Look for cycles less often."""
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def kept() -> Iterator[None]:
    """What is made inside stays: the collector does not look through it, neither meanwhile nor later, until `release`.

    For the header tree, whose entries hold each other: going through a million of them frees nothing and would stop the
    process for a second every time. Garbage of the moment is kept along, so there should be little inside.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def release() -> None:
    """Whatever was `kept` may be collected again."""
    gc.unfreeze()
