"""The chips' side of the wire: host frames in, replies out (REFERENCE.md §2, §11, §12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from miner.asic.crc import crc5, crc5_of_response, crc16

FULL_HEADER_BYTES = 88
MIDSTATE_HEAD_BYTES = 22
_MIDSTATE_LENGTHS = {0x36: 1, 0x96: 4}
_COMMAND_LENGTHS = {0x40: 5, 0x41: 9, 0x51: 9, 0x42: 5, 0x52: 5, 0x53: 5}
_JOB = 0x21


@dataclass(frozen=True, slots=True)
class Command:
    """A command that arrived intact. `address` is None for a broadcast."""

    kind: str  #: "address", "write", "read" or "inactive"
    address: int | None
    register: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A job that arrived intact.

    `tail`: header bytes 64..75. `head`: header bytes 4..63 for a full-header job, whose first four are `version`;
    `midstates`: eight words each, for a midstate job.
    """

    job_id: int
    tail: bytes
    version: int = 0
    head: bytes = b""
    midstates: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True)
class HostFrames:
    """Bytes from the host, cut into commands and jobs; a frame that fails costs one byte and silence (§2.4)."""

    full_header: bool
    bad_frames: int = 0
    _buffer: bytearray = field(default_factory=bytearray)

    def receive_data(self, data: bytes) -> list[Command | Work]:
        """The frames completed by `data`."""
        self._buffer += data
        frames: list[Command | Work] = []
        while True:
            at = self._buffer.find(b"\x55\xaa")
            if at < 0:
                del self._buffer[: max(0, len(self._buffer) - 1)]
                return frames
            del self._buffer[:at]
            if len(self._buffer) < 6:
                return frames
            size = self._size()
            if size > len(self._buffer):
                return frames
            frame = self._parse(bytes(self._buffer[2:size])) if size else None
            if frame is None:
                self.bad_frames += 1
                del self._buffer[:1]
            else:
                frames.append(frame)
                del self._buffer[:size]

    def _size(self) -> int:
        """Bytes of the frame at the head of the buffer, preamble included; 0 when it is none."""
        kind, length = self._buffer[2], self._buffer[3]
        if kind == _JOB and self.full_header:
            return FULL_HEADER_BYTES if length in (0x36, 0x56, 0xFF) else 0
        if kind == _JOB:
            return length + 2 if length in _MIDSTATE_LENGTHS else 0
        return length + 2 if _COMMAND_LENGTHS.get(kind) == length else 0

    def _parse(self, frame: bytes) -> Command | Work | None:
        if frame[0] == _JOB:
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "big"):
                return None
            return _full_header_work(frame) if self.full_header else _midstate_work(frame)
        if crc5(frame[:-1]) != frame[-1]:
            return None
        kind = frame[0]
        address = None if kind & 0x10 else frame[2]
        if kind == 0x40:
            return Command("address", frame[2])
        if kind == 0x53:
            return Command("inactive", None)
        if kind & 0x0F == 1:
            return Command("write", address, frame[3], int.from_bytes(frame[4:8], "big"))
        return Command("read", address, frame[3])


def _full_header_work(frame: bytes) -> Work:
    job_id, nbits, time = frame[2], frame[8:12], frame[12:16]
    root, prev_hash = _reverse_words(frame[16:48]), _reverse_words(frame[48:80])
    version = int.from_bytes(frame[80:84], "little")
    return Work(job_id, root[28:] + time + nbits, version=version, head=prev_hash + root[:28])


def _midstate_work(frame: bytes) -> Work:
    job_id, claimed, nbits, time, root_end = frame[2], frame[3], frame[8:12], frame[12:16], frame[16:20]
    present = (len(frame) - MIDSTATE_HEAD_BYTES) // 32
    states = [_reverse_words(frame[20 + 32 * k : 52 + 32 * k]) for k in range(min(claimed, present))]
    return Work(job_id, root_end + time + nbits, midstates=tuple(struct.unpack(">8I", state) for state in states))


def _reverse_words(data: bytes) -> bytes:
    return b"".join(data[at : at + 4] for at in range(len(data) - 4, -1, -4))


def register_reply(value: int, address: int, register: int, long: bool) -> bytes:
    """A register's value, 9 or 11 bytes (§12.1)."""
    return _reply(struct.pack(">IBB", value, address, register) + (bytes(2) if long else b""), 0)


def nonce_reply(nonce: int, quality: int, tag: int, version_field: int | None) -> bytes:
    """A nonce: 9 bytes on chips whose host makes the midstates, 11 with the rolled version bits (§12.2, §12.3)."""
    rolled = b"" if version_field is None else version_field.to_bytes(2, "big")
    return _reply(struct.pack("<IBB", nonce, quality, tag) + rolled, 4)


def _reply(body: bytes, kind: int) -> bytes:
    return b"\xaa\x55" + body + bytes((kind << 5 | crc5_of_response(body, kind),))
