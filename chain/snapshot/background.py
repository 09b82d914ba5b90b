"""Proving a loaded UTXO snapshot right: the chain from genesis to the snapshot's block, with coins of its own.

While the active chain goes on from the snapshot, this one connects the blocks below it as they are downloaded. At the
snapshot's block the hash of its own coins must be that of the network's table (Core: MaybeValidateSnapshot).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chain.coins import CoinsCache
from chain.coins_mover import CoinsMover
from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry, last_common_ancestor
from chain.params import AssumeUtxo
from chain.primitives.errors import LocalFault
from chain.primitives.types import hash_to_hex
from chain.snapshot.format import SetHash
from chain.storage.store import ChainStore

HASH_STEP_COINS = 20_000  #: hashed at a time


class SnapshotRefuted(Exception):
    """The snapshot is wrong, and why. `block` is the invalid one below it, if it is for that."""

    def __init__(self, why: str, block: BlockIndexEntry | None = None) -> None:
        super().__init__(why)
        self.block = block

    @classmethod
    def by_block(cls, entry: BlockIndexEntry, error: ConsensusError) -> SnapshotRefuted:
        """Because a block that it builds on breaks a rule."""
        what = f"block {hash_to_hex(entry.hash)} at height {entry.height} below it is invalid ({error})"
        return cls(what, entry)


class BackgroundChain:
    """The validated chain beside one that stands on a snapshot. Its coins are those at `tip`."""

    def __init__(
        self, coins: CoinsCache, store: ChainStore, tip: BlockIndexEntry, base: BlockIndexEntry, assumed: AssumeUtxo
    ) -> None:
        self.coins = coins
        self.tip = tip
        self.base = base
        self.assumed = assumed
        self._store = store
        self._hash: SetHash | None = None
        self._hashed_to = b""

    @property
    def fork(self) -> BlockIndexEntry:
        """The last validated block that the snapshot's block builds on; the tip itself but for a start on another
        branch.
        """
        return last_common_ancestor(self.tip, self.base)

    @property
    def next_block(self) -> BlockIndexEntry | None:
        """The block to connect next; None where blocks have to be taken off first, or all are connected."""
        entry = self.base.ancestor(self.tip.height + 1)
        return entry if entry is not None and entry.prev is self.tip else None

    @property
    def can_advance(self) -> bool:
        """Whether there is something to do now. Safe from any thread."""
        entry = self.base.ancestor(self.fork.height + 1)
        return entry is None or entry.have_data

    def needs(self, entry: BlockIndexEntry) -> bool:
        """Whether the block will still be read here."""
        return self.fork.height < entry.height <= self.base.height and self.base.ancestor(entry.height) is entry

    @property
    def progress(self) -> float:
        """The share of the transactions up to the snapshot that have been validated."""
        return self.tip.chain_tx_count / self.base.chain_tx_count if self.base.chain_tx_count else 0.0

    def advance(self, mover: CoinsMover, flush: Callable[[], None]) -> bool:
        """Connect a block or, after the last, hash some coins; whether the snapshot is thereby proved right. Call it
        while `can_advance`. `flush` writes the coins to their store. SnapshotRefuted if it is wrong.
        """
        if self.tip is not self.base:
            self._move(mover)
            return False
        if self._hash is None:  # from here on the coins do not change any more
            flush()
            self._hash = SetHash()
        coins = self._store.coins_after(self._hashed_to, HASH_STEP_COINS)
        self._hash.update(coins)
        if coins:
            self._hashed_to = coins[-1][0]
            return False
        digest, wanted = self._hash.digest(), self.assumed.hash_serialized
        if digest != wanted:
            raise SnapshotRefuted(f"the coins' hash is {hash_to_hex(digest)}, not {hash_to_hex(wanted)}")
        return True

    @property
    def hashing(self) -> bool:
        """Whether hashing has begun: the coins must not change any more."""
        return self._hash is not None

    def _move(self, mover: CoinsMover) -> None:
        entry = self.next_block
        if entry is None:  # it stands on another branch than the snapshot
            self.tip = mover.disconnect(self.tip, self.coins)[1]
            return
        try:
            mover.connect(entry, self.tip, self.coins)
        except ConsensusError as error:
            raise SnapshotRefuted.by_block(entry, error) from error
        self.tip = entry


def refutation(why: str, height: int, validated_height: int, place: Path) -> LocalFault:
    """What the operator is told of a snapshot that proved wrong, whose coins were moved to `place`."""
    return LocalFault(
        f"Pickaxe failed to validate the UTXO snapshot: {why}. This indicates a hardware problem, or a bug in the"
        " software, or a bad software modification that allowed an invalid snapshot to be loaded. The node shuts"
        " down and stops using any state that was built on the snapshot, resetting the chain height from"
        f" {height} to {validated_height}. Start it again: it will resume syncing from {validated_height} without using"
        " any snapshot data. Please report this incident, including how you obtained the snapshot. The invalid coins"
        f" are left in {place} for an examination; delete that folder when you do not need it"
    )
