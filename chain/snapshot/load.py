"""Loading a UTXO snapshot (Core: ActivateSnapshot, PopulateAndValidateSnapshot).

The coins go to a second store in batches, between which the chain may go on; they are read back and hashed; and only if
the hash is that of the network's table does the chain begin to stand on them. Everything else leaves no trace.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from chain.index import BlockIndexEntry
from chain.params import AssumeUtxo
from chain.primitives.errors import LocalFault
from chain.primitives.types import hash_to_hex
from chain.snapshot import folders
from chain.snapshot.format import SetHash, SnapshotError, SnapshotMetadata, read_coins
from chain.storage.layout import SNAPSHOT_DIR
from chain.storage.store import ChainStore

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

BATCH_COINS = 50_000  #: written to the store at a time
HASH_STEP_COINS = 20_000


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a snapshot is loaded: coins written, then coins read back and hashed, of so many."""

    loaded: int
    hashed: int
    total: int


def load_snapshot(
    chain: Chainstate,
    file: BinaryIO,
    metadata: SnapshotMetadata,
    *,
    mempool_is_empty: Callable[[], bool],
    map_size: int,
) -> Iterator[LoadProgress]:
    """Load the coins that follow `metadata` in `file`; after the last step the chain stands on them. SnapshotError, in
    Core's words, if that cannot be; then, as when the iteration is given up, the chain is as before.
    """
    if chain.loading_snapshot:
        raise SnapshotError("another snapshot is being loaded; wait until it is done")
    base, assumed = _check(chain, metadata, mempool_is_empty)
    store: ChainStore | None = None
    adopted = False
    chain.loading_snapshot = True
    try:
        try:
            _check_work(chain, base, "Work")
            folders.remove_snapshot(chain.datadir)
            store = ChainStore(chain.datadir / SNAPSHOT_DIR, chain.params.genesis_hash, map_size=map_size)
            yield from _populate(store, file, metadata, base, assumed)
        except SnapshotError as error:
            raise SnapshotError(f"Population failed: {error}") from error
        except (LocalFault, OSError) as error:
            raise SnapshotError(f"Population failed: {error}") from error
        _check(chain, metadata, mempool_is_empty)
        _check_work(chain, base, "work")
        chain.adopt_snapshot(store, base, assumed)
        adopted = True
    finally:
        chain.loading_snapshot = False
        if not adopted and store is not None:
            store.close()
            shutil.rmtree(store.path, ignore_errors=True)


def _check(
    chain: Chainstate, metadata: SnapshotMetadata, mempool_is_empty: Callable[[], bool]
) -> tuple[BlockIndexEntry, AssumeUtxo]:
    """The snapshot's block and its line of the table, if it may be loaded now."""
    index = chain.index
    if chain.stands_on_snapshot:
        raise SnapshotError("Can't activate a snapshot-based chainstate more than once")
    assumed = chain.params.assumed_utxo(metadata.base_hash)
    name = hash_to_hex(metadata.base_hash)
    if assumed is None:
        heights = ", ".join(str(line.height) for line in chain.params.assumeutxo) or "none"
        raise SnapshotError(
            f"assumeutxo block hash in snapshot metadata not recognized (hash: {name})."
            f" The following snapshot heights are available: {heights}"
        )
    base = index.get(metadata.base_hash)
    if base is None:
        raise SnapshotError(
            f"The base block header ({name}) must appear in the headers chain."
            " Make sure all headers are syncing, and call loadtxoutset again"
        )
    if base.failed:
        raise SnapshotError(f"The base block header ({name}) is part of an invalid chain")
    if base.height != assumed.height:
        raise SnapshotError(
            f"Assumeutxo height in snapshot metadata not recognized ({base.height}) - refusing to load snapshot"
        )
    if index.best_header.ancestor(base.height) is not base:
        raise SnapshotError(
            "A forked headers-chain with more work than the chain with the snapshot base block header exists."
            " Please proceed to sync without AssumeUtxo."
        )
    if not mempool_is_empty():
        raise SnapshotError("Can't activate a snapshot when mempool not empty")
    return base, assumed


def _check_work(chain: Chainstate, base: BlockIndexEntry, word: str) -> None:
    if chain.tip.chainwork >= base.chainwork:
        raise SnapshotError(f"{word} does not exceed active chainstate")


def _populate(
    store: ChainStore, file: BinaryIO, metadata: SnapshotMetadata, base: BlockIndexEntry, assumed: AssumeUtxo
) -> Iterator[LoadProgress]:
    total = metadata.coins_count
    loaded = 0
    for coins in read_coins(file, total, base.height, batch=BATCH_COINS):
        store.commit(tip=base.hash, position=(0, 0), index={}, deleted=(), added=dict(coins))
        loaded += len(coins)
        yield LoadProgress(loaded, 0, total)
    hasher = SetHash()
    last = b""
    while stored := store.coins_after(last, HASH_STEP_COINS):
        hasher.update(stored)
        last = stored[-1][0]
        yield LoadProgress(loaded, hasher.count, total)
    digest = hasher.digest()
    if digest != assumed.hash_serialized:
        raise SnapshotError(
            f"Bad snapshot content hash: expected {hash_to_hex(assumed.hash_serialized)}, got {hash_to_hex(digest)}"
        )
    if hasher.count != total:  # a coin was there twice
        raise SnapshotError("Mismatch in coins count in snapshot metadata and actual snapshot data")
