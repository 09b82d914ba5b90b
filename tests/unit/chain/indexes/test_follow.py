"""What all indexes share: order, slices, durability, pruned and missing blocks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chain.index import HAVE_DATA, HAVE_UNDO
from chain.indexes import base
from chain.indexes.addresses import AddressIndex
from chain.indexes.coin_stats import CoinStatsIndex
from chain.indexes.filters import BlockFilterIndex
from chain.indexes.follow import IndexSet
from chain.indexes.transactions import TransactionIndex
from chain.primitives.errors import LocalFault
from tests.support.index_chain import ALL_KINDS, catch_up, check_all, grow, open_all, reorganise
from tests.support.regtest import RegtestNode


def test_one_slice_takes_at_least_one_block_and_lower_indexes_first(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(5)
        first = open_all(node.chain, (TransactionIndex,))
        assert first.work(0)
        assert [index.height for index in first] == [0]
        assert first.work(0)
        first.close()
        indexes = IndexSet(node.chain, [kind(node.chain, node.chain.datadir / "indexes") for kind in ALL_KINDS])
        while indexes.work(0):
            heights = [index.height for index in indexes]
            assert max(heights) - min(heights) <= 2  # what was not durable is taken again
        assert all(index.ready and index.synced for index in indexes)
        indexes.close()


def test_nothing_is_committed_ahead_of_the_chain(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(3)
        indexes = open_all(node.chain)
        catch_up(indexes)
        assert node.chain.tip in node.chain.index.dirty
        assert not any(index.commit() for index in indexes)
        node.chain.flush()
        assert all(index.commit() for index in indexes)
        node.mine(2)
        catch_up(indexes)
        indexes.close()
        again = open_all(node.chain)
        assert [index.height for index in again] == [3] * 4
        catch_up(again)
        check_all(again)
        again.close()


def test_a_full_index_waits_for_the_chain_or_makes_it_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    monkeypatch.setattr(base, "PENDING_BYTES", 1)
    with RegtestNode(tmp_path) as node:
        grow(node, rng, 6)
        indexes = open_all(node.chain)
        catch_up(indexes)  # the first block fills it: the chain is flushed once and all is taken
        assert not node.chain.index.dirty
        check_all(indexes)
        node.mine(3)
        assert not indexes.work(1)  # not again so soon: the first index stops while one block waits
        assert all(index.height == 7 for index in indexes)
        node.chain.flush()
        catch_up(indexes)
        check_all(indexes)
        indexes.close()


def test_asking_an_index_brings_it_on_unless_it_is_still_built_or_far_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.indexes.follow.MAX_BLOCKS_TO_WAIT", 4)
    with RegtestNode(tmp_path) as node:
        node.mine(3)
        indexes = open_all(node.chain, (TransactionIndex,))
        (index,) = indexes
        assert not indexes.until_synced(index)
        assert index.height == -1
        catch_up(indexes)
        node.mine(4)
        assert indexes.until_synced(index)
        node.mine(5)
        assert not indexes.until_synced(index)
        assert index.ready
        indexes.close()


def test_an_index_of_another_layout_or_chain_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RegtestNode(tmp_path / "a") as node:
        node.mine(3)
        node.chain.flush()
        folder = tmp_path / "indexes"
        index = CoinStatsIndex(node.chain, folder)
        catch_up(IndexSet(node.chain, [index]))
        index.commit()
        index.close()
        with RegtestNode(tmp_path / "b") as other:
            foreign = CoinStatsIndex(other.chain, folder)  # its mark is not in this tree
            assert foreign.height == -1
            catch_up(IndexSet(other.chain, [foreign]))
            foreign.commit()
            foreign.close()
        monkeypatch.setattr(CoinStatsIndex, "version", 99)
        newer = CoinStatsIndex(node.chain, folder)
        assert newer.height == -1
        newer.close()


def test_blocks_that_arrive_later_are_waited_for(tmp_path: Path, rng: random.Random) -> None:
    """As below a snapshot of the coins: known as part of the chain, neither here nor ever connected."""
    with RegtestNode(tmp_path) as node:
        grow(node, rng, 8)
        entry = node.chain.index.active[4]
        status = entry.status
        entry.status = status & ~(HAVE_DATA | HAVE_UNDO | 7) | 2
        indexes = open_all(node.chain)
        catch_up(indexes)
        assert [index.height for index in indexes] == [3] * 4
        assert not any(index.ready for index in indexes)
        assert indexes.first_lost() is None
        entry.status = status
        catch_up(indexes)
        check_all(indexes)
        indexes.close()


def test_pruned_blocks_that_are_still_needed_are_named(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(30)
        indexes = open_all(node.chain, (BlockFilterIndex, CoinStatsIndex))
        assert indexes.prune_limit() == ("basic block filter index", 1)
        catch_up(indexes)
        assert indexes.prune_limit() == ("basic block filter index", 30 - 10 - 1)
        for entry in node.chain.index.active[:20]:
            entry.status &= ~(HAVE_DATA | HAVE_UNDO)
        assert indexes.first_lost() is None
        indexes.close()
        late = open_all(node.chain, (AddressIndex,))
        lost = late.first_lost()
        assert lost is not None
        assert lost[0].title == "addressindex"
        assert lost[1].height == 0
        late.close()
    assert IndexSet(node.chain).prune_limit() is None


def test_a_branch_that_was_deleted_cannot_be_taken_back(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(4)
        indexes = open_all(node.chain, (CoinStatsIndex,))
        catch_up(indexes)
        old = node.chain.tip
        node.follow(node.chain.invalidate_block(old.hash))
        node.mine(2, extra=b"other")
        old.status &= ~(HAVE_DATA | HAVE_UNDO)
        with pytest.raises(LocalFault, match="pickaxe index remove"):
            catch_up(indexes)
        indexes.close()


def test_statistics_of_blocks_that_left_the_chain_stay(tmp_path: Path, rng: random.Random) -> None:
    with RegtestNode(tmp_path) as node:
        grow(node, rng, 105)
        indexes = open_all(node.chain, (CoinStatsIndex, BlockFilterIndex))
        catch_up(indexes)
        stats, filters = indexes.find(CoinStatsIndex), indexes.find(BlockFilterIndex)
        assert stats is not None
        assert filters is not None
        old = node.chain.tip
        before, filter_before = stats.stats(old), filters.filter(old)
        assert before is not None
        reorganise(node, rng, 3)
        catch_up(indexes)
        assert stats.stats(old) == before
        assert filters.filter(old) == filter_before
        check_all(indexes)
        indexes.close()


def test_an_index_that_is_full_on_a_dropped_branch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    monkeypatch.setattr(base, "PENDING_BYTES", 1)
    monkeypatch.setattr("chain.indexes.follow._FORCED_FLUSH_S", 1e9)
    with RegtestNode(tmp_path) as node:
        node.mine(5)
        indexes = open_all(node.chain)
        catch_up(indexes)  # one block each: they are full
        node.follow(node.chain.invalidate_block(node.chain.index.active[1].hash))
        node.mine(7, extra=b"other")
        node.chain.flush()
        catch_up(indexes)
        assert [index.height for index in indexes] == [7] * 4
        check_all(indexes)
        indexes.close()


def test_a_tip_that_goes_back_and_comes_again(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(5)
        indexes = open_all(node.chain)
        catch_up(indexes)
        dropped = node.chain.index.active[3].hash
        node.follow(node.chain.invalidate_block(dropped))
        catch_up(indexes)
        assert [index.height for index in indexes] == [2] * 4
        assert all(indexes.until_synced(index) for index in indexes)
        check_all(indexes)
        node.follow(node.chain.reconsider_block(dropped))
        catch_up(indexes)
        assert [index.height for index in indexes] == [5] * 4
        check_all(indexes)
        indexes.close()
