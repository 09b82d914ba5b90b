"""Deleting old block files."""

from __future__ import annotations

import logging

from chain.chainstate import MIN_BLOCKS_TO_KEEP, Chainstate
from chain.index import HAVE_DATA, HAVE_UNDO, BlockIndexEntry

log = logging.getLogger("pickaxe.node")
prune_log = logging.getLogger("pickaxe.prune")


def prune_chain(chain: Chainstate, height: int, lock: tuple[str, int] | None = None) -> int:
    """Delete every block file whose blocks all lie at or below `height` and at least 288 below the tip, and those of
    which no block is known. `lock` names who still needs blocks, and the last height that it does not. Returns the
    highest height below which all is gone, -1 when nothing is."""
    limit = min(height, chain.tip.height - MIN_BLOCKS_TO_KEEP)
    if lock is not None and lock[1] < chain.tip.height:
        prune_log.debug("%s limited pruning to height %d", *lock)
        limit = min(limit, lock[1])
    limit = min([limit, *(needed - 1 for needed in chain.prune_locks.values())])
    background = chain.background
    highest: dict[int, int] = {}
    members: dict[int, list[BlockIndexEntry]] = {}
    for entry in chain.index.entries.values():
        if entry.have_data:
            highest[entry.file_number] = max(highest.get(entry.file_number, 0), entry.height)
            members.setdefault(entry.file_number, []).append(entry)
    doomed = [number for number, top in highest.items() if top <= limit and number not in chain.files.open_files]
    if background is not None:  # blocks below a UTXO snapshot are kept until they have been validated
        doomed = [number for number in doomed if not any(background.needs(entry) for entry in members[number])]
    if doomed:
        chain.flush()  # the tip first: what a crash makes us connect again must not be gone
    for number in sorted(doomed):
        for entry in members[number]:
            entry.status &= ~(HAVE_DATA | HAVE_UNDO)
            chain.index.dirty.add(entry)
    if doomed:
        chain.flush()  # the index first: a crash then leaves files that nobody names, not names without files
        for number in doomed:
            chain.files.delete_file(number)
        log.info("Prune: deleted %d block files up to height %d", len(doomed), limit)
    # After --reindex: their blocks build on some that were deleted before.
    unknown = [number for number in chain.files.numbers() if number not in members.keys() | chain.files.open_files]
    for number in unknown:
        chain.files.delete_file(number)
    if unknown:
        log.info("Prune: deleted %d block files that no known block is in", len(unknown))
    # From the tip down: the genesis block is there again after a restart.
    return next((entry.height for entry in reversed(chain.index.active) if not entry.have_data), -1)
