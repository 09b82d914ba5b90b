"""What every source of work is to a mining run: a node with templates, or a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from miner.hashrate import RateEstimate
from miner.share import Share
from miner.work.job import Job


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to a block or share. `reason`: the word for the refusal, None when accepted."""

    accepted: bool
    stale: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """One line of the pool table.

    `difficulty`: what the pool asks of a share now, None before it said so; `accepted_difficulty`: the sum over its
    accepted shares, which is what pools pay for, and so for the other two. `rejected`: the pool's refusals by reason,
    stale ones apart. `duplicates` were found twice and never went out. `malformed` counts messages that are not
    Stratum, or absurd; `bad_jobs` work that could not be mined (impossible, or of another network).

    `number` names the pool to PoolControl and never changes; `priority` is its place in the order, 0 the first;
    `active`: its work is being mined. `url` has no secrets. `jobs`: how often it sent work; `estimate`: our hash rate
    as its accepted shares show it; `last_share_age_s`: since it accepted one; `share_interval_s`: how long a share
    takes on average at our rate, None where that is not known, or nothing is mined there.
    """

    name: str
    user: str
    state: str
    difficulty: float | None
    accepted: int
    accepted_difficulty: float
    stale: int
    duplicates: int
    malformed: int
    bad_jobs: int
    connections: int
    rejected: dict[str, int] = field(default_factory=dict)
    number: int = 0
    priority: int = 0
    enabled: bool = True
    active: bool = False
    url: str = ""
    jobs: int = 0
    rejected_difficulty: float = 0.0
    stale_difficulty: float = 0.0
    best_difficulty: float = 0.0
    last_share_age_s: float | None = None
    share_interval_s: float | None = None
    estimate: RateEstimate | None = None


class PoolControl(Protocol):
    """Changes to a run's pools while it mines, all on the event loop; they take effect at once and return without
    waiting. Pools go by PoolReport.number. UserError, one line, for what cannot be done."""

    def switch_pool(self, number: int) -> None:
        """Put this pool first, enabled, and mine there as soon as it has work."""

    def enable_pool(self, number: int) -> None:
        """Use it again in its turn."""

    def disable_pool(self, number: int) -> None:
        """Use it no more; refused for the last one enabled."""

    def add_pool(self, url: str, user: str | None, password: str | None) -> int:
        """One more at the end of the order; its number."""

    def remove_pool(self, number: int) -> None:
        """Forget it; refused for the last one enabled."""

    def order_pools(self, numbers: Sequence[int]) -> None:
        """These first, in this order, then the others as they are."""


class WorkSource(Protocol):
    """Keeps the newest job of wherever work comes from, and takes what was found.

    Made by a SourceFactory with `on_job(job)`: mine this instead of whatever was mined before, None: stop, there is no
    valid work; and `on_message(text)`: one line for the user, each only when something changes.
    """

    parallel_submissions: int  #: how many may usefully wait for an answer at once
    hash_rate: Callable[[], float]  #: ours, for pools that want to know it; set by the run, 0 where not known yet

    async def run(self) -> None:
        """Fetch and publish work until cancelled. Raises UserError for what waiting cannot mend."""

    async def submit(self, share: Share) -> Submission:
        """Offer a block, or a share where shares count; returns when there is an answer or none can come."""

    def request_refresh(self, solved: Job) -> None:
        """This job is solved: newer work is wanted."""

    @property
    def pool_control(self) -> PoolControl | None:
        """How to change the pools while mining; None where work comes from nodes."""

    def pools(self) -> list[PoolReport]:
        """What each pool has said so far; empty where work comes from nodes."""

    async def close(self) -> None:
        """Drop all connections."""


class SourceFactory(Protocol):
    """Makes the source of a run."""

    def __call__(self, *, on_job: Callable[[Job | None], None], on_message: Callable[[str], None]) -> WorkSource: ...
