"""A Stratum V1 pool for tests: a core without sockets that verifies every share itself, an asyncio edge, ways to be
hostile, and a mode that turns a node's templates into jobs and shares into blocks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from miner.work.coinbase import build_coinbase
from miner.work.job import Job
from miner.work.rpc import Endpoint, NodeClient
from miner.work.template import job_from_template, solved_block

USER, PASSWORD = "worker.1", "secret"
NBITS_HARD = 0x1B00FFFF
_DIFFICULTY_1 = 0xFFFF << 208


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


@dataclass
class Pool:
    """What all connections share."""

    difficulty: Any = 2**-12
    users: dict[str, str] = field(default_factory=lambda: {USER: PASSWORD})
    version_mask: int = 0x1FFFE000
    knows_configure: bool = True
    extranonce2_size: int = 4
    jobs: dict[str, PoolJob] = field(default_factory=dict)
    current: PoolJob | None = None
    accepted: list[AcceptedShare] = field(default_factory=list)
    rejected: Counter[int] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    refuse_shares: Any = None  #: this error for every share
    connections: list[PoolConnection] = field(default_factory=list)
    job_numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    connection_numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def connect(self) -> PoolConnection:
        connection = PoolConnection(self, next(self.connection_numbers).to_bytes(4))
        self.connections.append(connection)
        return connection

    def new_job(self, job: PoolJob | None = None, *, clean: bool = True) -> PoolJob:
        """Make this the job of every connection; another example job if none is given."""
        number = next(self.job_numbers)
        job = replace(job or example_job(number), job_id=f"job{number}")
        if clean:
            self.jobs.clear()
        self.jobs[job.job_id] = job
        self.current = job
        for connection in self.connections:
            connection.notify(clean)
        return job


class PoolConnection:
    """One miner's connection, without the socket."""

    def __init__(self, pool: Pool, extranonce1: bytes) -> None:
        self.pool = pool
        self.extranonce1 = extranonce1
        self.subscribed = self.authorized = False
        self.user = ""
        self.version_mask = 0
        self.difficulty: Any = None
        self.answers: list[Any] = []  #: what the miner answered to our calls
        self._input = b""
        self._output = b""
        self._seen: set[tuple[Any, ...]] = set()

    def receive_data(self, data: bytes) -> list[AcceptedShare]:
        *lines, self._input = (self._input + data).split(b"\n")
        before = len(self.pool.accepted)
        for line in lines:
            message = json.loads(line)
            if "method" not in message:
                self.answers.append(message)
                continue
            self.pool.calls[message["method"]] += 1
            result, error = self._answer(message["method"], message["params"])
            self.send({"id": message["id"], "result": result, "error": error})
            if message["method"] == "mining.authorize" and self.authorized:
                self.set_difficulty(self.pool.difficulty)
                self.notify(True)
        return self.pool.accepted[before:]

    def data_to_send(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def send(self, message: dict[str, Any]) -> None:
        self._output += json.dumps(message).encode() + b"\n"

    def call(self, method: str, *params: Any, number: int | None = None) -> None:
        self.send({"id": number, "method": method, "params": list(params)})

    def notify(self, clean: bool) -> None:
        if self.subscribed and self.pool.current is not None:
            self.call("mining.notify", *self.pool.current.notify(clean))

    def set_difficulty(self, difficulty: Any) -> None:
        self.difficulty = difficulty
        self.call("mining.set_difficulty", difficulty)

    def _answer(self, method: str, params: list[Any]) -> tuple[Any, Any]:
        pool = self.pool
        if method == "mining.configure" and pool.knows_configure:
            self.version_mask = int(params[1]["version-rolling.mask"], 16) & pool.version_mask
            return {"version-rolling": True, "version-rolling.mask": f"{self.version_mask:08x}"}, None
        if method == "mining.subscribe":
            self.subscribed = True
            return [[["mining.notify", "1"]], self.extranonce1.hex(), pool.extranonce2_size], None
        if method == "mining.authorize":
            self.authorized = pool.users.get(params[0]) == params[1]
            self.user = params[0]
            return self.authorized, None if self.authorized else [24, "Unauthorized worker", None]
        if method == "mining.extranonce.subscribe":
            return True, None
        if method == "mining.submit":
            error = pool.refuse_shares or self._judge(params)
            if error is not None:
                pool.rejected[error[0]] += 1
            return (True, None) if error is None else (None, error)
        return None, [20, "Unknown method", None]

    def _judge(self, params: list[Any]) -> list[Any] | None:
        """Hash the share; the error, or None when it is accepted."""
        if not self.subscribed:
            return [25, "Not subscribed", None]
        if not self.authorized or params[0] != self.user:
            return [24, "Unauthorized worker", None]
        job = self.pool.jobs.get(params[1])
        if job is None:
            return [21, "Job not found", None]
        extranonce2, time, nonce = bytes.fromhex(params[2]), int(params[3], 16), int(params[4], 16)
        bits = int(params[5], 16) if len(params) > 5 else 0
        if len(extranonce2) != self.pool.extranonce2_size or bits & ~self.version_mask:
            return [20, "Bad extranonce2 or version bits", None]
        if not job.time <= time <= job.time + 600:
            return [20, "Time out of range", None]
        if tuple(params) in self._seen:
            return [22, "Duplicate share", None]
        self._seen.add(tuple(params))
        root = sha256d(job.coinbase1 + self.extranonce1 + extranonce2 + job.coinbase2)
        for entry in job.branch:
            root = sha256d(root + entry)
        version = job.version & ~self.version_mask | bits
        numbers = [time, job.nbits, nonce]
        header = version.to_bytes(4, "little") + job.prev_hash + root
        header += b"".join(number.to_bytes(4, "little") for number in numbers)
        number = int.from_bytes(sha256d(header), "little")
        if number > _DIFFICULTY_1 / Fraction(self.difficulty):
            return [23, "Low difficulty share", None]
        network_target = (job.nbits & 0xFFFFFF) << 8 * ((job.nbits >> 24) - 3)
        self.pool.accepted.append(
            AcceptedShare(job, header, self.extranonce1 + extranonce2, is_block=number <= network_target)
        )
        return None


#: What a hostile pool does to each piece it would send: the piece that goes out, and whether it hangs up then.
Hostility = Callable[[PoolConnection, bytes], tuple[bytes, bool]]


def silence(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    return b"", False


def hangs_up_in_mid_line(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    cut = output.find(b"mining.notify")
    return (output, False) if cut < 0 else (output[: cut + 40], True)


def some_garbage(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    """A little around every piece, wrong types included: mining goes on."""
    lines = [b"\n", b"{\n", b'{"id":null,"method":"mining.notify","params":[1,2,3]}\n'] if output else []
    return b"".join(lines[: 3 if connection.pool.accepted == [] else 0]) + output, False


def only_garbage(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    return b"[[[[\x00\xff\n" * 100, False


def endless_line(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    return b"{" * (600 << 10), False


def flood(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    return output + b'{"id":null,"method":"client.show_message","params":["buy"]}\n' * 3000, False


def wrong_ids(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    messages = [json.loads(line) for line in output.splitlines()]
    for message in messages:
        if "method" not in message:
            message["id"] += 1000
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages), False


def reconnect_loop(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    more = b'{"id":null,"method":"client.reconnect","params":[]}\n' if connection.authorized else b""
    return output + more, False


def redirect_elsewhere(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    more = b'{"id":null,"method":"client.reconnect","params":["thief.example",3333,0]}\n'
    return output + (more if connection.authorized else b""), False


def absurd_difficulties(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    values = (b"0", b"-1", b"1e999", b"NaN", b'"8"', b"null", b"true", b"[]", b"1e300")
    lines = b"".join(b'{"id":null,"method":"mining.set_difficulty","params":[%s]}\n' % value for value in values)
    return output + (lines if b"mining.notify" in output else b""), False


def hangs_up_on_configure(connection: PoolConnection, output: bytes) -> tuple[bytes, bool]:
    return (b"", True) if connection.version_mask else (output, False)


class StratumServer:
    """The asyncio edge. `hostility` acts on what goes out; `tls` makes it a stratum+ssl server."""

    def __init__(self, pool: Pool | None = None, hostility: Hostility | None = None) -> None:
        self.pool = pool or Pool()
        self.hostility = hostility
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self.on_share: Callable[[AcceptedShare], None] = lambda share: None
        self.connected = 0
        self._server: asyncio.Server | None = None
        self._writers: dict[PoolConnection, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"stratum+{'ssl' if self.tls else 'tcp'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> StratumServer:
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

    def _write(self, connection: PoolConnection, writer: asyncio.StreamWriter) -> None:
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
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            del self._writers[connection]
            self._tasks.discard(task)
            self.pool.connections.remove(connection)
            writer.close()


class _Jobs(Protocol):
    @property
    def current(self) -> PoolJob | None: ...
    def new_job(self, job: PoolJob | None = None, *, clean: bool = True) -> PoolJob: ...


PoolT = TypeVar("PoolT", bound=_Jobs, covariant=True)


class Server(Protocol[PoolT]):
    """A StratumServer, or a StratumV2Server."""

    on_share: Callable[[AcceptedShare], None]

    @property
    def pool(self) -> PoolT: ...
    @property
    def url(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def flush(self) -> None: ...


ServerT = TypeVar("ServerT", bound=Server[Any])


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

    def _take(self, share: AcceptedShare) -> None:
        if share.is_block:
            self._blocks.put_nowait(share)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                share = await asyncio.wait_for(self._blocks.get(), 0.2)
                await self._submit(share)
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
