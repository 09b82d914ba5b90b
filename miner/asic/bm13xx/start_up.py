"""Start-up of a chain: find the chips, then take their model's order step by step (REFERENCE.md §5, §15)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from miner.asic.bm13xx import pll
from miner.asic.bm13xx import registers as reg
from miner.asic.bm13xx.frames import (
    LONG_REPLY,
    SHORT_REPLY,
    TO_CHIP,
    ReplyDecoder,
    chain_inactive,
    read_register,
    set_address,
)
from miner.asic.bm13xx.models import BY_CHIP_ID
from miner.asic.bm13xx.models.model import (
    ChipModel,
    FastRate,
    NonceLayout,
    Step,
    ToAll,
    ToDomainEnds,
    ToEach,
    ToFirst,
)

if TYPE_CHECKING:
    from miner.asic.bm13xx.driver import ChainDriver

_RAMP_START_MHZ = 50.0  #: assumed before the first setting (§8.5)
_LOOK_S = 0.02  #: between two looks at what has arrived
_ASK_AGAIN = 3  #: times, where an answer is missing
_MOST_CHIPS = 126  #: the longest chain known (§5.3)
#: Rates at which chips may still be talking when no reset line took them back to the first (§9).
_BAUDS = (reg.BAUD_AT_RESET, 1_000_000, 3_125_000, 3_000_000, 1_500_000)


class StartUpError(Exception):
    """Start-up has failed; one line. `baud_related`: the chips were lost in the change of rate; `final`: another
    attempt would end the same."""

    def __init__(self, reason: str, *, baud_related: bool = False, final: bool = False) -> None:
        super().__init__(reason)
        self.baud_related = baud_related
        self.final = final


def start_up(driver: ChainDriver, asked: ChipModel | None, wanted_chips: int) -> Generator[float, None, None]:
    """The whole of it; yields seconds to wait. Raises StartUpError."""
    driver.reset_chain()
    yield 0.2  # a reset pulse and the time after it; longer than any host waits (§1)
    yield from _find(driver)
    replies = driver.chip_replies
    found = replies[0].value >> 16
    model = BY_CHIP_ID.get(found)
    if model is None:
        raise StartUpError(f"the chips call themselves {found:04X}, which is none of the BM13xx known here")
    if asked is not None and model is not asked:
        raise StartUpError(f"the chips are {model.name}, not {asked.name}")
    driver.identified(model)
    if driver.options.identify_only:
        driver.found(len(replies))
        return
    objection = model.clock_objection(driver.options.frequency_mhz)  # whoever asked need not have known the chips
    if objection is not None:
        raise StartUpError(objection, final=True)
    yield from _run_steps(driver, model, wanted_chips, len(replies))
    count = driver.chips
    for _ in range(_ASK_AGAIN):
        yield from _count(driver, count)
        if len(driver.chip_replies) >= count:
            break
    if len(driver.chip_replies) < count:
        heard = len(driver.chip_replies)
        raise StartUpError(
            f"{heard} of {count} chips answer after start-up at {driver.baud} baud", baud_related=heard == 0
        )
    driver.came_up(count)


def described(heard: bytes) -> str:
    """The first bytes of what is no reply, for people."""
    if heard.startswith(TO_CHIP):
        return "what was sent comes back: RX is joined to TX, or another program echoes"
    text = heard.decode("latin-1").strip()
    if text and text.isascii() and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"a text, {text.splitlines()[0]!r}"
    return f"at first {heard.hex()}"


def _find(driver: ChainDriver) -> Generator[float, None, None]:
    """Ask for CHIP_ID at each rate, the present one first, listening for short and long replies at once."""
    driver.noise, driver.heard = 0, b""
    errors = driver.decoder.errors
    try:
        for baud in sorted(_BAUDS, key=lambda rate: rate != driver.baud):
            if driver.baud != baud:
                driver.change_baud(baud)
                yield driver.options.baud_settle_s
            driver.decoder = ReplyDecoder(LONG_REPLY)
            driver.probe = ReplyDecoder(SHORT_REPLY)
            yield from _count(driver)
            if len(driver.probe_replies) > len(driver.chip_replies):
                driver.chip_replies = list(driver.probe_replies)
                driver.decoder = ReplyDecoder(SHORT_REPLY)  # the other holds the tail of a frame it took for longer
            if driver.chip_replies:
                return
    finally:
        driver.probe = None
        driver.probe_replies = []
        driver.decoder.errors = errors  # one of the two lengths was bound to fail: that counts for nothing
    if driver.noise:
        raise StartUpError(
            f"{driver.noise} bytes came back ({described(driver.heard)}), but no reply of a BM13xx among them: another"
            " kind of board, or a rate other than " + ", ".join(map(str, _BAUDS))
        )
    raise StartUpError("no chip answers: is the board powered, and is this its data port?")


def _count(driver: ChainDriver, expected: int = 0) -> Generator[float, None, None]:
    """Ask all for CHIP_ID and collect the answers: until the line is quiet, or, where so many are `expected`, until
    they are there or the longer timeout says that no more come."""
    driver.chip_replies = []
    driver.probe_replies = []
    driver.send(read_register(reg.Register.CHIP_ID))
    waited, heard = 0.0, 0
    limit = driver.options.answer_timeout_s
    while waited < limit and (not expected or heard < expected):
        yield _LOOK_S
        waited += _LOOK_S
        answers = len(driver.chip_replies) + len(driver.probe_replies)
        if answers > heard:
            heard, waited = answers, 0.0
            limit = driver.options.answer_timeout_s if expected else driver.options.quiet_s


def _agree_on_count(driver: ChainDriver, expected: int) -> Generator[float, None, int]:
    """Count until it is as many as expected, or twice the same: on a bad line an answer gets lost."""
    counts: list[int] = []
    for _ in range(_ASK_AGAIN):
        yield from _count(driver, expected)
        counts.append(len(driver.chip_replies))
        if counts[-1] >= expected or counts[-1] in counts[:-1]:
            break
    return max(counts)


def _run_steps(
    driver: ChainDriver, model: ChipModel, wanted_chips: int, seen_chips: int
) -> Generator[float, None, None]:
    options = driver.options
    count = 0
    interval = model.address_interval(1)
    driver.frequency_mhz = _RAMP_START_MHZ
    for step in model.start_up:
        if isinstance(step, ToAll):
            driver.write(step.setting.register, step.setting.value)
            yield max(step.pause_s, options.settle_s)
        elif isinstance(step, ToFirst):
            driver.write(step.setting.register, step.setting.value, 0)
            yield options.settle_s
        elif isinstance(step, ToDomainEnds):
            size = options.chips_per_domain
            for index in range(size - 1, count, size):
                driver.write(step.setting.register, step.setting.value, index * interval)
            yield options.settle_s
        elif isinstance(step, ToEach):
            pause_s = step.pause_s if options.chip_pause_s is None else options.chip_pause_s
            for index in range(count):
                for setting in step.settings:
                    driver.write(setting.register, setting.value, index * interval)
                yield max(pause_s, options.settle_s)
        elif step is Step.COUNT:
            count = yield from _agree_on_count(driver, max(seen_chips, wanted_chips, driver.most_chips))
            _check_count(driver, model, count, wanted_chips)
            interval = model.address_interval(count)
        elif step is Step.INACTIVE:
            driver.send(chain_inactive())
            yield options.settle_s
        elif step is Step.ASSIGN:
            for index in range(count):
                driver.send(set_address(index * interval))
                yield min(options.settle_s, 0.01)
            if driver.monitor is not None:
                driver.monitor.set_chips(count)
        elif step is Step.TICKET_MASK:
            driver.write_ticket()
            yield options.settle_s
        elif step is Step.CLOCK:
            yield from change_clock(driver, driver.target_mhz)
        elif step is Step.HASH_COUNTING:
            _write_hash_counting(driver, model, count)
            yield options.settle_s
        elif step is Step.VERSION_MASK:
            driver.write(reg.Register.VERSION_ROLLING, reg.version_rolling(driver.version_mask))
            yield options.settle_s
        elif driver.use_fast_baud:
            rate = options.fast_rate or FastRate(model.baud, model.host_baud)
            driver.write(rate.setting.register, rate.setting.value)
            yield options.baud_settle_s
            driver.change_baud(rate.host_baud)
            yield options.baud_settle_s


def _check_count(driver: ChainDriver, model: ChipModel, count: int, wanted: int) -> None:
    if count == 0:
        raise StartUpError("the chips have stopped answering during start-up")
    strange = {reply.value >> 16 for reply in driver.chip_replies} - set(model.chip_ids)
    if strange:
        raise StartUpError(f"one chain, two kinds of chips: {model.name} and {strange.pop():04X}")
    if count < wanted:
        raise StartUpError(f"{count} of {wanted} chips answer: the chain is broken behind chip {count}")
    if count > _MOST_CHIPS or (model.assign_stride is not None and count * model.assign_stride > 256):
        raise StartUpError(f"{count} chips answer, more than can be addressed")


def change_clock(driver: ChainDriver, target_mhz: float) -> Generator[float, None, None]:
    """Ramp from the present clock to the target; hash counting follows once the chain is up."""
    model = driver.model
    if model is None:
        return
    for frequency_mhz in pll.ramp(driver.frequency_mhz, target_mhz):
        yield from driver.clock_steps(frequency_mhz)
        yield driver.options.ramp_step_s
    if driver.chips and driver.state.name == "RUNNING":
        _write_hash_counting(driver, model, driver.chips)


def clock_writes(model: ChipModel, frequency_mhz: float) -> Iterator[tuple[int, int]]:
    """(register, value) of a PLL setting; parts with dividers behind the PLL get both twice (§8.1)."""
    value = pll.find(frequency_mhz, model.pll).register_value(model.pll)
    turns = 2 if model.pll_preamble else 1
    for _ in range(turns):
        for setting in model.pll_preamble:
            yield setting.register, setting.value
    for _ in range(turns):
        yield reg.Register.PLL0, value


def nonce_offsets(model: ChipModel, chips: int) -> Iterator[tuple[int, int]]:
    """(address, value) of NONCE_OFFSET for a chain whose chips do not take their start from the address (§14.3)."""
    if model.nonce_layout is NonceLayout.OFFSET and chips > 1:
        interval = model.address_interval(chips)
        for index in range(chips):
            yield index * interval, reg.NONCE_OFFSET_ENABLE | model.nonce_offset(index, chips)


def _write_hash_counting(driver: ChainDriver, model: ChipModel, chips: int) -> None:
    if model.rolls_versions:
        clock = pll.find(driver.frequency_mhz, model.pll)
        driver.write(reg.Register.HASH_COUNTING_NUMBER, model.hash_counting_number(clock, chips))
