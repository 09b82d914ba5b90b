"""The one writer thread, and the chain as the event loop sees it (`chain.interfaces.NodeForPeers`).

Work reaches the thread through a bounded queue and runs in order. Whoever awaits a call sees the notifications of that
call before its result: both
travel to the loop through the same FIFO.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from chain.index import BlockIndexEntry, last_common_ancestor
from chain.indexes.serve import block_filters, filter_headers
from chain.interfaces import (
    BlockOutcome,
    HeaderInfo,
    HeadersOutcome,
    MempoolTransaction,
    NodeEvents,
    TransactionOutcome,
    Verdict,
)
from chain.params import NetworkParams
from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, Height, OutPoint, Txid, Work
from node.chain_worker import ChainWorker, Notice

log = logging.getLogger("pickaxe.node")

P = ParamSpec("P")
T = TypeVar("T")

QUEUE_DEPTH: Final = 256


class Listener(NodeEvents, Protocol):
    """NodeEvents, and word of stored blocks that proved invalid when they were connected."""

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None: ...


class ChainService:
    """Runs `ChainWorker` in its thread. Start with `open`, end with `close`."""

    def __init__(self, params: NetworkParams, on_fault: Callable[[LocalFault], None]) -> None:
        self._params = params
        self._on_fault = on_fault
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[
            tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
        ] = queue.SimpleQueue()
        self._slots = asyncio.Semaphore(QUEUE_DEPTH)
        self._thread = threading.Thread(target=self._run, name="chain", daemon=True)
        self._worker: ChainWorker | None = None
        self._listeners: list[Listener] = []
        self._tip_waiters: set[asyncio.Future[None]] = set()
        self._change_waiters: set[asyncio.Future[None]] = set()
        self._closing = False
        self._thread.start()

    # ------------------------------------------------------------------ the thread

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the writer thread, after all work queued before. Its exceptions come back."""
        async with self._slots:
            future: asyncio.Future[T] = self._loop.create_future()
            self._queue.put((future, function, args, kwargs))
            return await future

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            future, function, args, kwargs = item
            if future.cancelled():
                continue
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                if isinstance(error, LocalFault) and self._worker is not None and self._worker.chain.has_failed:
                    self._to_loop(self._on_fault, error)
                self._to_loop(_fail, future, error)
            else:
                self._to_loop(_finish, future, result)

    def _to_loop(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has closed: nobody waits any more
            return

    async def open(self, build: Callable[[Callable[[Notice], None]], ChainWorker]) -> ChainWorker:
        """Build the worker in its thread (this loads the chain) and keep it."""
        self._worker = await self.call(build, self.notify)
        return self._worker

    async def close(self) -> None:
        """Finish the queued work and end the thread. The worker's stores are closed by its owner, through `call`."""
        self.interrupt()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def interrupt(self) -> None:
        """Wake everyone who waits for a tip: the node is stopping."""
        self._closing = True
        _wake(self._tip_waiters)
        _wake(self._change_waiters)

    @property
    def worker(self) -> ChainWorker:
        if self._worker is None:
            raise RuntimeError("the chain is not open")
        return self._worker

    # ------------------------------------------------------------------ events

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def notify(self, notice: Notice) -> None:
        """Called in the writer thread."""
        self._to_loop(self._publish, notice)

    def _publish(self, notice: Notice) -> None:
        if notice.tip is not None:
            _wake(self._tip_waiters)
        _wake(self._change_waiters)
        for listener in self._listeners:
            for transaction in notice.accepted:
                listener.on_transaction_accepted(transaction)
            for txid, wtxid, reason in notice.removed:
                listener.on_transaction_removed(txid, wtxid, reason)  # type: ignore[arg-type]
            if notice.tip is not None or notice.connected or notice.disconnected:
                listener.on_tip_changed(notice.tip or self.tip(), notice.connected, notice.disconnected)
            for block_hash, verdict, reason in notice.rejected:
                listener.on_block_rejected(block_hash, verdict, reason)

    async def wait_for_tip(self, condition: Callable[[HeaderInfo], bool], timeout_s: float | None) -> HeaderInfo:
        """The tip once `condition` holds for it; the tip as it is when the time is over or the node stops."""
        return await self._wait(self._tip_waiters, lambda: condition(self.tip()), timeout_s)

    async def wait_for_change(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until `condition` holds, asking again after each change of chain or mempool; whether it does."""
        await self._wait(self._change_waiters, condition, timeout_s)
        return condition()

    async def _wait(
        self, waiters: set[asyncio.Future[None]], condition: Callable[[], bool], timeout_s: float | None
    ) -> HeaderInfo:
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        while not condition() and not self._closing:
            future: asyncio.Future[None] = self._loop.create_future()
            waiters.add(future)
            try:
                remaining = None if deadline is None else deadline - self._loop.time()
                if remaining is not None and remaining <= 0:
                    break
                async with asyncio.timeout(remaining):
                    await future
            except TimeoutError:
                break
            finally:
                waiters.discard(future)
        return self.tip()

    @property
    def closing(self) -> bool:
        return self._closing

    # ------------------------------------------------------------------ ChainReader

    @property
    def params(self) -> NetworkParams:
        return self._params

    def tip(self) -> HeaderInfo:
        worker = self.worker
        return worker.info(worker.chain.tip)

    def best_header(self) -> HeaderInfo:
        worker = self.worker
        return worker.info(worker.chain.index.best_header)

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        worker = self.worker
        entry = worker.chain.index.get(block_hash)
        return None if entry is None else worker.info(entry)

    def header_at(self, height: int) -> HeaderInfo | None:
        worker = self.worker
        active = worker.chain.index.active
        try:
            return worker.info(active[height]) if height >= 0 else None
        except IndexError:  # also when a reorganisation shortened the chain just now
            return None

    def ancestor(self, block_hash: bytes, height: int) -> HeaderInfo | None:
        worker = self.worker
        entry = worker.chain.index.get(block_hash)
        found = None if entry is None else entry.ancestor(height)
        return None if found is None else worker.info(found)

    def locator(self, block_hash: bytes | None = None) -> list[BlockHash]:
        index = self.worker.chain.index
        return index.locator(index.best_header if block_hash is None else index.get(block_hash))

    def fork_height(self, locator: Sequence[bytes]) -> Height:
        return Height(self.worker.chain.index.find_fork(locator).height)

    def missing_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        worker = self.worker
        target = worker.chain.index.get(block_hash)
        if target is None or limit <= 0:
            return []
        base = worker.chain.index.assumed_base
        if base is not None and target.ancestor(base.height) is not base:
            return []  # the blocks up to an unproved UTXO snapshot cannot be taken off again
        fork = last_common_ancestor(target, worker.chain.tip)
        return _not_stored(worker, target, fork.height, target.height, limit, window)

    def historical_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        worker = self.worker
        target = worker.chain.index.get(block_hash)
        background = worker.chain.background
        if background is None or target is None or limit <= 0:
            return []
        base = background.base
        if target.ancestor(base.height) is not base:
            return []
        # The snapshot's own block says how many transactions there are up to it, not that they are here.
        return _not_stored(worker, base, background.fork.height, base.height - 1, limit, window)

    def has_all_blocks(self) -> bool:
        return self.worker.chain.background is None

    def is_initial_block_download(self) -> bool:
        return self.worker.is_initial_block_download()

    def minimum_chain_work(self) -> Work:
        return Work(self.worker.chain.minimum_chain_work)

    # ------------------------------------------------------------------ ChainWriter, TransactionPool

    async def process_headers(self, headers: Sequence[bytes], *, min_pow_checked: bool = True) -> HeadersOutcome:
        return await self.call(self.worker.process_headers, headers, min_pow_checked=min_pow_checked)

    async def process_block(self, raw: bytes, *, requested: bool) -> BlockOutcome:
        return await self.call(self.worker.process_block, raw, requested=requested)

    async def process_transaction(self, raw: bytes) -> TransactionOutcome:
        return await self.call(self.worker.process_transaction, raw)

    async def read_block(self, block_hash: bytes) -> bytes | None:
        return await self.call(self._read_block, block_hash)

    def _read_block(self, block_hash: bytes) -> bytes | None:
        chain = self.worker.chain
        entry = chain.index.get(block_hash)
        if entry is None or not entry.have_data:
            return None
        try:
            return chain.read_block_raw(entry)
        except LocalFault as error:
            log.error("%s", error)
            return None

    async def block_filters(self, stop: bytes, heights: Sequence[int]) -> list[tuple[BlockHash, bytes]] | None:
        return await self.call(block_filters, self.worker.chain, self.worker.indexes, stop, heights)

    async def filter_headers(self, stop: bytes, heights: Sequence[int]) -> list[tuple[bytes, bytes]] | None:
        return await self.call(filter_headers, self.worker.chain, self.worker.indexes, stop, heights)

    def transaction_served(self, txid: Txid) -> None:
        """A peer asked for it: it is out, and need not be announced again."""
        self.worker.mempool.unbroadcast.discard(txid)

    def transaction_by_txid(self, txid: bytes) -> MempoolTransaction | None:
        entry = self.worker.mempool.get(txid)
        return None if entry is None else self.worker.view(entry)

    def transaction_by_wtxid(self, wtxid: bytes) -> MempoolTransaction | None:
        entry = self.worker.mempool.get_by_wtxid(wtxid)
        return None if entry is None else self.worker.view(entry)

    def spender(self, outpoint: OutPoint) -> MempoolTransaction | None:
        entry = self.worker.mempool.spender(outpoint)
        return None if entry is None else self.worker.view(entry)

    def all_transactions(self) -> Sequence[MempoolTransaction]:
        return [self.worker.view(entry) for entry in list(self.worker.mempool.entries.values())]

    def minimum_fee_rate_sat_per_kvb(self) -> int:
        return self.worker.mempool.min_fee_rate()

    def recently_confirmed(self, txid_or_wtxid: bytes) -> bool:
        return self.worker.recently_confirmed(txid_or_wtxid)


def _finish(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
    elif not future.cancelled():
        log.error("lost error in the chain thread: %s", error)


def _wake(waiters: set[asyncio.Future[None]]) -> None:
    for future in tuple(waiters):
        if not future.done():
            future.set_result(None)


def _not_stored(
    worker: ChainWorker, target: BlockIndexEntry, low: int, high: int, limit: int, window: int
) -> list[HeaderInfo]:
    """Of the blocks up to `target` above height `low`, those that are not on disk. Up to height `high` the
    chain_tx_count of a block tells whether all before it are.
    """
    # The window lies above the last block that is here with all before it, connected or not: a branch longer than
    # the window and not yet better than ours must not stall.
    stored, unknown = low, high + 1
    while unknown - stored > 1:
        middle = (stored + unknown) // 2
        entry = target.ancestor(middle)
        if entry is not None and entry.chain_tx_count:
            stored = middle
        else:
            unknown = middle
    found: list[HeaderInfo] = []
    for height in range(stored + 1, min(target.height, stored + window) + 1):
        entry = target.ancestor(height)
        if entry is None or entry.failed:
            break
        if not entry.have_data:
            found.append(worker.info(entry))
            if len(found) == limit:
                break
    return found
