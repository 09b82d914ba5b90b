"""What does the mempool cost? Accepting a transaction beside its one signature check, and making a block template.

usage: python -m benchmarks.mempool [TRANSACTIONS]   (default 10000; 50000 takes about a minute)

One-input P2WPKH transactions, a tenth of them in chains of up to ten. Each accept does everything from parsed bytes to
the entry in the graph.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chain.crypto import secp256k1
from chain.primitives.transaction import Transaction
from chain.templates.assembler import assemble
from tests.support.regtest import RegtestNode

FAN_OUT = 250
FANS_PER_BLOCK = 100


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def transactions(node: RegtestNode, count: int) -> list[Transaction]:
    """Confirmed coins fanned out, then spent; parsed from bytes as if they had come from a peer."""
    rng = random.Random(count)
    fans = [node.transfer([coin], 100_000, outputs=FAN_OUT) for coin in node.mature()[: count // FAN_OUT + 1]]
    for start in range(0, len(fans), FANS_PER_BLOCK):
        node.mine_transactions(fans[start : start + FANS_PER_BLOCK])
    coins = [node.output(fan, n) for fan in fans for n in range(FAN_OUT)]
    result: list[Transaction] = []
    last = None
    for number in range(count):
        coin = node.output(last) if last is not None and number % 100 < 10 else coins[number]
        last = node.transfer([coin], rng.randrange(200, 5_000))
        result.append(Transaction.parse(last.raw))
        if number % 100 >= 10:
            last = None
    return result


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder, RegtestNode(Path(folder) / "chain") as node:
        node.mine(101 + count // FAN_OUT)
        txs = transactions(node, count)
        pool = node.mempool
        accept = timed(lambda: [pool.accept(tx) for tx in txs]) / count
        secret, digest = b"\1" * 32, b"\2" * 32
        public, signature = secp256k1.pubkey_from_secret(secret), secp256k1.sign_ecdsa(secret, digest)
        verify = timed(lambda: [secp256k1.verify_ecdsa(public, signature, digest) for _ in range(5_000)]) / 5_000
        first = timed(lambda: assemble(node.chain, pool, node.lock.script))
        again = timed(lambda: assemble(node.chain, pool, node.lock.script))
        template = assemble(node.chain, pool, node.lock.script)
        build = timed(lambda: template.block)
        validity = timed(lambda: node.chain.test_block_validity(template.block))
        rows = [
            ("accept one transaction", f"{accept * 1e6:8.0f} µs"),
            ("one signature check", f"{verify * 1e6:8.0f} µs"),
            ("accept / signature check", f"{accept / verify:8.1f}"),
            (f"template from {len(pool)} entries, first", f"{first * 1e3:8.1f} ms"),
            ("template again, nothing changed", f"{again * 1e3:8.1f} ms"),
            (f"its block of {len(template.transactions)} transactions", f"{build * 1e3:8.1f} ms"),
            ("checking that block (scripts remembered)", f"{validity * 1e3:8.1f} ms"),
            ("check / template", f"{validity / first:8.1f}"),
        ]
        for name, value in rows:
            print(f"{name:45s}{value}")


if __name__ == "__main__":
    main()
