"""The wallet's transactions and what follows from them: coins, balances, history. No files, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, Txid

COINBASE_MATURITY = 100  #: consensus: blocks that must follow before a coinbase output is spent in the next one


class TxState(StrEnum):
    """Where a transaction stands."""

    CONFIRMED = "confirmed"  #: in a block of the active chain
    PENDING = "pending"  #: in the node's mempool, or ours and still to be sent
    CONFLICTED = "conflicted"  #: a confirmed transaction spends one of its inputs, or its parent is gone
    REPLACED = "replaced"  #: another pending transaction took its inputs
    DROPPED = "dropped"  #: was pending at the node and vanished
    ABANDONED = "abandoned"  #: given up by the user, or refused by the node


LIVE = frozenset({TxState.CONFIRMED, TxState.PENDING})


@dataclass(frozen=True, slots=True)
class Owner:
    """Which address of the wallet a script is: account ('bip84'), branch (0 receive, 1 change), index."""

    account: str
    branch: int
    index: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction that concerns the wallet. `height`, `block_hash`, `position` only while confirmed; times are Unix
    seconds."""

    tx: Transaction
    state: TxState
    first_seen: int
    height: int | None = None
    block_hash: bytes | None = None
    position: int = 0
    block_time: int | None = None
    is_own: bool = False  #: our keys made it: all its inputs are the wallet's
    in_mempool: bool = False  #: as of the last synchronization
    order: int = 0  #: by which it entered the wallet

    def unconfirmed(self) -> Entry:
        """The same, out of any block."""
        state = TxState.CONFLICTED if self.tx.is_coinbase else TxState.PENDING
        return replace(self, state=state, height=None, block_hash=None, position=0, block_time=None, in_mempool=False)


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output of the wallet."""

    outpoint: OutPoint
    value: int
    script_pubkey: bytes
    owner: Owner
    height: int | None  #: None while pending
    is_coinbase: bool
    is_trusted: bool  #: confirmed, or of a pending transaction that is our own and at the node


@dataclass(frozen=True, slots=True)
class Balance:
    """Satoshi. `confirmed` can be spent now; `pending` is in unconfirmed outputs; `immature` is mined and not yet
    spendable."""

    confirmed: int
    pending: int
    immature: int

    @property
    def total(self) -> int:
        return self.confirmed + self.pending + self.immature


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One line of the history. `net` is what the wallet gained (negative: spent, fee included); `fee` only if all
    inputs are ours."""

    txid: Txid
    kind: str  #: 'mined', 'received', 'sent' or 'internal'
    net: int
    fee: int | None
    entry: Entry
    recipients: tuple[
        tuple[bytes, int], ...
    ]  #: (script, value) of outputs that are not ours when sent, ours when received


class Ledger:
    """A view over entries, computed once."""

    def __init__(self, entries: Mapping[Txid, Entry], owners: Mapping[bytes, Owner]) -> None:
        self._entries = entries
        self._owners = owners
        self._spent: dict[OutPoint, Txid] = {}
        for txid, entry in entries.items():
            if entry.state in LIVE:
                for prevout in entry.tx.prevouts:
                    self._spent[prevout] = txid

    def spender(self, outpoint: OutPoint) -> Txid | None:
        """The live transaction of the wallet that spends an output."""
        return self._spent.get(outpoint)

    def coins(self) -> list[Coin]:
        """All unspent outputs of live transactions, pending and immature ones included."""
        found = []
        for txid, entry in self._entries.items():
            if entry.state not in LIVE:
                continue
            # A child of what the node lacks would be refused.
            trusted = entry.state is TxState.CONFIRMED or (entry.is_own and entry.in_mempool)
            for index, script in enumerate(entry.tx.scripts):
                owner = self._owners.get(script)
                if owner is None:
                    continue
                outpoint = OutPoint(txid + index.to_bytes(4, "little"))
                if outpoint not in self._spent:
                    value = entry.tx.values[index]
                    found.append(Coin(outpoint, value, script, owner, entry.height, entry.tx.is_coinbase, trusted))
        return found

    def balance(self, tip_height: int) -> Balance:
        """What the wallet holds when the chain's tip is at `tip_height`."""
        confirmed = pending = immature = 0
        for coin in self.coins():
            if coin.height is None:
                pending += coin.value
            elif is_immature(coin, tip_height):
                immature += coin.value
            else:
                confirmed += coin.value
        return Balance(confirmed, pending, immature)

    def history(self) -> list[HistoryItem]:
        """Every transaction, oldest first, unconfirmed last."""
        ordered = sorted(
            self._entries.values(),
            key=lambda e: (e.height is None, e.height or 0, e.position if e.height is not None else 0, e.order),
        )
        return [self._describe(entry) for entry in ordered]

    def _describe(self, entry: Entry) -> HistoryItem:
        tx = entry.tx
        spent = [self.own_output(prevout) for prevout in tx.prevouts]
        ours_in = sum(value for value in spent if value is not None)
        ours_out = sum(v for v, s in zip(tx.values, tx.scripts, strict=True) if s in self._owners)
        all_ours = bool(spent) and all(value is not None for value in spent)
        foreign = tuple((s, v) for v, s in zip(tx.values, tx.scripts, strict=True) if s not in self._owners)
        own = tuple((s, v) for v, s in zip(tx.values, tx.scripts, strict=True) if s in self._owners)
        if tx.is_coinbase:
            kind, recipients = "mined", own
        elif ours_in and not foreign:
            kind, recipients = "internal", own
        elif ours_in:
            kind, recipients = "sent", foreign
        else:
            kind, recipients = "received", own
        fee = ours_in - sum(tx.values) if all_ours else None
        return HistoryItem(tx.txid, kind, ours_out - ours_in, fee, entry, recipients)

    def own_output(self, outpoint: OutPoint) -> int | None:
        """The value of an output if it is the wallet's, spent or not."""
        entry = self._entries.get(Txid(outpoint[:32]))
        if entry is None:
            return None
        index = int.from_bytes(outpoint[32:], "little")
        if index >= len(entry.tx.scripts) or entry.tx.scripts[index] not in self._owners:
            return None
        return entry.tx.values[index]


def is_immature(coin: Coin, tip_height: int) -> bool:
    """Whether a coinbase output cannot be spent in the block after the tip yet."""
    return coin.is_coinbase and coin.height is not None and tip_height + 1 - coin.height < COINBASE_MATURITY


def settle(entries: Mapping[Txid, Entry]) -> dict[Txid, Entry]:
    """Entries whose state must change because a confirmed transaction spends their inputs or a parent is no longer
    live."""
    confirmed_spends: dict[OutPoint, Txid] = {}
    for txid, entry in entries.items():
        if entry.state is TxState.CONFIRMED:
            for prevout in entry.tx.prevouts:
                confirmed_spends[prevout] = txid
    changed: dict[Txid, Entry] = {}
    again = True
    while again:
        again = False
        for txid, entry in entries.items():
            if changed.get(txid, entry).state is not TxState.PENDING:
                continue
            if any(_is_lost(prevout, txid, confirmed_spends, entries, changed) for prevout in entry.tx.prevouts):
                changed[txid] = replace(entry, state=TxState.CONFLICTED, in_mempool=False)
                again = True
    return changed


def _is_lost(
    prevout: OutPoint,
    txid: Txid,
    confirmed_spends: Mapping[OutPoint, Txid],
    entries: Mapping[Txid, Entry],
    changed: Mapping[Txid, Entry],
) -> bool:
    if confirmed_spends.get(prevout, txid) != txid:
        return True
    parent_id = Txid(prevout[:32])
    parent = changed.get(parent_id) or entries.get(parent_id)
    return parent is not None and parent.state not in LIVE


def conflicts_of(tx: Transaction, entries: Mapping[Txid, Entry]) -> Iterable[Txid]:
    """Pending entries, other than `tx` itself, that spend one of its inputs."""
    spent = set(tx.prevouts)
    for txid, entry in entries.items():
        if entry.state is TxState.PENDING and txid != tx.txid and not spent.isdisjoint(entry.tx.prevouts):
            yield txid
