"""-coinstatsindex: totals over all unspent coins and their MuHash after every block, so that gettxoutsetinfo answers
for any height at once (Core: CoinStatsIndex).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chain.connect import outputs_as_coins
from chain.consensus.subsidy import block_subsidy
from chain.index import BlockIndexEntry
from chain.indexes.base import Index, Undo
from chain.primitives.block import Block
from chain.primitives.coin import SCRIPT_OFFSET, coin_value
from chain.primitives.errors import LocalFault
from chain.script.script import is_unspendable
from chain.utxo_stats import BOGO_BYTES, serialize_coin

_RECORD: Final = struct.Struct("<32sQQ7Q16s16s")


@dataclass(frozen=True, slots=True)
class CoinStats:
    """After one block. Amounts in satoshi; those from `prevout_spent` on are of this block alone."""

    muhash: bytes
    outputs: int
    bogo_size: int
    total_amount: int
    total_unspendable: int
    coinbase: int
    genesis: int  #: the genesis block's subsidy, which nobody can spend
    bip30: int  #: in a coinbase that a later one with the same txid overwrote
    scripts: int  #: paid to scripts that nobody can spend
    unclaimed: int  #: subsidy and fees that the miner did not take
    prevout_spent: int
    new_outputs_ex_coinbase: int

    @property
    def unspendable(self) -> int:
        """What this block took out of circulation."""
        return self.genesis + self.bip30 + self.scripts + self.unclaimed

    def pack(self) -> bytes:
        # A block may spend the same coins over and over: only these two sums can exceed 64 bits.
        return _RECORD.pack(
            self.muhash,
            self.outputs,
            self.bogo_size,
            self.total_amount,
            self.total_unspendable,
            self.coinbase,
            self.genesis,
            self.bip30,
            self.scripts,
            self.unclaimed,
            self.prevout_spent.to_bytes(16, "little"),
            self.new_outputs_ex_coinbase.to_bytes(16, "little"),
        )

    @classmethod
    def unpack(cls, record: bytes) -> CoinStats:
        numbers = _RECORD.unpack(record)
        return cls(*numbers[:-2], *(int.from_bytes(number, "little") for number in numbers[-2:]))


_NOTHING: Final = CoinStats(b"", *[0] * 11)


class CoinStatsIndex(Index):
    """Key: height (u32 BE, so that blocks lie in order), block hash. Value: CoinStats. The state is the MuHash."""

    title = "coinstatsindex"
    option = "coinstatsindex"
    folder = "coinstatsindex"
    version = 1
    needs_undo = True
    rewinds = True

    def _resume(self, state: bytes) -> None:
        from chain.crypto.muhash import MuHash  # brings numpy, which a node without this index need not wait for

        self._muhash = MuHash.from_state(state) if state else MuHash()
        self._last = _NOTHING
        if self.at is not None:
            last = self.stats(self.at)
            if last is None:
                raise LocalFault(f"{self.path} lacks its last record: remove the index (`pickaxe index remove`)")
            self._last = last

    def _state(self) -> bytes:
        return self._muhash.state()

    def _connect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        subsidy = block_subsidy(entry.height, self._chain.params)
        genesis = bip30 = scripts = coinbase = new_outputs = spent = count = bogo_size = 0
        if entry.prev is None:
            genesis = subsidy
        else:
            for position, tx in enumerate(block.transactions):
                if not position and self._overwritten(entry):
                    bip30 = subsidy
                    continue
                amount = sum(tx.values)
                lost = sum(v for v, s in zip(tx.values, tx.scripts, strict=True) if is_unspendable(s))
                scripts += lost
                if position:
                    new_outputs += amount - lost
                else:
                    coinbase = amount - lost
            self._muhash.insert(_measured(self._created(entry, block), measure := _Measure()))
            self._muhash.remove(_measured(_spent(block, undo), removed := _Measure()))
            spent = removed.amount
            count, bogo_size = measure.count - removed.count, measure.bogo_size - removed.bogo_size
        unclaimed = spent + subsidy - new_outputs - coinbase - scripts - bip30 - genesis
        last = self._last
        self._last = CoinStats(
            muhash=self._muhash.digest(),
            outputs=last.outputs + count,
            bogo_size=last.bogo_size + bogo_size,
            total_amount=last.total_amount + new_outputs + coinbase - spent,
            total_unspendable=last.total_unspendable + genesis + bip30 + scripts + unclaimed,
            coinbase=coinbase,
            genesis=genesis,
            bip30=bip30,
            scripts=scripts,
            unclaimed=unclaimed,
            prevout_spent=spent,
            new_outputs_ex_coinbase=new_outputs,
        )
        self._put(_key(entry), self._last.pack())

    def _disconnect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        # The record stays: gettxoutsetinfo may still ask for the block by its hash.
        before = None if entry.prev is None else self.stats(entry.prev)
        if before is None:
            raise LocalFault(f"{self.path} lacks a record: remove the index (`pickaxe index remove`)")
        self._muhash.remove(_measured(self._created(entry, block), _Measure()))
        self._muhash.insert(_measured(_spent(block, undo), _Measure()))
        self._last = before

    def stats(self, entry: BlockIndexEntry) -> CoinStats | None:
        """After one block, active or not; None if it was not taken."""
        record = self._get(_key(entry))
        return None if record is None else CoinStats.unpack(record)

    def _overwritten(self, entry: BlockIndexEntry) -> bool:
        return self._chain.params.bip30_unspendable.get(entry.hash) == entry.height

    def _created(self, entry: BlockIndexEntry, block: Block) -> Iterator[tuple[bytes, bytes]]:
        for position, tx in enumerate(block.transactions):
            if position or not self._overwritten(entry):
                yield from outputs_as_coins(tx, entry.height, position == 0).items()


@dataclass(slots=True)
class _Measure:
    count: int = 0
    amount: int = 0
    bogo_size: int = 0


def _measured(coins: Iterator[tuple[bytes, bytes]], measure: _Measure) -> Iterator[bytes]:
    """The bytes that MuHash takes of each coin, which is counted."""
    for outpoint, coin in coins:
        measure.count += 1
        measure.amount += coin_value(coin)
        measure.bogo_size += BOGO_BYTES + len(coin) - SCRIPT_OFFSET
        yield serialize_coin(outpoint, coin)


def _spent(block: Block, undo: Undo) -> Iterator[tuple[bytes, bytes]]:
    for tx, coins in zip(block.transactions[1:], undo, strict=True):
        yield from zip(tx.prevouts, coins, strict=True)


def _key(entry: BlockIndexEntry) -> bytes:
    return entry.height.to_bytes(4, "big") + entry.hash
