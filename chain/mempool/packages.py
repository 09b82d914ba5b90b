"""Several transactions judged together (Core's AcceptMultipleTransactions and AcceptPackage; policy/packages.cpp;
texts letter for letter).

A package is sorted, parents first, and free of conflicts within itself. What is tested may be any such list; what is
submitted is one child, last, with parents of it, whose fees may then be weighed together: a child can pay for parents
that pay too little themselves, and a package of one parent and one child may replace others as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from chain.consensus.errors import ConsensusError
from chain.mempool import limits, rbf
from chain.mempool.accept import (
    Candidate,
    Options,
    accept_single,
    check_ephemeral_spends,
    check_fee_rate,
    check_scripts,
    make_result,
    over_fee_rate,
    pre_check,
)
from chain.mempool.entries import MEMPOOL_HEIGHT, AcceptResult, AddedTx, MempoolEntry, RemovalReason, RemovedTx
from chain.mempool.errors import PolicyError, TransactionRefused, TxResult
from chain.mempool.graph import ancestors_of
from chain.mempool.truc import package_truc_violation
from chain.primitives.amount import format_amount
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, PackedCoin, Txid, Wtxid

if TYPE_CHECKING:
    from chain.mempool.pool import Mempool

MAX_PACKAGE_COUNT: Final = 25
MAX_PACKAGE_WEIGHT: Final = 404_000

TRANSACTION_FAILED: Final = "transaction failed"

Refusal = ConsensusError | TransactionRefused


@dataclass(frozen=True, slots=True)
class PackageTx:
    """What became of one transaction; exactly one field is set.

    `accepted`: it passed (and is in the mempool unless this was a test). `refused`: why not. `known`: it was in the
    mempool already. `other_witness`: the mempool holds the same transaction with another witness, this entry; what
    was submitted has not been looked at.
    """

    accepted: AcceptResult | None = None
    refused: Refusal | None = None
    known: MempoolEntry | None = None
    other_witness: MempoolEntry | None = None


@dataclass(slots=True)
class PackageResult:
    """`error` is empty if all went well, "transaction failed" if a member is at fault, else what is wrong with the
    package as a whole ("reason" or "reason, debug"), and then `policy_error` is True. `transactions` is by wtxid; a
    member that was not judged is absent. `added`, `replaced` and `evicted` are what changed in the mempool."""

    error: str = ""
    policy_error: bool = False
    transactions: dict[Wtxid, PackageTx] = field(default_factory=dict)
    added: list[AddedTx] = field(default_factory=list)
    replaced: list[RemovedTx] = field(default_factory=list)
    evicted: list[RemovedTx] = field(default_factory=list)

    def fail(self, reason: str, debug: str = "", *, policy: bool = True) -> PackageResult:
        """Record a failure of the whole."""
        self.error = f"{reason}, {debug}" if debug else reason
        self.policy_error = policy
        return self

    def refuse(self, tx: Transaction, refusal: Refusal, reason: str = TRANSACTION_FAILED) -> PackageResult:
        """Record that one member is refused, and the package with it."""
        self.transactions[tx.wtxid] = PackageTx(refused=refusal)
        return self.fail(reason, policy=False)


def test_accept(pool: Mempool, txs: Sequence[Transaction], max_fee_rate: int | None) -> PackageResult:
    """See Mempool.test_accept."""
    options = Options(test_only=True, max_fee_rate=max_fee_rate)
    if len(txs) == 1:
        return _accept_one(pool, txs[0], options)
    return _accept_multiple(pool, txs, replace(options, allow_replacement=False, allow_sibling_eviction=False))


def submit(pool: Mempool, txs: Sequence[Transaction], max_fee_rate: int | None) -> PackageResult:
    """See Mempool.submit_package."""
    result = PackageResult()
    problem = malformed(txs)
    if problem:
        return result.fail(problem)
    if len(txs) > 1 and not is_child_with_parents(txs):
        return result.fail("package-not-child-with-parents")
    single = Options(max_fee_rate=max_fee_rate, in_package=True)
    alone: dict[Wtxid, PackageTx] = {}  # refusals that the company of the package may yet mend
    together: list[Transaction] = []
    hopeless = False
    for tx in txs:
        entry = pool.get(tx.txid)
        if entry is not None:
            same = entry.wtxid == tx.wtxid
            result.transactions[tx.wtxid] = PackageTx(known=entry) if same else PackageTx(other_witness=entry)
            continue
        one = _accept_one(pool, tx, single)
        outcome = one.transactions[tx.wtxid]
        if outcome.refused is None:
            result.transactions[tx.wtxid] = outcome
            result.added += one.added
            result.replaced += one.replaced
            continue
        alone[tx.wtxid] = outcome
        if len(txs) > 1 and getattr(outcome.refused, "result", None) in (
            TxResult.RECONSIDERABLE,
            TxResult.MISSING_INPUTS,
        ):
            together.append(tx)
        else:
            hopeless = True
    if hopeless:
        result.fail(TRANSACTION_FAILED, policy=False)
    elif len(together) == 1:
        # Its company is in the mempool or was refused: it stands alone, and is judged again now that all others have
        # been.
        _merge(result, _accept_one(pool, together[0], single))
    elif together:
        options = Options(max_fee_rate=max_fee_rate, allow_sibling_eviction=False, package_fees=True, in_package=True)
        _merge(result, _accept_multiple(pool, together, options))
    result.evicted = pool.limit_size()
    for tx in txs:
        outcome_now = result.transactions.get(tx.wtxid)
        if outcome_now is None:
            if tx.wtxid in alone:
                result.transactions[tx.wtxid] = alone[tx.wtxid]
        elif outcome_now.refused is None and tx.txid not in pool.entries:
            result.refuse(tx, PolicyError("mempool full", "", TxResult.MEMPOOL_POLICY))
    return result


def malformed(txs: Sequence[Transaction]) -> str:
    """What is wrong with a list of transactions as a package, or "" (IsWellFormedPackage)."""
    if len(txs) > MAX_PACKAGE_COUNT:
        return "package-too-many-transactions"
    if len(txs) > 1 and sum(tx.weight for tx in txs) > MAX_PACKAGE_WEIGHT:
        return "package-too-large"
    later = {tx.txid for tx in txs}
    if len(later) != len(txs):
        return "package-contains-duplicates"
    for tx in txs:
        if any(outpoint[:32] in later for outpoint in tx.prevouts):
            return "package-not-sorted"
        later.discard(tx.txid)
    spent: set[OutPoint] = set()
    for tx in txs:
        if not tx.prevouts or not spent.isdisjoint(tx.prevouts):
            return "conflict-in-package"
        spent.update(tx.prevouts)
    return ""


def is_child_with_parents(txs: Sequence[Transaction]) -> bool:
    """Whether the last transaction spends from each of the others."""
    spends = {outpoint[:32] for outpoint in txs[-1].prevouts}
    return len(txs) > 1 and all(tx.txid in spends for tx in txs[:-1])


def _accept_one(pool: Mempool, tx: Transaction, options: Options) -> PackageResult:
    result = PackageResult()
    try:
        accepted = accept_single(pool, tx, options)
    except (ConsensusError, TransactionRefused) as refusal:
        return result.refuse(tx, refusal)
    result.transactions[tx.wtxid] = PackageTx(accepted=accepted)
    if accepted.added is not None:
        result.added.append(accepted.added)
    result.replaced += accepted.replaced
    result.evicted += accepted.evicted
    return result


def _accept_multiple(pool: Mempool, txs: Sequence[Transaction], options: Options) -> PackageResult:
    result = PackageResult()
    problem = malformed(txs)
    if problem:
        return result.fail(problem)
    candidates: list[Candidate] = []
    package_coins: dict[OutPoint, PackedCoin] = {}
    for tx in txs:
        try:
            candidate = pre_check(pool, tx, options, package_coins)
            over_fee_rate(candidate.entry, options)
        except (ConsensusError, TransactionRefused) as refusal:
            return result.refuse(tx, refusal)
        candidates.append(candidate)
        for index, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True)):
            package_coins[tx.outpoint(index)] = pack_coin(value, script, MEMPOOL_HEIGHT, False)
    for candidate in candidates:
        violation = package_truc_violation(candidate.tx, candidate.entry.vsize, txs, candidate.parents)
        if violation:
            return result.fail("TRUC-violation", violation)
    total_fee = sum(candidate.entry.modified_fee for candidate in candidates)
    total_vsize = sum(candidate.entry.vsize for candidate in candidates)
    if options.package_fees:
        try:
            check_fee_rate(pool, total_vsize, total_fee)
        except PolicyError as refusal:
            return result.refuse(txs[-1], refusal)
    added = _relations(candidates)
    try:
        removed = _check_graph(pool, candidates, added, total_fee, total_vsize)
    except PolicyError as problem_found:
        return result.fail(problem_found.reason, problem_found.debug)
    if pool.policy.require_standard:
        try:
            check_ephemeral_spends(pool, txs)
        except PolicyError as refusal:
            return result.refuse(next(tx for tx in txs if tx.wtxid == refusal.wtxid), refusal, "unspent-dust")

    def accepted(entry: MempoolEntry, newcomer: AddedTx | None) -> PackageTx:
        replaced = tuple(result.replaced) if entry is candidates[0].entry else ()
        outcome = make_result(entry, newcomer, replaced=replaced)
        if options.package_fees:
            outcome = replace(outcome, effective_fee=total_fee, effective_vsize=total_vsize, effective_wtxids=wtxids)
        return PackageTx(accepted=outcome)

    wtxids = tuple(candidate.entry.wtxid for candidate in candidates)
    for candidate in candidates:
        try:
            check_scripts(pool, candidate.tx, candidate.spent)
        except TransactionRefused as refusal:
            return result.refuse(candidate.tx, refusal)
        if options.test_only:
            result.transactions[candidate.tx.wtxid] = accepted(candidate.entry, None)
    if options.test_only:
        return result
    result.replaced = pool.remove(removed, RemovalReason.REPLACED)
    for candidate in candidates:
        newcomer = pool.insert(candidate.entry, added[candidate.entry])
        result.added.append(newcomer)
        result.transactions[candidate.tx.wtxid] = accepted(candidate.entry, newcomer)
    return result


def _relations(candidates: Sequence[Candidate]) -> dict[MempoolEntry, set[MempoolEntry]]:
    """All parents of each candidate, in the mempool and in the package."""
    by_txid = {candidate.entry.txid: candidate.entry for candidate in candidates}
    added = {}
    for candidate in candidates:
        own = {by_txid[Txid(op[:32])] for op in candidate.tx.prevouts if op[:32] in by_txid}
        added[candidate.entry] = candidate.parents | own
    return added


def _check_graph(
    pool: Mempool,
    candidates: Sequence[Candidate],
    added: dict[MempoolEntry, set[MempoolEntry]],
    total_fee: int,
    total_vsize: int,
) -> set[MempoolEntry]:
    """Limits of size and, where the package conflicts with entries, the rules for replacing them; returns what would
    leave."""
    conflicts = {entry for candidate in candidates for entry in candidate.conflicts}
    if conflicts:
        if len(candidates) != 2 or candidates[0].entry not in added[candidates[1].entry]:
            raise _rbf_failure("package must be 1-parent-1-child")
        if any(candidate.parents for candidate in candidates):
            raise _rbf_failure("new transaction cannot have mempool ancestors")
        debug = rbf.too_many_replacements(candidates[-1].entry.txid, conflicts)
        if debug:
            raise _rbf_failure("too many potential replacements", debug)
    removed = rbf.with_descendants(conflicts)
    if conflicts:
        fees = sum(entry.modified_fee for entry in removed)
        relay_rate = pool.policy.incremental_relay_fee_rate
        debug = rbf.does_not_pay(fees, total_fee, total_vsize, relay_rate, candidates[-1].entry.txid)
        if debug:
            raise _rbf_failure("insufficient anti-DoS fees", debug)
        parent = candidates[0].entry
        if total_fee * parent.vsize <= parent.modified_fee * total_vsize:
            rates = _rate(total_fee, total_vsize), _rate(parent.modified_fee, parent.vsize)
            raise _rbf_failure(
                "package feerate is less than or equal to parent feerate",
                f"package feerate {rates[0]} <= parent feerate is {rates[1]}",
            )
    before, after = rbf.staged_clusters(removed, added)
    for cluster in after:
        if not cluster.isdisjoint(added):
            weight = sum(entry.adjusted_weight for entry in cluster)
            limits.check_sizes(pool, len(cluster), weight)
    ancestors = ancestors_of(parent for parents in added.values() for parent in parents if parent not in added)
    limits.check_package(pool.policy.limits, ancestors, added, removed)
    if conflicts and not rbf.improves(pool.graph, before, after, added):
        raise _rbf_failure(rbf.DIAGRAM_FAILURE)
    return removed


def _merge(result: PackageResult, part: PackageResult) -> None:
    result.error, result.policy_error = part.error, part.policy_error
    result.transactions.update(part.transactions)
    result.added += part.added
    result.replaced += part.replaced


def _rbf_failure(what: str, debug: str = "") -> PolicyError:
    return PolicyError(f"package RBF failed: {what}", debug, TxResult.MEMPOOL_POLICY)


def _rate(fee: int, vsize: int) -> str:
    return f"{format_amount(fee * 1000 // vsize)} BTC/kvB"
