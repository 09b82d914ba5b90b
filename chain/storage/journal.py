"""A journal for commits that are too large for one LMDB transaction.

LMDB holds every page that a transaction changes in memory until it commits. Where the coins that change are spread
over millions, nearly each has a page to itself, and a flush of a full cache would take a gigabyte. So a large commit is
first written here, in key order, and made durable: from then on it counts as done. It is carried out piece by piece,
each a transaction of its own, and the journal is removed. After a crash in between it is carried out again from the
beginning, which changes nothing where it was done before.

The file: pieces of u32 size, u32 CRC-32, payload. A payload begins with 0 for coins: u32 number of deletions, u32 of
additions, then for each deletion its u8 key length and key, for each addition u8, u32 lengths, key, value. The last
begins with 1: tip (32 bytes), position (8), u32 number of index records, and those as additions.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar
from zlib import crc32

from chain.primitives.errors import LocalFault
from chain.storage.faults import storage_fault
from chain.storage.layout import POSITION

JOURNAL_FILE = "commit.journal"

Key = TypeVar("Key", bound=bytes)

_PIECE = struct.Struct("<II")
_COUNTS = struct.Struct("<BII")
_PAIR = struct.Struct("<BI")
_TAIL = struct.Struct("<B32s8sI")


@dataclass(slots=True)
class Piece:
    """Changes that go into one transaction: coins, or (the last) what the store as a whole is at."""

    deletions: Sequence[bytes] = ()
    additions: Sequence[tuple[bytes, bytes]] = ()
    tip: bytes | None = None
    position: tuple[int, int] = (0, 0)
    records: Sequence[tuple[bytes, bytes]] = field(default=())


class CommitJournal:
    """The journal in one folder. Every method raises LocalFault when the disk fails."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_FILE
        self._unfinished = folder / f"{JOURNAL_FILE}.part"

    def exists(self) -> bool:
        """Whether there is a commit to be carried out."""
        return self.path.exists()

    def write(self, pieces: Iterable[Piece]) -> None:
        """Make a commit durable; LocalFault leaves none."""
        try:
            with self._unfinished.open("wb") as file:
                for piece in pieces:
                    payload = _encode(piece)
                    file.write(_PIECE.pack(len(payload), crc32(payload)))
                    file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            self._unfinished.replace(self.path)
            self._sync_folder()
        except OSError as error:
            self._unfinished.unlink(missing_ok=True)
            raise storage_fault(error, "writing", self.path) from error

    def check(self) -> None:
        """LocalFault if the journal is not whole. It never is while it is written: then it has another name."""
        try:
            with self.path.open("rb") as file:
                tail = False
                for payload in self._payloads(file):
                    if tail:
                        raise self._damaged()
                    tail = payload[:1] == b"\1"
                if not tail:
                    raise self._damaged()
        except OSError as error:
            raise storage_fault(error, "reading", self.path) from error

    def read(self) -> Iterator[Piece]:
        """The pieces, in order."""
        try:
            with self.path.open("rb") as file:
                for payload in self._payloads(file):
                    yield _decode(payload)
        except OSError as error:
            raise storage_fault(error, "reading", self.path) from error

    def remove(self) -> None:
        """The commit was carried out, or is not wanted."""
        try:
            self.path.unlink(missing_ok=True)
            self._unfinished.unlink(missing_ok=True)
            self._sync_folder()
        except OSError as error:
            raise storage_fault(error, "writing", self.path) from error

    def _payloads(self, file: BinaryIO) -> Iterator[bytes]:
        while head := file.read(_PIECE.size):
            if len(head) < _PIECE.size:
                raise self._damaged()
            size, checksum = _PIECE.unpack(head)
            payload = file.read(size)
            if len(payload) < size or crc32(payload) != checksum:
                raise self._damaged()
            yield payload

    def _sync_folder(self) -> None:
        if hasattr(os, "O_DIRECTORY"):
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _damaged(self) -> LocalFault:
        return LocalFault(f"{self.path} is damaged: start with --reindex-chainstate to rebuild the coins")


def pieces_of(
    deletions: Sequence[bytes],
    additions: Sequence[Key],
    values: Mapping[Key, bytes],
    size: int,
) -> Iterator[Piece]:
    """Sorted deletions and additions as pieces with key ranges that follow one another, of at most `size` changes of
    each kind. In every piece the deletions come first, so that a key in both is there afterwards.
    """
    gone = new = 0
    while gone < len(deletions) or new < len(additions):
        ends = [keys[at + size - 1] for keys, at in ((deletions, gone), (additions, new)) if at + size <= len(keys)]
        gone_end = bisect_right(deletions, min(ends), gone) if ends else len(deletions)
        new_end = bisect_right(additions, min(ends), new) if ends else len(additions)
        yield Piece(deletions[gone:gone_end], [(key, values[key]) for key in additions[new:new_end]])
        gone, new = gone_end, new_end


def _pairs(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    pack = _PAIR.pack
    return b"".join([pack(len(key), len(value)) + key + value for key, value in pairs])


def _encode(piece: Piece) -> bytes:
    if piece.tip is None:
        keys = b"".join([bytes((len(key),)) + key for key in piece.deletions])
        return _COUNTS.pack(0, len(piece.deletions), len(piece.additions)) + keys + _pairs(piece.additions)
    tail = _TAIL.pack(1, piece.tip, POSITION.pack(*piece.position), len(piece.records))
    return tail + _pairs(piece.records)


def _decode(payload: bytes) -> Piece:
    if payload[0]:
        _, tip, position, count = _TAIL.unpack_from(payload)
        number, end = POSITION.unpack(position)
        return Piece(tip=tip, position=(number, end), records=_read_pairs(payload, _TAIL.size, count))
    _, gone, new = _COUNTS.unpack_from(payload)
    pos = _COUNTS.size
    deletions = []
    for _ in range(gone):
        end = pos + 1 + payload[pos]
        deletions.append(payload[pos + 1 : end])
        pos = end
    return Piece(deletions, _read_pairs(payload, pos, new))


def _read_pairs(payload: bytes, pos: int, count: int) -> list[tuple[bytes, bytes]]:
    unpack = _PAIR.unpack_from
    pairs = []
    for _ in range(count):
        key_size, value_size = unpack(payload, pos)
        middle = pos + _PAIR.size + key_size
        pairs.append((payload[middle - key_size : middle], payload[middle : middle + value_size]))
        pos = middle + value_size
    return pairs
