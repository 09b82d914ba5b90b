"""Bringing a wallet up to date with a node: blocks by hash, reorganisations, then the mempool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction
from chain.primitives.types import hash_to_hex
from wallet.ledger import TxState
from wallet.sync.rpc import NodeError, RpcClient, RpcError
from wallet.wallet import OutOfStep, Wallet

MAX_BLOCKS_PER_BATCH = 200
TARGET_BATCH_BYTES = 4_000_000  #: of blocks; batches grow and shrink towards it
TRANSACTIONS_PER_BATCH = 200
MAX_ROUNDS = 20  #: a chain that changes this often while we read it is left for the next call

T = TypeVar("T")
Progress = Callable[[int, int], None]  #: (height reached, height of the node's tip)


@dataclass(frozen=True)
class SyncReport:
    """What one synchronization did."""

    tip_height: int
    blocks: int
    transactions: int
    reorganised_from: int | None  #: the height at which the old chain was left, None without a reorganisation
    node_is_syncing: bool


class _ChainChanged(Exception):
    """The node's chain moved while it was read: start again from the fork."""


class Synchronizer:
    """Keeps one wallet in step with one node. Create once and call `sync` as often as wanted: it remembers the mempool
    it has seen."""

    def __init__(self, wallet: Wallet, rpc: RpcClient, progress: Progress | None = None) -> None:
        self._wallet = wallet
        self._rpc = rpc
        self._progress = progress or (lambda height, tip: None)
        self._seen: set[str] = set()
        self._batch = 16
        self._checked_network = False

    async def sync(self, *, mempool: bool = True) -> SyncReport:
        """Follow the node to its tip, then take in its mempool. NodeError or RpcError when the node fails; what was
        read before is kept."""
        info = await self._check_node()
        self._wallet.refresh()
        start = self._wallet.tip_height
        if self._is_behind(info):
            return SyncReport(start, 0, 0, None, node_is_syncing=True)
        blocks = transactions = 0
        reorganised: int | None = None
        for _ in range(MAX_ROUNDS):
            try:
                left = await self._rewind_to_fork()
                reorganised = left if reorganised is None else reorganised
                more, found = await self._connect_to_tip()
            except _ChainChanged:
                continue
            blocks += more
            transactions += found
            if mempool:
                transactions += await self._take_mempool()
            if await self._rpc.call("getbestblockhash") == self._tip_hash_hex():
                break
        tip = self._wallet.tip_height
        return SyncReport(
            tip, max(blocks, tip - start), transactions, reorganised, bool(info.get("initialblockdownload"))
        )

    def _is_behind(self, info: dict[str, Any]) -> bool:
        """Whether the node is still downloading the chain that we already know. Its short chain is no reorganisation:
        following it down would only make confirmed payments look unconfirmed."""
        point = self._wallet.sync_point
        height = int(info["blocks"])
        if point is None or not info.get("initialblockdownload") or height >= point.height:
            return False
        ours = dict(point.trail).get(height)
        return ours is None or hash_to_hex(ours) == info.get("bestblockhash")

    async def _check_node(self) -> dict[str, Any]:
        info = await self._rpc.ask(dict, "getblockchaininfo")
        if not self._checked_network:
            params = self._wallet.params
            genesis = await self._rpc.call("getblockhash", 0)
            if genesis != hash_to_hex(params.genesis.hash):
                raise NodeError(
                    f"the node at {self._rpc.address.url} runs the network '{info.get('chain')}', "
                    f"the wallet is on '{params.name}': use that network's node, or --network"
                )
            self._checked_network = True
        if not isinstance(info.get("blocks"), int):
            raise NodeError(f"{self._rpc.address.url} does not answer getblockchaininfo like a node")
        return info

    def _tip_hash_hex(self) -> str | None:
        point = self._wallet.sync_point
        return hash_to_hex(point.block_hash) if point is not None else None

    async def _rewind_to_fork(self) -> int | None:
        """If our tip left the node's chain, go back to the last block they share; the height of the abandoned tip."""
        point = self._wallet.sync_point
        if point is None or await self._is_active(point.height, point.block_hash):
            return None
        for chunk in _chunks(point.trail, 100):
            hashes = await self._rpc.batch([("getblockhash", [height]) for height, _ in chunk])
            for (height, block_hash), active in zip(chunk, hashes, strict=True):
                if active == hash_to_hex(block_hash):
                    header = await self._rpc.call("getblockheader", active, False)
                    self._wallet.rewind(height, block_hash, _header(header).time)
                    return point.height
        self._wallet.forget_chain()
        return point.height

    async def _is_active(self, height: int, block_hash: bytes) -> bool:
        (active,) = await self._rpc.batch([("getblockhash", [height])])
        return bool(active == hash_to_hex(block_hash))

    async def _connect_to_tip(self) -> tuple[int, int]:
        """Read the blocks after our tip; (blocks, relevant transactions)."""
        wallet = self._wallet
        tip = await self._rpc.ask(int, "getblockcount")
        blocks = found = 0
        while wallet.tip_height < tip:
            first = wallet.tip_height + 1
            if first == 0:
                first = min(int(wallet.meta["birthday_height"]), tip)
            heights = list(range(first, min(first + self._batch, tip + 1)))
            batch = await self._fetch(heights)
            try:
                found += wallet.connect_blocks(list(zip(heights, batch, strict=True)))
            except OutOfStep:
                raise _ChainChanged from None
            blocks += len(batch)
            self._progress(heights[-1], tip)
            if heights[-1] == tip:
                tip = await self._rpc.ask(int, "getblockcount")
        return blocks, found

    async def _fetch(self, heights: list[int]) -> list[Block]:
        hashes = await self._rpc.batch([("getblockhash", [height]) for height in heights])
        if any(isinstance(item, RpcError) for item in hashes):
            raise _ChainChanged  # the chain got shorter
        raws = await self._rpc.batch([("getblock", [item, 0]) for item in hashes])
        blocks: list[Block] = []
        size = 0
        for wanted, raw in zip(hashes, raws, strict=True):
            if isinstance(raw, RpcError):
                if "pruned" in raw.message:
                    raise NodeError(
                        "the node has pruned blocks that this wallet still needs: use a node that keeps all blocks"
                    ) from raw
                raise _ChainChanged from raw
            try:
                block = Block.parse(bytes.fromhex(raw))
            except (DecodeError, ValueError, TypeError) as error:
                raise NodeError(f"the node sent a malformed block {wanted}: {error}") from error
            if hash_to_hex(block.hash) != wanted:
                raise NodeError(f"the node sent another block than {wanted}")
            if blocks and block.header.prev_hash != blocks[-1].hash:
                raise _ChainChanged
            blocks.append(block)
            size += len(block.raw)
        mean = max(size // len(blocks), 1)
        self._batch = max(1, min(MAX_BLOCKS_PER_BATCH, TARGET_BATCH_BYTES // mean, self._batch * 4))
        return blocks

    async def _take_mempool(self) -> int:
        """Pending transactions: new ones that concern us, and ours that are no longer there. How many are new to us."""
        wallet = self._wallet
        present = {str(txid) for txid in await self._rpc.ask(list, "getrawmempool")}
        if await self._rpc.call("getbestblockhash") != self._tip_hash_hex():
            return 0  # some may have just been confirmed: the next round knows
        known = {hash_to_hex(txid): entry for txid, entry in wallet.entries.items()}
        found = 0
        with wallet.changing():
            for txid_hex, entry in known.items():
                if entry.state is TxState.PENDING:
                    if txid_hex in present:
                        wallet.set_state(entry.tx.txid, TxState.PENDING, in_mempool=True)
                    else:  # ours is kept and can be sent again; another's has no claim on the balance
                        gone = TxState.PENDING if entry.is_own else TxState.DROPPED
                        wallet.set_state(entry.tx.txid, gone)
                elif entry.state is not TxState.CONFIRMED and txid_hex in present:
                    wallet.add_pending(entry.tx)
                    found += 1
        unseen = [txid for txid in present if txid not in self._seen and txid not in known]
        while unseen:
            new = 0
            for chunk in _chunks(unseen, TRANSACTIONS_PER_BATCH):
                raws = await self._rpc.batch([("getrawtransaction", [txid, False]) for txid in chunk])
                new += self._add_relevant(raw for raw in raws if isinstance(raw, str))
            found += new
            if not new or len(unseen) <= TRANSACTIONS_PER_BATCH:
                break
            recorded = {
                hash_to_hex(txid) for txid in wallet.entries
            }  # a child may have come in an earlier chunk than its parent
            unseen = [txid for txid in unseen if txid not in recorded]
        self._seen = present
        return found

    def _add_relevant(self, raws: Iterable[str]) -> int:
        """Record those that concern us. A child may come before its parent, so the rest is looked at until nothing new
        turns up."""
        waiting: list[Transaction] = []
        for raw in raws:
            try:
                waiting.append(Transaction.parse(bytes.fromhex(raw)))
            except (DecodeError, ValueError) as error:
                raise NodeError(f"the node sent a malformed transaction: {error}") from error
        found = 0
        while True:
            relevant = [tx for tx in waiting if self._wallet.is_relevant(tx)]
            if not relevant:
                return found
            with self._wallet.changing():
                for tx in relevant:
                    self._wallet.add_pending(tx)
            found += len(relevant)
            taken = {tx.txid for tx in relevant}
            waiting = [tx for tx in waiting if tx.txid not in taken]


def _header(raw_hex: str) -> BlockHeader:
    try:
        return BlockHeader.parse(bytes.fromhex(raw_hex))
    except (DecodeError, ValueError, TypeError) as error:
        raise NodeError(f"the node sent a malformed block header: {error}") from error


def _chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
