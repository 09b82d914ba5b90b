"""`pickaxe asic test`: a chain hashing on jobs of its own, and a verdict on every chip."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.bm13xx.events import ChainDown, ChainFailed, ChainUp, Event, NonceChecked, Overheated
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.work import ChainJob, Outcome
from miner.asic.board import Board
from miner.asic.boards.opening import board_profile, make_board
from miner.asic.boards.power import BoardFault, Sensors
from miner.asic.device import REPORTS_PER_S, choose_ticket
from miner.asic.transport import PortError, with_path
from miner.hashrate import format_rate

_ANY_TARGET = (1 << 256) - 1
_LEAST_SHARE = 0.85  #: of nominal; what Bitaxe's own self-test asks for (REFERENCE.md §17)
_LEAST_SHARE_BM1368 = 0.80
_SIGMAS = 3.0  #: luck allowed when the rate is judged by nonces
_SURELY_SOME = 7.0  #: where so many nonces are to be expected, one time in a thousand there is none
_NONCES_PER_CHIP_S = 4.0  #: that a chip is to report at least, so that each can be judged by them
_MOST_WRONG = 0.05  #: share of a chip's nonces
_JOB_S = 1.0
_PUMP_S = 0.02
_KNOWN_ANSWER_S = 2.0  #: a chain of one chip sweeps its first versions in a tenth of a second
#: A job whose difficulty-1 nonces under its own version are known: exactly these of all 2^32 (REFERENCE.md §18).
KNOWN_JOB = ChainJob(
    bytes.fromhex(
        "04000020 4595850c738349a3 fa5274a511b72ec2 65a4f23d52430500 0000000000000000"
        " 5bdc1968499c3393873edf8e07a1c3a50a97fc3a9d1a376bbf77087dd63778eb b5257064 3aae0517 00000000"
    ),
    0x2000_0004,
    0x1FFF_E000,
)
KNOWN_NONCES = (0xFCEF9936, 0x0A029ED1)


@dataclass(frozen=True, slots=True)
class ChipVerdict:
    """One chip's result. `rate`: hashes a second, real scale; `share`: of nominal."""

    index: int
    good: int
    wrong: int
    duplicate: int
    rate: float
    share: float
    verdict: str

    @property
    def rate_text(self) -> str:
        """The rate, for people."""
        return format_rate(self.rate)


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """All chips, and what failed, one line each."""

    chips: list[ChipVerdict]
    failures: list[str]


def open_board(port: str, model: str | None, options: DriverOptions, board_name: str | None = None) -> Board:
    """The board behind a port, powered up where `board_name` says how, starting up. UserError."""
    board = make_board(port, board_profile(board_name) if board_name is not None else None, model, options)
    try:
        board.open()
    except (PortError, BoardFault) as error:
        raise UserError(with_path(board.path, error)) from None
    return board


def pump_for(board: Board, seconds: float) -> list[Event]:
    """Everything that happens in that time. UserError when the board goes."""
    events: list[Event] = []
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            events += board.pump(min(left, _PUMP_S))
    except (PortError, BoardFault) as error:
        raise UserError(with_path(board.path, error)) from None
    return events


def wait_until_up(board: Board, say: Callable[[str], None] = lambda _: None) -> ChainUp:
    """Until start-up is through. UserError says what was heard instead."""
    while True:
        for event in pump_for(board, _PUMP_S):
            if isinstance(event, ChainUp):
                return event
            if isinstance(event, ChainFailed):
                raise UserError(f"{board.path}: {event.reason}")
            if isinstance(event, ChainDown):
                say(f"{event.reason}; once more")


def describe_sensors(sensors: Sensors) -> str:
    """What a board measures, in a line; "" when it measures nothing."""
    parts = [f"board {value:.1f} °C" for value in sensors.board_c]
    for value, text in (
        (sensors.chip_c, "chip {:.1f} °C"),
        (sensors.regulator_c, "regulator {:.1f} °C"),
        (sensors.volts_in, "supply {:.2f} V"),
        (sensors.volts, "core {:.3f} V"),
        (sensors.amps, "{:.1f} A"),
        (sensors.watts, "{:.1f} W"),
        (sensors.fan_rpm, "fan {:.0f} rpm"),
        (sensors.fan_percent, "driven at {:.0f} %"),
    ):
        if value is not None:
            parts.append(text.format(value))
    return ", ".join([*parts, *sensors.warnings])


def run_self_test(
    port: str,
    model: str | None,
    chips: int | None,
    frequency_mhz: float | None,
    seconds: float,
    zero_bits: int,
    say: Callable[[str], None],
    board_name: str | None = None,
) -> SelfTestReport:
    """Start the chain, hash for that long, judge. UserError when it does not start or gets too hot."""
    options = DriverOptions(chips=chips, frequency_mhz=frequency_mhz, zero_bits=zero_bits)
    board = open_board(port, model, options, board_name)
    try:
        up = wait_until_up(board, say)
        say(f"{up.chips} × {up.model.name} at {up.frequency_mhz:g} MHz, {up.baud} baud; hashing for {seconds:g} s")
        driver = board.driver
        reports_per_s = max(REPORTS_PER_S, _NONCES_PER_CHIP_S * up.chips)
        ticket = choose_ticket(_ANY_TARGET, driver.hash_rate, driver.baud, zero_bits, reports_per_s)
        driver.set_ticket(ticket, time.monotonic())
        if zero_bits == 32 and up.model.rolls_versions:
            _check_known_answers(board, up.model)
        per_chip = _hash_for(board, up.model, seconds)
        sensors = board.report().sensors
        if sensors is not None and (shown := describe_sensors(sensors)):
            say(shown)
        return _judge(board, up, per_chip, seconds)
    finally:
        board.close()


def _check_known_answers(board: Board, model: ChipModel) -> None:
    """UserError unless the chain finds the known nonces of a known job, those aside whose core the chip lacks."""
    driver = board.driver
    wanted = {nonce for nonce in KNOWN_NONCES if (model.core_of(nonce) or 0) < model.cores}
    ticket = driver.ticket
    driver.set_ticket(1, time.monotonic())
    driver.set_work(KNOWN_JOB, time.monotonic())
    end = time.monotonic() + _KNOWN_ANSWER_S
    while wanted and time.monotonic() < end:
        for event in pump_for(board, _PUMP_S):
            if isinstance(event, NonceChecked) and event.result.version == KNOWN_JOB.version:
                wanted.discard(event.result.nonce)
    driver.set_ticket(ticket, time.monotonic())
    if wanted:
        missing = ", ".join(f"{nonce:08x}" for nonce in sorted(wanted))
        raise UserError(
            f"self-test failed: the chain did not find {missing} in a job that has it (is it an emulated one? Then give"
            " the --zero-bits that `pickaxe asic emulate` printed)"
        )


def _hash_for(board: Board, model: ChipModel, seconds: float) -> dict[tuple[int | None, Outcome], int]:
    rng = random.Random()
    counts: dict[tuple[int | None, Outcome], int] = {}
    end = time.monotonic() + seconds
    job_s = _JOB_S if model.rolls_versions else 4 * (1 << 32) / max(board.driver.hash_rate, 1.0)
    while time.monotonic() < end:
        mask = 0x1FFF_E000 if model.rolls_versions else 0x6000
        board.driver.set_work(ChainJob(rng.randbytes(80), 0x2000_0000, mask), time.monotonic())
        for event in pump_for(board, min(job_s, max(0.0, end - time.monotonic()))):
            if isinstance(event, NonceChecked):
                key = event.result.chip, event.result.outcome
                counts[key] = counts.get(key, 0) + 1
            elif isinstance(event, Overheated):
                raise UserError(f"stopped: a chip is at {event.temperature_c:.0f} °C")
    return counts


def _judge(board: Board, up: ChainUp, counts: dict[tuple[int | None, Outcome], int], seconds: float) -> SelfTestReport:
    driver = board.driver
    scale = 1 << 32 - driver.options.zero_bits
    nominal = up.model.nominal_hash_rate(up.frequency_mhz)
    least = _LEAST_SHARE_BM1368 if up.model.name == "bm1368" else _LEAST_SHARE
    verdicts, failures = [], []
    states = driver.monitor.chips if driver.monitor is not None else []
    if len(states) < up.chips:
        failures.append(f"{up.chips - len(states)} of {up.chips} chips were lost")
    for chip in states:
        good = counts.get((chip.index, Outcome.GOOD), 0)
        wrong = counts.get((chip.index, Outcome.WRONG), 0)
        duplicate = counts.get((chip.index, Outcome.DUPLICATE), 0)
        by_nonces = good * driver.ticket * 2**32 / seconds
        if chip.counter_rate is not None:
            rate = chip.counter_rate * scale
            slow = rate < least * nominal
        else:
            rate = by_nonces
            slow = _too_few(good, least * nominal * seconds / (driver.ticket * 2**32))
        verdict = "good"
        if chip.lost:
            verdict = "silent"
        elif good + wrong + duplicate > 0 and wrong + duplicate > _MOST_WRONG * (good + wrong + duplicate) + 1:
            verdict = "errors"
        elif slow:
            verdict = "slow"
        if verdict != "good":
            failures.append(f"chip {chip.index} is {verdict}" if verdict != "errors" else f"chip {chip.index} errs")
        verdicts.append(ChipVerdict(chip.index, good, wrong, duplicate, rate, rate / nominal, verdict))
    return SelfTestReport(verdicts, failures)


def _too_few(found: int, expected: float) -> bool:
    """Whether bad luck alone does not explain that so few nonces were found."""
    return found + _SIGMAS * expected**0.5 < expected or (not found and expected >= _SURELY_SOME)
