"""What the mempool keeps for a transaction, and what it reports when one comes or goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from chain.primitives.transaction import Transaction
from chain.primitives.types import Txid, Wtxid

if TYPE_CHECKING:
    from chain.mempool.graph import Cluster

#: The height that a coin created by an unconfirmed transaction carries (Core's MEMPOOL_HEIGHT).
MEMPOOL_HEIGHT: Final = 0x7FFFFFFF

# What Core's objects for a transaction take (memusage.h, rounded): the same limit then keeps the same part of the
# network's backlog, with the same minimum fee. Ours take about 2.5 times as much (measured with tracemalloc on CPython
# 3.11: 3 to 3.5 kB for one or two inputs and outputs).
_ENTRY_BYTES: Final = 600
_INPUT_BYTES: Final = 250
_OUTPUT_BYTES: Final = 50


class RemovalReason(StrEnum):
    """Why a transaction left (Core's names)."""

    EXPIRY = "expiry"
    SIZELIMIT = "sizelimit"
    REORG = "reorg"
    BLOCK = "block"
    CONFLICT = "conflict"
    REPLACED = "replaced"


class MempoolEntry:
    """One transaction in the mempool.

    Fees are satoshi; `modified_fee` is `fee` plus the operator's priority delta and is what selection, limits and
    replacement weigh. `adjusted_weight` is the weight, or 20 vbytes' worth per sigop if that is more, and `vsize` is
    a quarter of it rounded up. `time` is Unix seconds of arrival, `height` the tip's height then, `sequence` the
    mempool sequence then (0 if it came back from a block). `parents` and `children` are its direct neighbours in the
    mempool. Compared by identity; belongs to one mempool.
    """

    __slots__ = (
        "adjusted_weight",
        "children",
        "cluster",
        "fee",
        "has_relative_lock",
        "height",
        "modified_fee",
        "parents",
        "sequence",
        "sigop_cost",
        "spends_coinbase",
        "time",
        "tx",
        "txid",
        "usage",
        "vsize",
        "weight",
        "wtxid",
    )

    cluster: Cluster

    def __init__(
        self,
        tx: Transaction,
        *,
        fee: int,
        modified_fee: int,
        weight: int,
        adjusted_weight: int,
        sigop_cost: int,
        time: int,
        height: int,
        sequence: int,
        spends_coinbase: bool,
        has_relative_lock: bool,
    ) -> None:
        self.tx = tx
        self.txid: Txid = tx.txid
        self.wtxid: Wtxid = tx.wtxid
        self.fee = fee
        self.modified_fee = modified_fee
        self.weight = weight
        self.adjusted_weight = adjusted_weight
        self.vsize = (adjusted_weight + 3) // 4
        self.sigop_cost = sigop_cost
        self.time = time
        self.height = height
        self.sequence = sequence
        self.spends_coinbase = spends_coinbase
        self.has_relative_lock = has_relative_lock
        self.parents: set[MempoolEntry] = set()
        self.children: set[MempoolEntry] = set()
        self.usage = transaction_usage(tx)

    @property
    def fee_delta(self) -> int:
        """The operator's priority delta in satoshi."""
        return self.modified_fee - self.fee

    def __repr__(self) -> str:
        return f"MempoolEntry({self.txid[::-1].hex()}, fee {self.fee}, vsize {self.vsize})"


def transaction_usage(tx: Transaction) -> int:
    """Bytes that this transaction counts for against the memory limit."""
    return _ENTRY_BYTES + len(tx.raw) + _INPUT_BYTES * len(tx.prevouts) + _OUTPUT_BYTES * len(tx.values)


class AddedTx(NamedTuple):
    """A transaction that entered; `sequence` is the mempool sequence of the event (what ZMQ's `A` messages carry)."""

    entry: MempoolEntry
    sequence: int


class RemovedTx(NamedTuple):
    """A transaction that left, why, and the mempool sequence of the event (ZMQ's `R` messages; not announced for
    BLOCK)."""

    entry: MempoolEntry
    reason: RemovalReason
    sequence: int


@dataclass(frozen=True, slots=True)
class MempoolChange:
    """What a batch of chain events did to the mempool, each list in the order in which it happened."""

    added: list[AddedTx]
    removed: list[RemovedTx]


@dataclass(frozen=True, slots=True)
class AcceptResult:
    """A transaction that was accepted, or would be (`test_only`).

    `fee` (satoshi) without and `modified_fee` with the priority delta; `vsize` is sigop-adjusted virtual bytes. The
    effective fee rate is `effective_fee` / `effective_vsize`: the transaction's own, or that of the package in whose
    company it passed, whose members are `effective_wtxids`. `replaced` left in its favour, `evicted` because of the
    size limit or age; both empty for a test. `conflicts` names what a test would replace. `added` is None for a test.
    """

    txid: Txid
    wtxid: Wtxid
    fee: int
    modified_fee: int
    vsize: int
    weight: int
    effective_fee: int
    effective_vsize: int
    effective_wtxids: tuple[Wtxid, ...]
    added: AddedTx | None = None
    replaced: tuple[RemovedTx, ...] = ()
    evicted: tuple[RemovedTx, ...] = ()
    conflicts: tuple[Txid, ...] = ()

    @property
    def effective_fee_rate_sat_per_kvb(self) -> int:
        """Satoshi per 1000 virtual bytes, rounded down."""
        return self.effective_fee * 1000 // self.effective_vsize if self.effective_vsize else 0


@dataclass(frozen=True, slots=True)
class MempoolInfo:
    """Totals, for getmempoolinfo. Rates in satoshi per 1000 virtual bytes."""

    size: int
    bytes: int
    usage: int
    total_fee: int
    max_mempool: int
    mempool_min_fee: int
    min_relay_fee: int
    incremental_relay_fee: int
    unbroadcast_count: int
    sequence: int
    loaded: bool
