"""Work from the first pool that has some: failover in order, and back to the first when it returns."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from chain.primitives.errors import UserError
from miner.share import Share
from miner.work.job import Job
from miner.work.source import PoolControl, PoolReport, Submission
from miner.work.stratum.account import PoolAccount
from miner.work.stratum.address import PoolAddress
from miner.work.stratum.client import ClientOptions
from miner.work.stratum.session import PoolFailure, Session, StratumOrigin

RETURN_S = 60.0  #: how often the pools before the one in use are tried again
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_IN_FLIGHT = 32
_MAX_HOPS = 3
_PATIENCE_S = 5.0  # a pool that wants us back later than this is no use now, where there are others
_HEARD_KEPT = 50


class StratumSource:
    """A WorkSource over pools in the order of preference.

    `options_for(pool)`: what to ask of each. `may_redirect`: follow client.reconnect to other hosts.
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
        self._pools = list(pools)
        self._options_for = options_for
        self._on_job = on_job
        self._on_message = on_message
        if tls is None and any(pool.tls for pool in pools):
            tls = ssl.create_default_context()
        self._tls = tls
        self._may_redirect = may_redirect
        self._accounts = [PoolAccount(pool) for pool in pools]
        self._redirects: dict[int, PoolAddress] = {}  # where the next connection of a pool goes
        self._hops: Counter[int] = Counter()  # redirects in a row without use: a pool may send us in a circle
        self._plain: set[int] = set()  # pools that hang up on mining.configure
        self._refused: set[int] = set()
        self._ever_worked = False
        self._active: Session | None = None
        self._last_message: dict[str, str] = {}
        self._heard: dict[PoolAddress, deque[str]] = {}

    @property
    def pool(self) -> str | None:
        """The pool in use, None between pools."""
        return None if self._active is None else self._active.address.name

    async def run(self) -> NoReturn:
        """Keep mining at the best pool that answers, until cancelled. Raises UserError when no pool wants us."""
        index = failures = 0
        while True:
            task, session = self._begin(index)
            try:
                ready = await _ready_or_ended(task, session)
                if ready:
                    index, task, session = await self._mine(index, task, session)
                failure = task.result()
            finally:
                await _cancel(task)
            self._deactivate(session)
            self._take_failure(index, session, failure)
            failures = 1 if session.useful else failures + 1
            not_now = failure.wait_s > _PATIENCE_S and len(self._pools) > 1
            if not_now or not (session.useful or index in self._redirects):
                index = (index + 1) % len(self._pools)
            elif index not in self._redirects:
                index = 0
            pause_s = max(
                self._pause_after(failures),
                _BACKOFF_S[0] if session.useful else 0.0,
                0.0 if not_now else failure.wait_s,
            )
            following = self._accounts[index].address.name
            self._say(session, f"{failure}; trying {'again' if len(self._pools) == 1 else following} in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def submit(self, share: Share) -> Submission:
        """Offer a share to the pool whose work it is of."""
        origin: StratumOrigin = share.unit.job.origin
        return await origin.session.submit(share, origin.work)

    def request_refresh(self, solved: Job) -> None:
        """A pool sends its next job by itself."""

    @property
    def pool_control(self) -> PoolControl | None:
        """The order of pools is as it was at the start."""
        return None

    def pools(self) -> list[PoolReport]:
        """Every pool's counters, in the order of preference."""
        return [account.report() for account in self._accounts]

    async def close(self) -> None:
        """`run` closes what it opened when it is cancelled."""

    def _begin(self, index: int) -> tuple[asyncio.Task[PoolFailure], Session]:
        address = self._redirects.pop(index, self._pools[index])
        account = self._accounts[index]
        if account.state == "not tried yet":
            account.state = "connecting"
        session = Session(
            address,
            account,
            self._options_for(self._pools[index]),
            on_job=self._take_job,
            on_message=functools.partial(self._relay, account),
            tls=self._tls,
            configure=index not in self._plain,
            may_redirect=self._may_redirect,
        )
        return asyncio.create_task(session.run()), session

    async def _mine(
        self, index: int, task: asyncio.Task[PoolFailure], session: Session
    ) -> tuple[int, asyncio.Task[PoolFailure], Session]:
        """Mine in this session, or one of a better pool as soon as there is one; the one that ended."""
        self._activate(session)
        try:
            while not task.done():
                if index == 0:
                    await asyncio.wait({task})
                    break
                await asyncio.wait({task}, timeout=RETURN_S)
                better = None if task.done() else await self._better_than(index)
                if better is not None:
                    await _cancel(task)
                    session.account.state = "spare"
                    index, task, session = better
                    self._activate(session)
        except BaseException:
            await _cancel(task)
            raise
        return index, task, session

    async def _better_than(self, index: int) -> tuple[int, asyncio.Task[PoolFailure], Session] | None:
        """The first of the pools before this one that has work again."""
        for number in range(index):
            task, session = self._begin(number)
            try:
                if await _ready_or_ended(task, session):
                    return number, task, session
            except BaseException:
                await _cancel(task)
                raise
            self._accounts[number].state = f"down: {task.result()}"
        return None

    def _activate(self, session: Session) -> None:
        self._active = session
        self._ever_worked = True
        self._last_message.clear()
        session.account.state = "mining"
        self._on_message(f"mining at pool {session.address.name} as {session.address.user}")
        self._on_job(session.job)

    def _deactivate(self, session: Session) -> None:
        """Without its connection a job is worth nothing: jobs are not known to the next one."""
        if self._active is session:
            self._active = None
            self._on_job(None)

    def _take_job(self, session: Session, job: Job) -> None:
        if session is self._active:
            self._on_job(job)

    def _take_failure(self, index: int, session: Session, failure: PoolFailure) -> None:
        """Note what an ended session teaches about its pool."""
        session.account.state = f"down: {failure}"
        if not session.subscribed and session.account.connections and not failure.refused:
            self._plain ^= {index}  # perhaps mining.configure was too much for it; the time after, perhaps not
        if session.useful:
            self._hops[index] = 0
        if failure.redirect is not None:
            self._hops[index] += 1
            if self._hops[index] <= _MAX_HOPS:
                self._redirects[index] = failure.redirect
        if failure.refused:
            self._refused.add(index)
            if len(self._refused) == len(self._pools) and not self._ever_worked:
                raise UserError(f"pool {session.address.name} {failure}: check --user and --password")

    def _pause_after(self, failures: int) -> float:
        """None at all while there are pools that were not tried in this round, then longer after every round."""
        rounds, rest = divmod(failures, len(self._pools))
        return 0.0 if rest else _BACKOFF_S[min(rounds - 1, len(_BACKOFF_S) - 1)]

    def _relay(self, account: PoolAccount, text: str) -> None:
        """What a pool's connection has to say, but of one that only tries again nothing twice."""
        heard = self._heard.setdefault(account.address, deque(maxlen=_HEARD_KEPT))
        active = self._active is not None and self._active.account is account
        if active or text not in heard:
            heard.append(text)
            self._on_message(text)

    def _say(self, session: Session, text: str) -> None:
        """Pass a failure on unless the pool only repeats its last one."""
        key = text.split(";")[0]
        if self._last_message.get(session.address.name) != key:
            self._last_message[session.address.name] = key
            self._on_message(f"pool {session.address.name}: {text}")


async def _ready_or_ended(task: asyncio.Task[PoolFailure], session: Session) -> bool:
    """Wait until the session has work (True) or has ended."""
    ready = asyncio.create_task(session.ready.wait())
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    return session.ready.is_set() and not task.done()


async def _cancel(task: asyncio.Task[PoolFailure]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
