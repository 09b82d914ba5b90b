"""The address index page by page."""

from __future__ import annotations

from pathlib import Path

from chain.indexes.addresses import AddressIndex, ScriptTotals, script_hash_of
from tests.support.index_chain import catch_up, open_all
from tests.support.regtest import OWNER, RegtestNode

OWNER_HASH = script_hash_of(OWNER.script)


def test_history_and_coins_come_in_pages_and_by_height(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(105)
        coins = node.mature()[:3]
        node.mine_transactions([node.transfer([coin], 500, outputs=2) for coin in coins])
        indexes = open_all(node.chain, (AddressIndex,))
        catch_up(indexes)
        index = indexes.find(AddressIndex)
        assert index is not None
        for durable in (False, True):
            if durable:
                node.chain.flush()
                assert index.commit()
            everything = index.history(OWNER_HASH, 10_000)
            assert len(everything) == 105 + 1 + 3 * 3
            pages, after = [], b""
            while page := index.history(OWNER_HASH, 7, after=after):
                pages += page
                after = page[-1].cursor
            assert pages == everything
            middle = index.history(OWNER_HASH, 10_000, start=10, end=20)
            assert [delta.height for delta in middle] == list(range(10, 21))
            assert index.history(OWNER_HASH, 5, start=10, end=20, after=middle[8].cursor) == middle[9:]
            unspent = index.unspent(OWNER_HASH, 10_000)
            assert len(unspent) == 106 - 3 + 6
            assert all(node.chain.get_coin(coin.outpoint) is not None for coin in unspent)
            assert index.unspent(OWNER_HASH, 4) == unspent[:4]
            assert index.unspent(OWNER_HASH, 10_000, after=unspent[3].cursor) == unspent[4:]
        indexes.close()


def test_a_block_taken_back_leaves_no_trace(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(3)
        indexes = open_all(node.chain, (AddressIndex,))
        catch_up(indexes)
        node.follow(node.chain.invalidate_block(node.chain.index.active[1].hash))
        catch_up(indexes)
        index = indexes.find(AddressIndex)
        assert index is not None
        assert index.totals(OWNER_HASH) == ScriptTotals()
        assert index._range(b"", b"\xff", 10) == []
        indexes.close()


def test_pages_are_whole_while_deletions_wait_for_a_commit(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(110)
        indexes = open_all(node.chain, (AddressIndex,))
        catch_up(indexes)
        node.chain.flush()
        index = indexes.find(AddressIndex)
        assert index is not None
        assert index.commit()
        node.mine_transactions([node.transfer(node.mature()[:6], 500)])
        catch_up(indexes)
        unspent = index.unspent(OWNER_HASH, 10_000)
        assert unspent[0].height == 7
        assert index.unspent(OWNER_HASH, 4) == unspent[:4]
        indexes.close()
