"""Deleting old block files: only whole files, only deep blocks, and the chain goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chain.chainstate import MIN_BLOCKS_TO_KEEP, Chainstate
from chain.params import network
from chain.primitives.errors import LocalFault, UserError
from chain.templates.assembler import assemble_exact
from node.app import Node
from node.config import NodeConfig
from node.pruning import prune_chain
from tests.support.regtest import solve

REGTEST = network("regtest")
START = REGTEST.genesis.header.time + 3600
FILE_BYTES = 0x4000


def _open(folder: Path, *, reindex_chainstate: bool = False) -> Chainstate:
    return Chainstate(
        REGTEST,
        folder,
        clock=lambda: START + 100_000.0,
        script_threads=0,
        max_block_file_size=FILE_BYTES,
        reindex_chainstate=reindex_chainstate,
    )


def _mine(chain: Chainstate, count: int, script: bytes = b"\x51") -> None:
    for _ in range(count):
        chain.process_block(solve(assemble_exact(chain, [], script, now=START + 60 * chain.tip.height).block))


def test_old_files_go_and_the_chain_goes_on(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150)
    deep = chain.index.active[1]
    raw = chain.read_block_raw(deep)
    gone = prune_chain(chain, chain.tip.height)
    assert 0 < gone <= chain.tip.height - MIN_BLOCKS_TO_KEEP
    assert not deep.have_data
    with pytest.raises(LocalFault):
        chain.read_block_raw(deep)
    assert chain.index.active[gone + 1].have_data
    assert prune_chain(chain, chain.tip.height) == gone  # nothing more to delete
    _mine(chain, 1)
    tip = chain.tip.hash
    chain.close()
    chain = _open(tmp_path)
    assert chain.tip.hash == tip
    assert not chain.index.genesis.have_data  # nor is it written anew
    assert prune_chain(chain, chain.tip.height) == gone
    entry = chain.index.active[1]
    assert not entry.have_data
    block = type(REGTEST.genesis).parse(raw)
    assert chain.accept_block(block)[1]  # a pruned block may be stored again
    assert chain.read_block_raw(entry) == raw
    chain.close()


def test_files_of_which_no_block_is_known_go_too(tmp_path: Path) -> None:
    """What a reindex of a pruned chain cannot use: the blocks below are not there."""
    chain = _open(tmp_path)
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150)
    prune_chain(chain, chain.tip.height)
    chain.close()
    with Chainstate(REGTEST, tmp_path, script_threads=0, max_block_file_size=FILE_BYTES, reindex=True) as chain:
        list(chain.reindex())
        assert chain.tip.height == 0
        assert len(chain.files.numbers()) > 1
        assert prune_chain(chain, 0) == -1
        assert chain.files.numbers() == [chain.files.file_number]
        assert chain.read_block_raw(chain.index.genesis) == REGTEST.genesis.raw
        assert not list((tmp_path / "blocks").glob("rev*.dat"))


def test_a_short_chain_keeps_everything(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, 50)
    assert prune_chain(chain, 50) == -1
    assert all(entry.have_data for entry in chain.index.active)
    chain.close()


def test_what_an_index_needs_is_kept(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150)
    assert prune_chain(chain, chain.tip.height, ("some index", 20)) < 20
    assert chain.index.active[20].have_data
    assert prune_chain(chain, chain.tip.height, ("some index", chain.tip.height)) > 20
    chain.close()


def test_what_was_pruned_is_not_taken_back_half_way(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, 20)
    left = chain.index.active[10]
    old_tip, old_blocks = chain.tip, [chain.read_block(entry) for entry in chain.index.active[10:]]
    chain.invalidate_block(left.hash)
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150, b"\x52")
    gone = prune_chain(chain, chain.tip.height)
    assert gone > left.height
    tip = chain.tip
    with pytest.raises(UserError, match=f"block {gone}, which would be taken back with it, was deleted by pruning"):
        chain.invalidate_block(chain.index.active[gone - 1].hash)
    assert chain.tip is tip
    assert not chain.has_failed
    chain.invalidate_block(chain.index.active[gone + 1].hash)  # as far as there are blocks it works
    assert chain.tip.height == gone
    # A chain that leaves ours below what was pruned, and has more work, cannot be followed: the old state stays.
    chain.reconsider_block(tip.hash)
    assert chain.tip is tip
    index = chain.index
    index.clear_failed(left)
    for block in old_blocks:
        assert chain.accept_block(block)[1]
    old_tip.chainwork = type(old_tip.chainwork)(tip.chainwork + 1)
    index.rebuild_candidates()
    with pytest.raises(LocalFault, match=f"above height 9, but block {gone}, .* --reindex"):
        chain.activate_best_chain()
    assert chain.has_failed
    assert chain.tip is tip
    chain.close()


def test_a_damaged_block_ends_the_invalidation_and_the_chain(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, 5)
    chain.close()
    chain = _open(tmp_path)
    (tmp_path / "blocks" / "rev00000.dat").write_bytes(b"")
    with pytest.raises(LocalFault):
        chain.invalidate_block(chain.index.active[2].hash)
    assert chain.has_failed  # so the node stops, and the next start has the old tip
    chain.close()


def test_coins_are_not_thrown_away_where_the_blocks_to_rebuild_them_are_gone(tmp_path: Path) -> None:
    chain = _open(tmp_path)
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150)
    assert not chain.has_pruned_blocks
    prune_chain(chain, chain.tip.height)
    assert chain.has_pruned_blocks
    tip = chain.tip.hash
    chain.close()
    with pytest.raises(UserError, match=r"blocks there were deleted by pruning\. Start with --reindex"):
        _open(tmp_path, reindex_chainstate=True)
    with _open(tmp_path) as chain:
        assert chain.tip.hash == tip


@pytest.mark.parametrize("reindex_chainstate", [False, True])
def test_a_node_that_is_to_keep_all_blocks_does_not_start_without_some(
    tmp_path: Path, reindex_chainstate: bool
) -> None:
    chain = _open(tmp_path / "regtest")
    _mine(chain, MIN_BLOCKS_TO_KEEP + 150)
    prune_chain(chain, chain.tip.height)
    tip = chain.tip.hash
    chain.close()

    async def start() -> None:
        config = NodeConfig(
            network="regtest",
            datadir=tmp_path,
            rpc_server=False,
            listen=False,
            connect=("0",),
            print_to_console=False,
            reindex_chainstate=reindex_chainstate,
        )
        node = Node(config)
        try:
            await node.start()
        finally:
            await node.close()

    # It would offer peers what it does not have.
    with pytest.raises(UserError, match="--reindex" if reindex_chainstate else "unpruned mode"):
        asyncio.run(start())
    with _open(tmp_path / "regtest") as chain:
        assert chain.tip.hash == tip
