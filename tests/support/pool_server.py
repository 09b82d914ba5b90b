"""What test pools of both Stratum versions have in common: jobs and shares, the asyncio edge of a core without sockets,
and a mode that turns a node's templates into jobs and shares into blocks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from miner.work.coinbase import build_coinbase
from miner.work.job import Job
from miner.work.rpc import Endpoint, NodeClient
from miner.work.template import job_from_template, solved_block
from tests.support.waiting import eventually

USER, PASSWORD = "worker.1", "secret"
NBITS_HARD = 0x1B00FFFF


@dataclass(frozen=True)
class PoolJob:
    """A job as a pool keeps it. `source`: what a block is built from, where there is a node behind."""

    job_id: str
    prev_hash: bytes
    coinbase1: bytes
    coinbase2: bytes
    branch: tuple[bytes, ...]
    version: int
    nbits: int
    time: int
    source: Job | None = None

    def notify(self, clean: bool) -> list[Any]:
        """As V1's mining.notify has it."""
        words = [self.prev_hash[start : start + 4][::-1] for start in range(0, 32, 4)]
        return [
            *(self.job_id, b"".join(words).hex(), self.coinbase1.hex(), self.coinbase2.hex()),
            [entry.hex() for entry in self.branch],
            *(f"{self.version:08x}", f"{self.nbits:08x}", f"{self.time:08x}", clean),
        ]


@dataclass(frozen=True)
class AcceptedShare:
    """A share that the pool has hashed itself."""

    job: PoolJob
    header: bytes
    extranonce: bytes
    is_block: bool

    @property
    def hash_hex(self) -> str:
        return sha256d(self.header)[::-1].hex()


class Connection(Protocol):
    """One miner's connection, without the socket."""

    def receive_data(self, data: bytes) -> list[AcceptedShare]: ...
    def data_to_send(self) -> bytes: ...


C = TypeVar("C", bound=Connection)


class JobPool(Protocol[C]):
    """What all connections share."""

    connections: list[C]
    current: PoolJob | None

    def connect(self) -> C: ...
    def new_job(self, job: PoolJob | None = None, *, clean: bool = True) -> PoolJob: ...


P = TypeVar("P", bound=JobPool[Any])

#: What a hostile pool does to each piece it would send: the piece that goes out, and whether it hangs up then.
Hostility: TypeAlias = Callable[[C, bytes], tuple[bytes, bool]]


class PoolServer(ABC, Generic[P, C]):
    """The asyncio edge. `hostility` acts on what goes out; with `tls` it has a certificate."""

    endings: tuple[type[BaseException], ...] = (OSError, asyncio.CancelledError)  #: of a connection, raised

    def __init__(self, pool: P, hostility: Hostility[C] | None = None) -> None:
        self.pool = pool
        self.hostility = hostility
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self.on_share: Callable[[AcceptedShare], None] = lambda share: None
        self.connected = 0
        self._server: asyncio.Server | None = None
        self._writers: dict[C, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    @abstractmethod
    def url(self) -> str:
        """As a miner is told it."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        if self.pool.current is None:
            self.pool.new_job()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.disconnect()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    def disconnect(self) -> None:
        """Hang up on everyone."""
        for writer in list(self._writers.values()):
            writer.transport.abort()

    def flush(self) -> None:
        """Send what the pool has to say by itself."""
        for connection, writer in list(self._writers.items()):
            self._write(connection, writer)

    def _write(self, connection: C, writer: asyncio.StreamWriter) -> None:
        output, hang_up = connection.data_to_send(), False
        if self.hostility is not None and output:
            output, hang_up = self.hostility(connection, output)
        writer.write(output)
        if hang_up:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connected += 1
        connection = self.pool.connect()
        self._writers[connection] = writer
        try:
            while data := await reader.read(1 << 16):
                for share in connection.receive_data(data):
                    self.on_share(share)
                self._write(connection, writer)
                await writer.drain()
        except self.endings:
            pass
        finally:
            del self._writers[connection]
            self._tasks.discard(task)
            self.pool.connections.remove(connection)
            writer.close()


ServerT = TypeVar("ServerT", bound=PoolServer[Any, Any])


class NodePool(Generic[ServerT]):
    """A server whose jobs are a node's templates: shares that are blocks go to the node."""

    def __init__(self, node_url: str, cookie: Path, payout: bytes, server: ServerT) -> None:
        self.server = server
        self.server.on_share = self._take
        self.results: list[tuple[str, Any]] = []  #: each block's hash and the node's answer
        self._client = NodeClient(Endpoint(node_url, cookie))
        self._payout = payout
        self._blocks: asyncio.Queue[AcceptedShare] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> NodePool[ServerT]:
        await self._renew()
        await self.server.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.server.stop()
        await self._client.close()

    async def settle(self) -> None:
        """Until the miner has gone, and the node has answered to every block that it found."""
        await eventually("the miner has gone", lambda: not self.server.pool.connections)
        await self._blocks.join()

    def _take(self, share: AcceptedShare) -> None:
        if share.is_block:
            self._blocks.put_nowait(share)

    async def _run(self) -> None:
        while True:
            try:
                share = await asyncio.wait_for(self._blocks.get(), 0.2)
            except TimeoutError:
                pass
            else:
                await self._submit(share)
                self._blocks.task_done()
            best = bytes.fromhex(await self._client.call("getbestblockhash"))[::-1]
            if self.server.pool.current is None or self.server.pool.current.prev_hash != best:
                await self._renew()
                self.server.flush()

    async def _submit(self, share: AcceptedShare) -> None:
        job = share.job.source
        assert job is not None
        if self.server.pool.current is None or share.job.prev_hash != self.server.pool.current.prev_hash:
            return  # another share of the same job was quicker: it would only fork
        extranonce2 = int.from_bytes(share.extranonce[len(job.extranonce1) :], "little")
        ours = replace(job, extranonce1=share.extranonce[: len(job.extranonce1)])
        answer = await self._client.call("submitblock", solved_block(ours, extranonce2, share.header).hex())
        self.results.append((share.hash_hex, answer))

    async def _renew(self) -> None:
        template = await self._client.call("getblocktemplate", {"rules": ["segwit"]})
        job = job_from_template(template, self._payout, extranonce1=bytes(4))
        parts = job.coinbase
        self.server.pool.new_job(
            PoolJob(
                *("", job.prev_hash, parts.head, parts.tail, job.merkle_branch),
                *(job.version, job.nbits, job.time, job),
            )
        )


def example_job(number: int, *, nbits: int = NBITS_HARD, branches: int = 2) -> PoolJob:
    """A job on an invented block."""
    coinbase = build_coinbase(100 + number, 50_0000_0000, b"\x51", None)
    return PoolJob(
        f"job{number}",
        hashlib.sha256(b"parent %d" % number).digest(),
        coinbase.head,
        coinbase.tail,
        tuple(hashlib.sha256(b"branch %d %d" % (number, index)).digest() for index in range(branches)),
        0x20000000,
        nbits,
        1_700_000_000 + number,
    )


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
