"""The control channel of bitaxe-raw firmware: GPIO, I2C, ADC and LED over a second USB serial port (REFERENCE.md
§1-§4).

Sans-I/O. One request is under way at a time; the reply carries its id. Firmware builds differ in how replies are
framed, and say so nowhere: `ControlCodec` finds out with a GPIO read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

RESET_PIN = 0x00  #: chips' reset, active low, on every Bitaxe and the emberOne (§4)
REPLY_TIMEOUT_S = 1.0
QUIET_S = 0.05  #: silence after which a reply of an unclear length is over
_LARGEST = 4098


class Page(IntEnum):
    """Subject of a request (§2)."""

    I2C = 0x05
    GPIO = 0x06
    ADC = 0x07
    LED = 0x08


class I2cCommand(IntEnum):
    """Commands of the I2C page (§4)."""

    SET_FREQUENCY = 0x10
    WRITE = 0x20
    READ = 0x30
    WRITE_READ = 0x40


_LED_SET = 0x10
ADC_VDD = 0x50

ERROR_TEXTS = {0x10: "timeout", 0x11: "invalid command", 0x12: "buffer overflow or denied", 0x13: "fault"}


class Framing(Enum):
    """How a build frames replies (§3)."""

    DATA_LENGTH = "data length"  #: length counts the data; errors count everything
    TOTAL_LENGTH = "total length"  #: length counts everything
    STATUS_BYTE = "status byte"  #: everything, and a status byte stands before the data


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its id. `reply_bytes`: data bytes of the answer."""

    page: int
    command: int
    data: bytes
    reply_bytes: int

    def encode(self, request_id: int) -> bytes:
        """The frame."""
        size = 6 + len(self.data)
        if size > _LARGEST:
            raise ValueError(f"a request of {size} bytes is longer than {_LARGEST}")
        return struct.pack("<HBBBB", size, request_id, 0, self.page, self.command) + self.data


def i2c_frequency(hertz: int) -> Request:
    """Set the bus speed."""
    return Request(Page.I2C, I2cCommand.SET_FREQUENCY, struct.pack("<I", hertz), 4)


def i2c_write(address: int, data: bytes) -> Request:
    """Write; the answer is the number of bytes written."""
    return Request(Page.I2C, I2cCommand.WRITE, bytes((address,)) + data, 1)


def i2c_read(address: int, count: int) -> Request:
    """Read."""
    return Request(Page.I2C, I2cCommand.READ, bytes((address, count)), count)


def i2c_write_read(address: int, data: bytes, count: int) -> Request:
    """Write, then read without letting go of the bus."""
    return Request(Page.I2C, I2cCommand.WRITE_READ, bytes((address,)) + data + bytes((count,)), count)


def gpio_set(pin: int, high: bool) -> Request:
    """Drive a pin; the answer is its level."""
    return Request(Page.GPIO, pin, bytes((high,)), 1)


def gpio_get(pin: int) -> Request:
    """Read a pin."""
    return Request(Page.GPIO, pin, b"", 1)


def adc_read(channel: int) -> Request:
    """Raw counts of an ADC channel, 16 bits little-endian; no source says what a count is."""
    return Request(Page.ADC, channel, b"", 2)


def led(red: int, green: int, blue: int) -> Request:
    """Set the LED; echoed."""
    return Request(Page.LED, _LED_SET, bytes((red, green, blue)), 3)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: `data`, or `error` in words."""

    data: bytes
    error: str | None = None


def encode_reply(framing: Framing, request_id: int, data: bytes) -> bytes:
    """A success as the firmware sends it: what a watchdog waits for."""
    if framing is Framing.DATA_LENGTH:
        return struct.pack("<HB", len(data), request_id) + data
    if framing is Framing.TOTAL_LENGTH:
        return struct.pack("<HB", len(data) + 3, request_id) + data
    return struct.pack("<HBB", len(data) + 4, request_id, 0) + data


class ControlCodec:
    """Ids, and replies as they come in. `framing`: None until a GPIO read has told."""

    def __init__(self, framing: Framing | None = None) -> None:
        self.framing = framing
        self.stray_bytes = 0  #: received outside any reply
        self._next_id = 0
        self._id = 0
        self._page = 0
        self._expected = 0
        self._buffer = bytearray()

    def begin(self, request: Request) -> bytes:
        """The frame of the next request; what is left of earlier answers is dropped."""
        if self.framing is None and not (request.page == Page.GPIO and not request.data):
            raise ValueError("the first request must be a GPIO read, which tells how replies are framed")
        self._page = request.page
        self._id, self._next_id = self._next_id, (self._next_id + 1) % 0xFF  # FF: the id of unparsable requests
        self._expected = request.reply_bytes
        self.stray_bytes += len(self._buffer)
        self._buffer.clear()
        return request.encode(self._id)

    def receive_data(self, data: bytes) -> Reply | None:
        """The reply, once it is complete."""
        self._buffer += data
        while len(self._buffer) >= 4:
            if self._buffer[2] == self._id:
                return self._parse(quiet=False)
            size = self._size_of_stranger()
            if len(self._buffer) < size:
                return None
            self.stray_bytes += size
            del self._buffer[:size]
        return None

    def quiet(self) -> Reply | None:
        """Nothing has come for QUIET_S: the reply if what is there can be one."""
        if len(self._buffer) >= 4 and self._buffer[2] == self._id:
            return self._parse(quiet=True)
        return None

    def _size_of_stranger(self) -> int:
        """Of a late answer to a request that was given up. What claims to be longer than any is noise."""
        length = int.from_bytes(self._buffer[:2], "little")
        size = length + 3 if self.framing is Framing.DATA_LENGTH else length
        return size if 4 <= size <= _LARGEST else len(self._buffer)

    def _parse(self, *, quiet: bool) -> Reply | None:
        buffer = self._buffer
        length, first = int.from_bytes(buffer[:2], "little"), buffer[3]
        framing = self.framing or self._detect(length, first)
        if framing is None:
            return self._error(length, quiet)
        if self.framing is None:
            self.framing = framing
        if framing is Framing.STATUS_BYTE:
            if first:
                return self._error(length, quiet)
            return self._data(4) if length == self._expected + 4 else self._error(length, quiet)
        success = self._expected if framing is Framing.DATA_LENGTH else self._expected + 3
        if length != success:
            return self._error(length, quiet)
        # Total length, one data byte: a bare error code has the same frame. Errors of I2C come with text (§4), so there
        # it is data; a level is 0 or 1.
        error = length == 4 == len(buffer) and first in ERROR_TEXTS and self._page != Page.I2C
        if len(buffer) >= 3 + self._expected and not error:
            return self._data(3)
        # A four-byte error and the head of a longer success look alike until more comes or does not.
        return self._error(length, quiet) if quiet else None

    def _data(self, start: int) -> Reply | None:
        end = start + self._expected
        return Reply(bytes(self._buffer[start:end])) if len(self._buffer) >= end else None

    def _error(self, length: int, quiet: bool) -> Reply | None:
        """An error: `length` counts the whole frame, byte 3 is the code."""
        if len(self._buffer) < length and not quiet:
            return None
        code = self._buffer[3]
        text = bytes(self._buffer[4:length]).decode("ascii", "replace")
        return Reply(b"", text or ERROR_TEXTS.get(code, f"error {code:02X}"))

    def _detect(self, length: int, first: int) -> Framing | None:
        """From the answer to a GPIO read: 01 00 id level, 04 00 id level, or 05 00 id 00 level."""
        if length == 1:
            return Framing.DATA_LENGTH
        if length == 4 and first < 2:
            return Framing.TOTAL_LENGTH
        return Framing.STATUS_BYTE if length == 5 and first == 0 else None
