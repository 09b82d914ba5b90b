"""Why a block, a header or a transaction is invalid, in Bitcoin Core's own words.

The strings are part of the RPC and test interface (`submitblock`, `testmempoolaccept`, Core's functional tests compare
them letter by letter), so each exists once, here.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class BlockResult(Enum):
    """What kind of failure it is, which decides how much of it sticks (Core: BlockValidationResult)."""

    CONSENSUS = "consensus"  #: the block breaks a rule: remember it as invalid
    CACHED_INVALID = "cached-invalid"  #: it was found invalid before
    INVALID_HEADER = "invalid-header"  #: proof of work or a header field is wrong
    MUTATED = "mutated"  #: these bytes do not match the header; others with the same hash may be valid
    MISSING_PREV = "missing-prev"
    INVALID_PREV = "invalid-prev"  #: it builds on an invalid block
    TIME_FUTURE = "time-future"  #: may become acceptable as time passes
    HEADER_LOW_WORK = "header-low-work"  #: not wrong, but not worth storing


class RejectReason(StrEnum):
    """Bitcoin Core's reject reasons; the last group belongs to rules that Core does not have (BIP54)."""

    # headers
    HIGH_HASH = "high-hash"
    BAD_DIFFBITS = "bad-diffbits"
    TIME_TOO_OLD = "time-too-old"
    TIME_TOO_NEW = "time-too-new"
    TIME_TIMEWARP_ATTACK = "time-timewarp-attack"
    PREV_BLK_NOT_FOUND = "prev-blk-not-found"
    BAD_PREVBLK = "bad-prevblk"
    DUPLICATE_INVALID = "duplicate-invalid"
    TOO_LITTLE_CHAINWORK = "too-little-chainwork"
    # blocks
    BAD_SIGNET_BLKSIG = "bad-signet-blksig"
    BAD_TXNMRKLROOT = "bad-txnmrklroot"
    BAD_TXNS_DUPLICATE = "bad-txns-duplicate"
    BAD_BLK_LENGTH = "bad-blk-length"
    BAD_CB_MISSING = "bad-cb-missing"
    BAD_CB_MULTIPLE = "bad-cb-multiple"
    BAD_BLK_SIGOPS = "bad-blk-sigops"
    BAD_TXNS_NONFINAL = "bad-txns-nonfinal"
    BAD_CB_HEIGHT = "bad-cb-height"
    BAD_WITNESS_NONCE_SIZE = "bad-witness-nonce-size"
    BAD_WITNESS_MERKLE_MATCH = "bad-witness-merkle-match"
    UNEXPECTED_WITNESS = "unexpected-witness"
    BAD_BLK_WEIGHT = "bad-blk-weight"
    BAD_TXNS_BIP30 = "bad-txns-BIP30"
    BAD_CB_AMOUNT = "bad-cb-amount"
    BAD_TXNS_ACCUMULATED_FEE_OUTOFRANGE = "bad-txns-accumulated-fee-outofrange"
    # transactions
    BAD_TXNS_VIN_EMPTY = "bad-txns-vin-empty"
    BAD_TXNS_VOUT_EMPTY = "bad-txns-vout-empty"
    BAD_TXNS_OVERSIZE = "bad-txns-oversize"
    BAD_TXNS_VOUT_NEGATIVE = "bad-txns-vout-negative"
    BAD_TXNS_VOUT_TOOLARGE = "bad-txns-vout-toolarge"
    BAD_TXNS_TXOUTTOTAL_TOOLARGE = "bad-txns-txouttotal-toolarge"
    BAD_TXNS_INPUTS_DUPLICATE = "bad-txns-inputs-duplicate"
    BAD_CB_LENGTH = "bad-cb-length"
    BAD_TXNS_PREVOUT_NULL = "bad-txns-prevout-null"
    BAD_TXNS_INPUTS_MISSINGORSPENT = "bad-txns-inputs-missingorspent"
    BAD_TXNS_PREMATURE_SPEND_OF_COINBASE = "bad-txns-premature-spend-of-coinbase"
    BAD_TXNS_INPUTVALUES_OUTOFRANGE = "bad-txns-inputvalues-outofrange"
    BAD_TXNS_IN_BELOWOUT = "bad-txns-in-belowout"
    # BIP54
    TIME_MURCH_ZAWY_ATTACK = "time-murch-zawy-attack"
    BAD_TXNS_SIZE_64 = "bad-txns-size-64"
    BAD_TXNS_LEGACY_SIGOPS = "bad-txns-legacy-sigops"
    BAD_CB_LOCKTIME = "bad-cb-locktime"
    BAD_CB_SEQUENCE = "bad-cb-sequence"


class ConsensusError(Exception):
    """A rule is broken. `str()` gives "reason" or "reason, debug" as Core's state.ToString() does.

    `reason` is a RejectReason, or one of Core's two composed ones: "bad-version(0x...)" and
    "block-script-verify-flag-failed (TEXT)".
    """

    def __init__(self, reason: str, debug: str = "", result: BlockResult = BlockResult.CONSENSUS) -> None:
        super().__init__(reason, debug, result)
        self.reason = str(reason)
        self.debug = debug
        self.result = result

    def __str__(self) -> str:
        return f"{self.reason}, {self.debug}" if self.debug else self.reason


def script_failure(message: str, debug: str = "") -> ConsensusError:
    """A script in a block fails; `message` is the ScriptError's text, `debug` names the input (see input_debug)."""
    return ConsensusError(f"block-script-verify-flag-failed ({message})", debug)


def input_debug(index: int, txid_hex: str, wtxid_hex: str, prev_txid_hex: str, prev_index: int) -> str:
    """How Core names an input whose script failed (validation.cpp, CScriptCheck)."""
    return f"input {index} of {txid_hex} (wtxid {wtxid_hex}), spending {prev_txid_hex}:{prev_index}"
