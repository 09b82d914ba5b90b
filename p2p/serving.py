"""What we give to others: headers, block inventories, blocks and transactions. Source: Core's ProcessGetData,
ProcessGetBlockData and the handlers of getheaders and getblocks."""

from __future__ import annotations

from chain.interfaces import HeaderInfo
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction
from chain.primitives.types import ZERO_HASH, BlockHash, hash_to_hex
from p2p import log
from p2p.block_download import BlockDownload
from p2p.constants import (
    MAX_BLOCKTXN_DEPTH,
    MAX_CMPCTBLOCK_DEPTH,
    MAX_GETBLOCKS_RESULTS,
    MAX_HEADERS_RESULTS,
    NODE_NETWORK_LIMITED_MIN_BLOCKS,
    STALE_RELAY_AGE_LIMIT_S,
    Services,
)
from p2p.context import Context
from p2p.errors import PeerDropped, PeerMisbehaviour
from p2p.messages.block import BlockMessage, without_witnesses
from p2p.messages.compact import BlockTxn, CmpctBlock, GetBlockTxn
from p2p.messages.headers import Headers
from p2p.messages.inventory import (
    MSG_BLOCK,
    MSG_CMPCT_BLOCK,
    MSG_TX,
    MSG_WITNESS_BLOCK,
    Inv,
    InvMessage,
    NotFound,
)
from p2p.messages.locators import GetBlocks, GetHeaders
from p2p.messages.tx import TxMessage
from p2p.peer import Peer
from p2p.permissions import Permission
from p2p.tx_relay import TxRelay

RECENT_BLOCKS = 2  #: serialized blocks kept, since every peer asks for the newest


class Serving:
    """The part of the engine that answers."""

    def __init__(self, ctx: Context, download: BlockDownload, transactions: TxRelay) -> None:
        self._ctx = ctx
        self._node = ctx.node
        self._download = download
        self._transactions = transactions
        self._recent: dict[BlockHash, bytes] = {}
        self._recent_txs: dict[bytes, Transaction] = {}

    # --- headers and inventories

    def on_getheaders(self, peer: Peer, message: GetHeaders) -> None:
        """Up to 2,000 headers of the active chain after the fork point; an empty answer while our chain has too little
        work to be of use."""
        tip = self._node.tip()
        if tip.chainwork < self._node.minimum_chain_work() and not peer.may(Permission.DOWNLOAD):
            log.net.debug(
                "Ignoring getheaders from peer=%d because active chain has too little work; sending empty response",
                peer.id,
            )
            self._ctx.send(peer, Headers(()))
            return
        if not message.locator:
            header = self._node.header(message.stop)
            if header is None:
                return
            if not self.may_serve(header):
                log.net.debug(
                    "ProcessMessage: ignoring request from peer=%d for old block header that isn't in the main chain",
                    peer.id,
                )
                return
            found = [header]
            if header.in_active_chain and message.stop != header.hash:
                found += self._active(header.height + 1, message.stop, MAX_HEADERS_RESULTS - 1)
        else:
            found = self._active(self._node.fork_height(message.locator) + 1, message.stop, MAX_HEADERS_RESULTS)
        log.net.debug(
            "getheaders %d to %s from peer=%d",
            found[0].height if found else -1,
            "end" if message.stop == ZERO_HASH else hash_to_hex(message.stop),
            peer.id,
        )
        # set back, not only forward: a tip that was announced but is not in this answer must be announced again
        peer.sync.best_sent = (
            found[-1] if len(found) == MAX_HEADERS_RESULTS or (found and found[-1].hash == message.stop) else tip
        )
        self._ctx.send(peer, Headers(tuple(BlockHeader(h.raw) for h in found)))

    def _active(self, height: int, stop: bytes, limit: int) -> list[HeaderInfo]:
        found: list[HeaderInfo] = []
        while len(found) < limit:
            header = self._node.header_at(height + len(found))
            if header is None:
                break
            found.append(header)
            if header.hash == stop:
                break
        return found

    def on_getblocks(self, peer: Peer, message: GetBlocks) -> None:
        """An inv of up to 500 blocks; serving the last one brings the next inv."""
        height = self._node.fork_height(message.locator) + 1
        log.net.debug(
            "getblocks %d to %s limit %d from peer=%d",
            height,
            "end" if message.stop == ZERO_HASH else hash_to_hex(message.stop),
            MAX_GETBLOCKS_RESULTS,
            peer.id,
        )
        for header in self._active(height, message.stop, MAX_GETBLOCKS_RESULTS):
            if header.hash == message.stop:
                log.net.debug(" getblocks stopping at %d %s", header.height, hash_to_hex(header.hash))
                return
            if not header.have_data:
                log.net.debug(
                    " getblocks stopping, pruned or too old block at %d %s", header.height, hash_to_hex(header.hash)
                )
                return
            peer.sync.announce_by_inv.append(header.hash)
        if len(peer.sync.announce_by_inv) >= MAX_GETBLOCKS_RESULTS:
            peer.sync.continuation = peer.sync.announce_by_inv[-1]
            log.net.debug(
                " getblocks stopping at limit %d %s",
                height + MAX_GETBLOCKS_RESULTS - 1,
                hash_to_hex(peer.sync.continuation),
            )

    def may_serve(self, header: HeaderInfo) -> bool:
        """Active blocks always; stale ones only while they are young and nearly as good as the tip, for old ones would
        fingerprint us."""
        if header.in_active_chain:
            return True
        best = self._node.best_header()
        if header.failed or not header.have_data or best.time - header.time >= STALE_RELAY_AGE_LIMIT_S:
            return False
        parent = self._node.header(best.prev_hash)
        proof = int(best.chainwork) - int(parent.chainwork) if parent is not None else int(best.chainwork)
        behind = (int(best.chainwork) - int(header.chainwork)) * self._node.params.block_interval_s // max(proof, 1)
        return behind < STALE_RELAY_AGE_LIMIT_S

    # --- getdata

    async def step(self, peer: Peer) -> None:
        """Answer a part of the peer's getdata queue: the transactions at its head, then one block. The caller looks at
        the send queue in between."""
        missing: list[Inv] = []
        queue = peer.getdata_queue
        while queue and queue[0].is_tx:
            inv = queue.popleft()
            if peer.tx is None:
                continue  # a peer that wants no announcements has no business asking
            found = self._find_transaction(peer, inv)
            if found is None:
                missing.append(inv)
            else:
                self._ctx.send(peer, TxMessage(found, stripped=inv.type == MSG_TX))
        if queue:
            inv = queue.popleft()
            if inv.is_block:
                await self._send_block(peer, inv)
        if missing:
            self._ctx.send(peer, NotFound(tuple(missing)))

    def _find_transaction(self, peer: Peer, inv: Inv) -> Transaction | None:
        entry = self._transactions.find_for_getdata(peer, inv)
        if entry is not None:
            return Transaction.parse(entry.raw)
        return self._recent_txs.get(inv.hash)

    async def _send_block(self, peer: Peer, inv: Inv) -> None:
        header = self._node.header(inv.hash)
        if header is None:
            return
        if not self.may_serve(header):
            log.net.debug(
                "ProcessGetBlockData: ignoring request from peer=%d for old block that isn't in the main chain", peer.id
            )
            return
        tip = self._node.tip()
        limited = not peer.our_services & Services.NETWORK and bool(peer.our_services & Services.NETWORK_LIMITED)
        if (
            limited
            and not peer.may(Permission.NOBAN)
            and tip.height - header.height > NODE_NETWORK_LIMITED_MIN_BLOCKS + 2
        ):
            raise PeerDropped("Ignore block request below NODE_NETWORK_LIMITED threshold")
        if not header.have_data:
            return
        raw = await self.read(header.hash)
        if raw is None:
            raise PeerDropped("Cannot load block from disk")
        if inv.type == MSG_BLOCK:
            self._ctx.send(peer, BlockMessage(without_witnesses(raw)))
        elif inv.type == MSG_WITNESS_BLOCK:
            self._ctx.send(peer, BlockMessage(raw))
        elif inv.type == MSG_CMPCT_BLOCK:
            if self._download.can_direct_fetch() and header.height >= tip.height - MAX_CMPCTBLOCK_DEPTH:
                self._ctx.send(peer, self.compact(raw))
            else:
                self._ctx.send(peer, BlockMessage(raw))
        if inv.hash == peer.sync.continuation:
            self._ctx.send(peer, InvMessage((Inv(MSG_BLOCK, tip.hash),)))
            peer.sync.continuation = None

    async def read(self, block_hash: BlockHash) -> bytes | None:
        """A block's bytes, from memory if it is one of the newest."""
        raw = self._recent.get(block_hash)
        if raw is None:
            raw = await self._node.read_block(block_hash)
        return raw

    def recent(self, block_hash: BlockHash) -> bytes | None:
        """A block's bytes if they are in memory."""
        return self._recent.get(block_hash)

    def remember(self, block_hash: BlockHash, raw: bytes) -> list[Transaction]:
        """Keep the new tip and its transactions: they have left the mempool, but were announced a moment ago and may
        still be asked for."""
        self._recent[block_hash] = raw
        while len(self._recent) > RECENT_BLOCKS:
            del self._recent[next(iter(self._recent))]
        transactions = Block.parse(raw).transactions
        self._recent_txs = {key: tx for tx in transactions for key in (tx.txid, tx.wtxid)}
        return transactions

    def compact(self, raw: bytes) -> CmpctBlock:
        """A compact block with a nonce of its own."""
        return CmpctBlock.from_block(Block.parse(raw), self._ctx.rng.getrandbits(64))

    async def on_getblocktxn(self, peer: Peer, message: GetBlockTxn) -> None:
        """The missing transactions of a recent block; all of an older one, which costs whoever asks as much as us."""
        header = self._node.header(message.block_hash)
        if header is None or not header.have_data:
            log.net.debug("Peer %d sent us a getblocktxn for a block we don't have", peer.id)
            return
        if header.height < self._node.tip().height - MAX_BLOCKTXN_DEPTH:
            log.net.debug("Peer %d sent us a getblocktxn for a block > %d deep", peer.id, MAX_BLOCKTXN_DEPTH)
            peer.getdata_queue.append(Inv(MSG_WITNESS_BLOCK, message.block_hash))
            return
        raw = await self.read(header.hash)
        if raw is None:
            raise PeerDropped("Cannot load block from disk")
        transactions = Block.parse(raw).transactions
        if any(index >= len(transactions) for index in message.indexes):
            raise PeerMisbehaviour("getblocktxn with out-of-bounds tx indices")
        self._ctx.send(peer, BlockTxn(header.hash, tuple(transactions[i] for i in message.indexes)))
