"""Deleting old block files."""

from __future__ import annotations

import logging

from chain.chainstate import MIN_BLOCKS_TO_KEEP, Chainstate
from chain.index import HAVE_DATA, HAVE_UNDO, BlockIndexEntry

log = logging.getLogger("pickaxe.node")


def prune_chain(chain: Chainstate, height: int) -> int:
    """Delete every block file whose blocks all lie at or below `height` and at least 288 below the tip. Returns the
    highest height below which
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
