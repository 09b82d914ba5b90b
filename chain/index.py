"""The tree of all known headers, held in memory.

An entry belongs to a *branch*: a list of consecutive entries, each the first known child of the one before. An ancestor
is found by indexing into the branch, or into the one it forked from: one step on a chain without forks, one more per
fork on the way, instead of a walk along skip pointers. Nothing but the raw header, the height, the work and what
validation reads over and over is kept per entry.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from operator import attrgetter
from struct import Struct

from chain.params import NetworkParams
from chain.primitives.header import BlockHeader
from chain.primitives.target import work_from_nbits
from chain.primitives.types import BlockHash, Work
from chain.storage.layout import HEADER_SIZE, INDEX_FIELDS, INDEX_RECORD

# How far a block has been checked (lowest three bits), what of it is on disk, and whether it failed. Core's values
# (chain.h).
VALID_TREE = 2  #: the header is valid and so are all before it
VALID_TRANSACTIONS = 3  #: check_block and contextual_check_block passed
VALID_CHAIN = 4  #: spends only what exists
VALID_SCRIPTS = 5  #: every script ran
VALID_MASK = 7
HAVE_DATA = 8
HAVE_UNDO = 16
FAILED = 32  #: it or a block before it is invalid

MEDIAN_TIME_SPAN = 11  #: median time past is over this many blocks (BIP113)

SEQUENCE_BEST_CHAIN_FROM_DISK = 0  #: sequence_id of the active chain's blocks after a restart: they win ties
SEQUENCE_FROM_DISK = 1


_time_of = attrgetter("time")
_time_and_nbits = Struct("<II").unpack_from  # of a header, from byte 68 on


class _Branch:
    __slots__ = ("entries", "fork", "start")

    def __init__(self, start: int, fork: BlockIndexEntry | None) -> None:
        self.start = start  # height of entries[0]
        self.fork = fork  # its parent, in another branch
        self.entries: list[BlockIndexEntry] = []


class BlockIndexEntry:
    """One header of the tree and what is known of its block. Compare with `is`."""

    __slots__ = (
        "_branch",
        "_median_time",
        "chain_tx_count",
        "chainwork",
        "data_pos",
        "file_number",
        "hash",
        "height",
        "nbits",
        "prev",
        "raw",
        "sequence_id",
        "status",
        "time",
        "tx_count",
        "undo_pos",
    )

    hash: BlockHash
    raw: bytes  #: the 80-byte header
    prev: BlockIndexEntry | None
    height: int
    chainwork: Work  #: of this block and all before it
    time: int
    nbits: int
    status: int  #: VALID_* | HAVE_* | FAILED
    file_number: int
    data_pos: int
    undo_pos: int
    tx_count: int  #: 0 until the block was received
    chain_tx_count: (
        int  #: transactions up to and including this block; 0 while some block on the way was never received
    )
    _branch: _Branch
    _median_time: int  # -1: not asked for yet
    sequence_id: int  #: order in which blocks became connectable; the lower wins among equal work

    def __init__(
        self,
        hash_: BlockHash,
        raw: bytes,
        prev: BlockIndexEntry | None,
        chainwork: Work,
        time: int,
        nbits: int,
        status: int = VALID_TREE,
        tx_count: int = 0,
        file_number: int = 0,
        data_pos: int = 0,
        undo_pos: int = 0,
    ) -> None:
        self.hash = hash_
        self.raw = raw
        self.prev = prev
        self.chainwork = chainwork
        self.nbits = nbits
        self.time = time
        self.status = status
        self.tx_count = tx_count
        self.file_number = file_number
        self.data_pos = data_pos
        self.undo_pos = undo_pos
        self.chain_tx_count = 0
        self.sequence_id = SEQUENCE_FROM_DISK
        self._median_time = -1
        if prev is None:
            self.height = 0
            branch = _Branch(0, None)
        else:
            self.height = prev.height + 1
            branch = prev._branch
            if branch.entries[-1] is not prev:
                branch = _Branch(self.height, prev)
        branch.entries.append(self)
        self._branch = branch

    @property
    def header(self) -> BlockHeader:
        header = BlockHeader(self.raw)
        header._hash = self.hash
        return header

    @property
    def version(self) -> int:
        """Signed 32-bit."""
        return int.from_bytes(self.raw[:4], "little", signed=True)

    @property
    def merkle_root(self) -> bytes:
        return self.raw[36:68]

    @property
    def nonce(self) -> int:
        return int.from_bytes(self.raw[76:80], "little")

    @property
    def failed(self) -> bool:
        return bool(self.status & FAILED)

    @property
    def have_data(self) -> bool:
        return bool(self.status & HAVE_DATA)

    @property
    def have_undo(self) -> bool:
        return bool(self.status & HAVE_UNDO)

    def is_valid(self, level: int) -> bool:
        """Whether it has been checked up to `level` (VALID_*) and has not failed."""
        return not self.status & FAILED and self.status & VALID_MASK >= level

    def raise_validity(self, level: int) -> bool:
        """Record that `level` (VALID_*) was passed; whether that is news."""
        if self.status & FAILED or self.status & VALID_MASK >= level:
            return False
        self.status = self.status & ~VALID_MASK | level
        return True

    def ancestor(self, height: int) -> BlockIndexEntry | None:
        """The block at `height` on the way from genesis to this one (itself included); None outside 0 to its height."""
        if not 0 <= height <= self.height:
            return None
        branch = self._branch
        while height < branch.start:
            branch = branch.fork._branch  # type: ignore[union-attr]  # only the branch that starts at 0 has no fork
        return branch.entries[height - branch.start]

    def median_time_past(self) -> int:
        """Median of the times of this block and the ten before it (BIP113); of all there are where they are fewer."""
        if self._median_time < 0:
            branch = self._branch
            end = self.height - branch.start + 1
            if end >= MEDIAN_TIME_SPAN:
                times = list(map(_time_of, branch.entries[end - MEDIAN_TIME_SPAN : end]))
            else:
                times = []
                entry: BlockIndexEntry | None = self
                while entry is not None and len(times) < MEDIAN_TIME_SPAN:
                    times.append(entry.time)
                    entry = entry.prev
            times.sort()
            self._median_time = times[len(times) // 2]
        return self._median_time

    def packed(self) -> bytes:
        """As it is stored (`chain.storage.layout.INDEX_RECORD`)."""
        return INDEX_RECORD.pack(
            self.raw, self.height, self.status, self.tx_count, self.file_number, self.data_pos, self.undo_pos
        )

    def __repr__(self) -> str:
        return f"BlockIndexEntry({self.height}, {self.hash[::-1].hex()})"


def any_pruned(rows: Iterable[tuple[BlockHash, bytes]]) -> bool:
    """Whether one of the stored blocks, (hash, INDEX_RECORD) of each, was received and then deleted."""
    for _, record in rows:
        _, _, _, _, status, tx_count, _, _, _ = INDEX_FIELDS.unpack(record)
        if tx_count and not status & HAVE_DATA:
            return True
    return False


def last_common_ancestor(a: BlockIndexEntry, b: BlockIndexEntry) -> BlockIndexEntry:
    """The highest block that both build on (or are)."""
    while a._branch is not b._branch:
        if a._branch.start >= b._branch.start:
            # a branch that starts above another, or beside it, has a fork
            a = a._branch.fork  # type: ignore[assignment]
        else:
            b = b._branch.fork  # type: ignore[assignment]
    return a if a.height <= b.height else b


class HeaderIndex:
    """All entries, the active chain among them, and the candidates for a better one.

    `dirty` collects the entries that changed and have to be written; whoever stores them clears it. Not thread-safe for
    writing; dictionary look-ups and reads of `active` are safe from other threads.
    """

    def __init__(self, params: NetworkParams) -> None:
        """Knows the genesis block; the active chain is empty until set_tip."""
        self.params = params
        self.entries: dict[BlockHash, BlockIndexEntry] = {}
        self.active: list[BlockIndexEntry] = []  #: the active chain: the entry at height h is active[h]
        self.dirty: set[BlockIndexEntry] = set()
        self._work: dict[int, tuple[int, Work]] = {}  # nbits: one shared int object for the nbits itself, and its work
        genesis = params.genesis.header
        self.genesis = self._insert(genesis.hash, genesis.raw, None)
        self.best_header: BlockIndexEntry = self.genesis  #: most work among those not known to be invalid
        self.best_invalid: BlockIndexEntry | None = None  #: most work among those that are
        #: the block of a UTXO snapshot on which the active chain stands unproved: no chain without it can be undone to
        self.assumed_base: BlockIndexEntry | None = None
        self._candidates: set[BlockIndexEntry] = set()
        self._heap: list[
            tuple[int, int, int, BlockIndexEntry]
        ] = []  # (-work, sequence_id, order, entry); may hold stale items
        self._heap_order = 0
        self._sweep_at = 1024
        self._unbroken: BlockIndexEntry | None = None  # the candidate whose way down is known to be whole
        self._unlinked: dict[BlockIndexEntry, list[BlockIndexEntry]] = {}  # parent not received: children that were
        self._next_sequence_id = SEQUENCE_FROM_DISK + 1
        self._precious_sequence_id = -1
        self._precious_work = 0

    # Growing the tree

    def _insert(self, hash_: BlockHash, raw: bytes, prev: BlockIndexEntry | None) -> BlockIndexEntry:
        time, nbits = _time_and_nbits(raw, 68)
        nbits, block_work = self._work.get(nbits) or self._learn_work(nbits)
        work = block_work if prev is None else Work(prev.chainwork + block_work)
        entry = BlockIndexEntry(hash_, raw, prev, work, time, nbits)
        self.entries[hash_] = entry
        return entry

    def _learn_work(self, nbits: int) -> tuple[int, Work]:
        known = self._work[nbits] = (nbits, work_from_nbits(nbits))
        return known

    def add(self, header: BlockHeader) -> BlockIndexEntry:
        """Enter a valid header whose parent is known (KeyError otherwise); the entry, also when it was there before."""
        hash_ = header.hash
        entry = self.entries.get(hash_)
        if entry is None:
            entry = self._insert(hash_, header.raw, self.entries[header.prev_hash])
            self.dirty.add(entry)
            if entry.chainwork > self.best_header.chainwork:
                self.best_header = entry
        return entry

    def restore(self, rows: Iterable[tuple[BlockHash, bytes]], assumed: tuple[BlockHash, int] | None = None) -> None:
        """Fill the tree from disk: (hash, INDEX_RECORD), parents before children.

        `assumed` is the block of a UTXO snapshot and the transactions up to it, which count as received.
        Does not hash the headers again. Sets chain_tx_count, the unlinked blocks, best_header and best_invalid; call
        finish_restore next. KeyError where a parent is missing.
        """
        # A million rows are waited for at every start of a node: all that one needs is done here, in one pass.
        entries, works, unlinked = self.entries, self._work, self._unlinked
        unpack = INDEX_FIELDS.unpack
        assumed_hash, assumed_tx_count = assumed or (None, 0)
        best, worst = self.best_header, self.best_invalid
        best_work = best.chainwork
        prev, shared_nbits, block_work = self.genesis, -1, 0
        for hash_, record in rows:
            prev_hash, time, nbits, height, status, tx_count, file_number, data_pos, undo_pos = unpack(record)
            if height:
                if prev.hash != prev_hash:  # it is, but for forks
                    prev = entries[prev_hash]
                if prev.status & FAILED:
                    status |= FAILED
                if nbits != shared_nbits:
                    shared_nbits, block_work = works.get(nbits) or self._learn_work(nbits)
                entry = BlockIndexEntry(
                    hash_,
                    record[:HEADER_SIZE],
                    prev,
                    prev.chainwork + block_work,  # type: ignore[arg-type]
                    time,
                    shared_nbits,
                    status,
                    tx_count,
                    file_number,
                    data_pos,
                    undo_pos,
                )
                entries[hash_] = entry
                if tx_count:
                    if prev.chain_tx_count:
                        entry.chain_tx_count = prev.chain_tx_count + tx_count
                    else:
                        unlinked.setdefault(prev, []).append(entry)
            else:
                entry = entries[hash_]  # genesis is there already, and nothing else has this height
                entry.status, entry.tx_count, entry.chain_tx_count = status, tx_count, tx_count
                entry.file_number, entry.data_pos, entry.undo_pos = file_number, data_pos, undo_pos
            if hash_ == assumed_hash:
                entry.chain_tx_count = entry.chain_tx_count or assumed_tx_count
                self.assumed_base = entry
            if status & FAILED:
                if worst is None or entry.chainwork > worst.chainwork:
                    worst = entry
            elif entry.chainwork > best_work:
                best, best_work = entry, entry.chainwork
            prev = entry
        self.best_header, self.best_invalid = best, worst

    def finish_restore(self, tip: BlockIndexEntry | None) -> None:
        """Make `tip` the active tip after a restore; its chain wins ties against all else that came from disk."""
        self.set_tip(tip)
        for entry in self.active:
            entry.sequence_id = SEQUENCE_BEST_CHAIN_FROM_DISK
        self.rebuild_candidates()

    def get(self, block_hash: bytes) -> BlockIndexEntry | None:
        return self.entries.get(block_hash)  # type: ignore[call-overload, no-any-return]

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, block_hash: bytes) -> bool:
        return block_hash in self.entries

    # The active chain

    @property
    def tip(self) -> BlockIndexEntry | None:
        """The active chain's last block; None before genesis is connected."""
        return self.active[-1] if self.active else None

    @property
    def height(self) -> int:
        """Of the tip; -1 before genesis is connected."""
        return len(self.active) - 1

    def set_tip(self, entry: BlockIndexEntry | None) -> None:
        """Make the chain that ends at `entry` the active one."""
        active = self.active
        if entry is None:
            active.clear()
            return
        path = []
        walk: BlockIndexEntry | None = entry
        while walk is not None and not self.in_active(walk):
            path.append(walk)
            walk = walk.prev
        del active[entry.height - len(path) + 1 :]
        active.extend(reversed(path))

    def in_active(self, entry: BlockIndexEntry) -> bool:
        height = entry.height
        return height < len(self.active) and self.active[height] is entry

    def next_in_active(self, entry: BlockIndexEntry) -> BlockIndexEntry | None:
        """The block after `entry` on the active chain; None at the tip or where `entry` is on no active chain."""
        height = entry.height + 1
        return self.active[height] if height < len(self.active) and self.active[height - 1] is entry else None

    def fork_point(self, entry: BlockIndexEntry) -> BlockIndexEntry | None:
        """The last block of the active chain that `entry` builds on (or is)."""
        tip = self.tip
        return None if tip is None else last_common_ancestor(entry, tip)

    def locator(self, entry: BlockIndexEntry | None = None) -> list[BlockHash]:
        """Hashes from `entry` (the tip by default) back to genesis, ten one by one and then in doubling steps."""
        entry = entry or self.tip
        hashes: list[BlockHash] = []
        step = 1
        while entry is not None:
            hashes.append(entry.hash)
            if entry.height == 0:
                break
            entry = entry.ancestor(max(entry.height - step, 0))
            if len(hashes) > 10:
                step *= 2
        return hashes

    def find_fork(self, locator: Sequence[bytes]) -> BlockIndexEntry:
        """The first block of a peer's locator that is on our active chain, or our tip where the peer's is ahead of it;
        genesis where none is.
        """
        tip = self.tip
        for block_hash in locator:
            entry = self.get(block_hash)
            if entry is not None:
                if self.in_active(entry):
                    return entry
                if tip is not None and entry.ancestor(tip.height) is tip:
                    return tip
        return self.genesis

    def find_earliest_at_least(self, time: int, height: int = 0) -> BlockIndexEntry | None:
        """The first active block from `height` on that is not followed by less than `time`: the earliest whose highest
        time so far is at least `time`.
        """
        highest = list(accumulate((entry.time for entry in self.active), max))
        at = max(bisect_left(highest, time), height)
        return self.active[at] if at < len(self.active) else None

    def tips(self) -> list[BlockIndexEntry]:
        """All entries that nothing builds on, and the active tip; highest first (getchaintips)."""
        parents = {entry.prev for entry in self.entries.values()}
        ends = [entry for entry in self.entries.values() if entry not in parents]
        tip = self.tip
        if tip is not None and tip in parents:
            ends.append(tip)
        return sorted(ends, key=lambda entry: -entry.height)

    # Choosing the best chain

    def received(self, entry: BlockIndexEntry, tx_count: int) -> None:
        """The block of `entry` passed its checks and is on disk: it, and received blocks waiting for it, become
        candidates where all before them is there.
        """
        entry.tx_count = tx_count
        entry.status |= HAVE_DATA
        entry.raise_validity(VALID_TRANSACTIONS)
        self.dirty.add(entry)
        prev = entry.prev
        if prev is not None and not prev.chain_tx_count:
            self._unlinked.setdefault(prev, []).append(entry)
            return
        self._link([entry])

    def assume(self, entry: BlockIndexEntry, chain_tx_count: int) -> None:
        """Take the coins at `entry` as known: blocks received beyond it become candidates, and only those, until
        `stop_assuming`. Make it the tip first.
        """
        self.assumed_base = entry
        if not entry.chain_tx_count:
            entry.chain_tx_count = chain_tx_count
            self._link(self._unlinked.pop(entry, []))
        self.rebuild_candidates()

    def stop_assuming(self) -> None:
        """All blocks up to the assumed one are here and proved right."""
        self.assumed_base = None
        self.rebuild_candidates()

    def _link(self, queue: list[BlockIndexEntry]) -> None:
        for linked in queue:  # grows while it runs
            before = linked.prev.chain_tx_count if linked.prev is not None else 0
            linked.chain_tx_count = before + linked.tx_count
            linked.sequence_id = self._next_sequence_id
            self._next_sequence_id += 1
            self._try_candidate(linked)
            queue.extend(self._unlinked.pop(linked, ()))

    def _rank(self, entry: BlockIndexEntry) -> tuple[int, int]:
        """Sorts the better first."""
        return -entry.chainwork, entry.sequence_id

    def _push_candidate(self, entry: BlockIndexEntry) -> None:
        self._candidates.add(entry)
        self._heap_order += 1
        heappush(self._heap, (-entry.chainwork, entry.sequence_id, self._heap_order, entry))

    def _try_candidate(self, entry: BlockIndexEntry) -> None:
        tip = self.tip
        if (
            not entry.status & FAILED
            and (tip is None or self._rank(entry) <= self._rank(tip))
            and self._has_assumed_base(entry)
        ):
            self._push_candidate(entry)

    def _has_assumed_base(self, entry: BlockIndexEntry) -> bool:
        base = self.assumed_base
        return base is None or entry.ancestor(base.height) is base

    def rebuild_candidates(self) -> None:
        """Find the candidates anew: after a restart, an invalidation or its reversal."""
        self._candidates.clear()
        self._heap.clear()
        self._unbroken = None
        for entry in self.entries.values():
            if entry.chain_tx_count and entry.is_valid(VALID_TRANSACTIONS):
                self._try_candidate(entry)
        tip = self.tip
        if tip is not None and tip not in self._candidates:
            self._push_candidate(tip)

    def best_candidate(self) -> BlockIndexEntry | None:
        """The block with the most work whose whole chain is on disk and not known to be invalid; among equals the one
        first complete. May be the tip.
        """
        heap = self._heap
        while heap:
            _, sequence_id, _, entry = heap[0]
            if entry not in self._candidates or entry.sequence_id != sequence_id:
                heappop(heap)
                continue
            if entry is self._unbroken:
                return entry
            broken = self._broken_link(entry)
            if broken is None:
                self._unbroken = entry
                return entry
            missing = not broken.status & FAILED
            walk = entry
            while walk is not broken:
                self._candidates.discard(walk)
                if missing and walk.prev is not None:  # pruned: try again once the data is back
                    waiting = self._unlinked.setdefault(walk.prev, [])
                    if walk not in waiting:
                        waiting.append(walk)
                walk = walk.prev  # type: ignore[assignment]
            self._candidates.discard(broken)
        return None

    def _broken_link(self, entry: BlockIndexEntry) -> BlockIndexEntry | None:
        """The first block on the way down to the active chain that failed or is not on disk."""
        walk: BlockIndexEntry | None = entry
        while walk is not None and not self.in_active(walk):
            if walk.status & FAILED or not walk.status & HAVE_DATA:
                if walk.status & FAILED and (
                    self.best_invalid is None or entry.chainwork > self.best_invalid.chainwork
                ):
                    self.best_invalid = entry
                return walk
            walk = walk.prev
        return None

    def prune_candidates(self) -> None:
        """Forget candidates that are worse than the tip; called after the tip moved. The tip is always one itself, so
        forgotten or not they are never chosen: they are only swept out once they are many.
        """
        tip = self.tip
        if tip is None:
            return
        if tip not in self._candidates:
            self._push_candidate(tip)
        if len(self._candidates) < self._sweep_at:
            return
        limit = self._rank(tip)
        kept = self._candidates = {entry for entry in self._candidates if self._rank(entry) <= limit}
        self._heap = sorted(item for item in self._heap if item[3] in kept and item[1] == item[3].sequence_id)
        self._sweep_at = 2 * len(kept) + 1024

    def descendants(self, entry: BlockIndexEntry) -> Iterator[BlockIndexEntry]:
        """All entries that build on `entry`, without itself. Looks at every entry there is."""
        height = entry.height
        for other in list(self.entries.values()):
            if other.height > height and other.ancestor(height) is entry:
                yield other

    def mark_failed(self, entry: BlockIndexEntry) -> None:
        """`entry` is invalid, and so is all that builds on it. Does not touch the active chain: disconnect its blocks
        first.
        """
        entry.status |= FAILED
        self._unbroken = None
        self.dirty.add(entry)
        self._candidates.discard(entry)
        worst = self.best_invalid
        if worst is None or entry.chainwork > worst.chainwork:
            self.best_invalid = entry
        for other in self.descendants(entry):
            other.status |= FAILED
            self.dirty.add(other)
            self._candidates.discard(other)
        if self.best_header.ancestor(entry.height) is entry:
            self.recalculate_best_header()

    def clear_failed(self, entry: BlockIndexEntry) -> None:
        """Take back what mark_failed did to `entry`: it, all before it and all that builds on it may be tried again
        (reconsiderblock).
        """
        walk: BlockIndexEntry | None = entry
        while walk is not None:
            if walk.status & FAILED:
                walk.status &= ~FAILED
                self.dirty.add(walk)
            walk = walk.prev
        for other in self.descendants(entry):
            if other.status & FAILED:
                other.status &= ~FAILED
                self.dirty.add(other)
        self.best_invalid = None
        for other in self.entries.values():
            if other.status & FAILED and (self.best_invalid is None or other.chainwork > self.best_invalid.chainwork):
                self.best_invalid = other
        self.recalculate_best_header()
        self.rebuild_candidates()

    def recalculate_best_header(self) -> None:
        """Find the valid header with the most work anew; among equals the tip, then the earliest known."""
        best = self.tip or self.genesis
        for entry in self.entries.values():
            if entry.chainwork > best.chainwork and not entry.status & FAILED:
                best = entry
        self.best_header = best

    def make_precious(self, entry: BlockIndexEntry) -> None:
        """Treat `entry` as if it had come before all others of its work (preciousblock). Without effect where it has
        less work than the tip.
        """
        tip = self.tip
        if tip is None or entry.chainwork < tip.chainwork:
            return
        if tip.chainwork > self._precious_work:
            self._precious_sequence_id = -1
        self._precious_work = tip.chainwork
        self._candidates.discard(entry)
        entry.sequence_id = self._precious_sequence_id
        self._precious_sequence_id -= 1
        if entry.is_valid(VALID_TRANSACTIONS) and entry.chain_tx_count and self._has_assumed_base(entry):
            self._push_candidate(entry)
            self.prune_candidates()
