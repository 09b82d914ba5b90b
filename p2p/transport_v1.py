"""The original framing: magic, command, length, checksum, payload. Sans-I/O: bytes in, events out, whatever way the
bytes were chunked.

Memory is bounded by what was received: a payload is buffered only as it arrives, only for messages that we
understand, and never beyond the message's own limit; everything else is counted, hashed and forgotten. Source:
Core's V1Transport (net.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from chain.crypto.hashes import sha256d
from p2p.constants import HEADER_SIZE, MAX_MESSAGE_SIZE
from p2p.messages.base import Message
from p2p.messages.registry import COUNTED_LIMITS, max_size

_COUNT_BYTES = 9  # a CompactSize


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message with a right checksum. `payload` is empty for commands that we do not understand; `size` is what
    it was."""

    command: str
    payload: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message above its type's limit; `head` is the begin of its payload, enough for a count."""

    command: str
    head: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A message that is dropped (wrong checksum, unprintable name); the connection goes on. `reason` is Core's log
    text."""

    reason: str
    size: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream makes no sense any more (wrong magic, absurd length): the connection must be closed. `reason` is
    Core's log text."""

    reason: str


Event = Received | Oversized | Corrupt | Broken


class TransportV1:
    """One direction-pair of framing for one connection."""

    name = "v1"

    def __init__(self, magic: bytes) -> None:
        self._magic = magic
        self._header = bytearray()
        self._payload: bytearray = bytearray()
        self._keep = 0  # how much of the payload is buffered
        self._missing = 0  # bytes of the payload still to come; meaningful once the header is complete
        self._size = 0
        self._command = b""
        self._checksum = b""
        self._hasher = sha256()
        self._broken = False

    @property
    def buffered(self) -> int:
        """Bytes held for a message that is not complete."""
        return len(self._header) + len(self._payload)

    def receive_data(self, data: bytes) -> list[Event]:
        """Every event that these bytes complete, in order. After Broken, everything is ignored."""
        events: list[Event] = []
        view = memoryview(data)
        while view and not self._broken:
            if len(self._header) < HEADER_SIZE:
                taken = min(HEADER_SIZE - len(self._header), len(view))
                self._header += view[:taken]
                view = view[taken:]
                if len(self._header) < HEADER_SIZE:
                    break
                reason = self._begin()
                if reason is not None:
                    self._broken = True
                    events.append(Broken(reason))
                    break
            taken = min(self._missing, len(view))
            part = view[:taken]
            view = view[taken:]
            self._missing -= taken
            self._hasher.update(part)
            room = self._keep - len(self._payload)
            if room > 0:
                self._payload += part[:room]
            if not self._missing:
                events.append(self._finish())
        return events

    def _begin(self) -> str | None:
        header = bytes(self._header)
        if header[:4] != self._magic:
            return f"Header error: Wrong MessageStart {header[:4].hex()} received"
        self._command = header[4:16]
        self._size = int.from_bytes(header[16:20], "little")
        self._checksum = header[20:24]
        if self._size > MAX_MESSAGE_SIZE:
            return f"Header error: Size too large ({printable(self._command)}, {self._size} bytes)"
        self._missing = self._size
        self._hasher = sha256()
        self._payload = bytearray()
        limit = max_size(command_name(self._command) or "")
        if limit is None:
            self._keep = 0
        else:
            self._keep = self._size if self._size <= limit else _COUNT_BYTES
        return None

    def _finish(self) -> Event:
        payload, size = bytes(self._payload), self._size
        self._header.clear()
        self._payload = bytearray()
        checksum = sha256(self._hasher.digest()).digest()[:4]
        shown = printable(self._command)
        if checksum != self._checksum:
            expected = f"expected {checksum.hex()} was {self._checksum.hex()}"
            return Corrupt(f"Header error: Wrong checksum ({shown}, {size} bytes), {expected}", size)
        command = command_name(self._command)
        if command is None:
            return Corrupt(f"Header error: Invalid message type ({shown}, {size} bytes)", size)
        limit = max_size(command)
        if limit is not None and size > limit:
            return Oversized(command, payload if command in COUNTED_LIMITS else b"", size)
        return Received(command, payload, size)

    def frame(self, message: Message) -> bytes:
        """The bytes that carry a message."""
        return frame(self._magic, message.command, message.encode())


def frame(magic: bytes, command: str, payload: bytes) -> bytes:
    """Header and payload; ValueError for a command of more than 12 bytes."""
    name = command.encode("ascii")
    if len(name) > 12:
        raise ValueError(f"a command has at most 12 characters: {command!r}")
    return b"".join((magic, name.ljust(12, b"\0"), len(payload).to_bytes(4, "little"), sha256d(payload)[:4], payload))


def command_name(field: bytes) -> str | None:
    """The command in a 12-byte field: printable ASCII, then only zeros; None if it is anything else."""
    name = field.rstrip(b"\0")
    if any(not 0x20 <= byte <= 0x7E for byte in name):
        return None
    return name.decode("ascii")


def printable(field: bytes) -> str:
    """The command field for a log line: what is neither letter, digit nor harmless punctuation is left out (Core's
    SanitizeString)."""
    return sanitize(field.split(b"\0", 1)[0])


_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;-_/:?@()")


def sanitize(text: bytes) -> str:
    """Only the characters that Core lets through from peers into logs and RPC."""
    return bytes(byte for byte in text if byte in _SAFE).decode("ascii")
