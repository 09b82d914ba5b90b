"""BIP54, the consensus cleanup: on our own networks from the first block on.

It bounds the cost of checking a transaction, makes every coinbase unique (so that BIP30 needs no look-ups), keeps
transactions from passing for inner nodes of the merkle tree, and ties down the timestamps at both ends of each 2016
blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain.consensus.constants import (
    BIP54_FORBIDDEN_TX_SIZE,
    BIP54_MAX_TX_SIGOPS,
    BIP54_PERIOD,
    BIP54_TIMEWARP_GRACE_S,
)
from chain.consensus.errors import BlockResult, ConsensusError, RejectReason
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.transaction import SEQUENCE_FINAL, Transaction
from chain.script.script import p2sh_sigop_count, sigop_count


def is_bip54_active(height: int, params: NetworkParams) -> bool:
    """Whether the rules bind the block at `height`."""
    return params.bip54_height is not None and height >= params.bip54_height


def check_timestamp(time: int, prev: BlockIndexEntry) -> None:
    """A period's first block may lie at most two hours before the one before it, and its last block not before its
    first.
    """
    height = prev.height + 1
    position = height % BIP54_PERIOD
    if position == 0 and time < prev.time - BIP54_TIMEWARP_GRACE_S:
        raise ConsensusError(
            RejectReason.TIME_TIMEWARP_ATTACK,
            "block's timestamp is too early on diff adjustment block",
            BlockResult.INVALID_HEADER,
        )
    if position == BIP54_PERIOD - 1:
        first = prev.ancestor(height - position)
        if first is not None and time < first.time:
            raise ConsensusError(
                RejectReason.TIME_MURCH_ZAWY_ATTACK,
                "timestamp of a period's last block is before that of its first",
                BlockResult.INVALID_HEADER,
            )


def check_size(tx: Transaction) -> None:
    """Without its witness, a transaction must not have the size of two hashes."""
    if tx.base_size == BIP54_FORBIDDEN_TX_SIZE:
        raise ConsensusError(RejectReason.BAD_TXNS_SIZE_64, "transaction of 64 bytes without witness")


def check_coinbase(tx: Transaction, height: int) -> None:
    """nLockTime is the height less one and is enforced, so that no coinbase can ever be repeated."""
    if tx.locktime != height - 1:
        raise ConsensusError(RejectReason.BAD_CB_LOCKTIME, "coinbase nLockTime is not the block height minus one")
    if tx.sequences[0] == SEQUENCE_FINAL:
        raise ConsensusError(RejectReason.BAD_CB_SEQUENCE, "coinbase nSequence is final")


def legacy_sigops(tx: Transaction, spent: Sequence[bytes]) -> int:
    """Signature operations, counted as BIP16 does, in the scriptSigs, scriptPubKeys and redeem scripts that the inputs
    run.
    """
    count = 0
    for script_sig, coin in zip(tx.script_sigs, spent, strict=True):
        if script_sig:
            count += sigop_count(script_sig, True)
        script_pubkey = coin[SCRIPT_OFFSET:]
        count += p2sh_sigop_count(script_sig, script_pubkey) or sigop_count(script_pubkey, True)
    return count


def check_sigops(tx: Transaction, spent: Sequence[bytes]) -> None:
    """At most 2,500 of them. `spent` holds the packed coin of each input."""
    # An input runs at most one operation per byte of its scripts, twenty for OP_CHECKMULTISIG: few transactions are big
    # enough to be worth counting.
    if (
        20 * (tx.base_size + sum(map(len, spent))) > BIP54_MAX_TX_SIGOPS
        and legacy_sigops(tx, spent) > BIP54_MAX_TX_SIGOPS
    ):
        raise ConsensusError(RejectReason.BAD_TXNS_LEGACY_SIGOPS, "non-witness sigops exceed bip54 limit")
