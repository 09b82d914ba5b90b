"""What every hashing device is to the rest of the miner: a thing that searches bounded nonce ranges and never decides.

A device returns candidates; the host hashes each again (miner/share.py) before it counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, overload, runtime_checkable

NONCE_SPACE = 1 << 32
#: How often a device without work is called to look after its hardware, at the least.
IDLE_S = 0.1


class DeviceError(Exception):
    """The device cannot go on; one line saying why. It is retired, the others carry on."""


class Versions(Sequence[int]):
    """A run of rolled versions without a list of them: number i is `base` with the bits of `first` + i spread over
    `mask` (lowest bit first) and exclusive-ored in. So number 0 of the run that begins at 0 is `base` itself.

    `base` and `mask` are unsigned 32-bit; `in`, `len` and indexing take the same time whatever the length.
    """

    __slots__ = ("_bits", "_count", "_shift", "base", "first", "mask")

    def __init__(self, base: int, mask: int, first: int, count: int) -> None:
        bits, shift = _places(mask)
        if mask >> 32 or first < 0 or count < 1 or first + count > 1 << len(bits):
            raise ValueError(f"{count} versions from number {first} on are not within mask {mask:#x}")
        self.base = base & 0xFFFFFFFF
        self.mask = mask
        self.first = first
        self._count = count
        self._bits = bits
        self._shift = shift

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        if isinstance(index, slice):
            return tuple(self.base ^ self.spread(self.first + number) for number in range(self._count)[index])
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(f"there are {self._count} versions")
        return self.base ^ self.spread(self.first + index)

    def __iter__(self) -> Iterator[int]:
        return (self.base ^ self.spread(number) for number in range(self.first, self.first + self._count))

    def __contains__(self, version: object) -> bool:
        if not isinstance(version, int):
            return False
        changed = version ^ self.base
        return not changed & ~self.mask and self.first <= self._gather(changed) < self.first + self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Versions):
            return NotImplemented
        return (self.base, self.mask, self.first, self._count) == (other.base, other.mask, other.first, other._count)

    def __hash__(self) -> int:
        return hash((self.base, self.mask, self.first, self._count))

    def __repr__(self) -> str:
        return f"Versions({self.base:#010x}, {self.mask:#010x}, {self.first}, {self._count})"

    def spread(self, number: int) -> int:
        """The bits of a number on the mask's places."""
        if self._shift is not None:
            return number << self._shift
        return sum((number >> place & 1) << bit for place, bit in enumerate(self._bits))

    def _gather(self, masked: int) -> int:
        if self._shift is not None:
            return masked >> self._shift
        return sum((masked >> bit & 1) << place for place, bit in enumerate(self._bits))


@functools.lru_cache(maxsize=64)
def _places(mask: int) -> tuple[tuple[int, ...], int | None]:
    """The mask's bits, and where they are all in a row, as BIP320's are, how far to shift: that is what spreading is
    then."""
    bits = tuple(bit for bit in range(32) if mask >> bit & 1)
    in_a_row = not bits or bits[-1] - bits[0] == len(bits) - 1
    return bits, (bits[0] if bits else 0) if in_a_row else None


@dataclass(frozen=True, slots=True, eq=False)
class HashJob:
    """A header to search: 80 bytes whose version and nonce are replaced, under each of `versions` (all different; any
    sequence, a Versions where they are many).

    `target`: 256-bit integer; a nonce is a candidate when the hash, read as a little-endian number, may be at most
    this. Jobs are equal only to themselves: one handed out twice is two jobs.
    """

    header: bytes
    versions: Sequence[int]
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
    """A (version, nonce) whose hash's top 32 bits are at most the target's.

    `job`: which job it solves, where that is not the one whose search returned it: a device with a queue of its own
    may still answer for earlier ones.
    """

    version: int
    nonce: int
    job: HashJob | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Outcome of one search call.

    `done`: nonces searched from `start` on, each under every version; `candidates`: all of those among them, each once,
    and late ones of earlier jobs. `hashes`: how many were really done since the last call, where that is not `done`
    times the versions.
    """

    done: int
    candidates: list[Candidate]
    hashes: int | None = None


def never() -> bool:
    """A `cancelled` that lets the search run to its end."""
    return False


@dataclass(frozen=True, slots=True)
class ChipDetails:
    """One chip of a device. Rates in hashes a second, `by_counter` from a counter in the chip; `errors`: wrong
    nonces."""

    index: int
    alive: bool
    by_nonces: float | None = None
    by_counter: float | None = None
    errors: int = 0
    frequency_mhz: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True)
class FanDetails:
    """One fan: turns a minute as measured, and how far it is driven."""

    name: str
    rpm: float | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetails:
    """What a device knows of itself beyond its hashes, for people; whatever is unknown is None or empty.

    `state`: a few words ("running", "starting", "throttled: 82 °C"); `path`: where it is connected; `nominal_rate`:
    hashes a second that it should do as it is set; `watts`: measured, or `watts_estimated`. The dictionaries go by the
    sensor's name ("chip", "vr", "board"; "core", "input"); `counters` by what is counted ("crc_errors", "duplicates",
    "stale", "late", "resyncs", "restarts"); those under "wrong" are nonces that it has hashed again and found false:
    they count as hardware errors.
    """

    state: str = ""
    model: str | None = None
    path: str | None = None
    frequency_mhz: float | None = None
    nominal_rate: float | None = None
    watts: float | None = None
    watts_estimated: bool = False
    temperatures_c: dict[str, float] = field(default_factory=dict)
    voltages_v: dict[str, float] = field(default_factory=dict)
    currents_a: dict[str, float] = field(default_factory=dict)
    fans: tuple[FanDetails, ...] = ()
    chips: tuple[ChipDetails, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)


@runtime_checkable
class Wakeable(Protocol):
    """A device whose search waits for its hardware, and can be told not to."""

    def wake(self) -> None:
        """`cancelled()` may have changed: look now. Called from any thread, also when nothing is being searched, and
        returns at once."""


@runtime_checkable
class Switchable(Wakeable, Protocol):
    """A device that hashes by itself what it has been sent, and so can be sent new work without its thread: with many
    of them, one thread that goes from device to device is through before theirs have even been woken."""

    def switch(self, job: HashJob) -> bool:
        """Hash this from now on, as `search` from its beginning would have it, which follows. Called from any thread
        while a search may be going on that is cancelled already. Returns at once: whether the device has been sent all
        of it, so that its thread need not be woken before it wakes by itself."""


class HashDevice(Protocol):
    """One device, driven by one thread at a time."""

    name: str  #: short and unique, as on screen: "cpu0"
    kind: str  #: "cpu", "gpu", "asic" or "reference"

    @property
    def preferred_versions(self) -> int:
        """Versions per job at which the device is fastest; it takes 1 up to this many. May change between searches."""

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """Search nonces start .. start + count - 1 (modulo 2^32; count up to 2^32) until done, cancelled, or something
        is found.

        Returns within about 20 ms of `cancelled()` becoming true, or, where it is Wakeable, of being woken, and within
        0.2 s where nobody does. May return early with `done` < `count` so that
        candidates reach the host at once: call again from start + done. Raises DeviceError.
        """

    def open(self) -> None:
        """Called once in the thread that will search, before the first search: bind to hardware, pin the thread. Raises
        DeviceError. May be called again after `close`: a device can be taken out and put back."""

    def idle(self) -> None:
        """Called in the device's thread, at least every IDLE_S, while there is no work for it or it is paused: look
        after the hardware, and let it rest. Returns within IDLE_S. Raises DeviceError."""

    def close(self) -> None:
        """Give the hardware back; the device is not used again, unless it is opened again."""

    def details(self) -> DeviceDetails | None:
        """What it knows of itself now. Called from any thread, beside a search; does no input or output, so it is
        quick."""
