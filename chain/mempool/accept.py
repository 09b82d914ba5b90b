"""Judging transactions for the mempool (Core's MemPoolAccept in validation.cpp): cheap checks first, scripts last, in
Core's order, because the first failure is the one that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chain.consensus import bip54
from chain.consensus.errors import ConsensusError, input_debug
from chain.consensus.tx import check_inputs, check_transaction, is_final, locks_met, sequence_locks
from chain.index import BlockIndexEntry
from chain.mempool import limits, rbf
from chain.mempool.entries import MEMPOOL_HEIGHT, AcceptResult, AddedTx, MempoolEntry, RemovalReason, RemovedTx
from chain.mempool.errors import MissingInputs, PolicyError, TransactionRefused, TxResult
from chain.mempool.graph import ancestors_of
from chain.mempool.policy import (
    MAX_STANDARD_TX_SIGOPS_COST,
    MIN_STANDARD_TX_NONWITNESS_SIZE,
    check_ephemeral,
    check_inputs_standard,
    check_standard,
    check_witness_standard,
    dust_outputs,
    fee_at,
    sigop_adjusted_weight,
    spends_witness_program,
)
from chain.mempool.truc import single_truc_violation
from chain.primitives.coin import coin_height, coin_is_coinbase
from chain.primitives.transaction import SEQUENCE_LOCKTIME_DISABLE_FLAG, Transaction
from chain.primitives.types import OutPoint, PackedCoin, Txid, hash_to_hex, split_outpoint
from chain.script.flags import STANDARD_FLAGS
from chain.script.script import sigop_cost
from chain.script.spends import SpendBatch

if TYPE_CHECKING:
    from chain.mempool.pool import Mempool

_STANDARD = int(STANDARD_FLAGS)


@dataclass(frozen=True, slots=True)
class Options:
    """How a transaction is offered (Core's ATMPArgs). `max_fee_rate` in satoshi per kvB, `entry_time` in Unix
    seconds."""

    test_only: bool = False
    bypass_limits: bool = False
    max_fee_rate: int | None = None
    entry_time: int | None = None
    allow_replacement: bool = True
    allow_sibling_eviction: bool = True
    package_fees: bool = False  #: fees are weighed for the whole package, elsewhere
    in_package: bool = False  #: the caller limits the mempool's size once it is done


@dataclass(slots=True)
class Candidate:
    """A transaction that passed everything but replacement, limits and scripts, with what was found out on the way."""

    tx: Transaction
    spent: list[PackedCoin]
    entry: MempoolEntry
    parents: set[MempoolEntry]
    conflicts: set[MempoolEntry] = field(default_factory=set)
    sibling_eviction: bool = False


def try_accept(pool: Mempool, tx: Transaction, options: Options) -> AcceptResult | None:
    """accept_single for those who only want to know whether."""
    try:
        return accept_single(pool, tx, options)
    except (ConsensusError, TransactionRefused):
        return None


def accept_single(pool: Mempool, tx: Transaction, options: Options) -> AcceptResult:
    """See Mempool.accept."""
    candidate = pre_check(pool, tx, options)
    entry = candidate.entry
    removed: set[MempoolEntry] = set()
    if candidate.conflicts:
        removed = _check_replacement(pool, candidate)
    else:
        limits.check(pool, entry, candidate.parents, chains=not options.bypass_limits)
    if removed:
        _check_not_spending_conflicts(candidate)
    over_fee_rate(entry, options)
    if candidate.parents and not options.bypass_limits and pool.policy.require_standard:
        check_ephemeral_spends(pool, [tx])
    check_scripts(pool, tx, candidate.spent)
    if options.test_only:
        return make_result(entry, conflicts=tuple(conflict.txid for conflict in removed))
    replaced = pool.remove(removed, RemovalReason.REPLACED)
    added = pool.insert(entry, candidate.parents)
    evicted = [] if options.in_package or options.bypass_limits else pool.limit_size()
    if entry.txid not in pool.entries:
        error = PolicyError(
            "mempool full", "", TxResult.RECONSIDERABLE, modified_fee=entry.modified_fee, vsize=entry.vsize
        )
        error.removed = (*replaced, *(gone for gone in evicted if gone.entry is not entry))
        raise error
    return make_result(entry, added, replaced=tuple(replaced), evicted=tuple(evicted))


def pre_check(
    pool: Mempool, tx: Transaction, options: Options, package_coins: Mapping[OutPoint, PackedCoin] | None = None
) -> Candidate:
    """All that is cheap (Core's PreChecks). `package_coins` are the outputs of earlier transactions of the same
    package."""
    chain, policy = pool.chain, pool.policy
    check_transaction(tx)
    if tx.is_coinbase:
        raise ConsensusError("coinbase")
    if policy.require_standard:
        check_standard(tx, policy)
    if tx.base_size < MIN_STANDARD_TX_NONWITNESS_SIZE:
        raise PolicyError("tx-size-small")
    tip = chain.tip
    if tx.locktime and not is_final(tx, tip.height + 1, tip.median_time_past()):
        raise PolicyError("non-final", "", TxResult.PREMATURE_SPEND)
    txid = tx.txid
    if txid in pool.entries:
        same = pool.entries[txid].wtxid == tx.wtxid
        reason = "txn-already-in-mempool" if same else "txn-same-nonwitness-data-in-mempool"
        raise PolicyError(reason, "", TxResult.CONFLICT)
    conflicts: set[MempoolEntry] = set()
    for outpoint in tx.prevouts:
        rival = pool.spender(outpoint)
        if rival is not None:
            if not options.allow_replacement:
                raise PolicyError("bip125-replacement-disallowed", "", TxResult.MEMPOOL_POLICY)
            conflicts.add(rival)
    spent, parents = _find_coins(pool, tx, package_coins)
    has_relative_lock = tx.version >= 2 and min(tx.sequences) < SEQUENCE_LOCKTIME_DISABLE_FLAG
    if has_relative_lock and not relative_locks_met(tx, spent, tip):
        raise PolicyError("non-BIP68-final", "", TxResult.PREMATURE_SPEND)
    fee = check_inputs(tx, spent, tip.height + 1)
    if policy.require_standard:
        check_inputs_standard(tx, spent)
        if tx.has_witness:
            check_witness_standard(tx, spent)
    if bip54.is_bip54_active(tip.height + 1, chain.params):
        bip54.check_sigops(tx, spent)  # with standardness switched off nothing else would
    sigops = sigop_cost(tx, spent, STANDARD_FLAGS)
    weight = tx.weight
    modified_fee = fee + pool.deltas.get(txid, 0)
    entry = MempoolEntry(
        tx,
        fee=fee,
        modified_fee=modified_fee,
        weight=weight,
        adjusted_weight=sigop_adjusted_weight(weight, sigops, policy.bytes_per_sigop),
        sigop_cost=sigops,
        time=int(pool.clock()) if options.entry_time is None else options.entry_time,
        height=tip.height,
        sequence=0 if options.bypass_limits else pool.sequence,
        spends_coinbase=any(map(coin_is_coinbase, spent)),
        has_relative_lock=has_relative_lock,
    )
    if policy.require_standard:
        check_ephemeral(tx, fee, modified_fee, policy)
    if sigops > MAX_STANDARD_TX_SIGOPS_COST:
        raise PolicyError("bad-txns-too-many-sigops", str(sigops))
    candidate = Candidate(tx, spent, entry, parents, conflicts)
    if not options.bypass_limits:
        if not options.package_fees:
            check_fee_rate(pool, entry.vsize, modified_fee)
        _check_truc(candidate, options)
    return candidate


def check_fee_rate(pool: Mempool, vsize: int, modified_fee: int) -> None:
    """The minimum of a mempool that was full, then the relay minimum."""
    for reason, rate in (
        ("mempool min fee not met", pool.min_fee_rate()),
        ("min relay fee not met", pool.policy.min_relay_fee_rate),
    ):
        needed = fee_at(rate, vsize)
        if modified_fee < needed:
            raise PolicyError(
                reason, f"{modified_fee} < {needed}", TxResult.RECONSIDERABLE, modified_fee=modified_fee, vsize=vsize
            )


def relative_locks_met(tx: Transaction, spent: Sequence[PackedCoin], tip: BlockIndexEntry) -> bool:
    """Whether BIP68 lets the transaction into the block after `tip`, unconfirmed parents being in that very block."""
    heights = [coin_height(coin) for coin in spent]
    next_height = tip.height + 1
    return locks_met(
        sequence_locks(tx, [next_height if height == MEMPOOL_HEIGHT else height for height in heights], tip), tip
    )


def over_fee_rate(entry: MempoolEntry, options: Options) -> None:
    """A local sender's guard against paying absurdly much: what the transaction really pays, rounded as its limit is,
    or in a package the exact rate that it counts for."""
    rate = options.max_fee_rate
    if rate is None:
        return
    if options.in_package:
        exceeded = entry.modified_fee * 1000 > rate * entry.vsize
    else:
        exceeded = entry.fee > fee_at(rate, entry.vsize)
    if exceeded:
        raise PolicyError("max feerate exceeded", "", TxResult.MEMPOOL_POLICY)


def check_ephemeral_spends(pool: Mempool, txs: Sequence[Transaction]) -> None:
    """Whoever spends from an unconfirmed parent spends all that parent's dust. The raised error's `txid` names the
    offender."""
    package = {tx.txid: tx for tx in txs}
    for tx in txs:
        unspent: set[OutPoint] = set()
        for parent_txid in {Txid(outpoint[:32]) for outpoint in tx.prevouts}:
            parent = package.get(parent_txid)
            if parent is None:
                entry = pool.entries.get(parent_txid)
                if entry is None:
                    continue
                parent = entry.tx
            unspent.update(parent.outpoint(n) for n in dust_outputs(parent, pool.policy.dust_relay_fee_rate))
        if unspent.difference(tx.prevouts):
            error = PolicyError(
                "missing-ephemeral-spends",
                f"tx {hash_to_hex(tx.txid)} (wtxid={hash_to_hex(tx.wtxid)}) did not spend parent's ephemeral dust",
                TxResult.MEMPOOL_POLICY,
            )
            error.wtxid = tx.wtxid
            raise error


def check_scripts(pool: Mempool, tx: Transaction, spent: Sequence[PackedCoin]) -> None:
    """Run all scripts under the standard flags, which include every block's: a block that holds the transaction need
    not run them again."""
    cache = pool.chain.script_cache
    if cache.contains(tx.wtxid, _STANDARD):
        return
    batch = SpendBatch(STANDARD_FLAGS)
    batch.add(tx, spent)
    failed = batch.verify()
    if failed is None:
        # A flag only ever forbids, so what passes under all of them passes under those of the next block.
        cache.add(tx.wtxid, _STANDARD)
        cache.add(tx.wtxid, pool.next_block_flags())
        return
    _, index, script_error = failed
    stripped = not tx.has_witness and spends_witness_program(tx, spent)
    previous, n = split_outpoint(tx.prevouts[index])
    raise PolicyError(
        f"mempool-script-verify-flag-failed ({script_error.message})",
        input_debug(index, hash_to_hex(tx.txid), hash_to_hex(tx.wtxid), hash_to_hex(previous), n),
        TxResult.WITNESS_STRIPPED if stripped else TxResult.NOT_STANDARD,
    )


def _find_coins(
    pool: Mempool, tx: Transaction, package_coins: Mapping[OutPoint, PackedCoin] | None
) -> tuple[list[PackedCoin], set[MempoolEntry]]:
    """The coins that a transaction spends, in input order, and those of its parents that are in the mempool."""
    entries = pool.entries
    spent: list[PackedCoin] = []
    parents: set[MempoolEntry] = set()
    missing: list[bytes] = []
    for outpoint in tx.prevouts:
        coin = package_coins.get(outpoint) if package_coins else None
        if coin is None:
            coin = pool.get_coin(outpoint)
            parent = entries.get(Txid(outpoint[:32]))
            if parent is not None:
                parents.add(parent)
        if coin is None:
            missing.append(outpoint)
        else:
            spent.append(coin)
    if missing:
        # Are they missing because the chain has this very transaction already?
        if any(pool.chain.get_coin(tx.outpoint(n)) is not None for n in range(len(tx.values))):
            raise PolicyError("txn-already-known", "", TxResult.CONFLICT)
        raise MissingInputs(missing)
    return spent, parents


def _check_truc(candidate: Candidate, options: Options) -> None:
    found = single_truc_violation(candidate.tx, candidate.parents, candidate.conflicts, candidate.entry.vsize)
    if found is None:
        return
    debug, sibling = found
    if sibling is None or not options.allow_sibling_eviction:
        raise PolicyError("TRUC-violation", debug, TxResult.MEMPOOL_POLICY)
    candidate.conflicts.add(sibling)
    candidate.sibling_eviction = True


def _check_replacement(pool: Mempool, candidate: Candidate) -> set[MempoolEntry]:
    """Whether the candidate may replace what it conflicts with; returns all that would have to leave."""
    entry = candidate.entry
    suffix = " (including sibling eviction)" if candidate.sibling_eviction else ""
    debug = rbf.too_many_replacements(entry.txid, candidate.conflicts)
    if debug:
        raise PolicyError(f"too many potential replacements{suffix}", debug, TxResult.MEMPOOL_POLICY)
    removed = rbf.with_descendants(candidate.conflicts)
    fees = sum(conflict.modified_fee for conflict in removed)
    debug = rbf.does_not_pay(fees, entry.modified_fee, entry.vsize, pool.policy.incremental_relay_fee_rate, entry.txid)
    if debug:
        raise _reconsiderable(f"insufficient fee{suffix}", debug, entry)
    added = {entry: candidate.parents}
    before, after = rbf.staged_clusters(removed, added)
    limits.check_staged(pool, entry, candidate.parents, removed, after)
    if not rbf.improves(pool.graph, before, after, added):
        raise _reconsiderable("replacement-failed", rbf.DIAGRAM_FAILURE, entry)
    return removed


def _check_not_spending_conflicts(candidate: Candidate) -> None:
    txid = hash_to_hex(candidate.entry.txid)
    for ancestor in ancestors_of(candidate.parents):
        if ancestor in candidate.conflicts:
            raise ConsensusError(
                "bad-txns-spends-conflicting-tx", f"{txid} spends conflicting transaction {hash_to_hex(ancestor.txid)}"
            )


def _reconsiderable(reason: str, debug: str, entry: MempoolEntry) -> PolicyError:
    return PolicyError(reason, debug, TxResult.RECONSIDERABLE, modified_fee=entry.modified_fee, vsize=entry.vsize)


def make_result(
    entry: MempoolEntry,
    added: AddedTx | None = None,
    *,
    replaced: tuple[RemovedTx, ...] = (),
    evicted: tuple[RemovedTx, ...] = (),
    conflicts: tuple[Txid, ...] = (),
) -> AcceptResult:
    """The result for an entry that stands on its own fees."""
    return AcceptResult(
        txid=entry.txid,
        wtxid=entry.wtxid,
        fee=entry.fee,
        modified_fee=entry.modified_fee,
        vsize=entry.vsize,
        weight=entry.weight,
        effective_fee=entry.modified_fee,
        effective_vsize=entry.vsize,
        effective_wtxids=(entry.wtxid,),
        added=added,
        replaced=replaced,
        evicted=evicted,
        conflicts=conflicts,
    )
