"""The transaction index follows the chain, forward and across reorganisations and restarts."""

from __future__ import annotations

from pathlib import Path

from chain.indexes.transactions import TransactionIndex
from chain.primitives.block import Block
from tests.support.index_chain import catch_up, open_all
from tests.support.regtest import RegtestNode

KINDS = (TransactionIndex,)


def _finds(index: TransactionIndex | None, block: Block) -> bool:
    assert index is not None
    found = [index.find(tx.txid) for tx in block.transactions]
    return all(
        hit is not None and hit[0] == tx and hit[1].hash == block.hash
        for hit, tx in zip(found, block.transactions, strict=True)
    )


def test_it_catches_up_and_then_follows(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        blocks = node.mine(7)
        indexes = open_all(node.chain, KINDS)
        index = indexes.find(TransactionIndex)
        assert index is not None
        assert index.find(blocks[0].transactions[0].txid) is None
        catch_up(indexes)
        assert index.synced
        assert all(_finds(index, block) for block in blocks)
        (new,) = node.mine(1)
        assert index.find(new.transactions[0].txid) is None
        assert indexes.until_synced(index)
        assert _finds(index, new)
        indexes.close()


def test_it_is_durable(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        blocks = node.mine(4)
        indexes = open_all(node.chain, KINDS)
        catch_up(indexes)
        node.chain.flush()
        indexes.close()
        again = open_all(node.chain, KINDS)
        index = again.find(TransactionIndex)
        assert index is not None
        assert index.synced
        assert all(_finds(index, block) for block in blocks)
        again.close()


def test_after_a_reorganisation_both_branches_are_found(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        first = node.mine(3)
        indexes = open_all(node.chain, KINDS)
        index = indexes.find(TransactionIndex)
        catch_up(indexes)
        node.follow(node.chain.invalidate_block(first[1].hash))
        second = node.mine(3, extra=b"other")
        catch_up(indexes)
        assert all(_finds(index, block) for block in second)
        assert _finds(index, first[1])  # not confirmed any more, and still known
        indexes.close()


def test_the_genesis_transaction_is_no_ordinary_one(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        indexes = open_all(node.chain, KINDS)
        catch_up(indexes)
        index = indexes.find(TransactionIndex)
        assert index is not None
        assert index.find(node.params.genesis.transactions[0].txid) is None
        indexes.close()
