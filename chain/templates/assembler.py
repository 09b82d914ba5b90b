"""Choosing the transactions of the next block (Core's node/miner.cpp).

The mempool's chunks are taken by falling fee rate, priority deltas counted, while they fit. What does not fit is
skipped together with the rest of its cluster, which may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chain.chainstate import Chainstate
from chain.consensus.constants import MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT
from chain.consensus.deployments import Deployment, VersionBits, is_active
from chain.consensus.pow import next_nbits
from chain.consensus.subsidy import block_subsidy
from chain.consensus.tx import is_final
from chain.index import BlockIndexEntry
from chain.mempool.entries import MempoolEntry
from chain.mempool.graph import Cluster
from chain.mempool.pool import Mempool
from chain.primitives.transaction import Transaction
from chain.script.flags import STANDARD_FLAGS
from chain.script.script import legacy_sigop_count, sigop_cost
from chain.templates.coinbase import commitment_script, make_coinbase
from chain.templates.template import MAX_TIME, BlockTemplate, TemplateTx, dependencies, minimum_time

DEFAULT_RESERVED_WEIGHT: Final = 8_000  #: for header, count and coinbase (Core's -blockreservedweight)
MINIMUM_RESERVED_WEIGHT: Final = 2_000
DEFAULT_RESERVED_SIGOPS: Final = 400  #: for a miner's own coinbase outputs
DEFAULT_MIN_FEE_RATE: Final = 1  #: satoshi per kvB (Core's -blockmintxfee)
#: When this many chunks in a row did not fit and less than this weight is left, the block counts as full.
_MAX_CONSECUTIVE_FAILURES: Final = 1000
_FULL_ENOUGH_WEIGHT: Final = 4_000


def assemble(
    chain: Chainstate,
    mempool: Mempool,
    script_pubkey: bytes,
    *,
    coinbase_extra: bytes = b"",
    extranonce: bytes = b"",
    max_weight: int = MAX_BLOCK_WEIGHT,
    reserved_weight: int = DEFAULT_RESERVED_WEIGHT,
    reserved_sigops: int = DEFAULT_RESERVED_SIGOPS,
    min_fee_rate_sat_per_kvb: int = DEFAULT_MIN_FEE_RATE,
    now: int | None = None,
    version_bits: VersionBits | None = None,
    check: bool = False,
) -> BlockTemplate:
    """The best next block that the mempool has to offer, its coinbase paying everything to `script_pubkey`.

    `max_weight` bounds the block, of which `reserved_weight` is kept for header and coinbase, and of the sigop limit
    `reserved_sigops`. Chunks below `min_fee_rate_sat_per_kvb` are left out. `coinbase_extra` is appended to the
    coinbase's scriptSig, `extranonce` pushed before it. `now` is in Unix seconds, the mempool's clock by default.
    `version_bits` carries cached signalling states from one call to the next. With `check` the result is verified as
    a block would be; ConsensusError then means a defect in the mempool, not in the caller.
    """
    prev = chain.tip
    chosen, chunk_fee_rates = _select(
        prev, mempool, max_weight, reserved_weight, reserved_sigops, min_fee_rate_sat_per_kvb
    )
    positions: dict[MempoolEntry, int] = {}
    transactions = []
    for position, entry in enumerate(chosen, 1):
        parents = entry.parents
        depends = tuple(sorted(positions[parent] for parent in parents)) if parents else ()
        transactions.append(TemplateTx(entry.tx, entry.fee, entry.sigop_cost, entry.weight, depends))
        positions[entry] = position
    template = _finish(
        chain,
        transactions,
        script_pubkey,
        coinbase_extra=coinbase_extra,
        extranonce=extranonce,
        now=int(mempool.clock()) if now is None else now,
        version_bits=version_bits,
        fees=sum(entry.fee for entry in chosen),
        chunk_fee_rates=chunk_fee_rates,
        mempool_updates=mempool.transactions_updated,
    )
    if check:
        chain.test_block_validity(template.block)
    return template


def assemble_exact(
    chain: Chainstate,
    transactions: Sequence[Transaction],
    script_pubkey: bytes,
    *,
    now: int,
    coinbase_extra: bytes = b"",
    extranonce: bytes = b"",
    version_bits: VersionBits | None = None,
) -> BlockTemplate:
    """The next block with exactly these transactions, in this order, whether or not that is a valid block (Core's
    generateblock). Their fees are not known here and not claimed."""
    depends = dependencies(transactions)
    items = [
        TemplateTx(tx, 0, legacy_sigop_count(tx) * 4, tx.weight, needs)
        for tx, needs in zip(transactions, depends, strict=True)
    ]
    return _finish(
        chain,
        items,
        script_pubkey,
        coinbase_extra=coinbase_extra,
        extranonce=extranonce,
        now=now,
        version_bits=version_bits,
        fees=0,
        chunk_fee_rates=[],
        mempool_updates=0,
    )


def _select(
    prev: BlockIndexEntry,
    mempool: Mempool,
    max_weight: int,
    reserved_weight: int,
    reserved_sigops: int,
    min_fee_rate: int,
) -> tuple[list[MempoolEntry], list[tuple[int, int]]]:
    weight = min(max(reserved_weight, MINIMUM_RESERVED_WEIGHT), MAX_BLOCK_WEIGHT)
    sigops = min(max(reserved_sigops, 0), MAX_BLOCK_SIGOPS_COST)
    max_weight = min(max(max_weight, weight), MAX_BLOCK_WEIGHT)
    height = prev.height + 1
    cutoff = prev.median_time_past()
    chosen: list[MempoolEntry] = []
    fee_rates: list[tuple[int, int]] = []
    skipped: set[Cluster] = set()
    failures = 0
    for fee, size, entries in mempool.graph.mining_order():
        if fee * 1000 < min_fee_rate * ((size + 3) // 4):
            break
        cluster = entries[0].cluster
        if cluster in skipped:
            continue
        cost = sum([entry.sigop_cost for entry in entries])
        if (
            weight + size >= max_weight
            or sigops + cost >= MAX_BLOCK_SIGOPS_COST
            or not all(entry.tx.locktime == 0 or is_final(entry.tx, height, cutoff) for entry in entries)
        ):
            skipped.add(cluster)
            failures += 1
            if failures > _MAX_CONSECUTIVE_FAILURES and weight + _FULL_ENOUGH_WEIGHT > max_weight:
                break
            continue
        failures = 0
        chosen += entries
        weight += sum([entry.weight for entry in entries])
        sigops += cost
        fee_rates.append((fee, size))
    return chosen, fee_rates


def _finish(
    chain: Chainstate,
    transactions: Sequence[TemplateTx],
    script_pubkey: bytes,
    *,
    coinbase_extra: bytes,
    extranonce: bytes,
    now: int,
    version_bits: VersionBits | None,
    fees: int,
    chunk_fee_rates: Sequence[tuple[int, int]],
    mempool_updates: int,
) -> BlockTemplate:
    params, prev = chain.params, chain.tip
    height = prev.height + 1
    segwit = is_active(Deployment.SEGWIT, height, params)
    commitment = commitment_script([item.tx for item in transactions]) if segwit else None
    value = fees + block_subsidy(height, params)
    coinbase = make_coinbase(
        height, script_pubkey, value, witness_commitment=commitment, extranonce=extranonce, extra=coinbase_extra
    )
    lowest = minimum_time(prev, params)
    time = max(lowest, min(now, MAX_TIME))
    bits = version_bits if version_bits is not None else VersionBits(params)
    return BlockTemplate(
        prev=prev,
        height=height,
        version=bits.block_version(prev),
        nbits=next_nbits(prev, time, params),
        time=time,
        min_time=lowest,
        coinbase=coinbase,
        coinbase_value=value,
        fees=fees,
        transactions=tuple(transactions),
        witness_commitment=commitment,
        sigop_cost=sum(item.sigop_cost for item in transactions) + sigop_cost(coinbase, (), STANDARD_FLAGS),
        chunk_fee_rates=tuple(chunk_fee_rates),
        mempool_updates=mempool_updates,
    )
