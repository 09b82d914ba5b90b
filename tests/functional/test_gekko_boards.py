"""Gekko boards and boards described in a file, behind ports: true nonces through the device that the miner sees."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.boards.opening import board_profile, make_board
from miner.asic.device import AsicDevice
from miner.asic.emulator.catalog import EmulationOptions, emulation
from miner.device import NONCE_SPACE, HashJob
from miner.kernels.reference import hash_number, header_hash
from tests.support.waiting import until

pytestmark = pytest.mark.functional

QUICK = {"ramp_step_s": 0.001, "settle_s": 0.001, "chip_pause_s": 0.0, "recovery_s": 0.1}
EASY = (1 << 256) - 1


def mine_on(device: AsicDevice, rng: random.Random, wanted: int) -> int:
    deadline, found = time.monotonic() + 90, 0
    job = HashJob(rng.randbytes(80), tuple(0x2000_0000 | index << 13 for index in range(256)), EASY)
    while found < wanted:
        result = device.search(job, 0, NONCE_SPACE, lambda: time.monotonic() > deadline)
        assert time.monotonic() < deadline, device.report()
        for candidate in result.candidates:
            number = hash_number(header_hash(job.header_for(candidate.version, candidate.nonce)))
            assert number <= job.target
        found += len(result.candidates)
    return found


@pytest.mark.parametrize("name", ["gekko-compac", "gekko-2pac", "gekko-newpac", "gekko-r606", "gekko-compacf"])
def test_gekko_boards_find_true_nonces(name: str, rng: random.Random) -> None:
    emulated = emulation(name, EmulationOptions())
    with emulated.board as board:
        options = DriverOptions(zero_bits=emulated.zero_bits, **QUICK)  # type: ignore[arg-type]
        device = AsicDevice("asic0", board.port, board=make_board(board.port, board_profile(name), options=options))
        device.open()
        try:
            mine_on(device, rng, 10)
            report = device.report()
            assert report.state == "running"
            assert report.nonces["wrong"] == 0
            assert len(report.chips) == len(board.chain.chips)
            details = device.details()
            assert details is not None
            assert details.model == emulated.title.split("× ")[1]
        finally:
            device.close()
        until("the chips are slowed down", lambda: all(chip.frequency_mhz <= 51 for chip in board.chain.chips))


def test_a_board_of_a_file(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "shelf.toml"
    path.write_text('[chips]\nmodel = "bm1366"\ncount = 3\n[target]\nfrequency_mhz = 425\n[port]\nfast_baud = false\n')
    emulated = emulation("bm1366", EmulationOptions(chips=3))
    with emulated.board as board:
        options = DriverOptions(zero_bits=emulated.zero_bits, **QUICK)  # type: ignore[arg-type]
        device = AsicDevice(
            "asic0", board.port, board=make_board(board.port, board_profile(str(path)), options=options)
        )
        device.open()
        try:
            mine_on(device, rng, 10)
            assert board.chain.chips[0].frequency_mhz == pytest.approx(425, abs=0.5)
            assert device.report().baud == 115_200
        finally:
            device.close()
