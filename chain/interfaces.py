"""What the P2P layer asks of a node, as Protocols, so that neither imports the other.

Synchronous members are cheap reads of memory and safe on the event loop while the writer thread works. Asynchronous
ones go through the writer thread or the disk. Bytes from peers are handed over unparsed: whoever owns the chain parses
them, in its own thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from chain.params import NetworkParams
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash, Height, OutPoint, Txid, Work, Wtxid


class HeaderInfo(NamedTuple):
    """One header of the tree."""

    hash: BlockHash
    prev_hash: BlockHash
    height: Height
    time: int
    nbits: int
    chainwork: Work
    raw: bytes  #: 80 bytes
    have_data: bool  #: the whole block is on disk
    failed: bool  #: it, or an ancestor, is known to be invalid
    in_active_chain: bool


class Verdict(Enum):
    """What became of something that a peer sent. Only INVALID is the peer's fault; MUTATED is too, but says nothing
    about the hash."""

    ACCEPTED = auto()
    DUPLICATE = auto()  #: had it already
    REFUSED = auto()  #: policy, or not wanted now; no one's fault
    MISSING_PARENT = auto()  #: cannot be judged: previous header or spent coins unknown
    TOO_EARLY = auto()  #: time-too-new: may become valid
    INVALID = auto()
    MUTATED = auto()
    CACHED_INVALID = auto()  #: known to be invalid from before
    LOW_WORK = auto()


@dataclass(frozen=True, slots=True)
class HeadersOutcome:
    """`last` is the last header that was accepted (also when it was known before)."""

    verdict: Verdict
    last: HeaderInfo | None = None
    reason: str = ""
    new: int = 0


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """Judged only once the block has been connected, if it could be: a peer's pong after a block means this is
    known."""

    verdict: Verdict
    hash: BlockHash | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TransactionOutcome:
    """`missing` are the parents' txids for MISSING_PARENT; `replaced` left the mempool for it."""

    verdict: Verdict
    txid: Txid | None = None
    wtxid: Wtxid | None = None
    reason: str = ""
    missing: Sequence[Txid] = ()
    replaced: Sequence[Transaction] = ()
    #: INVALID only: the fault may lie in the witness alone, so the txid must not be remembered as rejected (BIP339)
    witness_may_be_stripped: bool = False


@dataclass(frozen=True, slots=True)
class MempoolTransaction:
    """What relay needs to know of a transaction in the mempool."""

    txid: Txid
    wtxid: Wtxid
    raw: bytes
    vsize: int
    fee: int
    fee_rate_sat_per_kvb: int
    time: float
    sequence: int  #: order of entry
    parents: Sequence[Txid] = field(default=())  #: in the mempool


class ChainReader(Protocol):
    """Reads of the header tree."""

    @property
    def params(self) -> NetworkParams: ...

    def tip(self) -> HeaderInfo:
        """The last connected block of the active chain."""

    def best_header(self) -> HeaderInfo:
        """The header with the most work that is not known to be invalid."""

    def header(self, block_hash: bytes) -> HeaderInfo | None: ...

    def header_at(self, height: int) -> HeaderInfo | None:
        """Of the active chain."""

    def ancestor(self, block_hash: bytes, height: int) -> HeaderInfo | None: ...

    def locator(self, block_hash: bytes | None = None) -> list[BlockHash]:
        """From that header back to genesis, thinning out (BIP-less, Core's CBlockLocator); from the best header without
        an argument."""

    def fork_height(self, locator: Sequence[bytes]) -> Height:
        """Height of the first locator entry in the active chain; 0 when there is none."""

    def missing_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        """On the way from our active chain to that header, lowest first: blocks not on disk, at most `window` above the
        last one in common."""

    def historical_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        """While a UTXO snapshot is being validated and that header builds on it: blocks below the snapshot that are not
        on disk, lowest first, at most `window` above the last one before which all are. Else none."""

    def has_all_blocks(self) -> bool:
        """Whether the active chain's blocks are all here (or were, and are pruned): False while a UTXO snapshot is
        being validated."""

    def is_initial_block_download(self) -> bool: ...

    def minimum_chain_work(self) -> Work: ...


class ChainWriter(Protocol):
    """What changes the chain, or reads the disk."""

    async def process_headers(self, headers: Sequence[bytes], *, min_pow_checked: bool = True) -> HeadersOutcome:
        """80 bytes each, each building on the one before."""

    async def process_block(self, raw: bytes, *, requested: bool) -> BlockOutcome: ...

    async def read_block(self, block_hash: bytes) -> bytes | None: ...


class FilterReader(Protocol):
    """Compact block filters (BIP157, BIP158), if the node keeps them."""

    async def block_filters(self, stop: bytes, heights: Sequence[int]) -> list[tuple[BlockHash, bytes]] | None:
        """(block hash, filter) of the blocks at these heights on the way to the block `stop`; None unless all are
        there."""

    async def filter_headers(self, stop: bytes, heights: Sequence[int]) -> list[tuple[bytes, bytes]] | None:
        """(filter hash, filter header) likewise."""


class TransactionPool(Protocol):
    """The mempool as relay sees it."""

    async def process_transaction(self, raw: bytes) -> TransactionOutcome: ...

    def transaction_by_txid(self, txid: bytes) -> MempoolTransaction | None: ...

    def transaction_by_wtxid(self, wtxid: bytes) -> MempoolTransaction | None: ...

    def spender(self, outpoint: OutPoint) -> MempoolTransaction | None: ...

    def all_transactions(self) -> Sequence[MempoolTransaction]: ...

    def minimum_fee_rate_sat_per_kvb(self) -> int:
        """What a full mempool asks for; 0 while it is not full. The relay minimum holds besides."""

    def recently_confirmed(self, txid_or_wtxid: bytes) -> bool: ...


class NodeForPeers(ChainReader, ChainWriter, FilterReader, TransactionPool, Protocol):
    """All of it: what `p2p.manager.PeerManager` is given."""


class NodeEvents(Protocol):
    """What the P2P layer is told. Called on the event loop, in the order in which things happened."""

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None: ...

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None: ...

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None: ...
