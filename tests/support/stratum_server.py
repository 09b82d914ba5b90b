"""A Stratum V1 pool for tests: a core without sockets that verifies every share itself, its server, and ways to be
hostile."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from tests.support.pool_server import (
    PASSWORD,
    USER,
    AcceptedShare,
    Hostility,
    PoolJob,
    PoolServer,
    example_job,
    sha256d,
)

_DIFFICULTY_1 = 0xFFFF << 208


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


class StratumServer(PoolServer[Pool, PoolConnection]):
    """See PoolServer."""

    def __init__(self, pool: Pool | None = None, hostility: Hostility[PoolConnection] | None = None) -> None:
        super().__init__(pool or Pool(), hostility)

    @property
    def url(self) -> str:
        return f"stratum+{'ssl' if self.tls else 'tcp'}://127.0.0.1:{self.port}"
