"""The chain driver against emulated chips, in simulated time."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import pytest

from chain.crypto.hashes import sha256d
from miner.asic.bm13xx import pll, ticket_mask
from miner.asic.bm13xx.driver import ChainDriver, DriverOptions, State
from miner.asic.bm13xx.events import (
    ChainDown,
    ChainFailed,
    ChainUp,
    ChipLost,
    Overheated,
    RegisterRead,
)
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.registers import Register
from miner.asic.bm13xx.work import ChainJob, Outcome
from miner.asic.boards.catalog import board_named
from miner.asic.boards.opening import replaced
from miner.asic.chips import chip_named, driver_for
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.faults import Faults
from miner.asic.self_test import KNOWN_JOB, KNOWN_NONCES
from tests.support.asic import FAST, Simulation, chain_job
from tests.unit.miner.asic.test_bm13xx_codec import V1_HEADER

LENGTHS = [(name, chips) for name in MODELS for chips in (1, 3)]
ONE_MIDSTATE_GROUP = 0x0000_6000
ALL_VERSIONS = 0x1FFF_E000


def mask_for(model: str) -> int:
    return ALL_VERSIONS if MODELS[model].rolls_versions else ONE_MIDSTATE_GROUP


@pytest.mark.parametrize(("model", "chips"), LENGTHS)
def test_start_up_leaves_every_chip_configured(model: str, chips: int) -> None:
    simulation = Simulation.of(model, chips, ticket=256).up()
    driver, expected = simulation.driver, MODELS[model]
    (up,) = simulation.of_type(ChainUp)
    assert (up.model, up.chips, up.baud) == (expected, chips, expected.host_baud)
    interval = expected.address_interval(chips)
    assert [chip.address for chip in simulation.chain.chips] == [index * interval for index in range(chips)]
    for chip in simulation.chain.chips:
        assert abs(chip.frequency_mhz - expected.default_mhz) < 0.6
        assert ticket_mask.difficulty_of(chip.registers[Register.TICKET_MASK]) == 256
        assert chip.hashing
        assert chip.long_replies == expected.rolls_versions
    assert simulation.chain.bad_host_frames == 0
    assert driver.decoder.errors.bad_frames == 0
    assert driver.hash_rate == pytest.approx(expected.nominal_hash_rate(expected.default_mhz) * chips / 2**26)


@pytest.mark.parametrize(("model", "chips"), LENGTHS)
def test_nonces_are_true_and_all_arrive(model: str, chips: int, rng: random.Random) -> None:
    simulation = Simulation.of(model, chips).up()
    job = chain_job(rng, mask_for(model))
    simulation.driver.set_work(job, simulation.now)
    everyone = set(range(chips))
    simulation.until(lambda: len(simulation.nonces) >= 40 and {nonce.chip for nonce in simulation.nonces} == everyone)
    simulation.hashing = False
    simulation.run(0.1)
    assert len(simulation.nonces) == simulation.chain.reported
    assert {nonce.outcome for nonce in simulation.nonces} == {Outcome.GOOD}
    for nonce in simulation.nonces:
        assert nonce.version & ~job.version_mask == job.version
        header = job.header_with(nonce.version, nonce.nonce)
        digest = sha256d(header)
        assert int.from_bytes(digest, "little") == nonce.number < 1 << 256 - 8
    assert len({(nonce.version, nonce.nonce) for nonce in simulation.nonces}) == len(simulation.nonces)
    assert {nonce.chip for nonce in simulation.nonces} == everyone


@pytest.mark.parametrize(("model", "chips"), [("bm1362", 126), ("bm1370", 65), ("bm1366", 110), ("bm1397", 30)])
def test_long_chains(model: str, chips: int) -> None:
    simulation = Simulation.of(model, chips)
    simulation.hashing = False
    simulation.up(60)
    assert simulation.driver.chips == chips
    addresses = [chip.address for chip in simulation.chain.chips]
    assert addresses == sorted(set(addresses))
    assert max(addresses) < 256


def test_bm1370_starts_in_the_order_that_was_captured() -> None:
    """A Bitaxe Gamma from reset to the first clock setting, frame by frame (REFERENCE.md §15.4)."""
    simulation = Simulation.of("bm1370", ticket=256, fast_baud=False).up()
    expected = """
        55 AA 52 05 00 00 0A
        55 AA 51 09 00 A4 90 00 FF FF 1C
        55 AA 51 09 00 A4 90 00 FF FF 1C
        55 AA 51 09 00 A4 90 00 FF FF 1C
        55 AA 52 05 00 00 0A
        55 AA 51 09 00 A4 90 00 FF FF 1C
        55 AA 51 09 00 A8 00 07 00 00 03
        55 AA 51 09 00 18 F0 00 C1 00 04
        55 AA 53 05 00 00 03
        55 AA 40 05 00 00 1C
        55 AA 51 09 00 3C 80 00 8B 00 12
        55 AA 51 09 00 3C 80 00 80 0C 11
        55 AA 51 09 00 14 00 00 00 FF 08
        55 AA 51 09 00 58 00 01 11 11 0D
        55 AA 41 09 00 A8 00 07 01 F0 15
        55 AA 41 09 00 18 F0 00 C1 00 0C
        55 AA 41 09 00 3C 80 00 8B 00 1A
        55 AA 41 09 00 3C 80 00 80 0C 19
        55 AA 41 09 00 3C 80 00 82 AA 05
        55 AA 51 09 00 B9 00 00 44 80 0D
        55 AA 51 09 00 54 00 00 00 02 18
        55 AA 51 09 00 B9 00 00 44 80 0D
        55 AA 51 09 00 3C 80 00 8D EE 1B
        55 AA 51 09 00 08 40 BD 02 65 01
        55 AA 51 09 00 08 40 AF 02 64 08
        55 AA 51 09 00 08 40 A5 02 54 08
        55 AA 51 09 00 08 40 A8 02 63 11
    """
    frames = simulation.frames_sent()
    wanted = [line.strip() for line in expected.strip().splitlines()]
    assert frames[: len(wanted)] == wanted
    assert frames[-4:] == [
        "55 AA 51 09 00 08 40 A8 02 30 03",
        "55 AA 51 09 00 10 00 0C 2F B7 18",
        "55 AA 51 09 00 A4 90 00 FF FF 1C",
        "55 AA 52 05 00 00 0A",
    ]


@pytest.mark.parametrize("model", MODELS)
def test_the_chips_say_what_they_are(model: str) -> None:
    simulation = Simulation.of(model, 2)
    simulation.driver = ChainDriver(None, simulation.driver.options)
    simulation.up()
    assert simulation.driver.model is MODELS[model]


@pytest.mark.parametrize("model", MODELS)
def test_a_running_chain_is_taken_over_without_a_reset(model: str, rng: random.Random) -> None:
    """Another program left it hashing at its fast rate."""
    simulation = Simulation.of(model, 3).up()
    simulation.driver.set_work(chain_job(rng, mask_for(model)), simulation.now)
    simulation.run(0.3)
    simulation.driver = ChainDriver(None, simulation.driver.options)
    simulation.host_baud = 115_200
    simulation.events.clear()
    simulation.up()
    assert simulation.driver.chips == 3
    simulation.driver.set_work(chain_job(rng, mask_for(model)), simulation.now)
    simulation.run(0.1)
    leftover = len(simulation.nonces)
    simulation.until(lambda: len(simulation.nonces) >= leftover + 5)
    assert {nonce.outcome for nonce in simulation.nonces[leftover:]} == {Outcome.GOOD}


def failure(simulation: Simulation) -> str:
    simulation.start().until(lambda: bool(simulation.of_type(ChainFailed)))
    return simulation.of_type(ChainFailed)[0].reason


def test_failures_say_what_was_heard() -> None:
    wrong = Simulation.of("bm1366")
    wrong.driver = ChainDriver(MODELS["bm1370"], wrong.driver.options)
    assert failure(wrong) == "the chips are bm1366, not bm1370"

    silent = Simulation.of("bm1370", 2)
    for chip in silent.chain.chips:
        chip.dead = True
    assert failure(silent) == "no chip answers: is the board powered, and is this its data port?"

    short = Simulation.of("bm1370", 5)
    short.driver = ChainDriver(None, DriverOptions(chips=6, **FAST))  # type: ignore[arg-type]
    assert failure(short) == "5 of 6 chips answer: the chain is broken behind chip 5"

    noisy = Simulation.of("bm1370")
    noisy.chain.faults.flip_rate = 0.5
    assert "no reply of a BM13xx among them" in failure(noisy)


def test_a_clock_beyond_what_the_chips_take_is_refused_once_they_have_said_what_they_are() -> None:
    chain = EmulatedChain(MODELS["bm1373"], 1, 6)
    driver = ChainDriver(None, DriverOptions(**FAST, zero_bits=6, frequency_mhz=625.0))
    simulation = Simulation(chain, driver).start()
    simulation.until(lambda: driver.state.value == "failed")
    assert [event.reason for event in simulation.of_type(ChainFailed)] == ["bm1373 runs at 50 to 410 MHz, not at 625"]
    assert not simulation.of_type(ChainDown)  # it would not be any better another time
    assert chain.chips[0].frequency_mhz < 410


def test_a_board_that_cannot_follow_the_fast_rate_stays_at_the_first() -> None:
    simulation = Simulation.of("bm1370", 2)
    simulation.fastest_baud = 115_200
    simulation.reset_line = True
    simulation.up()
    assert simulation.driver.baud == 115_200


def test_a_bridge_that_cannot_follow_the_chips_usual_rate_gets_its_own() -> None:
    board = board_named("gekko-r909")
    options = replaced(DriverOptions(zero_bits=6, **FAST), board)  # type: ignore[arg-type]
    simulation = Simulation(EmulatedChain(MODELS["bm1397"], 6, 6), ChainDriver(None, options), fastest_baud=3_000_000)
    simulation.up()
    assert (simulation.host_baud, simulation.chain.actual_baud) == (1_500_000, 1_562_500)
    assert not simulation.of_type(ChainDown)
    taken_over = Simulation(simulation.chain, ChainDriver(None, DriverOptions(**FAST)))  # type: ignore[arg-type]
    taken_over.now = simulation.now
    taken_over.up()  # chips without a reset line are still at that rate


def test_each_write_of_a_bm1397s_clock_has_its_time() -> None:
    simulation = Simulation.of("bm1397", settle_s=0.01).up()
    simulation.sent.clear()
    simulation.driver.set_frequency(431.25, simulation.now)
    writes: list[tuple[float, str]] = []
    while len(writes) < 4:
        simulation.step()
        writes += [
            (simulation.now, data.hex()[8:12])
            for data in simulation.sent
            if data[3:6] in (b"\x09\0\x70", b"\x09\0\x08")
        ]
        simulation.sent.clear()
    assert [register for _, register in writes] == ["0070", "0070", "0008", "0008"]
    times = [at for at, _ in writes]
    assert all(later - earlier > 0.009 for earlier, later in pairwise(times))


def test_a_new_block_makes_what_is_on_its_way_stale(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.chain.latency_s = 0.25
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.until(lambda: len(simulation.nonces) >= 10)
    simulation.driver.set_work(chain_job(rng, owner="next"), simulation.now, clean=True)
    simulation.run(1)
    outcomes = [nonce.outcome for nonce in simulation.nonces]
    assert 0 < outcomes.count(Outcome.STALE) < 100  # some 28
    assert Outcome.WRONG not in outcomes
    late = outcomes[::-1].index(Outcome.STALE)
    assert late > 20, "after the job has arrived nothing stale is reported"


def test_within_a_block_the_last_job_still_counts(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.chain.latency_s = 0.05

    def owners(since: int = 0) -> list[object]:
        return [nonce.job.owner for nonce in simulation.nonces[since:] if nonce.job is not None]

    def found(owner: int) -> bool:
        return owner in owners()

    late = 0
    for number in range(20):
        before = len(simulation.nonces)
        simulation.driver.set_work(chain_job(rng, owner=number), simulation.now)
        simulation.until(partial(found, number))
        late += owners(before).count(number - 1)
    assert {nonce.outcome for nonce in simulation.nonces} == {Outcome.GOOD}
    assert len(owners()) == len(simulation.nonces)
    assert set(owners()) == set(range(20))
    assert late > 20, "found before the next job came, and received after it"


def test_job_ids_that_lie_are_found_out(rng: random.Random) -> None:
    simulation = Simulation.of("bm1366").up()
    simulation.chain.faults.stale_id_rate = 1.0
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(2)
    assert simulation.driver.totals[Outcome.WRONG] > 0.8 * len(simulation.nonces) > 8


def test_duplicates_and_wrong_nonces_are_counted_apart(rng: random.Random) -> None:
    simulation = Simulation.of("bm1368").up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.chain.faults.repeat_nonces = 7
    simulation.until(lambda: len(simulation.nonces) > 30)
    assert simulation.driver.totals[Outcome.DUPLICATE] == 7
    simulation.chain.faults.wrong_nonce_rate = 1.0
    before = len(simulation.nonces)
    simulation.until(lambda: len(simulation.nonces) > before + 30)
    assert simulation.driver.totals[Outcome.WRONG] > 25


def test_a_stuck_chip_is_started_again(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(0.5)
    simulation.chain.faults.stuck_chip = 1
    simulation.until(lambda: bool(simulation.of_type(ChainDown)))
    assert "chip 1 reports nothing but wrong or repeated nonces" in simulation.of_type(ChainDown)[0].reason
    simulation.chain.faults.clear()
    simulation.until(lambda: simulation.driver.state is State.RUNNING, 5)
    good = simulation.driver.totals[Outcome.GOOD]
    simulation.until(lambda: simulation.driver.totals[Outcome.GOOD] > good + 10)


def test_a_dead_chip_is_named_and_the_others_go_on(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 4).up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(1)
    simulation.chain.chips[3].dead = True
    simulation.until(lambda: bool(simulation.of_type(ChipLost)))
    assert simulation.of_type(ChipLost)[0].index == 3
    simulation.until(lambda: simulation.driver.state is State.RUNNING and simulation.driver.chips == 3)
    good = simulation.driver.totals[Outcome.GOOD]
    simulation.until(lambda: simulation.driver.totals[Outcome.GOOD] > good + 30)

    simulation.chain.chips[3].dead = False
    began = simulation.now
    simulation.until(lambda: simulation.driver.chips == 4 and simulation.driver.state is State.RUNNING)
    assert simulation.now - began < 6, "a chip that answers again is taken back without waiting for the next try"
    before = len(simulation.nonces)
    simulation.run(2)
    assert {nonce.chip for nonce in simulation.nonces[before:]} == {0, 1, 2, 3}


def test_a_chain_that_falls_silent_is_started_again(rng: random.Random) -> None:
    simulation = Simulation.of("bm1366", 2).up()
    simulation.reset_line = True
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(1)
    simulation.chain.reset()  # a brown-out: unaddressed, at the first rate, not hashing
    simulation.until(lambda: bool(simulation.of_type(ChainDown)), 10)
    simulation.until(lambda: len(simulation.of_type(ChainUp)) == 2, 10)
    good = simulation.driver.totals[Outcome.GOOD]
    simulation.until(lambda: simulation.driver.totals[Outcome.GOOD] > good + 10, 5)
    assert simulation.driver.restarts == len(simulation.of_type(ChainDown)) == 1
    assert simulation.driver.chips == 2
    assert simulation.driver.totals[Outcome.WRONG] == 0


def test_a_lost_ticket_mask_is_written_again(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", ticket=64).up()
    simulation.chain.chips[0].registers[Register.TICKET_MASK] = 0
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(2)
    assert simulation.driver.totals[Outcome.BELOW_TICKET] > 0
    assert ticket_mask.difficulty_of(simulation.chain.chips[0].registers[Register.TICKET_MASK]) == 64


@pytest.mark.parametrize("fault", ["drop_rate", "flip_rate", "duplicate_rate"])
def test_damage_on_the_line_costs_only_the_frames_it_hits(fault: str, rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2, poll_s=1000.0).up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    faults = Faults(rng, intact=[])
    setattr(faults, fault, 0.01)
    simulation.chain.faults = faults
    simulation.until(lambda: simulation.chain.reported >= 300)
    simulation.hashing = False
    simulation.run(0.2)
    nonces = sum(frame[-1] >> 5 == 4 for _, frame in faults.intact or [])
    assert 0 < nonces < simulation.chain.reported
    assert simulation.driver.totals[Outcome.GOOD] >= nonces - 1


def test_lost_host_bytes_do_not_stop_the_chain(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.chain.faults.rng = rng
    simulation.chain.faults.host_drop_rate = 0.002
    jobs = 0
    while jobs < 40 or not simulation.chain.bad_host_frames:
        simulation.driver.set_work(chain_job(rng), simulation.now)
        simulation.run(0.1)
        jobs += 1
        assert jobs < 1000, "some are lost"
    simulation.chain.faults.clear()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    good = simulation.driver.totals[Outcome.GOOD]
    simulation.until(lambda: simulation.driver.totals[Outcome.GOOD] > good + 10, 10)
    assert simulation.driver.state is State.RUNNING


def test_overheating_stops_the_chips(rng: random.Random) -> None:
    simulation = Simulation.of("bm1368", 2).up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(4)
    known = simulation.driver.monitor
    assert known is not None
    assert known.hottest_c is not None
    assert 25 < known.hottest_c < 70
    simulation.chain.chips[1].heat_c = 60
    simulation.until(lambda: bool(simulation.of_type(Overheated)))
    simulation.run(0.1)
    assert simulation.driver.state is State.STOPPED
    assert simulation.chain.hash_rate == 0
    assert all(chip.frequency_mhz < 60 for chip in simulation.chain.chips)


def test_the_clock_moves_by_steps_and_hash_counting_follows() -> None:
    simulation = Simulation.of("bm1366", 2).up()
    simulation.sent.clear()
    simulation.driver.set_frequency(510, simulation.now)
    simulation.run(1)
    clocks = [frame for frame in simulation.frames_sent() if frame.startswith("55 AA 51 09 00 08")]
    assert len(clocks) == 5
    assert simulation.chain.chips[0].frequency_mhz == pytest.approx(510, abs=0.6)
    expected = MODELS["bm1366"].hash_counting_number
    assert simulation.chain.chips[0].registers[Register.HASH_COUNTING_NUMBER] == expected(
        pll.find(510, MODELS["bm1366"].pll), 2
    )


def test_counters_tell_each_chips_rate(rng: random.Random) -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.driver.set_work(chain_job(rng), simulation.now)
    simulation.run(6)
    monitor = simulation.driver.monitor
    assert monitor is not None
    for chip in monitor.chips:
        assert chip.counter_rate == pytest.approx(simulation.chain.hash_rate / 2, rel=0.2)


def test_any_register_can_be_asked_for() -> None:
    simulation = Simulation.of("bm1370", 2).up()
    simulation.events.clear()
    simulation.driver.request_register(Register.PLL0, simulation.now)
    simulation.run(0.1)
    assert [(e.address, e.value) for e in simulation.of_type(RegisterRead)] == [(0, 0xC0A80230), (128, 0xC0A80230)]


def test_two_kinds_of_chips_on_one_chain_are_refused() -> None:
    simulation = Simulation.of("bm1366", 2)
    simulation.chain.chips[1].model = MODELS["bm1368"]
    assert "two kinds of chips" in failure(simulation)


def test_an_exhausted_job_yields_duplicates_only(rng: random.Random) -> None:
    """What a chip does after its last version: it starts over, silently (REFERENCE.md §14.2)."""
    simulation = Simulation.of("bm1370", zero_bits=4, ticket=4)
    simulation.up()
    simulation.driver.set_work(chain_job(rng, mask=0), simulation.now)
    simulation.run(0.05)
    simulation.chain.chips[0].registers[Register.HASH_COUNTING_NUMBER] = 1
    totals = simulation.driver.totals
    simulation.until(lambda: totals[Outcome.DUPLICATE] >= 5)
    good = totals[Outcome.GOOD]
    simulation.until(lambda: totals[Outcome.DUPLICATE] >= 40)
    assert totals[Outcome.GOOD] == good > 20


@pytest.mark.parametrize(("model", "cores"), [("bm1370", {27, 104}), ("bm1366", {27, 104}), ("bm1368", {27})])
def test_known_answers_at_full_scale(model: str, cores: set[int]) -> None:
    """A real difficulty: the two nonces a job is known to have; the core of one is not on every chip."""
    simulation = Simulation.of(model, zero_bits=32, ticket=1).up()
    simulation.driver.set_work(KNOWN_JOB, simulation.now)
    simulation.run(0.1)
    assert {nonce.core for nonce in simulation.nonces} == cores
    assert {nonce.outcome for nonce in simulation.nonces} == {Outcome.GOOD}
    assert all(nonce.nonce in KNOWN_NONCES and nonce.number < 1 << 224 for nonce in simulation.nonces)


def test_known_answer_of_midstates() -> None:
    simulation = Simulation.of("bm1397", zero_bits=32, ticket=256).up()
    job = ChainJob(KNOWN_JOB.header, KNOWN_JOB.version, 0x6000)
    simulation.driver.set_work(job, simulation.now)
    simulation.run(0.1)
    assert [(nonce.nonce, nonce.version, nonce.outcome) for nonce in simulation.nonces] == [
        (0x0A029ED1, 0x20000004, Outcome.GOOD)
    ]


def test_the_captured_job_gets_the_captured_answer() -> None:
    """A Bitaxe Gamma's job in, the very reply that a pool accepted out, but for the sub-core (REFERENCE.md §11.1)."""
    simulation = Simulation.of("bm1370", zero_bits=32, ticket=256).up()
    simulation.driver.set_work(ChainJob(V1_HEADER, 0x20000000, ALL_VERSIONS), simulation.now)
    simulation.run(0.1)
    (nonce,) = simulation.nonces
    assert (nonce.nonce, nonce.version, nonce.core, nonce.sub_core) == (0x7552034C, 0x20B44000, 38, 2)


def test_options_are_per_chain() -> None:
    options = DriverOptions(**{**FAST, "frequency_mhz": 400.0, "ticket": 1024})  # type: ignore[arg-type]
    simulation = Simulation(EmulatedChain(MODELS["bm1370"], 1, 4), ChainDriver(None, options))
    simulation.up()
    assert simulation.chain.chips[0].frequency_mhz == 400


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (bytes.fromhex("55AA520500000A"), "what was sent comes back"),
        (b"\r\nERROR\r\n", "a text, 'ERROR'"),
        (bytes.fromhex("0102FFFE"), "at first 0102fffe"),
        (bytes(4), "at first 00000000"),
    ],
)
@pytest.mark.parametrize("model", ["bm1370", "bm1384"])
def test_what_was_heard_is_shown_where_no_chip_answers(model: str, heard: bytes, words: str) -> None:
    options = DriverOptions(attempts=1, answer_timeout_s=0.05, quiet_s=0.02, baud_settle_s=0.0)
    driver, now = driver_for(chip_named(model), options), 0.0
    reasons: list[str] = []
    driver.start(now)
    while not reasons:
        driver.actions(now)
        events = driver.events() + driver.receive_data(heard, now)
        reasons = [event.reason for event in events if isinstance(event, ChainFailed)]
        now += 0.01
        assert now < 30
    assert words in reasons[0]
