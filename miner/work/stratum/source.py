"""Work from the first pool that has some: failover in order, and back to the first when it returns. Pools of Stratum V1
and V2 stand in one list, which may change while mining."""

from __future__ import annotations

import asyncio
import functools
import itertools
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from chain.primitives.errors import UserError
from miner.energy.outlook import format_span
from miner.hashrate import WINDOW_S, format_rate
from miner.share import Share, difficulty_of_target
from miner.work.job import Job
from miner.work.rpc import sleep_or_event
from miner.work.source import PoolControl, PoolReport, Submission
from miner.work.stratum.account import PoolAccount
from miner.work.stratum.address import PoolAddress, parse_pool_url
from miner.work.stratum.client import ClientOptions, StratumClient
from miner.work.stratum.session import PoolClient, PoolFailure, Session, StratumOrigin
from miner.work.stratum_v2.client import StratumV2Client

SETTLE_S = 3.0  #: a pool that is left for a better one may still answer its last shares for this long
_LINGER_S = 0.2  # and takes those that were found before the change
RETURN_S = 60.0  #: how often the pools before the one in use are tried again
SHUN_S = 600.0  #: how long a pool that took none of our shares, or had no new work, comes after all others
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
#: Shares that may wait for an answer at once: pools of Stratum V2 answer in batches, and a batch must fit.
_IN_FLIGHT = 512
_MAX_HOPS = 3
_PATIENCE_S = 5.0  # a pool that wants us back later than this is no use now, where there are others
_HEARD_KEPT = 50
LONG_SHARE_S = 3600.0  #: shares that take longer are remarked upon: many pools take us for gone meanwhile
_LOOK_S = 10.0  # how often that is looked at


@dataclass(slots=True, eq=False)
class _Pool:
    """One entry of the list, and what is remembered of it from connection to connection."""

    number: int
    address: PoolAddress
    account: PoolAccount
    enabled: bool = True
    redirect: PoolAddress | None = None  # where its next connection goes
    hops: int = 0  # redirects in a row without use: a pool may send us in a circle
    plain: bool = False  # it hangs up on mining.configure
    refused: bool = False
    shunned_until: float = 0.0  # by the loop's clock
    stuck_at: bytes | None = None  # the previous block of the work that it sent for ever
    heard: deque[str] = field(default_factory=lambda: deque(maxlen=_HEARD_KEPT))

    def forgive(self) -> None:
        """It is wanted, whatever it did."""
        self.refused, self.shunned_until, self.stuck_at = False, 0.0, None


class StratumSource:
    """A WorkSource and PoolControl over pools in the order of preference.

    `options_for(pool)`: what to ask of each. `may_redirect`: follow client.reconnect to other hosts. `hash_rate`: ours,
    for pools that want to know it; may be set later.
    """

    parallel_submissions = _IN_FLIGHT

    def __init__(
        self,
        pools: Sequence[PoolAddress],
        options_for: Callable[[PoolAddress], ClientOptions],
        *,
        on_job: Callable[[Job | None], None],
        on_message: Callable[[str], None],
        tls: ssl.SSLContext | None = None,
        may_redirect: bool = False,
    ) -> None:
        if not pools:
            raise UserError("there is no pool to mine at")
        self._numbers = itertools.count()
        self._pools = [_Pool(next(self._numbers), pool, PoolAccount(pool)) for pool in pools]  # in the order of use
        self._options_for = options_for
        self._on_job = on_job
        self._on_message = on_message
        self._tls = tls
        self._may_redirect = may_redirect
        self.hash_rate: Callable[[], float] = float
        self._ever_worked = False
        self._active: Session | None = None
        self._active_since = 0.0  # by the loop's clock
        self._last_message: dict[str, str] = {}
        self._changed = asyncio.Event()  # the list has
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def pool(self) -> str | None:
        """The pool in use, None between pools."""
        return None if self._active is None else self._active.address.name

    @property
    def pool_control(self) -> PoolControl | None:
        """This source is."""
        return self

    async def run(self) -> NoReturn:
        """Keep mining at the best pool that answers, until cancelled. Raises UserError when no pool wants us."""
        watch = asyncio.create_task(self._watch_difficulty())
        try:
            await self._run()
        finally:
            watch.cancel()
            for leaving in self._leaving:
                leaving.cancel()
            await asyncio.gather(watch, *self._leaving, return_exceptions=True)

    async def _run(self) -> NoReturn:
        pool, failures = self._usable()[0], 0
        while True:
            task, session = self._begin(pool)
            failure: PoolFailure | None = None
            try:
                if await self._ready(task, session):
                    pool, task, session = await self._mine(pool, task, session)
            except BaseException:
                await _cancel(task)
                raise
            if task.done():
                failure = task.result()
            else:
                self._leave(task, session)
            self._deactivate(session)
            if failure is None:  # the list was changed under it
                pool.account.state = "spare" if pool.enabled else "disabled"
                pool, failures = self._usable()[0], 0
                self._changed.clear()
                continue
            self._take_failure(pool, session, failure)
            useful = session.useful and not failure.useless
            failures = 1 if useful else failures + 1
            usable = self._usable()
            not_now = failure.wait_s > _PATIENCE_S and len(usable) > 1
            pause_s = max(
                self._pause_after(failures, len(usable)),
                _BACKOFF_S[0] if useful else 0.0,
                0.0 if not_now else failure.wait_s,
            )
            following = self._following(pool, usable, not_now or not (useful or pool.redirect is not None))
            again = "again" if following is pool else following.address.name
            self._say(session, f"{failure}; trying {again} in {pause_s:g} s")
            pool = following
            if await sleep_or_event(self._changed, pause_s):
                self._changed.clear()
                pool, failures = self._usable()[0], 0

    async def submit(self, share: Share) -> Submission:
        """Offer a share to the pool whose work it is of."""
        origin: StratumOrigin = share.unit.job.origin
        return await origin.session.submit(share, origin.work)

    def request_refresh(self, solved: Job) -> None:
        """A pool sends its next job by itself."""

    def pools(self) -> list[PoolReport]:
        """Every pool's counters, in the order of preference."""
        active = None if self._active is None else self._active.account
        reports = [
            pool.account.report(number=pool.number, priority=place, enabled=pool.enabled, active=pool.account is active)
            for place, pool in enumerate(self._pools)
        ]
        interval_s = self._share_interval()
        return [replace(report, share_interval_s=interval_s) if report.active else report for report in reports]

    async def close(self) -> None:
        """`run` closes what it opened when it is cancelled."""

    # --- PoolControl ---

    def switch_pool(self, number: int) -> None:
        """See PoolControl."""
        pool = self._numbered(number)
        pool.enabled = True
        pool.forgive()
        self._put_first([pool])

    def enable_pool(self, number: int) -> None:
        """See PoolControl."""
        pool = self._numbered(number)
        if not pool.enabled:
            pool.enabled, pool.account.state = True, "spare"
            pool.forgive()
            self._changed.set()

    def disable_pool(self, number: int) -> None:
        """See PoolControl."""
        pool = self._numbered(number)
        if pool.enabled:
            self._refuse_to_end_with(pool)
            pool.enabled, pool.account.state = False, "disabled"
            self._changed.set()

    def add_pool(self, url: str, user: str | None, password: str | None) -> int:
        """See PoolControl."""
        address = parse_pool_url(url, user, password)
        pool = _Pool(next(self._numbers), address, PoolAccount(address))
        self._pools.append(pool)
        self._changed.set()
        return pool.number

    def remove_pool(self, number: int) -> None:
        """See PoolControl."""
        pool = self._numbered(number)
        if pool.enabled:
            self._refuse_to_end_with(pool)
        self._pools.remove(pool)
        self._changed.set()

    def order_pools(self, numbers: Sequence[int]) -> None:
        """See PoolControl."""
        if len(set(numbers)) != len(numbers):
            raise UserError("a pool is named twice in the order")
        self._put_first([self._numbered(number) for number in numbers])

    def _numbered(self, number: int) -> _Pool:
        for pool in self._pools:
            if pool.number == number:
                return pool
        raise UserError(f"there is no pool {number}")

    def _put_first(self, pools: list[_Pool]) -> None:
        self._pools = pools + [pool for pool in self._pools if pool not in pools]
        self._changed.set()

    def _refuse_to_end_with(self, pool: _Pool) -> None:
        if self._enabled() == [pool]:
            raise UserError(f"pool {pool.number}, {pool.address.name}, is the last one enabled")

    def _enabled(self) -> list[_Pool]:
        return [pool for pool in self._pools if pool.enabled]

    def _usable(self) -> list[_Pool]:
        """Those enabled, in the order in which they are to be tried."""
        now = asyncio.get_running_loop().time()
        return sorted(self._enabled(), key=lambda pool: pool.shunned_until > now)  # stable

    # --- sessions ---

    def _begin(self, pool: _Pool) -> tuple[asyncio.Task[PoolFailure], Session]:
        address, pool.redirect = pool.redirect or pool.address, None
        account = pool.account
        if account.state == "not tried yet":
            account.state = "connecting"
        if address.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        session = Session(
            address,
            account,
            self._client(pool, address),
            on_job=self._take_job,
            on_message=functools.partial(self._relay, pool),
            tls=self._tls,
            configure=not pool.plain,
            may_redirect=self._may_redirect,
        )
        return asyncio.create_task(session.run()), session

    def _client(self, pool: _Pool, address: PoolAddress) -> PoolClient:
        options, clock = self._options_for(pool.address), asyncio.get_running_loop().time
        if address.authority_key is None:
            return StratumClient(options, clock)
        return StratumV2Client(options, address, clock, hash_rate=lambda: self.hash_rate())

    async def _ready(self, task: asyncio.Task[PoolFailure], session: Session) -> bool:
        """Wait until the session has work (True), has ended, or the list of pools changes."""
        waits = [asyncio.create_task(session.ready.wait()), asyncio.create_task(self._changed.wait())]
        try:
            await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return session.ready.is_set() and not task.done()

    async def _mine(
        self, pool: _Pool, task: asyncio.Task[PoolFailure], session: Session
    ) -> tuple[_Pool, asyncio.Task[PoolFailure], Session]:
        """Mine in this session, or one of a better pool as soon as there is one; the one that ended, or that may not go
        on."""
        self._activate(session)
        try:
            while not task.done():
                self._changed.clear()
                usable = self._usable()
                if pool not in usable:
                    break
                change = asyncio.create_task(self._changed.wait())
                try:
                    timeout = None if pool is usable[0] is self._enabled()[0] else RETURN_S
                    await asyncio.wait({task, change}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    change.cancel()
                self._changed.clear()
                better = None if task.done() or pool not in self._usable() else await self._better_than(pool)
                if better is not None:
                    self._leave(task, session)
                    session.account.state = "spare"
                    pool, task, session = better
                    self._activate(session)
        except BaseException:
            await _cancel(task)
            raise
        return pool, task, session

    async def _better_than(self, pool: _Pool) -> tuple[_Pool, asyncio.Task[PoolFailure], Session] | None:
        """The first of the pools before this one that has work again."""
        usable = self._usable()
        for other in usable[: usable.index(pool)]:
            task, session = self._begin(other)
            try:
                if await self._ready(task, session):
                    if session.job is None or session.job.prev_hash != other.stuck_at:
                        return other, task, session
                    other.shunned_until = asyncio.get_running_loop().time() + SHUN_S
                    await _cancel(task)
                    continue
            except BaseException:
                await _cancel(task)
                raise
            if not task.done():  # the list has changed
                await _cancel(task)
                other.account.state = "spare" if other.enabled else "disabled"
                return None
            other.account.state = f"down: {task.result()}"
        return None

    def _leave(self, task: asyncio.Task[PoolFailure], session: Session) -> None:
        """End a session when it has heard the answers to its last shares."""

        async def settle() -> None:
            try:
                await asyncio.wait({task}, timeout=_LINGER_S)
                async with asyncio.timeout(SETTLE_S):
                    await session.settled()
            except TimeoutError:
                pass
            finally:
                await _cancel(task)

        leaving = asyncio.create_task(settle())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _activate(self, session: Session) -> None:
        if self._active is not None:
            self._active.account.stopped()
        self._active, self._active_since = session, asyncio.get_running_loop().time()
        self._ever_worked = True
        self._last_message.clear()
        session.account.state = "mining"
        session.account.started()
        self._on_message(f"mining at pool {session.address.name} as {session.address.user}")
        self._on_job(session.job)

    def _deactivate(self, session: Session) -> None:
        """Without its connection a job is worth nothing: jobs are not known to the next one."""
        if self._active is session:
            session.account.stopped()
            self._active = None
            self._on_job(None)

    def _take_job(self, session: Session, job: Job) -> None:
        if session is self._active:
            self._on_job(job)

    def _share_interval(self) -> float | None:
        """Seconds between two shares of the pool in use, on average; None while our rate is not known."""
        job = None if self._active is None else self._active.job
        rate = self.hash_rate()
        return None if job is None or rate <= 0 else (1 << 256) / (job.share_target + 1) / rate

    async def _watch_difficulty(self) -> NoReturn:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._active is not None and asyncio.get_running_loop().time() - self._active_since >= WINDOW_S:
                self._remark_on_difficulty(self._active)

    def _remark_on_difficulty(self, session: Session) -> None:
        """Say once, until shares get easier, that the pool in use asks for what hardly ever comes."""
        interval_s, account = self._share_interval(), session.account
        if interval_s is None or session.job is None:
            return
        if interval_s <= LONG_SHARE_S:
            account.slow = False
        elif not account.slow:
            account.slow = True
            difficulty = difficulty_of_target(session.job.share_target)
            ours = account.difficulty is not None and difficulty > 1.001 * account.difficulty
            if ours:
                advice = "--min-difficulty asks for that"
            elif session.address.authority_key is not None:  # V2 pools choose it by our hash rate, which they are told
                advice = "the pool may have a port for smaller miners"
            else:
                advice = "--suggest-difficulty asks for easier ones, and the pool may have a port for smaller miners"
            self._on_message(
                f"pool {session.address.name}: a share of difficulty {difficulty:.4g} takes {format_span(interval_s)}"
                f" on average at {format_rate(self.hash_rate())}; {advice}"
            )

    def _take_failure(self, pool: _Pool, session: Session, failure: PoolFailure) -> None:
        """Note what an ended session teaches about its pool."""
        if pool.enabled:
            session.account.state = f"down: {failure}"
        if not session.subscribed and session.account.connections and not failure.refused:
            pool.plain = not pool.plain  # perhaps mining.configure was too much for it; the time after, perhaps not
        if session.useful:
            pool.hops = 0
        if failure.redirect is not None:
            pool.hops += 1
            if pool.hops <= _MAX_HOPS:
                pool.redirect = failure.redirect
        if failure.useless:
            pool.shunned_until = asyncio.get_running_loop().time() + SHUN_S
            pool.stuck_at = failure.stuck_at
        if failure.refused:
            pool.refused = True
            if all(each.refused for each in self._usable()) and not self._ever_worked:
                raise UserError(f"pool {session.address.name} {failure}: check --user and --password")

    def _following(self, pool: _Pool, usable: list[_Pool], move_on: bool) -> _Pool:
        """The pool to try after this one: the next in turn, itself where it sends us elsewhere, else the first."""
        if pool not in usable:
            return usable[0]
        if move_on:
            return usable[(usable.index(pool) + 1) % len(usable)]
        return pool if pool.redirect is not None else usable[0]

    def _pause_after(self, failures: int, pools: int) -> float:
        """None at all while there are pools that were not tried in this round, then longer after every round."""
        rounds, rest = divmod(failures, pools)
        return 0.0 if rest else _BACKOFF_S[min(max(rounds, 1) - 1, len(_BACKOFF_S) - 1)]

    def _relay(self, pool: _Pool, text: str) -> None:
        """What a pool's connection has to say, but of one that only tries again nothing twice."""
        active = self._active is not None and self._active.account is pool.account
        if active or text not in pool.heard:
            pool.heard.append(text)
            self._on_message(text)

    def _say(self, session: Session, text: str) -> None:
        """Pass a failure on unless the pool only repeats its last one."""
        key = text.split(";")[0]
        if self._last_message.get(session.address.name) != key:
            self._last_message[session.address.name] = key
            self._on_message(f"pool {session.address.name}: {text}")


async def _cancel(task: asyncio.Task[PoolFailure]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
