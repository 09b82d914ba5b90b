"""Indexes of a chain on a snapshot wait for the blocks below it, and end as without one."""

from __future__ import annotations

from pathlib import Path

from tests.support.index_chain import catch_up, check_all, open_all
from tests.support.snapshots import BASE_HEIGHT, TIP_HEIGHT, History, validate
from tests.unit.chain.snapshot.test_chain_on_snapshot import give, open_chain, started


def test_they_follow_what_is_validated(tmp_path: Path, history: History) -> None:
    chain = started(tmp_path, history, blocks=20)
    indexes = open_all(chain)
    catch_up(indexes)
    assert [index.height for index in indexes] == [20] * 4
    give(chain, history.blocks[BASE_HEIGHT:])  # above the snapshot: connected, but not in order
    give(chain, history.blocks[20:60])  # below: stored, not validated
    catch_up(indexes)
    assert [index.height for index in indexes] == [20] * 4
    assert indexes.first_lost() is None
    assert not any(indexes.until_synced(index) for index in indexes)
    validate(chain)
    catch_up(indexes)
    assert [index.height for index in indexes] == [60] * 4
    chain.flush()
    indexes.close()
    chain.close()
    with open_chain(tmp_path, history.params) as chain:
        indexes = open_all(chain)
        assert [index.height for index in indexes] == [60] * 4
        give(chain, history.blocks[60:BASE_HEIGHT])
        validate(chain)
        catch_up(indexes)
        assert [index.height for index in indexes] == [TIP_HEIGHT] * 4
        check_all(indexes)
        indexes.close()
