"""Receiving compact blocks (BIP152): rebuild a block from short ids and our mempool, ask for what is missing. Source:
Core's handling of cmpctblock.

Only blocks at most two above our tip are rebuilt, and at most three peers' versions of one block at a time;
everything else is treated as an announcement of its header. A block that was rebuilt wrongly (short ids can collide)
is fetched whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from chain.interfaces import HeaderInfo
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash, hash_to_hex
from p2p import log
from p2p.block_download import BlockDownload
from p2p.constants import MAX_BLOCKS_IN_TRANSIT_PER_PEER, MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK
from p2p.context import Context
from p2p.errors import PeerMisbehaviour
from p2p.header_sync import HeaderSync, header_work
from p2p.messages.compact import CmpctBlock, GetBlockTxn, SendCmpct, short_id, short_id_key
from p2p.messages.inventory import MSG_WITNESS_BLOCK, GetData, Inv
from p2p.peer import Peer

MAX_ANNOUNCING_PEERS = 3  #: asked to send cmpctblock without being asked
MIN_TX_WEIGHT = 4 * 60  #: no transaction is smaller than 60 bytes: bounds how many a block can claim
MAX_BLOCK_WEIGHT = 4_000_000
#: kept although they are not in the mempool: replaced or refused ones are often mined all the same (Core's
#: -blockreconstructionextratxn and its bound on the size of each)
EXTRA_TRANSACTIONS, MAX_EXTRA_SIZE = 100, 100_000

ProcessBlock = Callable[[Peer, bytes, BlockHash], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Partial:
    """A block being rebuilt from one peer's compact block; None marks a transaction that we lack. `tried`: it has
    failed once."""

    header: BlockHeader
    transactions: list[Transaction | None]
    tried: bool = False

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(i for i, tx in enumerate(self.transactions) if tx is None)


class CompactBlocks:
    """The part of the engine that receives compact blocks."""

    def __init__(self, ctx: Context, headers: HeaderSync, download: BlockDownload, process_block: ProcessBlock) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self._headers = headers
        self._download = download
        self._process_block = process_block
        self._partials: dict[tuple[int, BlockHash], Partial] = {}
        self._announcing: list[int] = []
        self._extra: deque[Transaction] = deque(maxlen=EXTRA_TRANSACTIONS)

    def keep_extra(self, tx: Transaction) -> None:
        """A transaction that is not in the mempool but may be in a block."""
        if tx.total_size < MAX_EXTRA_SIZE:
            self._extra.append(tx)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        for key in [k for k in self._partials if k[0] == peer.id]:
            del self._partials[key]
        if peer.id in self._announcing:
            self._announcing.remove(peer.id)

    def on_sendcmpct(self, peer: Peer, message: SendCmpct) -> None:
        """The peer speaks compact blocks, and perhaps wants ours unasked."""
        if message.version == SendCmpct.__dataclass_fields__["version"].default:
            peer.sync.provides_compact = True
            peer.sync.wants_compact = message.high_bandwidth

    def usable(self, peer: Peer) -> bool:
        """Whether to ask the peer for a compact block rather than a whole one."""
        return self._ctx.config.compact_blocks and not self._ctx.config.blocks_only and peer.sync.provides_compact

    def on_valid_block(self, peer: Peer) -> None:
        """The peer was the first with a valid new tip: it may announce the next ones by compact block."""
        if not self.usable(peer) or peer.id not in self._ctx.peers:
            return
        if peer.id in self._announcing:
            self._announcing.remove(peer.id)
            self._announcing.append(peer.id)
            return
        if len(self._announcing) >= MAX_ANNOUNCING_PEERS:
            self._make_room(peer)
        self._ctx.send(peer, SendCmpct(high_bandwidth=True))
        peer.sync.compact_to = True
        self._announcing.append(peer.id)

    def _make_room(self, newcomer: Peer) -> None:
        """The one that was first longest ago goes, unless it is the last outbound one and the newcomer is inbound."""
        peers = self._ctx.peers
        outbound = [i for i in self._announcing if i in peers and not peers[i].inbound]
        index = 1 if newcomer.inbound and len(outbound) == 1 and self._announcing[0] == outbound[0] else 0
        old = peers.get(self._announcing.pop(index))
        if old is not None:
            self._ctx.send(old, SendCmpct(high_bandwidth=False))
            old.sync.compact_to = False

    # --- cmpctblock

    async def on_cmpctblock(self, peer: Peer, message: CmpctBlock) -> None:
        """PeerMisbehaviour if it is impossible."""
        header = message.header
        parent = self._node.header(header.prev_hash)
        if parent is None:
            if not self._node.is_initial_block_download():
                self._headers.request(peer)
            return
        if int(parent.chainwork) + header_work(header) < self._headers.anti_dos_work():
            log.net.debug("Ignoring low-work compact block from peer %d", peer.id)
            return
        known = self._node.header(header.hash)
        last = known
        if known is None or known.failed:
            self._headers.check_form([header])
            last = await self._headers.store(peer, [header], via_compact_block=True)
        if last is None:
            return
        self._headers.announced(peer, last.hash)
        tip = self._node.tip()
        if known is None and last.chainwork > tip.chainwork:
            peer.sync.last_announcement = self._ctx.clock()
        last = self._node.header(last.hash) or last
        if last.have_data:
            return
        asked = self._download.requested_from(last.hash)
        from_this_peer = peer.id in asked
        if last.chainwork <= tip.chainwork:
            if from_this_peer:
                self._fetch_whole(peer, last.hash)
            return
        if not asked and not self._download.can_direct_fetch():
            return
        if last.height > tip.height + 2:
            if from_this_peer:
                self._fetch_whole(peer, last.hash)
            else:
                await self._headers.on_headers(peer, [header], via_compact_block=True)
            return
        await self._rebuild(peer, message, last, asked)

    async def _rebuild(self, peer: Peer, message: CmpctBlock, last: HeaderInfo, asked: list[int]) -> None:
        if (peer.id, last.hash) in self._partials and peer.id in asked:
            log.net.debug("Peer sent us compact block we were already syncing!")
            return
        first = not asked or asked[0] == peer.id
        room = (
            len(asked) < MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK
            and len(peer.sync.in_flight) < MAX_BLOCKS_IN_TRANSIT_PER_PEER
        )
        partial = self._begin(peer, message, last.hash)
        if not room and peer.id not in asked:
            if partial is not None and not partial.missing:  # others are being asked, but this is complete
                await self._finish(peer, last.hash, partial, first=False, reply=False)
            return
        self._download.mark_requested(peer, last)
        if partial is None:
            if first:
                self._fetch_whole(peer, last.hash)
            else:
                self._download.mark_received(last.hash, peer)
            return
        self._partials[peer.id, last.hash] = partial
        missing = partial.missing
        if not missing:
            await self._finish(peer, last.hash, partial, first=first, reply=True)
        elif first or self._may_ask_too(peer, asked):
            self._ctx.send(peer, GetBlockTxn(last.hash, missing))
        else:
            self._drop(peer, last.hash)

    def _may_ask_too(self, peer: Peer, asked: list[int]) -> bool:
        """Whether a peer that is not the first is asked as well. The last place is kept for an outbound one, so that
        inbound peers alone cannot hold us up."""
        if not peer.sync.compact_to:
            return False
        outbound_asked = any(i in self._ctx.peers and not self._ctx.peers[i].inbound for i in asked)
        return not peer.inbound or outbound_asked or len(asked) < MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK - 1

    def prune(self) -> None:
        """Forget what is being rebuilt of blocks that nobody is asked for any more."""
        for peer_id, block_hash in [k for k in self._partials if k[0] not in self._download.requested_from(k[1])]:
            del self._partials[peer_id, block_hash]

    def _begin(self, peer: Peer, message: CmpctBlock, block_hash: BlockHash) -> Partial | None:
        """What the mempool fills in; None if short ids collide. PeerMisbehaviour for a block that cannot be."""
        count = len(message.short_ids) + len(message.prefilled)
        bad = not count or count > MAX_BLOCK_WEIGHT // MIN_TX_WEIGHT
        transactions: list[Transaction | None] = [None] * count
        for index, tx in message.prefilled:
            if index >= count or not tx.prevouts:
                bad = True
                break
            transactions[index] = tx
        if bad:
            self._download.mark_received(block_hash, peer)
            raise PeerMisbehaviour("invalid compact block")
        free = (i for i in range(count) if transactions[i] is None)
        wanted = dict(zip(message.short_ids, list(free), strict=False))
        if len(wanted) != len(message.short_ids):
            return None
        self._fill_from_pool(message, wanted, transactions)
        log.cmpctblock.debug(
            "Initialized PartiallyDownloadedBlock for block %s using a cmpctblock of %d transactions",
            hash_to_hex(block_hash),
            count,
        )
        return Partial(message.header, transactions)

    def _fill_from_pool(
        self, message: CmpctBlock, wanted: dict[bytes, int], transactions: list[Transaction | None]
    ) -> None:
        key = short_id_key(message.header, message.nonce)
        ambiguous: set[int] = set()
        if not wanted:
            return
        for entry in self._node.all_transactions():
            index = wanted.get(short_id(key, entry.wtxid))
            if index is None:
                continue
            if transactions[index] is None:
                transactions[index] = Transaction.parse(entry.raw)
            else:
                ambiguous.add(index)
        for tx in self._extra:
            index = wanted.get(short_id(key, tx.wtxid))
            if index is None:
                continue
            present = transactions[index]
            if present is None:
                transactions[index] = tx
            elif present.wtxid != tx.wtxid:
                ambiguous.add(index)
        for index in ambiguous:  # two match: ask
            transactions[index] = None

    def _fetch_whole(self, peer: Peer, block_hash: BlockHash) -> None:
        self._ctx.send(peer, GetData((Inv(MSG_WITNESS_BLOCK, block_hash),)))

    def _drop(self, peer: Peer, block_hash: BlockHash) -> None:
        self._partials.pop((peer.id, block_hash), None)
        self._download.mark_received(block_hash, peer)

    # --- blocktxn

    async def on_blocktxn(self, peer: Peer, block_hash: BlockHash, transactions: Sequence[Transaction]) -> None:
        """PeerMisbehaviour if these are not the ones asked for."""
        partial = self._partials.get((peer.id, block_hash))
        asked = self._download.requested_from(block_hash)
        if partial is None or peer.id not in asked:
            log.net.debug("Peer %d sent us block transactions for block we weren't expecting", peer.id)
            return
        if partial.tried:
            self._drop(peer, block_hash)
            raise PeerMisbehaviour("previous compact block reconstruction attempt failed")
        missing = partial.missing
        if len(transactions) != len(missing):
            self._drop(peer, block_hash)
            raise PeerMisbehaviour("invalid compact block/non-matching block transactions")
        filled = list(partial.transactions)
        for index, tx in zip(missing, transactions, strict=True):
            filled[index] = tx
        await self._finish(peer, block_hash, Partial(partial.header, filled), first=asked[0] == peer.id, reply=True)

    async def _finish(self, peer: Peer, block_hash: BlockHash, partial: Partial, *, first: bool, reply: bool) -> None:
        transactions = [tx for tx in partial.transactions if tx is not None]
        root, mutated = merkle_root([tx.txid for tx in transactions])
        if mutated or root != partial.header.merkle_root:
            if not reply:
                return
            if first:  # a collision, or a lie: the whole block will tell
                stored = self._partials.get((peer.id, block_hash))
                if stored is not None:
                    stored.tried = True
                self._fetch_whole(peer, block_hash)
            else:
                log.net.debug(
                    "Peer %d sent us a compact block but it failed to reconstruct, "
                    "waiting on first download to complete",
                    peer.id,
                )
                self._drop(peer, block_hash)
            return
        self._drop(peer, block_hash)
        await self._process_block(peer, Block.build(partial.header, transactions).raw, block_hash)
