"""What a reorganisation does to the mempool: transactions that lost their block, and entries that could no longer be
mined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from chain.consensus.constants import COINBASE_MATURITY
from chain.consensus.tx import is_final
from chain.mempool.accept import relative_locks_met
from chain.mempool.entries import MempoolEntry, transaction_usage
from chain.primitives.coin import coin_height, coin_is_coinbase
from chain.primitives.transaction import Transaction
from chain.primitives.types import Txid

if TYPE_CHECKING:
    from chain.mempool.pool import Mempool

MAX_DISCONNECTED_BYTES: Final = 20_000_000  #: for transactions waiting to come back, counted like entries (Core)


class DisconnectedTransactions:
    """Transactions of disconnected blocks, most recently confirmed first. Beyond the memory limit the most recent are
    given up: what remains still has all its parents."""

    def __init__(self, max_bytes: int = MAX_DISCONNECTED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._queue: dict[Txid, tuple[Transaction, bool]] = {}
        self._usage = 0

    def add_block(self, transactions: Sequence[Transaction], *, wanted: bool = True) -> list[Transaction]:
        """Queue a block's transactions; blocks come tip first. Returns those given up for memory."""
        for tx in reversed(transactions):
            self._queue[tx.txid] = (tx, wanted)
            self._usage += transaction_usage(tx)
        dropped = []
        while self._usage > self._max_bytes and self._queue:
            txid = next(iter(self._queue))
            tx, _ = self._queue.pop(txid)
            self._usage -= transaction_usage(tx)
            dropped.append(tx)
        return dropped

    def confirm(self, transactions: Sequence[Transaction]) -> None:
        """Forget those that a block of the new chain holds."""
        if not self._queue:
            return
        for tx in transactions:
            found = self._queue.pop(tx.txid, None)
            if found is not None:
                self._usage -= transaction_usage(found[0])

    def oldest_first(self) -> Iterator[tuple[Transaction, bool]]:
        """In the order in which the old chain confirmed them, with whether they may come back at all."""
        return reversed(list(self._queue.values()))


def stale_entries(pool: Mempool) -> list[MempoolEntry]:
    """The entries that by themselves could not be in the next block: not final, sequence locked, or spending an
    immature coinbase."""
    tip = pool.chain.tip
    height = tip.height + 1
    median_time = tip.median_time_past()
    stale = []
    for entry in pool.entries.values():
        tx = entry.tx
        if not is_final(tx, height, median_time):
            stale.append(entry)
            continue
        if not entry.spends_coinbase and not entry.has_relative_lock:
            continue
        coins = [pool.get_coin(outpoint) for outpoint in tx.prevouts]
        spent = [coin for coin in coins if coin is not None]
        if (
            len(spent) < len(coins)
            or (entry.has_relative_lock and not relative_locks_met(tx, spent, tip))
            or any(coin_is_coinbase(coin) and height - coin_height(coin) < COINBASE_MATURITY for coin in spent)
        ):
            stale.append(entry)
    return stale
