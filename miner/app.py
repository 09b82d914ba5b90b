"""A mining run: source, scheduler and display put together, from start to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec

from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex
from miner.api.service import ApiOptions, HttpOptions, Servers
from miner.cpu.idle import watch_idle
from miner.device import HashDevice
from miner.energy.monitor import EnergyMonitor, EnergyOptions
from miner.scheduler import Scheduler
from miner.screen import Display
from miner.share import Finding, Share
from miner.status import Status, StatusMonitor
from miner.telemetry import Telemetry
from miner.work.job import Job
from miner.work.source import PoolControl, SourceFactory, Submission

P = ParamSpec("P")

_GOODBYE_S = 0.2  # for the answer to `quit` to leave
_SHARE_QUEUE = 1000  #: blocks and shares waiting for submission; only an instant network comes near


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningOptions:
    """What a run needs. `source`: makes where work comes from; `max_blocks`: stop after that many accepted; `pace_s`:
    least time between two blocks of a node (a pool sets its own); `network`, `version`: as shown; `idle_load`: percent
    of the processor that others may use before its cores rest, None: they never do."""

    source: SourceFactory
    max_blocks: int | None = None
    pace_s: float = 0.0
    network: str = ""
    version: str = ""
    energy: EnergyOptions = field(default_factory=EnergyOptions)
    http: HttpOptions | None = None
    api: ApiOptions | None = None
    idle_load: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stood at its end, and whether it was asked to start anew."""

    status: Status
    restart: bool


async def run_miner(options: MiningOptions, devices: Sequence[HashDevice], display: Display) -> Outcome:
    """Mine until interrupted or done. Raises UserError for what waiting cannot mend, before anything has started where
    a port is in use."""
    servers = Servers(options.http, options.api)
    try:
        return await _Run(options, devices, display, servers).run()
    finally:
        await servers.close()


class _Run:
    def __init__(
        self, options: MiningOptions, devices: Sequence[HashDevice], display: Display, servers: Servers
    ) -> None:
        self._options = options
        self._display = display
        self._servers = servers
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._failure: str | None = None
        self._output_failure: OSError | None = None
        self._shares: asyncio.Queue[Share] = asyncio.Queue(_SHARE_QUEUE)
        self._telemetry = Telemetry(devices)
        self._scheduler = Scheduler(
            devices,
            self._telemetry,
            self._from_thread(self._take_share),
            self._from_thread(self._device_failed),
            self._from_thread(self._device_warned),
        )
        self._source = options.source(on_job=self._take_job, on_message=self._say)
        self._telemetry.pools = self._source.pools
        self._source.hash_rate = self._telemetry.rate
        self._blocks = 0  # accepted
        self._reasons_said: set[str | None] = set()
        self._in_submission: set[bytes] = set()  # parents of blocks that the node has not answered yet
        self._next_start = 0.0  # when the pace allows the next job
        self._held_job: asyncio.TimerHandle | None = None
        self._restart = False
        self._pauses: dict[str, set[str]] = {}  # by device: who wants it paused
        self._monitor = StatusMonitor(
            self._telemetry,
            EnergyMonitor(options.energy),
            network=options.network,
            version=options.version,
            node=lambda: getattr(self._source, "node", None),  # pools have their own reports
        )

    async def run(self) -> Outcome:
        for number in _ending_signals():
            self._loop.add_signal_handler(number, self._stop.set)
        await self._servers.start(self._monitor, self, self._say)
        self._scheduler.start()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._source.run()),
                    *(group.create_task(self._submit_shares()) for _ in range(self._source.parallel_submissions)),
                    group.create_task(self._display.run(self._monitor)),
                    group.create_task(self._monitor.run()),
                ]
                if self._options.idle_load is not None:
                    tasks.append(group.create_task(watch_idle(self._options.idle_load, self._rest)))
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise _first_leaf(errors) from None
        finally:
            if self._held_job is not None:
                self._held_job.cancel()
            await self._servers.close()
            await asyncio.to_thread(self._scheduler.stop)
            await self._source.close()  # a second Ctrl-C changes nothing: the handlers stay as long as the loop
            signal.set_wakeup_fd(-1)  # the loop closes it before it takes the handlers away: Ctrl-C between is an error
            for number in _ending_signals():
                signal.signal(number, signal.SIG_IGN)
        if self._output_failure is not None:
            raise self._output_failure
        if self._failure is not None:
            raise UserError(self._failure)
        return Outcome(self._monitor.status(), self._restart)

    # --- what the outside may ask for (RunControl) ---

    @property
    def pools(self) -> PoolControl | None:
        """How to change the pools; None where work comes from nodes."""
        return self._source.pool_control

    def pause_device(self, name: str) -> None:
        """No work for this device until it is resumed."""
        self._pause(name, "user")
        self._say(f"{name} paused")

    def resume_device(self, name: str) -> None:
        """Work again for it, unless it rests for another reason."""
        self._resume(name, "user")
        self._say(f"{name} resumed")

    def quit(self) -> None:
        """End the run as Ctrl-C does, when whoever asked has the answer."""
        self._loop.call_later(_GOODBYE_S, self._stop.set)

    def restart(self) -> None:
        """End the run and start the program anew."""
        self._restart = True
        self.quit()

    def _pause(self, name: str, who: str) -> None:
        self._pauses.setdefault(name, set()).add(who)
        self._scheduler.pause(name)

    def _resume(self, name: str, who: str) -> None:
        reasons = self._pauses.setdefault(name, set())
        reasons.discard(who)
        if not reasons:
            self._scheduler.resume(name)

    def _rest(self, reason: str | None) -> None:
        """Idle mode: the processor's cores rest, or go on."""
        self._monitor.idle = reason
        for device in self._scheduler.devices:
            if device.kind != "cpu":
                continue
            if reason is not None:
                self._pause(device.name, "idle")
            elif "idle" in self._pauses.get(device.name, ()):
                self._resume(device.name, "idle")
        self._say("the processor is left alone again: mining goes on" if reason is None else f"resting: {reason}")

    # --- the course of work ---

    def _say(self, text: str) -> None:
        self._monitor.message(text)
        try:
            self._display.message(text)
        except OSError as error:  # the reader has left, the disk is full: a callback's caller would only log it
            self._output_failure = self._output_failure or error
            self._stop.set()

    def _take_job(self, job: Job | None) -> None:
        """Hand the job to the devices, when the pace allows; a second block on one parent would only be stale."""
        self._monitor.new_job(job)
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
            height = share.unit.job.height  # 0 where the pool does not tell
            what, which = f"block {height}" if height else "a block", hash_to_hex(share.hash)
        else:
            what, which = "share", f"difficulty {share.difficulty:.4g}"
        said = share.finding is not Finding.BLOCK and answer.reason in self._reasons_said
        self._reasons_said.add(answer.reason)
        if answer.accepted:
            self._telemetry.accepted(share)
            if share.finding is Finding.BLOCK:
                self._blocks += 1
                self._say(f"{what} accepted: {which}")
        elif answer.stale:
            self._telemetry.stale(share)
            if not said:
                self._say(f"{what} came too late ({answer.reason}): {which}")
        else:
            self._telemetry.rejected(answer.reason or "no reason given", share)
            if not said:
                self._say(f"{what} rejected ({answer.reason}): {which}")

    def _device_warned(self, device: HashDevice, text: str) -> None:
        self._say(f"{device.name} {text}")

    def _device_failed(self, device: HashDevice, reason: str, any_left: bool) -> None:
        self._say(f"{device.name} retired: {reason}")
        if not any_left:
            self._failure = f"no device left to mine with; the last, {device.name}, failed: {reason}"
            self._stop.set()

    def _from_thread(self, callback: Callable[P, None]) -> Callable[P, None]:
        """The callback, run on the event loop however the caller's thread comes by it."""

        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the interest
                self._loop.call_soon_threadsafe(functools.partial(callback, *args, **kwargs))

        return call


def _ending_signals() -> list[signal.Signals]:
    """Those that end a run as Ctrl-C does. A terminal that is closed hangs up: boards are to be switched off then too,
    unless the run was started to outlive it (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def _first_leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
