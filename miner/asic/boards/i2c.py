"""Conversations with I2C devices, without I/O: a device's driver yields transfers and is sent what was read.

def temperature() -> Conversation[float]:
    data = yield Transfer(0x4A, b"\\x00", 2)
    return ...
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Transfer:
    """Write these bytes, then read so many; either may be none. `address`: 7 bits."""

    address: int
    write: bytes = b""
    read: int = 0


class I2cError(Exception):
    """A device did not answer, or said what no such device says; one line."""


#: Yields transfers, is sent the bytes read (b"" for a write), returns the result; I2cError is raised into it when a
#: device does not answer.
Conversation: TypeAlias = Generator[Transfer, bytes, T]
