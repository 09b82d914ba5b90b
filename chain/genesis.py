"""Genesis blocks: how they are built, and how the nonce of a new one is found.

`tools/mine_genesis.py` mines those of Pickaxe's own networks again and compares them with the ones fixed in
chain.params.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount

SATOSHI_MESSAGE = b"The Times 03/Jan/2009 Chancellor on brink of second bailout for banks"
SATOSHI_SCRIPT = bytes.fromhex(
    "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac"
)
UNSPENDABLE_SCRIPT = b"\x6a"  #: OP_RETURN: the genesis coinbase of our own networks pays nobody
MAX_MESSAGE_SIZE = 90  #: so that the coinbase's scriptSig stays within its 100 bytes

_PROGRESS_EVERY = 1 << 18


def _push(data: bytes) -> bytes:
    """The smallest push of 1 to 255 bytes."""
    return (bytes([len(data)]) if len(data) < 76 else b"\x4c" + bytes([len(data)])) + data


def build_genesis(
    message: bytes,
    time: int,
    nbits: int,
    nonce: int,
    *,
    version: int = 1,
    value: int = 0,
    script: bytes = UNSPENDABLE_SCRIPT,
) -> Block:
    """The genesis block of a network: one coinbase, built as Bitcoin's was (0x1d00ffff, 4 and the message pushed)."""
    script_sig = _push((486604799).to_bytes(4, "little")) + _push(b"\x04") + _push(message)
    coinbase = Transaction.build(1, [TxIn(NULL_OUTPOINT, script_sig)], [TxOut(Amount(value), script)], 0)
    header = BlockHeader.build(version, ZERO_HASH, merkle_root([coinbase.txid])[0], time, nbits, nonce)
    return Block.build(header, [coinbase])


def mine_genesis(
    message: bytes,
    time: int,
    nbits: int,
    *,
    version: int = 1,
    value: int = 0,
    script: bytes = UNSPENDABLE_SCRIPT,
    progress: Callable[[int], None] | None = None,
) -> Block:
    """The block with the lowest nonce that meets `nbits`, from nonce 0 at `time` on; where 2**32 nonces are not enough,
    the next second is tried.

    One thread, about a million hashes a second: 0x1f00ffff takes a moment, 0x1e00ffff half a minute, 0x1d00ffff hours.
    `progress` is called with the number of hashes done about four times a second.
    """
    target = target_from_nbits(nbits)
    if target is None:
        raise ValueError(f"0x{nbits:08x} stands for no target")
    limit = target.to_bytes(32, "big")
    hashes = 0
    while True:
        start = build_genesis(message, time, nbits, 0, version=version, value=value, script=script).header.raw
        midstate = sha256(start[:64])
        tail = start[64:76]
        for nonce in range(1 << 32):
            inner = midstate.copy()
            inner.update(tail + nonce.to_bytes(4, "little"))
            if sha256(inner.digest()).digest()[::-1] <= limit:
                return build_genesis(message, time, nbits, nonce, version=version, value=value, script=script)
            hashes += 1
            if progress is not None and not hashes % _PROGRESS_EVERY:
                progress(hashes)
        time += 1
