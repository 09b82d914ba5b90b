"""Whether blocks are read and connected by Python or by compiled code: tests try both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chain import native
from chain.primitives import block


@contextmanager
def reading(how: str) -> Iterator[None]:
    """Meanwhile every block is read by "compiled" code however few its transactions are, or by "python"."""
    before = block._compiled, block._fewest
    if how == "compiled":
        native.load()
        block.use_compiled(1)
    else:
        block._compiled = None
    try:
        yield
    finally:
        block._compiled, block._fewest = before
