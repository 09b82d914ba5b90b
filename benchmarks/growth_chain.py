"""A chain with a set of unspent coins of any size, and full blocks that spend random ones of them.

On regtest. Coinbases come first, then blocks that split one into 25,000 coins, 25 to a transaction. They are
connected by the chain itself into a data folder, which is kept; every measurement starts from a copy of it. The blocks
to be measured, filled to the weight limit, lie beside it in block-file format: each of their transactions spends a coin
picked at random from the whole set and one that these blocks made themselves, and makes two.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.replay_chain import MIX, ChainBuilder, write_blocks
from chain.consensus.constants import MAX_BLOCK_WEIGHT
from chain.primitives.coin import coin_value, pack_coin
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount, OutPoint
from tests.support.signing import Lock, Spendable, spend

FORMAT = 2  #: part of the names: raise it when the chain changes
COINS_PER_TRANSACTION = 25  #: few, so that the keys are spread as those of a real set are
TRANSACTIONS_PER_BLOCK = 1000
MATURITY = 100
_RESERVED_WEIGHT = 4_000  # for header and coinbase


@dataclass(frozen=True)
class GrowthChain:
    """Where it lies."""

    setup: Path  #: block file: all that makes the coins
    store: Path  #: data folder of the chain after them
    blocks: Path  #: block file: those to be measured
    coins: int


class GrowthBuilder(ChainBuilder):
    """Knows its old coins by number alone: millions of objects would take more memory than the chain itself."""

    def __init__(self, coins: int, seed: int = FORMAT) -> None:
        super().__init__(seed)
        self.count = coins
        self.splits: list[tuple[bytes, int, int]] = []  # txid, value of each output, height
        self._flat = [self.locks[kind][i % 64] for kind, share in MIX.items() for i in range(share)]
        self._used: set[int] = set()

    def old_lock(self, number: int) -> Lock:
        """The lock of old coin `number`: all keys and kinds, in the shares of MIX."""
        return self._flat[number * 37 % len(self._flat)]

    def make_old_coins(self) -> None:
        """The blocks up to the measured ones."""
        owner = self.locks["p2wpkh"][0]
        per_block = COINS_PER_TRANSACTION * TRANSACTIONS_PER_BLOCK
        blocks = -(-self.count // per_block)
        funding = [self.add_block([], owner) for _ in range(blocks)]
        for _ in range(MATURITY):
            self.add_block([], owner)
        for number, coinbase in enumerate(funding):
            height = self.height + 1
            value = coinbase.values[0] // per_block
            coin = pack_coin(coinbase.values[0], owner.script, number + 1, True)
            share = TxOut(Amount(value * COINS_PER_TRANSACTION), owner.script)
            first = spend([Spendable(coinbase.outpoint(0), coin, owner)], [share] * TRANSACTIONS_PER_BLOCK)
            coin = pack_coin(share.value, owner.script, height, False)
            made = [first]
            for index in range(TRANSACTIONS_PER_BLOCK):
                start = COINS_PER_TRANSACTION * len(self.splits)
                if start >= self.count:
                    break
                locks = map(self.old_lock, range(start, start + COINS_PER_TRANSACTION))
                outputs = [TxOut(Amount(value), lock.script) for lock in locks]
                made.append(spend([Spendable(first.outpoint(index), coin, owner)], outputs))
                self.splits.append((made[-1].txid, value, height))
            self.add_block(made, owner)

    def take_old(self) -> Spendable:
        """A random old coin that was not taken before."""
        while True:
            number = self.rng.randrange(self.count)
            if number not in self._used:
                break
        self._used.add(number)
        txid, value, height = self.splits[number // COINS_PER_TRANSACTION]
        lock = self.old_lock(number)
        outpoint = OutPoint(txid + (number % COINS_PER_TRANSACTION).to_bytes(4, "little"))
        return Spendable(outpoint, pack_coin(value, lock.script, height, False), lock)

    def full_block(self) -> None:
        """A block of spends up to the weight limit."""
        made: list[tuple[Transaction, list[Lock]]] = []
        weight = _RESERVED_WEIGHT
        while True:
            sources = [self.take_old(), self._take() if self.coins else self.take_old()]
            total = sum(coin_value(source.coin) for source in sources) - 400
            locks = [self.lock(), self.lock()]
            part = total // 3 + self.rng.randrange(total // 3)
            tx = spend(sources, [TxOut(Amount(part), locks[0].script), TxOut(Amount(total - part), locks[1].script)])
            weight += tx.weight
            if weight > MAX_BLOCK_WEIGHT:
                break
            made.append((tx, locks))
        self.add_block([tx for tx, _ in made], self.locks["p2wpkh"][0])
        for tx, locks in made:
            self._keep(tx, locks)


def growth_chain(folder: Path, coins: int, blocks: int) -> GrowthChain:
    """The chain's two block files in `folder`, made now if they are not there; its data folder is the caller's to
    make.
    """
    name = f"growth-{FORMAT}-{coins}"
    chain = GrowthChain(folder / f"{name}-setup.dat", folder / name, folder / f"{name}-{blocks}.dat", coins)
    if chain.setup.exists() and chain.blocks.exists():
        return chain
    folder.mkdir(parents=True, exist_ok=True)
    builder = GrowthBuilder(coins)
    print(f"making {coins:,} coins", file=sys.stderr, flush=True)
    builder.make_old_coins()
    write_blocks(chain.setup, builder.blocks)
    builder.blocks.clear()
    builder.rng = random.Random(FORMAT)
    for number in range(blocks):
        builder.full_block()
        print(f"\rmaking block {number + 1} of {blocks} to measure", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    write_blocks(chain.blocks, builder.blocks)
    return chain
