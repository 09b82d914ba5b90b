"""An emulated board of the Icarus type (icarus/REFERENCE.md), written from the reference: 64 bytes in, 4 or 5 out.

Sans-I/O: bytes in, bytes out, time passed in. Scaled (`zero_bits` below 32), it goes through 2^zero_bits positions
instead of 2^32 in the same time, and reports hashes with that many leading zero bits: as many nonces a second as the
real board, all true. To works whose answers are known (§4, §5) it gives those and no others, at any scale.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from miner.asic.crc import crc5_of_response
from miner.asic.emulator.faults import Faults
from miner.asic.emulator.hashing import search

_WORK_BYTES = 64
_COMMAND_BYTES = 4
_SILENCE_S = 0.1  #: after which a partial frame is forgotten (§1)
_COMMAND_SILENCE_S = 0.005  #: after four bytes that may be a command or the beginning of work
_BAUD = 115_200
_BITS_PER_BYTE = 10
_SLICE = 4096
_LONGEST_CREDIT_S = 0.25
_CATCH_UP_S = 0.01
_RANGE = 1 << 32
_AMBIENT_C = 25.0

#: Midstate field of a known work: (its last twelve bytes, its nonces as on the wire).
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "4679ba4ec99876bf4bfe086082b400254df6c356451471139a3afa71e48f544a": ("87320b1a1426674f2fa722ce", ("000187a2",)),
    "46a9a88fc83e6899b41116030b4c5f488f5deb70bedcec316adbd0cdacd5e4b1": ("3aae0517b5257064d63778eb", ("d19e020a",)),
    "2e4c8f91fd595d2d7ea20aaacb64a2a04382860277cf26b6a1ee04c56a5b504a": (
        "6461011ac906a951fb9b3c73",
        ("04c0fdb4", "417c0f36", "60c994d5", "82540e46"),
    ),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What the kinds of board differ in: seconds a hash (at `mhz`), engines, whether they go on after a nonce, append
    the work's id, take clock commands (reference clock in MHz), and need a voltage before they hash."""

    seconds_per_hash: float
    engines: int
    goes_on: bool
    has_ids: bool
    mhz: float | None = None
    reference_mhz: float | None = None
    needs_voltage: bool = False


KINDS = {
    "icarus": Kind(2.6316e-9, 2, False, False),
    "lancelot": Kind(2.5e-9, 2, False, False),
    "erupter": Kind(2.9761e-9, 1, True, False),
    "u1": Kind(0.625e-9, 1, True, True, 200.0, 25.0),
    "u2": Kind(0.625e-9, 1, True, True, 200.0, 25.0),
    "u3": Kind(3.2e-9 / 225, 1, True, True, 225.0, 50.0, needs_voltage=True),
}


@dataclass(slots=True)
class _Engine:
    """The board's one part, for status and heat."""

    index: int = 0
    dead: bool = False
    heat_c: float = 0.0
    temperature_c: float = _AMBIENT_C
    frequency_mhz: float = 0.0
    hashing: bool = False

    def describe(self) -> str:
        """One line for people."""
        state = "dead" if self.dead else "hashing" if self.hashing else "idle"
        return f"board: {self.frequency_mhz:g} MHz, {self.temperature_c:.1f} °C, {state}"


@dataclass(slots=True)
class _Search:
    work_id: int
    state: tuple[int, ...]
    tail: bytes
    known: deque[bytes] | None  # the answers, when they are known
    since: float
    counted_at: float
    position: float = 0.0  # of 2^zero_bits / engines, in each engine, by the clock
    hashed: int = 0  # positions really looked at, a slice ahead of the clock
    hits: deque[tuple[int, bytes]] = field(default_factory=deque)  # among them, not reported yet


@dataclass(slots=True)
class EmulatedIcarus:
    """See the module. A ChainLike for EmulatedBoard; `latency_s`: added before each reply."""

    kind: Kind
    zero_bits: int = 32
    latency_s: float = 0.0
    faults: Faults = field(default_factory=Faults)
    reported: int = 0
    bad_host_frames: int = 0
    chips: list[_Engine] = field(default_factory=lambda: [_Engine()])
    millivolts: int | None = None
    _mhz: float | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _received_at: float = 0.0
    _search: _Search | None = None
    _out: deque[tuple[float, bytes]] = field(default_factory=deque)
    _line_free_at: float = 0.0
    _last_nonce: bytes | None = None
    _previous_id: int = 0

    @property
    def hash_rate(self) -> float:
        """Hashes a second that are really done while there is work."""
        return self._real_rate / (1 << 32 - self.zero_bits) if self._search is not None else 0.0

    @property
    def actual_baud(self) -> float:
        """Fixed (§1)."""
        return float(_BAUD)

    def hears(self, baud: int) -> bool:
        """Whether a host at that rate is understood."""
        return abs(baud / _BAUD - 1) < 0.05

    def reset(self) -> None:
        """Power lost and come back."""
        self._mhz, self.millivolts, self._search = None, None, None
        self._buffer.clear()
        self._out.clear()
        self._line_free_at = 0.0

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the host."""
        self._settle_buffer(now)
        self._buffer += self.faults.damage_input(data)
        self._received_at = now
        while len(self._buffer) >= _WORK_BYTES:
            frame = bytes(self._buffer[:_WORK_BYTES])
            del self._buffer[:_WORK_BYTES]
            self.run(now, _CATCH_UP_S)  # what the old work would have told by now
            self._take_work(frame, now)

    def run(self, now: float, budget_s: float) -> None:
        """Hash until now, at most that long by the processor's clock."""
        self._settle_buffer(now)
        engine, work = self.chips[0], self._search
        engine.hashing = work is not None and not engine.dead
        engine.frequency_mhz = self._mhz or self.kind.mhz or 0.0
        engine.temperature_c = _AMBIENT_C + (20.0 if engine.hashing else 0.0) + engine.heat_c
        if work is None or engine.dead or (self.kind.needs_voltage and self.millivolts is None):
            return
        if work.known is not None:
            self._answer_known(work, now)
            return
        self._hash(work, now, perf_counter() + budget_s)

    def bytes_to_send(self, now: float) -> bytes:
        """What has got through the return line by now."""
        ready = []
        while self._out and self._out[0][0] <= now:
            ready.append(self._out.popleft()[1])
        return b"".join(ready)

    def next_send(self) -> float | None:
        """When the next reply is complete."""
        return self._out[0][0] if self._out else None

    @property
    def _real_rate(self) -> float:
        scale = self._mhz / self.kind.mhz if self._mhz and self.kind.mhz else 1.0
        return scale / self.kind.seconds_per_hash

    def _part(self, bits: int) -> int:
        """Positions of one engine."""
        return (1 << bits) // self.kind.engines

    def _settle_buffer(self, now: float) -> None:
        """Silence decides what an incomplete frame was: a command, or nothing."""
        silence = now - self._received_at
        if len(self._buffer) == _COMMAND_BYTES and silence >= _COMMAND_SILENCE_S and self._obey(bytes(self._buffer)):
            self._buffer.clear()
        elif self._buffer and silence >= _SILENCE_S:
            self.bad_host_frames += 1
            self._buffer.clear()

    def _obey(self, command: bytes) -> bool:
        if self.kind.reference_mhz is None or crc5_of_response(command[:3], 0) != command[3] & 0x1F:
            return False
        if command[0] == 0x82:
            register = command[1] << 8 | command[2]
            m, n, od = register >> 7 & 0x3F, register >> 2 & 0x1F, register & 3
            self._mhz = self.kind.reference_mhz * (m + 1) / ((n + 1) << od)
            return True
        if command[0] == 0xAA and self.kind.needs_voltage and command[3] >> 5 == 6:
            self.millivolts = int(f"{command[1] & 0xF:x}{command[2]:02x}")
            return True
        return False

    def _take_work(self, frame: bytes, now: float) -> None:
        self._previous_id = self._search.work_id if self._search is not None else 0
        words = [int.from_bytes(frame[at : at + 4], "big") for at in range(28, -4, -4)]
        tail = frame[60:64] + frame[56:60] + frame[52:56]
        known = _KNOWN.get(frame[:32].hex())
        answers = None
        if known is not None and known[0] == frame[52:64].hex():
            part = self._part(32)
            answers = deque(
                sorted((bytes.fromhex(nonce) for nonce in known[1]), key=lambda n: int.from_bytes(n, "big") % part)
            )
        self._search = _Search(frame[51] & 0x1F, tuple(words), tail, answers, now, now)

    def _answer_known(self, work: _Search, now: float) -> None:
        if now > work.since + _RANGE / self._real_rate:
            self._search = None
        while work.known and self._search is work:
            steps = int.from_bytes(work.known[0], "big") % self._part(32)
            if now < work.since + (steps + 1) * self.kind.engines / self._real_rate:
                return
            self._report(work, work.known.popleft(), now)

    def _hash(self, work: _Search, now: float, until: float) -> None:
        """Report what the clock has come to; hash a slice ahead of it at a time, `until` then by the processor's
        clock. A process that stalled longer than _LONGEST_CREDIT_S goes on where it was."""
        rate = self.hash_rate / self.kind.engines
        elapsed = min(now - work.counted_at, _LONGEST_CREDIT_S)
        work.counted_at = now
        due = work.position + elapsed * rate
        part = self._part(self.zero_bits)
        while self._search is work:
            while work.hits and work.hits[0][0] < due and self._search is work:
                self._report(work, work.hits.popleft()[1], now)
            if work.hashed >= min(due, part) or perf_counter() > until:
                break
            self._hash_slice(work, min(_SLICE // self.kind.engines, part - work.hashed))
        work.position = min(due, float(work.hashed))
        if work.position >= part and self._search is work:
            self._search = None  # the end of the range: silence

    def _hash_slice(self, work: _Search, count: int) -> None:
        steps = np.arange(work.hashed, work.hashed + count, dtype=np.uint64)
        starts = np.arange(self.kind.engines, dtype=np.uint64) * np.uint64(self._part(32))
        positions = (steps[:, None] + starts[None, :]).ravel().astype(np.uint32)
        work.hashed += count
        found = [
            nonce.to_bytes(4, "little")
            for nonce, _ in search(work.state, work.tail, positions.byteswap(), self.zero_bits)
        ]
        part = self._part(32)
        work.hits.extend(sorted((int.from_bytes(nonce, "big") % part, nonce) for nonce in found))

    def _report(self, work: _Search, nonce: bytes, now: float) -> None:
        self.reported += 1
        if not self.kind.goes_on:
            self._search = None
        if self.faults.stuck_chip == 0 and self._last_nonce is not None:
            nonce = self._last_nonce
        elif self.faults.chance(self.faults.wrong_nonce_rate):
            nonce = self.faults.rng.randbytes(4)
        else:
            self._last_nonce = nonce
        work_id = self._previous_id if self.faults.chance(self.faults.stale_id_rate) else work.work_id
        reply = self.faults.damage_frame(nonce + (bytes((work_id,)) if self.kind.has_ids else b""))
        at = max(now + self.latency_s, self._line_free_at) + len(reply) * _BITS_PER_BYTE / _BAUD
        self._line_free_at = at
        self._out.append((at, reply))
