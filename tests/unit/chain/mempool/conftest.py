"""A regtest node with mature coins for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.regtest import RegtestNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RegtestNode]:
    """120 blocks: twenty coins of 50 that may be spent at once."""
    with RegtestNode(tmp_path / "regtest") as fresh:
        fresh.mine(120)
        yield fresh
