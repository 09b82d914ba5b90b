"""How fast are the scripts of real blocks verified? Every input, ours beside libbitcoinkernel, one thread each.

    python -m benchmarks.verify_real_blocks [--rounds 9] [--kinds] [--profile]

Two testnet3 blocks with their spent outputs, all consensus flags. Both candidates begin with parsed transactions
and coins, so that what is timed is the scripts: the kernel's precomputed transaction data and one call an input (its C
function called without the Python binding's own wrapper), our compiled loop and what it leaves to the interpreter.
Rounds alternate between the candidates and the median of each counts, in processor time, since machines are shared.

`--kinds` adds a table of what each kind of spend costs, and what it would cost by the interpreter alone.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.profiling import print_profile
from chain.crypto.batch import SignatureBatch
from chain.primitives.block import Block
from chain.primitives.coin import coin_script, coin_value
from chain.primitives.transaction import Transaction
from chain.script.checks import defer_input
from chain.script.flags import MANDATORY_FLAGS
from chain.script.sighash import TxData
from chain.script.spends import SpendBatch, prover
from chain.script_queue import BATCH_INPUTS
from tests.support.scripts import read_block_with_coins
from tests.support.spends import SpendGenerator

Spends = list[tuple[Transaction, list[bytes]]]

BLOCKS = ("block928816", "block928831")
KINDS = ("p2wpkh", "p2sh_p2wpkh", "p2pkh", "p2tr_key", "p2wsh", "p2sh", "p2tr_script")


def verify(spends: Spends) -> None:
    """Ours: all inputs of all spends, in batches as a block's are, in this thread."""
    batch = SpendBatch(MANDATORY_FLAGS)
    for tx, coins in spends:
        batch.add(tx, coins)
        if batch.inputs >= BATCH_INPUTS:
            _expect_valid(batch)
            batch = SpendBatch(MANDATORY_FLAGS)
    _expect_valid(batch)


def _expect_valid(batch: SpendBatch) -> None:
    if batch.verify() is not None:
        raise SystemExit("an input of a real block fails: that is a bug, not a measurement")


def interpret(spends: Spends) -> None:
    """The same by the interpreter alone, signatures set aside and verified together."""
    batch: SignatureBatch[int] = SignatureBatch()
    for tx, coins in spends:
        txdata = TxData(tx, coins)
        for index, coin in enumerate(coins):
            defer_input(tx, index, coin, MANDATORY_FLAGS, txdata, batch, index)
    if batch.verify() is not None:
        raise SystemExit("an input fails: that is a bug, not a measurement")


def left_open(spends: Spends) -> int:
    """How many inputs compiled code leaves to the interpreter."""
    parts = [part for tx, coins in spends for part in (tx.raw, *coins)]
    return len(prover()(parts, [len(coins) for _, coins in spends], int(MANDATORY_FLAGS)))


def kernel_verifier(spends: Spends) -> Callable[[], None]:
    """Libbitcoinkernel's: the same of prepared objects, called with as little Python as there can be."""
    import pbk
    import pbk.capi.bindings as capi

    prepared: list[tuple[Any, Any, Any]] = []
    for tx, coins in spends:
        outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(coin_script(coin)), coin_value(coin)) for coin in coins]
        pointers = (ctypes.POINTER(capi.btck_TransactionOutput) * len(outputs))(*[o._as_parameter_ for o in outputs])
        scripts = [(pbk.ScriptPubkey(coin_script(coin)), coin_value(coin)) for coin in coins]
        prepared.append((pbk.Transaction(tx.raw), (pointers, outputs), scripts))
    create, destroy = capi.btck_precomputed_transaction_data_create, capi.btck_precomputed_transaction_data_destroy
    check, flags = capi.btck_script_pubkey_verify, int(MANDATORY_FLAGS)
    status = ctypes.c_ubyte(0)

    def run() -> None:
        for tx, (pointers, outputs), scripts in prepared:
            transaction = tx._as_parameter_
            data = create(transaction, pointers, len(outputs))
            for index, (script, value) in enumerate(scripts):
                if not check(script._as_parameter_, value, transaction, data, index, flags, status):
                    raise SystemExit("libbitcoinkernel refuses an input of a real block")
            destroy(data)

    return run


def medians(candidates: list[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of processor time of each candidate, taken in turns."""
    times: list[list[float]] = [[] for _ in candidates]
    for number in range(rounds + 1):
        for taken, candidate in zip(times, candidates, strict=True):
            start = time.process_time()
            candidate()
            if number:  # the first round warms caches up
                taken.append(time.process_time() - start)
    return [statistics.median(taken) for taken in times]


def spends_of(block: Block, spent: list[list[Any]]) -> Spends:
    """Transactions and what they spend."""
    return [(tx, list[bytes](coins)) for tx, coins in zip(block.transactions[1:], spent, strict=True)]


def compare_blocks(folder: Path, rounds: int) -> None:
    """The table of ours beside the kernel's, one line a block."""
    print(f"{'block':<14}{'inputs':>8}{'left open':>11}{'ours µs/in':>12}{'kernel µs/in':>14}{'ratio':>8}")
    for name in BLOCKS:
        spends = spends_of(*read_block_with_coins(folder, name))
        inputs = sum(len(coins) for _, coins in spends)
        ours, kernel = medians([lambda spends=spends: verify(spends), kernel_verifier(spends)], rounds)  # type: ignore[misc]
        print(
            f"{name:<14}{inputs:>8}{left_open(spends):>11}{ours / inputs * 1e6:>12.1f}{kernel / inputs * 1e6:>14.1f}"
            f"{kernel / ours:>8.2f}",
            flush=True,
        )


def compare_kinds(folder: Path, rounds: int) -> None:
    """The table of what an input of each kind costs, beside the interpreter alone."""
    print(f"\n{'spend':<14}{'inputs':>8}{'left open':>11}{'ours µs/in':>12}{'interpreter µs/in':>19}")
    tables = [(name, spends_of(*read_block_with_coins(folder, name))) for name in BLOCKS]
    generator = SpendGenerator(random.Random(1))
    for kind in KINDS:
        spends: Spends = []
        while len(spends) < 200:
            tx, coins = generator.transaction([getattr(generator, kind)() for _ in range(2)])
            batch = SpendBatch(MANDATORY_FLAGS)
            batch.add(tx, coins)
            if batch.verify() is None:
                spends.append((tx, coins))
        tables.append((kind, spends))
    for name, spends in tables:
        inputs = sum(len(coins) for _, coins in spends)
        ours, alone = medians([lambda spends=spends: verify(spends), lambda spends=spends: interpret(spends)], rounds)  # type: ignore[misc]
        print(
            f"{name:<14}{inputs:>8}{left_open(spends):>11}{ours / inputs * 1e6:>12.1f}{alone / inputs * 1e6:>19.1f}",
            flush=True,
        )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "vectors" / "blocks" / "testnet3"
    parser.add_argument("--blocks", type=Path, default=default, help="folder of the blocks and their spent outputs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kinds", action="store_true", help="also show each kind of spend")
    parser.add_argument("--profile", action="store_true", help="also show where our time goes")
    options = parser.parse_args()
    if not all((options.blocks / f"{name}.raw").is_file() for name in BLOCKS):
        raise SystemExit(f"no blocks in {options.blocks}: set --blocks")
    prover()([], [], 0)
    compare_blocks(options.blocks, options.rounds)
    if options.kinds:
        compare_kinds(options.blocks, options.rounds)
    if options.profile:
        spends = [pair for name in BLOCKS for pair in spends_of(*read_block_with_coins(options.blocks, name))]
        print_profile(lambda: verify(spends))


if __name__ == "__main__":
    main()
