"""Layered views of the unspent coins, over plain dicts from 36-byte outpoint to packed coin.

`CoinsCache` is the state at the tip: the coins that changed since the last flush, those read lately, and below them
the store. `CoinsOverlay` is a what-if on top of any view. Connecting a block reads its coins from a view once, all
together (`fetch`), and changes nothing until the block has proved valid; then its effect is applied in one step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Protocol

from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage.store import ChainStore

#: Bytes that one cached coin takes: outpoint and coin as objects (80 each, typically), its slot in a dict that is on
#: average 60 % full.
ENTRY_BYTES = 240
DELETED_BYTES = 160
_TYPICAL_COIN_BYTES = 48


class CoinsView(Protocol):
    """Unspent coins as they stand at some block."""

    def get(self, outpoint: OutPoint) -> PackedCoin | None:
        """The unspent coin at an outpoint, or None."""

    def fetch(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        """Those of the coins that are unspent."""

    def apply(self, spent: Iterable[OutPoint], created: Mapping[OutPoint, PackedCoin]) -> None:
        """Remove `spent`, which all exist, then add `created`, none of which exist."""


class CoinsCache:
    """The coins at the tip. The state is (store − deleted) ∪ added; `clean` repeats some of the store.

    Belongs to one thread; `get` alone may be called from others (each step is one dict operation, and a coin is
    dropped from one dict only after it is in the next).
    """

    def __init__(self, store: ChainStore, budget_bytes: int) -> None:
        self._store = store
        self.budget_bytes = budget_bytes  #: may be changed at any time
        self._added: dict[OutPoint, PackedCoin] = {}
        self._clean: dict[OutPoint, PackedCoin] = {}
        self._deleted: set[OutPoint] = set()
        self._large_bytes = 0  # what coins with long scripts take beyond ENTRY_BYTES; never lowered before a flush

    def get(self, outpoint: OutPoint) -> PackedCoin | None:
        """The unspent coin at an outpoint, or None."""
        coin = self._added.get(outpoint) or self._clean.get(outpoint)
        if coin is None and outpoint not in self._deleted:
            coin = self._store.get_coin(outpoint)
            if coin is not None:
                self._clean[outpoint] = coin
        return coin

    def fetch(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        """Those of the coins that are unspent; what memory does not hold is read from the store in one sorted pass."""
        added, clean = self._added.get, self._clean.get
        found = {op: coin for op in outpoints if (coin := added(op) or clean(op)) is not None}
        if len(found) < len(outpoints):
            deleted = self._deleted
            missing = [op for op in outpoints if op not in found and op not in deleted]
            if missing:
                read = self._store.get_coins(missing)
                self._clean.update(read)
                found.update(read)
        return found

    def apply(self, spent: Iterable[OutPoint], created: Mapping[OutPoint, PackedCoin]) -> None:
        """Remove `spent`, which all exist, then add `created`, none of which exist."""
        added, clean, deleted = self._added, self._clean, self._deleted
        for outpoint in spent:
            if added.pop(outpoint, None) is None:
                deleted.add(outpoint)
                clean.pop(outpoint, None)
        added.update(created)
        total = sum(map(len, created.values()))
        self._large_bytes += max(0, total - _TYPICAL_COIN_BYTES * len(created))

    def overwrite(self, outpoints: Iterable[OutPoint]) -> None:
        """Drop coins that a duplicate coinbase is about to replace (the two blocks that BIP30 exempts)."""
        present = [op for op in outpoints if self.get(op) is not None]
        self.apply(present, {})

    @property
    def usage_bytes(self) -> int:
        """Estimate of the memory that the cached coins take."""
        return (
            ENTRY_BYTES * (len(self._added) + len(self._clean)) + DELETED_BYTES * len(self._deleted) + self._large_bytes
        )

    @property
    def over_budget(self) -> bool:
        """Whether it is time to flush for the sake of memory."""
        return self.usage_bytes > self.budget_bytes

    def trim(self) -> None:
        """Drop the oldest unchanged coins if there are too many of them. Costs no write; does nothing while most
        are changed.
        """
        limit = self.budget_bytes // (2 * ENTRY_BYTES)
        excess = len(self._clean) - limit
        if excess > 0:
            for outpoint in list(islice(self._clean, excess)):
                del self._clean[outpoint]

    def flush(self, *, tip: BlockHash, position: tuple[int, int], index: Mapping[BlockHash, bytes]) -> None:
        """Commit all changes together with the tip, the block files' end and the changed index records. LocalFault
        leaves cache and store as they were. The coins that were new stay in memory, within half of the budget,
        newest first to stay.
        """
        self._store.commit(tip=tip, position=position, index=index, deleted=self._deleted, added=self._added)
        self._clean.update(self._added)
        self._added = {}
        self._deleted = set()
        self._large_bytes = 0
        self.trim()


class CoinsOverlay:
    """Changes on top of another view, which stays as it is."""

    def __init__(self, base: CoinsView) -> None:
        self._base = base
        self._changed: dict[OutPoint, PackedCoin | None] = {}

    def get(self, outpoint: OutPoint) -> PackedCoin | None:
        """The unspent coin at an outpoint, or None."""
        changed = self._changed
        return changed[outpoint] if outpoint in changed else self._base.get(outpoint)

    def fetch(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, PackedCoin]:
        """Those of the coins that are unspent."""
        changed = self._changed
        found = self._base.fetch([op for op in outpoints if op not in changed])
        found.update({op: coin for op in outpoints if (coin := changed.get(op)) is not None})
        return found

    def apply(self, spent: Iterable[OutPoint], created: Mapping[OutPoint, PackedCoin]) -> None:
        """Remove `spent`, then add `created`."""
        changed = self._changed
        for outpoint in spent:
            changed[outpoint] = None
        changed.update(created)
