"""A job and its division into units that no two devices share.

A header offers four things to vary: the nonce (2^32, searched by the device), the version's rolling bits (BIP320), the
time, and the extranonce in the coinbase, which changes the merkle root. A unit fixes extranonce and time and a group of
versions; UnitSequence hands out each combination once.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from chain.crypto.hashes import sha256d
from chain.primitives.merkle import root_from_branch
from miner.device import NONCE_SPACE, HashJob, Versions
from miner.work.coinbase import CoinbaseParts

VERSION_ROLLING_MASK = 0x1FFFE000  #: BIP320: the 16 version bits that miners may use freely
#: Own shares are counted from one per 2^28 hashes on: about one every ten seconds and core.
OWN_SHARE_TARGET = 1 << 228
#: an easy job is over before more versions than one per this many hashes pay for themselves
_HASHES_PER_VERSION = 1 << 20
MOST_PREPARED = 64  #: midstates that the host prepares for one job, at most

_job_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to mine on, as a source defines it.

    `target` makes a block, `share_target` (at least as easy) is what devices filter at; both are 256-bit integers.
    `max_time` bounds time rolling from `time` on. `extranonce1` is fixed, extranonce2 counts through `extranonce2_size`
    bytes after it. `single_solution`: a block found ends the job (solo mining). `origin` belongs to the source.
    `merkle_root`: where it is fixed and the coinbase unknown (then `extranonce2_size` is 0). `received_at`: where the
    time may only be rolled as fast as the clock goes, when it was `time` (monotonic seconds).
    """

    height: int
    version: int
    version_mask: int
    prev_hash: bytes
    nbits: int
    time: int
    max_time: int
    target: int
    share_target: int
    coinbase: CoinbaseParts
    merkle_branch: tuple[bytes, ...]
    extranonce1: bytes
    extranonce2_size: int
    single_solution: bool
    origin: Any = None
    merkle_root: bytes | None = None
    received_at: float | None = None
    number: int = field(default_factory=lambda: next(_job_numbers))

    def no_easier_than(self, target: int) -> Job:
        """The same job with blocks of our own choosing: at most this target, though the network would take more."""
        harder = min(self.target, target)
        return replace(self, target=harder, share_target=max(harder, OWN_SHARE_TARGET))

    def extranonce(self, extranonce2: int) -> bytes:
        """Both parts, as they stand in the coinbase."""
        return self.extranonce1 + extranonce2.to_bytes(self.extranonce2_size, "little")

    def latest_time(self) -> int:
        """How far the time may be rolled now."""
        if self.received_at is None:
            return self.max_time
        return min(self.max_time, self.time + max(0, int(monotonic() - self.received_at)))

    def header(self, extranonce2: int, time: int) -> bytes:
        """The 80-byte header with nonce zero and the unrolled version."""
        return self.header_at(self.root(extranonce2), time)

    def root(self, extranonce2: int) -> bytes:
        """The merkle root under this extranonce."""
        if self.merkle_root is not None:
            return self.merkle_root
        txid = sha256d(self.coinbase.stripped(self.extranonce(extranonce2)))
        return root_from_branch(txid, self.merkle_branch, 0)

    def header_at(self, root: bytes, time: int) -> bytes:
        """The same as `header`, for one of our merkle roots."""
        version = self.version & 0xFFFFFFFF
        return struct.pack("<I32s32sII4x", version, self.prev_hash, root, time, self.nbits)


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One job's whole nonce space under one extranonce, one time and a group of versions."""

    job: Job
    extranonce2: int
    time: int
    hash_job: HashJob

    @property
    def hashes(self) -> int:
        """Size of the unit."""
        return NONCE_SPACE * len(self.hash_job.versions)


class UnitSequence:
    """Hands out a job's units, each once: versions first (they share a merkle root), then times, then extranonces."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._version_count = 1 << job.version_mask.bit_count()
        self._next_version = 0
        self._time = job.time
        self._extranonce2 = 0
        self._root = job.root(0)
        self._header = job.header_at(self._root, job.time)

    def take(self, preferred_versions: int) -> WorkUnit | None:
        """The next unit with at most that many versions; None when every extranonce is used up, and the time cannot be
        rolled yet."""
        if self._next_version == self._version_count and not self._advance():
            return None
        wanted = preferred_versions
        if wanted <= MOST_PREPARED:  # a device that takes more makes its midstates itself
            wanted = min(wanted, useful_versions(self.job.share_target))
        first = self._next_version
        count = min(wanted, self._version_count - first)
        self._next_version += count
        versions = Versions(self.job.version & 0xFFFFFFFF, self.job.version_mask, first, count)
        return WorkUnit(self.job, self._extranonce2, self._time, HashJob(self._header, versions, self.job.share_target))

    def _advance(self) -> bool:
        if self._time < self.job.latest_time():
            self._time += 1
        elif self._extranonce2 + 1 < 1 << 8 * self.job.extranonce2_size:
            self._time = self.job.time
            self._extranonce2 += 1
            self._root = self.job.root(self._extranonce2)
        else:
            return False
        self._next_version = 0
        self._header = self.job.header_at(self._root, self._time)
        return True


def useful_versions(target: int) -> int:
    """Versions beyond which preparing more midstates costs more than sharing a schedule among them saves."""
    expected_hashes = (1 << 256) // (target + 1)
    return max(1, expected_hashes // _HASHES_PER_VERSION)
