"""An emulated first-generation Avalon (avalon/REFERENCE.md), written from the reference: tasks in, 64-byte results out.

Sans-I/O: bytes in, bytes out, time passed in. Scaled (`zero_bits` below 32), a row goes through 2^zero_bits positions
of its range in the time that 2^32 take, and reports hashes with that many leading zero bits. What it reports is true.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from miner.asic.emulator.faults import Faults
from miner.asic.emulator.hashing import search

_HEAD_BYTES = 56
_BAUD = 115_200
_BITS_PER_BYTE = 10
_SILENCE_S = 0.1
_TIMEOUT_UNIT_S = 1.67 / 50
_DEFAULT_TIMEOUT = 45  #: until the host sets one (inferred)
_RESET_S = 0.005
_AMBIENT_C, _FULL_LOAD_C = 25.0, 60.0  #: and how much a working unit adds without any fan
_VERSION = bytes((0x01, 0x0F, 0xD6))
_GOLDEN = "4a548fe471fa3a9a1371144556c3f64d2500b4826008fe4bbf7698c94eba7946ce22a72f4f6726141a0b3287"
_GOLDEN_POSITION = 0x000187A2


@dataclass(slots=True)
class _Row:
    """A row of chips and its task."""

    index: int
    dead: bool = False
    heat_c: float = 0.0
    temperature_c: float = _AMBIENT_C
    frequency_mhz: float = 0.0
    hashing: bool = False
    ends_at: float = 0.0
    body: bytes = b""
    since: float = 0.0
    hits: deque[tuple[float, int, int]] = field(default_factory=deque)  # (due, position, chip)

    def describe(self) -> str:
        """One line for people."""
        state = "dead" if self.dead else "hashing" if self.hashing else "idle"
        return f"row {self.index}: {self.frequency_mhz:g} MHz, {self.temperature_c:.1f} °C, {state}"


@dataclass(slots=True)
class EmulatedAvalon:
    """See the module. A ChainLike for EmulatedBoard. `queue_limit`: tasks that the controller's buffer holds."""

    row_count: int = 32
    zero_bits: int = 32
    latency_s: float = 0.0
    faults: Faults = field(default_factory=Faults)
    reported: int = 0
    bad_host_frames: int = 0
    overrun_tasks: int = 0  #: that found the buffer full
    queue_limit: int = 64
    chips: list[_Row] = field(default_factory=list)
    fan: int = 0
    timeout: int = 0
    mhz: float = 0.0
    _buffer: bytearray = field(default_factory=bytearray)
    _received_at: float = 0.0
    _queue: deque[bytes] = field(default_factory=deque)
    _out: deque[tuple[float, bytes]] = field(default_factory=deque)
    _line_free_at: float = 0.0
    _accepted: int = 0
    _taken: int = 0
    _last: bytes | None = None

    def __post_init__(self) -> None:
        self.chips = [_Row(index) for index in range(self.row_count)]

    @property
    def hash_rate(self) -> float:
        """Hashes a second that are really done."""
        busy = sum(row.hashing for row in self.chips)
        return busy * self.mhz * 1e7 / (1 << 32 - self.zero_bits)

    @property
    def actual_baud(self) -> float:
        """Fixed (§1)."""
        return float(_BAUD)

    def hears(self, baud: int) -> bool:
        """Whether a host at that rate is understood."""
        return abs(baud / _BAUD - 1) < 0.05

    def reset(self) -> None:
        """Power lost and come back."""
        self._buffer.clear()
        self._queue.clear()
        self._out.clear()
        self._line_free_at = 0.0
        self.fan = self.timeout = 0
        self.mhz = 0.0
        for row in self.chips:
            row.hashing = False
            row.hits.clear()

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the host."""
        if self._buffer and now - self._received_at > _SILENCE_S:
            self.bad_host_frames += 1
            self._buffer.clear()
        self._buffer += self.faults.damage_input(data)
        self._received_at = now
        while self._buffer:
            if self._buffer[0] & 1:
                del self._buffer[:1]
                self._answer_reset(now)
                continue
            if len(self._buffer) < _HEAD_BYTES:
                return
            size = _HEAD_BYTES + (4 * (self._buffer[0] >> 4) if self._buffer[4] & 1 else 0)
            if len(self._buffer) < size:
                return
            self._take_task(bytes(self._buffer[:size]))
            del self._buffer[:size]

    def run(self, now: float, budget_s: float) -> None:
        """Rows finish tasks, report what they have come to, and take new ones."""
        for row in self.chips:
            while row.hits and row.hits[0][0] <= now and not row.dead:
                _, position, chip = row.hits.popleft()
                self._report(row, position, chip, now)
            if row.hashing and now >= row.ends_at:
                row.hashing = False
            if not row.hashing and self._queue and not row.dead:
                self._begin(row, self._queue.popleft(), now)
        self._warm()

    def bytes_to_send(self, now: float) -> bytes:
        """What has got through the return line by now."""
        ready = []
        while self._out and self._out[0][0] <= now:
            ready.append(self._out.popleft()[1])
        return b"".join(ready)

    def next_send(self) -> float | None:
        """When the next result is complete."""
        return self._out[0][0] if self._out else None

    def _answer_reset(self, now: float) -> None:
        self.reset()
        self._send(bytes.fromhex("aa55aa55") + bytes(40) + _VERSION + bytes(17), now + _RESET_S)

    def _take_task(self, task: bytes) -> None:
        flags = task[0]
        if not flags >> 4 or task[5]:  # bytes were lost on the way here: nothing that a controller could be asked
            self.bad_host_frames += 1
            return
        if flags & 0b10:
            self._queue.clear()
            for row in self.chips:
                row.hashing = False
                row.hits.clear()
        if flags & 0b100:
            self.fan = task[1]
        if flags & 0b1000:
            self.timeout = task[2]
        if task[4] & 0b100:
            self.mhz = int.from_bytes(task[6:8], "little") / 8
        if len(self._queue) >= self.queue_limit:
            self.overrun_tasks += 1
            return
        self._accepted += 1
        self._queue.append(task)

    def _begin(self, row: _Row, task: bytes, now: float) -> None:
        self._taken += 1
        chips = task[0] >> 4
        row.body, row.since = task[12:56], now
        row.ends_at = now + (self.timeout or _DEFAULT_TIMEOUT) * _TIMEOUT_UNIT_S
        row.frequency_mhz = self.mhz
        row.hits.clear()
        row.hashing = not task[4] & 0b1000 and self.mhz > 0
        if not row.hashing:
            return
        if row.body.hex() == _GOLDEN:
            row.hits.append((now + _GOLDEN_POSITION / (self.mhz * 1e6), _GOLDEN_POSITION, 0))
            return
        # Each chip counts up from its own start at one hash a clock.
        share = (1 << self.zero_bits) // chips
        starts = np.frombuffer(task[56 : 56 + 4 * chips] or bytes(4 * chips), "<u4").astype(np.uint64)
        steps = np.arange(share, dtype=np.uint64)
        positions = (starts[:, None] + steps[None, :]).ravel().astype(np.uint32)
        state = struct.unpack("<8I", row.body[:32])
        tail = b"".join(row.body[at : at + 4][::-1] for at in (32, 36, 40))
        step_s = (1 << 32 - self.zero_bits) / (self.mhz * 1e6)
        hits = []
        for nonce, _ in search(state, tail, positions.byteswap(), self.zero_bits):
            position = int.from_bytes(nonce.to_bytes(4, "little"), "big")
            chip = max(index for index in range(chips) if position >= int(starts[index]))
            hits.append((now + (position - int(starts[chip]) + 1) * step_s, position, chip))
        row.hits.extend(sorted(hits))

    def _report(self, row: _Row, position: int, chip: int, now: float) -> None:
        self.reported += 1
        nonce = position.to_bytes(4, "little")  # header bytes reversed
        if self.faults.stuck_chip == row.index and self._last is not None:
            nonce = self._last
        elif self.faults.chance(self.faults.wrong_nonce_rate):
            nonce = self.faults.rng.randbytes(4)
        self._last = nonce
        fan_rpm = 30 * self.fan // 0xA0
        degrees = bytes(int(value) & 0xFF for value in (row.temperature_c, self._mean_c(), _AMBIENT_C))
        record = nonce + row.body[32:44] + row.body[:32] + bytes((fan_rpm,) * 3) + degrees + bytes(2)
        record += struct.pack("<HH", self._accepted & 0xFFFF, self._taken & 0xFFFF)
        self._send(record + bytes((chip, self.fan, self.timeout, row.index)), now + self.latency_s)

    def _send(self, record: bytes, at: float) -> None:
        damaged = self.faults.damage_frame(record)
        self._line_free_at = max(at, self._line_free_at) + len(damaged) * _BITS_PER_BYTE / _BAUD
        self._out.append((self._line_free_at, damaged))

    def _warm(self) -> None:
        cooling = 0.3 + 0.7 * self.fan / 0xA0
        for row in self.chips:
            load = _FULL_LOAD_C * self.mhz / 375 if row.hashing else 0.0
            aim = _AMBIENT_C + load * (1.3 - cooling) + row.heat_c
            row.temperature_c += (aim - row.temperature_c) * 0.02

    def _mean_c(self) -> float:
        return sum(row.temperature_c for row in self.chips) / len(self.chips)
