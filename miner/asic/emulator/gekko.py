"""Emulated BM1384 and BM1387 chains (gekko/REFERENCE.md). Written from there; clock, reset and modem lines of the USB
bridges have no counterpart on a pseudo-terminal: `reset` stands for unplugging."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter

from miner.asic.crc import crc5, crc5_of_response, crc16
from miner.asic.emulator.chip import AMBIENT_C, RISE_AT_DEFAULT_C, THERMAL_LAG_S
from miner.asic.emulator.faults import Faults
from miner.asic.emulator.hashing import search, swept

_SLICE = 1024
_LONGEST_CREDIT_S = 0.25
_BITS_PER_BYTE = 10
_BAUD_TOLERANCE = 0.05
_CRYSTAL_HZ = 25_000_000
_RESET_DIVIDER = 26
_RESET_MHZ = {"bm1384": 100.0, "bm1387": 100.0}  # not known; what the hosts' defaults are
_UNITS = {"bm1384": 55, "bm1387": 114}
_DEFAULT_MHZ = {"bm1384": 150.0, "bm1387": 100.0}
_REPLY_BYTES = {"bm1384": 5, "bm1387": 7}


@dataclass(slots=True)
class GekkoChip:
    """One chip. `heat_c`: a fault, as `dead`."""

    name: str
    index: int
    address: int = 0
    addressed: bool = False
    dead: bool = False
    heat_c: float = 0.0
    temperature_c: float = AMBIENT_C
    clock: tuple[int, ...] = ()
    frequency_mhz: float = 0.0

    @property
    def hashing(self) -> bool:
        """A job makes any chip with an address hash."""
        return self.addressed and not self.dead

    @property
    def hash_rate(self) -> float:
        """Real hashes a second."""
        return _UNITS[self.name] * self.frequency_mhz * 1e6 if self.hashing else 0.0

    def describe(self) -> str:
        """Its state in a line."""
        state = "dead" if self.dead else "hashing" if self.hashing else "idle"
        return f"chip {self.index}: address 0x{self.address:02X}, {self.frequency_mhz:.2f} MHz, {state}"

    def warm(self, elapsed_s: float, working: bool) -> None:
        """Follow the load."""
        load = self.frequency_mhz / _DEFAULT_MHZ[self.name] if working and self.hashing else 0.05
        steady = AMBIENT_C + RISE_AT_DEFAULT_C * min(load, 2.0) + self.heat_c
        self.temperature_c += (steady - self.temperature_c) * min(1.0, elapsed_s / THERMAL_LAG_S)


@dataclass(slots=True)
class _Job:
    job_id: int
    tail: bytes
    states: list[tuple[int, ...]]
    ticket: int
    position: int = 0
    slot: int = 0


@dataclass(slots=True)
class EmulatedGekkoChain:
    """A chain on one line, as EmulatedChain is. `zero_bits`: scale of difficulty 1."""

    name: str
    chip_count: int = 1
    zero_bits: int = 32
    faults: Faults = field(default_factory=Faults)
    latency_s: float = 0.0
    chips: list[GekkoChip] = field(default_factory=list)
    reported: int = 0
    bad_host_frames: int = 0
    _divider: int = _RESET_DIVIDER
    _buffer: bytearray = field(default_factory=bytearray)
    _heard_at: float = 0.0
    _job: _Job | None = None
    _out: deque[tuple[float, bytes]] = field(default_factory=deque)
    _line_free_at: float = 0.0
    _last_tick: float | None = None
    _credit: float = 0.0
    _last_nonce: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    @property
    def hash_rate(self) -> float:
        """Hashes a second that are really done."""
        return sum(chip.hash_rate for chip in self.chips) / (1 << 32 - self.zero_bits) if self._job is not None else 0.0

    @property
    def actual_baud(self) -> float:
        """The chips' rate by their divider."""
        return _CRYSTAL_HZ / 8 / (self._divider + 1)

    def hears(self, baud: int) -> bool:
        """Whether a host at that rate is understood."""
        return abs(baud / self.actual_baud - 1) <= _BAUD_TOLERANCE

    def reset(self) -> None:
        """Power lost and come back."""
        old = self.chips
        self.chips = [
            GekkoChip(self.name, index, dead=old[index].dead if old else False, frequency_mhz=_RESET_MHZ[self.name])
            for index in range(self.chip_count)
        ]
        self._divider = _RESET_DIVIDER
        self._job = None
        self._buffer.clear()
        self._out.clear()
        self._line_free_at = 0.0

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the host. Frames have no preamble; what fits none costs a byte, and silence begins anew."""
        if now - self._heard_at > 0.1:
            self._buffer.clear()
        self._heard_at = now
        self._buffer += self.faults.damage_input(data)
        while self._buffer:
            size = self._bm1384_frame(now) if self.name == "bm1384" else self._bm1387_frame(now)
            if size is None:
                return
            if size == 0:
                self.bad_host_frames += 1
                size = 1
            del self._buffer[:size]

    # BM1384: commands of four bytes that begin with one of a few, jobs of 64 that begin with anything

    def _bm1384_frame(self, now: float) -> int | None:
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        command, job = bytes(buffer[:4]), bytes(buffer[:64])
        # A midstate may begin as a command does, sealed by chance; a job that is whole is told by its zeros.
        is_job = len(job) == 64 and not any(job[32:39]) and not any(job[44:51])
        sealed = command[0] in (0x84, 0x85, 0x01, 0x82, 0x04) and crc5_of_response(command[:3], 0) == command[3]
        if sealed and not is_job:
            self._bm1384_command(command, now)
            return 4
        if not is_job:
            return None if len(job) < 64 else 0
        self._take(job[51], job[60:64] + job[56:60] + job[52:56], [job[:32]], job[39] + 1)
        return 64

    def _bm1384_command(self, command: bytes, now: float) -> None:
        kind, first, second = command[0], command[1], command[2]
        if kind == 0x84 and second == 0x00:
            self._identify(b"\x13\x84\x00\x00", now)
        elif kind == 0x85:
            self._forget_addresses()
        elif kind == 0x01:
            self._give_address(first)
        elif kind == 0x82:
            register = first << 8 | second
            m, n, shift = register >> 7 & 0x7F, register >> 2 & 0x1F, register & 3
            for chip in self._alive():
                chip.clock = (m, n, shift)
                chip.frequency_mhz = 50 * (m + 1) / ((n + 1) * (1 << shift))
        elif kind == 0x04 and second == 0x04:
            for chip in self._alive():
                if chip.address == first:
                    self._send_sealed(bytes((0x80, *(chip.clock or (0, 0, 0)))), now)

    # BM1387: commands with a length byte, jobs with CRC16

    def _bm1387_frame(self, now: float) -> int | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        kind, length = buffer[0], buffer[1]
        if kind == 0x21 and length in (0x36, 0x96):
            if len(buffer) < length:
                return None
            return self._bm1387_job(bytes(buffer[:length])) and length
        if kind >> 4 not in (4, 5) or length not in (5, 9):
            return 0
        if len(buffer) < length:
            return None
        command = bytes(buffer[:length])
        if crc5(command[:-1]) != command[-1]:
            return 0
        self._bm1387_command(command, now)
        return length

    def _bm1387_job(self, job: bytes) -> bool:
        if crc16(job[:-2]) != int.from_bytes(job[-2:], "big"):
            return False
        count = min(job[3], (len(job) - 22) // 32)
        states = [job[20 + 32 * index : 52 + 32 * index] for index in range(count)]
        self._take(job[2], job[16:20] + job[12:16] + job[8:12], states, 1)
        return True

    def _bm1387_command(self, command: bytes, now: float) -> None:
        kind, to_all, address, register = command[0] & 0x0F, command[0] & 0x10, command[2], command[3]
        if kind == 4 and register == 0x00:
            self._identify(b"\x13\x87\x00\x00", now)
        elif kind == 5:
            self._forget_addresses()
        elif kind == 1:
            self._give_address(address)
        elif kind == 8 and register == 0x1C:
            self._divider = command[6] & 0x1F
        elif kind == 8 and register == 0x0C:
            feedback, reference, dividers = command[5:8]
            for chip in self._alive():
                if to_all or chip.address == address:
                    chip.clock = (feedback, reference, dividers)
                    chip.frequency_mhz = 25 * feedback / (max(reference, 1) * (dividers >> 4) * (dividers & 0x0F))
        elif kind == 4 and register == 0x0C:
            for chip in self._alive():
                if to_all or chip.address == address:
                    self._send_sealed(bytes((0x80, *(chip.clock or (0, 0, 0)))), now)

    # Both

    def _alive(self) -> list[GekkoChip]:
        return [chip for chip in self.chips if not chip.dead]

    def _identify(self, body: bytes, now: float) -> None:
        for _ in self._alive():
            self._send_sealed(body, now)

    def _forget_addresses(self) -> None:
        for chip in self.chips:
            chip.addressed = False

    def _give_address(self, address: int) -> None:
        waiting = next((chip for chip in self._alive() if not chip.addressed), None)
        if waiting is not None:
            waiting.address, waiting.addressed = address, True

    def _take(self, job_id: int, tail: bytes, states: list[bytes], ticket: int) -> None:
        words = [struct.unpack(">8I", _reversed_words(state)) for state in states]
        self._job = _Job(job_id, tail, words, ticket)

    def run(self, now: float, budget_s: float) -> None:
        """Hash for as long as the chips would have since the last call."""
        elapsed = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        for chip in self.chips:
            chip.warm(elapsed, self._job is not None)
        rate = self.hash_rate
        job = self._job
        if job is None or rate == 0:
            self._credit = 0.0
            return
        self._credit = min(self._credit + rate * elapsed, rate * _LONGEST_CREDIT_S + _SLICE)
        began = perf_counter()
        while self._credit >= _SLICE and perf_counter() - began < budget_s and job.position < 1 << 32:
            for nonce, zeros in search(job.states[job.slot], job.tail, swept(job.position, _SLICE), self.zero_bits):
                self._found(job, nonce, zeros, now)
            self._credit -= _SLICE
            job.slot = (job.slot + 1) % len(job.states)
            if job.slot == 0:
                job.position += _SLICE

    def _found(self, job: _Job, nonce: int, zeros: int, now: float) -> None:
        alive = [chip for chip in self.chips if chip.hashing]
        index = (nonce & 0xFF) * len(self.chips) >> 8
        chip = self.chips[index]
        if chip not in alive or zeros - self.zero_bits < (job.ticket.bit_length() - 1):
            return
        if self.faults.chance(self.faults.wrong_nonce_rate):
            nonce ^= 0x0001_0000
        body = struct.pack("<I", nonce)
        if self.name == "bm1384":
            frame = body + bytes((0x80 | job.job_id & 0x1F,))
        else:
            body += bytes((0, job.job_id + job.slot & 0xFF))
            frame = body + bytes((4 << 5 | crc5_of_response(body, 4),))
        if self.faults.stuck_chip == index:
            frame = self._last_nonce.get(index, frame)
        self._last_nonce[index] = frame
        self.reported += 1
        self._send(frame, now)

    def _send_sealed(self, body: bytes, now: float) -> None:
        body = body.ljust(_REPLY_BYTES[self.name] - 1, b"\x00")
        self._send(body + bytes((crc5_of_response(body, 0),)), now)

    def _send(self, frame: bytes, now: float) -> None:
        begins = max(now + self.latency_s, self._line_free_at)
        self._line_free_at = begins + len(frame) * _BITS_PER_BYTE / self.actual_baud
        self._out.append((self._line_free_at, self.faults.damage_frame(frame)))

    def bytes_to_send(self, now: float) -> bytes:
        """What has got through the return line by now."""
        ready = []
        while self._out and self._out[0][0] <= now:
            ready.append(self._out.popleft()[1])
        return b"".join(ready)

    def next_send(self) -> float | None:
        """When more will have."""
        return self._out[0][0] if self._out else None


def _reversed_words(data: bytes) -> bytes:
    return b"".join(data[at : at + 4] for at in range(len(data) - 4, -1, -4))
