"""A real chain with a mempool on regtest or dev: mines its own blocks, owns the coins, signs what it spends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from chain.chainstate import Chainstate
from chain.consensus.constants import COINBASE_MATURITY
from chain.events import Event
from chain.mempool.entries import MempoolChange
from chain.mempool.policy import MempoolPolicy
from chain.mempool.pool import Mempool
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.coin import coin_value, pack_coin
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import SEQUENCE_FINAL, Transaction, TxOut
from chain.primitives.types import Amount
from chain.templates.assembler import assemble, assemble_exact
from tests.support.signing import Lock, Spendable, p2wpkh, spend

OWNER = p2wpkh(b"owner")


class RegtestNode:
    """Chainstate, mempool and a clock that only moves when told, with the coins that it has mined."""

    def __init__(
        self,
        folder: Path,
        network_name: str = "regtest",
        *,
        policy: MempoolPolicy | None = None,
        lock: Lock = OWNER,
    ) -> None:
        self.params = network(network_name)
        self.time = max(1_700_000_000, self.params.genesis.header.time + 3600)
        self.lock = lock
        self.chain = Chainstate(self.params, folder, clock=self.now, script_threads=0)
        self.mempool = Mempool(self.chain, policy, self.now)
        self.coinbases: list[Spendable] = []  #: all that were mined here, oldest first
        self.changes: list[MempoolChange] = []

    def __enter__(self) -> RegtestNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.chain.close()

    def now(self) -> float:
        """Unix seconds."""
        return float(self.time)

    def mine(self, count: int = 1, *, empty: bool = False, extra: bytes = b"", interval_s: int = 60) -> list[Block]:
        """Mine blocks from the mempool (or empty ones) on the tip and follow them."""
        blocks = []
        for _ in range(count):
            self.time += interval_s
            if empty:
                template = assemble_exact(self.chain, [], self.lock.script, now=self.time, coinbase_extra=extra)
            else:
                template = assemble(self.chain, self.mempool, self.lock.script, coinbase_extra=extra)
            block = solve(template.block)
            self.follow(self.chain.process_block(block))
            self.own(block, template.height)
            blocks.append(block)
        return blocks

    def mine_transactions(self, transactions: Sequence[Transaction], *, extra: bytes = b"") -> Block:
        """Mine exactly these, in this order."""
        self.time += 60
        template = assemble_exact(self.chain, transactions, self.lock.script, now=self.time, coinbase_extra=extra)
        block = solve(template.block)
        self.follow(self.chain.process_block(block))
        self.own(block, template.height)
        return block

    def follow(self, events: Iterable[Event]) -> MempoolChange:
        """Let the mempool follow what the chain did."""
        change = self.mempool.handle(events)
        self.changes.append(change)
        return change

    def own(self, block: Block, height: int) -> None:
        """Remember a block's coinbase as spendable."""
        coinbase = block.transactions[0]
        coin = pack_coin(coinbase.values[0], coinbase.scripts[0], height, True)
        self.coinbases.append(Spendable(coinbase.outpoint(0), coin, self.lock))

    def mature(self) -> list[Spendable]:
        """The mined coins that the next block may spend and that nothing has spent."""
        height = self.chain.tip.height + 1
        return [
            coin
            for coin in self.coinbases
            if self.chain.get_coin(coin.outpoint) == coin.coin
            and height - (int.from_bytes(coin.coin[8:12], "little") >> 1) >= COINBASE_MATURITY
            and self.mempool.spender(coin.outpoint) is None
        ]

    def transfer(
        self,
        coins: Sequence[Spendable],
        fee: int,
        *,
        outputs: int = 1,
        lock: Lock | None = None,
        extra: Sequence[TxOut] = (),
        version: int = 2,
        locktime: int = 0,
        sequence: int = SEQUENCE_FINAL,
    ) -> Transaction:
        """Spend these coins to `outputs` equal outputs of one's own, after `extra` ones, paying `fee`."""
        total = sum(coin_value(coin.coin) for coin in coins) - fee - sum(out.value for out in extra)
        script = (lock or self.lock).script
        share = total // outputs
        values = [share] * (outputs - 1) + [total - share * (outputs - 1)]
        outs = [*extra, *(TxOut(Amount(value), script) for value in values)]
        return spend(coins, outs, version=version, locktime=locktime, sequence=sequence)

    def output(self, tx: Transaction, index: int = 0, lock: Lock | None = None) -> Spendable:
        """An output of a transaction as a coin to spend."""
        coin = pack_coin(tx.values[index], tx.scripts[index], 0x7FFFFFFF, False)
        return Spendable(tx.outpoint(index), coin, lock or self.lock)


def solve(block: Block) -> Block:
    """The block with a nonce that meets its own target. Only for easy targets."""
    raw = block.header.raw
    nbits = block.header.nbits
    target = (nbits & 0xFFFFFF) << (8 * ((nbits >> 24) - 3))
    for nonce in range(1 << 32):
        header = BlockHeader(raw[:76] + nonce.to_bytes(4, "little"))
        if int.from_bytes(header.hash, "little") <= target:
            return Block.build(header, block.transactions)
    raise AssertionError("no nonce solves this block")
