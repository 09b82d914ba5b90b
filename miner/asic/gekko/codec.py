"""Frames of BM1384 and BM1387 as the host sees them (REFERENCE.md §2, §3). Sans-I/O; no preambles either way."""

from __future__ import annotations

from dataclasses import dataclass

from miner.asic.bm13xx.frames import NonceReply, RegisterReply, Reply, ReplyDecoder, chip_order, midstate_job
from miner.asic.bm13xx.registers import Register
from miner.asic.crc import crc5, crc5_of_response

NONCES_OF_OPEN_CORE = (0x83EA_0372, 0x09F8_6BE1)  #: answers to the jobs of zeros, as little-endian numbers (§2)
_NONCE_BITS = 0x80  #: of a reply's last byte


@dataclass(frozen=True, slots=True)
class Bm1384:
    """Four-byte commands, five-byte replies, one midstate a job (§2)."""

    reply_size: int = 5

    def read_id(self) -> bytes:
        """Ask all for their identity."""
        return _sealed(0x84, 0x00, 0x00)

    def chain_inactive(self) -> bytes:
        """Make every chip wait for an address."""
        return _sealed(0x85, 0x00, 0x00)

    def set_address(self, address: int) -> bytes:
        """Give the first chip without an address this one."""
        return _sealed(0x01, address, 0x00)

    def set_clock(self, frequency_mhz: float) -> bytes:
        """Set all clocks."""
        register = self.clock_register(frequency_mhz)
        return _sealed(0x82, register >> 8, register & 0xFF)

    def read_clock(self, address: int) -> bytes:
        """Ask one chip for its clock; it names no address in its answer."""
        return _sealed(0x04, address, 0x04)

    def fast_baud(self) -> bytes:
        """None: it stays at 115,200."""
        return b""

    @staticmethod
    def clock_register(frequency_mhz: float) -> int:
        """f = 50·(m+1) / ((n+1)·2^od), m << 7 | n << 2 | od; od keeps the oscillator above 600 MHz (§2)."""
        shift = 3 if frequency_mhz < 200 else 2 if frequency_mhz < 400 else 1
        n = 0 if frequency_mhz % 25 == 0 else 1
        m = max(0, min(127, round(frequency_mhz * (1 << shift) * (n + 1) / 50) - 1))
        return m << 7 | n << 2 | shift

    def job(self, tail: bytes, midstates: list[bytes], job_id: int, ticket: int, chips: int) -> bytes:
        """64 bytes: midstate, ticket mask, range per chip, id, tail (§2)."""
        return b"".join(
            (
                *(chip_order(midstates[0]), bytes(7), bytes((min(ticket - 1, 0xFF),))),
                *((0xFFFF_FFFF // max(chips, 1)).to_bytes(4, "big"), bytes(7), bytes((job_id,))),
                *(tail[8:12], tail[4:8], tail[0:4]),
            )
        )

    def parse(self, frame: bytes) -> Reply | None:
        """A reply of five bytes; None for none. Nonces carry no checksum."""
        if frame[4] & 0xE0 == _NONCE_BITS:
            return NonceReply(int.from_bytes(frame[:4], "little"), 0, frame[4] & 0x1F, None)
        if frame[4] > 0x1F or crc5(frame):
            return None
        return RegisterReply(int.from_bytes(frame[:4], "big"), 0, _register_of(frame))


@dataclass(frozen=True, slots=True)
class Bm1387:
    """Commands like BM13xx's with other numbers, seven-byte replies, up to four midstates a job (§3)."""

    reply_size: int = 7

    def read_id(self) -> bytes:
        """Ask all for their identity."""
        return _sealed(0x54, 5, 0, 0)

    def chain_inactive(self) -> bytes:
        """Make every chip wait for an address."""
        return _sealed(0x55, 5, 0, 0)

    def set_address(self, address: int) -> bytes:
        """Give the first chip without an address this one."""
        return _sealed(0x41, 5, address, 0)

    def set_clock(self, frequency_mhz: float) -> bytes:
        """Set all clocks: 25·FB / (2·4) below 400 MHz, 25·FB / (2·2) from there (§3)."""
        factor, dividers = (8, 0x41) if frequency_mhz < 400 else (4, 0x21)
        feedback = max(1, min(0xFF, round(frequency_mhz * factor / 25)))
        return _sealed(0x58, 9, 0, 0x0C, 0, feedback, 2, dividers)

    def read_clock(self, address: int) -> bytes:
        """Ask one chip for its clock; it names no address in its answer."""
        return _sealed(0x44, 5, address, 0x0C)

    def fast_baud(self) -> bytes:
        """1.5 Mbaud: divider 1, with the gate block (§3)."""
        return _sealed(0x58, 9, 0, 0x1C, 0x40, 0x20, 0x81, 0x80)

    def job(self, tail: bytes, midstates: list[bytes], job_id: int, ticket: int, chips: int) -> bytes:
        """As BM1397's, without preamble: 54 or 150 bytes."""
        sent = midstates if len(midstates) in (1, 4) else [*midstates, *[bytes(32)] * (4 - len(midstates))]
        return midstate_job(tail, sent, job_id, count=len(midstates))[2:]

    def parse(self, frame: bytes) -> Reply | None:
        """A reply of seven bytes; None for none."""
        if crc5(frame):
            return None
        if frame[6] & 0xE0 == _NONCE_BITS:
            return NonceReply(int.from_bytes(frame[:4], "little"), frame[4], frame[5], None)
        return RegisterReply(int.from_bytes(frame[:4], "big"), 0, _register_of(frame)) if frame[6] <= 0x1F else None


Codec = Bm1384 | Bm1387


def _sealed(*body: int) -> bytes:
    """A command with its checksum. BM1384's covers three zero bits more (27 in all), BM1387's the bytes alone."""
    crc = crc5_of_response(body, 0) if len(body) == 3 else crc5(body)
    return bytes((*body, crc))


def _register_of(frame: bytes) -> int:
    """Which question a reply answers: identities begin with 13, clocks with 80."""
    return Register.CHIP_ID if frame[0] == 0x13 else Register.PLL0


class GekkoDecoder(ReplyDecoder):
    """Replies out of bytes, without preambles to go by: frames that fit are taken one after the other, and a byte is
    dropped where none fits. `gap` says that the line has been silent, so that a frame begins here: what is left of one
    that lost a byte is dropped, which then cost that frame only."""

    __slots__ = ("codec",)

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec.reply_size)
        self.codec = codec

    def gap(self) -> None:
        """The line was silent before the bytes that come next."""
        if self._end > self._start:
            self.errors.bad_frames += 1
            self.errors.skipped_bytes += self._end - self._start
        self._start = self._end = 0

    def filled(self, count: int) -> list[Reply]:
        """`count` bytes have been written to `space()`: the replies they complete."""
        self._end += count
        replies: list[Reply] = []
        size, in_step = self.reply_size, True
        while self._end - self._start >= size:
            reply = self.codec.parse(bytes(self._buffer[self._start : self._start + size]))
            if reply is None:
                self.errors.bad_frames += in_step
                self.errors.skipped_bytes += 1
                self._start += 1
            else:
                self._start += size
                replies.append(reply)
            in_step = reply is not None
        return replies
