"""Transactions whose parents we lack, kept for a while in case the parents come. Bounded in number, in weight, and in
weight per peer."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from chain.primitives.transaction import Transaction
from chain.primitives.types import Wtxid
from p2p import log
from p2p.constants import MAX_ORPHAN_WEIGHT, MAX_ORPHANS_WEIGHT_PER_PEER


@dataclass(slots=True)
class Orphan:
    """A transaction and the ids of the peers that announced or sent it."""

    transaction: Transaction
    announcers: set[int] = field(default_factory=set)


class OrphanPool:
    """Orphans by wtxid, and by the txids that they spend. `limit` bounds their number."""

    def __init__(self, rng: random.Random, limit: int) -> None:
        self._rng = rng
        self._limit = limit
        self._orphans: dict[bytes, Orphan] = {}
        self._by_parent: dict[bytes, set[bytes]] = {}
        self._weight: dict[int, int] = {}
        self._work: dict[int, dict[bytes, None]] = {}  #: per peer: orphans to be tried again

    def __len__(self) -> int:
        return len(self._orphans)

    def __contains__(self, wtxid: bytes) -> bool:
        return wtxid in self._orphans

    def get(self, wtxid: bytes) -> Transaction | None:
        orphan = self._orphans.get(wtxid)
        return None if orphan is None else orphan.transaction

    def all(self) -> list[Orphan]:
        """For getorphantxs."""
        return list(self._orphans.values())

    def add(self, tx: Transaction, peer_id: int) -> bool:
        """Keep it, at this peer's expense; False for one that is too large or was here before from this peer."""
        if tx.weight > MAX_ORPHAN_WEIGHT or self._limit <= 0:
            return False
        orphan = self._orphans.get(tx.wtxid)
        if orphan is None:
            orphan = self._orphans[tx.wtxid] = Orphan(tx)
            for outpoint in tx.prevouts:
                self._by_parent.setdefault(outpoint[:32], set()).add(tx.wtxid)
        elif peer_id in orphan.announcers:
            return False
        self.add_announcer(tx.wtxid, peer_id)
        self._trim(peer_id)
        return tx.wtxid in self._orphans

    def add_announcer(self, wtxid: Wtxid, peer_id: int) -> None:
        """Another peer has it too: it can be asked for the parents, and shares the expense."""
        orphan = self._orphans.get(wtxid)
        if orphan is not None and peer_id not in orphan.announcers:
            orphan.announcers.add(peer_id)
            self._weight[peer_id] = self._weight.get(peer_id, 0) + orphan.transaction.weight

    def has_from(self, wtxid: bytes, peer_id: int) -> bool:
        orphan = self._orphans.get(wtxid)
        return orphan is not None and peer_id in orphan.announcers

    def _trim(self, peer_id: int) -> None:
        """Over its own limit a peer loses its oldest; over the common limit, the peer with the most weight does."""
        while self._weight.get(peer_id, 0) > MAX_ORPHANS_WEIGHT_PER_PEER:
            self._drop_oldest_of(peer_id)
        while len(self._orphans) > self._limit:
            self._drop_oldest_of(max(self._weight, key=self._weight.__getitem__))

    def _drop_oldest_of(self, peer_id: int) -> None:
        wtxid = next(w for w, orphan in self._orphans.items() if peer_id in orphan.announcers)
        self._remove_announcer(wtxid, peer_id)

    def _remove_announcer(self, wtxid: bytes, peer_id: int) -> None:
        orphan = self._orphans[wtxid]
        orphan.announcers.discard(peer_id)
        self._weight[peer_id] -= orphan.transaction.weight
        if not self._weight[peer_id]:
            del self._weight[peer_id]
        if not orphan.announcers:
            self.remove(wtxid)

    def remove(self, wtxid: bytes) -> None:
        """Forget an orphan; nothing happens if it is not there."""
        orphan = self._orphans.pop(wtxid, None)
        if orphan is None:
            return
        for peer_id in orphan.announcers:
            self._weight[peer_id] -= orphan.transaction.weight
            if not self._weight[peer_id]:
                del self._weight[peer_id]
        for outpoint in orphan.transaction.prevouts:
            children = self._by_parent.get(outpoint[:32])
            if children is not None:
                children.discard(wtxid)
                if not children:
                    del self._by_parent[outpoint[:32]]
        for queue in self._work.values():
            queue.pop(wtxid, None)

    def forget_peer(self, peer_id: int) -> None:
        """A peer has gone: what only it announced goes too."""
        for wtxid in [w for w, orphan in self._orphans.items() if peer_id in orphan.announcers]:
            self._remove_announcer(wtxid, peer_id)
        self._work.pop(peer_id, None)

    def forget_spent(self, transactions: Iterable[Transaction]) -> None:
        """A block has come: its transactions are no orphans any more, nor is what spends the same outputs."""
        spent = {outpoint for tx in transactions for outpoint in tx.prevouts}
        gone = [w for w, o in self._orphans.items() if not spent.isdisjoint(o.transaction.prevouts)]
        for wtxid in gone:
            self.remove(wtxid)
        if gone:
            log.txpackages.debug("Erased %d orphan transaction(s) included or conflicted by block", len(gone))

    def parent_accepted(self, txid: bytes) -> None:
        """Queue the children of an accepted transaction for another try, each on behalf of one of its announcers."""
        for wtxid in sorted(self._by_parent.get(txid, ())):
            announcers = sorted(self._orphans[wtxid].announcers)
            if not any(wtxid in queue for queue in self._work.values()):
                self._work.setdefault(self._rng.choice(announcers), {})[wtxid] = None

    def next_work(self, peer_id: int) -> Transaction | None:
        """An orphan to try again on behalf of this peer; it stays in the pool until removed."""
        queue = self._work.get(peer_id)
        while queue:
            wtxid = next(iter(queue))
            del queue[wtxid]
            tx = self.get(wtxid)
            if tx is not None:
                return tx
        self._work.pop(peer_id, None)
        return None

    def has_work(self, peer_id: int) -> bool:
        return bool(self._work.get(peer_id))
