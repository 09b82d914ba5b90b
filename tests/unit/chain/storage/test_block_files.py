"""Block and undo files: Core's layout, roll-over, xor, damage, and a disk that is full."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest

from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, LocalFault
from chain.primitives.header import BlockHeader
from chain.storage.block_files import BlockFiles, scan_blocks, xor_bytes
from chain.storage.faults import DiskFull
from tests.support.blocks import coinbase
from tests.support.disk import file_size_limit

MAGIC = bytes.fromhex("fabfb5da")


def blocks(rng: random.Random, count: int) -> list[bytes]:
    """Whole blocks, if not valid ones."""
    sizes = [rng.randrange(2900) for _ in range(count)]
    return [Block.build(BlockHeader(rng.randbytes(80)), [coinbase(1, extra=rng.randbytes(size))]).raw for size in sizes]


def test_layout_of_both_files(tmp_path: Path, rng: random.Random) -> None:
    files = BlockFiles(tmp_path, MAGIC)
    block = blocks(rng, 1)[0]
    number, pos = files.append_block(block)
    assert (number, pos) == (0, 8)
    assert (tmp_path / "blk00000.dat").read_bytes() == MAGIC + len(block).to_bytes(4, "little") + block
    undo = rng.randbytes(100)
    assert files.append_undo(0, b"p" * 32, undo) == 8
    checksum = sha256(sha256(b"p" * 32 + undo).digest()).digest()
    assert (tmp_path / "rev00000.dat").read_bytes() == MAGIC + (100).to_bytes(4, "little") + undo + checksum
    assert files.read_block(0, 8) == block
    assert files.read_undo(0, 8, b"p" * 32) == undo


@pytest.mark.parametrize("xor", [False, True])
def test_blocks_roll_over_into_new_files_and_are_found_again(tmp_path: Path, rng: random.Random, xor: bool) -> None:
    files = BlockFiles(tmp_path, MAGIC, max_file_size=10_000, xor=xor)
    written = [(*files.append_block(block), block) for block in blocks(rng, 30)]
    assert written[-1][0] > 1
    assert all(path.stat().st_size <= 10_000 for path in tmp_path.glob("blk*.dat"))
    again = BlockFiles(tmp_path, MAGIC)
    assert [(number, pos, block.raw) for number, pos, block in again.scan(0, 0)] == written
    assert [(number, pos, block.raw) for number, pos, block in again.scan(*written[10][:2])] == written[11:]
    for number, pos, block in written:
        assert again.read_block(number, pos) == block
    if xor:
        assert MAGIC not in (tmp_path / "blk00000.dat").read_bytes()[:4]
        assert any((tmp_path / "xor.dat").read_bytes())


def test_xor_is_by_file_offset(rng: random.Random) -> None:
    key, data = rng.randbytes(8), rng.randbytes(100)
    whole = xor_bytes(data, key, 0)
    assert whole == bytes(b ^ key[i % 8] for i, b in enumerate(data))
    for at in (1, 7, 8, 13):
        assert xor_bytes(data[at:], key, at) == whole[at:]


def test_scan_skips_padding_and_torn_writes(tmp_path: Path, rng: random.Random) -> None:
    first, second, third = blocks(rng, 3)
    path = tmp_path / "some.dat"

    def record(block: bytes) -> bytes:
        return MAGIC + len(block).to_bytes(4, "little") + block

    torn = MAGIC + (100).to_bytes(4, "little") + b"torn"
    path.write_bytes(
        b"\0" * 77 + record(first) + torn + record(second) + b"\0" * 4096 + record(third) + record(first)[:-1]
    )
    assert [block.raw for _, block in scan_blocks(path, MAGIC)] == [first, second, third]
    (tmp_path / "empty.dat").write_bytes(b"")
    assert list(scan_blocks(tmp_path / "empty.dat", MAGIC)) == []


def test_damage_is_found(tmp_path: Path, rng: random.Random) -> None:
    files = BlockFiles(tmp_path, MAGIC)
    files.append_block(blocks(rng, 1)[0])
    pos = files.append_undo(0, b"p" * 32, b"undo data")
    with pytest.raises(LocalFault, match="There is no record"):
        files.read_block(0, 9)
    with pytest.raises(LocalFault, match="There is no record"):
        files.read_block(0, 3)
    with pytest.raises(LocalFault):
        files.read_block(7, 8)
    with pytest.raises(LocalFault, match="checksum"):
        files.read_undo(0, pos, b"q" * 32)
    raw = bytearray((tmp_path / "rev00000.dat").read_bytes())
    raw[10] ^= 1
    (tmp_path / "rev00000.dat").write_bytes(raw)
    with pytest.raises(LocalFault, match="checksum"):
        files.read_undo(0, pos, b"p" * 32)
    (tmp_path / "rev00000.dat").write_bytes(raw[:-1])
    with pytest.raises(LocalFault, match="cut short"):
        files.read_undo(0, pos, b"p" * 32)


def test_writing_goes_on_behind_the_last_whole_block(tmp_path: Path, rng: random.Random) -> None:
    files = BlockFiles(tmp_path, MAGIC)
    first, second = blocks(rng, 2)
    files.append_block(first)
    end = files.end
    with (tmp_path / "blk00000.dat").open("ab") as file:
        file.write(MAGIC + b"\xff\0\0\0torn")
    again = BlockFiles(tmp_path, MAGIC)
    again.set_position(0, end)
    again.append_block(second)
    assert [block.raw for _, _, block in again.scan(0, 0)] == [first, second]


def test_full_disk_leaves_the_files_as_they_were(tmp_path: Path, rng: random.Random) -> None:
    files = BlockFiles(tmp_path, MAGIC)
    block = rng.randbytes(2000)
    files.append_block(block)
    before = (tmp_path / "blk00000.dat").read_bytes()
    with file_size_limit(3000):
        with pytest.raises(DiskFull, match="disk is full"):
            files.append_block(block)
        assert (tmp_path / "blk00000.dat").read_bytes() == before
        with pytest.raises(DiskFull):
            files.append_undo(0, bytes(32), rng.randbytes(4000))
    _, pos = files.append_block(block)  # space came back
    assert pos == 2016
    assert files.read_block(0, pos) == block
    assert files.append_undo(0, bytes(32), b"u") == 8


def test_records_that_lie_in_each_other_are_searched_in_linear_time(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up file: every eight bytes begin a record of nearly 4 MB. What is tried is bounded by the file's size."""
    whole = blocks(rng, 1)[0]
    path = tmp_path / "some.dat"
    fakes = (MAGIC + (3_900_000).to_bytes(4, "little")) * 1_000_000
    path.write_bytes(fakes + bytes(4_000_000) + MAGIC + len(whole).to_bytes(4, "little") + whole)
    tried = 0

    def parse(data: bytes) -> Block:
        nonlocal tried
        tried += len(data)
        if data != whole:
            raise DecodeError("no block")
        return Block(BlockHeader(data[:80]), [], data)

    monkeypatch.setattr("chain.storage.block_files.Block.parse", parse)
    assert [block.raw for _, block in scan_blocks(path, MAGIC)] == [whole]
    assert tried < (64 << 20) + 17 * path.stat().st_size


def test_a_record_longer_than_any_block_is_none(tmp_path: Path, rng: random.Random) -> None:
    inner = blocks(rng, 1)[0]
    path = tmp_path / "some.dat"
    path.write_bytes(MAGIC + (5_000_000).to_bytes(4, "little") + MAGIC + len(inner).to_bytes(4, "little") + inner)
    with path.open("r+b") as file:
        file.truncate(6_000_000)
    assert [(at, block.raw) for at, block in scan_blocks(path, MAGIC)] == [(16, inner)]
