"""Scripts on their way to worker threads.

One pass over a block collects its transactions; every few hundred inputs go to a thread, which verifies most of them in
one call without the GIL while Python reads on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from chain.primitives.transaction import Transaction
from chain.primitives.types import PackedCoin, Wtxid
from chain.script.flags import ScriptFlags
from chain.script.spends import BlockSpends, InputFailure, Spend, SpendBatch

if TYPE_CHECKING:
    from chain.primitives.native.tables import BlockTables

BATCH_INPUTS = 256  #: about 9 ms of one core: long against the cost of handing them over, short against a block
LAST_BATCH_INPUTS = 32  #: where all have begun the last of a block, none waits long for the others


class _Work(Protocol):
    def verify(self) -> InputFailure | None:
        """The first input that is invalid; None if all are valid."""


class ScriptQueue:
    """The scripts of one block: `add` its transactions in order, or `add_block` all at once; `finish` at the end."""

    __slots__ = ("_batch", "_flags", "_pool", "_queued")

    def __init__(self, pool: ThreadPoolExecutor | None, flags: ScriptFlags) -> None:
        """Without a pool the caller's thread does the work in `finish`."""
        self._pool = pool
        self._flags = flags
        self._queued: list[tuple[Future[InputFailure | None] | None, _Work]] = []
        self._batch = SpendBatch(flags)

    def add(self, tx: Transaction, spent: Sequence[PackedCoin], position: int) -> None:
        """The transaction at a position of the block, and the coins that it spends."""
        batch = self._batch
        batch.add(tx, spent, position)
        if batch.inputs >= BATCH_INPUTS:
            self._hand_over(batch)
            self._batch = SpendBatch(self._flags)

    def add_block(self, tables: BlockTables, spend: Callable[[int], Spend], known: bytearray) -> None:
        """All transactions of a block but the coinbase and those that `known` marks by a 1; the tables name the
        coins, and `spend` tells of the transaction at a position.
        """
        for first, last in tables.ranges(BATCH_INPUTS, LAST_BATCH_INPUTS):
            if 0 in known[first:last]:
                self._hand_over(BlockSpends(tables, spend, self._flags, known, first, last))

    def finish(self) -> InputFailure | None:
        """The first invalid input in block order, or None. The caller's thread verifies what no worker has begun."""
        last, self._batch = self._batch, SpendBatch(self._flags)
        queued, self._queued = self._queued, []
        results = [last.verify()]
        results += [work.verify() for future, work in queued if future is None or future.cancel()]
        results += [future.result() for future, _ in queued if future is not None and not future.cancelled()]
        return min((failure for failure in results if failure is not None), key=lambda f: f.position, default=None)

    def _hand_over(self, work: _Work) -> None:
        self._queued.append((self._pool.submit(work.verify) if self._pool is not None else None, work))


class ScriptCache:
    """Transactions whose scripts all passed, by (wtxid, flags): what the mempool has verified, a block need not
    verify again.

    The wtxid commits to the witness and, through the outpoints' txids, to the coins spent; so nothing else matters.
    Bounded: the older half is dropped when it is full.
    """

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._young: set[tuple[Wtxid, int]] = set()
        self._old: set[tuple[Wtxid, int]] = set()

    def add(self, wtxid: Wtxid, flags: int) -> None:
        """Remember that every input of the transaction passed under `flags`."""
        if len(self._young) >= self._capacity // 2:
            self._old, self._young = self._young, set()
        self._young.add((wtxid, flags))

    def contains(self, wtxid: Wtxid, flags: int) -> bool:
        """Whether `add` was called with the same two."""
        key = (wtxid, flags)
        return key in self._young or key in self._old

    def __bool__(self) -> bool:
        return bool(self._young or self._old)
