"""The transaction index follows the chain, forward and across reorganisations and restarts."""

from __future__ import annotations

from pathlib import Path

from chain.indexes.transactions import TransactionIndex
from chain.primitives.block import Block
from tests.support.regtest import RegtestNode


def _finds(index: TransactionIndex, block: Block) -> bool:
    found = [index.find(tx.txid) for tx in block.transactions]
    return all(
        hit is not None and hit[0] == tx and hit[1].hash == block.hash
        for hit, tx in zip(found, block.transactions, strict=True)
    )


def test_it_catches_up_and_then_follows(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "node") as node:
        blocks = node.mine(7)
        index = TransactionIndex(node.chain, tmp_path / "index")
        assert index.find(blocks[0].transactions[0].txid) is None
        assert not index.catch_up(max_blocks=3)
        assert index.height == 2
        (late,) = node.mine(1)
        index.connected(node.chain.tip, late)  # still behind: nothing happens
        assert index.find(late.transactions[0].txid) is None
        assert index.catch_up()
        assert all(_finds(index, block) for block in [*blocks, late])
        (new,) = node.mine(1)
        index.connected(node.chain.tip, new)
        assert index.synced
        assert _finds(index, new)
        index.close()


def test_it_is_durable(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "node") as node:
        blocks = node.mine(4)
        index = TransactionIndex(node.chain, tmp_path / "index")
        index.catch_up()
        index.close()
        again = TransactionIndex(node.chain, tmp_path / "index")
        assert again.synced
        assert all(_finds(again, block) for block in blocks)
        again.close()


def test_after_a_reorganisation_both_branches_are_found(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "node") as node:
        first = node.mine(3)
        index = TransactionIndex(node.chain, tmp_path / "index")
        index.catch_up()
        node.follow(node.chain.invalidate_block(first[1].hash))
        second = node.mine(1, extra=b"other")
        index.connected(node.chain.tip, second[0])
        assert index.synced
        second += node.mine(2, extra=b"other")
        assert not index.synced
        assert index.catch_up()
        assert all(_finds(index, block) for block in second)
        assert _finds(index, first[1])  # not confirmed any more, and still known
        index.close()


def test_the_genesis_transaction_is_no_ordinary_one(tmp_path: Path) -> None:
    with RegtestNode(tmp_path / "node") as node:
        index = TransactionIndex(node.chain, tmp_path / "index")
        index.catch_up()
        assert index.find(node.params.genesis.transactions[0].txid) is None
        index.close()
