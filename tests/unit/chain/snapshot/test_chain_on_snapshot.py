"""A chain that stands on a snapshot: loading, going on, validating, and all that can go wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.consensus.errors import ConsensusError
from chain.crypto.hashes import sha256
from chain.events import TipChanged
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import AssumeUtxo, NetworkParams, network
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault, UserError
from chain.primitives.transaction import TxOut
from chain.primitives.types import Amount
from chain.script.addresses import decode_address
from chain.snapshot import dump as dump_module
from chain.snapshot.format import (
    SetHash,
    SnapshotError,
    SnapshotMetadata,
    encode_group,
    groups,
    read_coins,
    read_metadata,
)
from chain.storage.layout import CHAINSTATE_DIR, OBSOLETE_DIR, SNAPSHOT_DIR, SNAPSHOT_INVALID_DIR
from node.pruning import prune_chain
from tests.support.blocks import coinbase, commit, make_block
from tests.support.regtest import OWNER, RegtestNode
from tests.support.snapshots import BASE_HEIGHT, TIP_HEIGHT, History, dump, load, validate


def open_chain(folder: Path, params: NetworkParams, **options: bool | int) -> Chainstate:
    return Chainstate(params, folder, script_threads=0, **options)  # type: ignore[arg-type]


def started(folder: Path, history: History, blocks: int = 0) -> Chainstate:
    """All headers, the first `blocks` blocks, then the snapshot."""
    chain = open_chain(folder, history.params)
    chain.accept_headers([block.header for block in history.blocks])
    give(chain, history.blocks[:blocks])
    load(chain, history.snapshot)
    return chain


def give(chain: Chainstate, blocks: Sequence[Block]) -> None:
    for block in blocks:
        chain.process_block(block)


def refusal(chain: Chainstate, snapshot: bytes) -> str:
    tip, totals = chain.tip, chain.utxo_stats()
    with pytest.raises(SnapshotError) as caught:
        load(chain, snapshot)
    assert chain.tip is tip
    assert chain.utxo_stats() == totals
    assert not chain.stands_on_snapshot
    assert not (chain.datadir / SNAPSHOT_DIR).exists()
    return str(caught.value)


def test_the_whole_way(tmp_path: Path, history: History) -> None:
    with open_chain(tmp_path, history.params) as chain:
        chain.accept_headers([block.header for block in history.blocks])
        chain.drain_events()
        assert load(chain, history.snapshot) == [TipChanged(chain.index.entries[history.base.hash])]
        assert chain.tip.height == BASE_HEIGHT
        assert chain.utxo_stats() == history.totals[BASE_HEIGHT]
        assert chain.validated is chain.index.genesis
        assert chain.tip.chain_tx_count == history.params.assumeutxo[0].chain_tx_count
        chain.verify_chain(4, 0)  # nothing to verify yet
        give(chain, history.blocks[BASE_HEIGHT:])
        assert chain.tip.height == TIP_HEIGHT
        chain.verify_chain(4, 0)
        give(chain, history.blocks[:BASE_HEIGHT])
        assert chain.validated.height == 0
        validate(chain)
        assert chain.background is None
        assert chain.validated is chain.tip
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]
        assert (tmp_path / SNAPSHOT_DIR).exists()
        chain.verify_chain(4, 0)  # undo data of all blocks are there
    with open_chain(tmp_path, history.params) as chain:
        assert "[snapshot] cleaning up unneeded background chainstate, then reinitializing" in chain.remarks
        assert not chain.stands_on_snapshot
        assert not (tmp_path / SNAPSHOT_DIR).exists()
        assert not (tmp_path / OBSOLETE_DIR).exists()
        assert chain.tip.height == TIP_HEIGHT
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]
        assert [entry.chain_tx_count for entry in chain.index.active[BASE_HEIGHT : BASE_HEIGHT + 2]] == [
            history.params.assumeutxo[0].chain_tx_count,
            history.params.assumeutxo[0].chain_tx_count + 2,
        ]


def test_every_phase_survives_a_restart(tmp_path: Path, history: History) -> None:
    started(tmp_path, history, blocks=50).close()
    with open_chain(tmp_path, history.params) as chain:
        assert (chain.tip.height, chain.validated.height) == (BASE_HEIGHT, 50)
        assert chain.index.active[BASE_HEIGHT].chain_tx_count == history.params.assumeutxo[0].chain_tx_count
        give(chain, history.blocks[BASE_HEIGHT : BASE_HEIGHT + 5])
        give(chain, history.blocks[50:70])
        validate(chain)
    with open_chain(tmp_path, history.params) as chain:
        assert (chain.tip.height, chain.validated.height) == (BASE_HEIGHT + 5, 70)
        assert chain.utxo_stats() == history.totals[BASE_HEIGHT + 5]
        give(chain, history.blocks[70:])
    with open_chain(tmp_path, history.params) as chain:  # all blocks are there, none of the last is validated
        assert (chain.tip.height, chain.validated.height) == (TIP_HEIGHT, 70)
        while chain.background is not None and chain.background.next_block is not None:
            chain.advance_background(seconds=0)
    with open_chain(tmp_path, history.params) as chain:  # only the hash is missing
        assert chain.validated.height == BASE_HEIGHT
        validate(chain)
        assert chain.background is None
    with open_chain(tmp_path, history.params) as chain:
        assert not chain.stands_on_snapshot
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


def test_a_rolled_back_dump_is_the_same(tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_chain(tmp_path / "a", history.params) as chain:
        give(chain, history.blocks[:BASE_HEIGHT])
        latest, result = dump(chain, BASE_HEIGHT)
        assert latest == history.snapshot
        assert result.digest == history.totals[BASE_HEIGHT].digest
        give(chain, history.blocks[BASE_HEIGHT:])
        assert dump(chain, BASE_HEIGHT)[0] == latest
        monkeypatch.setattr(dump_module, "SPILL_COINS", 2)
        assert dump(chain, BASE_HEIGHT, tmp_path / "scratch")[0] == latest
        assert not (tmp_path / "scratch").exists()
        assert chain.prune_locks == {}
        for height in (0, 1, 101, BASE_HEIGHT - 1):
            _, result = dump(chain, height)
            assert result.coins_written == (history.totals[height].outputs if height in history.totals else height)
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


def test_a_dump_is_of_one_moment(tmp_path: Path, history: History) -> None:
    """Blocks that connect while it is written do not show."""
    with open_chain(tmp_path, history.params) as chain:
        give(chain, history.blocks[: BASE_HEIGHT + 4])
        file = io.BytesIO()
        steps = chain.dump_snapshot(chain.index.active[BASE_HEIGHT], file, scratch_dir=None)
        next(steps)
        give(chain, history.blocks[BASE_HEIGHT + 4 :])
        chain.flush()
        for _ in steps:
            pass
        assert file.getvalue() == history.snapshot


def test_what_is_refused(tmp_path: Path, history: History) -> None:
    line = history.params.assumeutxo[0]
    name = history.base.hash[::-1].hex()
    with open_chain(tmp_path / "a", history.params) as chain:
        assert refusal(chain, history.snapshot) == (
            f"The base block header ({name}) must appear in the headers chain. Make sure all headers are syncing, and"
            " call loadtxoutset again"
        )
        chain.accept_headers([block.header for block in history.blocks])
        other = SnapshotMetadata(history.blocks[3].hash, 1).encode(history.params.magic) + history.snapshot[51:]
        assert refusal(chain, other) == (
            f"assumeutxo block hash in snapshot metadata not recognized (hash: {history.blocks[3].hash[::-1].hex()})."
            f" The following snapshot heights are available: {BASE_HEIGHT}"
        )
        cut = refusal(chain, history.snapshot[:-1])
        assert cut.startswith("Population failed: Bad snapshot format or truncated snapshot after deserializing")
        damaged = history.snapshot[:60] + bytes([history.snapshot[60] ^ 1]) + history.snapshot[61:]
        expected = f"Population failed: Bad snapshot content hash: expected {line.hash_serialized[::-1].hex()}, got "
        assert refusal(chain, damaged).startswith(expected)
        file = io.BytesIO(history.snapshot)
        metadata = read_metadata(file, chain.params)
        with pytest.raises(SnapshotError, match="Can't activate a snapshot when mempool not empty"):
            list(chain.load_snapshot(file, metadata, mempool_is_empty=lambda: False))
        chain.invalidate_block(history.blocks[BASE_HEIGHT - 2].hash)
        assert refusal(chain, history.snapshot) == f"The base block header ({name}) is part of an invalid chain"
        chain.reconsider_block(history.blocks[BASE_HEIGHT - 2].hash)
        give(chain, history.blocks[:BASE_HEIGHT])
        assert refusal(chain, history.snapshot) == "Population failed: Work does not exceed active chainstate"
    with open_chain(tmp_path / "b", history.with_table(replace(line, height=BASE_HEIGHT + 1))) as chain:
        chain.accept_headers([block.header for block in history.blocks])
        assert "not recognized" in refusal(chain, history.snapshot)
    with started(tmp_path / "c", history) as chain, pytest.raises(SnapshotError, match="more than once"):
        load(chain, history.snapshot)


def test_a_coin_that_is_there_twice_is_refused(tmp_path: Path, history: History) -> None:
    """Such a file has the right set of coins, so only the count tells."""
    file = io.BytesIO(history.snapshot)
    metadata = read_metadata(file, history.params)
    coins = sorted(coin for batch in read_coins(file, metadata.coins_count, BASE_HEIGHT, batch=100) for coin in batch)
    records = [encode_group(txid, group) for txid, group in groups(coins)]
    first = next(group for _, group in groups(coins))
    twice = SnapshotMetadata(metadata.base_hash, metadata.coins_count + len(first)).encode(history.params.magic)
    with open_chain(tmp_path, history.params) as chain:
        chain.accept_headers([block.header for block in history.blocks])
        text = refusal(chain, twice + records[0] + b"".join(records))
        assert text == "Population failed: Mismatch in coins count in snapshot metadata and actual snapshot data"


def test_a_load_that_is_given_up_leaves_nothing(tmp_path: Path, history: History) -> None:
    with open_chain(tmp_path, history.params) as chain:
        chain.accept_headers([block.header for block in history.blocks])
        file = io.BytesIO(history.snapshot)
        steps = chain.load_snapshot(file, read_metadata(file, chain.params))
        next(steps)
        assert (tmp_path / SNAPSHOT_DIR).exists()
        steps.close()  # type: ignore[attr-defined]
        assert not (tmp_path / SNAPSHOT_DIR).exists()
        load(chain, history.snapshot)
        assert chain.tip.height == BASE_HEIGHT


def test_blocks_in_any_order(tmp_path: Path, history: History) -> None:
    """Blocks of both chains, the snapshot's own block early, highest first."""
    with started(tmp_path, history) as chain:
        give(chain, [history.base])
        give(chain, history.blocks[:BASE_HEIGHT:-1])
        assert chain.tip.height == BASE_HEIGHT
        give(chain, [history.blocks[BASE_HEIGHT]])
        assert chain.tip.height == TIP_HEIGHT
        give(chain, history.blocks[BASE_HEIGHT - 2 :: -1])
        validate(chain)
        assert chain.background is None
        assert [entry.chain_tx_count for entry in chain.index.active[-3:]] == [
            chain.index.active[BASE_HEIGHT].chain_tx_count + 2 * (TIP_HEIGHT - BASE_HEIGHT - back) for back in (2, 1, 0)
        ]


def forged(history: History, snapshot: bytes) -> NetworkParams:
    """A network whose table was told the hash of these coins."""
    file = io.BytesIO(snapshot)
    count = read_metadata(file, history.params).coins_count
    hasher = SetHash()
    hasher.update(sorted(coin for batch in read_coins(file, count, BASE_HEIGHT, batch=100) for coin in batch))
    return history.with_table(replace(history.params.assumeutxo[0], hash_serialized=hasher.digest()))


def test_a_wrong_snapshot_is_found_out(tmp_path: Path, history: History) -> None:
    wrong = bytearray(history.snapshot)
    wrong[55] ^= 1  # a txid
    params = forged(history, bytes(wrong))
    chain = open_chain(tmp_path, params)
    chain.accept_headers([block.header for block in history.blocks])
    load(chain, bytes(wrong))
    give(chain, history.blocks[:BASE_HEIGHT])
    with pytest.raises(LocalFault) as caught:
        validate(chain)
    assert chain.has_failed
    text = str(caught.value)
    assert "failed to validate the UTXO snapshot: the coins' hash is" in text
    assert f"resetting the chain height from {BASE_HEIGHT} to {BASE_HEIGHT}" in text
    assert "\n" not in text
    chain.close()
    assert (tmp_path / SNAPSHOT_INVALID_DIR).exists()
    with open_chain(tmp_path, params) as chain:
        assert not chain.stands_on_snapshot
        give(chain, history.blocks[BASE_HEIGHT:])
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]
        chain.verify_chain(4, 0)


def invalid_chain(history: History, bad_height: int, *, contextual: bool) -> list[Block]:
    """The history's blocks, but from `bad_height` on empty ones, of which the first breaks a rule: it pays too much, or
    lacks what its height asks for."""
    index = HeaderIndex(history.params)
    prev: BlockIndexEntry = index.genesis
    for block in history.blocks[: bad_height - 1]:
        prev = index.add(block.header)
    blocks = list(history.blocks[: bad_height - 1])
    for height in range(bad_height, TIP_HEIGHT + 1):
        bad = height == bad_height
        value = Amount(51 * 10**8 if bad and not contextual else 0)
        first = coinbase(height + (bad and contextual), [TxOut(value, b"\x51"), commit([])], witness=(bytes(32),))
        block = make_block(prev, history.params, [first])
        prev = index.add(block.header)
        blocks.append(block)
    return blocks


@pytest.mark.parametrize("contextual", [False, True])
def test_an_invalid_block_below_the_snapshot(tmp_path: Path, history: History, contextual: bool) -> None:
    blocks = invalid_chain(history, 60, contextual=contextual)
    line = replace(history.params.assumeutxo[0], block_hash=blocks[BASE_HEIGHT - 1].hash)
    params = history.with_table(line)
    snapshot = history.snapshot[:11] + line.block_hash + history.snapshot[43:]
    chain = open_chain(tmp_path, params)
    chain.accept_headers([block.header for block in blocks])
    load(chain, snapshot)

    def give_and_validate() -> None:
        give(chain, blocks[:BASE_HEIGHT])
        validate(chain)

    with pytest.raises(LocalFault, match=r"block [0-9a-f]{64} at height 60 below it is invalid \(bad-"):
        give_and_validate()
    chain.close()
    with open_chain(tmp_path, params) as chain:
        assert chain.index.entries[blocks[59].hash].failed
        assert chain.tip.height <= 59
        give(chain, history.blocks[chain.tip.height :])
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]
        with pytest.raises(ConsensusError, match="duplicate-invalid"):
            chain.accept_headers([blocks[60].header])


def fork(history: History, height: int, count: int, params: NetworkParams) -> list[Block]:
    """Empty blocks on top of the history's block at `height`."""
    index = HeaderIndex(params)
    prev: BlockIndexEntry = index.genesis
    for block in history.blocks[:height]:
        prev = index.add(block.header)
    blocks = []
    for n in range(height + 1, height + count + 1):
        block = make_block(prev, params, [coinbase(n, [TxOut(Amount(0), b"\x52"), commit([])], witness=(bytes(32),))])
        prev = index.add(block.header)
        blocks.append(block)
    return blocks


def test_no_reorganisation_below_an_unproved_snapshot(tmp_path: Path, history: History) -> None:
    """Its blocks cannot be taken off. Once it is proved the better chain wins."""
    longer = fork(history, BASE_HEIGHT - 5, 30, history.params)
    with started(tmp_path, history, blocks=BASE_HEIGHT - 5) as chain:
        chain.accept_headers([block.header for block in longer])
        give(chain, longer)
        assert chain.tip.hash == history.base.hash
        with pytest.raises(UserError, match="belongs to the chain up to the UTXO snapshot at height 112"):
            chain.invalidate_block(history.blocks[BASE_HEIGHT - 2].hash)
        chain.precious_block(longer[-1].hash)
        assert chain.tip.hash == history.base.hash
        give(chain, history.blocks[BASE_HEIGHT - 5 :])
        assert chain.tip.hash == history.blocks[-1].hash
        validate(chain)
        assert chain.tip.hash == longer[-1].hash
        chain.verify_chain(4, 0)
        totals = chain.utxo_stats()
    with open_chain(tmp_path, history.params) as chain:
        assert chain.utxo_stats() == totals
        chain.invalidate_block(longer[0].hash)
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


def test_starting_from_another_branch(tmp_path: Path, history: History) -> None:
    branch = fork(history, BASE_HEIGHT - 9, 7, history.params)
    with open_chain(tmp_path, history.params) as chain:
        give(chain, [*history.blocks[: BASE_HEIGHT - 9], *branch])
        chain.accept_headers([block.header for block in history.blocks])
        load(chain, history.snapshot)
        assert chain.tip.hash == history.base.hash
        assert chain.validated.height == BASE_HEIGHT - 9
        validate(chain)
        assert chain.background is not None
        assert chain.background.tip.hash == branch[-1].hash  # nothing is undone before there is something to connect
        give(chain, history.blocks[BASE_HEIGHT - 9 :])
        validate(chain)
        assert chain.background is None
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


@pytest.mark.parametrize("option", ["reindex", "reindex_chainstate"])
@pytest.mark.parametrize("validated", [False, True])
def test_reindexing_drops_the_snapshot(tmp_path: Path, history: History, option: str, validated: bool) -> None:
    with started(tmp_path, history, blocks=40) as chain:
        give(chain, history.blocks[BASE_HEIGHT:])
        if validated:
            give(chain, history.blocks[40:BASE_HEIGHT])
            validate(chain)
    with open_chain(tmp_path, history.params, **{option: True}) as chain:
        for _ in chain.reindex():
            pass
        assert not chain.stands_on_snapshot
        assert not (tmp_path / SNAPSHOT_DIR).exists()
        assert chain._store.snapshot_validated is None
        assert chain.tip.height == (TIP_HEIGHT if validated else 40)
        give(chain, history.blocks)
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


def test_a_chain_whose_table_lost_the_snapshot(tmp_path: Path, history: History) -> None:
    started(tmp_path, history).close()
    with pytest.raises(LocalFault, match="Assumeutxo data not found for the given blockhash"):
        open_chain(tmp_path, history.with_table())
    with open_chain(tmp_path, history.params) as chain:
        assert chain.tip.height == BASE_HEIGHT


def test_a_database_that_lost_the_header_tree(tmp_path: Path, history: History) -> None:
    started(tmp_path, history).close()
    shutil.rmtree(tmp_path / CHAINSTATE_DIR)
    with pytest.raises(LocalFault, match="start with --reindex to rebuild"):
        open_chain(tmp_path, history.params)
    with open_chain(tmp_path, history.params, reindex=True) as chain:
        for _ in chain.reindex():
            pass
        give(chain, history.blocks)
        assert chain.utxo_stats() == history.totals[TIP_HEIGHT]


def test_pruning_keeps_what_is_still_to_be_validated(tmp_path: Path, history: History) -> None:
    chain = open_chain(tmp_path, history.params, max_block_file_size=2000)
    with chain:
        chain.accept_headers([block.header for block in history.blocks])
        load(chain, history.snapshot)
        late = [*history.blocks[BASE_HEIGHT:], *fork(history, TIP_HEIGHT, 300, history.params)]
        for number, block in enumerate(late):  # both kinds in turn
            chain.process_block(block)
            if number < BASE_HEIGHT:
                chain.process_block(history.blocks[number])
        prune_chain(chain, chain.tip.height)
        assert all(entry.have_data for entry in chain.index.active[1 : BASE_HEIGHT + 1])
        assert chain.index.active[BASE_HEIGHT + 1].have_data is False  # above the snapshot: not needed any more
        validate(chain)
        assert chain.background is None
        chain.prune_locks["somebody"] = 20
        prune_chain(chain, chain.tip.height)
        assert chain.index.active[20].have_data
        assert not chain.index.active[10].have_data
        del chain.prune_locks["somebody"]
        assert prune_chain(chain, chain.tip.height) > BASE_HEIGHT
    with open_chain(tmp_path, history.params) as chain:
        assert not chain.stands_on_snapshot
        assert chain.tip.height == TIP_HEIGHT + 300


def test_blocks_below_the_snapshot_are_in_files_of_their_own(tmp_path: Path, history: History) -> None:
    """Also over restarts, and over crashes in which the database knows nothing of the last blocks."""
    mixed = [block for pair in zip(history.blocks[:12], history.blocks[BASE_HEIGHT:], strict=True) for block in pair]
    chain = open_chain(tmp_path, history.params, max_block_file_size=1000)
    chain.accept_headers([block.header for block in history.blocks])
    load(chain, history.snapshot)
    give(chain, mixed[:10])
    chain.flush()
    give(chain, mixed[10:16])
    chain._release()  # as in a crash
    with open_chain(tmp_path, history.params, max_block_file_size=1000) as chain:
        assert (chain.tip.height, sum(entry.have_data for entry in chain.index.active[1:9])) == (BASE_HEIGHT + 8, 8)
        give(chain, mixed[16:])
    with open_chain(tmp_path, history.params, max_block_file_size=1000) as chain:
        validate(chain)
        active = chain.index.active
        below = {entry.file_number for entry in active[1:13]}
        above = {entry.file_number for entry in active[BASE_HEIGHT + 1 :]}
        assert len(below) >= 3
        assert len(above) >= 3
        assert not below & above
        for entry in (*active[1:13], *active[BASE_HEIGHT + 1 :]):
            assert chain.read_block(entry, from_disk=True).hash == entry.hash


def test_two_lines_in_the_table(tmp_path: Path, history: History) -> None:
    line = history.params.assumeutxo[0]
    params = history.with_table(AssumeUtxo(7, history.blocks[6].hash, bytes(32), 8), line)
    with open_chain(tmp_path, params) as chain:
        chain.accept_headers([block.header for block in history.blocks])
        bogus = SnapshotMetadata(history.blocks[0].hash, 0).encode(params.magic)
        assert refusal(chain, bogus).endswith("The following snapshot heights are available: 7, 112")
        load(chain, history.snapshot)


def test_bytes_that_bitcoin_core_wrote(tmp_path: Path) -> None:
    """The chain of Core's rpc_dumptxoutset.py, with the hashes that it expects of block, coins and file."""
    script = decode_address("mjTkW3DjgyZck4KbiRusZsqTgaYTxdSz6z", network("regtest").addresses)
    with RegtestNode(tmp_path, lock=replace(OWNER, script=script)) as node:
        node.time = node.params.genesis.header.time + 1
        node.mine(100, empty=True, extra=b"\0", interval_s=0)
        data, result = dump(node.chain, 100)
    assert result.base.hash[::-1].hex() == "6885775faa46290bedfa071f22d0598c93f1d7e01f24607c4dedd69b9baa4a8f"
    assert result.digest[::-1].hex() == "d4453995f4f20db7bb3a604afd10d7128e8ee11159cde56d5b2fd7f55be7c74c"
    assert sha256(data).hex() == "d9506d541437f5e2892d6b6ea173f55233de11601650c157a27d8f2b9d08cb6f"
    assert (result.coins_written, result.chain_tx_count) == (100, 101)
