"""What ASIC boards cost the host: processor time per terahash, nonces a second on one core, and the time from a new
block to the last board's new job.

    python benchmarks/asic_host.py [--boards 64] [--seconds 2] [--rounds 200]

64 emulated BM1370 boards, each as fast as a chain of 200 TH/s at ticket difficulty 256, their nonces synthesised at ten
times that rate. The reference is the double hash alone (hashlib), which no host can do without.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
import tty
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions, Send
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.work import ChainJob, Outcome, split_versions
from miner.asic.emulator.wire import nonce_reply
from miner.asic.transport import SerialPort
from miner.device import Versions
from miner.kernels.reference import header_hash

BOARD_HASHES_PER_S = 200e12
TICKET = 256
FRAME_BYTES, REPLY_BYTES, BITS = 88, 11, 10


def running_driver() -> ChainDriver:
    """A driver of one BM1370 that has come up; every hash counts as a true nonce."""
    driver = ChainDriver(MODELS["bm1370"], DriverOptions(zero_bits=0, ticket=1, poll_s=1e9))
    driver.identified(MODELS["bm1370"])
    if driver.monitor is None:
        raise RuntimeError("a driver without chips")
    driver.monitor.set_chips(1)
    driver.decoder.reply_size = REPLY_BYTES
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


def new_block_latencies(boards: int, rounds: int, versions: int) -> list[float]:
    """Seconds from a new header to its job written to the last board's port, all on one thread; each written in full
    to a pseudo-terminal."""
    ports, drivers, masters = [], [], []
    for _ in range(boards):
        master, slave = os.openpty()
        tty.setraw(slave)
        masters.append((master, slave))
        ports.append(SerialPort(os.ttyname(slave), 115_200))
        drivers.append(running_driver())
    latencies = []
    try:
        for _ in range(rounds):
            headers = [os.urandom(80) for _ in drivers]  # each board has its own extranonce
            began = time.perf_counter()
            for header, driver, port in zip(headers, drivers, ports, strict=True):
                run = Versions(0x2000_0000, 0x1FFF_E000, 0, versions)
                (job,) = split_versions(run, header, versions, 0x1FFF_E000)
                driver.set_work(job, 0.0, clean=True)
                port.write(b"".join(action.data for action in driver.actions(0.0) if isinstance(action, Send)))
            latencies.append(time.perf_counter() - began)
            for master, _slave in masters:
                os.read(master, 4096)
    finally:
        for port in ports:
            port.close()
        for pair in masters:
            for descriptor in pair:
                os.close(descriptor)
    return latencies


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each rate")
    parser.add_argument("--rounds", type=int, default=200, help="new blocks")
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
    for versions in (1, 1024):
        times = sorted(new_block_latencies(boards, rounds, versions))
        p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
        table.add_row(
            f"new block to the last of {boards} boards, {versions} versions",
            f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms",
            f"link alone: {FRAME_BYTES * BITS / 1e6 * 1e3:.2f} ms at 1 Mbaud",
        )
    table.add_row("a reply on the link", f"{REPLY_BYTES * BITS / 1e6 * 1e3:.2f} ms", "9,091 a second at 1 Mbaud")
    Console().print(table)


if __name__ == "__main__":
    main()
