"""Large commits: through the journal they end where one transaction would, wherever they are cut off."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage import store as store_module
from chain.storage.journal import JOURNAL_FILE, CommitJournal, Piece, pieces_of
from chain.storage.store import ChainStore

GENESIS, OLD_TIP, NEW_TIP = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32

Coins = dict[OutPoint, PackedCoin]


def make_coins(rng: random.Random, count: int) -> Coins:
    return {OutPoint(rng.randbytes(36)): PackedCoin(rng.randbytes(rng.randrange(12, 60))) for _ in range(count)}


class Scene:
    """A store with coins, and a commit to it."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.folder = folder
        self.before = make_coins(rng, 900)
        self.deleted = set(rng.sample(sorted(self.before), 300)) | set(make_coins(rng, 10))
        self.added = make_coins(rng, 400) | dict.fromkeys(rng.sample(sorted(self.deleted), 20), PackedCoin(b"anew"))
        self.index = {BlockHash(rng.randbytes(32)): rng.randbytes(104) for _ in range(5)}
        self.after = {op: coin for op, coin in self.before.items() if op not in self.deleted} | self.added
        store = self.open()
        store.commit(tip=OLD_TIP, position=(0, 7), index={}, deleted=(), added=self.before)
        store.close()

    def open(self) -> ChainStore:
        return ChainStore(self.folder, GENESIS)

    def commit(self, store: ChainStore) -> None:
        store.commit(tip=NEW_TIP, position=(3, 4), index=self.index, deleted=self.deleted, added=self.added)

    def is_after(self, store: ChainStore) -> bool:
        """Whether the commit was made; it is made or not, nothing between."""
        coins = dict(store.iterate_coins())
        if store.tip == OLD_TIP:
            assert (coins, store.position) == (self.before, (0, 7))
            return False
        assert (store.tip, store.position) == (NEW_TIP, (3, 4))
        assert coins == self.after
        assert {hash_ for hash_, _ in store.load_index()} == set(self.index)
        return True


@pytest.fixture
def scene(rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(rng, tmp_path / "store")
    monkeypatch.setattr(store_module, "ONE_TRANSACTION_PAGES", 0)
    monkeypatch.setattr(store_module, "JOURNAL_PIECE", 50)
    return made


class _PowerCutError(Exception):
    pass


def test_a_large_commit_ends_where_a_small_one_would(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.open()
    transactions = []
    apply = store._apply

    def noted(txn: Any, piece: Piece) -> None:
        transactions.append(txn)
        apply(txn, piece)

    monkeypatch.setattr(store, "_apply", noted)
    scene.commit(store)
    assert len({id(txn) for txn in transactions}) > 1
    assert len(transactions) > 8
    assert scene.is_after(store)
    assert not (scene.folder / JOURNAL_FILE).exists()
    store.close()
    store = scene.open()
    assert scene.is_after(store)
    store.close()


@pytest.mark.parametrize("done", [0, 1, 4, 8, 9])
def test_a_commit_that_was_cut_off_is_made_up_for(scene: Scene, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    """With `done` of its transactions made; also if the making-up is cut off in its turn."""
    for _ in range(2):
        count = 0
        transact = ChainStore._transact

        def failing(self: ChainStore, pieces: Callable[[], Iterable[Piece]]) -> None:
            nonlocal count
            if count == done:
                raise _PowerCutError
            count += 1
            transact(self, pieces)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(ChainStore, "_transact", failing)
            if not (scene.folder / JOURNAL_FILE).exists():
                store = scene.open()
                with pytest.raises(_PowerCutError):
                    scene.commit(store)
                store.close()
            else:
                with pytest.raises(_PowerCutError):
                    scene.open()
        assert (scene.folder / JOURNAL_FILE).exists()
    store = scene.open()
    assert scene.is_after(store)
    assert not (scene.folder / JOURNAL_FILE).exists()
    store.close()


def test_a_journal_that_was_not_finished_never_was(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, or the power goes, before it has its name."""
    store = scene.open()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(LocalFault, match="disk is full"):
            scene.commit(store)
    assert [path.name for path in scene.folder.iterdir() if "journal" in path.name] == []
    assert not scene.is_after(store)
    store.close()
    (scene.folder / f"{JOURNAL_FILE}.part").write_bytes(b"half of it")
    store = scene.open()
    assert not scene.is_after(store)
    scene.commit(store)
    assert scene.is_after(store)
    store.close()


def test_a_damaged_journal_is_named(scene: Scene, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.open()
    with monkeypatch.context() as patch:
        patch.setattr(ChainStore, "_carry_out_journal", lambda self: None)
        scene.commit(store)
    store.close()
    path = scene.folder / JOURNAL_FILE
    whole = path.read_bytes()
    for damaged in (
        whole[: rng.randrange(1, len(whole))],
        whole + whole[-60:],
        whole[:-1] + bytes((whole[-1] ^ 1,)),
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(LocalFault, match="--reindex-chainstate"):
            scene.open()
    ChainStore(scene.folder, GENESIS, without_coins=True).close()
    assert not path.exists()
    store = scene.open()
    assert (store.tip, store.count_coins()) == (None, 0)  # never half of a commit, with the tip before it
    store.close()


def test_pieces_hold_every_change_once_and_in_order(rng: random.Random) -> None:
    for _ in range(50):
        size = rng.choice((1, 2, 7, 50))
        coins = make_coins(rng, rng.randrange(60))
        deletions = sorted({*make_coins(rng, rng.randrange(60)), *list(coins)[: rng.randrange(5)]})
        pieces = list(pieces_of(deletions, sorted(coins), coins, size))
        assert [key for piece in pieces for key in piece.deletions] == deletions
        assert [pair for piece in pieces for pair in piece.additions] == sorted(coins.items())
        assert all(1 <= max(len(p.deletions), len(p.additions)) <= size for p in pieces)
        ends = [max([*p.deletions, *(key for key, _ in p.additions)]) for p in pieces]
        starts = [min([*p.deletions, *(key for key, _ in p.additions)]) for p in pieces]
        assert all(end < start for end, start in zip(ends, starts[1:], strict=False))


def test_the_journal_reads_what_it_wrote(rng: random.Random, tmp_path: Path) -> None:
    journal = CommitJournal(tmp_path)
    assert not journal.exists()
    coins = make_coins(rng, 30)
    pieces = [*pieces_of(sorted(make_coins(rng, 9)), sorted(coins), coins, 4)]
    pieces.append(Piece(tip=NEW_TIP, position=(1, 2), records=[(b"k" * 32, b"v" * 104)]))
    journal.write(pieces)
    journal.check()
    assert list(journal.read()) == pieces
    journal.remove()
    assert not journal.exists()
    assert list(tmp_path.iterdir()) == []
