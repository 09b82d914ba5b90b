"""Which indexes a node keeps, and the work on them while the chain's thread has nothing better to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain.chainstate import Chainstate
from chain.indexes.addresses import AddressIndex
from chain.indexes.base import Index
from chain.indexes.coin_stats import CoinStatsIndex
from chain.indexes.filters import BlockFilterIndex
from chain.indexes.follow import INDEXES_DIR, IndexSet
from chain.indexes.transactions import TransactionIndex
from chain.interfaces import HeaderInfo, MempoolTransaction, Verdict
from chain.primitives.errors import UserError
from chain.primitives.types import BlockHash, Txid, Wtxid
from node.chain_service import ChainService
from node.config import NodeConfig

log = logging.getLogger("pickaxe.node")

#: in Core's order, which decides whose name an error bears
INDEXES: Final[tuple[type[Index], ...]] = (TransactionIndex, BlockFilterIndex, CoinStatsIndex, AddressIndex)

SLICE_S: Final = 0.02  #: of the chain's thread; what else waits for it waits no longer than this, or one block
SYNC_SHARE: Final = 0.1  #: of its time while blocks are being connected
IDLE_S: Final = 10.0  #: between looks at what no new tip announces


def open_indexes(config: NodeConfig, chain: Chainstate, folder: Path) -> IndexSet:
    """The indexes that the settings ask for, below the network's `folder`."""
    wanted = {
        TransactionIndex: config.tx_index,
        CoinStatsIndex: config.coin_stats_index,
        AddressIndex: config.address_index,
        BlockFilterIndex: bool(config.block_filter_index),
    }
    opened: list[Index] = []
    try:
        for kind in INDEXES:
            if wanted[kind]:
                opened.append(kind(chain, folder / INDEXES_DIR, wipe=config.reindex))
    except BaseException:
        for index in opened:
            index.close()
        raise
    return IndexSet(chain, opened)


def check_not_pruned(indexes: IndexSet) -> None:
    """UserError, in Core's words, if an index needs a block that was deleted."""
    lost = indexes.first_lost()
    if lost is not None:
        raise UserError(
            f"{lost[0].title} best block of the index goes beyond pruned data (including undo data). Please disable the"
            " index or reindex (which will download the whole blockchain again)"
        )


def _slice(indexes: IndexSet) -> tuple[bool, float]:
    """(whether there is more to do, how long this took)."""
    start = time.monotonic()
    return indexes.work(SLICE_S), time.monotonic() - start


class IndexDriver:
    """Runs `IndexSet.work` in slices. A listener of the chain service: new tips wake it."""

    def __init__(self, service: ChainService) -> None:
        self._service = service
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. LocalFault when an index cannot go on."""
        service = self._service
        indexes = service.worker.indexes
        if not indexes:
            return
        for index in indexes:
            log.info("%s thread start", index.title)
            if not index.ready:
                log.info("Syncing %s with block chain from height %d", index.title, max(index.height, 0))
        while True:
            self._news.clear()
            more, spent_s = await service.call(_slice, indexes)
            if self._is_syncing():
                await asyncio.sleep(spent_s * (1 / SYNC_SHARE - 1))
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S):
                        await self._news.wait()

    def wake(self) -> None:
        """Blocks below a UTXO snapshot have been validated: indexes that wait for them can go on."""
        self._news.set()

    def _is_syncing(self) -> bool:
        return self._service.tip().height < self._service.best_header().height

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        self._news.set()

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None:
        """Of no interest here."""

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        """Of no interest here."""

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None:
        """Of no interest here."""
