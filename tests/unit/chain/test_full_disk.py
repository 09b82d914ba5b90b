"""A disk that fills up at any moment, and a database that outgrows its map: nothing is lost, and it goes on."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.amount import COIN
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from chain.primitives.transaction import TxOut
from chain.primitives.types import Amount
from chain.storage.faults import DiskFull
from chain.utxo_stats import UtxoHash, UtxoTotals
from tests.support.block_generator import BlockGenerator
from tests.support.disk import resize_disk, small_disk

REGTEST = network("regtest")
DISK = 16 << 20


def make_blocks(rng: random.Random, outputs: int) -> list[Block]:
    """A chain of 60 blocks with many small coins, the last ten of it replaced."""
    generator = BlockGenerator(rng)
    blocks: list[Block] = []

    def grow(count: int) -> None:
        for _ in range(count):
            draft = generator.draft(0)
            payouts = [TxOut(Amount(COIN // 1000), b"\x00\x14" + rng.randbytes(20)) for _ in range(outputs)]
            object.__setattr__(draft, "payouts", tuple(payouts))
            blocks.append(draft.build())
            generator.adopt(blocks[-1])

    grow(60)
    generator.go_back(10)
    grow(12)
    return blocks


def follow(folder: Path, blocks: list[Block]) -> dict[bytes, UtxoTotals]:
    """The coins at every tip on the way."""
    expected = {}
    with Chainstate(REGTEST, folder, script_threads=0) as chain:
        expected[chain.tip.hash] = chain.utxo_stats()
        for block in blocks:
            chain.process_block(block)
            expected[chain.tip.hash] = chain.utxo_stats()
    return expected


def test_a_disk_that_fills_up_at_any_moment_loses_nothing(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_blocks(rng, 150)
    expected = follow(tmp_path / "clean", blocks)
    faults = []
    with small_disk(tmp_path / "disk", DISK) as disk:
        ballast = disk / "ballast"
        position = 0
        while position < len(blocks):
            space = rng.randrange(60_000 if len(faults) < 3 else 400_000)
            opened = False
            try:
                with Chainstate(
                    REGTEST, disk / "chain", dbcache_bytes=rng.choice((1000, 1 << 20)), script_threads=0
                ) as chain:
                    opened = True
                    _fill(ballast, space)
                    for at, block in enumerate(blocks[position:], position):
                        chain.process_block(block)
                        position = at
                position = len(blocks)
            except DiskFull as fault:
                faults.append(str(fault))
            assert opened
            ballast.unlink(missing_ok=True)
            with Chainstate(REGTEST, disk / "chain", script_threads=0) as chain:
                assert chain.utxo_stats() == expected[chain.tip.hash]
                assert all(chain.index.entries[b.hash].have_data for b in blocks[:position] if b.hash in chain.index)
                height = chain.tip.height
            resize_disk(disk, DISK)
        assert len(faults) >= 3, faults
        assert all("free some space and start again" in text and "\n" not in text for text in faults)
        with Chainstate(REGTEST, disk / "chain", script_threads=0) as chain:
            for block in blocks:
                chain.process_block(block)
            assert chain.utxo_stats() == expected[blocks[-1].hash]
            assert chain.tip.height >= height
            chain.verify_chain(4, 0)


def _fill(ballast: Path, space: int) -> None:
    """Leave about so many bytes free on the disk."""
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - space)))


def test_a_disk_that_is_full_at_the_start_is_named(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_blocks(rng, 5)
    with small_disk(tmp_path / "disk", DISK) as disk:
        with Chainstate(REGTEST, disk / "chain", script_threads=0) as chain:
            for block in blocks[:40]:
                chain.process_block(block)
        _fill(disk / "ballast", 0)

        def start_and_go_on() -> None:
            with Chainstate(REGTEST, disk / "chain", script_threads=0) as chain:
                chain.process_block(blocks[40])
                chain.flush()

        with pytest.raises(LocalFault, match="disk is full"):
            start_and_go_on()
        (disk / "ballast").unlink()
        with Chainstate(REGTEST, disk / "chain", script_threads=0) as chain:
            assert chain.tip.hash in (blocks[39].hash, blocks[40].hash)  # the block file may have had room
            for block in blocks[40:]:
                chain.process_block(block)
            assert chain.tip.hash == blocks[-1].hash


def test_a_chain_outgrows_its_map(tmp_path: Path, rng: random.Random) -> None:
    """Each time the map is full the commit that met it is done again in a larger one; also with a cache of nothing."""
    blocks = make_blocks(rng, 250)
    expected = follow(tmp_path / "clean", blocks)
    for dbcache_bytes in (1, 1 << 30):
        folder = tmp_path / str(dbcache_bytes)
        with Chainstate(REGTEST, folder, script_threads=0, map_size=1 << 18, dbcache_bytes=dbcache_bytes) as chain:
            for block in blocks:
                chain.process_block(block)
        assert (folder / "chainstate" / "data.mdb").stat().st_size > 1 << 20
        with Chainstate(REGTEST, folder, script_threads=0, map_size=1 << 18) as chain:
            assert chain.utxo_stats(UtxoHash.HASH_SERIALIZED_3) == expected[blocks[-1].hash]
