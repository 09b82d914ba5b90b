"""Signature checks on their way to worker threads.

One pass over a block collects them; every few hundred go to a thread, where one compiled call checks them without
the GIL while Python reads on.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from chain.crypto.batch import SignatureBatch
from chain.primitives.types import Wtxid

InputTag: TypeAlias = tuple[int, int]  #: (position of the transaction in the block, index of the input)

BATCH_SIZE = 256  #: about 8 ms of one core: long against the cost of handing it over, short against a block


class SignatureQueue:
    """The checks of one block. `batch` is the one to add to; call `drain` now and then, `finish` at the end."""

    __slots__ = ("_futures", "_pool", "batch")

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        """Without a pool the caller's thread does the work in `finish`."""
        self._pool = pool
        self._futures: list[Future[InputTag | None]] = []
        self.batch: SignatureBatch[InputTag] = SignatureBatch()

    def drain(self) -> None:
        """Hand the batch over if it is full."""
        if self._pool is not None and len(self.batch) >= BATCH_SIZE:
            self._futures.append(self._pool.submit(self.batch.verify))
            self.batch = SignatureBatch()

    def finish(self) -> InputTag | None:
        """Wait for all; the first failing input in block order, or None."""
        failures: list[InputTag] = []
        last, self.batch = self.batch, SignatureBatch()
        if len(last):
            failed = last.verify()  # here: the workers are busy with the batches before it
            if failed is not None:
                failures.append(failed)
        futures, self._futures = self._futures, []
        for future in futures:
            failed = future.result()
            if failed is not None:
                failures.append(failed)
        return min(failures, default=None)


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
