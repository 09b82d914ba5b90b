"""The coinbase transaction of a template, split where the extranonce goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.crypto.hashes import sha256d
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount

EXTRANONCE_SIZE = 8  #: bytes: 4 that tell this process from others on the same node, 4 that count
MAX_SCRIPT_SIG = 100  #: consensus: a coinbase's input script has 2 to 100 bytes
TAG = b"/Pickaxe/"
_COMMITMENT_HEADER = bytes.fromhex("6a24aa21a9ed")  # BIP141: OP_RETURN, push 36 bytes, marker
_WITNESS_RESERVED_VALUE = bytes(32)
_NOT_FINAL = 0xFFFFFFFE  # a sequence that leaves the lock time in force (BIP54); any block may carry it


@dataclass(frozen=True, slots=True)
class CoinbaseParts:
    """A coinbase with a gap of EXTRANONCE_SIZE bytes.

    `head` and `tail` surround the extranonce in the serialization without witness, which the txid hashes.
    """

    head: bytes
    tail: bytes
    has_witness: bool

    def stripped(self, extranonce: bytes) -> bytes:
        """What the txid is taken over."""
        return self.head + extranonce + self.tail

    def serialized(self, extranonce: bytes) -> bytes:
        """As it goes into the block (BIP144, with the witness reserved value when the block has a commitment)."""
        stripped = self.stripped(extranonce)
        if not self.has_witness:
            return stripped
        witness = b"\x01\x20" + _WITNESS_RESERVED_VALUE
        return stripped[:4] + b"\x00\x01" + stripped[4:-4] + witness + stripped[-4:]


def build_coinbase(
    height: int, value: int, payout: bytes, commitment_script: bytes | None, extra: bytes = TAG
) -> CoinbaseParts:
    """A coinbase that pays `value` satoshi to `payout`.

    The height leads the input script (BIP34); the lock time is height - 1 under a non-final sequence, which BIP54 asks
    for and every other rule set allows. `extra` (the template's coinbaseaux, a tag) is cut to what fits.
    """
    prefix = push_height(height)
    room = MAX_SCRIPT_SIG - len(prefix) - 1 - EXTRANONCE_SIZE
    extra = extra[: max(0, min(room - 1, 75))]
    suffix = bytes([len(extra)]) + extra if extra else b""
    script_sig = prefix + bytes([EXTRANONCE_SIZE]) + bytes(EXTRANONCE_SIZE) + suffix
    outputs = [TxOut(Amount(value), payout)]
    if commitment_script is not None:
        outputs.append(TxOut(Amount(0), commitment_script))
    transaction = Transaction.build(
        2, [TxIn(NULL_OUTPOINT, script_sig, _NOT_FINAL, ())], outputs, locktime=max(0, height - 1)
    )
    raw = transaction.stripped
    # version, input count, null outpoint, script length (one byte below 253), then the script
    gap = 4 + 1 + 36 + 1 + len(prefix) + 1
    return CoinbaseParts(raw[:gap], raw[gap + EXTRANONCE_SIZE :], commitment_script is not None)


def push_height(height: int) -> bytes:
    """The height as BIP34 wants it: what `CScript() << height` gives (OP_0, OP_1..OP_16, else a minimal push)."""
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    size = height.bit_length() // 8 + 1  # one more bit for the sign
    return bytes([size]) + height.to_bytes(size, "little")


def witness_commitment_script(wtxids: Sequence[bytes]) -> bytes:
    """The commitment output for the non-coinbase transactions with these wtxids (BIP141), reserved value zero."""
    root, _ = merkle_root([ZERO_HASH, *wtxids])
    return _COMMITMENT_HEADER + sha256d(root + _WITNESS_RESERVED_VALUE)
