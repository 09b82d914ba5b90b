"""What every source of work is to a mining run: a node with templates, or a pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

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
    accepted shares, which is what pools pay for. `rejected`: the pool's refusals by reason, stale ones apart.
    `duplicates` were found twice and never went out. `malformed` counts messages that are not Stratum, or absurd;
    `bad_jobs` work that could not be mined (impossible, or of another network).
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


class WorkSource(Protocol):
    """Keeps the newest job of wherever work comes from, and takes what was found.

    Made by a SourceFactory with `on_job(job)`: mine this instead of whatever was mined before, None: stop, there is no
    valid work; and `on_message(text)`: one line for the user, each only when something changes.
    """

    parallel_submissions: int  #: how many may usefully wait for an answer at once

    async def run(self) -> None:
        """Fetch and publish work until cancelled. Raises UserError for what waiting cannot mend."""

    async def submit(self, share: Share) -> Submission:
        """Offer a block, or a share where shares count; returns when there is an answer or none can come."""

    def request_refresh(self, solved: Job) -> None:
        """This job is solved: newer work is wanted."""

    def pools(self) -> list[PoolReport]:
        """What each pool has said so far; empty where work comes from nodes."""

    async def close(self) -> None:
        """Drop all connections."""


class SourceFactory(Protocol):
    """Makes the source of a run."""

    def __call__(self, *, on_job: Callable[[Job | None], None], on_message: Callable[[str], None]) -> WorkSource: ...
