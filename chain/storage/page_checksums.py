"""Checksums over the pages of an LMDB environment, which itself has none.

LMDB trusts every byte of its file: a flipped bit may hide a coin, or end the process. So beside ``data.mdb`` lies
``pages.sum`` with the CRC-32 of every page that the last commit refers to. `verify` compares all of them before LMDB
opens the file; `update` follows each commit. LMDB is copy-on-write, so a page that both the old and the new tree hold
is unchanged, and an update reads only what the commit wrote.

A crash between a commit and its update leaves the sums one commit behind: the header of the older commit is still in
the file then, so the update is made up for. An environment without sums (of an older version) is walked once and
taken as it is, if its structure is sound. What is not found: damage that comes after `verify`, before the next one.

The file is a row of records, each ``PSUM``, u32 page size, u64 transaction, u32 n, u32 m, n pairs of u32 page and
CRC-32, m u32 pages that are no longer in use, and the CRC-32 of all this. The first record holds all pages. The last of
those that follow is in ``pages.last`` too: a file that has lost its end would else look like one that a crash left
behind, and what the lost records covered would be taken as it is.
"""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

from chain.primitives.errors import LocalFault
from chain.storage.faults import storage_fault

DATA_FILE: Final = "data.mdb"
SUMS_FILE: Final = "pages.sum"
LAST_FILE: Final = "pages.last"

_RECORD_MAGIC: Final = b"PSUM"
_RECORD: Final = struct.Struct("<4sIQII")
_CRC: Final = struct.Struct("<I")
_COMPACT_BYTES: Final = 1 << 20  #: appended records may grow to this, or to the size of the first, before a rewrite
_READ_CHUNK: Final = 1 << 20

# LMDB's own format (lmdb.h, mdb.c, data version 1; the same in every 0.9 release).
_PAGE_HEADER: Final = struct.Struct("<QHHHH")  # number, pad, flags, lower, upper
_PAGE_HEADER_SIZE: Final = 16
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_META_HEAD: Final = struct.Struct("<IIQQ")  # magic, version, address, map size
_DB: Final = struct.Struct("<IHHQQQQQ")  # page size, flags, depth, branch, leaf, overflow pages, entries, root
_META_TAIL: Final = struct.Struct("<QQ")  # last page, transaction
_META_BYTES: Final = _PAGE_HEADER_SIZE + _META_HEAD.size + 2 * _DB.size + _META_TAIL.size
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_NODE: Final = struct.Struct("<HHHH")  # size or page, low and high, flags, key size
_BIG_DATA, _SUB_DB = 1, 2
_NO_PAGE: Final = 0xFFFFFFFFFFFFFFFF
_MAX_DEPTH: Final = 32


class DatabaseDamage(LocalFault):
    """Pages of a database are not as they were written: `what`, in brief. Through `checksums`, if its header is whole,
    `rows` tells which trees can still be read.
    """

    def __init__(self, path: Path, what: str, repair: str, checksums: PageChecksums | None = None) -> None:
        super().__init__(f"The database in {path} is damaged ({what}); {repair}")
        self.what = what
        self.checksums = checksums


class _BadPage(Exception):
    """A page that cannot be what it should be."""


class _Tree(NamedTuple):
    root: int
    leaf_depth: int  # how far below the root its leaves are
    overflow_pages: int
    holds_trees: bool  # the main tree, whose leaves hold the roots of the named ones


@dataclass(frozen=True, slots=True)
class _Meta:
    page_size: int
    transaction: int
    last_page: int
    trees: tuple[_Tree, _Tree]  # free list, main


class _Pages:
    """Reads whole pages from an open file."""

    def __init__(self, file: BinaryIO, page_size: int) -> None:
        self._file = file
        self.page_size = page_size

    if hasattr(os, "pread"):

        def _read(self, at: int, size: int) -> bytes:
            return os.pread(self._file.fileno(), size, at)
    else:

        def _read(self, at: int, size: int) -> bytes:
            self._file.seek(at)
            return self._file.read(size)

    def read(self, number: int, count: int = 1) -> bytes:
        data = self._read(number * self.page_size, count * self.page_size)
        if len(data) != count * self.page_size:
            raise _BadPage(f"page {number} lies beyond the end of the file")
        return data


class PageChecksums:
    """The sums of one environment. Belongs to the thread that commits."""

    def __init__(self, folder: Path, *, repair: str, durable: bool = True, read_only: bool = False) -> None:
        """`repair` completes the message of a damage: what to do. Without `durable` the sums may lag after a power cut;
        the environment is then taken as it is. With `read_only` nothing is written.
        """
        self._data_path = folder / DATA_FILE
        self._path = folder / SUMS_FILE
        self._last_path = folder / LAST_FILE
        self._repair = repair
        self._durable = durable
        self._read_only = read_only
        self._sums = array("I")  # by page; 0: not in use
        self._meta: _Meta | None = None
        self._appended = self._first_size = 0
        self._bad: set[int] = set()

    @property
    def knows_pages(self) -> bool:
        """Whether there is an environment, and its pages are known."""
        return self._meta is not None

    def verify(self) -> None:
        """Compare every page in use with its sum; call before LMDB opens the environment. DatabaseDamage if it must not
        be opened.
        """
        try:
            if not self._data_path.exists() or not self._data_path.stat().st_size:
                if not self._read_only:
                    self._last_path.unlink(missing_ok=True)
                    self._path.unlink(missing_ok=True)
                return
            with self._data_path.open("rb", buffering=0) as file:
                self._verify(file)
        except OSError as error:
            raise storage_fault(error, "reading", self._path.parent) from error

    def update(self) -> None:
        """Follow a commit. LocalFault if the sums cannot be written; the commit is done nevertheless."""
        try:
            with self._data_path.open("rb", buffering=0) as file:
                metas = _read_metas(file)
                newest = max((meta for meta in metas if meta is not None), key=lambda meta: meta.transaction)
                old = self._meta
                if old is not None and newest.transaction == old.transaction:
                    return
                if old is None or newest.transaction != old.transaction + 1:  # what it left may be overwritten by now
                    self._sums, old = array("I"), None
                self._follow(_Pages(file, newest.page_size), newest, old)
        except _BadPage as error:
            raise self._damage(str(error)) from error
        except ValueError as error:
            raise self._damage("it has no header") from error
        except OSError as error:
            raise storage_fault(error, "writing", self._path) from error

    def rows(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a named tree, read past LMDB, after `verify` found damage. LocalFault if this tree is hit
        too.
        """
        meta = self._meta
        if meta is None:
            raise self._damage("its header is lost")
        with self._data_path.open("rb", buffering=0) as file:
            pages = _Pages(file, meta.page_size)
            try:
                for key, value, flags in self._nodes(pages, meta.trees[1].root):
                    if key == name and flags & _SUB_DB:
                        root = _DB.unpack(value)[7]
                        yield from ((k, v) for k, v, _ in self._nodes(pages, root))
            except (_BadPage, struct.error, IndexError) as error:
                raise self._damage(str(error)) from error

    # verifying

    def _verify(self, file: BinaryIO) -> None:
        metas = _read_metas(file)
        if all(meta is None for meta in metas) and not self._path.exists():
            return  # not a format that we know: LMDB will say what it thinks of it
        if not self._path.exists():
            self._take_as_it_is(file, metas)
            return
        page_size, transaction = self._load()
        pages = _Pages(file, page_size)
        slot = transaction & 1
        current, other = metas[slot], metas[1 - slot]
        if current is None or not self._fits(pages, slot) or current.transaction != transaction:
            newest = [meta for meta in metas if meta is not None and meta.transaction > transaction]
            if len(newest) == 2 and abs(newest[0].transaction - newest[1].transaction) == 1:
                self._take_as_it_is(file, metas)  # the sums are old: something else wrote to it
                return
            raise self._damage("its header")
        ahead = other is not None and other.transaction == transaction + 1
        if not ahead and not self._fits(pages, 1 - slot):
            raise self._damage("its header")
        self._meta = current
        self._bad.update(self._mismatches(file, page_size))
        if self._bad:
            some = ", ".join(map(str, sorted(self._bad)[:3]))
            raise self._damage(f"page {some}" if len(self._bad) == 1 else f"{len(self._bad)} pages, {some} among them")
        if ahead and other is not None:
            try:
                self._follow(pages, other, current, check=True)
            except _BadPage as error:
                raise self._damage(str(error)) from error

    def _fits(self, pages: _Pages, number: int) -> bool:
        try:
            return number < len(self._sums) and _sum(pages.read(number)) == self._sums[number]
        except _BadPage:
            return False

    def _mismatches(self, file: BinaryIO, page_size: int) -> Iterator[int]:
        """Numbers of the pages, but for the first two, that differ from their sums."""
        sums = self._sums
        per_chunk = max(1, _READ_CHUNK // page_size)
        skip = 2
        for first in range(0, len(sums), per_chunk):
            file.seek(first * page_size)
            data = memoryview(file.read(per_chunk * page_size))
            for number, wanted in enumerate(sums[first : first + per_chunk], first):
                if not wanted or number < skip:
                    continue
                at = (number - first) * page_size
                page = data[at : at + page_size]
                if len(page) == page_size and crc32(page) == wanted:
                    continue
                if len(page) == page_size and page[10] & _OVERFLOW:
                    count = min(int.from_bytes(page[12:16], "little"), len(sums) + 1)
                    with contextlib.suppress(_BadPage):
                        if _sum(_Pages(file, page_size).read(number, count)) == wanted:
                            continue
                if (crc32(page) or 1) != wanted:
                    yield number

    def _take_as_it_is(self, file: BinaryIO, metas: tuple[_Meta | None, _Meta | None]) -> None:
        known = [meta for meta in metas if meta is not None]
        if len(known) != 2 or known[0].page_size != known[1].page_size:
            raise self._damage("its header")
        newest = max(known, key=lambda meta: meta.transaction)
        self._sums = array("I")
        try:
            self._follow(_Pages(file, newest.page_size), newest, None, check=True)
        except _BadPage as error:
            raise self._damage(str(error)) from error

    # following

    def _follow(self, pages: _Pages, new: _Meta, old: _Meta | None, *, check: bool = False) -> None:
        """Bring the sums from tree `old` to tree `new` and write them."""
        fresh: dict[int, int] = {}
        kept: set[int] = set()
        sums = self._sums
        size = len(sums)

        def is_known(number: int) -> bool:
            if number < size and sums[number]:
                kept.add(number)
                return True
            return False

        for number, data in _walk(pages, new, is_known, check=check):
            fresh[number] = _sum(data)
        gone = (
            [number for number, _ in _walk(pages, old, kept.__contains__, numbers_only=True)] if old is not None else []
        )
        for number in (0, 1):
            fresh[number] = _sum(pages.read(number))
        highest = max(fresh)
        if highest >= size:
            sums.frombytes(bytes(sums.itemsize * (highest + 1 - size)))
        for number in gone:
            sums[number] = 0
        for number, value in fresh.items():
            sums[number] = value
        self._meta = new
        if self._read_only:
            return
        if old is None or self._appended > max(self._first_size, _COMPACT_BYTES):
            self._rewrite(pages.page_size, new.transaction)
        else:
            self._append(_pack(pages.page_size, new.transaction, fresh.items(), gone))

    def _rewrite(self, page_size: int, transaction: int) -> None:
        record = _pack(page_size, transaction, ((n, s) for n, s in enumerate(self._sums) if s), ())
        self._last_path.unlink(missing_ok=True)  # of the file that goes
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            self._write(file, record)
        temporary.replace(self._path)
        self._first_size, self._appended = len(record), 0

    def _append(self, record: bytes) -> None:
        with self._path.open("r+b", buffering=0) as file:
            file.seek(self._first_size + self._appended)  # over what a crash tore
            self._write(file, record)
        with self._last_path.open("wb", buffering=0) as file:  # after the other: it is never ahead by our doing
            self._write(file, record)
        self._appended += len(record)

    def _write(self, file: BinaryIO, record: bytes) -> None:
        """All of it, and nothing after it."""
        view = memoryview(record)
        while view:
            view = view[file.write(view) :]
        file.truncate()
        file.flush()
        if self._durable:
            os.fsync(file.fileno())

    def _load(self) -> tuple[int, int]:
        """Read the files: (page size, transaction). A last record that is torn does not count, unless it is whole in
        its other place, from where it is then restored.
        """
        data = self._path.read_bytes()
        pos = page_size = transaction = 0
        while (record := _record_at(data, pos)) is not None:
            self._apply(record)
            page_size, transaction = record.page_size, record.transaction
            if not pos:
                self._first_size = record.end
            pos = record.end
        if not pos or data.find(_RECORD_MAGIC, pos + 1) >= 0:
            raise self._damage(f"its checksums in {self._path.name}")
        self._appended = pos - self._first_size
        kept = self._last_path.read_bytes() if self._last_path.exists() else b""
        last = _record_at(kept, 0)
        if last is not None and last.transaction > transaction:
            if last.transaction != transaction + 1 or last.page_size != page_size:
                raise self._damage(f"its checksums in {self._path.name}: the end is missing")
            self._apply(last)
            transaction = last.transaction
            if not self._read_only:
                self._append(kept[: last.end])
        return page_size, transaction

    def _apply(self, record: _Record) -> None:
        body, count = record.body, record.pairs
        values = array("I")
        values.frombytes(body)
        if values.itemsize != 4 or struct.pack("=I", 1) != struct.pack("<I", 1):
            values = array("I", struct.unpack(f"<{len(body) // 4}I", body))
        sums = self._sums
        numbers, found = values[0 : 2 * count : 2], values[1 : 2 * count : 2]
        for number in values[2 * count :]:
            if number < len(sums):
                sums[number] = 0
        if numbers:
            highest = max(numbers)
            if highest >= len(sums):
                sums.frombytes(bytes(sums.itemsize * (highest + 1 - len(sums))))
            for number, value in zip(numbers, found, strict=True):
                sums[number] = value

    def _nodes(self, pages: _Pages, root: int) -> Iterator[tuple[bytes, bytes, int]]:
        """(key, value, flags) of a tree in key order, from pages whose sums are right."""
        if root == _NO_PAGE:
            return
        if root in self._bad or root >= len(self._sums) or not self._sums[root]:
            raise _BadPage(f"page {root}")
        data = pages.read(root)
        flags = int.from_bytes(data[10:12], "little")
        for at in _pointers(data):
            low, high, node_flags, key_size = _NODE.unpack_from(data, at)
            if flags & _BRANCH:
                yield from self._nodes(pages, low | high << 16 | node_flags << 32)
                continue
            start = at + _NODE.size + key_size
            key, size = data[at + _NODE.size : start], low | high << 16
            if node_flags & _BIG_DATA:
                number = int.from_bytes(data[start : start + 8], "little")
                if number in self._bad:
                    raise _BadPage(f"page {number}")
                count = -(-(size + _PAGE_HEADER_SIZE) // pages.page_size)
                yield key, pages.read(number, count)[_PAGE_HEADER_SIZE : _PAGE_HEADER_SIZE + size], node_flags
            else:
                yield key, data[start : start + size], node_flags

    def _damage(self, what: str) -> DatabaseDamage:
        return DatabaseDamage(self._path.parent, what, self._repair, self if self._meta else None)


class _Record(NamedTuple):
    page_size: int
    transaction: int
    pairs: int  # at the beginning of the body
    body: bytes
    end: int  # where the next one begins


def _record_at(data: bytes, pos: int) -> _Record | None:
    """The record that begins there; None where none does, or it is not whole."""
    if pos + _RECORD.size > len(data):
        return None
    magic, page_size, transaction, count, gone = _RECORD.unpack_from(data, pos)
    end = pos + _RECORD.size + 8 * count + 4 * gone
    whole = magic == _RECORD_MAGIC and end + _CRC.size <= len(data)
    if not whole or _CRC.unpack_from(data, end)[0] != crc32(memoryview(data)[pos:end]):
        return None
    return _Record(page_size, transaction, count, data[pos + _RECORD.size : end], end + _CRC.size)


def _sum(data: bytes) -> int:
    return crc32(data) or 1  # 0 means that a page is not in use


def _pack(page_size: int, transaction: int, fresh: Iterable[tuple[int, int]], gone: Iterable[int]) -> bytes:
    pairs = [value for pair in fresh for value in pair]
    numbers = list(gone)
    head = _RECORD.pack(_RECORD_MAGIC, page_size, transaction, len(pairs) // 2, len(numbers))
    body = head + struct.pack(f"<{len(pairs) + len(numbers)}I", *pairs, *numbers)
    return body + _CRC.pack(crc32(body))


def _read_metas(file: BinaryIO) -> tuple[_Meta | None, _Meta | None]:
    """The two headers; None for one that is none."""
    file.seek(0)
    first = _parse_meta(file.read(_META_BYTES), 0)
    sizes = [first.page_size] if first is not None else [1 << n for n in range(12, 17)]
    second = None
    for size in sizes:
        file.seek(size)
        second = _parse_meta(file.read(_META_BYTES), 1)
        if second is not None and second.page_size == size:
            break
        second = None
    return first, second


def _parse_meta(data: bytes, slot: int) -> _Meta | None:
    if len(data) < _META_BYTES:
        return None
    number, _, flags, _, _ = _PAGE_HEADER.unpack_from(data)
    magic, version, _, _ = _META_HEAD.unpack_from(data, _PAGE_HEADER_SIZE)
    if magic != _MAGIC or version != _VERSION or number != slot or not flags & _META:
        return None
    at = _PAGE_HEADER_SIZE + _META_HEAD.size
    free, main = _DB.unpack_from(data, at), _DB.unpack_from(data, at + _DB.size)
    last_page, transaction = _META_TAIL.unpack_from(data, at + 2 * _DB.size)
    page_size = free[0]
    if not 512 <= page_size <= 1 << 16 or page_size & page_size - 1 or (transaction and transaction & 1 != slot):
        return None
    trees = (_Tree(free[7], free[2] - 1, free[5], False), _Tree(main[7], main[2] - 1, main[5], True))
    return _Meta(page_size, transaction, last_page, trees)


def _pointers(data: bytes) -> tuple[int, ...]:
    """Where the nodes of a page begin. _BadPage if that cannot be."""
    lower = int.from_bytes(data[12:14], "little")
    if not _PAGE_HEADER_SIZE <= lower <= len(data):
        raise _BadPage("a page with impossible bounds")
    return struct.unpack_from(f"<{(lower - _PAGE_HEADER_SIZE) // 2}H", data, _PAGE_HEADER_SIZE)


def _walk(
    pages: _Pages, meta: _Meta, is_known: Callable[[int], bool], *, check: bool = False, numbers_only: bool = False
) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of every page of both trees and those named in them, but not of what lies below a known page.
    With `check` the structure of each page is looked at too; with `numbers_only` the bytes of most leaves are empty:
    they were not read. _BadPage if the trees lead astray.
    """
    stack = [(tree.root, tree, 0) for tree in meta.trees if tree.root != _NO_PAGE]
    seen = 0
    while stack:
        number, tree, depth = stack.pop()
        if is_known(number):
            continue
        if numbers_only and depth == tree.leaf_depth and not tree.overflow_pages and not tree.holds_trees:
            yield number, b""
            continue
        seen += 1
        if number > meta.last_page or depth > _MAX_DEPTH or seen > meta.last_page + 1:
            raise _BadPage(f"page {number} cannot be part of it")
        data = pages.read(number)
        stored, _, flags, _, upper = _PAGE_HEADER.unpack_from(data)
        if stored != number or flags not in (_BRANCH, _LEAF):
            raise _BadPage(f"page {number} is another one")
        if check:
            _check_structure(data, number, flags, upper)
        yield number, data
        if flags == _BRANCH:
            for at in _pointers(data):
                low, high, top, _ = _NODE.unpack_from(data, at)
                stack.append((low | high << 16 | top << 32, tree, depth + 1))
        elif tree.holds_trees or tree.overflow_pages:
            for at in _pointers(data):
                low, high, node_flags, key_size = _NODE.unpack_from(data, at)
                start = at + _NODE.size + key_size
                if node_flags & _SUB_DB:
                    if start + _DB.size > len(data):
                        raise _BadPage(f"page {number} has a node that is too long")
                    record = _DB.unpack_from(data, start)
                    if record[7] != _NO_PAGE:
                        stack.append((record[7], _Tree(record[7], record[2] - 1, record[5], False), 0))
                elif node_flags & _BIG_DATA:
                    head = int.from_bytes(data[start : start + 8], "little")
                    if not is_known(head):
                        count = -(-((low | high << 16) + _PAGE_HEADER_SIZE) // pages.page_size)
                        if head + count > meta.last_page + 1:
                            raise _BadPage(f"page {head} cannot be part of it")
                        yield head, pages.read(head, count)


def _check_structure(data: bytes, number: int, flags: int, upper: int) -> None:
    """Whether LMDB can read the page without leaving it."""
    size = len(data)
    pointers = _pointers(data)
    used = 0
    for at in pointers:
        if not upper <= at <= size - _NODE.size:
            raise _BadPage(f"page {number} has a node outside of it")
        low, high, node_flags, key_size = _NODE.unpack_from(data, at)
        length = _NODE.size + key_size
        if flags == _LEAF:
            length += 8 if node_flags & _BIG_DATA else low | high << 16
        used += length + (length & 1)
        if at + length > size:
            raise _BadPage(f"page {number} has a node that is too long")
    if used > size - upper:
        raise _BadPage(f"page {number} has nodes that overlap")
