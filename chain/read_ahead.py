"""Getting the next block ready while the scripts of the last one are verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item], Iterator[Item]):
    """Items of a source, in order. Between two of them `fetch` may be called, at any time: it gets the next one early
    and `prepare`s it. What goes wrong then goes wrong when that item's turn comes.
    """

    def __init__(self, source: Iterable[Item], prepare: Callable[[Item], None]) -> None:
        """`prepare` raises nothing."""
        self._source = iter(source)
        self._prepare = prepare
        self._ready: list[Item] = []
        self._error: BaseException | None = None

    def fetch(self) -> None:
        """Have the next item ready."""
        if self._ready or self._error is not None:
            return
        try:
            item = next(self._source)
        except Exception as error:  # StopIteration among them
            self._error = error
            return
        self._prepare(item)
        self._ready.append(item)

    def __next__(self) -> Item:
        if self._ready:
            return self._ready.pop()
        if self._error is not None:
            raise self._error
        return next(self._source)
