"""An emulated chain: chips in a row, one job, one return line.

Sans-I/O: bytes in, bytes out, time passed in. A scaled chain (`zero_bits` below 32) finds as many nonces a second as
the real one while hashing 2^(32 - zero_bits) times less: its difficulty 1 is a hash with `zero_bits` leading zero bits,
and every hash and hash rate is divided by the same factor. What it reports is true: each nonce's hash has the zero
bits that ticket mask and scale ask for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import perf_counter

from miner.asic.bm13xx import ticket_mask
from miner.asic.bm13xx.models.model import ChipModel, JobFormat, NonceLayout
from miner.asic.bm13xx.registers import CRYSTAL_HZ, NONCE_OFFSET_ENABLE, Register
from miner.asic.emulator.chip import EmulatedChip
from miner.asic.emulator.faults import Faults
from miner.asic.emulator.hashing import midstate, search, swept
from miner.asic.emulator.known import known_answers
from miner.asic.emulator.wire import Command, HostFrames, Work, nonce_reply, register_reply

_SLICE = 4096  #: nonces hashed at a time by a fast chain: larger ones cost more cache, smaller ones more Python
_SMALL_SLICE = 512  #: by a slow one, so that its nonces do not come in bursts
_SLOW_HASHES_PER_S = 60_000
_LONGEST_CREDIT_S = 0.25  #: hashing that a stalled process makes up for
_BITS_PER_BYTE = 10  #: start, eight data, stop
_BAUD_TOLERANCE = 0.05


@dataclass(slots=True)
class _Sweep:
    """Where the chips are in a job. They go through the versions in batches of one per sub-core, and with each batch
    through the same window of nonces."""

    work: Work
    states: list[tuple[int, tuple[int, ...]]]  # (version field or midstate number, midstate) of the current batch
    batch: int = 0
    position: int = 0  # nonces done in this batch
    slot: int = 0
    rounds: int = 0  # how often the job was gone through from the start


@dataclass(slots=True)
class EmulatedChain:
    """See the module. `latency_s`: added before each reply; `actual_baud`: what the chips' own divider gives."""

    model: ChipModel
    chip_count: int = 1
    zero_bits: int = 32
    latency_s: float = 0.0
    faults: Faults = field(default_factory=Faults)
    chips: list[EmulatedChip] = field(default_factory=list)
    reported: int = 0  #: true nonces put on the line, damaged or not
    _frames: HostFrames = field(init=False)
    _sweep: _Sweep | None = None
    _last_id: int = 0
    _out: deque[tuple[float, bytes]] = field(default_factory=deque)
    _line_free_at: float = 0.0
    _last_tick: float | None = None
    _credit: float = 0.0  # hashes that time has allowed and that are not done
    _known: list[tuple[int, int, int, int]] = field(default_factory=list)  # answers of the job that need no hashing
    _last_nonce: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chips = [EmulatedChip(self.model, index) for index in range(self.chip_count)]
        self._frames = HostFrames(self.model.rolls_versions)

    @property
    def bad_host_frames(self) -> int:
        """Frames of the host whose checksum or length was wrong."""
        return self._frames.bad_frames

    @property
    def hash_rate(self) -> float:
        """Hashes a second that are really done, all chips together."""
        return sum(chip.hash_rate for chip in self.chips) / (1 << 32 - self.zero_bits)

    @property
    def actual_baud(self) -> float:
        """The chips' rate by their dividers (§9)."""
        registers = self.chips[0].registers
        if self.model.job_format is JobFormat.MIDSTATES:
            misc = registers[Register.MISC_CONTROL]
            return CRYSTAL_HZ / 8 / (((misc >> 24 & 0xF) << 5 | misc >> 8 & 0x1F) + 1)
        uart = registers[Register.FAST_UART]
        if self.model.name == "bm1373" and uart == 0x8000_0000:
            return 3_000_000.0
        return CRYSTAL_HZ / 8 / ((uart >> 8 & 0xFF) + 1)

    def hears(self, baud: int) -> bool:
        """Whether a host at that rate and the chips understand each other."""
        return abs(baud / self.actual_baud - 1) <= _BAUD_TOLERANCE

    def reset(self) -> None:
        """The reset line, pulsed: everything forgotten, back to 115,740 baud."""
        for chip in self.chips:
            chip.reset()
        self._frames = HostFrames(self.model.rolls_versions)
        self._sweep = None
        self._out.clear()
        self._line_free_at = 0.0

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the host."""
        for frame in self._frames.receive_data(self.faults.damage_input(data)):
            if isinstance(frame, Work):
                self._take_work(frame)
            else:
                self._obey(frame, now)

    def bytes_to_send(self, now: float) -> bytes:
        """What has got through the return line by now."""
        ready = []
        while self._out and self._out[0][0] <= now:
            ready.append(self._out.popleft()[1])
        return b"".join(ready)

    def next_send(self) -> float | None:
        """When more will have; None when nothing is on its way."""
        return self._out[0][0] if self._out else None

    def run(self, now: float, budget_s: float) -> None:
        """Hash for as long as the chips would have since the last call, `budget_s` of processor time at most."""
        elapsed = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        sweep = self._sweep
        for chip in self.chips:
            chip.warm(elapsed, sweep is not None and chip.hashing)
        if sweep is not None:
            for slot, field_value, nonce, zeros in self._known:
                self._found(sweep.work, slot, field_value, nonce, zeros, now)
            self._known.clear()
        rate = self.hash_rate
        if sweep is None or rate == 0:
            self._credit = 0.0
            return
        size = _SLICE if rate > _SLOW_HASHES_PER_S else _SMALL_SLICE
        self._credit = min(self._credit + rate * elapsed, rate * _LONGEST_CREDIT_S + size)
        began = perf_counter()
        while self._credit >= size and perf_counter() - began < budget_s:
            self._credit -= self._hash_slice(sweep, size, now)

    # Commands

    def _obey(self, command: Command, now: float) -> None:
        if command.kind == "inactive":
            for chip in self.chips:
                chip.addressed = False
        elif command.kind == "address":
            waiting = next((chip for chip in self.chips if not chip.addressed and not chip.dead), None)
            if waiting is not None and command.address is not None:
                waiting.address, waiting.addressed = command.address, True
        elif command.kind == "write":
            for chip in self._addressed(command.address, self.model.command_shift):
                chip.write(command.register, command.value)
            if command.register == Register.VERSION_ROLLING and self._sweep is not None:
                self._start_batch(self._sweep)
        else:
            for chip in self._addressed(command.address, 0):
                value = chip.read(command.register)
                self._send(register_reply(value, chip.address, command.register, chip.long_replies), now)

    def _addressed(self, address: int | None, shift: int) -> list[EmulatedChip]:
        return [chip for chip in self.chips if not chip.dead and (address is None or chip.address >> shift == address)]

    # Work

    def _take_work(self, work: Work) -> None:
        if self._sweep is not None:
            self._last_id = self._sweep.work.job_id
        self._sweep = _Sweep(work, [])
        self._start_batch(self._sweep)
        self._known.clear()
        if self.zero_bits == 32 and any(chip.hashing for chip in self.chips):
            mask = self.chips[0].registers.get(Register.VERSION_ROLLING, 0) & 0xFFFF
            self._known.extend(known_answers(work, self.model, mask))

    def _start_batch(self, sweep: _Sweep) -> None:
        """Midstates of the next versions, one per sub-core."""
        sweep.position = sweep.slot = 0
        work = sweep.work
        if work.midstates:
            sweep.states = list(enumerate(work.midstates))
            return
        mask = self.chips[0].registers.get(Register.VERSION_ROLLING, 0) & 0xFFFF
        bits = [bit for bit in range(16) if mask >> bit & 1]
        slots = min(self.model.sub_cores, 1 << len(bits))
        if sweep.batch * slots >= 1 << len(bits):
            sweep.batch, sweep.rounds = 0, sweep.rounds + 1
        sweep.states = []
        for slot in range(slots):
            number = sweep.batch * slots + slot
            field_value = sum((number >> place & 1) << bit for place, bit in enumerate(bits))
            version = work.version | field_value << 13
            sweep.states.append((field_value, midstate(version.to_bytes(4, "little") + work.head)))

    def _window(self) -> int:
        """Nonces of one batch: what the hash counting number lets each core reach of its slice (§14)."""
        chip = self.chips[0]
        counting = chip.registers.get(Register.HASH_COUNTING_NUMBER, 0)
        if not self.model.rolls_versions:
            return 1 << 32
        reach = counting * 2 * chip.frequency_mhz / (CRYSTAL_HZ / 1e6) * 128 * len(self.chips)
        return min(1 << 32, max(_SMALL_SLICE, int(reach)))

    def _hash_slice(self, sweep: _Sweep, size: int, now: float) -> int:
        field_value, state = sweep.states[sweep.slot]
        count = min(size, self._window() - sweep.position)
        for nonce, zeros in search(state, sweep.work.tail, swept(sweep.position, count), self.zero_bits):
            self._found(sweep.work, sweep.slot, field_value, nonce, zeros, now)
        alive = [chip for chip in self.chips if chip.hashing]
        for chip in alive:
            chip.hashes += count / len(alive) / (1 << self.zero_bits)
        sweep.slot += 1
        if sweep.slot == len(sweep.states):
            sweep.slot = 0
            sweep.position += count
            if sweep.position >= self._window():
                sweep.batch += 1
                self._start_batch(sweep)
        return count

    def _found(self, work: Work, slot: int, field_value: int, nonce: int, zeros: int, now: float) -> None:
        chip = self._finder(nonce)
        if chip is None or not chip.hashing:
            return
        ticket = ticket_mask.difficulty_of(chip.registers.get(Register.TICKET_MASK, 0)).bit_length() - 1
        excess = zeros - self.zero_bits - ticket
        if excess < 0:
            return
        job_id = self._last_id if self.faults.chance(self.faults.stale_id_rate) else work.job_id
        if self.faults.chance(max(self.faults.wrong_nonce_rate, chip.error_rate)):
            nonce ^= 0x0001_0000
        rolled = field_value if self.model.rolls_versions else None
        quality = 2 * excess if self.model.rolls_versions else 0
        frame = nonce_reply(nonce, min(quality, 255), chip.tag(job_id, slot), rolled)
        if self.faults.stuck_chip == chip.index:
            frame = self._last_nonce.get(chip.index, frame)
        self._last_nonce[chip.index] = frame
        self.reported += 1
        self._send(frame, now)
        if self.faults.repeat_nonces:
            self.faults.repeat_nonces -= 1
            self._send(frame, now)

    def _finder(self, nonce: int) -> EmulatedChip | None:
        """The chip in whose part of the nonce space a nonce lies; None where no core sweeps (§12.4, §14)."""
        seen = int.from_bytes(nonce.to_bytes(4, "little"), "big")
        if self.model.rolls_versions and seen >> 25 >= self.model.cores:
            return None
        alive = [chip for chip in self.chips if not chip.dead and chip.addressed]
        if len(alive) < 2:
            return alive[0] if alive else None
        if self.model.nonce_layout is NonceLayout.OFFSET:
            start = seen >> 9 & 0xFFFF
            offsets = [chip.registers.get(Register.NONCE_OFFSET, 0) for chip in alive]
            if not all(offset & NONCE_OFFSET_ENABLE for offset in offsets):
                return alive[start * len(alive) >> 16]
            begun = [(offset & 0xFFFF, chip) for offset, chip in zip(offsets, alive, strict=True)]
            return max((entry for entry in begun if entry[0] <= start), key=lambda entry: entry[0], default=(0, None))[
                1
            ]
        if self.model.nonce_layout is NonceLayout.ADDRESS:
            index = (seen >> 17 & 0xFF) // (256 // len(alive))
        else:
            index = (seen >> 16 & 0x3F) * len(alive) // 63
        return alive[index] if index < len(alive) else None

    # The return line

    def _send(self, frame: bytes, now: float) -> None:
        begins = max(now + self.latency_s, self._line_free_at)
        self._line_free_at = begins + len(frame) * _BITS_PER_BYTE / self.actual_baud
        self._out.append((self._line_free_at, self.faults.damage_frame(frame)))
