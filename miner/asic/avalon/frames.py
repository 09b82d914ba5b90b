"""Tasks and results of a first-generation Avalon (REFERENCE.md §2, §3, §4): bytes in, bytes out."""

from __future__ import annotations

from dataclasses import dataclass

from miner.kernels.midstate import midstate

CHIPS_IN_A_ROW = 10
RESULT_BYTES = 64
KEY = slice(4, 48)  #: of a result: what of a task comes back with it
FAN_FULL, FAN_LEAST = 0xA0, 0x20
_RESET_MARK = bytes.fromhex("aa55aa55") + bytes(7)
_FIXED = bytes.fromhex("74010000")


@dataclass(frozen=True, slots=True)
class Settings:
    """What every task tells the controller: `mhz`, how many `rows` there are, `fan` PWM (FAN_LEAST to FAN_FULL)."""

    mhz: int
    rows: int
    fan: int = FAN_FULL

    @property
    def timeout(self) -> int:
        """In the controller's units (§2)."""
        return 12690 // self.mhz


def reset_frame() -> bytes:
    """One byte (§3)."""
    return bytes((CHIPS_IN_A_ROW << 4 | 0b1101,))


def task_frame(
    header: bytes, settings: Settings, *, set_up: bool = False, flush: bool = False, idle: bool = False
) -> bytes:
    """A header (80 bytes, nonce ignored) as a task for the next free row. `set_up`: fan and time-out are to be taken
    over; `flush`: tasks still queued are dropped; `idle`: the row rests instead."""
    first = CHIPS_IN_A_ROW << 4 | set_up << 3 | 1 << 2 | flush << 1
    gate = idle << 3 | (not idle) << 2 | 1 << 1 | 1
    head = bytes((first, settings.fan, settings.timeout, settings.rows, gate, 0))
    return head + (settings.mhz * 8).to_bytes(2, "little") + _FIXED + task_body(header) + _NONCE_TABLE


def task_body(header: bytes) -> bytes:
    """Bytes 12..55: midstate and tail (§2)."""
    state = midstate(header[:64])
    words = b"".join(state[at : at + 4][::-1] for at in range(0, 32, 4))
    return words + b"".join(header[at : at + 4][::-1] for at in (64, 68, 72))


def result_key(body: bytes) -> bytes:
    """What `KEY` of a result holds for a task with that body: the tail, then the midstate."""
    return body[32:] + body[:32]


_NONCE_TABLE = b"".join((chip * (0xFFFFFFFF // CHIPS_IN_A_ROW)).to_bytes(4, "little") for chip in range(CHIPS_IN_A_ROW))


@dataclass(frozen=True, slots=True)
class Result:
    """A parsed result. `nonce`: little-endian integer of header bytes 76..79; fans in turns a minute."""

    nonce: int
    fans_rpm: tuple[int, int, int]
    temperatures_c: tuple[int, int, int]
    chip: int
    row: int


def parse_result(record: bytes) -> Result:
    """64 bytes whose key has matched (§4)."""
    fans = tuple(speed * 120 for speed in record[48:51])
    temperatures = tuple(value - 256 if value & 0x80 else value for value in record[51:54])
    nonce = int.from_bytes(record[0:4], "big")  # reversed header bytes, so big-endian here is little-endian there
    return Result(
        nonce, (fans[0], fans[1], fans[2]), (temperatures[0], temperatures[1], temperatures[2]), record[60], record[63]
    )


def parse_reset_reply(data: bytes) -> str | None:
    """The controller's version as year-month-day.minor, None while its answer has not come."""
    at = data.find(_RESET_MARK)
    if at < 0 or len(data) < at + RESULT_BYTES:
        return None
    record = data[at : at + RESULT_BYTES]
    return f"{2000 + (record[46] >> 4)}-{record[46] & 0xF:02d}-{record[45]:02d}.{record[44]}"
