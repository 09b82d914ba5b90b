"""Blocks from files: --loadblock, --reindex, and what a crash left beyond the last flush.

Blocks may come in any order: one whose parent is not known yet is remembered by its position and read again once
the parent is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from chain.consensus.errors import BlockResult, ConsensusError
from chain.events import Event
from chain.params import NETWORKS, NetworkParams
from chain.primitives.block import Block
from chain.primitives.errors import UserError
from chain.primitives.types import BlockHash
from chain.storage.block_files import BlockFiles, read_record, search_blocks, xor_bytes
from chain.storage.layout import XOR_FILE, block_file

if TYPE_CHECKING:
    from chain.chainstate import Chainstate

Place = TypeVar("Place")  # where a block can be read again

_STEP_BLOCKS = 32
_SEARCH_STEP_S = 0.1  #: of looking for a block


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is. `accepted` and `refused` count blocks so far; `events` are those since the last report."""

    accepted: int
    refused: int
    bytes_done: int
    bytes_total: int
    events: list[Event] = field(default_factory=list)


class _Importer(Generic[Place]):
    """Accepts blocks from places, parents first."""

    def __init__(self, accept: Callable[[Block, Place], bool], read: Callable[[Place], bytes]) -> None:
        self._accept = accept
        self._read = read
        self._orphans: dict[BlockHash, list[Place]] = {}
        self.accepted = 0
        self.refused = 0

    def offer(self, block: Block, place: Place) -> None:
        """Take a block in, and those that waited for it."""
        queue = [(block, place)]
        while queue:
            block, where = queue.pop()
            try:
                if self._accept(block, where):
                    self.accepted += 1
            except ConsensusError as error:
                if error.result is BlockResult.MISSING_PREV:
                    self._orphans.setdefault(block.header.prev_hash, []).append(where)
                else:
                    self.refused += 1
                continue
            queue += [(Block.parse(self._read(child)), child) for child in self._orphans.pop(block.hash, ())]


def load_block_file(chain: Chainstate, path: Path) -> Iterator[ImportProgress]:
    """Import the blocks of `path` (records of magic, size, block: a blk*.dat, if need be with the xor.dat beside it, or
    a bootstrap file), connecting as they come.

    Blocks that are known already are passed over, invalid ones are counted and passed over. UserError if the file
    cannot be read or holds no block of this network.
    """
    magic = chain.params.magic
    try:
        total = path.stat().st_size
        key = _key_beside(path, magic)
        with path.open("rb") as file:
            whose = _whose(file.read(4), chain.params)
    except OSError as error:
        raise UserError(f"Cannot read block file {path}: {error.strerror}") from error
    foreign = UserError(
        f"{path} holds no blocks of network {chain.params.name}{whose}: "
        "--loadblock takes blk*.dat or bootstrap.dat files of the same network, with the xor.dat that was beside them"
    )
    if whose:  # at once: it may be large
        raise foreign

    def accept(block: Block, _: int) -> bool:
        if block.hash == chain.params.genesis_hash:
            return False
        return chain.accept_block(block)[1]

    importer: _Importer[int] = _Importer(accept, lambda pos: read_record(path, pos, magic, key))
    seen = done = 0
    events: list[Event] = []
    reported = time.monotonic()
    blocks = chain.read_ahead(search_blocks(path, magic, 0, key), itemgetter(1))
    for pos, block in blocks:
        if block is None:  # the thread has other things to do, and the node may be stopping
            if time.monotonic() - reported > _SEARCH_STEP_S:
                yield ImportProgress(importer.accepted, importer.refused, pos, total, events)
                events, reported = [], time.monotonic()
            continue
        seen += 1
        importer.offer(block, pos)
        events += chain.activate_best_chain(meanwhile=blocks.fetch)
        done = pos + block.total_size
        if seen % _STEP_BLOCKS == 0:
            yield ImportProgress(importer.accepted, importer.refused, done, total, events)
            events = []
    if not seen:
        raise foreign
    yield ImportProgress(importer.accepted, importer.refused, total, total, events)


def _key_beside(path: Path, magic: bytes) -> bytes:
    """The key that a block file needs: that of the xor.dat in its folder, if its first bytes say so."""
    try:
        key = (path.parent / XOR_FILE).read_bytes()
    except OSError:
        key = b""
    with path.open("rb") as file:
        head = file.read(len(magic))
    return key if len(key) == 8 and any(key) and xor_bytes(head, key, 0) == magic else b""


def _whose(head: bytes, params: NetworkParams) -> str:
    """If another network's blocks begin like this, which."""
    other = next((known for known in NETWORKS.values() if known.magic == head != params.magic), None)
    return f", but of {other.name}" if other is not None else ""


def refuse_foreign(files: BlockFiles, params: NetworkParams) -> None:
    """UserError if all that is in the block files is another network's, or nothing known: writing would begin at the
    end of our last block there, which is nowhere, and destroy it.
    """
    first = files.first_file()
    if first is None:
        return
    number, head = first
    if params.magic.startswith(head) or not any(head):
        return
    whose = _whose(head, params)
    if next(files.scan(number, 0, only=bool(whose)), None) is None:
        advice = "" if whose else ". If its files are destroyed, move the folder away and start with --reindex"
        raise UserError(
            f"{files.blocks_dir} holds no blocks of network {params.name}{whose}: choose the network that they belong"
            f" to, or another --datadir{advice}. Nothing there was changed"
        )


def missing_files(files: BlockFiles) -> list[str]:
    """A remark on block files that are missing among the others, or nothing."""
    numbers = files.numbers()
    missing = sorted(set(range(numbers[-1])) - set(numbers)) if numbers else []
    if not missing:
        return []
    named = block_file(files.blocks_dir, missing[0])
    which = f"{named} is" if len(missing) == 1 else f"{named} and {len(missing) - 1} other block files are"
    return [f"{which} missing: the blocks that were there, and those that build on them, have to be downloaded again"]


def catch_up(chain: Chainstate) -> int:
    """Enter the blocks that the files hold beyond the last flush; how many. Afterwards writing goes on behind the
    last whole one.
    """
    files = chain.files
    importer = _stored_importer(chain)
    # With blocks below a UTXO snapshot apart, two files were being written; whatever followed has higher numbers than
    # both, and counts to the one of the higher number.
    starts = {(files.file_number, files.end)} | ({files.historical} if files.historical is not None else set())
    ends: dict[tuple[int, int], tuple[int, int]] = {}
    for start in sorted(starts):
        ends[start] = start
        for at_file, pos, block in files.scan(*start, only=start != max(starts)):
            importer.offer(block, (at_file, pos))
            ends[start] = at_file, pos + block.total_size
    if files.historical is not None:
        files.historical = ends[files.historical]
        files.cut(*files.historical)
    files.set_position(*ends[files.file_number, files.end])
    return importer.accepted


def reindex(chain: Chainstate, *, from_files: bool) -> Iterator[ImportProgress]:
    """Rebuild the coins, and with `from_files` the header tree first, from the block files. Stopping half-way loses
    no block file; a header-tree rebuild starts over then.
    """
    files = chain.files
    total = files.size_on_disk()
    importer = _stored_importer(chain)
    done = 0
    if from_files:
        files.delete_undo()
        number = end = 0
        for seen, (at_file, pos, block) in enumerate(files.scan(0, 0), 1):
            importer.offer(block, (at_file, pos))
            done += block.total_size
            number, end = at_file, pos + block.total_size
            if seen % _STEP_BLOCKS == 0:
                yield ImportProgress(importer.accepted, importer.refused, done, total)
        files.set_position(number, end)
        chain.store_genesis()
        chain.flush()
    while events := chain.activate_best_chain(max_blocks=_STEP_BLOCKS):
        yield ImportProgress(importer.accepted, importer.refused, done, total, events)
    chain.flush()


def _stored_importer(chain: Chainstate) -> _Importer[tuple[int, int]]:
    files = chain.files

    def accept(block: Block, place: tuple[int, int]) -> bool:
        return chain.accept_stored_block(block, *place)[1]

    return _Importer(accept, lambda place: files.read_block(*place))
