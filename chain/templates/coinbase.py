"""Coinbase transactions: what pays the miner and commits to the height and to the witnesses of a block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chain.consensus.constants import MAX_COINBASE_SCRIPT_SIZE, MIN_COINBASE_SCRIPT_SIZE, WITNESS_COMMITMENT_HEADER
from chain.crypto.hashes import sha256d
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount
from chain.script.script import push_data, push_int

#: Not final, so that nLockTime binds (BIP54). Core 30 and later do the same on every network.
COINBASE_SEQUENCE: Final = 0xFFFFFFFE
COINBASE_VERSION: Final = 2
WITNESS_RESERVED_VALUE: Final = bytes(32)  #: BIP141
_OP_0: Final = b"\x00"


def make_coinbase(
    height: int,
    script_pubkey: bytes,
    value: int,
    *,
    witness_commitment: bytes | None = None,
    extranonce: bytes = b"",
    extra: bytes = b"",
) -> Transaction:
    """The coinbase of the block at `height`, paying `value` satoshi to `script_pubkey`.

    Its scriptSig holds the height (BIP34), then a push of `extranonce` if there is one, then `extra` as it is.
    `witness_commitment` is the whole output script (`commitment_script`), None for a block before segwit. nLockTime
    is the height less one and enforced (BIP54). ValueError if the scriptSig would exceed 100 bytes.
    """
    script_sig = coinbase_prefix(height)
    if extranonce:
        script_sig += push_data(extranonce)
    script_sig += extra
    if len(script_sig) < MIN_COINBASE_SCRIPT_SIZE:
        script_sig += _OP_0
    if len(script_sig) > MAX_COINBASE_SCRIPT_SIZE:
        raise ValueError(f"a coinbase script has at most {MAX_COINBASE_SCRIPT_SIZE} bytes, not {len(script_sig)}")
    outputs = [TxOut(Amount(value), script_pubkey)]
    witness: tuple[bytes, ...] = ()
    if witness_commitment is not None:
        outputs.append(TxOut(Amount(0), witness_commitment))
        witness = (WITNESS_RESERVED_VALUE,)
    coinbase_input = TxIn(NULL_OUTPOINT, script_sig, COINBASE_SEQUENCE, witness)
    return Transaction.build(COINBASE_VERSION, [coinbase_input], outputs, height - 1)


def coinbase_prefix(height: int) -> bytes:
    """What a coinbase's scriptSig begins with: a push of the height (BIP34)."""
    return push_int(height)


def commitment_script(transactions: Iterable[Transaction], reserved: bytes = WITNESS_RESERVED_VALUE) -> bytes:
    """The output script that commits to the witnesses (BIP141) of a block with these transactions after its
    coinbase."""
    root, _ = merkle_root([ZERO_HASH, *(tx.wtxid for tx in transactions)])
    return WITNESS_COMMITMENT_HEADER + sha256d(root + reserved)
