"""What each pool has said to what was offered to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from miner.hashrate import ShareMeter
from miner.share import Share
from miner.work.source import PoolReport
from miner.work.stratum.address import PoolAddress
from miner.work.stratum.messages import STALE, Rejection


@dataclass(slots=True)
class PoolAccount:
    """The counters of one pool, kept over its connections. See PoolReport for their meaning."""

    address: PoolAddress
    state: str = "not tried yet"
    difficulty: float | None = None
    accepted: int = 0
    accepted_difficulty: float = 0.0
    rejected_difficulty: float = 0.0
    stale_difficulty: float = 0.0
    best_difficulty: float = 0.0
    stale: int = 0
    duplicates: int = 0
    malformed: int = 0
    bad_jobs: int = 0
    jobs: int = 0
    connections: int = 0
    slow: bool = False  #: its shares hardly ever come, and the user knows
    rejected: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic
    _meter: ShareMeter = field(default_factory=lambda: ShareMeter(0.0))  # over the time spent mining here
    _mined_s: float = 0.0
    _mining_since: float | None = None
    _last_accepted: float | None = None

    def started(self) -> None:
        """Its work is being mined from now on."""
        self._mining_since = self.clock()

    def stopped(self) -> None:
        """Its work is not being mined any more."""
        if self._mining_since is not None:
            self._mined_s += self.clock() - self._mining_since
            self._mining_since = None

    def answered(self, difficulty: float, rejection: Rejection | None, share: Share | None = None) -> None:
        """Count the answer to a share that was worth this difficulty."""
        if rejection is None:
            self.accepted += 1
            self.accepted_difficulty += difficulty
            self._last_accepted = self.clock()
            if share is not None:
                self.best_difficulty = max(self.best_difficulty, share.difficulty)
                self._meter.add(share.unit.job.share_target)
        elif rejection.code == STALE:
            self.stale += 1
            self.stale_difficulty += difficulty
        else:
            self.rejected[rejection.reason] += 1
            self.rejected_difficulty += difficulty

    def not_sent(self, difficulty: float) -> None:
        """A share came too late to be offered, or was never answered."""
        self.stale += 1
        self.stale_difficulty += difficulty

    def report(self, number: int = 0, priority: int = 0, enabled: bool = True, active: bool = False) -> PoolReport:
        """The counters now, and the pool's place in the list."""
        now = self.clock()
        mined_s = self._mined_s + (now - self._mining_since if self._mining_since is not None else 0.0)
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
            number=number,
            priority=priority,
            enabled=enabled,
            active=active,
            url=self.address.url,
            jobs=self.jobs,
            rejected_difficulty=self.rejected_difficulty,
            stale_difficulty=self.stale_difficulty,
            best_difficulty=self.best_difficulty,
            last_share_age_s=None if self._last_accepted is None else now - self._last_accepted,
            estimate=self._meter.estimate(mined_s),
        )
