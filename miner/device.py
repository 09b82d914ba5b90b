"""What every hashing device is to the rest of the miner: a thing that searches bounded nonce ranges and never decides.

A device returns candidates; the host hashes each again (miner/share.py) before it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

NONCE_SPACE = 1 << 32


class DeviceError(Exception):
    """The device cannot go on; one line saying why. It is retired, the others carry on."""


@dataclass(frozen=True, slots=True)
class HashJob:
    """A header to search: 80 bytes whose version and nonce are replaced, under each of `versions`.

    `target`: 256-bit integer; a nonce is a candidate when the hash, read as a little-endian number, may be at most
    this.
    """

    header: bytes
    versions: tuple[int, ...]
    target: int

    def __post_init__(self) -> None:
        if len(self.header) != 80:
            raise ValueError(f"a header has 80 bytes, not {len(self.header)}")
        if not self.versions:
            raise ValueError("a job needs at least one version")

    def header_for(self, version: int, nonce: int) -> bytes:
        """The full header of a candidate."""
        return (version & 0xFFFFFFFF).to_bytes(4, "little") + self.header[4:76] + nonce.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A (version, nonce) whose hash's top 32 bits are at most the target's."""

    version: int
    nonce: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Outcome of one search call.

    `done`: nonces searched from `start` on, each under every version; `candidates`: all of those among them, each once.
    """

    done: int
    candidates: list[Candidate]


def never() -> bool:
    """A `cancelled` that lets the search run to its end."""
    return False


class HashDevice(Protocol):
    """One device, driven by one thread at a time."""

    name: str  #: short and unique, as on screen: "cpu0"
    kind: str  #: "cpu", "gpu", "asic" or "reference"
    preferred_versions: int  #: versions per job at which the device is fastest; it takes 1 up to this many

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """Search nonces start .. start + count - 1 (modulo 2^32; count up to 2^32) until done, cancelled, or something
        is found.

        Returns within about 20 ms of `cancelled()` becoming true. May return early with `done` < `count` so that
        candidates reach the host at once: call again from start + done. Raises DeviceError.
        """

    def open(self) -> None:
        """Called once in the thread that will search, before the first search: bind to hardware, pin the thread. Raises
        DeviceError."""

    def close(self) -> None:
        """Give the hardware back; the device is not used again."""
