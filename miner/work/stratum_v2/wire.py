"""Frames and types of Stratum V2 (§3.1, §3.2, §4.6): bounded readers, so that no length a pool sends costs memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from miner.work.stratum_v2.noise import MAC_SIZE, Cipher

HEADER_SIZE = 6
ENCRYPTED_HEADER_SIZE = HEADER_SIZE + MAC_SIZE
MAX_BLOCK = 65535  #: ciphertext bytes in one Noise message
_MAX_PLAIN_BLOCK = MAX_BLOCK - MAC_SIZE
#: Two halves of a coinbase and a merkle path, all as long as their types allow, have 140 KB; a longer message is none.
MAX_PAYLOAD = 160 << 10
CHANNEL_MESSAGE = 0x8000  #: bit of the extension type: the payload begins with a channel


class BadMessage(ValueError):
    """A message that does not follow the specification; one clause saying why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message as it travels: `extension` without the channel bit."""

    extension: int
    kind: int
    payload: bytes


class Reader:
    """Takes typed fields from a payload, in order; raises BadMessage where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """BYTES."""
        end = self._at + count
        if end > len(self._data):
            raise BadMessage("it ends too soon")
        data, self._at = self._data[self._at : end], end
        return data

    def integer(self, size: int) -> int:
        """U8, U16, U24, U32, U64 or U256 by their size."""
        return int.from_bytes(self.take(size), "little")

    def boolean(self) -> bool:
        """BOOL: only the lowest bit counts."""
        return bool(self.integer(1) & 1)

    def f32(self) -> float:
        """F32."""
        (value,) = struct.unpack("<f", self.take(4))
        return float(value)

    def counted(self, length_size: int, limit: int) -> bytes:
        """B0_32, B0_255, B0_64K: bytes after their length."""
        length = self.integer(length_size)
        if length > limit:
            raise BadMessage(f"a field has {length} bytes, more than {limit}")
        return self.take(length)

    def text(self) -> str:
        """STR0_255; foreign text, so whatever does not print is replaced."""
        raw = self.counted(1, 255).decode("utf-8", "replace")
        return "".join(char if char.isprintable() else " " for char in raw)

    def option_u32(self) -> int | None:
        """OPTION[U32]."""
        count = self.integer(1)
        if count > 1:
            raise BadMessage("an optional field is there more than once")
        return self.integer(4) if count else None

    def hashes(self) -> tuple[bytes, ...]:
        """SEQ0_255[U256]."""
        return tuple(self.take(32) for _ in range(self.integer(1)))

    def numbers(self) -> tuple[int, ...]:
        """SEQ0_64K[U32]."""
        return tuple(self.integer(4) for _ in range(self.integer(2)))


def integer(value: int, size: int) -> bytes:
    """An unsigned integer of that many bytes."""
    return value.to_bytes(size, "little")


def text(value: str) -> bytes:
    """STR0_255, cut to what fits without splitting a character."""
    raw = value.encode()[:255].decode("utf-8", "ignore").encode()
    return bytes([len(raw)]) + raw


def counted(value: bytes, length_size: int) -> bytes:
    """Bytes after their length."""
    return len(value).to_bytes(length_size, "little") + value


def f32(value: float) -> bytes:
    """F32; what is too large becomes the largest."""
    return struct.pack("<f", min(value, 3.4e38))


def encode_frame(cipher: Cipher, kind: int, payload: bytes, *, for_channel: bool = False, extension: int = 0) -> bytes:
    """A message, encrypted: its header, then its payload in blocks."""
    header = integer(extension | (CHANNEL_MESSAGE if for_channel else 0), 2) + bytes([kind]) + integer(len(payload), 3)
    blocks = [cipher.encrypt(header)]
    blocks += [
        cipher.encrypt(payload[start : start + _MAX_PLAIN_BLOCK]) for start in range(0, len(payload), _MAX_PLAIN_BLOCK)
    ]
    return b"".join(blocks)


def encrypted_size(size: int) -> int:
    """Bytes on the wire of a payload of `size`."""
    return size + MAC_SIZE * -(-size // _MAX_PLAIN_BLOCK)


class FrameDecoder:
    """Bytes in, decrypted frames out, however the bytes arrive. Raises NoiseError, or BadMessage for a payload over
    MAX_PAYLOAD; after either the stream is lost."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher
        self._buffer = bytearray()
        self._header: tuple[int, int, int] | None = None

    def feed(self, data: bytes, take: Callable[[Frame], None]) -> None:
        """Call `take` with each frame that these bytes complete."""
        self._buffer += data
        while (frame := self._next()) is not None:
            take(frame)

    def _next(self) -> Frame | None:
        if self._header is None:
            if len(self._buffer) < ENCRYPTED_HEADER_SIZE:
                return None
            header = self._cipher.decrypt(self._cut(ENCRYPTED_HEADER_SIZE))
            size = int.from_bytes(header[3:6], "little")
            if size > MAX_PAYLOAD:
                raise BadMessage(f"it sends a message of {size} bytes")
            self._header = int.from_bytes(header[:2], "little") & ~CHANNEL_MESSAGE, header[2], size
        extension, kind, size = self._header
        wanted = encrypted_size(size)
        if len(self._buffer) < wanted:
            return None
        encrypted = self._cut(wanted)
        self._header = None
        payload = b"".join(
            self._cipher.decrypt(encrypted[start : start + MAX_BLOCK]) for start in range(0, wanted, MAX_BLOCK)
        )
        return Frame(extension, kind, payload)

    def _cut(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data
