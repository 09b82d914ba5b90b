"""feefilter (BIP133): announce nothing to me that pays less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.serialize import Reader


@dataclass(frozen=True, slots=True)
class FeeFilter:
    """A fee rate in satoshi per 1,000 virtual bytes."""

    command: ClassVar[str] = "feefilter"
    max_size: ClassVar[int] = 1_000

    fee_rate_sat_per_kvb: int

    @classmethod
    def decode(cls, payload: bytes) -> FeeFilter:
        return cls(Reader(payload).i64())

    def encode(self) -> bytes:
        return self.fee_rate_sat_per_kvb.to_bytes(8, "little", signed=True)
