"""BIP158 basic block filters and their headers (BIP157): which blocks may concern a wallet, in about 20 kB each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from chain.crypto import gcs
from chain.crypto.hashes import sha256d
from chain.primitives.block import Block
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import read_compact_size_at, write_compact_size

BASIC_P: Final = 19  #: bits of a remainder
BASIC_M: Final = 784_931  #: one false match in so many
GENESIS_PREV_HEADER: Final = bytes(32)
_OP_RETURN: Final = 0x6A


def basic_elements(block: Block, undo: Sequence[Sequence[bytes]]) -> set[bytes]:
    """The scripts that the filter of a block covers: all that it pays to but OP_RETURN, and all that it spends; `undo`
    are the packed coins spent, by transaction."""
    scripts = {script for tx in block.transactions for script in tx.scripts if script and script[0] != _OP_RETURN}
    scripts.update([coin[SCRIPT_OFFSET:] for spent in undo for coin in spent])
    scripts.discard(b"")
    return scripts


def basic_filter(block_hash: bytes, elements: Collection[bytes]) -> bytes:
    """The filter as it is served: CompactSize count, coded set. `elements` must not repeat."""
    count = len(elements)
    values = gcs.hash_elements(elements, block_hash[:16], count * BASIC_M)
    return write_compact_size(count) + gcs.encode(values, BASIC_P)


def filter_matches(encoded: bytes, block_hash: bytes, scripts: Collection[bytes]) -> bool:
    """Whether the block may pay to, or spend from, any of `scripts`. DecodeError if `encoded` is no filter."""
    try:
        count, pos = read_compact_size_at(encoded, 0)
        return gcs.match_any(encoded[pos:], count, BASIC_P, block_hash[:16], count * BASIC_M, scripts)
    except (IndexError, ValueError) as error:
        raise DecodeError(f"not a block filter: {error}") from error


def filter_hash(encoded: bytes) -> bytes:
    """32 bytes, internal order."""
    return sha256d(encoded)


def filter_header(hash_: bytes, prev_header: bytes) -> bytes:
    """What commits to a filter, by its hash, and to all filters before it."""
    return sha256d(hash_ + prev_header)
