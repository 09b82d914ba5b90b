"""Reading ahead changes when things happen, not what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chain.read_ahead import ReadAhead


def numbers(happened: list[str], fail_at: int | None = None) -> Iterator[int]:
    for number in range(3):
        if number == fail_at:
            raise ValueError(f"no {number}")
        happened.append(f"read {number}")
        yield number


@pytest.mark.parametrize("fetches", [0, 1, 3])
def test_every_item_once_in_order(fetches: int) -> None:
    happened: list[str] = []
    items = ReadAhead(numbers(happened), lambda number: happened.append(f"prepared {number}"))
    for number in items:
        happened.append(f"took {number}")
        for _ in range(fetches):
            items.fetch()
    assert [line for line in happened if "took" in line] == ["took 0", "took 1", "took 2"]
    if fetches:
        assert happened[:5] == ["read 0", "took 0", "read 1", "prepared 1", "took 1"]
    else:
        assert happened == ["read 0", "took 0", "read 1", "took 1", "read 2", "took 2"]
    with pytest.raises(StopIteration):
        next(items)


def test_an_error_waits_for_its_turn() -> None:
    items = ReadAhead(numbers([], fail_at=1), lambda number: None)
    assert next(items) == 0
    items.fetch()
    items.fetch()
    for _ in range(2):
        with pytest.raises(ValueError, match="no 1"):
            next(items)
