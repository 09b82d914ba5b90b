"""A block to be mined, as a value: what getblocktemplate tells miners and what in-node mining hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

from chain.consensus.bip54 import is_bip54_active
from chain.consensus.constants import (
    BIP54_PERIOD,
    BIP54_TIMEWARP_GRACE_S,
    MAX_BLOCK_SERIALIZED_SIZE,
    MAX_BLOCK_SIGOPS_COST,
    MAX_BLOCK_WEIGHT,
    MAX_TIMEWARP_S,
)
from chain.consensus.pow import next_nbits
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash, Nbits

MAX_TIME: Final = 0xFFFFFFFF  #: a header's 32 bits, which a clock that tests set may be beyond


class TemplateTx(NamedTuple):
    """A transaction of a template after the coinbase. `fee` in satoshi without priority delta; `depends` are the
    positions in the block (the coinbase is 0) of those whose outputs it spends, ascending."""

    tx: Transaction
    fee: int
    sigop_cost: int
    weight: int
    depends: tuple[int, ...]


@dataclass(frozen=True)
class BlockTemplate:
    """The next block, complete but for its nonce.

    `prev` is the block it builds on, `time` its timestamp and `min_time` the lowest allowed, in Unix seconds.
    `coinbase` pays all of `coinbase_value` (subsidy and `fees`, satoshi) to one script; whoever makes another
    coinbase must keep `witness_commitment` (an output script; None before segwit) and nLockTime. `sigop_cost` and
    `weight` are of the whole block with this coinbase. `chunk_fee_rates` are the (fee, sigop-adjusted weight) of what
    was selected, in order.
    """

    prev: BlockIndexEntry
    height: int
    version: int
    nbits: Nbits
    time: int
    min_time: int
    coinbase: Transaction
    coinbase_value: int
    fees: int
    transactions: tuple[TemplateTx, ...]
    witness_commitment: bytes | None
    sigop_cost: int
    chunk_fee_rates: tuple[tuple[int, int], ...] = ()
    mempool_updates: int = 0  #: Mempool.transactions_updated when it was made
    weight_limit: int = MAX_BLOCK_WEIGHT
    sigop_limit: int = MAX_BLOCK_SIGOPS_COST
    size_limit: int = MAX_BLOCK_SERIALIZED_SIZE

    @property
    def prev_hash(self) -> BlockHash:
        """The hash that the header's first field holds."""
        return self.prev.hash

    @property
    def target(self) -> int:
        """The block's hash, read as a little-endian integer, must not exceed it."""
        return target_from_nbits(self.nbits) or 0

    @cached_property
    def block(self) -> Block:
        """The block with nonce 0."""
        return self.build_block()

    @property
    def weight(self) -> int:
        """Of the whole block, in weight units."""
        return self.block.weight

    def build_block(
        self,
        coinbase: Transaction | None = None,
        *,
        time: int | None = None,
        version: int | None = None,
        nonce: int = 0,
    ) -> Block:
        """The block with another coinbase, timestamp, version or nonce."""
        transactions = [coinbase if coinbase is not None else self.coinbase, *(item.tx for item in self.transactions)]
        root, _ = merkle_root([tx.txid for tx in transactions])
        header = BlockHeader.build(
            self.version if version is None else version,
            self.prev.hash,
            root,
            self.time if time is None else time,
            self.nbits,
            nonce,
        )
        return Block.build(header, transactions)

    def at(self, now: int, params: NetworkParams) -> BlockTemplate:
        """The same template with its timestamp moved on to `now` (Unix seconds); where an old tip makes blocks
        easier, its target too."""
        time = max(self.min_time, min(now, MAX_TIME))
        if time <= self.time:
            return self
        nbits = next_nbits(self.prev, time, params) if params.allow_min_difficulty else self.nbits
        return replace(self, time=time, nbits=nbits)


def minimum_time(prev: BlockIndexEntry, params: NetworkParams) -> int:
    """The lowest timestamp that a block after `prev` should have, in Unix seconds.

    Above the median time past; and, where it binds or may come to bind (Core does it on all networks), within BIP94's
    ten minutes of the block before at the start of a difficulty period; and BIP54's bounds on both ends of its
    periods.
    """
    height = prev.height + 1
    lowest = prev.median_time_past() + 1
    if height % params.retarget_interval == 0:
        lowest = max(lowest, prev.time - MAX_TIMEWARP_S)
    if is_bip54_active(height, params):
        position = height % BIP54_PERIOD
        if position == 0:
            lowest = max(lowest, prev.time - BIP54_TIMEWARP_GRACE_S)
        elif position == BIP54_PERIOD - 1:
            first = prev.ancestor(height - position)
            if first is not None:
                lowest = max(lowest, first.time)
    return lowest


def dependencies(transactions: Sequence[Transaction]) -> list[tuple[int, ...]]:
    """For each of these transactions, which follow a coinbase, the positions in the block of those that it spends
    from."""
    positions: dict[bytes, int] = {}
    result = []
    for position, tx in enumerate(transactions, 1):
        found = {positions[outpoint[:32]] for outpoint in tx.prevouts if outpoint[:32] in positions}
        result.append(tuple(sorted(found)))
        positions[tx.txid] = position
    return result
