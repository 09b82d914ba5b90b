"""Blocks and undo data in the files of Bitcoin Core's ``blocks`` folder.

``blkNNNNN.dat``: records of network magic, u32 LE size, block. ``revNNNNN.dat``: records of magic, size, undo data,
then SHA-256d of the previous block's hash and the undo data. A file ends before 128 MiB. With ``xor.dat`` (8 bytes)
every byte is XORed with the key byte of its file offset.

Nothing here is durable until `sync`; the database must refer to a position only after that. What lies in the files
beyond the last position that the database knows is found again by `scan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from chain.consensus.constants import MAX_BLOCK_SERIALIZED_SIZE
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, LocalFault
from chain.storage.faults import storage_fault
from chain.storage.layout import XOR_FILE, block_file, undo_file

MAX_FILE_SIZE = 0x8000000  #: 128 MiB (Core: MAX_BLOCKFILE_SIZE)
HEADER_SIZE = 8  #: magic and size before each record
MAX_RECORD_SIZE = 0x02000000  #: no record is longer: Core's MAX_SIZE
_MIN_BLOCK_SIZE = 80
_CHECKSUM_SIZE = 32
_KEY_SIZE = 8
_MAX_DIGITS = 9  #: of a file's number: the database keeps it in 32 bits
_SCAN_CHUNK = 1 << 24
_PATIENCE = 64 << 20  #: bytes of records that are no blocks and may hold some
_PATIENCE_A_BYTE = 16  #: that the end of one gives back, for each of its bytes
_CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


class BlockFiles:
    """The block files of one data directory. Reads are safe from any thread, writes belong to one."""

    def __init__(
        self,
        blocks_dir: Path,
        magic: bytes,
        *,
        max_file_size: int = MAX_FILE_SIZE,
        xor: bool = False,
        first_block: bytes = b"",
        restore_key: bool = False,
    ) -> None:
        """`xor` asks for a random key if the folder is new; a key that is there is used in any case. LocalFault if
        the folder cannot be used, or if the key is lost: what the first file should begin with (`first_block`, the
        genesis block) tells; with `restore_key` it is put right.
        """
        self.blocks_dir = blocks_dir
        self.magic = magic
        self.max_file_size = max_file_size
        self.file_number = 0  #: of the file that is being written
        self.end = 0  #: bytes of it in use
        #: (file, bytes in use) where blocks below a UTXO snapshot go, while there is one to validate: in files of their
        #: own, so that pruning can delete them when they have been validated
        self.historical: tuple[int, int] | None = None
        self._dirty: set[Path] = set()
        try:
            blocks_dir.mkdir(parents=True, exist_ok=True)
            self._key = self._load_key(xor, first_block, restore_key)
        except OSError as error:
            raise storage_fault(error, "opening", blocks_dir) from error

    def append_block(self, raw: bytes, *, historical: bool = False) -> tuple[int, int]:
        """Write a block, a `historical` one to the files for those if there are any; (file number, position of its
        first byte). LocalFault, and nothing written, if the disk is full.
        """
        apart = historical and self.historical is not None
        number, start = self.historical if apart and self.historical is not None else (self.file_number, self.end)
        if start and start + HEADER_SIZE + len(raw) >= self.max_file_size:
            number, start = self._next_file(), 0
            self.cut(number, 0)
        self._write(block_file(self.blocks_dir, number), start, self.magic + len(raw).to_bytes(4, "little") + raw)
        end = start + HEADER_SIZE + len(raw)
        if apart:
            self.historical = number, end
        else:
            self.file_number, self.end = number, end
        return number, start + HEADER_SIZE

    def part(self) -> None:
        """From here on, blocks below a UTXO snapshot go on in the present file, all others begin a new one."""
        self.historical = self.file_number, self.end
        self.set_position(self._next_file(), 0)

    @property
    def open_files(self) -> set[int]:
        """The numbers of the files that are being written."""
        return {self.file_number} if self.historical is None else {self.file_number, self.historical[0]}

    def _next_file(self) -> int:
        return max(self.open_files) + 1

    def append_undo(self, file_number: int, prev_hash: bytes, undo: bytes) -> int:
        """Write undo data beside block file `file_number`; the position of its first byte."""
        path = undo_file(self.blocks_dir, file_number)
        try:
            start = path.stat().st_size
        except FileNotFoundError:
            start = 0
        checksum = sha256(sha256(prev_hash + undo).digest()).digest()
        self._write(path, start, self.magic + len(undo).to_bytes(4, "little") + undo + checksum)
        return start + HEADER_SIZE

    def read_block(self, file_number: int, pos: int) -> bytes:
        """The block at `pos`; LocalFault if there is none."""
        return self._read_record(block_file(self.blocks_dir, file_number), pos, 0)

    def read_undo(self, file_number: int, pos: int, prev_hash: bytes) -> bytes:
        """The undo data at `pos`, checksum verified; LocalFault if there are none or they are damaged."""
        path = undo_file(self.blocks_dir, file_number)
        data = self._read_record(path, pos, _CHECKSUM_SIZE)
        undo, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
        if sha256(sha256(prev_hash + undo).digest()).digest() != checksum:
            raise LocalFault(
                f"The undo data at {pos} in {path} are damaged (checksum mismatch); start with --reindex to rebuild"
            )
        return undo

    def sync(self) -> None:
        """Make everything written so far durable."""
        for path in sorted(self._dirty):
            try:
                with path.open("r+b", buffering=0) as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise storage_fault(error, "writing", path) from error
        if self._dirty and hasattr(os, "O_DIRECTORY"):  # a new file is only safe once its name is
            try:
                descriptor = os.open(self.blocks_dir, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise storage_fault(error, "writing", self.blocks_dir) from error
        self._dirty.clear()

    def set_position(self, file_number: int, end: int, *, cut: bool = True) -> None:
        """Write on from here. With `cut` what lies behind in the same file is dropped."""
        self.file_number, self.end = file_number, end
        if cut:
            self.cut(file_number, end)

    def cut(self, file_number: int, end: int) -> None:
        """Drop what lies behind `end` in a file, if it is there."""
        path = block_file(self.blocks_dir, file_number)
        try:
            if path.exists() and path.stat().st_size > end:
                os.truncate(path, end)
        except OSError as error:
            raise storage_fault(error, "writing", path) from error

    def size_on_disk(self) -> int:
        """Bytes that all block and undo files take."""
        return sum(
            p.stat().st_size for p in self.blocks_dir.iterdir() if p.name[:3] in ("blk", "rev") and p.suffix == ".dat"
        )

    def first_file(self) -> tuple[int, bytes] | None:
        """(number, first four bytes) of the first block file that is not empty; None if there is none. The bytes are
        zeros where a power cut took what was written.
        """
        for number in self.numbers():
            path = block_file(self.blocks_dir, number)
            if path.stat().st_size:
                with path.open("rb") as file:
                    head = file.read(4)
                return number, xor_bytes(head, self._key, 0) if any(head) else head
        return None

    def numbers(self) -> list[int]:
        """Of the block files that exist, ascending."""
        names = {path.stem[3:] for path in self.blocks_dir.glob("blk*.dat") if path.stem[3:].isdecimal()}
        found = {int(name) for name in names if len(name) <= _MAX_DIGITS}
        return sorted(number for number in found if block_file(self.blocks_dir, number).exists())

    def delete_file(self, file_number: int) -> None:
        """Remove a block file and its undo file (pruning)."""
        for path in (block_file(self.blocks_dir, file_number), undo_file(self.blocks_dir, file_number)):
            path.unlink(missing_ok=True)
            self._dirty.discard(path)

    def delete_undo(self) -> None:
        """Remove all undo files; a reindex writes them anew."""
        for path in self.blocks_dir.glob("rev*.dat"):
            path.unlink()
            self._dirty.discard(path)

    def scan(self, file_number: int, pos: int, *, only: bool = False) -> Iterator[tuple[int, int, Block]]:
        """(file number, position, block) of every whole block from `pos` of file `file_number` on, through the files
        that follow, missing ones between them or not, unless `only` this one is wanted.
        """
        for number in self.numbers():
            if number == file_number or (number > file_number and not only):
                start = pos if number == file_number else 0
                for at, block in scan_blocks(block_file(self.blocks_dir, number), self.magic, start, self._key):
                    yield number, at, block

    def _load_key(self, wanted: bool, first_block: bytes, restore: bool) -> bytes:
        path = self.blocks_dir / XOR_FILE
        stated = path.read_bytes() if path.exists() else None
        proven = self._proven_key(first_block)
        if proven is not None and stated != proven and (stated is not None or any(proven)):
            if not restore:
                what = "is missing" if stated is None else "is damaged: it is not the key of the files beside it"
                raise LocalFault(f"{path} {what}; start with --reindex to restore it")
            path.write_bytes(proven)
            stated = proven
        if stated is not None:
            if len(stated) != _KEY_SIZE:
                raise LocalFault(
                    f"{path} has {len(stated)} bytes, not 8; restore it, or remove the blocks folder to download again"
                )
            return stated if any(stated) else b""
        # Like Core, state the key even if it changes nothing: whoever reads the files need not guess.
        key = os.urandom(_KEY_SIZE) if wanted and not any(self.blocks_dir.glob("blk*.dat")) else bytes(_KEY_SIZE)
        path.write_bytes(key)
        return key if any(key) else b""

    def _proven_key(self, first_block: bytes) -> bytes | None:
        """The key under which the first file begins with `first_block`; None if it begins with something else."""
        record = self.magic + len(first_block).to_bytes(4, "little") + first_block
        path = block_file(self.blocks_dir, 0)
        if not first_block or not path.exists():
            return None
        with path.open("rb") as file:
            found = file.read(len(record))
        key = bytes(a ^ b for a, b in zip(found[:_KEY_SIZE], record, strict=False))
        return key if xor_bytes(found, key, 0) == record else None

    def _write(self, path: Path, pos: int, data: bytes) -> None:
        data = xor_bytes(data, self._key, pos)
        view = memoryview(data)
        try:
            with open(os.open(path, _CREATE, 0o644), "r+b", buffering=0) as file:
                try:
                    file.seek(pos)
                    while view:
                        view = view[file.write(view) :]
                except OSError:
                    file.truncate(pos)  # shrinking needs no space
                    raise
        except OSError as error:
            raise storage_fault(error, "writing", path) from error
        self._dirty.add(path)

    def _read_record(self, path: Path, pos: int, trailer: int) -> bytes:
        return read_record(path, pos, self.magic, self._key, trailer)


def read_record(path: Path, pos: int, magic: bytes, key: bytes = b"", trailer: int = 0) -> bytes:
    """The payload at `pos` of a block or undo file, and `trailer` bytes that follow it; LocalFault if there is no
    whole record.
    """
    start = pos - HEADER_SIZE
    try:
        with path.open("rb") as file:
            file.seek(max(start, 0))
            head = xor_bytes(file.read(HEADER_SIZE), key, start) if start >= 0 else b""
            size = int.from_bytes(head[4:], "little")
            if head[:4] != magic or size > MAX_RECORD_SIZE:
                raise LocalFault(
                    f"There is no record at {pos} in {path}: the file is damaged; start with --reindex to rebuild"
                )
            data = file.read(size + trailer)
    except FileNotFoundError as error:
        raise LocalFault(f"{path} is missing; start with --reindex to do without what was in it") from error
    except OSError as error:
        raise storage_fault(error, "reading", path) from error
    if len(data) != size + trailer:
        raise LocalFault(
            f"The record at {pos} in {path} is cut short: the file is damaged; start with --reindex to rebuild"
        )
    return xor_bytes(data, key, pos)


def xor_bytes(data: bytes, key: bytes, offset: int) -> bytes:
    """`data`, which lies at `offset` of its file, with the file key applied or taken off. An empty key changes
    nothing.
    """
    if not key:
        return data
    turn = offset % len(key)
    length = len(data)
    stream = ((key[turn:] + key[:turn]) * (length // len(key) + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(length, "little")


def scan_blocks(path: Path, magic: bytes, pos: int = 0, key: bytes = b"") -> Iterator[tuple[int, Block]]:
    """(position, block) of each whole block in a block file.

    What lies between (zero padding, torn writes, bytes that are no block) is skipped by looking for the magic, as Core
    does. Memory stays at one chunk, whatever the file's size.
    """
    for at, block in search_blocks(path, magic, pos, key):
        if block is not None:
            yield at, block


def search_blocks(path: Path, magic: bytes, pos: int = 0, key: bytes = b"") -> Iterator[tuple[int, Block | None]]:
    """scan_blocks, which comes back with (position, None) now and then while it finds nothing: a large file may have
    no block at all.

    In what claims to be a block and is none (a torn write) other blocks are looked for. Records that claim to lie in
    each other by the thousand are no accident: after so many of them (`_PATIENCE`) their claims count, and the search
    takes time in proportion to the file's size.
    """
    patience = _PATIENCE
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            buf, base = b"", pos  # buf holds the file from base on

            def hold(start: int, count: int) -> int:
                nonlocal buf, base
                if start < base or start + count > base + len(buf):
                    base = start
                    file.seek(start)
                    buf = xor_bytes(file.read(max(count, min(_SCAN_CHUNK, size - start))), key, start)
                return start - base

            while pos + HEADER_SIZE <= size:
                at = hold(pos, HEADER_SIZE)
                head = buf[at : at + HEADER_SIZE]
                start, length = pos + HEADER_SIZE, int.from_bytes(head[4:], "little")
                if (
                    head[:4] == magic
                    and _MIN_BLOCK_SIZE < length <= MAX_BLOCK_SERIALIZED_SIZE
                    and start + length <= size
                ):
                    at = hold(pos, HEADER_SIZE + length) + HEADER_SIZE
                    try:
                        block = Block.parse(buf[at : at + length])
                    except DecodeError:
                        yield pos, None
                    else:
                        yield start, block
                        pos = start + length
                        continue
                    patience -= length
                    if patience < 0:
                        pos = start + length
                        patience += _PATIENCE_A_BYTE * length
                        continue
                found = buf.find(magic, pos - base + 1)
                pos = base + found if found >= 0 else max(pos + 1, base + len(buf) - len(magic) + 1)
                if found < 0:
                    yield pos, None
    except OSError as error:
        raise storage_fault(error, "reading", path) from error
