"""The chain as a whole: acceptance, reorganisation, restart, import, repair."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.consensus.errors import BlockResult, ConsensusError
from chain.events import BLOCKS_KEPT, BlockConnected, BlockDisconnected, BlockRejected, TipChanged
from chain.index import BlockIndexEntry
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault, UserError
from chain.primitives.types import PackedCoin
from chain.storage.faults import DiskFull
from chain.utxo_stats import UtxoHash
from tests.support.block_generator import BlockGenerator
from tests.support.blocks import coinbase, make_block
from tests.support.disk import file_size_limit

REGTEST = network("regtest")


def open_chain(folder: Path, **options: object) -> Chainstate:
    return Chainstate(REGTEST, folder, script_threads=1, **options)  # type: ignore[arg-type]


def empty_block(prev: BlockIndexEntry, salt: int = 0, **options: object) -> Block:
    """A block without transactions, told from others by `salt`."""
    extra = b"\0" + salt.to_bytes(4, "little")
    return make_block(prev, REGTEST, [coinbase(prev.height + 1, extra=extra, locktime=0)], **options)  # type: ignore[arg-type]


def extend(chain: Chainstate, count: int, salt: int = 0) -> list[Block]:
    """Mine empty blocks on the tip."""
    blocks = []
    for _ in range(count):
        blocks.append(empty_block(chain.tip, salt))
        chain.process_block(blocks[-1])
    return blocks


def generated(
    chain: Chainstate, rng: random.Random, count: int, transactions: int = 4
) -> tuple[BlockGenerator, list[Block]]:
    """Blocks full of all kinds of spends, connected."""
    generator = BlockGenerator(rng)
    blocks = []
    for _ in range(count):
        block = generator.draft(transactions).build()
        chain.process_block(block)
        generator.adopt(block)
        blocks.append(block)
    assert chain.tip.hash == generator.tip.hash
    return generator, blocks


def coins_of(chain: Chainstate) -> dict[bytes, PackedCoin]:
    return dict(chain.iterate_coins())


def test_a_new_chain_starts_at_genesis(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        assert chain.tip.hash == REGTEST.genesis_hash
        assert chain.read_block(chain.tip).raw == REGTEST.genesis.raw
        assert coins_of(chain) == {}
        assert chain.read_undo(chain.tip) == []


def test_connecting_reports_events_and_a_restart_goes_on(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path) as chain:
        first = empty_block(chain.tip)
        events = chain.process_block(first)
        assert [type(event) for event in events if not type(event).__name__.startswith("Header")] == [
            BlockConnected,
            TipChanged,
        ]
        assert chain.process_block(first) == []
        _, blocks = generated(open_chain(tmp_path / "other"), rng, 1)
        assert blocks
        extend(chain, 20)
        tip, coins = chain.tip.hash, coins_of(chain)
        stats = chain.utxo_stats(UtxoHash.MUHASH)
    with open_chain(tmp_path) as chain:
        assert (chain.tip.hash, chain.tip.height) == (tip, 21)
        assert coins_of(chain) == coins
        assert chain.utxo_stats(UtxoHash.MUHASH) == stats
        assert chain.read_block(chain.index.active[1]).raw == first.raw
        extend(chain, 1)
        assert chain.tip.height == 22


def test_disconnecting_restores_the_coins_byte_for_byte(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path) as chain:
        generator, _ = generated(chain, rng, 112)
        before = coins_of(chain)
        totals = chain.utxo_stats()
        at = chain.tip
        for _ in range(6):
            block = generator.draft(8).build()
            chain.process_block(block)
            generator.adopt(block)
        after, later = coins_of(chain), chain.tip
        assert after != before
        bad = chain.index.active[at.height + 1]
        events = chain.invalidate_block(bad.hash)
        assert [e.entry.height for e in events if isinstance(e, BlockDisconnected)] == list(
            range(later.height, at.height, -1)
        )
        assert chain.tip is at
        assert coins_of(chain) == before
        assert chain.utxo_stats() == totals
        chain.reconsider_block(bad.hash)
        assert chain.tip is later
        assert coins_of(chain) == after
        chain.verify_chain(4, 0)


def test_issued_supply_is_what_the_coins_hold_and_what_was_lost(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path) as chain:
        generated(chain, rng, 115)
        claimed = unspendable = fees = 0
        for entry in chain.index.active[1:]:
            block = chain.read_block(entry)
            claimed += sum(block.transactions[0].values)
            for tx, spent in zip(block.transactions[1:], chain.read_undo(entry), strict=True):
                fees += sum(int.from_bytes(coin[:8], "little") for coin in spent) - sum(tx.values)
            for tx in block.transactions:
                unspendable += sum(v for v, s in zip(tx.values, tx.scripts, strict=True) if s[:1] == b"\x6a")
        assert chain.utxo_stats(UtxoHash.NONE).total_amount == claimed - fees - unspendable


@pytest.mark.parametrize("depth", [1, 150])
def test_reorganisation(tmp_path: Path, depth: int) -> None:
    with open_chain(tmp_path) as chain:
        extend(chain, 5)
        fork = chain.tip
        extend(chain, depth, salt=1)
        old = chain.tip
        prev = fork
        events = []
        for _ in range(depth + 1):
            block = empty_block(prev, salt=2)
            events = chain.process_block(block)
            prev = chain.index.entries[block.hash]
        assert chain.tip is prev
        kinds = [type(event) for event in events]
        assert kinds.count(BlockDisconnected) == depth
        assert kinds.count(BlockConnected) == depth + 1
        assert kinds[-1] is TipChanged
        assert kinds.count(TipChanged) == 1
        moved = [event for event in events if isinstance(event, BlockConnected | BlockDisconnected)]
        assert sum(event.in_memory for event in moved) == min(BLOCKS_KEPT, len(moved))
        assert all(event.block.hash == event.entry.hash for event in moved), "the others are read from disk again"
        assert not chain.index.in_active(old)
        assert len(coins_of(chain)) == chain.tip.height
    with open_chain(tmp_path) as chain:
        assert chain.tip.hash == prev.hash
        chain.verify_chain(4, 0)


def test_any_order_of_blocks_leads_to_the_same_tip(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path / "a") as chain:
        _, blocks = generated(chain, rng, 30)
        tip, coins = chain.tip.hash, coins_of(chain)
    with open_chain(tmp_path / "b") as chain:
        chain.accept_headers([block.header for block in blocks])
        rng.shuffle(blocks)
        for block in blocks:
            chain.process_block(block)
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins


def test_a_block_that_fails_to_connect_is_remembered_with_its_children(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        extend(chain, 3)
        tip = chain.tip
        greedy = make_block(tip, REGTEST, [coinbase(4, [(51 * 10**8, b"\x51")], locktime=0)])  # type: ignore[list-item]
        with pytest.raises(ConsensusError, match="bad-cb-amount") as caught:
            chain.process_block(greedy)
        assert caught.value.result is BlockResult.CONSENSUS
        assert [type(event) for event in chain.drain_events()][-1] is BlockRejected
        assert chain.tip is tip
        with pytest.raises(ConsensusError, match="duplicate-invalid"):
            chain.process_block(greedy)
        child = empty_block(chain.index.entries[greedy.hash])
        with pytest.raises(ConsensusError, match="bad-prevblk"):
            chain.accept_headers([child.header])
        extend(chain, 1)
        assert chain.tip.height == 4
    with open_chain(tmp_path) as chain:
        assert chain.index.entries[greedy.hash].failed


def test_a_branch_that_proves_invalid_is_left_for_the_old_one(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        extend(chain, 2)
        fork = chain.tip
        extend(chain, 2, salt=1)
        old, coins = chain.tip, coins_of(chain)
        good = empty_block(fork, salt=2)
        chain.process_block(good)
        greedy = make_block(
            chain.index.entries[good.hash],
            REGTEST,
            [coinbase(4, [(51 * 10**8, b"\x51")], locktime=0)],  # type: ignore[list-item]
        )
        chain.accept_block(greedy)
        last = empty_block(chain.index.entries[greedy.hash])
        events = chain.process_block(last)
        assert chain.tip is old
        assert coins_of(chain) == coins
        assert any(isinstance(event, BlockRejected) and event.entry.hash == greedy.hash for event in events)


def test_mutated_blocks_leave_the_header_untouched(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        block = empty_block(chain.tip)
        mutated = Block.build(block.header, [coinbase(1, extra=b"\7", locktime=0)])
        with pytest.raises(ConsensusError, match="bad-txnmrklroot") as caught:
            chain.process_block(mutated)
        assert caught.value.result is BlockResult.MUTATED
        chain.process_block(block)
        assert chain.tip.hash == block.hash


def test_a_tip_of_the_greatest_age_ends_the_initial_download_for_good(tmp_path: Path) -> None:
    now = [REGTEST.genesis.header.time + 101.0]
    with open_chain(tmp_path, clock=lambda: now[0], max_tip_age_s=100) as chain:
        assert chain.is_initial_block_download
        now[0] -= 1
        assert not chain.is_initial_block_download
        now[0] += 1_000_000
        assert not chain.is_initial_block_download


def test_unrequested_blocks_are_stored_only_where_they_may_matter(tmp_path: Path) -> None:
    with open_chain(tmp_path, minimum_chain_work=0) as chain:
        extend(chain, 5)
        weak = empty_block(chain.index.active[1], salt=9)
        entry, stored = chain.accept_block(weak, requested=False)
        assert not stored
        assert not entry.have_data
        strong = empty_block(chain.tip, salt=9)
        assert chain.accept_block(strong, requested=False)[1]
        far = chain.tip
        headers = []
        for _ in range(300):
            block = empty_block(far, salt=3)
            far = chain.accept_headers([block.header])
            headers.append(block)
        assert not chain.accept_block(headers[-1], requested=False)[1]
        assert chain.accept_block(headers[-1], requested=True)[1]


def test_headers(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        first = empty_block(chain.tip)
        with pytest.raises(ConsensusError, match="too-little-chainwork"):
            chain.accept_headers([first.header], min_pow_checked=False)
        entry = chain.accept_headers([first.header])
        assert chain.accept_headers([first.header], min_pow_checked=False) is entry
        second = empty_block(entry)
        assert chain.accept_headers([first.header, second.header]).height == 2
        assert chain.index.best_header.height == 2
        assert chain.tip.height == 0
        events = chain.drain_events()
        assert [type(event).__name__ for event in events] == ["HeaderTipChanged"]
        orphan = empty_block(entry, salt=4)
        with pytest.raises(ConsensusError) as caught:
            chain.accept_headers([empty_block(_child_of(orphan, entry)).header])
        assert caught.value.result is BlockResult.MISSING_PREV


def _child_of(block: Block, parent: BlockIndexEntry) -> BlockIndexEntry:
    """An entry for a block that the chain does not know."""
    from chain.index import HeaderIndex

    index = HeaderIndex(REGTEST)
    index.add(parent.header)
    return index.add(block.header)


def test_precious_block_wins_a_tie(tmp_path: Path) -> None:
    with open_chain(tmp_path) as chain:
        extend(chain, 1)
        fork = chain.tip
        extend(chain, 1, salt=1)
        first = chain.tip
        rival = empty_block(fork, salt=2)
        chain.process_block(rival)
        assert chain.tip is first
        chain.precious_block(rival.hash)
        assert chain.tip.hash == rival.hash
        chain.precious_block(first.hash)
        assert chain.tip is first
        with pytest.raises(UserError, match="Block not found"):
            chain.precious_block(bytes(32))


def test_block_proposals_change_nothing(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path) as chain:
        generator, _ = generated(chain, rng, 110)
        coins, tip = coins_of(chain), chain.tip
        draft = generator.draft(5)
        chain.test_block_validity(draft.build())
        unsolved = empty_block(tip, solve=False)
        chain.test_block_validity(unsolved)
        while int.from_bytes(unsolved.hash, "little") >> 255 == 0:  # half of all meet regtest's target
            unsolved = empty_block(tip, salt=rng.getrandbits(31), solve=False)
        with pytest.raises(ConsensusError, match="high-hash"):
            chain.test_block_validity(unsolved, check_pow=True)
        with pytest.raises(ConsensusError, match="inconclusive-not-best-prevblk"):
            chain.test_block_validity(empty_block(chain.index.active[3]))
        greedy = make_block(tip, REGTEST, [coinbase(tip.height + 1, [(10**11, b"\x51")], locktime=0)])  # type: ignore[list-item]
        with pytest.raises(ConsensusError, match="bad-cb-amount"):
            chain.test_block_validity(greedy)
        assert chain.tip is tip
        assert coins_of(chain) == coins


def test_second_node_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        open_chain(tmp_path),
        pytest.raises(UserError, match=r"Cannot obtain a lock on directory .*\. Pickaxe is probably already running\."),
    ):
        open_chain(tmp_path)
    open_chain(tmp_path).close()


def test_blocks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    blocks = tmp_path / "large disk" / "blocks"
    with open_chain(tmp_path / "ours", blocks_dir=blocks) as chain:
        extend(chain, 3)
        tip = chain.tip.hash
        with pytest.raises(UserError, match=r"Cannot obtain a lock on directory .*blocks"):
            open_chain(tmp_path / "another", blocks_dir=blocks)
    assert not (tmp_path / "ours" / "blocks").exists()
    assert (blocks / "blk00000.dat").exists()
    with open_chain(tmp_path / "ours", blocks_dir=blocks) as chain:
        assert chain.tip.hash == tip
        chain.verify_chain(4, 0)


def test_folder_of_another_network_is_refused(tmp_path: Path) -> None:
    open_chain(tmp_path).close()
    with pytest.raises(UserError, match="holds no blocks of network dev, but of regtest"):
        Chainstate(network("dev"), tmp_path)
    open_chain(tmp_path).close()


def test_folder_can_be_moved(tmp_path: Path) -> None:
    with open_chain(tmp_path / "here") as chain:
        extend(chain, 5)
        tip = chain.tip.hash
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    with open_chain(tmp_path / "there") as chain:
        assert chain.tip.hash == tip


def test_small_caches_flush_as_they_go(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path / "large") as chain:
        _, blocks = generated(chain, rng, 120, transactions=6)
        coins = coins_of(chain)
    with open_chain(tmp_path / "small", dbcache_bytes=4000, map_size=128 * 1024) as chain:
        for block in blocks:
            chain.process_block(block)
        assert coins_of(chain) == coins


def test_block_files_of_odd_shapes(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path, block_xor=True, max_block_file_size=2000) as chain:
        generated(chain, rng, 105)
        coins, tip = coins_of(chain), chain.tip.hash
        assert chain.files.file_number > 5
    with open_chain(tmp_path) as chain:
        assert chain.tip.hash == tip
        chain.verify_chain(4, 0)
        assert coins_of(chain) == coins


# Import and repair


def write_block_file(path: Path, blocks: list[Block]) -> Path:
    path.write_bytes(b"".join(REGTEST.magic + len(b.raw).to_bytes(4, "little") + b.raw for b in blocks))
    return path


def test_load_block_file_takes_blocks_in_any_order(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path / "source") as chain:
        _, blocks = generated(chain, rng, 40)
        tip, coins = chain.tip.hash, coins_of(chain)
    wrong = Block.build(blocks[3].header, blocks[4].transactions)
    rng.shuffle(blocks)
    path = write_block_file(tmp_path / "import.dat", [REGTEST.genesis, wrong, *blocks, blocks[0]])
    with open_chain(tmp_path / "target") as chain:
        reports = list(chain.load_block_file(path))
        assert (reports[-1].accepted, reports[-1].refused) == (40, 1)
        assert reports[-1].bytes_done == reports[-1].bytes_total == path.stat().st_size
        connected = [e for report in reports for e in report.events if isinstance(e, BlockConnected)]
        assert len(connected) == 40
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins
        with pytest.raises(UserError, match="Cannot read block file"):
            list(chain.load_block_file(tmp_path / "missing.dat"))


@pytest.mark.parametrize("from_files", [False, True])
def test_reindex_rebuilds_everything(tmp_path: Path, rng: random.Random, from_files: bool) -> None:
    with open_chain(tmp_path, max_block_file_size=5000) as chain:
        generated(chain, rng, 110)
        tip, coins = chain.tip.hash, coins_of(chain)
    with open_chain(tmp_path, reindex=from_files, reindex_chainstate=not from_files, max_block_file_size=5000) as chain:
        assert chain.tip.height == 0
        for _ in chain.reindex():
            pass
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins
        chain.verify_chain(4, 0)
        extend(chain, 1)
    with open_chain(tmp_path) as chain:
        assert chain.tip.height == 111


@pytest.mark.parametrize("lost", ["database", "nothing more"])
@pytest.mark.parametrize("missing", [0, 2])
def test_a_missing_block_file_costs_what_was_in_it(tmp_path: Path, rng: random.Random, missing: int, lost: str) -> None:
    """The files behind it are read, kept and not written over."""
    with open_chain(tmp_path, max_block_file_size=5000) as chain:
        _, blocks = generated(chain, rng, 110)
        tip, coins = chain.tip.hash, coins_of(chain)
        first_lost = min((e for e in chain.index.active[1:] if e.file_number == missing), key=lambda e: e.height)
    folder = tmp_path / "blocks"
    (folder / f"blk{missing:05d}.dat").unlink()
    if lost == "database":
        shutil.rmtree(tmp_path / "chainstate")
    before = {path.name: path.read_bytes() for path in folder.glob("blk*.dat")}
    with open_chain(tmp_path, reindex=lost != "database", max_block_file_size=5000) as chain:
        if lost != "database":
            assert [remark for remark in chain.remarks if f"blk{missing:05d}.dat is missing" in remark]
            list(chain.reindex())
        assert chain.tip.height == first_lost.height - 1
        for block in blocks:  # a peer sends what is missing, and what builds on it
            chain.process_block(block)
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins
    for name, data in before.items():
        assert (folder / name).read_bytes()[: len(data)] == data
    with open_chain(tmp_path) as chain:
        assert chain.tip.hash == tip
        chain.verify_chain(4, 0)


def test_core_style_blocks_folder_can_be_indexed(tmp_path: Path, rng: random.Random) -> None:
    """Only blk files, with preallocated zeros at the end, in a folder without a database."""
    with open_chain(tmp_path / "source") as chain:
        _, blocks = generated(chain, rng, 20)
        tip = chain.tip.hash
    folder = tmp_path / "target" / "blocks"
    folder.mkdir(parents=True)
    path = write_block_file(folder / "blk00000.dat", [REGTEST.genesis, *blocks])
    path.write_bytes(path.read_bytes() + bytes(100_000))
    with open_chain(tmp_path / "target", reindex=True) as chain:
        list(chain.reindex())
        assert chain.tip.hash == tip
        extend(chain, 1)
    with open_chain(tmp_path / "target") as chain:
        assert chain.tip.height == 21


@pytest.mark.parametrize("genesis_first", [True, False])
def test_lost_database_is_rebuilt_from_the_block_files(tmp_path: Path, rng: random.Random, genesis_first: bool) -> None:
    """As after a crash in the middle of a reindex. Nothing in the block files may be overwritten."""
    with open_chain(tmp_path) as chain:
        _, blocks = generated(chain, rng, 110)
        tip, coins = chain.tip.hash, coins_of(chain)
    shutil.rmtree(tmp_path / "chainstate")
    path = tmp_path / "blocks" / "blk00000.dat"
    if not genesis_first:
        write_block_file(path, blocks)
    before = path.read_bytes()
    with open_chain(tmp_path) as chain:
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins
        assert chain.read_block(chain.index.genesis).hash == REGTEST.genesis_hash
        chain.verify_chain(4, 0)
    assert path.read_bytes()[: len(before)] == before


@pytest.mark.parametrize("file", ["blk00000.dat", "rev00000.dat"])
def test_damaged_files_are_found_and_repaired(tmp_path: Path, rng: random.Random, file: str) -> None:
    with open_chain(tmp_path) as chain:
        generated(chain, rng, 108)
        tip, coins = chain.tip.hash, coins_of(chain)
        entry = chain.tip
        pos = entry.data_pos if file.startswith("blk") else entry.undo_pos
    path = tmp_path / "blocks" / file
    raw = bytearray(path.read_bytes())
    raw[pos + 90 if file.startswith("blk") else pos] ^= 4
    path.write_bytes(raw)
    with open_chain(tmp_path) as chain:
        with pytest.raises(LocalFault, match=r"damaged|invalid"):
            chain.verify_chain(4, 3)
        with pytest.raises(LocalFault):
            chain.verify_chain(2 if file.startswith("rev") else 1, 3)
    with open_chain(tmp_path, reindex=True) as chain:
        list(chain.reindex())
        if file.startswith("rev"):
            assert chain.tip.hash == tip
            assert coins_of(chain) == coins
        else:
            assert chain.tip.height == 107


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_damaged_database_is_named_and_repaired(tmp_path: Path, rng: random.Random, damage: str) -> None:
    with open_chain(tmp_path) as chain:
        generated(chain, rng, 30, transactions=0)
        tip = chain.tip.hash
    data = tmp_path / "chainstate" / "data.mdb"
    if damage == "cut":
        os.truncate(data, 3 * 4096)
    else:
        data.write_bytes(b"not a database" * 1000)
    with pytest.raises(LocalFault, match=r"The database in .* is damaged .*; start with --reindex to rebuild it"):
        open_chain(tmp_path)
    with open_chain(tmp_path, reindex=True) as chain:
        list(chain.reindex())
        assert chain.tip.hash == tip


def _process(chain: Chainstate, blocks: list[Block]) -> None:
    for block in blocks:
        chain.process_block(block)
    chain.flush()


def test_full_disk_stops_the_chain_with_its_state_intact(tmp_path: Path, rng: random.Random) -> None:
    with open_chain(tmp_path / "source") as chain:
        _, blocks = generated(chain, rng, 125, transactions=8)
        tip, coins = chain.tip.hash, coins_of(chain)
    chain = open_chain(tmp_path / "full", max_block_file_size=1 << 20)
    for block in blocks[:30]:
        chain.process_block(block)
    chain.flush()
    limit = (tmp_path / "full/chainstate/data.mdb").stat().st_size
    with file_size_limit(limit):
        with pytest.raises(DiskFull):
            _process(chain, blocks[30:])
        reached = chain.tip.height
        chain.close()
    with open_chain(tmp_path / "full") as chain:
        assert 30 <= chain.tip.height <= reached
        chain.verify_chain(4, 0)
        for block in blocks[chain.tip.height :]:
            chain.process_block(block)
        assert chain.tip.hash == tip
        assert coins_of(chain) == coins
