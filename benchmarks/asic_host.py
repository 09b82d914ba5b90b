"""What ASIC boards cost the host: processor time per terahash, nonces a second on one core, and the time from a new
block to the last board's new job, through the miner's scheduler and devices.

    python -m benchmarks.asic_host [--boards 64] [--seconds 2] [--rounds 200] [--nonces 10]

64 emulated BM1370 boards, each as fast as a chain of 200 TH/s at ticket difficulty 256, their nonces synthesised at ten
times that rate. The reference is the double hash alone (hashlib), which no host can do without. New blocks come while
the boards are silent, and while each reports --nonces a second, which is what the miner sets its boards to; in turns
with them goes a loop of nothing that is as long, for what the machine itself does to a few milliseconds of work.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import select
import statistics
import struct
import sys
import time
import tty
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.work import ChainJob, Outcome
from miner.asic.board import Board
from miner.asic.device import AsicDevice
from miner.asic.emulator.wire import HostFrames, Work, nonce_reply
from miner.asic.transport import SerialPort
from miner.kernels.reference import header_hash
from miner.scheduler import Scheduler
from miner.telemetry import Telemetry
from miner.work.benchmark import benchmark_job

BOARD_HASHES_PER_S = 200e12
TICKET = 256
REPLY_BYTES, SHORT_REPLY_BYTES, BITS = 11, 9, 10
JOB_BYTES = 60  #: whatever goes to a chip and is longer is a job
WARM_UP = 10  #: rounds until every board's thread is at work
PATIENCE_S = 5.0


def running_driver(name: str = "bm1370") -> ChainDriver:
    """A driver of one chip that has come up; every hash counts as a true nonce."""
    driver = ChainDriver(MODELS[name], DriverOptions(zero_bits=0, ticket=1, poll_s=1e9))
    driver.identified(MODELS[name])
    if driver.monitor is None or driver.model is None:
        raise RuntimeError("a driver without chips")
    driver.monitor.set_chips(1)
    driver.decoder.reply_size = REPLY_BYTES if driver.model.rolls_versions else SHORT_REPLY_BYTES
    driver.came_up(1)
    driver.events()
    return driver


def nonces_per_second(seconds: float) -> tuple[float, float]:
    """(through decoder, job table and double hash; double hash alone), on one core."""
    rng = random.Random(1)
    driver = running_driver()
    driver.set_work(ChainJob(rng.randbytes(80), 0x2000_0000, 0x1FFF_E000), 0.0)
    chip_id = driver.model.job_ids()[0] if driver.model is not None else 0
    handled, elapsed = 0, 0.0
    while elapsed < seconds:
        stream = b"".join(
            nonce_reply(rng.getrandbits(32), 0, chip_id << 1 & 0xF0, rng.getrandbits(16)) for _ in range(2000)
        )
        pieces = [stream[at : at + 512] for at in range(0, len(stream), 512)]
        began = time.process_time()
        for piece in pieces:
            handled += len(driver.receive_data(piece, 0.0))
        elapsed += time.process_time() - began
    if driver.totals[Outcome.GOOD] != handled:
        raise RuntimeError(f"nonces were lost: {driver.totals}")
    header, count, began = bytearray(rng.randbytes(80)), 0, time.process_time()
    while (alone := time.process_time() - began) < seconds:
        for _ in range(1000):
            header[76:] = count.to_bytes(4, "little")
            header_hash(bytes(header))
            count += 1
    return handled / elapsed, count / alone


class RunningBoard(Board):
    """A board whose chips are up as soon as its port is open."""

    def open(self) -> None:
        self._port = SerialPort(self.path, 115_200)


class Chips:
    """The chips behind all the boards' pseudo-terminals, in a process of its own: they take jobs, and each board
    reports `per_second` nonces for its last one at random times. `reported()` ends them and says how many they were."""

    def __init__(self, model: ChipModel, masters: list[int], per_second: float) -> None:
        self._result, result = os.pipe()
        self._stop_end, self._stop = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(result, struct.pack("<I", self._play(model, masters, per_second)))
            finally:
                os._exit(0)
        os.close(result)

    def reported(self) -> int:
        """End them."""
        os.write(self._stop, b"\0")
        (count,) = struct.unpack("<I", os.read(self._result, 4))
        os.waitpid(self._pid, 0)
        for descriptor in (self._result, self._stop_end, self._stop):
            os.close(descriptor)
        return int(count)

    def _play(self, model: ChipModel, masters: list[int], per_second: float) -> int:
        rng, count = random.Random(2), 0
        heard = {master: HostFrames(full_header=model.rolls_versions) for master in masters}
        jobs: dict[int, int] = {}  # id by master
        poll = select.poll()
        for descriptor in (*masters, self._stop_end):
            poll.register(descriptor, select.POLLIN)
        next_nonce = time.monotonic()
        while True:
            wait_ms = max(0.0, next_nonce - time.monotonic()) * 1e3 if per_second else None
            for descriptor, _ in poll.poll(wait_ms):
                if descriptor == self._stop_end:
                    return count
                frames = heard[descriptor].receive_data(os.read(descriptor, 4096))
                jobs.update((descriptor, frame.job_id) for frame in frames if isinstance(frame, Work))
            if per_second and time.monotonic() >= next_nonce:
                next_nonce += rng.expovariate(per_second * len(masters))
                if (job_id := jobs.get(master := rng.choice(masters))) is not None:
                    tag = job_id << model.reply_id_shift & model.reply_id_mask
                    rolled = 0 if model.rolls_versions else None
                    os.write(master, nonce_reply(rng.getrandbits(32), 0, tag, rolled))
                    count += 1


class Writes:
    """When a job was last written to each port."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._write, self._write_now = SerialPort.write, SerialPort.write_now

    def __enter__(self) -> Writes:
        def write(port: SerialPort, data: bytes) -> None:
            self._write(port, data)
            self._heard(port, data)

        def write_now(port: SerialPort, data: bytes) -> int:
            count = self._write_now(port, data)
            if count == len(data):
                self._heard(port, data)
            return count

        setattr(SerialPort, "write", write)  # noqa: B010 (mypy allows no assignment to a method)
        setattr(SerialPort, "write_now", write_now)  # noqa: B010
        return self

    def __exit__(self, *_: object) -> None:
        setattr(SerialPort, "write", self._write)  # noqa: B010
        setattr(SerialPort, "write_now", self._write_now)  # noqa: B010

    def _heard(self, port: SerialPort, data: bytes) -> None:
        if len(data) >= JOB_BYTES:
            self.at[port.path] = time.perf_counter()


def spin(turns: int) -> float:
    """Seconds that a loop of nothing takes now."""
    began, total = time.perf_counter(), 0
    for turn in range(turns):
        total += turn & 7
    return time.perf_counter() - began


def turns_for(seconds: float) -> int:
    """How often the loop goes round in that time, undisturbed."""
    return int(seconds * 10_000 / min(spin(10_000) for _ in range(50)))


def new_block_latencies(
    boards: int, rounds: int, model: str, version_rolling: bool, nonces_per_s: float = 0.0
) -> tuple[list[float], list[float]]:
    """Seconds from a new block's job in the scheduler's hands to the last board's job written to its pseudo-terminal,
    each board with its thread, as in `pickaxe mine`, and reporting so many nonces. Then, in turns with these, what a
    loop of nothing takes that is as long as the quickest of them in the warm-up: what the machine alone adds. Raises
    RuntimeError if a nonce is lost."""
    rng = random.Random(0)
    masters, slaves, devices = [], [], []
    for number in range(boards):
        master, slave = os.openpty()
        tty.setraw(slave)
        path = os.ttyname(slave)
        masters.append(master)
        slaves.append(slave)
        devices.append(AsicDevice(f"asic{number}", path, board=RunningBoard(path, driver=running_driver(model))))
    chips = Chips(MODELS[model], masters, nonces_per_s)
    failures: list[str] = []
    scheduler = Scheduler(
        devices, Telemetry(devices), lambda share: None, lambda device, reason, left: failures.append(reason)
    )
    job = benchmark_job(version_rolling)
    latencies: list[float] = []
    loops: list[float] = []
    turns = 0
    try:
        with Writes() as writes:
            scheduler.start()
            for number in range(WARM_UP + rounds):
                block = dataclasses.replace(job, prev_hash=rng.randbytes(32), number=number)
                writes.at.clear()
                began = time.perf_counter()
                scheduler.set_job(block)
                while len(writes.at) < boards:
                    if failures or time.perf_counter() - began > PATIENCE_S:
                        raise RuntimeError(f"{boards - len(writes.at)} boards had no job: {failures}")
                    time.sleep(0.002)
                latencies.append(max(writes.at.values()) - began)
                time.sleep(rng.uniform(0.02, 0.05))
                turns = turns or (turns_for(min(latencies)) if len(latencies) == WARM_UP else 0)
                loops.append(spin(turns))
        reported = chips.reported()
        time.sleep(0.5)  # for the last ones
        scheduler.stop()
        heard = sum(sum(device.board.driver.totals.values()) for device in devices)
        if heard != reported:
            raise RuntimeError(f"{reported} nonces were reported, {heard} heard")
    finally:
        for descriptor in masters + slaves:
            os.close(descriptor)
    return latencies[WARM_UP:], loops[WARM_UP:]


def spread(times: list[float]) -> str:
    """Median and 99th percentile of seconds, in milliseconds."""
    p99 = sorted(times)[int(len(times) * 0.99)]
    return f"p50 {statistics.median(times) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each rate")
    parser.add_argument("--rounds", type=int, default=200, help="new blocks")
    parser.add_argument("--nonces", type=float, default=10.0, help="nonces a second that each board reports meanwhile")
    options = parser.parse_args()
    boards, seconds, rounds = options.boards, options.seconds, options.rounds
    handled, hashed = nonces_per_second(seconds)
    wanted = 10 * boards * BOARD_HASHES_PER_S / (TICKET << 32)
    table = Table("what", "figure", "against")
    table.add_row("nonces a second, one core", f"{handled:,.0f}", f"{hashed / handled:.2f} × a double hash alone")
    table.add_row(
        f"nonces of {boards} boards of 200 TH/s, ten times over", f"{wanted:,.0f}", f"{wanted / handled:.2f} of a core"
    )
    per_terahash_us = 1e6 * 1e12 / (TICKET << 32) / handled
    table.add_row("processor time per TH/s, ticket 256", f"{per_terahash_us:.1f} µs a second", "")
    busy = f", {options.nonces:g} nonces/s each"
    for model, version_rolling, nonces, what, frame_bytes in (
        ("bm1370", False, 0.0, "one version", 88),
        ("bm1370", True, 0.0, "256 versions", 88),
        ("bm1370", True, options.nonces, "256 versions" + busy, 88),
        ("bm1397", True, 0.0, "four midstates", 152),
        ("bm1397", True, options.nonces, "four midstates" + busy, 152),
    ):
        times, loops = new_block_latencies(boards, rounds, model, version_rolling, nonces)
        table.add_row(
            f"new block to the last of {boards} boards ({model}, {what})",
            spread(times),
            f"a loop: {spread(loops)}; link: {frame_bytes * BITS / 1e6 * 1e3:.2f} ms",
        )
    table.add_row("a reply on the link", f"{REPLY_BYTES * BITS / 1e6 * 1e3:.2f} ms", "9,091 a second at 1 Mbaud")
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
