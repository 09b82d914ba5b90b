"""How long does a device hash on an old block after a new one is there?

    python -m benchmarks.job_switch [--rounds 100] [--kinds cpu,gpu,asic] [--threads N] [--boards N]

Each round ends the work of every device. From a node (a real `pickaxe node`, network dev, long polling): a block is
solved beforehand and handed to the node; "to the miner" is from then until the template on top of it is in the miner's
hands, the node's validation included. From a pool (ours, Stratum V1 and V2, in this process): until its new job is.
"To the last old hash" is from the miner's receipt until the slowest device has begun with the new work: for cores and
OpenCL devices until a search of one nonce of it has come back, which waits for everything that was queued before it;
for boards (emulated, one BM1370 each) until the new job has been written to the serial port, whose line then takes
88 bytes' time.

The OpenCL device is the first that there is; PoCL's if there is no other. The goal is 20 ms from the miner's receipt.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from chain.params import network
from miner.device import DeviceDetails, HashDevice, HashJob, SearchResult, Wakeable, never
from miner.kernels.reference import hash_number, header_hash
from miner.scheduler import Scheduler
from miner.telemetry import Telemetry
from miner.work.getblocktemplate import TemplateSource
from miner.work.job import Job
from miner.work.rpc import Endpoint, NodeClient
from miner.work.source import WorkSource
from miner.work.stratum.address import parse_pool_url
from miner.work.stratum.client import ClientOptions
from miner.work.stratum.source import StratumSource
from miner.work.template import job_from_template, solved_block
from tests.functional.processes import Node, nodes
from tests.support.pool_server import PASSWORD, USER
from tests.support.stratum_server import Pool, StratumServer
from tests.support.stratum_v2_server import PoolV2, StratumV2Server

if TYPE_CHECKING:
    from miner.asic.device import AsicDevice

GOAL_MS = 20.0
PAYOUT = b"\x51"
UNSOLVABLE = 1 << 160  #: devices are to be busy, and never to end a job themselves
PATIENCE_S = 30.0
_ZERO_BITS = 4  # of the emulated chips' nonces: as few as cost next to no processor time
_JOB_FRAME_BYTES = 60  # whatever goes to a chip and is longer is a job


class Watched:
    """A device, and when it turned to each block's work. With `by_search` that is measured by a search of one nonce."""

    def __init__(self, device: HashDevice, by_search: bool = True) -> None:
        self.device = device
        self.name, self.kind = device.name, device.kind
        self.turned: dict[bytes, float] = {}
        self._by_search = by_search

    @property
    def preferred_versions(self) -> int:
        return self.device.preferred_versions

    def open(self) -> None:
        self.device.open()

    def idle(self) -> None:
        self.device.idle()

    def close(self) -> None:
        self.device.close()

    def details(self) -> DeviceDetails | None:
        return self.device.details()

    def wake(self) -> None:
        if isinstance(self.device, Wakeable):
            self.device.wake()

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        parent = job.header[4:36]
        if parent in self.turned or not self._by_search:
            return self.device.search(job, start, count, cancelled)
        result = self.device.search(job, start, 1)
        self.turned[parent] = time.perf_counter()
        return result


class WatchedBoard(Watched):
    """A board, which is sent work without its thread."""

    def __init__(self, device: AsicDevice) -> None:
        super().__init__(device, by_search=False)
        self._board = device

    def switch(self, job: HashJob) -> bool:
        return self._board.switch(job)


@dataclass
class Board:
    """An emulated board whose incoming jobs are watched."""

    watched: Watched
    waiting_for: bytes = b""

    def heard(self, data: bytes) -> None:
        if len(data) >= _JOB_FRAME_BYTES and self.waiting_for:
            self.watched.turned.setdefault(self.waiting_for, time.perf_counter())


class Rig:
    """Devices at work for one source."""

    def __init__(self, devices: Sequence[Watched], boards: Sequence[Board]) -> None:
        self.devices, self.boards = devices, boards
        self.received: dict[bytes, float] = {}
        self._failures: list[str] = []
        telemetry = Telemetry(devices)
        self.scheduler = Scheduler(
            devices, telemetry, lambda share: None, lambda device, reason, left: self._failures.append(reason)
        )
        self.scheduler.start()

    def take_job(self, job: Job | None) -> None:
        if job is not None and job.prev_hash not in self.received:
            for board in self.boards:
                board.waiting_for = job.prev_hash
            self.received[job.prev_hash] = time.perf_counter()
        self.scheduler.set_job(job)

    async def turned(self, parent: bytes) -> float:
        """When the last device has turned to work on this block."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(parent in device.turned for device in self.devices):
            if self._failures or time.monotonic() > deadline:
                raise RuntimeError(f"a device did not turn to new work: {self._failures}")
            await asyncio.sleep(0.001)
        return max(device.turned[parent] for device in self.devices)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@contextlib.contextmanager
def processors(threads: int | None) -> Iterator[tuple[list[Watched], list[Board]]]:
    """This machine's cores."""
    from miner.cpu import cpu_devices

    yield [Watched(device) for device in cpu_devices(threads)], []


@contextlib.contextmanager
def graphics() -> Iterator[tuple[list[Watched], list[Board]]]:
    """The first OpenCL device."""
    from miner.gpu import discover, gpu_devices

    usable = [found for found in discover() if found.usable]
    if not usable:
        yield [], []
        return
    print(f"gpu: {usable[0].title}, {usable[0].platform}")
    yield [Watched(gpu_devices([usable[0].name])[0])], []


@contextlib.contextmanager
def emulator(link: str) -> Iterator[None]:
    """`pickaxe asic emulate` as a process of its own, so that its hashing holds up nothing here."""
    command = [sys.executable, "-m", "node.cli.main", "asic", "emulate", "bm1370", "--link", link]
    process = subprocess.Popen(
        [*command, "--zero-bits", str(_ZERO_BITS)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not Path(link).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the emulator did not start")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def emulated_boards(count: int) -> Iterator[tuple[list[Watched], list[Board]]]:
    """Emulated chains of one BM1370 each, watched where the host writes to their ports: what the emulator makes of it
    is no part of the miner."""
    from miner.asic.device import asic_devices
    from miner.asic.transport import SerialPort

    original, original_now = SerialPort.write, SerialPort.write_now
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = [str(folder / f"board{number}") for number in range(count)]
        for path in paths:
            stack.enter_context(emulator(path))
        devices = asic_devices(paths, "bm1370", zero_bits=_ZERO_BITS)
        boards = {path: Board(WatchedBoard(device)) for path, device in zip(paths, devices, strict=True)}

        def write(self: SerialPort, data: bytes) -> None:
            original(self, data)
            boards[self.path].heard(data)

        def write_now(self: SerialPort, data: bytes) -> int:
            count = original_now(self, data)
            if count == len(data):
                boards[self.path].heard(data)
            return count

        setattr(SerialPort, "write", write)  # noqa: B010 (mypy allows no assignment to a method)
        setattr(SerialPort, "write_now", write_now)  # noqa: B010
        stack.callback(setattr, SerialPort, "write_now", original_now)
        stack.callback(setattr, SerialPort, "write", original)
        yield [board.watched for board in boards.values()], list(boards.values())


@contextlib.asynccontextmanager
async def mining(source: WorkSource) -> AsyncIterator[None]:
    """The source at work."""
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()


async def rounds_of(
    rig: Rig, rounds: int, next_block: Callable[[], AsyncIterator[tuple[float, bytes]]]
) -> tuple[list[float], list[float]]:
    """Seconds from each new block to the miner, and from there to the last device. `next_block` yields when the block
    was there, and its hash, again and again."""
    rng = random.Random(0)
    to_miner, to_devices = [], []
    async for began, parent in next_block():
        last = await rig.turned(parent)
        to_miner.append(rig.received[parent] - began)
        to_devices.append(last - rig.received[parent])
        if len(to_miner) == rounds:
            break
        await asyncio.sleep(rng.uniform(0.02, 0.08))  # every phase of a slice
    return to_miner, to_devices


async def over_node(rig: Rig, rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    """getblocktemplate with long polling."""
    params = network("dev")
    node = Node(folder, "dev", "--no-listen")
    with nodes(node):
        node.start()
        endpoint = Endpoint(node.url, node.cookie)
        source = TemplateSource(
            [endpoint], params, PAYOUT, on_job=rig.take_job, on_message=print, easiest_target=UNSOLVABLE
        )
        async with NodeClient(endpoint) as client, mining(source):

            async def blocks() -> AsyncIterator[tuple[float, bytes]]:
                await rig.turned(bytes.fromhex(await client.call("getbestblockhash"))[::-1])
                while True:
                    job = job_from_template(await client.call("getblocktemplate", {"rules": ["segwit"]}), PAYOUT)
                    header = solve(job)
                    block = solved_block(job, 0, header).hex()
                    began = time.perf_counter()
                    answer = await client.call("submitblock", block)
                    if answer is not None:
                        raise RuntimeError(f"the node refuses a block: {answer}")
                    yield began, header_hash(header)

            return await rounds_of(rig, rounds, blocks)


async def over_pool(rig: Rig, rounds: int, server: StratumServer | StratumV2Server) -> tuple[list[float], list[float]]:
    """Stratum: a new block is a new job with another parent."""
    async with server:
        source = StratumSource(
            [parse_pool_url(server.url, USER, PASSWORD)],
            lambda pool: ClientOptions(user=pool.user, password=pool.password),
            on_job=rig.take_job,
            on_message=print,
        )
        async with mining(source):

            async def blocks() -> AsyncIterator[tuple[float, bytes]]:
                if server.pool.current is not None:
                    await rig.turned(server.pool.current.prev_hash)
                while True:
                    began = time.perf_counter()
                    job = server.pool.new_job()
                    server.flush()
                    yield began, job.prev_hash

            return await rounds_of(rig, rounds, blocks)


def solve(job: Job) -> bytes:
    """A header that meets dev's target."""
    header = job.header(0, job.time)
    for nonce in range(1 << 32):
        tried = header[:76] + nonce.to_bytes(4, "little")
        if hash_number(header_hash(tried)) <= job.target:
            return tried
    raise RuntimeError("no nonce solves the block")


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="new blocks for each row")
    parser.add_argument("--kinds", default="cpu,gpu,asic", help="kinds of device, each for itself")
    parser.add_argument("--threads", type=int, help="processor cores; all by default")
    parser.add_argument("--boards", type=int, default=2, help="emulated boards")
    options = parser.parse_args()
    makers: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[list[Watched], list[Board]]]]] = {
        "cpu": lambda: processors(options.threads),
        "gpu": graphics,
        "asic": lambda: emulated_boards(options.boards),
    }
    hard = 1e6
    table = Table("devices", "work from", "to the miner, ms", "then to the last old hash, ms", f"goal {GOAL_MS:g} ms")
    for kind in options.kinds.split(","):
        for name in ("node, long poll", "Stratum V1", "Stratum V2"):
            with makers[kind]() as (devices, boards), tempfile.TemporaryDirectory() as folder:
                if not devices:
                    continue
                rig = Rig(devices, boards)
                try:
                    if name.startswith("node"):
                        work = over_node(rig, options.rounds, Path(folder))
                    elif name.endswith("1"):
                        work = over_pool(rig, options.rounds, StratumServer(Pool(difficulty=hard)))
                    else:
                        work = over_pool(rig, options.rounds, StratumV2Server(PoolV2(target=(0xFFFF << 208) >> 20)))
                    to_miner, to_devices = asyncio.run(work)
                finally:
                    rig.scheduler.stop()
            p99 = percentile(to_devices, 0.99) * 1e3
            table.add_row(
                f"{len(devices)} × {kind}",
                f"{name}, {len(to_miner)} blocks",
                *(
                    f"p50 {percentile(times, 0.5) * 1e3:.2f}, p99 {percentile(times, 0.99) * 1e3:.2f}"
                    for times in (to_miner, to_devices)
                ),
                f"{p99 / GOAL_MS:.2f} of it",
            )
    Console(width=150).print(table)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
