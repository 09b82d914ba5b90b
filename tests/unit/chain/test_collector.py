"""The cycle collector leaves alone what is to stay, and only for so long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain import collector
from chain.chainstate import Chainstate
from chain.params import REGTEST


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.myself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_kept_is_collected_after_its_release(enabled: bool) -> None:
    if not enabled:
        gc.disable()
    with collector.kept():
        assert not gc.isenabled()
        knot = Knot()
        alive = weakref.ref(knot)
        del knot
    assert gc.isenabled() is enabled
    gc.collect()
    assert alive() is not None
    collector.release()
    gc.collect()
    assert alive() is None


def test_the_collector_goes_on_after_a_failure() -> None:
    with pytest.raises(KeyError), collector.kept():
        raise KeyError
    assert gc.isenabled()


def test_a_chain_lets_go_of_its_tree_when_it_closes(tmp_path: Path) -> None:
    gc.unfreeze()
    chain = Chainstate(REGTEST, tmp_path, script_threads=0)
    assert gc.get_threshold() == collector.THRESHOLDS
    assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    chain.close()
    assert gc.get_freeze_count() == 0
