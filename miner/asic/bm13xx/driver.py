"""A chain of BM13xx chips from power-up to nonces, sans-I/O: bytes and time go in, actions and events come out.

    driver.start(now)
    loop:  for action in driver.actions(now): perform it on the port
           wait for bytes until driver.next_wakeup()
           for event in driver.receive_data(data, now): ...

Start-up, polling and clock changes are generators that yield how long to wait; `actions` resumes those that are due.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx import ticket_mask
from miner.asic.bm13xx.events import (
    ChainDown,
    ChainFailed,
    ChainUp,
    ChipLost,
    ChipReturned,
    Event,
    NonceChecked,
    Overheated,
    RegisterRead,
)
from miner.asic.bm13xx.frames import NonceReply, RegisterReply, Reply, ReplyDecoder, read_register, write_register
from miner.asic.bm13xx.models.model import ChipModel, FastRate
from miner.asic.bm13xx.monitor import Monitor
from miner.asic.bm13xx.start_up import StartUpError, change_clock, clock_writes, nonce_offsets, start_up
from miner.asic.bm13xx.work import ChainJob, CheckedNonce, JobTable, Outcome

Waits: TypeAlias = Generator[float, None, None]

STOPPED_MHZ = 50.0  #: clock of chips that are made to stop: the lowest of every part's range
_TICKET_REPAIR_S = 1.0  #: at most one repair of the ticket mask in this time
_STABLE_S = 20.0  #: a chain that runs this long has recovered
_STRANGER_ROUNDS = 2  #: polls with answers of chips that have no address; one may be a damaged frame
_LINK_SHARE_OF_POLLS = 0.1  #: of the return line that polling may take


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetBaud:
    """Let everything written leave, change the port's rate, drop what was received."""

    baud: int


@dataclass(frozen=True, slots=True)
class ResetChain:
    """Pulse the reset line where the board has one, and drop what was received."""


Action = Send | SetBaud | ResetChain


HEARD_KEPT = 24  #: bytes of what is no reply, to be shown


class State(Enum):
    """Where a chain is."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"  #: made to stop hashing


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """How a chain is run. Times in seconds.

    `chips`: how many there must be, None to take what is found; `zero_bits`: 32, less for a scaled emulator;
    `fast_rate`: in place of the chips' own, for a bridge that cannot follow it;
    `attempts`: start-ups in a row before giving up; `chips_per_domain`: chips that share a supply voltage;
    `identify_only`: find and name the chips, change nothing;
    `recovery_s`: wait before a chain that lost a chip is started again, doubled each time up to `recovery_max_s`;
    `search_s`, `search_max_s`: the same for a look for chips that have long been missing.
    """

    frequency_mhz: float | None = None
    chips: int | None = None
    zero_bits: int = 32
    ticket: int = 256
    fast_baud: bool = True
    fast_rate: FastRate | None = None
    attempts: int = 3
    retry_s: float = 1.0
    answer_timeout_s: float = 1.0
    quiet_s: float = 0.3
    ramp_step_s: float = 0.1
    settle_s: float = 0.01
    baud_settle_s: float = 0.06
    chip_pause_s: float | None = None
    poll_s: float = 1.0
    recovery_s: float = 0.5
    recovery_max_s: float = 30.0
    search_s: float = 30.0
    search_max_s: float = 600.0
    chips_per_domain: int = 1
    identify_only: bool = False
    cut_off_c: float = 80.0


class ChainDriver:
    """See the module. `model`: None to find out."""

    def __init__(self, model: ChipModel | None = None, options: DriverOptions | None = None) -> None:
        self.options = options or DriverOptions()
        self.model = model
        self.state = State.IDLE
        self.decoder = ReplyDecoder()
        self.monitor: Monitor | None = None
        self.ticket = self.options.ticket
        self.frequency_mhz = 0.0  #: the clock as set; 0 before the first start-up
        self._wanted_mhz = self.options.frequency_mhz
        self._limit_mhz: float | None = None
        self._ramp: Waits | None = None
        self.baud = reg.BAUD_AT_RESET
        self.version_mask = 0x1FFF_E000
        self.chip_replies: list[RegisterReply] = []  #: answers to CHIP_ID, collected by start_up
        self.probe_replies: list[RegisterReply] = []  #: the same, as the probe decodes them
        self.noise = 0  #: bytes received during the search for chips, whatever they were
        self.heard = b""  #: the first of them
        self.totals = dict.fromkeys(Outcome, 0)
        self.work_done = 0  #: summed difficulty of the good nonces, in difficulty-1 units
        self.restarts = 0
        self.use_fast_baud = self.options.fast_baud
        self.probe: ReplyDecoder | None = None  #: a second decoder, while the length of replies is not known
        self.table: JobTable | None = None
        self._asked_model = model
        self._actions: list[Action] = []
        self._events: list[Event] = []
        self._tasks: list[tuple[float, Waits]] = []
        self._current: ChainJob | None = None
        self.most_chips = 0  #: that this chain has ever had
        self._recovery_s = self.options.recovery_s
        self._search_s = self.options.search_s
        self._up_at = 0.0
        self._strangers = 0  # polls in a row that chips without a known address answered
        self._last_repair = float("-inf")
        self._attempt = 0
        self._offsets_sent = False
        self._now = 0.0

    # Host side

    def start(self, now: float) -> None:
        """Begin start-up; ChainUp or ChainFailed follows."""
        self._restart(now, 0.0)

    def stop(self, now: float) -> None:
        """Make the chips stop hashing: no sweep, lowest clock. What the board switches off is the board's."""
        self._now = now
        self._tasks.clear()
        if self.model is not None and self.state is not State.IDLE and not self.options.identify_only:
            if self.model.rolls_versions:
                self.write(reg.HASHING_STOPPED.register, reg.HASHING_STOPPED.value)
            self.write_clock(STOPPED_MHZ)
        self.state = State.STOPPED
        self._current = None

    def set_work(self, job: ChainJob, now: float, *, clean: bool = False) -> None:
        """Search this from now on. `clean`: whatever came before is worthless, its nonces stale. Before the chain runs
        the job is only remembered."""
        self._now = now
        self._current = job
        if self.table is not None and clean:
            self.table.withdraw_all()
        if self.state is State.RUNNING:
            self._send_job(job)

    def set_ticket(self, difficulty: int, now: float) -> None:
        """Report hashes from this difficulty on (a power of two)."""
        if difficulty != self.ticket:
            self._now = now
            self.ticket = difficulty
            if self.state is State.RUNNING:
                self.write_ticket()

    @property
    def wanted_mhz(self) -> float:
        """The clock asked for, by the options or since; the chip's default, or 0 while that is not known."""
        if self._wanted_mhz is not None:
            return self._wanted_mhz
        return self.model.default_mhz if self.model is not None else 0.0

    @property
    def target_mhz(self) -> float:
        """The clock to be run at: the one wanted, or what a limit leaves of it."""
        return self.wanted_mhz if self._limit_mhz is None else min(self.wanted_mhz, self._limit_mhz)

    def set_frequency(self, frequency_mhz: float, now: float) -> None:
        """Want this clock from now on, over restarts too. It is reached by steps, hash counting following."""
        self._wanted_mhz = frequency_mhz
        self._move_clock(now)

    def limit_frequency(self, limit_mhz: float | None, now: float) -> None:
        """Stay at or below this whatever is wanted; None: no limit any more."""
        self._limit_mhz = limit_mhz
        self._move_clock(now)

    def stop_frames(self) -> bytes:
        """What `stop` sends, for somebody who has to do it without us. b"" while the chips are not known."""
        if self.model is None:
            return b""
        frames = [write_register(register, value) for register, value in clock_writes(self.model, STOPPED_MHZ)]
        if self.model.rolls_versions:
            frames.insert(0, write_register(reg.HASHING_STOPPED.register, reg.HASHING_STOPPED.value))
        return b"".join(frames)

    def request_register(self, register: int, now: float, address: int | None = None) -> None:
        """Ask for a register; RegisterRead follows from each chip that answers."""
        self._now = now
        self.send(read_register(register, address))

    def space(self) -> memoryview:
        """Where received bytes may be written; then call `filled`."""
        return self.decoder.space()

    def filled(self, count: int, now: float) -> list[Event]:
        """`count` bytes have been written to `space()`."""
        self._now = now
        if self.probe is not None:
            data = bytes(self.decoder.space()[:count])
            self.noise += count
            self.heard = (self.heard + data)[:HEARD_KEPT]
            for reply in self.probe.receive_data(data):
                self._take_probe(reply)
        for reply in self.decoder.filled(count):
            self._take(reply)
        return self._drain_events()

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """What the bytes from the chain mean."""
        events: list[Event] = []
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            events += self.filled(count, now)
            rest = rest[count:]
        return events

    def actions(self, now: float) -> list[Action]:
        """What to do now, in order; resumes whatever has waited long enough."""
        self._now = now
        for due, task in [entry for entry in self._tasks if entry[0] <= now]:
            if (due, task) not in self._tasks:  # an earlier one of this turn started the chain anew
                continue
            self._tasks.remove((due, task))
            try:
                wait = next(task)
            except StopIteration:
                continue
            except StartUpError as error:
                self._start_failed(error)
                continue
            self._tasks.append((now + wait, task))
        actions, self._actions = self._actions, []
        return actions

    @property
    def pending(self) -> bool:
        """Whether there are actions to be performed."""
        return bool(self._actions)

    def pending_frames(self) -> bytes:
        """The frames that stand first among them."""
        first = self._actions[0] if self._actions else None
        return first.data if isinstance(first, Send) else b""

    def frames_sent(self, count: int) -> None:
        """So many bytes of `pending_frames` have been written."""
        if frames := self.pending_frames():
            self._actions[:1] = [Send(frames[count:])] if count < len(frames) else []

    def events(self) -> list[Event]:
        """Events that came of time passing rather than of bytes."""
        return self._drain_events()

    def next_wakeup(self) -> float | None:
        """When `actions` is next wanted; None while nothing waits."""
        if self._actions or self._events:
            return self._now
        return min((due for due, _ in self._tasks), default=None)

    @property
    def chips(self) -> int:
        """Chips addressed at the last start-up."""
        return len(self.monitor.chips) if self.monitor is not None else 0

    @property
    def hash_rate(self) -> float:
        """Hashes a second that the chips heard of should be doing, scale included; 0 while the chain is down."""
        if self.state is not State.RUNNING or self.model is None or self.monitor is None:
            return 0.0
        return (
            self.monitor.alive * self.model.nominal_hash_rate(self.frequency_mhz) / (1 << 32 - self.options.zero_bits)
        )

    # For start_up and the tasks

    @property
    def now(self) -> float:
        """Time of the last call."""
        return self._now

    def send(self, frame: bytes) -> None:
        """Queue a frame; those that follow each other become one write."""
        if self._actions and isinstance(self._actions[-1], Send):
            self._actions[-1] = Send(self._actions[-1].data + frame)
        else:
            self._actions.append(Send(frame))

    def write(self, register: int, value: int, address: int | None = None) -> None:
        """Queue a register write, to all chips or to the one assigned `address`."""
        shift = self.model.command_shift if self.model is not None else 0
        self.send(write_register(register, value, None if address is None else address >> shift))
        if register == reg.Register.VERSION_ROLLING and self.model is not None and self.model.rolls_versions:
            self.decoder.reply_size = 11 if value >> 31 else 9

    def write_ticket(self) -> None:
        """Queue the ticket mask."""
        self.write(reg.Register.TICKET_MASK, ticket_mask.register_value(self.ticket))

    def write_clock(self, frequency_mhz: float) -> None:
        """Queue a PLL setting, without ramp."""
        if self.model is not None:
            for register, value in clock_writes(self.model, frequency_mhz):
                self.write(register, value)
            self.frequency_mhz = frequency_mhz

    def clock_steps(self, frequency_mhz: float) -> Waits:
        """Write a PLL setting, without ramp; parts with dividers behind the PLL get time for each write (§15.1)."""
        model = self.model
        if model is None or not model.pll_preamble:
            self.write_clock(frequency_mhz)
            return
        for register, value in clock_writes(model, frequency_mhz):
            yield self.options.settle_s
            self.write(register, value)
        yield self.options.settle_s
        self.frequency_mhz = frequency_mhz

    def change_baud(self, baud: int) -> None:
        """Queue the host's change of rate."""
        self._actions.append(SetBaud(baud))
        self.baud = baud
        self.decoder.discard()

    def reset_chain(self) -> None:
        """Queue the reset line; chips that have none keep their rate, which start_up finds out."""
        self._actions.append(ResetChain())
        self.decoder.discard()

    def identified(self, model: ChipModel) -> None:
        """The chips have said what they are."""
        if self.model is not model or self.table is None or self.monitor is None:
            self.model = model
            self.table = self._make_table(model)
            self.monitor = Monitor(model, self.options.zero_bits)

    def found(self, chips: int) -> None:
        """The chips are known and left as they are."""
        if self.model is None or self.monitor is None:
            raise RuntimeError("chips were found before they were identified")
        self.monitor.set_chips(chips)
        self.state = State.STOPPED
        self._events.append(ChainUp(self.model, chips, self.baud, 0.0))

    def came_up(self, chips: int) -> None:
        """Start-up is through."""
        model, monitor, table = self.model, self.monitor, self.table
        if model is None or monitor is None or table is None:
            raise RuntimeError("a chain came up before its chips were identified")
        self.state = State.RUNNING
        self._attempt = 0
        self._up_at = self._now
        self.most_chips = max(self.most_chips, chips)
        table.withdraw_all()
        self._offsets_sent = False
        self._tasks.append((self._now + self.options.poll_s, self._poll_forever()))
        self._events.append(ChainUp(model, chips, self.baud, self.frequency_mhz))
        if self._current is not None:
            self._send_job(self._current)
        if chips < self.most_chips:
            self._come_back_later()
        else:
            self._search_s = self.options.search_s

    # What another family of chips on the same kind of chain does otherwise

    def _start_up(self, wanted_chips: int) -> Waits:
        return start_up(self, self._asked_model, wanted_chips)

    def _make_table(self, model: ChipModel) -> JobTable:
        return JobTable(model, self.options.zero_bits)

    # Inside

    def _restart(self, now: float, delay_s: float) -> None:
        self._now = now
        if self.table is not None:
            self.table.withdraw_all()
        self.state = State.STARTING
        wanted = self.options.chips if self.options.chips is not None and not self.most_chips else 1
        self._tasks = [(now + delay_s, self._start_up(wanted))]

    def _start_failed(self, error: StartUpError) -> None:
        self._attempt += 1
        if error.baud_related:
            self.use_fast_baud = False
        if error.final or self._attempt >= self.options.attempts:
            self.state = State.FAILED
            self._tasks.clear()
            self._events.append(ChainFailed(str(error)))
            self._attempt = 0
        else:
            self._events.append(ChainDown(str(error)))
            self._restart(self._now, self.options.retry_s)

    def _move_clock(self, now: float) -> None:
        """One ramp at a time: the one under way gives up where it is."""
        if self.state is State.RUNNING:
            self._tasks = [entry for entry in self._tasks if entry[1] is not self._ramp]
            self._ramp = change_clock(self, self.target_mhz)
            self._tasks.append((now, self._ramp))

    def _recover(self, reason: str, delay_s: float) -> None:
        self.restarts += 1
        self._events.append(ChainDown(reason))
        self._restart(self._now, delay_s)

    def _come_back_later(self) -> None:
        """With chips missing: try again to get them, ever more rarely, since the others stop for it."""
        wait_s = self._search_s
        self._search_s = min(2 * wait_s, self.options.search_max_s)

        def later() -> Waits:
            yield wait_s
            self._recover("looking for the missing chips", 0.0)

        self._tasks.append((self._now, later()))

    def _send_job(self, job: ChainJob) -> None:
        model, table, monitor = self.model, self.table, self.monitor
        if model is None or table is None or monitor is None:
            return
        if model.rolls_versions and job.version_mask != self.version_mask:
            self.version_mask = job.version_mask
            self.write(reg.Register.VERSION_ROLLING, reg.version_rolling(job.version_mask))
        self.send(table.issue(job, self.ticket))
        if not self._offsets_sent:
            self._offsets_sent = True
            for address, value in nonce_offsets(model, len(monitor.chips)):
                self.write(reg.Register.NONCE_OFFSET, value, address)

    def _take_probe(self, reply: Reply) -> None:
        if isinstance(reply, RegisterReply) and reply.register == reg.Register.CHIP_ID:
            self.probe_replies.append(reply)

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, NonceReply):
            self._take_nonce(reply)
            return
        if reply.register == reg.Register.CHIP_ID and self.state is State.STARTING:
            self.chip_replies.append(reply)
            return
        if self.monitor is not None and self.state is State.RUNNING:
            self.monitor.take(reply, self._now)
        self._events.append(RegisterRead(reply.address, reply.register, reply.value))

    def _take_nonce(self, reply: NonceReply) -> None:
        if self.table is None or self.monitor is None or self.state is not State.RUNNING:
            return
        nonce = self.table.check(reply, self.ticket, len(self.monitor.chips))
        self.totals[nonce.outcome] += 1
        if nonce.outcome is Outcome.GOOD:
            self.work_done += self.ticket
        self._count_for_chip(nonce)
        if nonce.outcome is Outcome.BELOW_TICKET and self._now - self._last_repair >= _TICKET_REPAIR_S:
            self._last_repair = self._now
            self.write_ticket()
        self._events.append(NonceChecked(nonce))

    def _count_for_chip(self, nonce: CheckedNonce) -> None:
        if nonce.chip is None or self.monitor is None:
            return
        chip = self.monitor.chips[nonce.chip]
        chip.count(nonce, self.ticket)
        if chip.sick:
            chip.bad_streak = 0
            self._recover(f"chip {chip.index} reports nothing but wrong or repeated nonces", self._back_off())

    def _back_off(self) -> float:
        wait_s = self._recovery_s
        self._recovery_s = min(2 * wait_s, self.options.recovery_max_s)
        return wait_s

    def _poll_forever(self) -> Waits:
        turn = 0
        while self.monitor is not None and self.state is State.RUNNING:
            monitor, wanted = self.monitor, self.monitor.registers_to_poll(turn)
            turn += 1
            reply_bits = len(monitor.chips) * len(wanted) * self.decoder.reply_size * 10
            monitor.begin_round()
            for register in wanted:
                self.send(read_register(register))
                yield 0.001
            yield max(self.options.poll_s, reply_bits / self.baud / _LINK_SHARE_OF_POLLS)
            self._judge(monitor)

    def _judge(self, monitor: Monitor) -> None:
        """After a poll: who is lost, who is back, is it too hot."""
        self._strangers = strangers = self._strangers + 1 if monitor.surplus else 0
        lost, back = monitor.end_round()
        self._events += [ChipLost(chip.index) for chip in lost]
        self._events += [ChipReturned(chip.index) for chip in back]
        hottest = monitor.hottest_c
        if hottest is not None and hottest >= self.options.cut_off_c:
            self._events.append(Overheated(hottest))
            self.stop(self._now)
        elif lost and not monitor.alive:
            self._recover("no chip answers any more", self._back_off())
        elif strangers >= _STRANGER_ROUNDS:
            self._strangers = 0
            self._recover("a chip has come back without its address", self.options.recovery_s)
        elif lost:
            self._recover(f"chip {lost[0].index} is silent", self._back_off())
        elif self._now - self._up_at > _STABLE_S:
            self._recovery_s = self.options.recovery_s

    def _drain_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
