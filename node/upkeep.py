"""Upkeep of a chain's files: checking blocks again, and deleting old ones."""

from __future__ import annotations

import logging

from chain.chainstate import MIN_BLOCKS_TO_KEEP, Chainstate
from chain.coins import CoinsOverlay
from chain.connect import connect_block, disconnect_block
from chain.consensus.block import check_block
from chain.consensus.errors import ConsensusError
from chain.index import HAVE_DATA, HAVE_UNDO, BlockIndexEntry
from chain.primitives.errors import LocalFault

log = logging.getLogger("pickaxe.node")


def verify_chain(chain: Chainstate, level: int, count: int) -> bool:
    """Check the last `count` blocks (0 or less: all) again: 0 read them, 1 check them, 2 read their undo data, 3 disconnect and 4 reconnect
    them in memory. False, and a line in the log, at the first that fails."""
    tip = chain.tip
    depth = tip.height if count <= 0 else min(count, tip.height)
    log.info("Verifying last %d blocks at level %d", depth, level)
    view = CoinsOverlay(chain.coins)
    undone: list[BlockIndexEntry] = []
    for height in range(tip.height, tip.height - depth, -1):
        entry = chain.index.active[height]
        if not entry.have_data:  # pruned: there is nothing below either
            break
        try:
            block = chain.read_block(entry)
            if level >= 1:
                check_block(block, chain.params)
            undo = chain.read_undo(entry) if level >= 2 else None
            if level >= 3 and undo is not None:
                effect = disconnect_block(block, entry, undo, view, chain.params)
                view.apply(effect.spent, effect.created)
                undone.append(entry)
        except (ConsensusError, LocalFault) as error:
            log.error("Verification error: found bad block at %d: %s", height, error)
            return False
    if level >= 4:
        for entry in reversed(undone):
            try:
                if entry.prev is None:
                    break
                effect = connect_block(chain.read_block(entry), entry.prev, view, chain.params)
                view.apply(effect.spent, effect.created)
            except (ConsensusError, LocalFault) as error:
                log.error("Verification error: found unconnectable block at %d: %s", entry.height, error)
                return False
    log.info("Verification: No coin database inconsistencies in last %d blocks", depth)
    return True


def prune_chain(chain: Chainstate, height: int) -> int:
    """Delete every block file whose blocks all lie at or below `height` and at least 288 below the tip. Returns the highest height below which
    all is gone, -1 when nothing is."""
    limit = min(height, chain.tip.height - MIN_BLOCKS_TO_KEEP)
    highest: dict[int, int] = {}
    members: dict[int, list[BlockIndexEntry]] = {}
    for entry in chain.index.entries.values():
        if entry.have_data:
            highest[entry.file_number] = max(highest.get(entry.file_number, 0), entry.height)
            members.setdefault(entry.file_number, []).append(entry)
    doomed = [number for number, top in highest.items() if top <= limit and number != chain.files.file_number]
    for number in sorted(doomed):
        for entry in members[number]:
            entry.status &= ~(HAVE_DATA | HAVE_UNDO)
            chain.index.dirty.add(entry)
    if doomed:
        chain.flush()  # the index first: a crash then leaves files that nobody names, not names without files
        for number in doomed:
            chain.files.delete_file(number)
        log.info("Prune: deleted %d block files up to height %d", len(doomed), limit)
    gone = -1
    for entry in chain.index.active:
        if entry.have_data:
            break
        gone = entry.height
    return gone
