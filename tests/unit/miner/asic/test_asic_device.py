"""Ticket choice, unit bookkeeping and what the board says of itself, without a port."""

from __future__ import annotations

import random
from unittest.mock import Mock

import pytest

from chain.primitives.errors import UserError
from miner.asic import self_test
from miner.asic.bm13xx.events import ChainUp
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.work import Outcome, split_versions
from miner.asic.boards.catalog import BOARDS
from miner.asic.boards.power import BoardFault
from miner.asic.chips import chip_named
from miner.asic.device import asic_devices, choose_ticket, versions_for
from miner.asic.families import OLDER_BOARDS
from miner.asic.self_test import KNOWN_JOB, KNOWN_NONCES
from miner.asic.transport import PortError, identify, with_path
from miner.device import DeviceError, Versions
from miner.kernels.reference import hash_number, header_hash
from miner.work.job import VERSION_ROLLING_MASK
from tests.support.asic import Simulation
from tests.unit.miner.asic.test_bm13xx_codec import V3_HEADER

TERAHASH = 1e12
DIFFICULTY_1 = 0xFFFF << 208


def test_tickets_report_every_share_and_do_not_flood() -> None:
    hard, easy = DIFFICULTY_1 // 1_000_000, (1 << 255) - 1
    assert choose_ticket(hard, TERAHASH, 1_000_000) == 32
    assert choose_ticket(hard, 100 * TERAHASH, 1_000_000) == 4096
    assert choose_ticket(hard, 100 * TERAHASH, 115_200) == 4096
    assert choose_ticket(DIFFICULTY_1 // 20, TERAHASH, 1_000_000) == 16, "shares of difficulty 20 must get through"
    assert choose_ticket(DIFFICULTY_1, 100 * TERAHASH, 115_200) == 128, "but not more than the line carries"
    assert choose_ticket(easy, TERAHASH, 1_000_000) == 32, "where any nonce is a share, only the rate counts"
    assert choose_ticket(hard, 1e9, 115_200) == 1
    assert choose_ticket(hard, TERAHASH / 2**24, 1_000_000, zero_bits=8) == 32, "a scaled chain reports as often"


def test_a_whole_unit_is_one_job_for_a_chip_that_rolls_versions() -> None:
    for base in (0x2000_0000, 0x2000_2004, 0x3FFF_E000):
        rolled = tuple(base ^ index << 13 for index in range(1 << 16))
        (job,) = split_versions(rolled, bytes(80), 1 << 16, VERSION_ROLLING_MASK)
        assert (job.version_mask, job.version) == (VERSION_ROLLING_MASK, base & ~VERSION_ROLLING_MASK)
    four = list(split_versions(tuple(0x2000_0000 | index << 13 for index in range(256)), bytes(80), 4, 0xFFFFFFFF))
    assert len(four) == 64
    assert all(job.version_count == 4 for job in four)


def test_a_run_of_versions_splits_without_a_list_and_holds_each_once(rng: random.Random) -> None:
    for _ in range(50):
        first = rng.randrange(1 << 16)
        run = Versions(rng.getrandbits(32), VERSION_ROLLING_MASK, first, rng.randint(1, min(300, (1 << 16) - first)))
        for largest, rollable in ((1 << 16, VERSION_ROLLING_MASK), (4, 0xFFFFFFFF), (1 << 16, 0x6000)):
            jobs = list(split_versions(run, bytes(80), largest, rollable))
            held = [job.rolled(index) for job in jobs for index in range(job.version_count)]
            assert sorted(held) == sorted(run)
            assert all(job.version_count <= largest and not job.version_mask & ~rollable for job in jobs)
    whole = Versions(0x2000_0000, VERSION_ROLLING_MASK, 0, 1 << 16)
    assert len(list(split_versions(whole, bytes(80), 1 << 16, VERSION_ROLLING_MASK))) == 1


def test_units_last_seconds() -> None:
    assert [versions_for(rate) for rate in (1e9, 0.2856e12, 1.07e12, 79.6e12, 1e15)] == [
        256,
        512,
        1024,
        1 << 16,
        1 << 16,
    ]


def test_a_single_version_is_a_job_without_rolling() -> None:
    lone = list(split_versions((7,), bytes(80), 1 << 16, VERSION_ROLLING_MASK))
    assert [(job.version, job.version_mask) for job in lone] == [(7, 0)]


def test_known_answers_of_the_self_test_are_true() -> None:
    assert KNOWN_JOB.header == V3_HEADER
    for nonce in KNOWN_NONCES:
        number = hash_number(header_hash(KNOWN_JOB.header_with(KNOWN_JOB.version, nonce)))
        assert number < 1 << 224
    assert [MODELS["bm1370"].core_of(nonce) for nonce in KNOWN_NONCES] == [27, 104]


def test_a_self_test_that_finds_no_known_nonce_hints_at_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "_KNOWN_ANSWER_S", 0.0)
    board = Mock()
    board.driver.ticket = 1
    with pytest.raises(UserError, match=r"did not find 0a029ed1, fcef9936 .*--zero-bits that `pickaxe asic emulate`"):
        self_test._check_known_answers(board, MODELS["bm1370"])


@pytest.mark.parametrize(
    ("found", "verdict"), [(78, "good"), (60, "good"), (40, "slow"), (28, "slow"), (1, "slow"), (0, "slow")]
)
def test_a_chip_without_counters_is_judged_by_its_nonces(found: int, verdict: str) -> None:
    """Of 78 to be expected: luck explains 60, not 40, and none at all least of all."""
    simulation = Simulation.of("bm1397", 2).up()
    driver = simulation.driver
    board = Mock(driver=driver)
    up = simulation.of_type(ChainUp)[0]
    seconds = 78 * driver.ticket * 2**32 / up.model.nominal_hash_rate(up.frequency_mhz)
    report = self_test._judge(board, up, {(0, Outcome.GOOD): found, (1, Outcome.GOOD): 78}, seconds)
    assert [chip.verdict for chip in report.chips] == [verdict, "good"]
    assert report.failures == ([] if verdict == "good" else ["chip 0 is slow"])
    assert report.chips[0].share == pytest.approx(found / 78)


def test_too_short_a_test_blames_no_chip() -> None:
    assert [self_test._too_few(0, expected) for expected in (0.0, 1.0, 6.0, 8.0)] == [False, False, False, True]


def test_a_port_that_is_not_there_is_named_once() -> None:
    (device,) = asic_devices(["/dev/nope"], None, None, 32, [])
    with pytest.raises(DeviceError, match=r"^there is no port /dev/nope; `pickaxe asic scan` lists those that exist$"):
        device.open()
    assert with_path("/dev/a,/dev/b", PortError("/dev/b is in use")) == "/dev/b is in use"
    assert with_path("/dev/a", BoardFault("switched off: 99 °C")) == "/dev/a: switched off: 99 °C"


def test_unknown_names_and_clocks_are_refused_with_a_hint(rng: random.Random) -> None:
    with pytest.raises(UserError, match="known are bm1397, bm1362"):
        chip_named("bm9999")
    with pytest.raises(UserError, match="bm1370 runs at 50 to 625 MHz, not at 900"):
        asic_devices(["/dev/nothing"], "bm1370", 900)
    assert [device.name for device in asic_devices(["/dev/a", "/dev/b"])] == ["asic0", "asic1"]


def test_boards_are_known_by_their_usb_identity() -> None:
    found = identify(0x0403, 0x6015, "CompacF Bitcoin Miner")
    assert found is not None
    assert found.chip == "bm1397"
    assert identify(0x0403, 0x6015, "keyboard") is None
    shared = identify(0x10C4, 0xEA60, "CP2102 USB to UART Bridge Controller")
    assert shared is not None
    assert shared.shared
    for vendor, product_id, product, board in (
        (0x0403, 0x6015, "NewPac Bitcoin Miner", "gekko-newpac"),
        (0x10C4, 0xEA60, "2Pac BM1384 Bitcoin Miner", "gekko-2pac"),
        (0x10C4, 0xEA60, "Block Erupter Emerald", "erupter"),
        (0x10C4, 0xEA60, "Antminer", "u1"),
        (0x0403, 0x6014, "Cairnsmore1", "icarus"),
        (0xC0DE, 0xCAFE, "Bitaxe", None),
    ):
        known = identify(vendor, product_id, product)
        assert known is not None
        assert (known.board, known.shared, known.driven) == (board, False, True)
        assert board is None or board in BOARDS or board in OLDER_BOARDS
        assert known.title == (known.name if board is None else f"{known.name}: --board {board}")


@pytest.mark.parametrize("product", ["BitaxeBonanza", "bitcrane3"])
def test_a_board_with_other_pins_is_not_taken_for_a_bitaxe(product: str) -> None:
    known = identify(0xC0DE, 0xCAFE, product)
    assert known is not None
    assert not known.driven
    assert not known.control
    assert known.title.endswith(", not driven")
