"""The Stratum V1 client without sockets: bytes in, events out; bytes to send kept until they are fetched.

One StratumClient is one connection. The caller sends `data_to_send()` whenever it may have grown, feeds what arrives to
`receive_data`, and calls `check_timeouts` when `next_deadline` has passed. After an event Closed nothing happens any
more. Sources: the de facto protocol of 2012, BIP310 (mining.configure), ckpool and NiceHash for the extensions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from miner.work.job import VERSION_ROLLING_MASK, Job
from miner.work.stratum.jobs import (
    MAX_EXTRANONCE1_BYTES,
    MAX_EXTRANONCE2_BYTES,
    BadJob,
    Work,
    check_work,
    hex_field,
    parse_difficulty,
    parse_notify,
    target_of_share,
)
from miner.work.stratum.messages import (
    UNKNOWN_METHOD,
    LineBuffer,
    Malformed,
    Rejection,
    Request,
    Response,
    clean_text,
    encode_error,
    encode_request,
    encode_result,
    parse_line,
)

USER_AGENT = "pickaxe/0.1"
ANSWER_TIMEOUT_S = 30.0  #: for any call; a pool that is silent for longer has lost it, and us
#: A share worth less than this many hashes costs both sides more than it tells; a pool that asks for easier ones gets
#: only those that are this hard.
EASIEST_SHARE_TARGET = (1 << 256 >> 20) - 1
# of both versions
MAX_COMPLAINTS = 20  #: per connection: whoever sends more nonsense is no pool
FLOOD_MESSAGES = 2000  #: unasked messages in FLOOD_WINDOW_S; pools send a few a minute
FLOOD_WINDOW_S = 10.0
JOBS_KEPT = 64
SHARES_KEPT = 100_000
_MAX_RECONNECT_WAIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What to ask of a pool.

    `version_mask`: bits to roll if the pool lets us, 0 for none. `easiest_target`: jobs whose bits stand for more are
    of another network. `easiest_share_target`: submit nothing easier. `minimum_difficulty` (BIP310) and
    `suggested_difficulty` are wishes that a pool may ignore.
    """

    user: str
    password: str
    version_mask: int = VERSION_ROLLING_MASK
    easiest_target: int = (1 << 256) - 1
    easiest_share_target: int = EASIEST_SHARE_TARGET
    minimum_difficulty: float | None = None
    suggested_difficulty: float | None = None


class Step(Enum):
    """How far the handshake is."""

    CONNECTED = "connected"
    SUBSCRIBED = "subscribed"
    AUTHORIZED = "authorized"
    CLOSED = "closed"


class Trouble(Enum):
    """What a Complaint is about."""

    MALFORMED = "malformed"
    BAD_JOB = "bad job"
    DIFFICULTY = "absurd difficulty"


class Unsent(Enum):
    """Why a share was not submitted."""

    STALE = "stale"
    DUPLICATE = "duplicate"


class PoolWork(Protocol):
    """What the client of either version gives to be mined."""

    @property
    def extranonce1(self) -> bytes:
        """The pool's part of the extranonce."""

    @property
    def extranonce2_size(self) -> int:
        """Bytes of it that are ours."""

    @property
    def difficulty(self) -> float:
        """What a share is worth."""

    def job(self, prefix: bytes, origin: Any) -> Job:
        """The job; `prefix`: leading bytes of our part, kept out of the search."""


@dataclass(frozen=True, slots=True)
class Authorized:
    """The pool knows the worker."""


@dataclass(frozen=True, slots=True)
class NewWork:
    """Mine on this from now on. `clean`: everything before it is worthless."""

    work: PoolWork
    clean: bool


@dataclass(frozen=True, slots=True)
class DifficultySet:
    """The difficulty of shares from the next work on."""

    difficulty: float


@dataclass(frozen=True, slots=True)
class ShareAnswer:
    """The pool's answer to the submission with this number; accepted where there is no rejection."""

    number: int
    rejection: Rejection | None


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The pool wants us elsewhere (None: the same) after `wait_s`."""

    host: str | None
    port: int | None
    wait_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that was ignored, and why."""

    trouble: Trouble
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is of no more use. `refused`: the pool does not want this worker, and will not next time."""

    reason: str
    refused: bool = False


Event = Authorized | NewWork | DifficultySet | ShareAnswer | Reconnect | Notice | Complaint | Closed


class StratumClient:
    """See the module."""

    def __init__(self, options: ClientOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._lines = LineBuffer()
        self._output = bytearray()
        self._next_number = 1
        self._pending: dict[int, tuple[str, float]] = {}  # number -> method, deadline; in the order of the deadlines
        self._events: list[Event] = []
        self._complaints = 0
        self._unasked: deque[float] = deque()
        self.step = Step.CONNECTED
        self._extranonce1 = b""
        self._extranonce2_size = 0
        self._difficulty = 1.0  # until the pool says otherwise
        self._version_mask = 0
        self._work: Work | None = None
        self._jobs: dict[str, Work] = {}  # those whose shares still count
        self._submitted: set[tuple[str, bytes, int, int, int]] = set()
        self._handlers: dict[str, Callable[[Request], None]] = {
            "mining.notify": self._on_notify,
            "mining.set_difficulty": self._on_set_difficulty,
            "mining.set_extranonce": self._on_set_extranonce,
            "mining.set_version_mask": self._on_set_version_mask,
            "mining.ping": self._on_ping,
            "client.ping": self._on_ping,
            "client.reconnect": self._on_reconnect,
            "client.get_version": self._on_get_version,
            "client.show_message": self._on_show_message,
        }

    def start(self, configure: bool = True) -> None:
        """Begin the handshake. Without `configure` version rolling is not asked for: some old pools hang up on what
        they do not know."""
        extensions: list[str] = []
        parameters: dict[str, Any] = {}
        if self._options.version_mask:
            extensions.append("version-rolling")
            parameters["version-rolling.mask"] = f"{self._options.version_mask:08x}"
            parameters["version-rolling.min-bit-count"] = 2
        if self._options.minimum_difficulty is not None:
            extensions.append("minimum-difficulty")
            parameters["minimum-difficulty.value"] = self._options.minimum_difficulty
        if configure and extensions:
            self._call("mining.configure", [extensions, parameters])
        self._call("mining.subscribe", [USER_AGENT])

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes as they come; what they mean."""
        if self._closed():
            return []
        for line in self._lines.feed(data):
            if line.strip():
                self._on_line(line)
            else:
                self._count_unasked()  # some send a blank line to keep a connection alive
            if self._closed():
                break
        if self._lines.overflowed:
            self._close("sends a line without end")
        return self._take_events()

    def data_to_send(self) -> bytes:
        """What has to go out, once."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def next_deadline(self) -> float | None:
        """When check_timeouts should be called, by the clock; None: nothing is awaited."""
        return next((deadline for _, deadline in self._pending.values()), None)

    def check_timeouts(self) -> list[Event]:
        """Give up on what was not answered in time."""
        now = self._clock()
        for number, (method, deadline) in list(self._pending.items()):
            if deadline <= now:
                del self._pending[number]
                if method in ("mining.subscribe", "mining.authorize", "mining.submit"):
                    self._close(f"did not answer {method} within {ANSWER_TIMEOUT_S:g} s")
        return self._take_events()

    def submit(self, work: Work, extranonce2: bytes, time: int, nonce: int, version: int) -> int | Unsent:
        """Submit a share of this work: its whole extranonce2, and time, nonce and version as in the header. The number
        that the answer will carry, or why it was not sent."""
        notify = work.notify
        known = self._jobs.get(notify.job_id)
        mask = self._version_mask
        if (
            known is None
            or (known.notify, known.extranonce1) != (notify, work.extranonce1)
            or (version ^ notify.version) & 0xFFFFFFFF & ~mask
        ):
            return Unsent.STALE
        share = (notify.job_id, extranonce2, time, nonce, version & 0xFFFFFFFF)
        if share in self._submitted:
            return Unsent.DUPLICATE
        if len(self._submitted) >= SHARES_KEPT:
            self._submitted.clear()
        self._submitted.add(share)
        params = [self._options.user, notify.job_id, extranonce2.hex(), f"{time:08x}", f"{nonce:08x}"]
        if mask:
            params.append(f"{version & mask:08x}")
        return self._call("mining.submit", params)

    def goodbye(self) -> None:
        """We are leaving; pools of this version see it by the connection's end."""

    # --- answers ---

    def _on_line(self, line: bytes) -> None:
        try:
            message = parse_line(line)
        except Malformed as error:
            self._complain(Trouble.MALFORMED, f"sends {error}")
            return
        if isinstance(message, Response):
            self._on_response(message)
            return
        self._count_unasked()
        if self._closed():
            return
        handler = self._handlers.get(message.method)
        try:
            if handler is not None:
                handler(message)
            elif message.id is not None:
                self._output += encode_error(message.id, UNKNOWN_METHOD, "unknown method")
        except BadJob as error:
            self._complain(Trouble.MALFORMED, f"sends an impossible {message.method}: {error}")

    def _on_response(self, response: Response) -> None:
        method, _ = self._pending.pop(response.id, (None, 0.0))
        if method == "mining.submit":
            refused = response.rejection
            if refused is None and response.result is not True:
                refused = Rejection(20, "no clear answer")
            self._events.append(ShareAnswer(response.id, refused))
        elif method == "mining.configure":
            self._on_configured(response)
        elif method == "mining.subscribe":
            self._on_subscribed(response)
        elif method == "mining.authorize":
            self._on_authorized(response)
        elif method is None:
            self._complain(Trouble.MALFORMED, "answers a call that was not made")

    def _on_configured(self, response: Response) -> None:
        result = response.result
        if response.rejection is not None or not isinstance(result, dict):
            return  # a pool without BIP310
        if result.get("version-rolling") is True:
            try:
                self._set_version_mask(result.get("version-rolling.mask"))
            except BadJob as error:
                self._complain(Trouble.MALFORMED, f"allows version rolling, but {error}")

    def _on_subscribed(self, response: Response) -> None:
        if response.rejection is not None:
            self._close(f"refuses the subscription ({response.rejection})")
            return
        try:
            result = response.result
            if not isinstance(result, list) or len(result) < 3:
                raise BadJob("it is not a list of three")
            self._extranonce1, self._extranonce2_size = _extranonce(result[1], result[2])
        except BadJob as error:
            self._close(f"answers the subscription with nonsense: {error}")
            return
        self.step = Step.SUBSCRIBED
        self._call("mining.authorize", [self._options.user, self._options.password])
        self._call("mining.extranonce.subscribe", [])

    def _on_authorized(self, response: Response) -> None:
        if response.rejection is not None or response.result is not True:
            reason = "" if response.rejection is None else f" ({response.rejection.text or response.rejection})"
            self._close(f"refuses worker {clean_text(self._options.user, 60)}{reason}", refused=True)
            return
        self.step = Step.AUTHORIZED
        self._events.append(Authorized())
        if self._options.suggested_difficulty is not None:
            self._call("mining.suggest_difficulty", [self._options.suggested_difficulty])

    # --- notifications ---

    def _on_notify(self, request: Request) -> None:
        if self.step not in (Step.SUBSCRIBED, Step.AUTHORIZED):
            raise BadJob("there is no subscription yet")
        try:
            notify = parse_notify(request.params)
            work = Work(
                notify,
                self._extranonce1,
                self._extranonce2_size,
                self._difficulty,
                min(target_of_share(self._difficulty), self._options.easiest_share_target),
                self._version_mask,
            )
            check_work(work, self._options.easiest_target)
        except BadJob as error:
            self._complain(Trouble.BAD_JOB, f"sends a job that cannot be mined: {error}")
            return
        clean = notify.clean or self._work is None or self._work.notify.prev_hash != notify.prev_hash
        if clean:
            self._jobs.clear()
            self._submitted.clear()
        elif len(self._jobs) >= JOBS_KEPT:
            del self._jobs[next(iter(self._jobs))]
        self._jobs.pop(notify.job_id, None)  # a number used again moves to the end
        self._jobs[notify.job_id] = work
        self._work = work
        self._events.append(NewWork(work, clean))

    def _on_set_difficulty(self, request: Request) -> None:
        try:
            difficulty = parse_difficulty(_first(request))
        except BadJob as error:
            shown = clean_text(_first(request), 40)
            self._complain(Trouble.DIFFICULTY, f"sets an absurd difficulty, {shown}: {error}")
            return
        self._difficulty = difficulty
        self._events.append(DifficultySet(difficulty))

    def _on_set_extranonce(self, request: Request) -> None:
        if len(request.params) < 2:
            raise BadJob("it has too few fields")
        self._extranonce1, self._extranonce2_size = _extranonce(*request.params[:2])

    def _on_set_version_mask(self, request: Request) -> None:
        self._set_version_mask(_first(request))

    def _set_version_mask(self, value: object) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= 8:
            raise BadJob("the mask is not text of 8 hexadecimal digits")
        mask = int.from_bytes(hex_field(value.rjust(8, "0"), "mask", 4)) & self._options.version_mask
        if mask == self._version_mask:
            return
        self._version_mask = mask
        if self._work is not None:  # BIP310: in force at once
            self._work = self._jobs[self._work.notify.job_id] = replace(self._work, version_mask=mask)
            self._events.append(NewWork(self._work, False))

    def _on_ping(self, request: Request) -> None:
        if request.id is not None:
            self._output += encode_result(request.id, "pong")

    def _on_get_version(self, request: Request) -> None:
        if request.id is not None:
            self._output += encode_result(request.id, USER_AGENT)

    def _on_show_message(self, request: Request) -> None:
        if text := clean_text(_first(request)):
            self._events.append(Notice(text))

    def _on_reconnect(self, request: Request) -> None:
        host, port, wait_s = [*request.params, None, None, None][:3]
        if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) <= 5:
            port = int(port)
        if not (host is None or (isinstance(host, str) and len(host) <= 255 and host.isprintable())):
            raise BadJob("its host is not a name")
        if not (port is None or (isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536)):
            raise BadJob("its port is not a port")
        wait = float(wait_s) if isinstance(wait_s, int | float) and 0 <= wait_s <= _MAX_RECONNECT_WAIT_S else 0.0
        self._events.append(Reconnect(host or None, port, wait))

    # --- bookkeeping ---

    def _count_unasked(self) -> None:
        now = self._clock()
        self._unasked.append(now)
        if len(self._unasked) > FLOOD_MESSAGES and now - self._unasked.popleft() < FLOOD_WINDOW_S:
            self._close("floods us with messages")

    def _call(self, method: str, params: list[Any]) -> int:
        number = self._next_number
        self._next_number += 1
        self._pending[number] = (method, self._clock() + ANSWER_TIMEOUT_S)
        self._output += encode_request(number, method, params)
        return number

    def _complain(self, trouble: Trouble, text: str) -> None:
        self._complaints += 1
        self._events.append(Complaint(trouble, text))
        if self._complaints > MAX_COMPLAINTS:
            self._close(f"sends too much nonsense; the last: {text}")

    def _closed(self) -> bool:
        return self.step is Step.CLOSED

    def _close(self, reason: str, refused: bool = False) -> None:
        if self.step is not Step.CLOSED:
            self.step = Step.CLOSED
            self._pending.clear()
            self._events.append(Closed(reason, refused))

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _first(request: Request) -> object:
    return request.params[0] if request.params else None


def _extranonce(first: object, size: object) -> tuple[bytes, int]:
    extranonce1 = hex_field(first, "extranonce")
    if len(extranonce1) > MAX_EXTRANONCE1_BYTES:
        raise BadJob(f"its extranonce has more than {MAX_EXTRANONCE1_BYTES} bytes")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_EXTRANONCE2_BYTES:
        raise BadJob(f"its extranonce2 size is not between 1 and {MAX_EXTRANONCE2_BYTES}")
    return extranonce1, size
