"""Serving compact block filters (BIP157) to peers, when the node offers them. Source of limits, checks and log lines:
Core's PrepareBlockFilterRequest and the handlers around it."""

from __future__ import annotations

from collections.abc import Callable

from chain.interfaces import HeaderInfo
from chain.primitives.types import ZERO_HASH, BlockHash, hash_to_hex
from p2p import log
from p2p.constants import CFCHECKPT_INTERVAL, MAX_GETCFHEADERS_SIZE, MAX_GETCFILTERS_SIZE, Services
from p2p.context import Context
from p2p.errors import PeerDropped
from p2p.messages.filters import (
    BASIC_FILTER,
    CFCheckpt,
    CFHeaders,
    CFilter,
    GetCFCheckpt,
    GetCFHeaders,
    GetCFilters,
)
from p2p.peer import FilterRange, Peer

_FILTERS_AT_ONCE = 20  #: read and queued before the send buffer is looked at again
_NO_LIMIT = 1 << 32


class FilterServing:
    """The part of the engine that answers getcfilters, getcfheaders and getcfcheckpt."""

    def __init__(self, ctx: Context, may_serve: Callable[[HeaderInfo], bool]) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self._may_serve = may_serve

    def _check(self, peer: Peer, filter_type: int, start: int, stop: BlockHash, limit: int) -> HeaderInfo:
        """The stop block of a request that may be answered; PeerDropped for one that no honest peer makes."""
        if filter_type != BASIC_FILTER or not peer.our_services & Services.COMPACT_FILTERS:
            raise PeerDropped(f"peer requested unsupported block filter type: {filter_type}")
        header = self._node.header(stop)
        if header is None or not self._may_serve(header):
            raise PeerDropped(f"peer requested invalid block hash: {hash_to_hex(stop)}")
        if start > header.height:
            raise PeerDropped(
                f"peer sent invalid getcfilters/getcfheaders with start height {start} and stop height {header.height}"
            )
        if header.height - start >= limit:
            raise PeerDropped(f"peer requested too many cfilters/cfheaders: {header.height - start + 1} / {limit}")
        return header

    def on_getcfilters(self, peer: Peer, message: GetCFilters) -> None:
        """Queue up to 1,000 filters; `step` sends them."""
        start = message.start_height
        stop = self._check(peer, message.filter_type, start, message.stop, MAX_GETCFILTERS_SIZE)
        peer.filter_queue.append(FilterRange(start, stop.height, stop.hash))

    async def step(self, peer: Peer) -> None:
        """Send some of the filters that the peer waits for."""
        wanted = peer.filter_queue[0]
        heights = range(wanted.next_height, min(wanted.next_height + _FILTERS_AT_ONCE, wanted.stop_height + 1))
        rows = await self._node.block_filters(wanted.stop, heights)
        wanted.next_height = heights.stop
        if rows is None or wanted.next_height > wanted.stop_height:
            peer.filter_queue.popleft()
        if rows is None:
            _not_found(heights.start, wanted.stop)
            return
        for block_hash, encoded in rows:
            self._ctx.send(peer, CFilter(BASIC_FILTER, block_hash, encoded))

    async def on_getcfheaders(self, peer: Peer, message: GetCFHeaders) -> None:
        """The hashes of up to 2,000 filters and the header before them."""
        start = message.start_height
        stop = self._check(peer, message.filter_type, start, message.stop, MAX_GETCFHEADERS_SIZE)
        rows = await self._node.filter_headers(stop.hash, range(max(start - 1, 0), stop.height + 1))
        if rows is None:
            _not_found(start, stop.hash)
            return
        prev_header = rows[0][1] if start else bytes(ZERO_HASH)
        hashes = tuple(filter_hash for filter_hash, _ in (rows[1:] if start else rows))
        self._ctx.send(peer, CFHeaders(BASIC_FILTER, stop.hash, prev_header, hashes))

    async def on_getcfcheckpt(self, peer: Peer, message: GetCFCheckpt) -> None:
        """Every thousandth filter header."""
        stop = self._check(peer, message.filter_type, 0, message.stop, _NO_LIMIT)
        heights = range(CFCHECKPT_INTERVAL, stop.height + 1, CFCHECKPT_INTERVAL)
        rows = await self._node.filter_headers(stop.hash, heights)
        if rows is None:
            _not_found(0, stop.hash)
            return
        self._ctx.send(peer, CFCheckpt(BASIC_FILTER, stop.hash, tuple(header for _, header in rows)))


def _not_found(start: int, stop: BlockHash) -> None:
    log.net.debug(
        "Failed to find block filter in index: filter_type=basic, start_height=%d, stop_hash=%s",
        start,
        hash_to_hex(stop),
    )
