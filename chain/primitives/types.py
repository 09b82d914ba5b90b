"""Names for the values that must not be confused, and the two spellings of a hash.

Hashes are bytes in internal order (the order in which SHA-256d leaves them, the order on the wire). Display order, the
byte-reversed hexadecimal that users and RPC see, exists only at the edges, in names that end in ``_hex``.
"""

from __future__ import annotations

from typing import NewType

Txid = NewType("Txid", bytes)  #: 32 bytes, SHA-256d of the transaction without witness
Wtxid = NewType("Wtxid", bytes)  #: 32 bytes, SHA-256d of the transaction with witness (BIP141)
BlockHash = NewType("BlockHash", bytes)  #: 32 bytes, SHA-256d of the 80-byte header
OutPoint = NewType("OutPoint", bytes)  #: 36 bytes: txid, then the output's index as u32 LE, as on the wire
PackedCoin = NewType("PackedCoin", bytes)  #: see chain.primitives.coin

Amount = NewType("Amount", int)  #: satoshi
Height = NewType("Height", int)
Target = NewType("Target", int)  #: 256-bit threshold; a block hash read as a little-endian integer must not exceed it
Nbits = NewType("Nbits", int)  #: the compact 32-bit form of a target
Work = NewType("Work", int)  #: expected number of hashes

ZERO_HASH = bytes(32)
NULL_OUTPOINT = OutPoint(bytes(32) + b"\xff\xff\xff\xff")  #: what a coinbase input spends


def hash_to_hex(internal: bytes) -> str:
    """The display form of a hash: bytes reversed, lower-case hexadecimal."""
    return internal[::-1].hex()


def hash_from_hex(text: str) -> bytes:
    """The internal bytes of a hash in display form; ValueError unless it is exactly 64 hexadecimal digits."""
    if len(text) != 64:
        raise ValueError(f"a hash has 64 hexadecimal digits, not {len(text)}")
    return bytes.fromhex(text)[::-1]


def make_outpoint(txid: bytes, index: int) -> OutPoint:
    """Join a txid (32 bytes) and an output index into 36 bytes."""
    return OutPoint(txid + index.to_bytes(4, "little"))


def split_outpoint(outpoint: bytes) -> tuple[Txid, int]:
    """The txid and the output index of a 36-byte outpoint."""
    return Txid(outpoint[:32]), int.from_bytes(outpoint[32:], "little")
