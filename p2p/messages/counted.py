"""Counts at the head of list messages."""

from __future__ import annotations

from chain.primitives.serialize import Reader
from p2p.errors import PeerMisbehaviour


def read_count(reader: Reader, command: str, limit: int) -> int:
    """The number of entries that follow; PeerMisbehaviour in Core's words when it is above `limit`."""
    count = reader.compact_size()
    if count > limit:
        raise PeerMisbehaviour(f"{command} message size = {count}")
    return count
