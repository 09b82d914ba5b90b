"""One connection to a pool: sockets and time around the client of either version."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from miner.share import Share
from miner.work.job import Job
from miner.work.source import Submission
from miner.work.stratum.account import PoolAccount
from miner.work.stratum.address import PoolAddress
from miner.work.stratum.client import (
    Authorized,
    Closed,
    Complaint,
    DifficultySet,
    Event,
    NewWork,
    Notice,
    PoolWork,
    Reconnect,
    ShareAnswer,
    Step,
    Trouble,
    Unsent,
)
from miner.work.stratum.messages import NOT_SUBSCRIBED, STALE, UNAUTHORIZED

CONNECT_TIMEOUT_S = 15.0
FIRST_JOB_TIMEOUT_S = 45.0  #: from the connection to the first job
SILENCE_S = 300.0  #: pools send work at least every minute or two; one that is silent for longer is gone
SILENCE_V2_S = 900.0  #: without pings, and with a new job only where there is reason for one
#: Pools send a new time and new transactions every minute or so, whatever the network does: one that answers and sends
#: nothing new for longer has lost its node, and its shares may be for a block that was found long ago.
NEWS_S = 1800.0
_WRITE_TIMEOUT_S = 15.0
MOST_REFUSED = 30  #: shares in a row, late ones apart: work that is paid by nobody can be done elsewhere
_USEFUL_S = 60.0
_TICK_S = 1.0
_READ_BYTES = 1 << 16
_MAX_UNSENT_BYTES = 1 << 20  # a pool that takes no data any more
_NOTICES = 10  # messages shown per connection
_PREFIX_BYTES = 2  # of extranonce2, where it has room: see build_job


class PoolFailure(Exception):
    """A connection came to its end, or to nothing; one clause saying why.

    `refused`: the pool does not want this worker. `useless`: it gives work and takes none, or the same for ever: then
    `stuck_at` is the previous block of that. `redirect`: it wants us there, after `wait_s`.
    """

    def __init__(
        self,
        reason: str,
        *,
        refused: bool = False,
        useless: bool = False,
        stuck_at: bytes | None = None,
        redirect: PoolAddress | None = None,
        wait_s: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.useless = useless
        self.stuck_at = stuck_at
        self.redirect = redirect
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class StratumOrigin:
    """Where a job comes from: its shares go back there."""

    session: Session
    work: PoolWork


class PoolClient(Protocol):
    """A StratumClient or a StratumV2Client."""

    step: Step

    def start(self, configure: bool = True) -> None: ...
    def receive_data(self, data: bytes) -> list[Event]: ...
    def data_to_send(self) -> bytes: ...
    def next_deadline(self) -> float | None: ...
    def check_timeouts(self) -> list[Event]: ...
    def submit(self, work: Any, extranonce2: bytes, time: int, nonce: int, version: int) -> int | Unsent: ...
    def goodbye(self) -> None: ...


class Session:
    """A connection, from `run` to its end.

    `on_job(session, job)` is called with each new job, `on_message(text)` with what the user should know.
    """

    def __init__(
        self,
        address: PoolAddress,
        account: PoolAccount,
        client: PoolClient,
        *,
        on_job: Callable[[Session, Job], None],
        on_message: Callable[[str], None],
        tls: ssl.SSLContext | None,
        configure: bool = True,
        may_redirect: bool = False,
    ) -> None:
        self.address = address
        self.account = account
        self.job: Job | None = None
        self.ready = asyncio.Event()  #: authorized, and there is work
        self.useful = False  #: it has taken a share, or given work for a while: its end is no sign of a bad pool
        self.subscribed = False
        self._on_job = on_job
        self._on_message = on_message
        self._tls = tls
        self._configure = configure
        self._may_redirect = may_redirect
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._silence_s = SILENCE_S if address.authority_key is None else SILENCE_V2_S
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, tuple[asyncio.Future[Submission], float, Share]] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self._refused = 0  # shares in a row
        self._published = 0
        self._news_at = 0.0  # when it last sent work that it had not sent before
        self._notices = 0
        self._said: set[str] = set()  # complaints that the user has seen

    async def run(self) -> PoolFailure:
        """Connect and serve until the connection ends; why it did."""
        try:
            await self._serve()
        except PoolFailure as failure:
            return failure
        finally:
            self._end()

    async def submit(self, share: Share, work: PoolWork) -> Submission:
        """Offer a share of this session's work and wait for the answer."""
        job, unit = share.unit.job, share.unit
        extranonce2 = job.extranonce(unit.extranonce2)[len(work.extranonce1) :]
        if self._writer is None:
            self.account.not_sent(work.difficulty)
            return Submission(False, True, "the connection that it was for is gone")
        sent = self._client.submit(work, extranonce2, unit.time, share.candidate.nonce, share.candidate.version)
        if sent is Unsent.STALE:
            self.account.not_sent(work.difficulty)
            return Submission(False, True, "the pool has newer work")
        if sent is Unsent.DUPLICATE:
            self.account.duplicates += 1
            return Submission(False, False, "found twice")
        answer: asyncio.Future[Submission] = self._loop.create_future()
        self._settled.clear()
        self._answers[sent] = (answer, work.difficulty, share)
        self._flush()
        return await answer

    async def settled(self) -> None:
        """Wait until every share that went out has its answer, or can have none any more."""
        await self._settled.wait()

    async def _serve(self) -> NoReturn:
        reader, writer = await self._connect()
        self.account.connections += 1
        self._writer = writer
        self._client.start(self._configure)
        started = last_heard = self._loop.time()
        first_job_deadline = started + FIRST_JOB_TIMEOUT_S
        try:
            while True:
                self._flush()
                await _bounded(writer.drain(), _WRITE_TIMEOUT_S, "takes no data")
                # the tick: a share submitted while we wait has a nearer deadline than those known now
                deadlines = [self._loop.time() + _TICK_S, last_heard + self._silence_s, self._client.next_deadline()]
                if not self.ready.is_set():
                    deadlines.append(first_job_deadline)
                wait_s = min(deadline for deadline in deadlines if deadline is not None) - self._loop.time()
                data: bytes | None = None
                try:
                    async with asyncio.timeout(max(wait_s, 0.001)):  # wait_for may lose a cancellation (Python 3.11)
                        data = await reader.read(_READ_BYTES)
                except TimeoutError:
                    pass
                except (OSError, ssl.SSLError) as error:
                    raise PoolFailure(f"connection lost ({_reason(error)})") from None
                if data is not None:
                    if not data:
                        raise PoolFailure("the pool closed the connection")
                    last_heard = self._loop.time()
                    self._handle_all(self._client.receive_data(data))
                self._check_silence(last_heard, first_job_deadline)
        finally:
            self.useful = self.useful or (self.ready.is_set() and self._loop.time() - started > _USEFUL_S)
            self._client.goodbye()
            with contextlib.suppress(OSError):
                self._flush()
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(
                    self.address.host,
                    self.address.port,
                    ssl=self._tls if self.address.tls else None,
                    server_hostname=self.address.host if self.address.tls else None,
                    limit=_READ_BYTES,
                )
        except TimeoutError:
            what = "no TLS connection" if self.address.tls else "no connection"
            raise PoolFailure(f"{what} within {CONNECT_TIMEOUT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise PoolFailure(f"its certificate is not trusted ({error.verify_message})") from None
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as error:
            if not self.address.tls:
                raise PoolFailure(f"no connection ({_reason(error)})") from None
            advice = f"write stratum+tcp:// if port {self.address.port} is the pool's one without TLS"
            raise PoolFailure(f"no TLS connection ({_reason(error)}): {advice}") from None
        except (OSError, ValueError) as error:  # ValueError: a host name that IDNA or the resolver refuses
            raise PoolFailure(f"no connection ({_reason(error)})") from None

    def _check_silence(self, last_heard: float, first_job_deadline: float) -> None:
        now = self._loop.time()
        self._handle_all(self._client.check_timeouts())
        if now - last_heard >= self._silence_s:
            raise PoolFailure(f"it was silent for {self._silence_s:g} s")
        if not self.ready.is_set() and now >= first_job_deadline:
            raise PoolFailure(f"it sent no work within {FIRST_JOB_TIMEOUT_S:g} s")
        if self.job is not None and now - self._news_at >= NEWS_S:
            raise PoolFailure(
                f"it has sent no new work for {NEWS_S / 60:g} min", useless=True, stuck_at=self.job.prev_hash
            )

    def _handle_all(self, events: list[Event]) -> None:
        """All events; of several jobs at once only the last is published."""
        newest: PoolWork | None = None
        for event in events:
            if isinstance(event, NewWork):
                newest = event.work
            else:
                self._handle(event)
        if newest is not None:
            self._publish(newest)
        if self._client.step is Step.AUTHORIZED and self.job is not None:
            self.ready.set()
        self.subscribed = self.subscribed or self._client.step in (Step.SUBSCRIBED, Step.AUTHORIZED)

    def _handle(self, event: Event) -> None:
        match event:
            case ShareAnswer():
                self._answered(event)
            case DifficultySet(difficulty):
                if difficulty != self.account.difficulty:
                    self.account.difficulty = difficulty
                    self._say(f"sets difficulty {difficulty:.6g}")
            case Complaint(trouble, text):
                if trouble is Trouble.BAD_JOB:
                    self.account.bad_jobs += 1
                else:
                    self.account.malformed += 1
                if text not in self._said:  # bounded: a session ends after a few complaints
                    self._said.add(text)
                    self._say(text)
            case Notice(text):
                self._notices += 1
                if self._notices <= _NOTICES:
                    self._say(f"says: {text}")
            case Reconnect(host, port, wait_s):
                self._redirected(host, port, wait_s)
            case Closed(reason, refused):
                raise PoolFailure(reason, refused=refused)
            case Authorized() | NewWork():
                pass

    def _answered(self, event: ShareAnswer) -> None:
        waiting = self._answers.pop(event.number, None)
        if waiting is None:
            return
        if not self._answers:
            self._settled.set()
        answer, difficulty, share = waiting
        rejection = event.rejection
        self.account.answered(difficulty, rejection, share)
        self.useful = self.useful or rejection is None
        if not answer.done():
            answer.set_result(
                Submission(True, False, None)
                if rejection is None
                else Submission(False, rejection.code == STALE, str(rejection))
            )
        if rejection is not None and rejection.code in (UNAUTHORIZED, NOT_SUBSCRIBED):
            raise PoolFailure(f"it has forgotten us ({rejection})")  # as after its restart behind a proxy
        if rejection is None:
            self._refused = 0
        elif rejection.code != STALE:
            self._refused += 1
            if self._refused >= MOST_REFUSED:
                raise PoolFailure(f"it refused our last {self._refused} shares ({rejection})", useless=True)

    def _redirected(self, host: str | None, port: int | None, wait_s: float) -> None:
        """Elsewhere only on the same host, or where allowed: Stratum V1's reconnect is unauthenticated, and a classic
        way to steal hash rate. In Stratum V2 the new server needs a certificate of the same authority."""
        may = self._may_redirect or self.address.authority_key is not None
        if host is not None and host.lower() != self.address.host.lower() and not may:
            text = f"wants to send us to another host, {host[:100]}: ignored (--follow-redirects allows it)"
            self._handle(Complaint(Trouble.MALFORMED, text))
            return
        redirect = self.address.at(host, port)
        raise PoolFailure("it asked us to reconnect", redirect=redirect, wait_s=wait_s)

    def _publish(self, work: PoolWork) -> None:
        size = min(_PREFIX_BYTES, work.extranonce2_size - 2)
        prefix = (self._published % (1 << 8 * size)).to_bytes(size, "big") if size > 0 else b""
        self._published += 1
        self.account.jobs += 1
        job = work.job(prefix, StratumOrigin(self, work))
        if self.job is None or _content(job) != _content(self.job):
            self._news_at = self._loop.time()
        self.job = job
        self._on_job(self, self.job)

    def _flush(self) -> None:
        if self._writer is not None and (data := self._client.data_to_send()):
            self._writer.write(data)
            if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
                self._writer.transport.abort()

    def _say(self, text: str) -> None:
        self._on_message(f"pool {self.address.name} {text}")

    def _end(self) -> None:
        for answer, difficulty, _ in self._answers.values():
            if not answer.done():
                self.account.not_sent(difficulty)
                answer.set_result(Submission(False, True, "the connection was lost before its answer"))
        self._answers.clear()
        self._settled.set()


def _content(job: Job) -> tuple[object, ...]:
    """What a pool with a node behind it renews; the extranonce and the difficulty are its own."""
    return job.prev_hash, job.time, job.merkle_branch, job.merkle_root, job.coinbase


async def _bounded(work: Awaitable[None], timeout_s: float, complaint: str) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await work
    except TimeoutError:
        raise PoolFailure(f"it {complaint}") from None
    except (OSError, ssl.SSLError) as error:
        raise PoolFailure(f"connection lost ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ConnectionResetError | ConnectionAbortedError) and not str(error):  # as asyncio raises them
        return "the other side hung up"
    return str(error) or type(error).__name__
