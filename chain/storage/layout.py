"""Every key and record of the chain's database, and the names of its files.

One LMDB environment, ``<datadir>/chainstate``, holds three databases, so that one write transaction moves coins,
index and tip together:

* ``meta``: the keys below;
* ``index``: block hash (32 bytes, internal order) to an index record;
* ``coins``: outpoint (36 bytes) to packed coin (`chain.primitives.coin`).

Blocks and undo data lie outside, in ``<datadir>/blocks/blkNNNNN.dat`` and ``revNNNNN.dat`` as Bitcoin Core writes
them.
"""

from __future__ import annotations

import struct
from pathlib import Path

FORMAT_VERSION = 1  #: raised when a layout below changes; an older or newer store is refused with one line

META_DB = b"meta"
INDEX_DB = b"index"
COINS_DB = b"coins"

KEY_FORMAT = b"format"  #: u32 LE, FORMAT_VERSION
KEY_NETWORK = b"network"  #: hash of the genesis block: one store holds one chain
KEY_SUMS = b"sums"  #: there since the store's pages have checksums: without the file of them it is damaged
KEY_TIP = b"tip"  #: hash of the block that the coins are at
KEY_POSITION = b"position"  #: POSITION record: where the block files ended when the tip was written
KEY_HISTORICAL = b"historical_position"  #: the same for the files with blocks below a UTXO snapshot, while validated
KEY_SNAPSHOT_VALIDATED = b"snapshot_validated"  #: base of the UTXO snapshot that the coins here proved right

CHAINSTATE_DIR = "chainstate"
SNAPSHOT_DIR = "chainstate_snapshot"  #: coins of a chain that stands on a UTXO snapshot: a second environment
SNAPSHOT_BASE_FILE = "base_blockhash"  #: in it: hash of the snapshot's block; until it is there, loading is not done
SNAPSHOT_INVALID_DIR = "chainstate_snapshot_INVALID"  #: coins of a snapshot that proved wrong
OBSOLETE_DIR = "chainstate_todelete"  #: coins that validated a snapshot and are needed no more
BLOCKS_DIR = "blocks"
XOR_FILE = "xor.dat"
LOCK_FILE = ".lock"

POSITION = struct.Struct("<II")  #: number of the last block file, bytes of it in use
HEADER_SIZE = 80
#: One block of the header tree: header, height, status (chain.index), transactions (0 until the block itself was seen),
#: file number, position of the block's first byte after magic and size, and the same of its undo data.
INDEX_RECORD = struct.Struct("<80sIIIIII")
#: The same to read: of the header only the hash of the block before, the time and nbits; then all the rest.
INDEX_FIELDS = struct.Struct("<4x32s32xII4xIIIIII")
INDEX_HEIGHT = struct.Struct("<80xI20x")  #: the height alone


def block_file(blocks_dir: Path, number: int) -> Path:
    """Where block file `number` is."""
    return blocks_dir / f"blk{number:05d}.dat"


def undo_file(blocks_dir: Path, number: int) -> Path:
    """Where the undo data of the blocks in block file `number` are."""
    return blocks_dir / f"rev{number:05d}.dat"
