"""A Stratum V2 pool for tests, written from the specification and apart from the client: the responder's handshake, a
core without sockets that verifies every share itself, its server, and ways to be hostile."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.crypto import ellswift
from chain.crypto.secp256k1 import sign_schnorr, xonly_from_secret
from chain.script.base58 import encode_check
from tests.support.pool_server import USER, AcceptedShare, Hostility, PoolJob, PoolServer, example_job, sha256d

AUTHORITY_SECRET = hashlib.sha256(b"the authority of the test pool").digest()
EASY_TARGET = (1 << 250) - 1  #: 64 hashes a share, for hashlib
EXTRANONCE_SIZE = 8  # both parts, as the coinbases of example_job have room for


@dataclass
class PoolV2:
    """What all connections share."""

    target: int = EASY_TARGET
    users: set[str] = field(default_factory=lambda: {USER})
    only_standard: bool = False
    flags: int = 0
    version: int = 2
    setup_error: str | None = None
    version_rolling: bool = True
    batch: int = 1  #: shares acknowledged together
    authority: bytes = AUTHORITY_SECRET
    valid_for: tuple[int, int] = (-3600, 3600)  #: of the certificate, around now
    replacements: dict[int, bytes] = field(default_factory=dict)  #: payloads sent instead, by kind
    refuse_shares: str | None = None
    group: int = 77
    jobs: dict[int, PoolJob] = field(default_factory=dict)
    current: PoolJob | None = None
    accepted: list[AcceptedShare] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    messages: Counter[int] = field(default_factory=Counter)  #: received, by kind
    closed: list[str] = field(default_factory=list)  #: reasons of CloseChannel
    rates: list[float] = field(default_factory=list)  #: what clients said of their hash rate
    connections: list[ConnectionV2] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    prefixes: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def key(self) -> str:
        return encode_check(b"\x01\x00" + xonly_from_secret(AUTHORITY_SECRET))

    def connect(self) -> ConnectionV2:
        self.connections.append(ConnectionV2(self))
        return self.connections[-1]

    def new_job(self, job: PoolJob | None = None, *, clean: bool = True) -> PoolJob:
        number = next(self.numbers)
        job = replace(job or example_job(number), job_id=str(number))
        if clean:
            self.jobs.clear()
        elif self.current is not None:
            job = replace(job, prev_hash=self.current.prev_hash, nbits=self.current.nbits)
        self.jobs[number] = job
        self.current = job
        for connection in self.connections:
            connection.send_job(clean)
        return job


class ConnectionV2:
    """One miner's connection, without the socket."""

    def __init__(self, pool: PoolV2) -> None:
        self.pool = pool
        self.channel: int | None = None
        self.standard = False
        self.prefix = b""
        self.targets: dict[int, int] = {}  # of the jobs as they were sent
        self.prefixes: dict[int, bytes] = {}
        self.target = pool.target
        self._input = b""
        self._output = b""
        self._ciphers: tuple[ChaCha20Poly1305, ChaCha20Poly1305] | None = None  # receive, send
        self._received = self._sent = 0
        self._seen: set[bytes] = set()
        self._unacknowledged: list[int] = []

    def receive_data(self, data: bytes) -> list[AcceptedShare]:
        self._input += data
        before = len(self.pool.accepted)
        if self._ciphers is None:
            if len(self._input) < 64:
                return []
            hello, self._input = self._input[:64], self._input[64:]
            self._shake_hands(hello)
        while (message := self._next_message()) is not None:
            self._on_message(*message)
        return self.pool.accepted[before:]

    def data_to_send(self) -> bytes:
        output, self._output = self._output, b""
        return output

    # --- cryptography ---

    def _shake_hands(self, theirs: bytes) -> None:
        chaining = hashlib.sha256(b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256").digest()
        digest = hashlib.sha256(chaining).digest()
        for part in (theirs, b""):
            digest = hashlib.sha256(digest + part).digest()
        secret, ours = ellswift.generate()
        static_secret, static = ellswift.generate()
        digest = hashlib.sha256(digest + ours).digest()
        answer = ours
        now = int(time.time())
        body = struct.pack("<HII", 0, now + self.pool.valid_for[0], now + self.pool.valid_for[1])
        signed = hashlib.sha256(body + xonly_from_secret(static_secret)).digest()
        certificate = body + sign_schnorr(self.pool.authority, signed, bytes(32))
        for key, encoding, payload in ((secret, ours, static), (static_secret, static, certificate)):
            chaining, cipher_key = hkdf(chaining, ellswift.shared_secret(key, encoding, theirs, False))
            encrypted = ChaCha20Poly1305(cipher_key).encrypt(bytes(12), payload, digest)
            digest = hashlib.sha256(digest + encrypted).digest()
            answer += encrypted
        first, second = hkdf(chaining, b"")
        self._ciphers = ChaCha20Poly1305(first), ChaCha20Poly1305(second)
        self._output += answer

    def _decrypt(self, data: bytes, count: int) -> bytes:
        assert self._ciphers is not None
        nonce = bytes(4) + count.to_bytes(8, "little")
        return self._ciphers[0].decrypt(nonce, data, b"")

    def _next_message(self) -> tuple[int, int, bytes] | None:
        if len(self._input) < 22:
            return None
        header = self._decrypt(self._input[:22], self._received)
        size = int.from_bytes(header[3:6], "little")
        sizes = [min(65519, size - start) + 16 for start in range(0, size, 65519)]
        if len(self._input) < 22 + sum(sizes):
            return None
        self._received += 1
        payload, at = b"", 22
        for block in sizes:
            payload += self._decrypt(self._input[at : at + block], self._received)
            self._received += 1
            at += block
        self._input = self._input[at:]
        return int.from_bytes(header[:2], "little"), header[2], payload

    def send(self, kind: int, payload: bytes, extension: int = 0) -> None:
        assert self._ciphers is not None
        payload = self.pool.replacements.get(kind, payload)
        header = struct.pack("<HB", extension, kind) + len(payload).to_bytes(3, "little")
        for part in (header, *(payload[start : start + 65519] for start in range(0, len(payload), 65519))):
            nonce = bytes(4) + self._sent.to_bytes(8, "little")
            self._output += self._ciphers[1].encrypt(nonce, part, b"")
            self._sent += 1

    # --- protocol ---

    def _on_message(self, extension: int, kind: int, payload: bytes) -> None:
        self.pool.messages[kind] += 1
        assert extension == (0x8000 if kind in (0x16, 0x18, 0x1A, 0x1B) else 0)
        if kind == 0x00:
            self._on_setup(payload)
        elif kind in (0x10, 0x13):
            self._on_open(kind, payload)
        elif kind in (0x1A, 0x1B):
            self._on_share(kind, payload)
        elif kind == 0x16:
            self.pool.rates.append(struct.unpack_from("<f", payload, 4)[0])
        elif kind == 0x18:
            self.pool.closed.append(payload[5:].decode())

    def _on_setup(self, payload: bytes) -> None:
        protocol, low, high, _flags = struct.unpack_from("<BHHI", payload)
        assert (protocol, low, high) == (0, 2, 2)
        if self.pool.setup_error is not None:
            self.send(0x02, struct.pack("<I", 0) + text(self.pool.setup_error))
        else:
            self.send(0x01, struct.pack("<HI", self.pool.version, self.pool.flags))

    def _on_open(self, kind: int, payload: bytes) -> None:
        (request,) = struct.unpack_from("<I", payload)
        user = payload[5 : 5 + payload[4]].decode()
        (rate,) = struct.unpack_from("<f", payload, 5 + payload[4])
        self.pool.rates.append(rate)
        if user not in self.pool.users:
            self.send(0x12, struct.pack("<I", request) + text("unknown-user"))
            return
        if kind == 0x13 and self.pool.only_standard:
            self.send(0x12, struct.pack("<I", request) + text("unsupported-channel"))
            return
        self.standard = kind == 0x10
        self.channel = 5
        self.prefix = next(self.pool.prefixes).to_bytes(EXTRANONCE_SIZE if self.standard else 3, "big")
        head = struct.pack("<II", request, self.channel) + self.target.to_bytes(32, "little")
        tail = bytes([len(self.prefix)]) + self.prefix + struct.pack("<I", self.pool.group)
        size = b"" if self.standard else struct.pack("<H", EXTRANONCE_SIZE - len(self.prefix))
        self.send(0x11 if self.standard else 0x14, head + size + tail)
        self.send_job(True)

    def send_job(self, clean: bool) -> None:
        """The pool's current job: for a new block first the job, then the previous hash that starts it."""
        job = self.pool.current
        if job is None or self.channel is None:
            return
        number = int(job.job_id)
        self.targets[number], self.prefixes[number] = self.target, self.prefix
        start = b"\x00" if clean else b"\x01" + struct.pack("<I", job.time)
        head = struct.pack("<II", self.channel, number) + start + struct.pack("<I", job.version)
        if self.standard:
            self.send(0x15, head + self.merkle_root(job, self.prefix))
        else:
            path = bytes([len(job.branch)]) + b"".join(job.branch)
            halves = b"".join(struct.pack("<H", len(half)) + half for half in (job.coinbase1, job.coinbase2))
            self.send(0x1F, head + bytes([self.pool.version_rolling]) + path + halves)
        if clean:
            tail = job.prev_hash + struct.pack("<II", job.time, job.nbits)
            self.send(0x20, struct.pack("<II", self.pool.group, number) + tail)

    def set_target(self, target: int) -> None:
        self.target = target
        self.send(0x21, struct.pack("<I", self.channel) + target.to_bytes(32, "little"))

    def set_prefix(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.send(0x19, struct.pack("<I", self.channel) + bytes([len(prefix)]) + prefix)

    def merkle_root(self, job: PoolJob, extranonce: bytes) -> bytes:
        root = sha256d(job.coinbase1 + extranonce + job.coinbase2)
        for entry in job.branch:
            root = sha256d(root + entry)
        return root

    def _on_share(self, kind: int, payload: bytes) -> None:
        _, number, job_number, nonce, ntime, version = struct.unpack_from("<6I", payload)
        error = self.pool.refuse_shares or self._judge(kind, payload, job_number, nonce, ntime, version)
        if error is not None:
            self.pool.rejected[error] += 1
            self.send(0x1D, struct.pack("<II", self.channel, number) + text(error))
            return
        self._unacknowledged.append(number)
        if len(self._unacknowledged) >= self.pool.batch:
            count = len(self._unacknowledged)
            self.send(0x1C, struct.pack("<IIIQ", self.channel, self._unacknowledged[-1], count, count))
            self._unacknowledged.clear()

    def _judge(self, kind: int, payload: bytes, number: int, nonce: int, ntime: int, version: int) -> str | None:
        """Hash the share; the error code, or None when it is accepted."""
        job = self.pool.jobs.get(number)
        if job is None or number not in self.targets:
            return "invalid-job-id"
        extranonce = self.prefixes[number]
        if not self.standard:
            size = payload[24]
            assert (kind, size) == (0x1B, EXTRANONCE_SIZE - len(extranonce))
            assert len(payload) == 25 + size
            extranonce += payload[25:]
        mask = 0x1FFFE000 if self.pool.version_rolling and not self.pool.flags & 1 else 0
        if (version ^ job.version) & ~mask:
            return "invalid-version"
        if not job.time <= ntime <= job.time + 60:
            return "invalid-timestamp"
        if payload[8:] in self._seen:
            return "duplicate-share"
        self._seen.add(payload[8:])
        header = struct.pack("<I", version) + job.prev_hash + self.merkle_root(job, extranonce)
        header += struct.pack("<III", ntime, job.nbits, nonce)
        value = int.from_bytes(sha256d(header), "little")
        if value > self.targets[number]:
            return "difficulty-too-low"
        network_target = (job.nbits & 0xFFFFFF) << 8 * ((job.nbits >> 24) - 3)
        self.pool.accepted.append(AcceptedShare(job, header, extranonce, is_block=value <= network_target))
        return None


def hkdf(chaining: bytes, material: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.new(chaining, material, hashlib.sha256).digest()
    one = hmac.new(temporary, b"\x01", hashlib.sha256).digest()
    return one, hmac.new(temporary, one + b"\x02", hashlib.sha256).digest()


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def silence(connection: ConnectionV2, output: bytes) -> tuple[bytes, bool]:
    return b"", False


def noise(connection: ConnectionV2, output: bytes) -> tuple[bytes, bool]:
    """Speaks something else altogether."""
    return b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20, False


def damages(connection: ConnectionV2, output: bytes) -> tuple[bytes, bool]:
    """Turns a bit of the last frame once a channel is open."""
    return (output[:-1] + bytes([output[-1] ^ 1]) if connection.channel is not None else output), False


def hangs_up_in_mid_frame(connection: ConnectionV2, output: bytes) -> tuple[bytes, bool]:
    return (output[:-5], True) if connection.channel is not None else (output, False)


class StratumV2Server(PoolServer[PoolV2, ConnectionV2]):
    """See PoolServer."""

    endings = (*PoolServer.endings, InvalidTag)

    def __init__(self, pool: PoolV2 | None = None, hostility: Hostility[ConnectionV2] | None = None) -> None:
        super().__init__(pool or PoolV2(), hostility)

    @property
    def url(self) -> str:
        return f"stratum2+tcp://127.0.0.1:{self.port}/{self.pool.key}"
