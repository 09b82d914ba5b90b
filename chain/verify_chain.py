"""Checking what is on disk, from the tip down (Core: CVerifyDB, `verifychain`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.coins import CoinsOverlay
from chain.connect import connect_block, disconnect_block
from chain.consensus.block import check_block
from chain.consensus.errors import ConsensusError
from chain.primitives.errors import LocalFault
from chain.primitives.types import hash_to_hex

if TYPE_CHECKING:
    from chain.chainstate import Chainstate
    from chain.index import BlockIndexEntry
    from chain.primitives.block import Block

MAX_LEVEL = 4


def verify_chain(chain: Chainstate, level: int, blocks: int) -> None:
    """Check the last `blocks` blocks (0: all) of the active chain; LocalFault names the first thing that is wrong.

    Level 0 reads each block, 1 checks it, 2 reads its undo data, 3 takes it off a copy of the coins, 4 connects all of
    them again. Changes nothing.
    """
    coins = CoinsOverlay(chain.coins)
    entry = chain.tip
    stop = max(0, entry.height - blocks) if blocks else 0
    if chain.background is not None:  # of the blocks up to the snapshot, the coins here know nothing
        stop = max(stop, chain.background.base.height)
    undone: list[tuple[BlockIndexEntry, Block]] = []
    while entry.height > stop and entry.prev is not None:
        block = chain.read_block(entry, from_disk=True)
        if level >= 1:
            try:
                check_block(block, chain.params)
            except ConsensusError as error:
                raise _bad_block(entry, error) from error
        if level >= 2:
            undo = chain.read_undo(entry)
            if level >= 3:
                effect = disconnect_block(block, entry, undo, coins, chain.params)
                coins.apply(effect.spent, effect.created)
                undone.append((entry, block))
        entry = entry.prev
    if level >= MAX_LEVEL:
        for again, block in reversed(undone):
            try:
                effect = connect_block(block, entry, coins, chain.params, pool=chain.script_pool)
            except ConsensusError as error:
                raise _bad_block(again, error) from error
            coins.apply(effect.spent, effect.created)
            entry = again


def _bad_block(entry: BlockIndexEntry, error: ConsensusError) -> LocalFault:
    return LocalFault(
        f"Block {hash_to_hex(entry.hash)} at height {entry.height} on disk is invalid ({error}); "
        "start with --reindex to rebuild"
    )
