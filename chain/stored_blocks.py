"""Blocks and undo data by their place in the header tree: read from the files, and told from damage."""

from __future__ import annotations

from chain.consensus.block import check_merkle_root, check_witness_malleation
from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, LocalFault
from chain.primitives.types import BlockHash, PackedCoin, hash_to_hex
from chain.storage.block_files import BlockFiles
from chain.storage.undo import decode_undo

RECENT_BLOCKS = 32  #: kept in memory from their arrival until they are connected


class StoredBlocks:
    """What the block files hold, and the blocks that have just arrived. `read_raw` is safe from any thread."""

    def __init__(self, files: BlockFiles, params: NetworkParams) -> None:
        self._files = files
        self._params = params
        self._recent: dict[BlockHash, Block] = {}

    def remember(self, block: Block) -> None:
        """It has arrived, is on disk, and is likely to be connected next."""
        self._recent[block.hash] = block
        if len(self._recent) > RECENT_BLOCKS:
            del self._recent[next(iter(self._recent))]

    def forget(self, block_hash: BlockHash) -> None:
        """It was connected, or will not be."""
        self._recent.pop(block_hash, None)

    def recent(self, block_hash: BlockHash) -> Block | None:
        """A block that has been remembered."""
        return self._recent.get(block_hash)

    def read_raw(self, entry: BlockIndexEntry) -> bytes:
        """The block's bytes from disk; LocalFault if they are not there."""
        if not entry.have_data:
            raise LocalFault(f"Block {hash_to_hex(entry.hash)} is not on disk")
        return self._files.read_block(entry.file_number, entry.data_pos)

    def read(self, entry: BlockIndexEntry) -> Block:
        """The block from disk, parsed; LocalFault if the disk does not hold it or holds something else."""
        try:
            block = Block.parse(self.read_raw(entry))
        except DecodeError as error:
            raise damaged(entry, str(error)) from error
        if block.hash != entry.hash:
            raise damaged(entry, "another block is in its place")
        try:  # the header is right: these two cover all the rest, so that damage is not mistaken for an invalid block
            check_merkle_root(block)
            if entry.height >= self._params.segwit_height:  # before, witnesses may lie there from another setting of it
                check_witness_malleation(block, True)
        except ConsensusError as error:
            raise damaged(entry, str(error)) from error
        return block

    def read_undo(self, entry: BlockIndexEntry) -> list[list[PackedCoin]]:
        """The coins that the block spent, by transaction (without the coinbase) and input; LocalFault if they are
        missing or damaged.
        """
        if entry.prev is None:
            return []
        if not entry.have_undo:
            raise LocalFault(f"The undo data of block {hash_to_hex(entry.hash)} are not on disk")
        data = self._files.read_undo(entry.file_number, entry.undo_pos, entry.prev.hash)
        try:
            return decode_undo(data)
        except DecodeError as error:
            raise damaged(entry, f"its undo data: {error}") from error


def damaged(entry: BlockIndexEntry, what: str) -> LocalFault:
    """The fault of a block whose file does not hold what was written there."""
    return LocalFault(
        f"Block {hash_to_hex(entry.hash)} at height {entry.height} is damaged on disk ({what}); "
        "start with --reindex to rebuild"
    )
