"""--addressindex: what each output script received and spent, and what of it is unspent. Bitcoin Core has no such
index.

Scripts are known by the first 20 bytes of their SHA-256, so every script has a history, with or without an address
(and a script hash as Electrum's servers use it finds it too). Outputs that nobody can spend are left out, and so are
the genesis block's and two old coinbases that later ones overwrote (BIP30).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from chain.connect import outputs_as_coins
from chain.index import BlockIndexEntry
from chain.indexes.base import Index, Undo
from chain.primitives.block import Block
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.types import OutPoint, Txid

SCRIPT_HASH_BYTES: Final = 20

_HISTORY: Final = b"h"
_UNSPENT: Final = b"u"
_TOTALS: Final = b"t"
_PLACE: Final = struct.Struct(">II?I")  #: height, position in the block, whether an input, its index: history in order
_DELTA: Final = struct.Struct("<q32s")  #: satoshi (what is spent is negative), txid
_COIN: Final = struct.Struct("<Q?")  #: satoshi, whether of a coinbase
_SUMS: Final = struct.Struct("<Q16sQI")
_MAX_HEIGHT: Final = 0xFFFFFFFF


class ScriptTotals(NamedTuple):
    """All blocks taken together. Amounts in satoshi."""

    balance: int = 0
    received: int = 0
    deltas: int = 0  #: entries of the history
    unspent: int = 0  #: number of coins


class ScriptDelta(NamedTuple):
    """One output or input of a transaction. `cursor` is where to go on behind it."""

    height: int
    position: int  #: of the transaction in its block
    is_input: bool
    n: int  #: which output or input
    value: int  #: satoshi, negative for an input
    txid: Txid
    cursor: bytes


class ScriptCoin(NamedTuple):
    """One unspent output. `cursor` is where to go on behind it."""

    height: int
    outpoint: OutPoint
    value: int
    coinbase: bool
    cursor: bytes


class _Change:
    __slots__ = ("balance", "deltas", "received", "unspent")

    def __init__(self) -> None:
        self.balance = self.received = self.deltas = self.unspent = 0


class AddressIndex(Index):
    """Keys: kind, script hash, then for history _PLACE, for unspent coins height (u32 BE) and outpoint."""

    title = "addressindex"
    option = "addressindex"
    folder = "addressindex"
    version = 1
    needs_undo = True
    rewinds = True

    def _connect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        changes: defaultdict[bytes, _Change] = defaultdict(_Change)
        for place, is_input, outpoint, coin in self._moves(entry, block, undo):
            script_hash, value, unspent_key = _locate(outpoint, coin)
            change = changes[script_hash]
            change.deltas += 1
            if is_input:
                self._delete(unspent_key)
                change.balance -= value
                change.unspent -= 1
            else:
                self._put(unspent_key, _COIN.pack(value, bool(coin[8] & 1)))
                change.balance += value
                change.received += value
                change.unspent += 1
            txid = block.transactions[_PLACE.unpack(place)[1]].txid
            self._put(_HISTORY + script_hash + place, _DELTA.pack(-value if is_input else value, txid))
        self._add(changes)

    def _disconnect(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> None:
        changes: defaultdict[bytes, _Change] = defaultdict(_Change)
        for place, is_input, outpoint, coin in reversed(list(self._moves(entry, block, undo))):
            script_hash, value, unspent_key = _locate(outpoint, coin)
            change = changes[script_hash]
            change.deltas -= 1
            if is_input:
                self._put(unspent_key, _COIN.pack(value, bool(coin[8] & 1)))
                change.balance += value
                change.unspent += 1
            else:
                self._delete(unspent_key)
                change.balance -= value
                change.received -= value
                change.unspent -= 1
            self._delete(_HISTORY + script_hash + place)
        self._add(changes)

    def _moves(self, entry: BlockIndexEntry, block: Block, undo: Undo) -> Iterator[tuple[bytes, bool, bytes, bytes]]:
        """(place, whether an input, outpoint, coin) in the order of the block."""
        if entry.prev is None:
            return
        overwritten = self._chain.params.bip30_unspendable.get(entry.hash) == entry.height
        for position, tx in enumerate(block.transactions):
            if position:
                for n, (outpoint, coin) in enumerate(zip(tx.prevouts, undo[position - 1], strict=True)):
                    yield _PLACE.pack(entry.height, position, True, n), True, outpoint, coin
            elif overwritten:
                continue
            for outpoint, coin in outputs_as_coins(tx, entry.height, position == 0).items():
                n = int.from_bytes(outpoint[32:], "little")
                yield _PLACE.pack(entry.height, position, False, n), False, outpoint, coin

    def _add(self, changes: dict[bytes, _Change]) -> None:
        known = self._get_many(_TOTALS + script_hash for script_hash in changes)
        for script_hash, change in changes.items():
            key = _TOTALS + script_hash
            old = _unpack_totals(known.get(key))
            deltas = old.deltas + change.deltas
            if not deltas:
                self._delete(key)
                continue
            received = (old.received + change.received).to_bytes(16, "little")
            self._put(key, _SUMS.pack(old.balance + change.balance, received, deltas, old.unspent + change.unspent))

    # Asking

    def totals(self, script_hash: bytes) -> ScriptTotals:
        """Of one script; all zero for one that was never paid."""
        return _unpack_totals(self._get(_TOTALS + script_hash))

    def history(
        self, script_hash: bytes, limit: int, *, after: bytes = b"", start: int = 0, end: int = _MAX_HEIGHT
    ) -> list[ScriptDelta]:
        """Up to `limit` entries, oldest first, of the blocks `start` to `end`, behind the cursor `after` if there is
        one."""
        prefix = _HISTORY + script_hash
        first = prefix + start.to_bytes(4, "big")
        last = prefix + (end + 1).to_bytes(4, "big") if end < _MAX_HEIGHT else prefix + b"\xff" * 5
        if after:
            first = max(first, prefix + after + b"\0")
        found = []
        for key, record in self._range(first, last, limit):
            cursor = key[len(prefix) :]
            height, position, is_input, n = _PLACE.unpack(cursor)
            value, txid = _DELTA.unpack(record)
            found.append(ScriptDelta(height, position, is_input, n, value, Txid(txid), cursor))
        return found

    def unspent(self, script_hash: bytes, limit: int, *, after: bytes = b"") -> list[ScriptCoin]:
        """Up to `limit` unspent coins, oldest first, behind the cursor `after` if there is one."""
        prefix = _UNSPENT + script_hash
        first = prefix + after + b"\0" if after else prefix
        found = []
        for key, record in self._range(first, prefix + b"\xff" * 5, limit):
            cursor = key[len(prefix) :]
            value, coinbase = _COIN.unpack(record)
            height = int.from_bytes(cursor[:4], "big")
            found.append(ScriptCoin(height, OutPoint(cursor[4:]), value, coinbase, cursor))
        return found


def script_hash_of(script: bytes) -> bytes:
    """The key of an output script."""
    return sha256(script).digest()[:SCRIPT_HASH_BYTES]


def _locate(outpoint: bytes, coin: bytes) -> tuple[bytes, int, bytes]:
    """(script hash, value, key of the coin among the unspent ones)."""
    script_hash = script_hash_of(coin[SCRIPT_OFFSET:])
    height = int.from_bytes(coin[8:SCRIPT_OFFSET], "little") >> 1
    return (
        script_hash,
        int.from_bytes(coin[:8], "little"),
        (_UNSPENT + script_hash + height.to_bytes(4, "big") + outpoint),
    )


def _unpack_totals(record: bytes | None) -> ScriptTotals:
    if record is None:
        return ScriptTotals()
    balance, received, deltas, unspent = _SUMS.unpack(record)
    return ScriptTotals(balance, int.from_bytes(received, "little"), deltas, unspent)
