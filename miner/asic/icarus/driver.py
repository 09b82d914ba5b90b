"""Drives one board of the Icarus type, without I/O: bytes and the time in, bytes to send and events out.

Detection (REFERENCE.md §4, §5), the clock (§7, §8), one work after another, each range cut off a little before its end
(§6), and a board that falls silent is looked for anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from enum import Enum

from miner.asic.header_driver import HeaderDriver, Issued
from miner.asic.header_work import Failed, NonceFound, Outcome, Work
from miner.asic.icarus.frames import (
    DIVISION,
    GOLDEN,
    ID_COUNT,
    ID_MASK,
    NONCE_BYTES,
    WORK_BYTES,
    clock_command,
    engines_of,
    hashes_at,
    is_clock_command,
    register_mhz,
    u1_register,
    u3_register,
    voltage_command,
    work_frame,
)
from miner.asic.icarus.models import RANGE, Clock, IcarusModel, likely_model
from miner.asic.icarus.timing import TimingModel

BAUD = 115_200
_BITS_PER_BYTE = 10
_DRAIN_S = 0.1  #: silence after which a probe is sent, and a partial reply given up
_ANSWER_S = 0.3  #: for golden work (§4)
_DIVISION_S = 0.6  #: for the work of §5: 80 million hashes, at 380 MH/s
_SETTLE_S = 0.5  #: after a clock or voltage command (§7)
_SILENT_RANGES = 30  #: without a true nonce: the board is looked for anew (§6)
_LONGEST_ANSWER = 64  #: bytes kept of what a stranger says
_SHORTEST_SHARE = 0.9  #: of a range that is searched at least, on boards whose range lasts no longer than early_s


class State(Enum):
    """Where the driver is."""

    STOPPED = "stopped"
    DETECTING = "detecting"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Detected:
    """There is a board."""

    model: IcarusModel
    engines: int


Event = NonceFound | Detected | Failed


@dataclass(frozen=True, slots=True)
class Options:
    """`model`: None to find out; `mhz`, `millivolts`: of boards whose clock and voltage can be set; `zero_bits`:
    leading zero bits of a reported hash: 32 on real boards, fewer on scaled emulators; `attempts`: golden works sent
    before giving up."""

    model: IcarusModel | None = None
    mhz: float | None = None
    millivolts: int | None = None
    zero_bits: int = 32
    attempts: int = 2


class IcarusDriver(HeaderDriver[Detected]):
    """See the module and HeaderDriver."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.zero_bits)
        self.options = options
        self.state = State.STOPPED
        self.model = options.model
        self.engines = options.model.engines if options.model is not None else 1
        self.mhz: float | None = None
        self.timing: TimingModel | None = None
        self.done = 0.0  #: hashes since the first work, true to what the board really did
        self._issued: dict[int, Issued] = {}  # by id; boards without ids: 0 the newest, 1 the one before
        self._current: Issued | None = None
        self._busy = False  # the current work is being searched, as far as we know
        self._id = 0
        self._received_at = 0.0
        self._skipped = 0  # bytes dropped since the last true reply
        self._procedure: Generator[float, bytes, None] = self._detect()

    @property
    def hash_rate(self) -> float:
        """Hashes a second, measured where nonces have told, else by the model's data; of a scaled board, its own."""
        return 1 / self.timing.seconds_per_hash if self.timing is not None else 0.0

    @property
    def idle(self) -> bool:
        """Whether every work has been searched, or cut off."""
        return not self._busy and not self._queue

    def start(self, now: float) -> None:
        """Look for the board."""
        self.state = State.DETECTING
        self._busy = False
        self._issued.clear()
        self._out.clear()
        self._procedure = self._detect()
        self._wake = now
        self._resume(now, first=True)

    def start_later(self, at: float) -> None:
        """Look for the board again at that time."""
        self.state = State.DETECTING
        self._busy = False
        self._procedure = self._wait_and_detect()
        self._resume(at, first=True)

    def stop(self) -> None:
        """Forget all work. The board cannot be told to stop: it falls silent at the end of its range."""
        self.state = State.STOPPED
        self._queue.clear()
        self._issued.clear()
        self._out.clear()
        self._wake = None

    def set_work(self, works: Iterable[Work], now: float, *, clean: bool = False) -> None:
        """Search these, one after the other, instead of what is being searched; `clean`: a new block, so whatever
        still comes for earlier work is stale."""
        self._credit_time(now)
        self._queue = deque(works)
        self._busy = False
        if clean:
            for issued in self._issued.values():
                issued.withdrawn = True
        if self.state is State.RUNNING:
            self._next_work(now)

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        if self._wake is None or now < self._wake:
            return
        if self.state is State.DETECTING:
            self._resume(now)
        elif self.state is State.RUNNING:
            self._range_over(now)

    def received(self, data: bytes, now: float) -> None:
        """Bytes from the board."""
        if self.state is State.RUNNING and self._buffer and now - self._received_at > _DRAIN_S:
            self._buffer.clear()  # the rest of a reply that lost a byte never comes
            self._skipped = 0
        self._buffer += data
        self._received_at = now
        if self.state is State.RUNNING and self.model is not None:
            self._cut_replies(self.model.reply_bytes, now)
        elif self.state is State.DETECTING:
            del self._buffer[_LONGEST_ANSWER:]

    def check_options(self) -> None:
        """UserError unless the board can take the clock and the voltage asked for."""
        for _ in self._set_clock():
            self._out.clear()

    # Detection: a procedure that yields how long to wait and is sent what has arrived meanwhile.

    def _wait_and_detect(self) -> Generator[float, bytes, None]:
        yield 0.0
        yield from self._detect()

    def _detect(self) -> Generator[float, bytes, None]:
        answer = b""
        for _ in range(self.options.attempts):
            yield from self._set_clock()
            yield _DRAIN_S
            self._out.append(GOLDEN.frame)
            answer = yield _ANSWER_S + WORK_BYTES * _BITS_PER_BYTE / BAUD
            if answer[:NONCE_BYTES] == GOLDEN.nonces[0] and len(answer) <= NONCE_BYTES + 1:
                yield from self._identify(len(answer))
                return
        self._fail(_explain(answer))

    def _set_clock(self) -> Generator[float, bytes, None]:
        model = self.options.model
        if model is None or model.clock is Clock.FIXED:
            return
        mhz = self.options.mhz or model.default_mhz or 0.0
        register = u1_register(mhz) if model.clock is Clock.U1 else u3_register(mhz)
        if model.clock is Clock.U3:
            yield _SETTLE_S
            self._out.append(voltage_command(self.options.millivolts or model.default_millivolts or 0))
            yield _SETTLE_S
        self._out.append(clock_command(register))
        yield _SETTLE_S
        self.mhz = register_mhz(register, 25.0 if model.clock is Clock.U1 else 50.0)

    def _identify(self, reply_bytes: int) -> Generator[float, bytes, None]:
        model = self.options.model
        if model is not None and model.reply_bytes != reply_bytes:
            self._fail(f"the board answers with {reply_bytes} bytes, as no {model.title} does: check --board")
            return
        engines = model.engines if model is not None else 1
        if reply_bytes == NONCE_BYTES and (model is None or model.engines > 1):
            self._out.append(DIVISION.frame)
            engines = engines_of((yield _DIVISION_S)[:NONCE_BYTES] or None)
        self.model = model or likely_model(reply_bytes, engines)
        self.engines = engines
        if self.mhz is None:
            self.mhz = self.model.default_mhz
        hashes = RANGE >> 32 - self.options.zero_bits
        self.timing = TimingModel(self.model.range_s(self.mhz) / hashes, hashes)
        self.state = State.RUNNING
        self._events.append(Detected(self.model, engines))

    def _resume(self, now: float, *, first: bool = False) -> None:
        answer = bytes(self._buffer)
        self._buffer.clear()
        try:
            wait_s = next(self._procedure) if first else self._procedure.send(answer)
        except StopIteration:
            self._wake = None
            if self.state is State.RUNNING:
                self._heard_at = now
                self._next_work(now)
        else:
            self._wake = now + wait_s

    def _fail(self, reason: str) -> None:
        self.state = State.FAILED
        self._events.append(Failed(reason))

    # Work.

    def _next_work(self, now: float) -> None:
        """Send the next work, which ends the one before; with none left, wait."""
        self._busy = False
        self._wake = None
        if not self._queue or self.model is None or self.timing is None:
            return
        work = self._queue.popleft()
        if self.model.has_ids:
            self._id = (self._id + 1) % ID_COUNT
        else:
            if 0 in self._issued:
                self._issued[1] = self._issued[0]
            self._buffer.clear()
        frame = work_frame(work.header, self._id)
        if is_clock_command(frame):
            return self._next_work(now)
        self._current = self._issued[self._id] = Issued(work, now)
        self._out.append(frame)
        self._busy = True
        range_s = self.timing.range_s + self.timing.overhead_s
        self._wake = now + max(range_s * _SHORTEST_SHARE, range_s - self.model.early_s)

    def _range_over(self, now: float) -> None:
        self._credit_time(now)
        if self.timing is not None and now - self._heard_at > _SILENT_RANGES * self.timing.range_s + 1.0:
            self.restarts += 1
            if self._current is not None:
                self._queue.appendleft(self._current.work)
            self.start(now)
        else:
            self._next_work(now)

    def _cut_replies(self, size: int, now: float) -> None:
        """Nothing marks where a reply begins but that its nonce is true: after one that is not, every later byte may
        be a beginning."""
        while len(self._buffer) >= size:
            if self._take_reply(bytes(self._buffer[:size]), now):
                del self._buffer[:size]
                self._skipped = 0
            else:
                if self._skipped % size == 0:
                    self.totals[Outcome.WRONG] += 1
                self._skipped += 1
                del self._buffer[:1]

    def _take_reply(self, reply: bytes, now: float) -> bool:
        """A nonce belongs to the work its id names, or to the one running, or to the one before; False if to none."""
        wire, nonce = reply[:NONCE_BYTES], int.from_bytes(reply[:NONCE_BYTES], "little")
        if self.model is not None and self.model.has_ids:
            candidates = [self._issued.get(reply[NONCE_BYTES] & ID_MASK)]
        else:
            candidates = [self._issued.get(0), self._issued.get(1)]
        for issued in candidates:
            if issued is None:
                continue
            number = self._number_of(issued.work, wire)
            if number is not None:
                self._take_nonce(issued, nonce, number, now)
                return True
        return False

    def _take_nonce(self, issued: Issued, nonce: int, number: int, now: float) -> None:
        running = issued is self._current and self._busy
        self._judge(issued, nonce, number, now, late=not running)
        if running and self.model is not None and self.timing is not None:
            hashes = hashes_at(nonce.to_bytes(4, "little"), self.engines)
            self.timing.add(hashes, now - issued.sent_at)
            if not self.model.goes_on:
                self.done += hashes
                self._busy = False
                self._next_work(now)

    def _credit_time(self, now: float) -> None:
        """The running work ends: count what the clock says has been hashed of it."""
        self.done += self._hashed_so_far(now)
        self._busy = False

    def progress(self, now: float) -> float:
        """Hashes done by now, the running work by the clock."""
        return self.done + self._hashed_so_far(now)

    def _hashed_so_far(self, now: float) -> float:
        if not self._busy or self.timing is None or self._current is None:
            return 0.0
        elapsed = now - self._current.sent_at - self.timing.overhead_s
        return min(max(0.0, elapsed), self.timing.range_s) * self.hash_rate


def _explain(answer: bytes) -> str:
    """What was heard instead of the golden nonce."""
    if not answer:
        return "nothing answers to golden work: no Icarus-type board, or one without power (a U3 needs --board u3)"
    if answer[:NONCE_BYTES] == GOLDEN.nonces[0]:
        if len(answer) == 2 * NONCE_BYTES:
            return "the board answers with 8 bytes, as a Rockminer R-Box does, which is not driven"
        return f"{len(answer) - NONCE_BYTES} bytes followed the golden nonce: no board of this type answers so"
    return f"the answer to golden work was {answer[:16].hex()}, not 000187a2: another device, or another baud rate"
