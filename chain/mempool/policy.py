"""What this node relays and mines beyond what consensus demands (Core's policy/policy.cpp, ephemeral_policy.cpp;
reasons letter for letter).

Fee rates are satoshi per 1000 virtual bytes. All checks raise `PolicyError`; none looks at the mempool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from chain.consensus.bip54 import legacy_sigops
from chain.consensus.constants import BIP54_MAX_TX_SIGOPS, MAX_BLOCK_SIGOPS_COST
from chain.mempool.errors import PolicyError, TxResult
from chain.primitives.transaction import Transaction
from chain.primitives.types import PackedCoin
from chain.script.errors import ScriptError
from chain.script.interpreter import ANNEX_TAG, TAPROOT_LEAF_MASK, TAPSCRIPT_LEAF_VERSION
from chain.script.machine import MAX_ELEMENT_SIZE
from chain.script.script import (
    TruncatedScript,
    is_p2sh,
    is_push_only,
    is_unspendable,
    iterate,
    sigop_count,
    witness_program,
)
from chain.script.standard import ScriptType, classify

MAX_STANDARD_TX_WEIGHT: Final = 400_000
MIN_STANDARD_TX_NONWITNESS_SIZE: Final = (
    65  #: one more than 64: an inner node of the merkle tree must not look like a transaction (CVE-2017-12842)
)
MAX_P2SH_SIGOPS: Final = 15
MAX_STANDARD_TX_SIGOPS_COST: Final = MAX_BLOCK_SIGOPS_COST // 5
MAX_STANDARD_SCRIPTSIG_SIZE: Final = 1650
MAX_STANDARD_P2WSH_STACK_ITEMS: Final = 100
MAX_STANDARD_P2WSH_STACK_ITEM_SIZE: Final = 80
MAX_STANDARD_TAPSCRIPT_STACK_ITEM_SIZE: Final = 80
MAX_STANDARD_P2WSH_SCRIPT_SIZE: Final = 3600
MAX_DUST_OUTPUTS_PER_TX: Final = 1  #: and that one only if the transaction pays no fee (ephemeral dust)
TX_MIN_STANDARD_VERSION: Final = 1
TX_MAX_STANDARD_VERSION: Final = 3
BYTES_PER_SIGOP: Final = 20

DEFAULT_MIN_RELAY_FEE_RATE: Final = 100  #: satoshi per kvB; Core 30 lowered it from 1000
DEFAULT_INCREMENTAL_RELAY_FEE_RATE: Final = 100
DEFAULT_DUST_RELAY_FEE_RATE: Final = 3000
DEFAULT_MAX_DATACARRIER_BYTES: Final = MAX_STANDARD_TX_WEIGHT // 4
DEFAULT_MAX_MEMPOOL_BYTES: Final = 300_000_000
DEFAULT_EXPIRY_S: Final = 336 * 3600

_P2A: Final = bytes.fromhex("51024e73")
_OP_1NEGATE: Final = 0x4F
_OP_RESERVED: Final = 0x50


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """Bounds on how many unconfirmed transactions may hang together.

    Core up to 30 limits ancestors and descendants (25 and 101 kvB), Core 31 limits clusters (64 and 101 kvB) and
    nothing else. Here both hold; `cluster_only()` gives Core 31's behaviour. Sizes are virtual bytes; None switches a
    limit off.
    """

    ancestor_count: int | None = 25
    ancestor_vsize: int | None = 101_000
    descendant_count: int | None = 25
    descendant_vsize: int | None = 101_000
    cluster_count: int = 64
    cluster_vsize: int = 101_000

    @classmethod
    def cluster_only(cls, cluster_count: int = 64, cluster_vsize: int = 101_000) -> MempoolLimits:
        """Core 31's limits."""
        return cls(None, None, None, None, cluster_count, cluster_vsize)


@dataclass(frozen=True, slots=True)
class MempoolPolicy:
    """The operator's choices, with Core 31's defaults. Rates in satoshi per kvB, sizes in bytes, times in seconds."""

    min_relay_fee_rate: int = DEFAULT_MIN_RELAY_FEE_RATE
    incremental_relay_fee_rate: int = DEFAULT_INCREMENTAL_RELAY_FEE_RATE
    dust_relay_fee_rate: int = DEFAULT_DUST_RELAY_FEE_RATE
    max_datacarrier_bytes: int | None = DEFAULT_MAX_DATACARRIER_BYTES  #: None: no data output is standard
    permit_bare_multisig: bool = True
    require_standard: bool = True  #: False: `-acceptnonstdtxn`, for test networks
    bytes_per_sigop: int = BYTES_PER_SIGOP
    max_mempool_bytes: int = DEFAULT_MAX_MEMPOOL_BYTES  #: as Core counts (entries.transaction_usage)
    expiry_s: int = DEFAULT_EXPIRY_S
    persist_v1: bool = False  #: write mempool.dat without XOR, for old readers
    limits: MempoolLimits = field(default_factory=MempoolLimits)


def fee_at(rate_sat_per_kvb: int, vsize: int) -> int:
    """The fee in satoshi that a rate asks for this many virtual bytes, rounded up (CFeeRate::GetFee)."""
    return -(-rate_sat_per_kvb * vsize // 1000)


def dust_threshold(script_pubkey: bytes, dust_relay_fee_rate: int) -> int:
    """The smallest value in satoshi that an output with this script may have without being dust: what creating and
    spending it would cost at the dust fee rate. 546 for P2PKH and 294 for P2WPKH at the default; 0 if it can never be
    spent."""
    length = len(script_pubkey)
    if is_unspendable(script_pubkey):
        return 0
    size = 8 + (1 if length < 253 else 3) + length
    size += 32 + 4 + 1 + (107 // 4 if witness_program(script_pubkey) is not None else 107) + 4
    return fee_at(dust_relay_fee_rate, size)


def dust_outputs(tx: Transaction, dust_relay_fee_rate: int) -> list[int]:
    """Indexes of the outputs that are dust."""
    cheap = 5 * dust_relay_fee_rate  # no script that fits in 5 kB has a higher threshold
    return [
        index
        for index, value in enumerate(tx.values)
        if (value < cheap or len(tx.scripts[index]) > 4000)
        and value < dust_threshold(tx.scripts[index], dust_relay_fee_rate)
    ]


def check_standard(tx: Transaction, policy: MempoolPolicy) -> None:
    """IsStandardTx: form alone, without the coins that it spends."""
    if not TX_MIN_STANDARD_VERSION <= tx.version <= TX_MAX_STANDARD_VERSION:
        raise PolicyError("version")
    if tx.weight > MAX_STANDARD_TX_WEIGHT:
        raise PolicyError("tx-size")
    for script_sig in tx.script_sigs:
        if script_sig:
            if len(script_sig) > MAX_STANDARD_SCRIPTSIG_SIZE:
                raise PolicyError("scriptsig-size")
            if not is_push_only(script_sig):
                raise PolicyError("scriptsig-not-pushonly")
    data_left = policy.max_datacarrier_bytes or 0
    for script in tx.scripts:
        if _is_common(script):
            continue
        kind, solutions = classify(script)
        if kind is ScriptType.NONSTANDARD:
            raise PolicyError("scriptpubkey")
        if kind is ScriptType.MULTISIG:
            required, total = solutions[0][0], solutions[-1][0]
            if not (1 <= total <= 3 and 1 <= required <= total):
                raise PolicyError("scriptpubkey")
            if not policy.permit_bare_multisig:
                raise PolicyError("bare-multisig")
        elif kind is ScriptType.NULLDATA:
            if len(script) > data_left:
                raise PolicyError("datacarrier")
            data_left -= len(script)
    if len(dust_outputs(tx, policy.dust_relay_fee_rate)) > MAX_DUST_OUTPUTS_PER_TX:
        raise PolicyError("dust")


def check_inputs_standard(tx: Transaction, spent: Sequence[PackedCoin]) -> None:
    """ValidateInputsStandardness: no unknown scripts, no costly P2SH, not too many signature operations outside the
    witness (BIP54).

    `spent` holds the coins in input order. The scriptSigs must be push-only (`check_standard`).
    """
    if (
        20 * (tx.base_size + sum(map(len, spent))) > BIP54_MAX_TX_SIGOPS
        and legacy_sigops(tx, spent) > BIP54_MAX_TX_SIGOPS
    ):
        raise _inputs_nonstandard("non-witness sigops exceed bip54 limit")
    for index, coin in enumerate(spent):
        script = coin[12:]
        if is_p2sh(script):
            values = push_values(tx.script_sigs[index])
            if values is None:
                error = _push_error(tx.script_sigs[index])
                raise _inputs_nonstandard(f"p2sh scriptsig malformed (input {index}: {error.message})")
            if not values:
                raise _inputs_nonstandard(f"input {index} P2SH redeemscript missing")
            sigops = sigop_count(values[-1], accurate=True)
            if sigops > MAX_P2SH_SIGOPS:
                raise _inputs_nonstandard(
                    f"p2sh redeemscript sigops exceed limit (input {index}: {sigops} > {MAX_P2SH_SIGOPS})"
                )
        elif not _is_common(script):
            kind, _ = classify(script)
            if kind is ScriptType.NONSTANDARD:
                raise _inputs_nonstandard(f"input {index} script unknown")
            if kind is ScriptType.WITNESS_UNKNOWN:
                raise _inputs_nonstandard(f"input {index} witness program is undefined")


def check_witness_standard(tx: Transaction, spent: Sequence[PackedCoin]) -> None:
    """IsWitnessStandard: no stuffed witnesses."""
    for index, witness in enumerate(tx.witnesses):
        if witness and not _is_witness_standard(spent[index][12:], tx.script_sigs[index], witness):
            raise PolicyError("bad-witness-nonstandard", "", TxResult.WITNESS_MUTATED)


def spends_witness_program(tx: Transaction, spent: Sequence[PackedCoin]) -> bool:
    """Whether some input spends a witness program other than pay-to-anchor, bare or in P2SH: then an empty witness
    explains a failure."""
    for coin, script_sig in zip(spent, tx.script_sigs, strict=True):
        script = coin[12:]
        if witness_program(script) is not None:
            if script != _P2A:
                return True
        elif is_p2sh(script):
            values = push_values(script_sig)
            if values and witness_program(values[-1]) is not None:
                return True
    return False


def check_ephemeral(tx: Transaction, fee: int, modified_fee: int, policy: MempoolPolicy) -> None:
    """A transaction with a dust output must pay nothing, so that no one mines it without the child that spends the
    dust."""
    if (fee or modified_fee) and dust_outputs(tx, policy.dust_relay_fee_rate):
        raise PolicyError("dust", "tx with dust output must be 0-fee")


def sigop_adjusted_weight(weight: int, sigop_cost: int, bytes_per_sigop: int) -> int:
    """Weight units, at least `bytes_per_sigop` of them for every unit of sigop cost."""
    return max(weight, sigop_cost * bytes_per_sigop)


def _inputs_nonstandard(debug: str) -> PolicyError:
    return PolicyError("bad-txns-nonstandard-inputs", debug, TxResult.INPUTS_NOT_STANDARD)


def _is_common_witness(script: bytes) -> bool:
    """P2WPKH, P2WSH or P2TR, told by their fixed bytes."""
    return script[:2] in (b"\x00\x14", b"\x00\x20", b"\x51\x20") and len(script) == 2 + script[1]


def _is_common(script: bytes) -> bool:
    """One of the templates that need no parsing: the three above, P2PKH and P2SH."""
    return (
        _is_common_witness(script)
        or (len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac")
        or is_p2sh(script)
    )


def push_values(script_sig: bytes) -> list[bytes] | None:
    """The stack that a push-only script leaves, None if running it fails (an element over 520 bytes, or cut short)."""
    values = []
    try:
        for opcode, data in iterate(script_sig):
            if data is None:
                data = b"\x81" if opcode == _OP_1NEGATE else bytes([opcode - _OP_RESERVED])
            if len(data) > MAX_ELEMENT_SIZE or opcode == _OP_RESERVED:
                return None
            values.append(data)
    except TruncatedScript:
        return None
    return values


def _push_error(script_sig: bytes) -> ScriptError:
    """Why push_values has no answer."""
    for opcode, data in iterate(script_sig):
        if data is not None and len(data) > MAX_ELEMENT_SIZE:
            return ScriptError.PUSH_SIZE
        if opcode == _OP_RESERVED:
            return ScriptError.BAD_OPCODE
    return ScriptError.BAD_OPCODE


def _is_witness_standard(script: bytes, script_sig: bytes, witness: tuple[bytes, ...]) -> bool:
    if script == _P2A:
        return False
    nested = is_p2sh(script)
    if nested:
        values = push_values(script_sig)
        if not values:
            return False
        script = values[-1]
    found = witness_program(script)
    if found is None:
        return False
    version, program = found
    if version == 0 and len(program) == 32:
        return (
            len(witness[-1]) <= MAX_STANDARD_P2WSH_SCRIPT_SIZE
            and len(witness) - 1 <= MAX_STANDARD_P2WSH_STACK_ITEMS
            and all(len(item) <= MAX_STANDARD_P2WSH_STACK_ITEM_SIZE for item in witness[:-1])
        )
    if version == 1 and len(program) == 32 and not nested and len(witness) >= 2:
        if witness[-1] and witness[-1][0] == ANNEX_TAG:
            return False
        control_block = witness[-1]
        if not control_block:
            return False
        if control_block[0] & TAPROOT_LEAF_MASK == TAPSCRIPT_LEAF_VERSION:
            return all(len(item) <= MAX_STANDARD_TAPSCRIPT_STACK_ITEM_SIZE for item in witness[:-2])
    return True
