"""Why a transaction is not accepted into the mempool.

Three classes that are never confused: `chain.consensus.errors.ConsensusError` (no block may hold it), `MissingInputs`
(we cannot judge it yet) and `PolicyError` (a block may hold it, this node does not relay it). Reasons and debug texts
are Bitcoin Core's, letter for letter (validation.cpp, policy/*.cpp of Core 31), because software compares them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chain.mempool.entries import RemovedTx


class TxResult(Enum):
    """What a refusal says about the transaction, for whoever relayed it (Core's TxValidationResult)."""

    CONSENSUS = "consensus"
    INPUTS_NOT_STANDARD = "inputs-not-standard"  #: depends on the txid alone: the same with any witness
    NOT_STANDARD = "not-standard"
    MISSING_INPUTS = "missing-inputs"
    PREMATURE_SPEND = "premature-spend"  #: may become valid with height or time
    WITNESS_MUTATED = "witness-mutated"  #: the witness is at fault: another one may do
    WITNESS_STRIPPED = "witness-stripped"
    CONFLICT = "conflict"  #: known already
    MEMPOOL_POLICY = "mempool-policy"
    RECONSIDERABLE = "reconsiderable"  #: pays too little alone: may pass in a package


class TransactionRefused(Exception):
    """Base of the refusals that are not consensus failures. `str()` is "reason" or "reason, debug", as Core's state
    prints itself."""

    def __init__(self, reason: str, debug: str = "", result: TxResult = TxResult.NOT_STANDARD) -> None:
        super().__init__(f"{reason}, {debug}" if debug else reason)
        self.reason = reason
        self.debug = debug
        self.result = result


class PolicyError(TransactionRefused):
    """Refused by this node's policy. For fee failures (`result` is RECONSIDERABLE) `modified_fee` in satoshi and
    `vsize` in virtual bytes say what was weighed; otherwise they are None."""

    def __init__(
        self,
        reason: str,
        debug: str = "",
        result: TxResult = TxResult.NOT_STANDARD,
        *,
        modified_fee: int | None = None,
        vsize: int | None = None,
    ) -> None:
        super().__init__(reason, debug, result)
        self.modified_fee = modified_fee
        self.vsize = vsize
        #: set by check_ephemeral_spends: which member of a package is at fault
        self.wtxid: bytes | None = None
        #: with "mempool full": what left on the way, since the transaction was in for a moment
        self.removed: tuple[RemovedTx, ...] = ()


class MissingInputs(TransactionRefused):
    """Some output that it spends is unknown here: unconfirmed and not seen yet, spent already, or never existing.

    `missing` lists the outpoints not found. `reason` is 'bad-txns-inputs-missingorspent'; testmempoolaccept and the
    orphan handling call it 'missing-inputs'.
    """

    def __init__(self, missing: list[bytes]) -> None:
        super().__init__("bad-txns-inputs-missingorspent", "", TxResult.MISSING_INPUTS)
        self.missing = missing
