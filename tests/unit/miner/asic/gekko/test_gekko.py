"""BM1384 and BM1387: frames of the reference, the driver against emulated chips in simulated time."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from chain.crypto.hashes import sha256d
from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import DriverOptions, State
from miner.asic.bm13xx.events import ChainFailed, ChainUp
from miner.asic.bm13xx.frames import NonceReply, RegisterReply
from miner.asic.bm13xx.work import ChainJob, Outcome
from miner.asic.chips import CHIPS, chip_named, driver_for
from miner.asic.emulator.gekko import EmulatedGekkoChain
from miner.asic.gekko import codec as codecs
from miner.asic.gekko.codec import Bm1384, Bm1387, GekkoDecoder
from tests.support.asic import FAST, Simulation, chain_job

REFERENCE = (Path(codecs.__file__).parent / "REFERENCE.md").read_text()
FRAMES = set(re.findall(r"`((?:[0-9A-F]{2} )+[0-9A-F]{2})`", REFERENCE))
CLOCKS = re.findall(r"^\| ([\d.]+) \| ([0-9A-F]{4}) \|$", REFERENCE, re.M)
OLD, NEW = Bm1384(), Bm1387()
BUILT = {
    "84 00 00 11": OLD.read_id(),
    "85 00 00 0F": OLD.chain_inactive(),
    "01 00 00 19": OLD.set_address(0),
    "01 80 00 16": OLD.set_address(0x80),
    "82 07 83 1C": OLD.set_clock(100),
    "04 00 04 01": OLD.read_clock(0),
    "04 80 04 0E": OLD.read_clock(0x80),
    "54 05 00 00 19": NEW.read_id(),
    "55 05 00 00 10": NEW.chain_inactive(),
    "41 05 00 00 15": NEW.set_address(0),
    "41 05 80 00 19": NEW.set_address(0x80),
    "58 09 00 0C 00 20 02 41 09": NEW.set_clock(100),
    "58 09 00 0C 00 50 02 21 1A": NEW.set_clock(500),
    "44 05 00 0C 04": NEW.read_clock(0),
    "58 09 00 1C 40 20 81 80 09": NEW.fast_baud(),
    "58 09 00 1C 00 20 01 00 1B": codecs._sealed(0x58, 9, 0, 0x1C, 0, 0x20, 1, 0),
}
REPLIES = {"13 84 00 00 13", "D1 9E 02 0A 00 10 99"}
BOARDS = [("bm1384", 1), ("bm1384", 2), ("bm1387", 2), ("bm1387", 12)]


def test_every_frame_of_the_reference_is_built_or_parsed() -> None:
    assert set(BUILT) | REPLIES == FRAMES
    for text, built in BUILT.items():
        assert built == bytes.fromhex(text), text
    assert OLD.parse(bytes.fromhex("13 84 00 00 13")) == RegisterReply(0x13840000, 0, 0)
    assert NEW.parse(bytes.fromhex("D1 9E 02 0A 00 10 99")) == NonceReply(0x0A029ED1, 0, 0x10, None)
    assert OLD.parse(bytes.fromhex("D1 9E 02 0A 91")) == NonceReply(0x0A029ED1, 0, 0x11, None)
    assert NEW.parse(bytes.fromhex("D1 9E 02 0A 00 11 99")) is None


def test_every_clock_of_the_reference() -> None:
    assert len(CLOCKS) > 10
    for mhz, register in CLOCKS:
        assert Bm1384.clock_register(float(mhz)) == int(register, 16), mhz


def test_the_job_of_the_reference() -> None:
    """V3's header, ticket 1, one chip, id 11 (cgminer's layout)."""
    wire = bytes.fromhex("46a9a88fc83e6899b41116030b4c5f488f5deb70bedcec316adbd0cdacd5e4b1")
    state = b"".join(wire[at : at + 4] for at in range(28, -1, -4))
    tail = bytes.fromhex("d63778eb b5257064 3aae0517")
    frame = OLD.job(tail, [state], 0x11, 1, 1)
    expected = wire + bytes(8) + b"\xff" * 4 + bytes(7) + b"\x11" + bytes.fromhex("3aae0517b5257064d63778eb")
    assert frame == expected
    assert len(frame) == 64
    assert len(NEW.job(tail, [state], 0x10, 1, 2)) == 54
    assert len(NEW.job(tail, [state] * 4, 0x10, 1, 2)) == 150


def test_a_lost_byte_costs_one_frame(rng: random.Random) -> None:
    decoder = GekkoDecoder(NEW)
    frame = bytes.fromhex("D1 9E 02 0A 00 10 99")
    assert len(decoder.receive_data(frame[:3] + frame[4:])) == 0
    decoder.gap()
    assert len(decoder.receive_data(frame * 3)) == 3
    assert decoder.errors.bad_frames == 1
    for _ in range(200):
        decoder.receive_data(rng.randbytes(rng.randrange(30)))
    decoder.gap()
    assert len(decoder.receive_data(frame)) == 1


def simulation(name: str, length: int, **options: object) -> Simulation:
    settings = {**FAST, "zero_bits": 7, "ticket": 1, **options}
    driver = driver_for(CHIPS[name], DriverOptions(**settings))  # type: ignore[arg-type]
    return Simulation(EmulatedGekkoChain(name, length, 7), driver)  # type: ignore[arg-type]


def test_a_midstate_that_begins_as_a_command_does_is_part_of_its_job() -> None:
    """One midstate in some 13,000: here each command that a chip knows, sealed."""
    chain = EmulatedGekkoChain("bm1384", 2, 7)
    for now, command in enumerate([OLD.set_address(0), OLD.set_address(0x80), OLD.set_clock(150)]):
        chain.receive_data(command, float(now))
    clocks = [chip.frequency_mhz for chip in chain.chips]
    begins = [OLD.read_id(), OLD.chain_inactive(), OLD.set_address(7), OLD.set_clock(100), OLD.read_clock(0)]
    for now, begin in enumerate(begins, 10):
        chain.receive_data(begin + b"m" * 28 + bytes(19) + bytes((now,)) + b"t" * 12, float(now))
        assert chain._job is not None
        assert chain._job.job_id == now
        assert [chip.address for chip in chain.chips if chip.hashing] == [0, 0x80]
        assert [chip.frequency_mhz for chip in chain.chips] == clocks
    assert chain.next_send() is None
    assert chain.bad_host_frames == 0


@pytest.mark.parametrize(("name", "chips"), BOARDS)
def test_start_up_and_true_nonces(name: str, chips: int, rng: random.Random) -> None:
    run = simulation(name, chips).up()
    (up,) = run.of_type(ChainUp)
    model = CHIPS[name]
    assert (up.model, up.chips, up.baud) == (model, chips, model.host_baud)
    assert [chip.address for chip in run.chain.chips] == [index * (256 // chips) for index in range(chips)]
    assert all(abs(chip.frequency_mhz - model.default_mhz) < 0.1 for chip in run.chain.chips)
    mask = 0 if model.midstates == 1 else 0x6000
    everyone = set(range(chips))
    job = chain_job(rng, mask)
    run.driver.set_work(job, run.now)
    for _ in range(100):
        run.run(0.5)
        run.driver.set_work(chain_job(rng, mask), run.now)
        if len(run.nonces) > 30 and {nonce.chip for nonce in run.nonces} == everyone:
            break
    good = [nonce for nonce in run.nonces if nonce.outcome is Outcome.GOOD]
    assert len(good) >= 30
    assert {nonce.outcome for nonce in run.nonces} <= {Outcome.GOOD, Outcome.STALE}
    assert {nonce.chip for nonce in good} == everyone
    for nonce in good:
        assert nonce.job is not None
        digest = sha256d(nonce.job.header_with(nonce.version, nonce.nonce))
        assert int.from_bytes(digest, "little") < 1 << 256 - 7


@pytest.mark.parametrize(("name", "chips"), BOARDS)
def test_a_dead_chip_is_noticed_and_the_others_go_on(name: str, chips: int) -> None:
    run = simulation(name, chips).up()
    run.chain.chips[-1].dead = True
    if chips == 1:
        run.until(lambda: bool(run.of_type(ChainFailed)), 120)
        return
    run.until(lambda: len(run.of_type(ChainUp)) > 1, 120)
    assert run.of_type(ChainUp)[-1].chips == chips - 1


def test_it_takes_over_a_chain_that_was_left_at_the_fast_rate() -> None:
    run = simulation("bm1387", 2)
    run.chain._divider = 1  # type: ignore[attr-defined]
    run.up()
    assert run.driver.baud == 1_500_000


def test_the_wrong_chip_and_silence_are_said() -> None:
    run = simulation("bm1387", 2, attempts=1, chips=3)
    run.start().until(lambda: run.driver.state is State.FAILED)
    assert "2 of 3 chips answer" in run.of_type(ChainFailed)[0].reason
    run = simulation("bm1384", 1, attempts=1)
    run.chain.chips[0].dead = True
    run.start().until(lambda: run.driver.state is State.FAILED)
    assert "no bm1384 answers" in run.of_type(ChainFailed)[0].reason


def test_stopping_lowers_the_clock() -> None:
    for name, chips in BOARDS:
        run = simulation(name, chips).up()
        frames = run.driver.stop_frames()
        run.chain.receive_data(frames, run.now + 1)
        assert all(chip.frequency_mhz <= 50 for chip in run.chain.chips)


def test_names_and_clocks() -> None:
    assert chip_named("BM1384") is CHIPS["bm1384"]
    with pytest.raises(UserError, match="known are bm1397"):
        chip_named("bm1385")
    with pytest.raises(UserError, match="bm1384 runs at 75 to 500 MHz, not at 900"):
        driver_for(CHIPS["bm1384"], DriverOptions(frequency_mhz=900.0))


def test_jobs_are_told_apart_by_id_and_midstate(rng: random.Random) -> None:
    run = simulation("bm1387", 1).up()
    table = run.driver.table
    assert table is not None
    ids = [table.issue(chain_job(rng, 0x6000), 1)[2] for _ in range(28)]
    assert ids == list(range(0x10, 0x80, 4))
    assert isinstance(chain_job(rng), ChainJob)
