"""Block folders as Bitcoin Core writes them: byte for byte, and each reads the other's. libbitcoinkernel is Core."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault, UserError
from chain.storage.block_files import HEADER_SIZE, scan_blocks, xor_bytes
from tests.support.block_generator import BlockGenerator
from tests.support.kernel import KernelJudge

REGTEST = network("regtest")


def make_blocks(rng: random.Random) -> list[Block]:
    """125 blocks; most coins are spent in the last twenty."""
    generator = BlockGenerator(rng)
    blocks = []
    for number in range(125):
        blocks.append(generator.draft(0 if number < 100 else 5).build())
        generator.adopt(blocks[-1])
    return blocks


def kernel_folder(folder: Path, blocks: list[Block]) -> Path:
    """A folder of Core's with these blocks, closed; its `blocks`."""
    folder.mkdir()
    kernel = KernelJudge(folder)
    for block in blocks:
        assert kernel.submit(block.raw).text == ""
    kernel.close()
    return folder / "blocks"


def payload(path: Path, key: bytes) -> bytes:
    """A block or undo file without xor, and without the zeros that Core reserves at its end."""
    data = path.read_bytes()
    clear = xor_bytes(data, key if any(key) else b"", 0)
    pos = 0
    while clear[pos : pos + 4] == REGTEST.magic:
        pos += HEADER_SIZE + int.from_bytes(clear[pos + 4 : pos + 8], "little")
        pos += 32 if path.name.startswith("rev") else 0
    assert not any(data[pos:]), "something is behind the last record"
    return clear[:pos]


def test_block_and_undo_files_are_cores_byte_for_byte(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_blocks(rng)
    theirs = kernel_folder(tmp_path / "kernel", blocks)
    key = (theirs / "xor.dat").read_bytes()
    with Chainstate(REGTEST, tmp_path / "ours", script_threads=0, block_xor=True) as chain:
        for block in blocks:
            chain.process_block(block)
    ours = tmp_path / "ours" / "blocks"
    our_key = (ours / "xor.dat").read_bytes()
    assert any(our_key)
    for name in ("blk00000.dat", "rev00000.dat"):
        assert payload(ours / name, our_key) == payload(theirs / name, key)
    assert len(payload(ours / "rev00000.dat", our_key)) > 5000


@pytest.mark.parametrize("xor", [False, True])
@pytest.mark.parametrize("file_size", [1 << 27, 20_000])
def test_core_takes_our_blocks_folder(tmp_path: Path, rng: random.Random, xor: bool, file_size: int) -> None:
    blocks = make_blocks(rng)
    folder = tmp_path / "ours"
    with Chainstate(REGTEST, folder, script_threads=0, block_xor=xor, max_block_file_size=file_size) as chain:
        for block in blocks:
            chain.process_block(block)
    assert (folder / "blocks" / "blk00001.dat").exists() is (file_size < 1 << 20)
    shutil.rmtree(folder / "chainstate")
    for path in (folder / "blocks").glob("rev*.dat"):
        path.unlink()
    kernel = KernelJudge(folder, reindex=True)
    assert kernel.tip_hex == blocks[-1].hash[::-1].hex()
    kernel.close()


@pytest.mark.parametrize("reindex", [False, True])
def test_we_take_cores_blocks_folder(tmp_path: Path, rng: random.Random, reindex: bool) -> None:
    """With and without being told to rebuild, whatever else Core left in the folder; the undo files are made anew."""
    blocks = make_blocks(rng)
    theirs = kernel_folder(tmp_path / "kernel", blocks)
    key = (theirs / "xor.dat").read_bytes()
    undo = payload(theirs / "rev00000.dat", key)
    shutil.copytree(theirs, tmp_path / "ours" / "blocks")
    with Chainstate(REGTEST, tmp_path / "ours", script_threads=0, reindex=reindex) as chain:
        for _ in chain.reindex() if reindex else ():
            pass
        assert chain.tip.hash == blocks[-1].hash
        chain.verify_chain(4, 0)
        stats = chain.utxo_stats()
        extra = BlockGenerator(rng)
        for block in blocks:
            extra.adopt(block)
        more = extra.draft(2).build()
        chain.process_block(more)  # writing goes on behind their last block
        assert chain.read_block(chain.tip, from_disk=True).raw == more.raw
    mine = payload(tmp_path / "ours" / "blocks" / "rev00000.dat", key)
    assert mine.startswith(undo)
    with Chainstate(REGTEST, tmp_path / "clean", script_threads=0) as chain:
        for block in blocks:
            chain.process_block(block)
        assert chain.utxo_stats() == stats
    kernel = KernelJudge(tmp_path / "ours", reindex=True)  # and what we wrote there, Core reads again
    assert kernel.tip_hex == more.hash[::-1].hex()
    kernel.close()


def shuffled(rng: random.Random, records: list[bytes]) -> list[bytes]:
    return rng.sample(records, len(records))


def padded(rng: random.Random, records: list[bytes]) -> list[bytes]:
    return [part for record in records for part in (record, bytes(rng.choice((0, 0, 1, 7, 5000))))] + [bytes(1 << 16)]


def noisy(rng: random.Random, records: list[bytes]) -> list[bytes]:
    """Random bytes, lone magics, and records that are cut or lie about their length."""
    out = []
    for record in records:
        magic = REGTEST.magic
        noise = (
            rng.randbytes(rng.randrange(50)),
            magic,
            magic * 3,
            magic + b"\xff\xff\xff\x7f",
            record[: len(record) // 2],
        )
        out += [rng.choice((b"", *noise)), record]
    return out


@pytest.mark.parametrize("arrange", [shuffled, padded, noisy])
@pytest.mark.parametrize("keyed", [False, True])
def test_files_in_any_state_are_imported(
    tmp_path: Path, rng: random.Random, arrange: Callable[[random.Random, list[bytes]], list[bytes]], keyed: bool
) -> None:
    """Blocks out of order over several files, reserved zeros, noise; as a blocks folder and as files to load."""
    blocks = make_blocks(rng)
    records = [REGTEST.magic + len(block.raw).to_bytes(4, "little") + block.raw for block in blocks]
    parts = arrange(rng, records)
    folder = tmp_path / "found" / "blocks"
    folder.mkdir(parents=True)
    key = rng.randbytes(8) if keyed else bytes(8)
    (folder / "xor.dat").write_bytes(key)
    cuts = [0, len(parts) // 3, len(parts) // 2, len(parts)]
    for number in range(3):
        data = b"".join(parts[cuts[number] : cuts[number + 1]])
        (folder / f"blk{number:05d}.dat").write_bytes(xor_bytes(data, key, 0))
    files = sorted(folder.glob("blk*.dat"))
    found = {block.hash for path in files for _, block in scan_blocks(path, REGTEST.magic, 0, key)}
    assert found == {block.hash for block in blocks}
    if not keyed:
        with Chainstate(REGTEST, tmp_path / "loaded", script_threads=0) as chain:
            for path in rng.sample(files, 3):
                for progress in chain.load_block_file(path):
                    assert progress.refused == 0
            assert arrange is shuffled or chain.tip.height > 0
            for path in files * 2:
                list(chain.load_block_file(path))
            assert chain.tip.hash == blocks[-1].hash or arrange is shuffled
    with Chainstate(REGTEST, tmp_path / "found", script_threads=0, reindex=True) as chain:
        for _ in chain.reindex():
            pass
        assert chain.tip.hash == blocks[-1].hash
        chain.verify_chain(4, 0)


def test_a_file_of_cores_with_its_key_beside_it_is_loaded(tmp_path: Path, rng: random.Random) -> None:
    blocks = make_blocks(rng)
    theirs = kernel_folder(tmp_path / "kernel", blocks)
    assert any((theirs / "xor.dat").read_bytes())
    with Chainstate(REGTEST, tmp_path / "ours", script_threads=0) as chain:
        *_, progress = chain.load_block_file(theirs / "blk00000.dat")
        assert (progress.accepted, progress.refused) == (125, 0)
        assert chain.tip.hash == blocks[-1].hash
        alone = shutil.copy(theirs / "blk00000.dat", tmp_path)
        with pytest.raises(UserError, match=r"holds no blocks .* with the xor\.dat that was beside them"):
            list(chain.load_block_file(Path(alone)))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no blocks of network regtest: "),
        (b"<!DOCTYPE html>" * 1000, "holds no blocks of network regtest: "),
        (REGTEST.magic * 100, "holds no blocks of network regtest: "),
        (network("bitcoin").magic + bytes(500), "holds no blocks of network regtest, but of bitcoin: "),
    ],
)
def test_a_file_without_blocks_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "junk.dat"
    path.write_bytes(content)
    with Chainstate(REGTEST, tmp_path / "ours", script_threads=0) as chain, pytest.raises(UserError, match=complaint):
        list(chain.load_block_file(path))


def test_a_lost_key_is_named_and_restored(tmp_path: Path, rng: random.Random) -> None:
    """The first block is known, so the key follows from the file that it obscures."""
    blocks = make_blocks(rng)[:20]
    folder = tmp_path / "chain"
    with Chainstate(REGTEST, folder, script_threads=0, block_xor=True) as chain:
        for block in blocks:
            chain.process_block(block)
    path = folder / "blocks" / "xor.dat"
    key = path.read_bytes()
    for spoilt in (None, bytes(8), key[:7], key[:7] + bytes((key[7] ^ 1,)), b""):
        path.unlink()
        if spoilt is not None:
            path.write_bytes(spoilt)
        with pytest.raises(LocalFault, match=r"xor\.dat is .*start with --reindex"):
            Chainstate(REGTEST, folder, script_threads=0)
        with Chainstate(REGTEST, folder, script_threads=0, reindex=True) as chain:
            list(chain.reindex())
            assert chain.tip.hash == blocks[-1].hash
        assert path.read_bytes() == key


@pytest.mark.parametrize("xor", [False, True])
@pytest.mark.parametrize("options", [{}, {"reindex": True}])
@pytest.mark.parametrize("own_database", [False, True])
def test_the_blocks_of_another_network_are_refused_and_left_alone(
    tmp_path: Path, xor: bool, options: dict[str, bool], own_database: bool
) -> None:
    other = network("testnet3")
    source, folder = tmp_path / "testnet3", tmp_path / "ours"
    Chainstate(other, source, script_threads=0, block_xor=xor).close()
    if own_database:
        Chainstate(REGTEST, folder, script_threads=0).close()
        shutil.rmtree(folder / "blocks")
    shutil.copytree(source / "blocks", folder / "blocks")
    (folder / "blocks" / "rev00000.dat").write_bytes(b"undo data")
    before = {path.name: path.read_bytes() for path in (folder / "blocks").iterdir()}
    with pytest.raises(UserError, match=r"but of testnet3: .* Nothing there"):
        Chainstate(REGTEST, folder, script_threads=0, **options)
    assert {path.name: path.read_bytes() for path in (folder / "blocks").iterdir()} == before


@pytest.mark.parametrize("content", [bytes(300), REGTEST.magic[:2], REGTEST.magic + bytes(20)])
def test_a_first_block_that_was_not_written_whole_is_written_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "blk00000.dat").write_bytes(content)
    with Chainstate(REGTEST, tmp_path, script_threads=0) as chain:
        assert chain.read_block_raw(chain.index.genesis) == REGTEST.genesis.raw


def test_a_large_file_without_blocks_is_searched_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.block_import._SEARCH_STEP_S", 0.0)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with Chainstate(REGTEST, tmp_path / "ours", script_threads=0) as chain:
        steps = chain.load_block_file(path)
        for _ in range(6):
            assert next(steps).accepted == 0  # the chain may do other things, or end, in between
        with pytest.raises(UserError, match="holds no blocks of network regtest: "):
            list(steps)
        # One whose first bytes say that it is another network's is not searched.
        with path.open("r+b") as file:
            file.write(network("bitcoin").magic)
        with pytest.raises(UserError, match="holds no blocks of network regtest, but of bitcoin: "):
            next(chain.load_block_file(path))


def test_block_files_of_which_nothing_is_left_are_not_overwritten(tmp_path: Path, rng: random.Random) -> None:
    Chainstate(REGTEST, tmp_path, script_threads=0).close()
    path = tmp_path / "blocks" / "blk00000.dat"
    noise = rng.randbytes(path.stat().st_size)
    path.write_bytes(noise)
    for reindex in (False, True):
        with pytest.raises(UserError, match="move the folder away and start with --reindex"):
            Chainstate(REGTEST, tmp_path, script_threads=0, reindex=reindex)
    assert path.read_bytes() == noise
    (tmp_path / "blocks").rename(tmp_path / "away")
    with Chainstate(REGTEST, tmp_path, script_threads=0, reindex=True) as chain:
        assert list(chain.reindex()) == []
        assert chain.read_block_raw(chain.index.genesis) == REGTEST.genesis.raw
