"""What happened to the chain, as values.

`Chainstate` calls nobody back: its methods return these, oldest first, and whoever owns it publishes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry
from chain.primitives.block import Block


@dataclass(frozen=True, slots=True)
class BlockConnected:
    """`block` became part of the active chain; its coins are spent and created."""

    entry: BlockIndexEntry
    block: Block


@dataclass(frozen=True, slots=True)
class BlockDisconnected:
    """`block` left the active chain in a reorganisation or an invalidation; its transactions are unconfirmed again."""

    entry: BlockIndexEntry
    block: Block


@dataclass(frozen=True, slots=True)
class TipChanged:
    """The active chain ends at `entry` now. One per activation, after the blocks that led there."""

    entry: BlockIndexEntry


@dataclass(frozen=True, slots=True)
class HeaderTipChanged:
    """`entry` is the best header known; its block may still be missing."""

    entry: BlockIndexEntry


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """The block of `entry` broke a rule when it was connected; it and all that build on it are invalid from now on."""

    entry: BlockIndexEntry
    error: ConsensusError


Event: TypeAlias = BlockConnected | BlockDisconnected | TipChanged | HeaderTipChanged | BlockRejected
