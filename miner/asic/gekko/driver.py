"""A chain of BM1384 or BM1387 chips: bm13xx's driver with these chips' frames, start-up and polling (REFERENCE.md
§4)."""

from __future__ import annotations

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import HEARD_KEPT, STOPPED_MHZ, ChainDriver, DriverOptions, State, Waits
from miner.asic.bm13xx.events import Event
from miner.asic.bm13xx.frames import RegisterReply, Reply
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.registers import BAUD_AT_RESET, Register
from miner.asic.bm13xx.start_up import StartUpError, change_clock, described
from miner.asic.bm13xx.work import ChainJob, JobTable
from miner.asic.gekko.codec import NONCES_OF_OPEN_CORE, Bm1384, Bm1387, Codec, GekkoDecoder
from miner.kernels.midstate import midstate

_GAP_S = 0.05  #: of silence after which a reply begins anew; its bytes follow each other at once
_LOOK_S = 0.02
_ANSWER_S = 0.05  #: for the clock of one chip
_INACTIVE_TIMES = 3
_INACTIVE_PAUSE_S = 0.005
_OPEN_CORE_S = 0.01
_FIRST_ID = 0x10


class GekkoDriver(ChainDriver):
    """See the module. The chips have no register that says nothing but what they are and their clock."""

    def __init__(self, model: ChipModel, options: DriverOptions | None = None) -> None:
        super().__init__(model, options)
        self._codec: Codec = Bm1384() if model.name == "bm1384" else Bm1387()
        self._gekko_model = model
        self._replies = GekkoDecoder(self._codec)
        self.decoder = self._replies
        self.ticket = 1  # some nonces a second from a stick; the first job is long under way before another is known
        self._heard_at = 0.0
        self._asked: int | None = None  # address of the chip that the next clock is of

    def set_ticket(self, difficulty: int, now: float) -> None:
        """BM1384 is told with the next job; BM1387 reports everything."""
        if isinstance(self._codec, Bm1384):
            self.ticket = min(difficulty, 256)

    def request_register(self, register: int, now: float, address: int | None = None) -> None:
        """Identity and clock are all that can be read."""
        self._now = now
        if register == Register.CHIP_ID:
            self.send(self._codec.read_id())
        elif register == Register.PLL0:
            self.send(self._codec.read_clock(address or 0))

    def filled(self, count: int, now: float) -> list[Event]:
        if now - self._heard_at > _GAP_S:
            fresh = bytes(self._replies.space()[:count])
            self._replies.gap()
            self._replies.space()[:count] = fresh
        self._heard_at = now
        if self.state is State.STARTING and len(self.heard) < HEARD_KEPT:
            self.heard = (self.heard + bytes(self._replies.space()[:count]))[:HEARD_KEPT]
        return super().filled(count, now)

    def write_clock(self, frequency_mhz: float) -> None:
        self.send(self._codec.set_clock(frequency_mhz))
        self.frequency_mhz = frequency_mhz

    def write_ticket(self) -> None:
        """There is no register: see set_ticket."""

    def stop_frames(self) -> bytes:
        return self._codec.set_clock(STOPPED_MHZ)

    def _make_table(self, model: ChipModel) -> JobTable:
        return _Table(model, self.options.zero_bits, self)

    @property
    def codec(self) -> Codec:
        """The chips' frames."""
        return self._codec

    def _take(self, reply: Reply) -> None:
        if not isinstance(reply, RegisterReply):
            if reply.nonce not in NONCES_OF_OPEN_CORE:
                super()._take(reply)
            return
        if reply.register == Register.PLL0 and self._asked is not None:
            reply, self._asked = reply._replace(address=self._asked), None
            if self.monitor is not None:  # what the monitor counts as a sign of life
                self.monitor.take(RegisterReply(0, reply.address, Register.ERROR_COUNTER), self._now)
        super()._take(reply)

    def _start_up(self, wanted_chips: int) -> Waits:
        codec, model, options = self._codec, self._gekko_model, self.options
        self.reset_chain()
        yield 0.2
        yield from self._find()
        found = {reply.value >> 16 for reply in self.chip_replies}
        strange = found - set(model.chip_ids)
        if strange:
            raise StartUpError(f"the chips call themselves {strange.pop():04X}, not {model.name}")
        self.identified(model)
        count = len(self.chip_replies)
        if options.identify_only:
            self.found(count)
            return
        if count < wanted_chips:
            raise StartUpError(f"{count} of {wanted_chips} chips answer: the chain is broken behind chip {count}")
        for _ in range(_INACTIVE_TIMES):
            self.send(codec.chain_inactive())
            yield _INACTIVE_PAUSE_S
        interval = model.address_interval(count)
        for index in range(count):
            self.send(codec.set_address(index * interval))
            yield min(options.settle_s, 0.01)
        if self.monitor is not None:
            self.monitor.set_chips(count)
        fast = codec.fast_baud()
        if fast and self.use_fast_baud and self.baud != model.host_baud:
            self.send(fast)
            yield options.baud_settle_s
            self.change_baud(model.host_baud)
            yield options.baud_settle_s
        if isinstance(codec, Bm1384):
            for _ in range(model.cores):  # a job of zeros opens each core
                self.send(codec.job(bytes(12), [bytes(32)], _FIRST_ID, 1, count))
                yield min(options.settle_s, _OPEN_CORE_S)
        self.frequency_mhz = STOPPED_MHZ
        yield from change_clock(self, self.target_mhz)
        yield from self._confirm(count, interval)
        self.came_up(count)

    def _find(self) -> Waits:
        """At the rate that is set, then at the other that this program uses."""
        self.heard = b""
        for baud in sorted({BAUD_AT_RESET, self._gekko_model.host_baud}, key=lambda rate: rate != self.baud):
            if baud != self.baud:
                self.change_baud(baud)
                yield self.options.baud_settle_s
            self.chip_replies = []
            self.noise = 0
            self.send(self._codec.read_id())
            waited, heard, limit = 0.0, 0, self.options.answer_timeout_s
            while waited < limit:
                yield _LOOK_S
                waited += _LOOK_S
                if len(self.chip_replies) > heard:
                    heard, waited, limit = len(self.chip_replies), 0.0, self.options.quiet_s
            if self.chip_replies:
                return
        if self.heard:
            raise StartUpError(
                f"what answers is no {self._gekko_model.name} ({described(self.heard)}): another kind of board?"
            )
        raise StartUpError(f"no {self._gekko_model.name} answers: is the board powered, and is this its port?")

    def _confirm(self, count: int, interval: int) -> Waits:
        """Every chip says its clock, or it is not there any more."""
        silent = []
        for index in range(count):
            for _ in range(3):
                self._asked = index * interval
                self.send(self._codec.read_clock(index * interval))
                yield from self._until_answered()
                if self._asked is None:
                    break
            else:
                silent.append(index)
        self._asked = None
        if silent:
            raise StartUpError(
                f"{count - len(silent)} of {count} chips answer after start-up at {self.baud} baud",
                baud_related=len(silent) == count and self.baud != BAUD_AT_RESET,
            )

    def _until_answered(self) -> Waits:
        waited = 0.0
        while self._asked is not None and waited < 4 * _ANSWER_S:
            yield _LOOK_S / 4
            waited += _LOOK_S / 4

    def _poll_forever(self) -> Waits:
        while self.monitor is not None and self.state.value == "running":
            monitor = self.monitor
            monitor.begin_round()
            for chip in monitor.chips:
                self._asked = chip.address
                self.send(self._codec.read_clock(chip.address))
                yield _ANSWER_S
            self._asked = None
            yield self.options.poll_s
            monitor.end_round()
            self._judge(monitor)


class _Table(JobTable):
    """Jobs in these chips' frames."""

    def __init__(self, model: ChipModel, zero_bits: int, driver: GekkoDriver) -> None:
        super().__init__(model, zero_bits)
        self._wheel = [job_id for job_id in self._wheel if job_id >= _FIRST_ID]
        self._driver = driver

    def _frame(self, job: ChainJob, job_id: int, ticket: int) -> bytes:
        states = [midstate(job.header_with(job.rolled(index), 0)[:64]) for index in range(job.version_count)]
        return self._driver.codec.job(job.header[64:76], states, job_id, ticket, self._driver.chips)


def gekko_driver(model: ChipModel, options: DriverOptions) -> GekkoDriver:
    """The driver; UserError for a clock out of the chips' range."""
    low, high = min(model.frequencies_mhz), max(model.frequencies_mhz)
    if options.frequency_mhz is not None and not min(low, STOPPED_MHZ) <= options.frequency_mhz <= high:
        raise UserError(f"{model.name} runs at {low:g} to {high:g} MHz, not at {options.frequency_mhz:g}")
    return GekkoDriver(model, options)
