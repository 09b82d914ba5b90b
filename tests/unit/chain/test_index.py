"""The header tree against slow and obvious answers, on random trees."""

from __future__ import annotations

import random

import pytest

from chain.index import (
    FAILED,
    HAVE_DATA,
    VALID_SCRIPTS,
    VALID_TRANSACTIONS,
    VALID_TREE,
    BlockIndexEntry,
    HeaderIndex,
    last_common_ancestor,
)
from chain.params import BITCOIN, REGTEST
from chain.primitives.header import BlockHeader
from chain.storage.layout import INDEX_RECORD
from tests.support.blocks import add_header, add_headers

EASY, HARD = 0x207FFFFF, 0x203FFFFF  # HARD is twice the work


def path(entry: BlockIndexEntry) -> list[BlockIndexEntry]:
    """From genesis to the entry."""
    walk: BlockIndexEntry | None = entry
    found = []
    while walk is not None:
        found.append(walk)
        walk = walk.prev
    return found[::-1]


def random_tree(rng: random.Random, size: int) -> HeaderIndex:
    index = HeaderIndex(REGTEST)
    entries = [index.genesis]
    for salt in range(size):
        prev = entries[-1] if rng.random() < 0.8 else rng.choice(entries)
        entries.append(add_header(index, prev, time=prev.time + rng.randrange(-300, 1_500), salt=salt))
    return index


def test_ancestors_medians_and_common_ancestors(rng: random.Random) -> None:
    index = random_tree(rng, 400)
    entries = list(index.entries.values())
    for entry in entries:
        way = path(entry)
        assert [entry.ancestor(height) for height in range(-1, entry.height + 2)] == [None, *way, None]
        times = sorted(step.time for step in way[-11:])
        for _ in range(2):  # the second time from its cache
            assert entry.median_time_past() == times[len(times) // 2]
    for _ in range(1_000):
        a, b = rng.choice(entries), rng.choice(entries)
        common = [x for x, y in zip(path(a), path(b), strict=False) if x is y]
        assert last_common_ancestor(a, b) is common[-1]


def test_fields_of_an_entry() -> None:
    index = HeaderIndex(BITCOIN)
    header = BlockHeader.build(-5, index.genesis.hash, b"\x11" * 32, 1231006506, 0x1D00FFFF, 77)
    entry = index.add(header)
    assert index.add(header) is entry
    assert (entry.version, entry.merkle_root, entry.time, entry.nbits, entry.nonce) == (
        -5,
        b"\x11" * 32,
        1231006506,
        0x1D00FFFF,
        77,
    )
    assert entry.header == header
    assert entry.header.hash == header.hash == entry.hash
    assert (entry.height, entry.prev) == (1, index.genesis)
    assert entry.chainwork == 2 * 0x100010001
    assert index.get(header.hash) is entry
    assert header.hash in index
    assert index.get(bytes(32)) is None
    with pytest.raises(KeyError):
        index.add(BlockHeader.build(1, bytes(32), bytes(32), 1, 0x1D00FFFF, 1))


def test_validity_levels() -> None:
    entry = HeaderIndex(REGTEST).genesis
    assert entry.is_valid(VALID_TREE)
    assert not entry.is_valid(VALID_TRANSACTIONS)
    assert entry.raise_validity(VALID_SCRIPTS)
    assert not entry.raise_validity(VALID_TRANSACTIONS)
    assert entry.status & 7 == VALID_SCRIPTS
    entry.status |= FAILED
    assert not entry.is_valid(VALID_TREE)


def test_the_active_chain_follows_its_tip(rng: random.Random) -> None:
    index = random_tree(rng, 300)
    assert index.tip is None
    assert index.height == -1
    entries = list(index.entries.values())
    for _ in range(200):
        tip = rng.choice(entries)
        index.set_tip(tip)
        assert index.active == path(tip)
        assert index.tip is tip
        other = rng.choice(entries)
        way = path(tip)
        assert index.in_active(other) is (other in way)
        fork = index.fork_point(other)
        assert fork is [x for x, y in zip(path(other), way, strict=False) if x is y][-1]
        expected = way[other.height + 1] if other in way[:-1] else None
        assert index.next_in_active(other) is expected
    index.set_tip(None)
    assert index.active == []


def test_locators_thin_out_and_find_the_fork() -> None:
    index = HeaderIndex(REGTEST)
    main = add_headers(index, index.genesis, 500)
    fork = main.ancestor(300)
    assert fork is not None
    side = add_headers(index, fork, 50, salt=1)
    index.set_tip(main)
    locator = index.locator()
    heights = [index.entries[block_hash].height for block_hash in locator]
    assert heights == [*range(500, 488, -1), 487, 483, 475, 459, 427, 363, 235, 0]
    assert index.find_fork(locator) is main
    found = index.find_fork(index.locator(side))
    assert found.height <= 300
    assert index.in_active(found)
    assert index.locator(index.genesis) == [index.genesis.hash]
    assert index.find_fork([bytes(32), side.hash]) is index.genesis
    index.set_tip(main.ancestor(400))
    assert index.find_fork([main.hash]) is index.tip  # the peer is ahead of us on our own chain


def test_best_header_is_the_one_with_most_work_first_seen() -> None:
    index = HeaderIndex(REGTEST)
    first = add_header(index, index.genesis, nbits=EASY)
    add_header(index, index.genesis, nbits=EASY, salt=1)
    assert index.best_header is first
    more = add_header(index, index.genesis, nbits=HARD, salt=2)
    assert index.best_header is more
    assert more.chainwork - index.genesis.chainwork == 2 * (first.chainwork - index.genesis.chainwork)
    add_header(index, first, nbits=EASY)
    assert index.best_header is more
    index.mark_failed(more)
    assert index.best_header.height == 2
    index.clear_failed(more)
    assert index.best_header is more  # as much work, and known earlier


def test_earliest_block_of_a_time() -> None:
    index = HeaderIndex(REGTEST)
    tip = index.genesis
    base = tip.time
    for offset in (10, 30, 20, 25, 40):
        tip = add_header(index, tip, time=base + offset)
    index.set_tip(tip)
    for time, height in (
        (0, 0),
        (base, 0),
        (base + 1, 1),
        (base + 11, 2),
        (base + 30, 2),
        (base + 31, 5),
        (base + 40, 5),
    ):
        found = index.find_earliest_at_least(time)
        assert found is not None
        assert found.height == height
    found = index.find_earliest_at_least(base, 3)
    assert found is not None
    assert found.height == 3
    assert index.find_earliest_at_least(base + 41) is None
    assert index.find_earliest_at_least(base, 6) is None


def start(index: HeaderIndex) -> None:
    index.received(index.genesis, 1)
    index.set_tip(index.genesis)


def test_blocks_become_candidates_when_all_before_them_are_there() -> None:
    index = HeaderIndex(REGTEST)
    start(index)
    tip = add_headers(index, index.genesis, 5)
    a, b, c, d, e = path(tip)[1:]
    index.received(e, 2)
    index.received(c, 3)
    index.received(b, 1)
    assert index.best_candidate() is index.genesis
    assert e.chain_tx_count == c.chain_tx_count == 0
    index.received(a, 4)
    assert index.best_candidate() is c
    assert (a.chain_tx_count, b.chain_tx_count, c.chain_tx_count) == (5, 6, 9)
    index.received(d, 1)
    assert index.best_candidate() is e
    assert e.chain_tx_count == 12
    assert a.sequence_id < b.sequence_id < c.sequence_id < d.sequence_id < e.sequence_id
    assert e.is_valid(VALID_TRANSACTIONS)
    assert e.have_data


def test_among_equals_the_first_complete_chain_wins() -> None:
    index = HeaderIndex(REGTEST)
    start(index)
    early = add_headers(index, index.genesis, 2)
    late = add_headers(index, index.genesis, 2, salt=1)
    assert late.prev is not None
    assert early.prev is not None
    index.received(late.prev, 1)
    index.received(early.prev, 1)
    index.received(early, 1)
    index.received(late, 1)
    assert index.best_candidate() is early
    index.set_tip(early)
    index.prune_candidates()
    assert index.best_candidate() is early
    index.make_precious(late)
    assert index.best_candidate() is late
    index.set_tip(late)
    index.prune_candidates()
    index.make_precious(early)
    assert index.best_candidate() is early
    index.make_precious(index.genesis)  # less work than the tip: nothing happens
    assert index.best_candidate() is early


def test_failed_blocks_take_their_descendants_along_and_come_back() -> None:
    index = HeaderIndex(REGTEST)
    start(index)
    main = add_headers(index, index.genesis, 6)
    fork = main.ancestor(2)
    assert fork is not None
    side = add_headers(index, fork, 3, salt=1)
    for entry in [*path(main)[1:], *path(side)[3:]]:
        index.received(entry, 1)
    assert index.best_candidate() is main
    bad = main.ancestor(3)
    assert bad is not None
    index.mark_failed(bad)
    assert [entry.failed for entry in path(main)] == [False] * 3 + [True] * 4
    assert index.best_candidate() is side
    assert index.best_header is side
    assert index.best_invalid is bad
    index.set_tip(side)
    index.prune_candidates()
    later = add_header(index, main, salt=5)
    assert not later.failed  # accept_header refuses such a header before it gets here
    index.clear_failed(main)
    assert not any(entry.failed for entry in path(main))
    assert index.best_candidate() is main
    assert index.best_invalid is None


def test_a_candidate_without_its_data_waits_for_it() -> None:
    index = HeaderIndex(REGTEST)
    start(index)
    main = add_headers(index, index.genesis, 4)
    for entry in path(main)[1:]:
        index.received(entry, 1)
    pruned = main.ancestor(2)
    assert pruned is not None
    pruned.status &= ~HAVE_DATA
    before = main.ancestor(1)
    index.rebuild_candidates()
    assert index.best_candidate() is before
    index.received(pruned, 1)
    assert index.best_candidate() is main


def test_a_tree_from_disk_is_the_tree_that_was_written(rng: random.Random) -> None:
    index = random_tree(rng, 200)
    start(index)
    for entry in list(index.entries.values())[1:]:
        if rng.random() < 0.9:
            index.received(entry, rng.randrange(1, 5))
            entry.file_number, entry.data_pos, entry.undo_pos = (rng.randrange(1 << 32) for _ in range(3))
    best = index.best_candidate()
    assert best is not None
    index.set_tip(best)
    index.prune_candidates()
    entries = sorted(index.entries.values(), key=lambda entry: entry.height)
    index.mark_failed(next(entry for entry in entries if entry.height > 1 and best.ancestor(entry.height) is not entry))
    copy = HeaderIndex(REGTEST)
    copy.restore((entry.hash, entry.packed()) for entry in entries)
    copy.finish_restore(copy.entries[best.hash])
    assert not copy.dirty
    for entry in entries:
        twin = copy.entries[entry.hash]
        for name in ("raw", "height", "chainwork", "time", "nbits", "status", "tx_count", "chain_tx_count"):
            assert getattr(twin, name) == getattr(entry, name), name
        for name in ("file_number", "data_pos", "undo_pos"):
            assert getattr(twin, name) == getattr(entry, name), name
    assert copy.best_header.chainwork == index.best_header.chainwork
    candidate = copy.best_candidate()
    assert candidate is not None
    assert candidate.hash == best.hash
    assert [entry.hash for entry in copy.active] == [entry.hash for entry in index.active]


@pytest.mark.parametrize("height", [0, 1])
def test_a_parent_missing_on_disk_is_noticed(height: int) -> None:
    header = BlockHeader.build(1, bytes(32), bytes(32), 1, EASY, 1)
    with pytest.raises(KeyError):
        HeaderIndex(REGTEST).restore([(header.hash, INDEX_RECORD.pack(header.raw, height, VALID_TREE, 0, 0, 0, 0))])


def test_tips() -> None:
    index = HeaderIndex(REGTEST)
    start(index)
    main = add_headers(index, index.genesis, 5)
    fork = main.ancestor(2)
    assert fork is not None
    side = add_headers(index, fork, 1, salt=1)
    assert index.tips() == [main, side, index.genesis]
    index.set_tip(main)
    assert index.tips() == [main, side]


def test_any_order_of_the_same_headers_gives_the_same_tree(rng: random.Random) -> None:
    index = random_tree(rng, 150)
    headers = [entry.header for entry in list(index.entries.values())[1:]]
    for _ in range(5):
        copy = HeaderIndex(REGTEST)
        waiting = rng.sample(headers, len(headers))
        while waiting:
            for header in list(waiting):
                if header.prev_hash in copy:
                    copy.add(header)
                    waiting.remove(header)
        assert copy.best_header.chainwork == index.best_header.chainwork
        for block_hash, entry in index.entries.items():
            twin = copy.entries[block_hash]
            assert (twin.height, twin.chainwork) == (entry.height, entry.chainwork)
            assert twin.median_time_past() == entry.median_time_past()
            for height in (0, entry.height // 2, max(entry.height - 1, 0)):
                ours, theirs = twin.ancestor(height), entry.ancestor(height)
                assert ours is not None
                assert theirs is not None
                assert ours.hash == theirs.hash
