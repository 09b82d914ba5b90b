"""The BM13xx wire as the host sees it: commands and jobs out, register and nonce replies in (REFERENCE.md §2, §11,
§12).

Sans-I/O. Hashes are in internal byte order on this side; the chips' own order appears only in frames.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from miner.asic.crc import CRC5_PAIRS, CRC5_START, crc5, crc16

TO_CHIP = b"\x55\xaa"
TO_HOST = b"\xaa\x55"
SHORT_REPLY = 9  #: bytes, preamble included; until version rolling is enabled, and always on BM1397 (§12)
LONG_REPLY = 11

_SET_ADDRESS = 0x40
_WRITE = 0x41
_READ = 0x42
_INACTIVE = 0x53
_JOB = 0x21
_BROADCAST = 0x10
_NONCE_KIND = 4
_REGISTER_KIND = 0
#: After the preamble, little-endian as a nonce is: four bytes, two, version bits (big-endian there), type and CRC.
_LONG, _SHORT = struct.Struct("<IHHB"), struct.Struct("<IHB")
_ROOM = 4096  #: bytes of a decoder's buffer: 4 ms of the fastest link


def _command(body: bytes) -> bytes:
    return b"%b%b%c" % (TO_CHIP, body, crc5(body))


def set_address(address: int) -> bytes:
    """Give the first chip without an address this one."""
    return _command(bytes((_SET_ADDRESS, 5, address, 0)))


def chain_inactive() -> bytes:
    """Make every chip wait for an address."""
    return _command(bytes((_INACTIVE, 5, 0, 0)))


def read_register(register: int, address: int | None = None) -> bytes:
    """Ask one chip, or with None every chip, for a register."""
    header = _READ if address is not None else _READ | _BROADCAST
    return _command(bytes((header, 5, address or 0, register)))


def write_register(register: int, value: int, address: int | None = None) -> bytes:
    """Write a register in one chip, or with None in all."""
    header = _WRITE if address is not None else _WRITE | _BROADCAST
    return _command(struct.pack(">BBBBI", header, 9, address or 0, register, value))


def full_header_job(header: bytes, job_id: int, starting_nonce: int = 0, length_byte: int = 0x56) -> bytes:
    """An 80-byte header as a job for BM1362 and later, 88 bytes (§11.1). The header's nonce is not sent; its version
    must have the bits that the chip rolls clear. `length_byte`: 0x56 counts truly; the makers send 0x36."""
    body = struct.pack(
        "<BBBBI72s4s",
        *(_JOB, length_byte, job_id, 1, starting_nonce),
        *(_reordered(header[4:76]), header[:4]),
    )
    return b"%b%b%b" % (TO_CHIP, body, crc16(body).to_bytes(2, "big"))


@functools.lru_cache(maxsize=16)
def _reordered(fields: bytes) -> bytes:
    """Header bytes 4..75 as a job has them; remembered, since at a new block many boards get the same with other
    versions."""
    prev_hash, merkle_root, time, nbits = struct.unpack("<32s32s4s4s", fields)
    return b"%b%b%b%b" % (nbits, time, chip_order(merkle_root), chip_order(prev_hash))


def midstate_job(
    tail: bytes,
    midstates: Sequence[bytes],
    job_id: int,
    starting_nonce: bytes = bytes(4),
    count: int | None = None,
) -> bytes:
    """A job for BM1397 (§11.2).

    `tail`: header bytes 64..75; `midstates`: 1 or 4 of 32 bytes, words a..h each big-endian, one per version; `count`:
    how many of them count, all by default.
    """
    body = b"%c%c%c%c%b%b%b%b%b" % (
        *(_JOB, 22 + 32 * len(midstates), job_id, len(midstates) if count is None else count, starting_nonce),
        *(tail[8:12], tail[4:8], tail[0:4], b"".join(chip_order(state) for state in midstates)),
    )
    return b"%b%b%b" % (TO_CHIP, body, crc16(body).to_bytes(2, "big"))


def chip_order(data: bytes) -> bytes:
    """The 4-byte words of `data` in reverse order, bytes inside a word left alone; its own inverse (§11)."""
    words = len(data) // 4
    return struct.pack(f">{words}I", *reversed(struct.unpack(f">{words}I", data)))


class RegisterReply(NamedTuple):
    """A register's value, from the chip at `address`."""

    value: int
    address: int
    register: int


class NonceReply(NamedTuple):
    """A nonce as reported.

    `nonce`: bytes 76..79 of the header, read little-endian; `quality`: byte 6 (half-bits of difficulty above the
    ticket mask, or a number no host uses on BM1397); `tag`: byte 7, job id with sub-core or midstate; `version_field`:
    the rolled version bits 28:13, None in a 9-byte reply.
    """

    nonce: int
    quality: int
    tag: int
    version_field: int | None


Reply = RegisterReply | NonceReply


@dataclass(slots=True)
class LinkErrors:
    """What a decoder had to skip. `bad_frames`: preambles whose frame failed its checksum or type."""

    bad_frames: int = 0
    skipped_bytes: int = 0


@dataclass(slots=True)
class ReplyDecoder:
    """Bytes from a chain, cut into replies.

    One buffer: a reader may fill `space()` itself and call `filled(n)`, or hand bytes to `receive_data`. How the bytes
    are cut into pieces does not matter. After a frame that fails, one byte is dropped and the search goes on, so a
    lost byte costs the frame it was in: the byte that then closes the window is the next preamble's AA, whose top bits
    are no reply type (§2.4).
    """

    reply_size: int = SHORT_REPLY
    errors: LinkErrors = field(default_factory=LinkErrors)
    _buffer: bytearray = field(default_factory=lambda: bytearray(_ROOM))
    _start: int = 0
    _end: int = 0

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        return memoryview(self._buffer)[self._end :]

    def filled(self, count: int) -> list[Reply]:
        """`count` bytes have been written to `space()`: the replies they complete."""
        self._end += count
        replies: list[Reply] = []
        buffer, size = self._buffer, self.reply_size
        while True:
            at = buffer.find(TO_HOST, self._start, self._end)
            if at < 0:
                keep = 1 if self._end > self._start and buffer[self._end - 1] == TO_HOST[0] else 0
                self._skip_to(self._end - keep)
                return replies
            if at != self._start:
                self._skip_to(at)
            if self._end - at < size:
                return replies
            reply = self._parse(at, size)
            if reply is None:
                self.errors.bad_frames += 1
                self._skip_to(at + 1)
            else:
                self._start = at + size
                replies.append(reply)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Reply]:
        """The replies completed by `data`."""
        replies: list[Reply] = []
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            replies += self.filled(count)
            rest = rest[count:]
        return replies

    def discard(self) -> None:
        """Forget what is buffered, as after a reset or a change of baud."""
        self._start = self._end = 0

    def _skip_to(self, position: int) -> None:
        self.errors.skipped_bytes += position - self._start
        self._start = position

    def _parse(self, at: int, size: int) -> Reply | None:
        version: int | None = None
        if size == LONG_REPLY:
            nonce, pair, version, last = _LONG.unpack_from(self._buffer, at + 2)
        else:
            nonce, pair, last = _SHORT.unpack_from(self._buffer, at + 2)
        kind = last >> 5
        if kind not in (_NONCE_KIND, _REGISTER_KIND):
            return None
        crc = CRC5_PAIRS[nonce >> 16 ^ CRC5_PAIRS[nonce & 0xFFFF ^ CRC5_START << 3] << 3]
        crc = CRC5_PAIRS[pair ^ crc << 3]
        if version is not None:
            crc = CRC5_PAIRS[version ^ crc << 3]
            version = version >> 8 | (version & 0xFF) << 8
        if crc5((last,), crc):
            return None
        if kind == _REGISTER_KIND:
            return RegisterReply(int.from_bytes(nonce.to_bytes(4, "little"), "big"), pair & 0xFF, pair >> 8)
        return NonceReply(nonce, pair & 0xFF, pair >> 8, version)
