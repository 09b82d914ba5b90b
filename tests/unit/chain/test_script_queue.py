"""Signature checks in worker threads name the first failing input in block order; the script cache stays bounded."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from chain.crypto import secp256k1
from chain.primitives.types import Wtxid
from chain.script_queue import BATCH_SIZE, ScriptCache, SignatureQueue


@pytest.mark.parametrize("threads", [0, 2])
def test_first_failure_in_block_order(rng: random.Random, threads: int) -> None:
    secret = bytes(31) + b"\1"
    key = secp256k1.pubkey_from_secret(secret)
    digest = rng.randbytes(32)
    good = secp256k1.sign_ecdsa(secret, digest)
    pool = ThreadPoolExecutor(threads) if threads else None
    for bad in ([], [0], [700, 400], [2 * BATCH_SIZE], [799]):
        queue = SignatureQueue(pool)
        for n in range(800):
            queue.batch.add_ecdsa(key, good, bytes(32) if n in bad else digest, (n // 3, n % 3))
            if n % 3 == 2:
                queue.drain()
        expected = min(bad, default=None)
        assert queue.finish() == (None if expected is None else (expected // 3, expected % 3))
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
