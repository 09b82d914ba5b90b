"""The layered views against a plain dictionary."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chain.coins import CoinsCache, CoinsOverlay
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage.faults import DiskFull
from chain.storage.store import ChainStore
from tests.support.disk import file_size_limit

TIP = BlockHash(b"t" * 32)


def coin(rng: random.Random) -> PackedCoin:
    return PackedCoin(rng.randbytes(rng.choice((34, 34, 46, 500))))


@pytest.mark.parametrize("budget", [20_000, 10_000_000])
def test_cache_and_overlay_hold_what_a_dictionary_would(tmp_path: Path, rng: random.Random, budget: int) -> None:
    store = ChainStore(tmp_path, b"g" * 32)
    cache = CoinsCache(store, budget)
    model: dict[OutPoint, PackedCoin] = {}
    gone: list[OutPoint] = []
    for step in range(400):
        spent = rng.sample(list(model), min(len(model), rng.randrange(12)))
        created = {OutPoint(rng.randbytes(36)): coin(rng) for _ in range(rng.randrange(14))}
        if gone and rng.random() < 0.3:  # a reorganisation brings a spent coin back
            created[gone.pop()] = coin(rng)
        asked = [*spent, *rng.sample(gone, min(len(gone), 3)), OutPoint(rng.randbytes(36))]
        assert cache.fetch(asked) == {op: model[op] for op in asked if op in model}
        cache.apply(spent, created)
        gone += spent
        for outpoint in spent:
            del model[outpoint]
        model.update(created)
        assert all(cache.get(op) == model.get(op) for op in [*asked, *created])
        if cache.over_budget or step % 50 == 49:
            cache.flush(tip=TIP, position=(0, 0), index={})
            assert dict(store.iterate_coins()) == model
            assert cache.usage_bytes <= budget
        elif rng.random() < 0.2:
            cache.trim()
        if step % 20 == 0:
            overlay = CoinsOverlay(cache)
            overlay.apply(list(model)[:2], {OutPoint(b"n" * 36): PackedCoin(b"new")})
            asked = [*list(model)[:4], OutPoint(b"n" * 36)]
            expected = {op: model[op] for op in asked[2:4] if op in model} | {OutPoint(b"n" * 36): b"new"}
            if len(model) >= 4:
                assert overlay.fetch(asked) == expected
                assert [overlay.get(op) for op in asked[:2]] == [None, None]
                assert overlay.get(asked[2]) == model[asked[2]]
                assert cache.get(asked[0]) == model[asked[0]]
    cache.flush(tip=TIP, position=(0, 0), index={})
    assert dict(store.iterate_coins()) == model
    store.close()


def test_a_replaced_coin_does_not_come_back_when_its_successor_is_spent(tmp_path: Path) -> None:
    """The two duplicate coinbases of 2010: the first is in the store when the second replaces it."""
    store = ChainStore(tmp_path, b"g" * 32)
    cache = CoinsCache(store, 1 << 20)
    outpoint = OutPoint(bytes(36))
    cache.apply([], {outpoint: PackedCoin(b"first")})
    cache.flush(tip=TIP, position=(0, 0), index={})
    cache.overwrite([outpoint])
    cache.apply([], {outpoint: PackedCoin(b"second")})
    cache.apply([outpoint], {})
    assert cache.get(outpoint) is None
    cache.flush(tip=TIP, position=(0, 0), index={})
    assert store.count_coins() == 0
    store.close()


def test_a_failed_flush_loses_nothing(tmp_path: Path, rng: random.Random) -> None:
    store = ChainStore(tmp_path, b"g" * 32)
    cache = CoinsCache(store, 1 << 24)
    first = {OutPoint(rng.randbytes(36)): coin(rng) for _ in range(50)}
    cache.apply([], first)
    cache.flush(tip=TIP, position=(0, 0), index={})
    more = {OutPoint(rng.randbytes(36)): coin(rng) for _ in range(5000)}
    spent = list(first)[:10]
    cache.apply(spent, more)
    with file_size_limit((tmp_path / "data.mdb").stat().st_size + 4096), pytest.raises(DiskFull):
        cache.flush(tip=TIP, position=(0, 0), index={})
    assert dict(store.iterate_coins()) == first
    assert all(cache.get(op) == c for op, c in more.items())
    assert all(cache.get(op) is None for op in spent)
    cache.flush(tip=TIP, position=(0, 0), index={})
    assert dict(store.iterate_coins()) == {op: c for op, c in (first | more).items() if op not in spent}
    store.close()
