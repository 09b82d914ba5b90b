"""What does an input cost before its signature is verified? Each kind of spend, beside the signature checks themselves.

    python -m benchmarks.script_checks [--block ../shared/vectors/blocks/testnet3/block928831]

Times are processor time of one thread, the best of several rounds, since these machines are shared. The ratio says how
much of an input's verification is Python: script, key hash and signature hash, over the signature checks they lead to.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from chain.crypto.batch import SignatureBatch, verifier
from chain.primitives.transaction import Transaction
from chain.script.checks import collect_checks
from chain.script.flags import MANDATORY_FLAGS, ScriptFlags
from chain.script.sighash import TxData
from tests.support.scripts import read_block_with_coins
from tests.support.spends import SpendGenerator

Spends = list[tuple[Transaction, list[bytes]]]
Batch = SignatureBatch[tuple[int, int]]


def collect(spends: Spends, flags: ScriptFlags) -> Batch:
    """The batch of all signatures; the spends must be valid."""
    batch: Batch = SignatureBatch()
    for position, (tx, coins) in enumerate(spends):
        failed = collect_checks(tx, TxData(tx, coins), coins, flags, batch, position)
        if failed is not None:
            raise SystemExit(f"input {failed[0]} of transaction {position} fails: {failed[1].message}")
    return batch


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def report(name: str, spends: Spends, flags: ScriptFlags, rounds: int) -> None:
    """Print one line of the table."""
    inputs = sum(len(coins) for _, coins in spends)
    batch = collect(spends, flags)
    if batch.verify() is not None:
        raise SystemExit(f"{name}: a signature fails")
    ours = best(lambda: collect(spends, flags), rounds) / inputs
    signatures = best(batch.verify, 2) / inputs
    ratio = f"{ours / signatures:.2f}" if len(batch) else "-"
    line = f"{name:<24}{inputs:>8}{len(batch):>12}{ours * 1e6:>14.1f}{signatures * 1e6:>16.1f}{ratio:>8}"
    print(line, flush=True)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--block", type=Path, help="block file without .raw, its coins in …-prevouts.raw beside it")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    verifier()(bytearray())
    print(f"{'spend':<24}{'inputs':>8}{'in batch':>12}{'script us/in':>14}{'signature us/in':>16}{'ratio':>8}")
    if options.block:
        block, spent = read_block_with_coins(options.block.parent, options.block.name)
        flags = MANDATORY_FLAGS if "testnet" in str(options.block) else ScriptFlags.P2SH
        report(
            options.block.name,
            [(tx, list[bytes](coins)) for tx, coins in zip(block.transactions[1:], spent, strict=True)],
            flags,
            options.rounds,
        )
    generator = SpendGenerator(random.Random(1))
    for kind in ("p2wpkh", "p2sh_p2wpkh", "p2pkh", "p2tr_key", "p2wsh", "p2sh", "p2tr_script"):
        spends: Spends = []
        while len(spends) < 200:
            tx, coins = generator.transaction([getattr(generator, kind)() for _ in range(2)])
            batch: Batch = SignatureBatch()
            if collect_checks(tx, TxData(tx, coins), coins, MANDATORY_FLAGS, batch) is None and batch.verify() is None:
                spends.append((tx, coins))
        report(kind, spends, MANDATORY_FLAGS, options.rounds)


if __name__ == "__main__":
    main()
