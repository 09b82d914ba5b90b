"""Which blocks to ask which peer for. Source: Core's FindNextBlocksToDownload and the timeouts in SendMessages.

Up to 16 blocks are in flight from each peer, at most 1,024 above the last block that is here with all before it on its
chain. When the window cannot move because of one peer's missing block, that peer is given two seconds (doubling when
it happens again, since then it may be our own line).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chain.interfaces import HeaderInfo
from chain.primitives.types import BlockHash, hash_to_hex
from p2p import log
from p2p.constants import (
    BLOCK_DOWNLOAD_TIMEOUT_BASE,
    BLOCK_DOWNLOAD_TIMEOUT_PER_PEER,
    BLOCK_DOWNLOAD_WINDOW,
    BLOCK_STALLING_TIMEOUT_DEFAULT_S,
    BLOCK_STALLING_TIMEOUT_MAX_S,
    MAX_BLOCKS_IN_TRANSIT_PER_PEER,
    NODE_NETWORK_LIMITED_MIN_BLOCKS,
)
from p2p.context import Context
from p2p.messages.inventory import MSG_BLOCK, MSG_CMPCT_BLOCK, MSG_WITNESS_FLAG, GetData, Inv
from p2p.peer import Peer

RECENT_INTERVALS = 20  #: "close to today": blocks are fetched as soon as their headers are announced
RECHECK_S = 1.0  #: how often to look for blocks although nothing seems to have changed


class BlockDownload:
    """The part of the engine that keeps blocks in flight."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self._in_flight: dict[BlockHash, list[int]] = {}  #: ids of the peers asked, first asked first
        #: blocks that have come and are with the chain, which has not stored them yet: nobody else is to be asked
        self.processing: Counter[BlockHash] = Counter()
        self.stalling_timeout_s: float = BLOCK_STALLING_TIMEOUT_DEFAULT_S
        self._last_look: dict[int, float] = {}
        self.use_compact: Callable[[Peer], bool] = lambda peer: False
        self.headers_arriving: Callable[[], bool] = lambda: False

    # --- what is in flight

    def requested(self, block_hash: BlockHash) -> bool:
        """Whether anybody has been asked for it."""
        return block_hash in self._in_flight

    def requested_from(self, block_hash: BlockHash) -> list[int]:
        """Ids of the peers asked for it."""
        return list(self._in_flight.get(block_hash, ()))

    @property
    def count(self) -> int:
        """Different blocks in flight."""
        return len(self._in_flight)

    def mark_requested(self, peer: Peer, header: HeaderInfo) -> None:
        """It has just been asked of this peer."""
        sync = peer.sync
        if header.hash in sync.in_flight:
            return
        if not sync.in_flight:
            sync.downloading_since = self._ctx.clock()
        sync.in_flight[header.hash] = header
        self._in_flight.setdefault(header.hash, []).append(peer.id)

    def mark_received(self, block_hash: BlockHash, peer: Peer | None = None) -> None:
        """It has come (from `peer`), or is wanted no more (None: from anybody)."""
        for peer_id in list(self._in_flight.get(block_hash, ())):
            if peer is not None and peer_id != peer.id:
                continue
            asked = self._ctx.peers.get(peer_id)
            self._in_flight[block_hash].remove(peer_id)
            if asked is not None and block_hash in asked.sync.in_flight:
                if next(iter(asked.sync.in_flight)) == block_hash:
                    asked.sync.downloading_since = max(asked.sync.downloading_since, self._ctx.clock())
                del asked.sync.in_flight[block_hash]
                asked.sync.stalling_since = 0.0
        if block_hash in self._in_flight and not self._in_flight[block_hash]:
            del self._in_flight[block_hash]
        self.look_again()

    @contextmanager
    def with_the_chain(self, block_hash: BlockHash) -> Iterator[None]:
        """While this lasts, the block is being judged."""
        self.processing[block_hash] += 1
        try:
            yield
        finally:
            self.processing[block_hash] -= 1
            if not self.processing[block_hash]:
                del self.processing[block_hash]
            self.look_again()

    def forget(self, peer: Peer) -> None:
        """The peer is gone: others may be asked for its blocks."""
        for block_hash in list(peer.sync.in_flight):
            self.mark_received(block_hash, peer)
        self._last_look.pop(peer.id, None)
        self.look_again()

    def look_again(self) -> None:
        """What is missing has changed: every peer may be asked for something else now."""
        for peer in self._ctx.peers.values():
            peer.sync.wants_download = True

    # --- what to ask for

    def can_direct_fetch(self) -> bool:
        """Our tip is recent."""
        return self._node.tip().time > self._ctx.clock() - self._node.params.block_interval_s * RECENT_INTERVALS

    def from_this_peer(self, peer: Peer) -> bool:
        """Whether to sync headers and blocks from it during initial download: outbound peers first, inbound ones when
        there are no others."""
        if peer.sync.preferred_download:
            return True
        if not peer.serves_blocks or peer.connection_type.value == "addr-fetch":
            return False
        return not self._in_flight or not any(p.sync.preferred_download for p in self._ctx.peers.values())

    def fill(self, peer: Peer) -> None:
        """Ask the peer for blocks until 16 are in flight, or there is nothing it could give; notices who holds everyone
        up."""
        sync = peer.sync
        now = self._ctx.clock()
        budget = MAX_BLOCKS_IN_TRANSIT_PER_PEER - len(sync.in_flight)
        if budget <= 0 or not peer.serves_blocks:
            return
        if not sync.wants_download and now - self._last_look.get(peer.id, 0.0) < RECHECK_S:
            return
        initial = self._node.is_initial_block_download()
        if initial and not (self.from_this_peer(peer) and not peer.limited):
            return
        if not initial and self.headers_arriving():
            return  # they are in the tree already, but whoever sent them is the first to be asked for the blocks
        sync.wants_download = False
        self._last_look[peer.id] = now
        wanted, staller = self._next_blocks(peer, budget)
        if len(wanted) < budget and not peer.limited:
            wanted += self._next_historical_blocks(peer, budget - len(wanted))
        if wanted:
            self._request(peer, wanted)
        if staller is not None and not sync.in_flight:
            slow = self._ctx.peers.get(staller)
            if slow is not None and not slow.sync.stalling_since:
                slow.sync.stalling_since = now
                log.net.debug("Stall started %s", slow)

    def _next_blocks(self, peer: Peer, budget: int) -> tuple[list[HeaderInfo], int | None]:
        """(blocks to request, id of the peer that the window waits for)."""
        best, tip = peer.sync.best_known, self._node.tip()
        if best is None or best.chainwork < tip.chainwork or best.chainwork < self._node.minimum_chain_work():
            return [], None
        if best.hash == tip.hash:
            return [], None
        # the window is one longer than what we request: reaching that one shows that only the missing blocks hold us up
        limit = len(self._in_flight) + len(self.processing) + budget + 1
        missing = self._node.missing_blocks(best.hash, limit, window=BLOCK_DOWNLOAD_WINDOW + 1)
        if not missing:
            return [], None
        # everything below the first missing block is here, connected or not
        window_end = missing[0].height - 1 + BLOCK_DOWNLOAD_WINDOW
        wanted: list[HeaderInfo] = []
        waiting_for: int | None = None
        for header in missing:
            if header.failed:
                break
            if not peer.serves_witnesses and header.height >= self._node.params.segwit_height:
                break
            asked = self._in_flight.get(header.hash)
            if asked:
                waiting_for = asked[0] if waiting_for is None else waiting_for
                continue
            if header.hash in self.processing:
                continue
            if header.height > window_end:
                if not wanted and waiting_for is not None and waiting_for != peer.id:
                    return [], waiting_for
                break
            if peer.limited and best.height - header.height >= NODE_NETWORK_LIMITED_MIN_BLOCKS - 2:
                continue
            wanted.append(header)
            if len(wanted) == budget:
                break
        return wanted, None

    def _next_historical_blocks(self, peer: Peer, budget: int) -> list[HeaderInfo]:
        """Blocks below a UTXO snapshot that is being validated. They come after those that the tip needs, and nobody is
        blamed for holding them up."""
        best = peer.sync.best_known
        if best is None or self._node.has_all_blocks():
            return []
        limit = len(self._in_flight) + len(self.processing) + budget
        wanted = []
        for header in self._node.historical_blocks(best.hash, limit, window=BLOCK_DOWNLOAD_WINDOW):
            if not peer.serves_witnesses and header.height >= self._node.params.segwit_height:
                break
            if header.hash not in self._in_flight and header.hash not in self.processing:
                wanted.append(header)
        return wanted[:budget]

    def _request(self, peer: Peer, headers: list[HeaderInfo], *, compact: bool = False) -> None:
        kind = MSG_BLOCK | (MSG_WITNESS_FLAG if peer.serves_witnesses else 0)
        for header in headers:
            self.mark_requested(peer, header)
            log.net.debug("Requesting block %s (%d) %s", hash_to_hex(header.hash), header.height, peer)
        if compact:
            kind = MSG_CMPCT_BLOCK
        self._ctx.send(peer, GetData(tuple(Inv(kind, h.hash) for h in headers)))

    def request_one(self, peer: Peer, header: HeaderInfo) -> None:
        """Ask for one block because the user said so."""
        self._request(peer, [header])

    def direct_fetch(self, peer: Peer, last: HeaderInfo) -> None:
        """Headers up to `last` have just come from this peer: ask it for the blocks if we are close to today.

        It need not offer NODE_NETWORK: whoever announces a block has it."""
        tip = self._node.tip()
        if not self.can_direct_fetch() or last.failed or tip.chainwork > last.chainwork:
            return
        segwit_height = self._node.params.segwit_height
        most = MAX_BLOCKS_IN_TRANSIT_PER_PEER + 1
        missing = self._node.missing_blocks(last.hash, most + 1 + len(self._in_flight) + len(self.processing))
        wanted = [h for h in missing if h.hash not in self._in_flight and h.hash not in self.processing]
        if len(wanted) > most:  # far behind, although our tip is recent: the window does that better
            log.net.debug("Large reorg, won't direct fetch to %s (%d)", hash_to_hex(last.hash), last.height)
            return
        if not peer.serves_witnesses:
            wanted = [h for h in wanted if h.height < segwit_height]
        wanted = wanted[: max(MAX_BLOCKS_IN_TRANSIT_PER_PEER - len(peer.sync.in_flight), 0)]
        if not wanted:
            return
        if len(wanted) > 1:
            log.net.debug(
                "Downloading blocks toward %s (%d) via headers direct fetch", hash_to_hex(last.hash), last.height
            )
        parent = self._node.header(last.prev_hash)
        alone = len(wanted) == 1 and not self._in_flight and parent is not None and parent.in_active_chain
        self._request(peer, wanted, compact=alone and self.use_compact(peer))

    # --- those who do not deliver

    def check_timeouts(self, peer: Peer) -> None:
        """Disconnect a peer that holds up the window, or has not delivered one block in a whole block interval."""
        sync, now = peer.sync, self._ctx.clock()
        if sync.stalling_since and sync.stalling_since < now - self.stalling_timeout_s:
            log.net.info("Peer is stalling block download, %s", peer.disconnect_text)
            peer.disconnect()
            longer = min(2 * self.stalling_timeout_s, BLOCK_STALLING_TIMEOUT_MAX_S)
            if longer != self.stalling_timeout_s:
                self.stalling_timeout_s = longer
                log.net.debug("Increased stalling timeout temporarily to %d seconds", longer)
            return
        if sync.in_flight:
            others = sum(1 for p in self._ctx.peers.values() if p.sync.in_flight) - 1
            intervals = BLOCK_DOWNLOAD_TIMEOUT_BASE + BLOCK_DOWNLOAD_TIMEOUT_PER_PEER * others
            if now > sync.downloading_since + self._node.params.block_interval_s * intervals:
                first = next(iter(sync.in_flight))
                log.net.info("Timeout downloading block %s, %s", hash_to_hex(first), peer.disconnect_text)
                peer.disconnect()

    def on_blocks_connected(self, count: int) -> None:
        """The chain moves: the stalling timeout shrinks back towards its default."""
        for _ in range(count):
            if self.stalling_timeout_s == BLOCK_STALLING_TIMEOUT_DEFAULT_S:
                break
            shorter = max(int(self.stalling_timeout_s * 0.85), BLOCK_STALLING_TIMEOUT_DEFAULT_S)
            self.stalling_timeout_s = shorter
            log.net.debug("Decreased stalling timeout to %d seconds", shorter)
