"""Writing a UTXO snapshot (Core: dumptxoutset), of the tip or of an earlier block of the active chain.

Works on the coins as they are when it starts, in steps between which the chain may go on. An earlier block's coins are
the present ones with a layer of changes over them: what undoing the blocks since then would change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from chain.connect import disconnect_block
from chain.index import BlockIndexEntry
from chain.primitives.errors import LocalFault
from chain.primitives.types import OutPoint, PackedCoin, hash_to_hex
from chain.snapshot.format import SetHash, SnapshotError, SnapshotMetadata, encode_group, groups
from chain.storage.scratch import ScratchCoins
from chain.storage.store import FrozenCoins

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

STEP_COINS = 20_000  #: written in one step
SPILL_COINS = 1_000_000  #: changes that are kept in memory before they go to the disk


@dataclass(frozen=True, slots=True)
class DumpProgress:
    """How far a dump is. Blocks above its own are undone first, before any coin is written."""

    coins_written: int


@dataclass(frozen=True, slots=True)
class DumpResult:
    """What was written: the snapshot's block, the number of coins, their hash_serialized_3, and the transactions up to
    the block: together the entry for the network's table."""

    base: BlockIndexEntry
    coins_written: int
    digest: bytes
    chain_tx_count: int


class _RolledBack:
    """Coins of an earlier block: those of `base` under a layer of changes. A CoinsView."""

    def __init__(self, base: FrozenCoins, scratch: ScratchCoins | None) -> None:
        self._base = base
        self._changed: dict[OutPoint, PackedCoin | None] = {}
        self._scratch = scratch
        self._spilled = False

    def get(self, outpoint: OutPoint) -> PackedCoin | None:
        return self.fetch([outpoint]).get(outpoint)

    def fetch(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        changed = self._changed
        known = {op: changed[op] for op in outpoints if op in changed}
        if self._spilled and self._scratch is not None:
            known.update(self._scratch.get([op for op in outpoints if op not in known]))
        found = self._base.get_coins([op for op in outpoints if op not in known])
        found.update({op: coin for op, coin in known.items() if coin is not None})
        return found

    def apply(self, spent: Iterable[OutPoint], created: Mapping[OutPoint, PackedCoin]) -> None:
        for outpoint in spent:
            self._changed[outpoint] = None
        self._changed.update(created)
        if self._scratch is not None and len(self._changed) >= SPILL_COINS:
            self._scratch.put(self._changed)
            self._changed.clear()
            self._spilled = True

    def settle(self) -> int:
        """All blocks are undone; the number of coins."""
        if self._spilled and self._scratch is not None:
            self._scratch.put(self._changed)
            self._changed.clear()
        count = len(self._base)
        chunk: dict[OutPoint, PackedCoin | None] = {}
        for outpoint, coin in self._changes():
            chunk[outpoint] = coin
            if len(chunk) >= STEP_COINS:
                count += self._gain(chunk)
                chunk = {}
        return count + self._gain(chunk)

    def _gain(self, changes: Mapping[OutPoint, PackedCoin | None]) -> int:
        present = self._base.get_coins(list(changes))
        return sum((coin is not None) - (op in present) for op, coin in changes.items())

    def _changes(self) -> Iterator[tuple[OutPoint, PackedCoin | None]]:
        return iter(self._scratch) if self._spilled and self._scratch is not None else iter(sorted(_items(self)))

    def __iter__(self) -> Iterator[tuple[OutPoint, PackedCoin]]:
        """In key order, after `settle`."""
        changes = self._changes()
        change = next(changes, None)
        for item in self._base:
            while change is not None and change[0] < item[0]:
                if change[1] is not None:
                    yield change[0], change[1]
                change = next(changes, None)
            if change is not None and change[0] == item[0]:
                if change[1] is not None:
                    yield change[0], change[1]
                change = next(changes, None)
            else:
                yield item
        while change is not None:
            if change[1] is not None:
                yield change[0], change[1]
            change = next(changes, None)


def _items(view: _RolledBack) -> list[tuple[OutPoint, PackedCoin | None]]:
    return list(view._changed.items())


def dump_snapshot(
    chain: Chainstate,
    target: BlockIndexEntry,
    file: BinaryIO,
    *,
    scratch_dir: Path | None,
) -> Iterator[DumpProgress | DumpResult]:
    """Write the snapshot of `target`, a block of the active chain, to `file`; the last thing yielded is the result.

    The coins are those at the first step. Changes of a rollback that memory should not hold go to the folder
    `scratch_dir`; None keeps all in memory. SnapshotError if blocks on the way are not on disk, or the file cannot be
    written.
    """
    tip = chain.tip
    if tip.ancestor(target.height) is not target:
        raise SnapshotError(f"Block {hash_to_hex(target.hash)} is not in the active chain")
    scratch: ScratchCoins | None = None
    lock = f"dumptxoutset {id(file)}"
    coins = chain.frozen_coins()
    try:
        count = len(coins)
        source: Iterable[tuple[OutPoint, PackedCoin]] = coins
        if target is not tip:
            _check_way_back(tip, target)
            chain.prune_locks[lock] = target.height + 1
            scratch = ScratchCoins(scratch_dir) if scratch_dir is not None else None
            view = _RolledBack(coins, scratch)
            entry = tip
            while entry is not target and entry.prev is not None:
                try:
                    effect = disconnect_block(
                        chain.read_block(entry), entry, chain.read_undo(entry), view, chain.params
                    )
                except LocalFault as error:
                    raise SnapshotError(f"Failed to roll back block at height {entry.height}: {error}") from error
                view.apply(effect.spent, effect.created)
                entry = entry.prev
                yield DumpProgress(0)
            count = view.settle()
            source = view
        file.write(SnapshotMetadata(target.hash, count).encode(chain.params.magic))
        hasher = SetHash()
        written = since = 0
        parts: list[bytes] = []
        for txid, group in groups(source):
            parts.append(encode_group(txid, group))
            hasher.update(group)
            written += len(group)
            if written - since >= STEP_COINS:
                file.write(b"".join(parts))
                parts, since = [], written
                yield DumpProgress(written)
        file.write(b"".join(parts))
        if written != count:
            raise SnapshotError(f"the coins changed while they were written: {count} counted, {written} found")
        yield DumpResult(target, written, hasher.digest(), target.chain_tx_count)
    except OSError as error:
        raise SnapshotError(f"Unable to write the snapshot: {error.strerror}") from error
    finally:
        chain.prune_locks.pop(lock, None)
        coins.close()
        if scratch is not None:
            scratch.close()


def _check_way_back(tip: BlockIndexEntry, target: BlockIndexEntry) -> None:
    entry = tip
    while entry is not target and entry.prev is not None:
        if not entry.have_data or not entry.have_undo:
            raise SnapshotError(
                "Could not roll back to requested height since necessary block data is already pruned."
                if entry.tx_count
                else f"Could not roll back to requested height: block {hash_to_hex(entry.hash)} at height"
                f" {entry.height} has not been validated yet."
            )
        entry = entry.prev
