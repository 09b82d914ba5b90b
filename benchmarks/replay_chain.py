"""A chain to replay: blocks full of the spends that today's blocks are full of, made once and kept.

On regtest, so that Bitcoin Core's kernel accepts it too: 120 blocks of coinbases to have money, blocks that split it
into coins, then the blocks that are measured. Each of their transactions spends two coins picked at random from all
that are unspent and makes two new ones. The file is in Bitcoin's block-file format (magic, u32 size, block).
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chain.consensus.subsidy import block_subsidy
from chain.crypto.hashes import sha256d
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.coin import coin_value, pack_coin
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, ZERO_HASH, Amount
from chain.script.script import push_int
from tests.support.signing import KINDS, Lock, Spendable, spend

#: Where made chains are kept.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pickaxe-benchmarks"

MIX = {"p2wpkh": 60, "p2tr": 20, "p2pkh": 15, "p2wsh-multisig": 5}  #: percent of the outputs
KEYS_PER_KIND = 4096  #: many, because the batch keeps the keys it saw last, and a block of ours must not flatter it
FORMAT = 2  #: part of the file's name: raise it when the chain changes
SUBSIDY_BLOCKS = 120


@dataclass
class ReplayChain:
    """Where the file lies and what is in it."""

    path: Path
    setup_blocks: int  #: not measured: those that make the coins
    blocks: int
    transactions: int  #: in the measured blocks, coinbases not counted
    inputs: int


class ChainBuilder:
    """A regtest chain in the making: its tip, and locks of every kind in MIX."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.params = network("regtest")
        self.tip = self.params.genesis.header
        self.height = 0
        self.locks = {kind: [KINDS[kind](f"{kind}/{i}".encode()) for i in range(KEYS_PER_KIND)] for kind in MIX}
        self.kinds = random.Random(seed).choices(list(MIX), list(MIX.values()), k=1 << 16)
        self.coins: list[Spendable] = []
        self.blocks: list[bytes] = []

    def lock(self) -> Lock:
        kind = self.kinds[self.rng.randrange(len(self.kinds))]
        return self.locks[kind][self.rng.randrange(KEYS_PER_KIND)]

    def add_block(self, transactions: list[Transaction], coinbase_lock: Lock) -> Transaction:
        """Mine a block on the tip; fees are left unclaimed, as a coinbase may."""
        self.height += 1
        witness_root, _ = merkle_root([ZERO_HASH, *[tx.wtxid for tx in transactions]])
        commitment = sha256d(witness_root + ZERO_HASH)
        subsidy = block_subsidy(self.height, self.params)
        coinbase = Transaction.build(
            2,
            [TxIn(NULL_OUTPOINT, push_int(self.height) + b"\0\0", witness=(ZERO_HASH,))],
            [
                TxOut(Amount(subsidy), coinbase_lock.script),
                TxOut(Amount(0), b"\x6a\x24\xaa\x21\xa9\xed" + commitment),
            ],
        )
        root, _ = merkle_root([coinbase.txid, *[tx.txid for tx in transactions]])
        nonce, target = 0, target_from_nbits(self.tip.nbits)
        while True:
            header = BlockHeader.build(4, self.tip.hash, root, self.tip.time + 600, self.tip.nbits, nonce)
            if target is not None and int.from_bytes(header.hash, "little") <= target:
                break
            nonce += 1
        self.blocks.append(Block.build(header, [coinbase, *transactions]).raw)
        self.tip = header
        return coinbase

    def make_coins(self, count: int, per_transaction: int = 1000) -> None:
        """Coinbases, then transactions that split them into `count` coins."""
        owner = self.locks["p2wpkh"][0]
        funding = [self.add_block([], owner) for _ in range(SUBSIDY_BLOCKS)]
        for start in range(0, count, per_transaction):
            coinbase = funding[start // per_transaction]
            if self.height < start // per_transaction + 1 + 100:
                raise ValueError("too many coins for the mature coinbases")
            height = start // per_transaction + 1
            source = Spendable(coinbase.outpoint(0), pack_coin(coinbase.values[0], owner.script, height, True), owner)
            locks = [self.lock() for _ in range(min(per_transaction, count - start))]
            each = coinbase.values[0] // len(locks)
            tx = spend([source], [TxOut(Amount(each), lock.script) for lock in locks])
            self.add_block([tx], owner)
            self._keep(tx, locks)

    def _keep(self, tx: Transaction, locks: list[Lock]) -> None:
        for index, lock in enumerate(locks):
            self.coins.append(
                Spendable(tx.outpoint(index), pack_coin(tx.values[index], lock.script, self.height, False), lock)
            )

    def _take(self) -> Spendable:
        at = self.rng.randrange(len(self.coins))
        self.coins[at], self.coins[-1] = self.coins[-1], self.coins[at]
        return self.coins.pop()

    def measured_block(self, transactions: int) -> None:
        """A block of two-in two-out spends of coins made in earlier blocks."""
        made: list[tuple[Transaction, list[Lock]]] = []
        for _ in range(transactions):
            sources = [self._take(), self._take()]
            total = sum(coin_value(source.coin) for source in sources) - 400
            locks = [self.lock(), self.lock()]
            part = total // 3 + self.rng.randrange(total // 3)
            tx = spend(sources, [TxOut(Amount(part), locks[0].script), TxOut(Amount(total - part), locks[1].script)])
            made.append((tx, locks))
        self.add_block([tx for tx, _ in made], self.locks["p2wpkh"][0])
        for tx, locks in made:
            self._keep(tx, locks)


def replay_chain(folder: Path, transactions: int = 60_000, per_block: int = 2_000, coins: int = 20_000) -> ReplayChain:
    """The chain in `folder`, made now (about a minute for the default size) if it is not there yet."""
    blocks = transactions // per_block
    setup = SUBSIDY_BLOCKS + -(-coins // 1000)
    path = folder / f"replay-{FORMAT}-{transactions}-{per_block}-{coins}.dat"
    chain = ReplayChain(path, setup, blocks, blocks * per_block, blocks * per_block * 2)
    if path.exists():
        return chain
    builder = ChainBuilder(seed=FORMAT)
    builder.make_coins(coins)
    for number in range(blocks):
        builder.measured_block(per_block)
        print(f"\rmaking the replay chain: block {number + 1} of {blocks}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    write_blocks(path, builder.blocks)
    return chain


def write_blocks(path: Path, raws: list[bytes]) -> None:
    """Write a block file; it is there in whole or not at all."""
    magic = network("regtest").magic
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        for raw in raws:
            file.write(magic + len(raw).to_bytes(4, "little") + raw)
    unfinished.replace(path)


def read_blocks(path: Path) -> list[bytes]:
    """The raw blocks of a block file."""
    return list(iterate_blocks(path))


def iterate_blocks(path: Path) -> Iterator[bytes]:
    """The raw blocks of a block file, one in memory at a time."""
    with path.open("rb") as file:
        while head := file.read(8):
            yield file.read(int.from_bytes(head[4:], "little"))


def describe(chain: ReplayChain) -> str:
    """What the measured blocks spend, counted from the file."""
    scripts: dict[bytes, bytes] = {}
    kinds: Counter[str] = Counter()
    names = {0x00: "witness v0", 0x51: "p2tr", 0x76: "p2pkh"}
    for number, raw in enumerate(read_blocks(chain.path)):
        for tx in Block.parse(raw).transactions:
            if number >= chain.setup_blocks and not tx.is_coinbase:
                for prevout in tx.prevouts:
                    script = scripts[prevout]
                    kind = names[script[0]]
                    if kind == "witness v0":
                        kind = "p2wpkh" if len(script) == 22 else "p2wsh multisig"
                    kinds[kind] += 1
            for index, script in enumerate(tx.scripts):
                scripts[tx.outpoint(index)] = script
    total = sum(kinds.values())
    return f"{total} inputs: " + ", ".join(f"{kind} {100 * n / total:.1f} %" for kind, n in kinds.most_common())
