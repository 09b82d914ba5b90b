"""A mining run: source, scheduler and display put together, from start to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec

from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex
from miner.device import HashDevice
from miner.scheduler import Scheduler
from miner.screen import Display
from miner.share import Finding, Share
from miner.telemetry import Report, Telemetry
from miner.work.job import Job
from miner.work.source import SourceFactory, Submission

P = ParamSpec("P")

_SHARE_QUEUE = 1000  #: blocks and shares waiting for submission; only an instant network comes near


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningOptions:
    """What a run needs. `source`: makes where work comes from; `max_blocks`: stop after that many accepted; `pace_s`:
    least time between two blocks of a node (a pool sets its own)."""

    source: SourceFactory
    max_blocks: int | None = None
    pace_s: float = 0.0


async def run_miner(options: MiningOptions, devices: Sequence[HashDevice], display: Display) -> Report:
    """Mine until interrupted or done; the final counts. Raises UserError for what waiting cannot mend."""
    return await _Run(options, devices, display).run()


class _Run:
    def __init__(self, options: MiningOptions, devices: Sequence[HashDevice], display: Display) -> None:
        self._options = options
        self._display = display
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._failure: str | None = None
        self._shares: asyncio.Queue[Share] = asyncio.Queue(_SHARE_QUEUE)
        self._telemetry = Telemetry(devices)
        self._scheduler = Scheduler(
            devices,
            self._telemetry,
            self._from_thread(self._take_share),
            self._from_thread(self._device_failed),
            self._from_thread(self._device_warned),
        )
        self._source = options.source(on_job=self._take_job, on_message=display.message)
        self._telemetry.pools = self._source.pools
        self._source.hash_rate = self._telemetry.rate
        self._blocks = 0  # accepted
        self._reasons_said: set[str | None] = set()
        self._in_submission: set[bytes] = set()  # parents of blocks that the node has not answered yet
        self._next_start = 0.0  # when the pace allows the next job
        self._held_job: asyncio.TimerHandle | None = None

    async def run(self) -> Report:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop.set)
        self._scheduler.start()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._source.run()),
                    *(group.create_task(self._submit_shares()) for _ in range(self._source.parallel_submissions)),
                    group.create_task(self._display.run(self._telemetry)),
                ]
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise _first_leaf(errors) from None
        finally:
            if self._held_job is not None:
                self._held_job.cancel()
            await asyncio.to_thread(self._scheduler.stop)
            await self._source.close()
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.remove_signal_handler(number)
        if self._failure is not None:
            raise UserError(self._failure)
        return self._telemetry.report()

    def _take_job(self, job: Job | None) -> None:
        """Hand the job to the devices, when the pace allows; a second block on one parent would only be stale."""
        if job is not None and job.prev_hash in self._in_submission:
            return
        if self._held_job is not None:
            self._held_job.cancel()
            self._held_job = None
        wait_s = self._next_start - time.monotonic()
        if job is not None and wait_s > 0:
            self._held_job = self._loop.call_later(wait_s, self._scheduler.set_job, job)
        else:
            self._scheduler.set_job(job)

    def _take_share(self, share: Share) -> None:
        """Queue what the source wants: blocks, and where a job has many solutions, shares. A block of a job that has
        only one holds up whatever would build on the same parent."""
        solo = share.unit.job.single_solution
        if solo and share.finding is not Finding.BLOCK:
            return
        if solo:
            self._next_start = time.monotonic() + self._options.pace_s
        if self._shares.full():
            if not solo:
                self._telemetry.rejected("found faster than they could be sent", share)
            return
        if solo:
            self._in_submission.add(share.unit.job.prev_hash)
        self._shares.put_nowait(share)

    async def _submit_shares(self) -> None:
        while not self._stop.is_set():
            share = await self._shares.get()
            answer = await self._source.submit(share)
            self._in_submission.discard(share.unit.job.prev_hash)
            self._take_answer(share, answer)
            if not (answer.accepted or answer.stale):
                await asyncio.sleep(0.5)  # a node that refuses everything must not be flooded
            if self._options.max_blocks is not None and self._blocks >= self._options.max_blocks:
                self._stop.set()
                return
            self._source.request_refresh(share.unit.job)

    def _take_answer(self, share: Share, answer: Submission) -> None:
        """Count it, and name every block; of shares the first that is refused for each reason."""
        if share.finding is Finding.BLOCK:
            what, which = f"block {share.unit.job.height}", hash_to_hex(share.hash)
        else:
            what, which = "share", f"difficulty {share.difficulty:.4g}"
        said = share.finding is not Finding.BLOCK and answer.reason in self._reasons_said
        self._reasons_said.add(answer.reason)
        if answer.accepted:
            self._telemetry.accepted(share)
            if share.finding is Finding.BLOCK:
                self._blocks += 1
                self._display.message(f"{what} accepted: {which}")
        elif answer.stale:
            self._telemetry.stale(share)
            if not said:
                self._display.message(f"{what} came too late ({answer.reason}): {which}")
        else:
            self._telemetry.rejected(answer.reason or "no reason given", share)
            if not said:
                self._display.message(f"{what} rejected ({answer.reason}): {which}")

    def _device_warned(self, device: HashDevice, text: str) -> None:
        self._display.message(f"{device.name} {text}")

    def _device_failed(self, device: HashDevice, reason: str, any_left: bool) -> None:
        self._display.message(f"{device.name} retired: {reason}")
        if not any_left:
            self._failure = f"no device left to mine with; the last, {device.name}, failed: {reason}"
            self._stop.set()

    def _from_thread(self, callback: Callable[P, None]) -> Callable[P, None]:
        """The callback, run on the event loop however the caller's thread comes by it."""

        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the interest
                self._loop.call_soon_threadsafe(functools.partial(callback, *args, **kwargs))

        return call


def _first_leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
