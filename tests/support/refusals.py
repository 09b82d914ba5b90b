"""Asking a mempool for its verdict, in one line."""

from __future__ import annotations

from chain.consensus.errors import ConsensusError
from chain.mempool.errors import TransactionRefused
from chain.mempool.pool import Mempool
from chain.primitives.transaction import Transaction

Refusal = ConsensusError | TransactionRefused


def refusal(mempool: Mempool, tx: Transaction) -> Refusal:
    """Why the mempool does not accept a transaction; it must not, and a test of it must say the same as trying it."""
    before = list(mempool.entries)
    tested = _outcome(mempool, tx, test_only=True)
    tried = _outcome(mempool, tx, test_only=False)
    assert str(tried) == str(tested)
    assert list(mempool.entries) == before
    return tried


def _outcome(mempool: Mempool, tx: Transaction, *, test_only: bool) -> Refusal:
    try:
        mempool.accept(tx, test_only=test_only)
    except (ConsensusError, TransactionRefused) as refused:
        return refused
    raise AssertionError("accepted")


def why(mempool: Mempool, tx: Transaction) -> str:
    """The refusal's text: "reason" or "reason, debug"."""
    return str(refusal(mempool, tx))
