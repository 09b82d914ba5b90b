"""One history for all tests here."""

from __future__ import annotations

import pytest

from tests.support.snapshots import History, make_history


@pytest.fixture(scope="package")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("history"))
