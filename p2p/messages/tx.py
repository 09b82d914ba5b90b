"""tx: one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.transaction import Transaction
from p2p.constants import MAX_MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class TxMessage:
    """A transaction, sent with its witness unless `stripped` (the peer asked by txid, BIP144)."""

    command: ClassVar[str] = "tx"
    max_size: ClassVar[int] = MAX_MESSAGE_SIZE

    transaction: Transaction
    stripped: bool = False

    @classmethod
    def decode(cls, payload: bytes) -> TxMessage:
        return cls(Transaction.parse_from(payload, 0)[0])

    def encode(self) -> bytes:
        return self.transaction.stripped if self.stripped else self.transaction.raw
