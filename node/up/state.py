"""What the screen shows, gathered from node, miner and wallets."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

RECENT = 8


@dataclass
class BlockLine:
    """One block as the screen lists it."""

    height: int
    hash_hex: str
    transactions: int
    size: int
    time: int


@dataclass
class DemoState:
    """The latest picture. Amounts in satoshi, rates in hashes a second."""

    started: float = field(default_factory=time.monotonic)
    start_height: int | None = None
    height: int = 0
    supply: int = 0
    mempool_count: int = 0
    mempool_bytes: int = 0
    hash_rate: float = 0.0
    hashes: int = 0
    blocks_mined: int = 0
    blocks_rejected: int = 0
    finished: tuple[int, int, int] = (0, 0, 0)  #: hashes, blocks mined, blocks lost of miner runs that have ended
    balances: dict[str, tuple[int, int, int]] = field(default_factory=dict)  #: confirmed, pending, immature
    payments: int = 0
    paid: int = 0
    blocks: deque[BlockLine] = field(default_factory=lambda: deque(maxlen=RECENT))
    events: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    doing: str = "starting"

    def take_miner_line(self, line: dict[str, Any]) -> None:
        """One status line of the miner that runs now."""
        hashes, mined, lost = self.finished
        self.hash_rate = float(line["rate"])
        self.hashes = hashes + int(line["hashes"])
        self.blocks_mined = mined + int(line["accepted"])
        self.blocks_rejected = lost + int(line["stale"]) + sum(line["rejected"].values())

    def close_miner_run(self) -> None:
        """The miner has ended: the next one counts from zero again."""
        self.finished = (self.hashes, self.blocks_mined, self.blocks_rejected)
        self.hash_rate = 0.0

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started
