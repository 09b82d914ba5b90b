"""Scripts in worker threads: the first invalid input in block order is named; the script cache stays bounded."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction
from chain.primitives.types import PackedCoin, Wtxid
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS
from chain.script_queue import BATCH_INPUTS, ScriptCache, ScriptQueue
from tests.support.spends import SpendGenerator


@pytest.mark.parametrize("threads", [0, 2])
def test_first_failure_in_block_order(rng: random.Random, threads: int) -> None:
    """Some by their signature (the coin's amount is signed), some by a script that is false whatever is signed."""
    generator = SpendGenerator(rng)
    block: list[tuple[Transaction, list[PackedCoin]]] = []
    while len(block) < 300:
        tx, coins = generator.transaction([generator.p2wpkh() for _ in range(3)])
        queue = ScriptQueue(None, MANDATORY_FLAGS)
        spent = [PackedCoin(coin) for coin in coins]
        queue.add(tx, spent, 0)
        if queue.finish() is None:  # the generator makes some that are invalid
            block.append((tx, spent))
    pool = ThreadPoolExecutor(threads) if threads else None
    false = pack_coin(1, b"\0", 7, False)
    at_once, by_signature = True, False
    for bad in (
        {},
        {1: at_once},
        {233: at_once, 133: by_signature},
        {2 * BATCH_INPUTS // 3: by_signature},
        {300: by_signature},
    ):
        queue = ScriptQueue(pool, MANDATORY_FLAGS)
        for position, (tx, spent) in enumerate(block, 1):
            changed = list(spent)
            if position in bad:
                changed[1] = false if bad[position] is at_once else PackedCoin(bytes([spent[1][0] ^ 1]) + spent[1][1:])
            queue.add(tx, changed, position)
        failure = queue.finish()
        if bad:
            assert failure is not None
            assert (failure.position, failure.input) == (min(bad), 1)
            assert failure.error is not ScriptError.OK
        else:
            assert failure is None
        assert queue.finish() is None
    if pool is not None:
        pool.shutdown()


def test_script_cache_forgets_the_oldest() -> None:
    cache = ScriptCache(capacity=100)
    assert not cache
    for n in range(1000):
        cache.add(Wtxid(n.to_bytes(32, "little")), 7)
    assert cache
    assert cache.contains(Wtxid((999).to_bytes(32, "little")), 7)
    assert cache.contains(Wtxid((950).to_bytes(32, "little")), 7)
    assert not cache.contains(Wtxid((999).to_bytes(32, "little")), 5)
    assert not cache.contains(Wtxid((850).to_bytes(32, "little")), 7)
