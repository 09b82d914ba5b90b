"""What coin selection works with: candidates, the request, the answer, and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.primitives.serialize import write_compact_size
from chain.primitives.transaction import WITNESS_SCALE_FACTOR, TxOut
from chain.script.standard import ScriptType, classify

SAT_PER_KVB = 1000
DUST_FEE_RATE_SAT_PER_KVB = 3000  #: Core DUST_RELAY_TX_FEE; outputs worth less than spending them are not relayed
_OUTPOINT_AND_SEQUENCE = 36 + 4

#: weight of one input, signature included: ECDSA signatures here are 71 bytes with their hash type (low R, low S),
#: Schnorr 64.
INPUT_WEIGHTS: dict[ScriptType, int] = {
    ScriptType.WITNESS_V0_KEYHASH: WITNESS_SCALE_FACTOR * (_OUTPOINT_AND_SEQUENCE + 1) + (1 + 1 + 71 + 1 + 33),
    ScriptType.WITNESS_V1_TAPROOT: WITNESS_SCALE_FACTOR * (_OUTPOINT_AND_SEQUENCE + 1) + (1 + 1 + 64),
    ScriptType.PUBKEYHASH: WITNESS_SCALE_FACTOR * (_OUTPOINT_AND_SEQUENCE + 1 + 1 + 71 + 1 + 33),
    ScriptType.SCRIPTHASH: WITNESS_SCALE_FACTOR * (_OUTPOINT_AND_SEQUENCE + 1 + 23)
    + (1 + 1 + 71 + 1 + 33),  # P2SH-P2WPKH
}

#: what spending an output costs in bytes for the dust rule: Core GetDustThreshold counts 148, or 67 for a witness
#: program.
_DUST_SPEND_BYTES = 32 + 4 + 1 + 107 + 4
_DUST_WITNESS_SPEND_BYTES = 32 + 4 + 1 + 107 // WITNESS_SCALE_FACTOR + 4


MAX_STANDARD_WEIGHT = 400_000  #: Core MAX_STANDARD_TX_WEIGHT: nothing larger is relayed


class TooManyInputs(Exception):
    """The coins that would pay do not fit one transaction."""


class InsufficientFunds(Exception):
    """The candidates cannot pay for the request. `needed` and `available` are in satoshi."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} satoshi needed, {available} available")
        self.needed = needed
        self.available = available


@dataclass(frozen=True, slots=True)
class Candidate:
    """A coin that may be spent: its value in satoshi and the weight its input will have."""

    outpoint: bytes
    value: int
    weight: int
    has_witness: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What to pay: outputs, the fee rate, and what a change output would look like."""

    outputs: tuple[TxOut, ...]
    fee_rate_sat_per_kvb: int
    change_script: bytes
    change_spend_weight: int = INPUT_WEIGHTS[ScriptType.WITNESS_V0_KEYHASH]
    long_term_fee_rate_sat_per_kvb: int = (
        10_000  #: what spending is expected to cost later (Core's -consolidatefeerate)
    )
    must_spend: tuple[Candidate, ...] = ()  #: in every answer, as when a payment is replaced

    @property
    def payment(self) -> int:
        """Sum of the outputs, satoshi."""
        return sum(out.value for out in self.outputs)

    @property
    def dust_limit(self) -> int:
        """The smallest change worth making."""
        return dust_threshold(self.change_script)

    @property
    def cost_of_change(self) -> int:
        """Making a change output now and spending it later, satoshi."""
        make = fee_for_weight(output_weight(self.change_script), self.fee_rate_sat_per_kvb)
        return make + fee_for_weight(self.change_spend_weight, self.long_term_fee_rate_sat_per_kvb)


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer: inputs, the fee, and the change (None when everything goes to outputs and fee)."""

    inputs: tuple[Candidate, ...]
    fee: int
    change: int | None
    waste: int
    selector: str

    @property
    def total(self) -> int:
        """Sum of the inputs, satoshi."""
        return sum(coin.value for coin in self.inputs)


def fee_for_weight(weight: int, rate_sat_per_kvb: int) -> int:
    """The smallest fee that pays the rate for the virtual size of `weight`, satoshi."""
    vsize = -(-weight // WITNESS_SCALE_FACTOR)
    return -(-vsize * rate_sat_per_kvb // SAT_PER_KVB)


def output_weight(script_pubkey: bytes) -> int:
    """Weight of one output."""
    return WITNESS_SCALE_FACTOR * (8 + len(write_compact_size(len(script_pubkey))) + len(script_pubkey))


def transaction_weight(inputs: Sequence[Candidate], scripts: Sequence[bytes]) -> int:
    """Weight of the whole signed transaction."""
    counts = len(write_compact_size(len(inputs))) + len(write_compact_size(len(scripts)))
    weight = WITNESS_SCALE_FACTOR * (4 + counts + 4) + sum(map(output_weight, scripts)) + sum(c.weight for c in inputs)
    if any(coin.has_witness for coin in inputs):
        weight += 2 + sum(
            not coin.has_witness for coin in inputs
        )  # marker and flag, an empty stack for each other input
    return weight


def dust_threshold(script_pubkey: bytes) -> int:
    """The smallest value in satoshi that nodes relay for an output script (Core GetDustThreshold)."""
    kind, _ = classify(script_pubkey)
    if kind is ScriptType.NULLDATA:
        return 0
    size = output_weight(script_pubkey) // WITNESS_SCALE_FACTOR
    witness = (
        len(script_pubkey) >= 4
        and script_pubkey[1] == len(script_pubkey) - 2
        and (script_pubkey[0] == 0 or 0x51 <= script_pubkey[0] <= 0x60)
    )
    size += _DUST_WITNESS_SPEND_BYTES if witness else _DUST_SPEND_BYTES
    return -(-size * DUST_FEE_RATE_SAT_PER_KVB // SAT_PER_KVB)
