"""What each pool has said to what was offered to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from miner.work.source import PoolReport
from miner.work.stratum.address import PoolAddress
from miner.work.stratum.messages import REJECT_NAMES, STALE, Rejection


@dataclass(slots=True)
class PoolAccount:
    """The counters of one pool, kept over its connections. See PoolReport for their meaning."""

    address: PoolAddress
    state: str = "not tried yet"
    difficulty: float | None = None
    accepted: int = 0
    accepted_difficulty: float = 0.0
    stale: int = 0
    duplicates: int = 0
    malformed: int = 0
    bad_jobs: int = 0
    connections: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def answered(self, difficulty: float, rejection: Rejection | None) -> None:
        """Count the answer to a share that was worth this difficulty."""
        if rejection is None:
            self.accepted += 1
            self.accepted_difficulty += difficulty
        elif rejection.code == STALE:
            self.stale += 1
        else:
            self.rejected[f"{rejection.code} {REJECT_NAMES[rejection.code]}"] += 1

    def report(self) -> PoolReport:
        """The counters now."""
        return PoolReport(
            name=self.address.name,
            user=self.address.user,
            state=self.state,
            difficulty=self.difficulty,
            accepted=self.accepted,
            accepted_difficulty=self.accepted_difficulty,
            stale=self.stale,
            duplicates=self.duplicates,
            malformed=self.malformed,
            bad_jobs=self.bad_jobs,
            connections=self.connections,
            rejected=dict(self.rejected),
        )
