"""Boards as users have them: a port that is opened, a miner, a node; the board is emulated behind a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from pathlib import Path

import pytest

from chain.params import NETWORKS
from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.work import Outcome
from miner.asic.device import AsicDevice
from miner.asic.emulator.board import EmulatedBoard
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.transport import PortError, SerialPort
from miner.device import NONCE_SPACE, Candidate, DeviceError, HashDevice, HashJob
from miner.kernels.reference import hash_number, header_hash
from miner.scheduler import Scheduler
from miner.share import Share
from miner.telemetry import Report, Telemetry
from miner.work.getblocktemplate import TemplateSource
from miner.work.rpc import Endpoint
from tests.functional.processes import pickaxe
from tests.support.emulator import emulator_process
from tests.support.template_node import PASSWORD, USER, TemplateNode
from tests.support.waiting import until

pytestmark = pytest.mark.functional

ZERO_BITS = 5
QUICK = {"ramp_step_s": 0.001, "settle_s": 0.001, "chip_pause_s": 0.0, "zero_bits": ZERO_BITS, "recovery_s": 0.1}
TIMEOUT_S = 90
EASY = (1 << 256) - 1


def emulated(model: str, chips: int, link: Path | None = None) -> EmulatedBoard:
    return EmulatedBoard(EmulatedChain(MODELS[model], chips, ZERO_BITS), link)


def device_on(board: EmulatedBoard, model: str | None = None, **options: object) -> AsicDevice:
    device = AsicDevice("asic0", board.port, model, DriverOptions(**{**QUICK, **options}))  # type: ignore[arg-type]
    device.open()
    return device


def work(rng: random.Random, target: int = EASY, prev_hash: bytes | None = None) -> HashJob:
    header = rng.randbytes(4) + (prev_hash or rng.randbytes(32)) + rng.randbytes(44)
    return HashJob(header, tuple(0x2000_0000 | index << 13 for index in range(1 << 16)), target)


def mine(device: AsicDevice, job: HashJob, wanted: int, timeout_s: float = TIMEOUT_S) -> list[Candidate]:
    """The next candidates of a job; each is checked."""
    found: list[Candidate] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < wanted:
        result = device.search(job, 0, NONCE_SPACE, lambda: time.monotonic() > deadline)
        assert time.monotonic() < deadline, f"{len(found)} of {wanted} nonces; {device.report()}"
        for candidate in result.candidates:
            assert candidate.version in job.versions
            assert hash_number(header_hash(job.header_for(candidate.version, candidate.nonce))) <= job.target
        found += result.candidates
    return found


@pytest.mark.parametrize(("model", "chips"), [("bm1370", 4), ("bm1397", 2), ("bm1366", 6), ("bm1368", 1)])
def test_a_board_behind_a_port_finds_true_nonces(model: str, chips: int, rng: random.Random) -> None:
    with emulated(model, chips) as board:
        device = device_on(board)
        try:
            found = mine(device, work(rng), 20)
            report = device.report()
            assert len(set(found)) == len(found)
            assert (report.model, len(report.chips), report.state) == (model, chips, "running")
            assert report.baud == board.host_baud == MODELS[model].host_baud
            assert report.nonces["wrong"] == report.nonces["duplicate"] == 0
        finally:
            device.close()
        if MODELS[model].rolls_versions:
            until("the chips are stopped", lambda: board.chain.hash_rate == 0)
        until("the chips are slowed down", lambda: all(chip.frequency_mhz <= 51 for chip in board.chain.chips))


def test_a_new_block_replaces_the_work_on_every_chip(rng: random.Random) -> None:
    with emulated("bm1370", 3) as board:
        device = device_on(board, "bm1370")
        try:
            for _ in range(5):
                job = work(rng)
                mine(device, job, 5)
            totals = device.board.driver.totals
            assert totals[Outcome.WRONG] == 0
            assert totals[Outcome.GOOD] >= 25
        finally:
            device.close()


def test_cancellation_is_heeded_at_once(rng: random.Random) -> None:
    with emulated("bm1370", 1) as board:
        device = device_on(board)
        try:
            job = work(rng, target=0)
            began, answers = time.monotonic(), []

            def cancelled() -> bool:
                answers.append(time.monotonic() > began + 0.3)
                return answers[-1]

            result = device.search(job, 0, NONCE_SPACE, cancelled)
            assert result.candidates == []
            assert result.done < NONCE_SPACE, "the unit, of seconds, is not through"
            assert answers.count(True) == 1, "even while the chain starts up"
            assert device.search(job, 0, NONCE_SPACE, lambda: True).candidates == []
        finally:
            device.close()


def test_unplugged_and_plugged_in_again(tmp_path: Path, rng: random.Random) -> None:
    link = tmp_path / "board"
    with emulated("bm1370", 2, link) as board:
        device = device_on(board)
        try:
            job = work(rng)
            mine(device, job, 5)
            board.unplug()
            threading.Timer(1.0, board.plug_in).start()
            mine(device, job, 5)  # these may have been on their way when the cable was pulled
            until("the board is back", lambda: mine(device, job, 1) and device.report().replugs)
            assert device.report().replugs == 1
            mine(device, job, 5)
            assert device.report().nonces["wrong"] == 0
        finally:
            device.close()


def test_faults_do_not_stop_it(rng: random.Random) -> None:
    """Damaged bytes, a dead chip, lies and heat, one after the other; when they end, it mines as before."""
    with emulated("bm1370", 3) as board:
        device = device_on(board)
        faults, chips = board.chain.faults, board.chain.chips
        faults.rng = rng
        try:
            job = work(rng)
            mine(device, job, 5)
            for name in ("drop_rate", "flip_rate", "duplicate_rate", "wrong_nonce_rate"):
                with board.lock:
                    setattr(faults, name, 0.02)
                mine(device, job, 10)
            with board.lock:
                faults.clear()
                chips[2].dead = True
            mine(device, job, 10)
            with board.lock:
                chips[2].dead = False
            deadline = time.monotonic() + TIMEOUT_S
            while not (len(device.report().chips) == 3 and all(chip.alive for chip in device.report().chips)):
                assert time.monotonic() < deadline
                mine(device, job, 1)
            mine(device, job, 20)
        finally:
            device.close()


def test_a_port_without_a_chain_is_a_clear_failure(rng: random.Random) -> None:
    with emulated("bm1366", 1) as board:
        device = device_on(board, "bm1370", attempts=1)
        try:
            with pytest.raises(DeviceError, match="the chips are bm1366, not bm1370"):
                device.search(work(rng), 0, NONCE_SPACE)
        finally:
            device.close()


def test_ports_that_cannot_be_opened_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PortError, match=r"there is no port .*asic scan"):
        SerialPort(str(tmp_path / "nothing"), 115_200)
    plain = tmp_path / "file"
    plain.write_bytes(b"")
    with pytest.raises(PortError, match="is not a serial port"):
        SerialPort(str(plain), 115_200)
    with emulated("bm1370", 1) as board:
        first = SerialPort(board.port, 115_200)
        with pytest.raises(PortError, match="in use by another program"):
            SerialPort(board.port, 115_200)
        assert first.set_lines(dtr=True) is False, "a pseudo-terminal has no modem lines"
        first.close()

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PortError, match=r"no permission for .*: .*udev"):
        SerialPort(str(plain), 115_200)


async def mine_blocks(node: TemplateNode, device: HashDevice, wanted: int) -> Report:
    """Source, scheduler and submission joined as a mining run joins them, until so many blocks are accepted."""
    loop, shares = asyncio.get_running_loop(), asyncio.Queue[Share]()
    telemetry = Telemetry([device])
    failures: list[str] = []
    scheduler = Scheduler(
        [device],
        telemetry,
        lambda share: loop.call_soon_threadsafe(shares.put_nowait, share) and None,
        lambda _, reason, __: failures.append(reason),
    )
    source = TemplateSource(
        [Endpoint(node.url, None, USER, PASSWORD)],
        NETWORKS["dev"],
        b"\x00\x14" + bytes(20),
        on_job=scheduler.set_job,
        on_message=lambda _: None,
    )
    running = asyncio.create_task(source.run())
    scheduler.start()
    try:
        for _ in range(wanted):
            share = await shares.get()
            answer = await source.submit(share)
            assert answer.accepted, answer.reason
            telemetry.accepted()
            source.request_refresh(share.unit.job)
    finally:
        running.cancel()
        await asyncio.to_thread(scheduler.stop)
        await source.close()
    assert failures == []
    return telemetry.report()


@pytest.mark.parametrize("model", ["bm1370", "bm1397"])
def test_blocks_mined_on_a_board_are_accepted(model: str) -> None:
    async def scenario() -> None:
        node = TemplateNode()
        await node.start()
        try:
            with emulated(model, 2) as board:
                device = AsicDevice("asic0", board.port, model, DriverOptions(**QUICK))  # type: ignore[arg-type]
                report = await asyncio.wait_for(mine_blocks(node, device, 5), TIMEOUT_S)
                assert report.hardware_errors == 0
                assert len(node.blocks) == 5
                assert node.complaints == []
        finally:
            await node.stop()

    asyncio.run(scenario())


def run_asic(*arguments: str) -> tuple[int, str]:
    done = pickaxe("asic", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_info_and_self_test_on_an_emulator_process(tmp_path: Path) -> None:
    port = str(tmp_path / "emulated")
    with emulator_process(tmp_path, "bm1370", "--chips", "2", "--zero-bits", "4", "--link", port) as emulator:
        assert f"2 × bm1370 on {port}" in emulator.said()
        status, output = run_asic("info", port)
        assert status == 0, output
        assert "bm1370: 2 chips, 115200 baud" in output
        assert "13700000" in output
        status, output = run_asic("test", port, "--zero-bits", "4", "--seconds", "6", "--chips", "2")
        assert "2 × bm1370 at 525 MHz" in output, output
        emulator.tell("dead 1")
        status, output = run_asic("test", port, "--zero-bits", "4", "--seconds", "1", "--chips", "2")
        assert status != 0
        assert "1 of 2 chips answer: the chain is broken behind chip 1" in output


def test_scan_says_what_there_is() -> None:
    status, output = run_asic("scan")
    assert status == 0
    assert "port" in output
