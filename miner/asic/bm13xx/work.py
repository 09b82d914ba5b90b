"""What a chain has been told to search, and what its nonces are worth: the wheel of job ids, and every nonce hashed
again."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from miner.asic.bm13xx.frames import NonceReply, full_header_job, midstate_job
from miner.asic.bm13xx.models.model import ChipModel, JobFormat
from miner.device import Versions
from miner.kernels.midstate import midstate
from miner.kernels.reference import hash_number, header_hash
from miner.kernels.sha256_constants import MASK

_SEEN_LIMIT = 1 << 16  #: nonces of one job remembered against duplicates


@dataclass(frozen=True, slots=True)
class ChainJob:
    """A header under a set of versions that differ in `version_mask` only.

    `header`: 80 bytes, version and nonce ignored; `version`: the first of the versions, its masked bits zero;
    `owner`: what the caller wants back with each nonce.
    """

    header: bytes
    version: int
    version_mask: int
    owner: object = None

    @property
    def version_count(self) -> int:
        """How many versions there are."""
        return 1 << self.version_mask.bit_count()

    def rolled(self, index: int) -> int:
        """Version number `index`: counted up through the masked bits (§11.2)."""
        version, mask = self.version, self.version_mask
        while index:
            lowest = mask & -mask
            if index & 1:
                version |= lowest
            mask ^= lowest
            index >>= 1
        return version

    def header_with(self, version: int, nonce: int) -> bytes:
        """The header that was hashed."""
        return b"%b%b%b" % ((version & MASK).to_bytes(4, "little"), self.header[4:76], nonce.to_bytes(4, "little"))


class Outcome(Enum):
    """What a nonce turned out to be."""

    GOOD = "good"
    BELOW_TICKET = "below ticket"  #: a true nonce of less difficulty than asked for: the chip lost its ticket mask
    DUPLICATE = "duplicate"
    STALE = "stale"  #: of a job that has been withdrawn
    WRONG = "wrong"  #: its hash is nothing: a hardware error, or damage on the way

    __hash__ = object.__hash__  # as good, and not run by the interpreter for each count of a nonce


class CheckedNonce(NamedTuple):
    """A nonce after the host's own hash. `job`, `version` and `number` (the hash as an integer) are None, 0 and 0 for
    a stale one; `chip` and `core` None where the nonce does not tell."""

    outcome: Outcome
    nonce: int
    version: int
    number: int
    job: ChainJob | None
    chip: int | None
    core: int | None
    sub_core: int


@dataclass(slots=True)
class _Entry:
    job: ChainJob
    ticket: int
    seen: set[int] = field(default_factory=set)  #: version << 32 | nonce


class JobTable:
    """The jobs a chain may still answer for, by id. `zero_bits`: leading zero bits of a difficulty-1 hash, 32 on real
    chips, fewer on scaled emulators."""

    def __init__(self, model: ChipModel, zero_bits: int = 32) -> None:
        self._model = model
        self._zero_bits = zero_bits
        self._wheel = model.job_ids()
        self._turn = 0
        self._entries: dict[int, _Entry] = {}

    def issue(self, job: ChainJob, ticket: int) -> bytes:
        """The next id for a job: its frame. A job of a chip that makes no midstates itself has at most 4 versions."""
        job_id = self._wheel[self._turn]
        self._turn = (self._turn + 1) % len(self._wheel)
        self._entries[job_id] = _Entry(job, ticket)
        return self._frame(job, job_id, ticket)

    def _frame(self, job: ChainJob, job_id: int, ticket: int) -> bytes:
        """A job as the chips take it; `ticket` for those that are told with each job."""
        if self._model.job_format is JobFormat.FULL_HEADER:
            return full_header_job(job.header_with(job.version, 0), job_id)
        versions = [job.rolled(index) for index in range(job.version_count)]
        states = [midstate(job.header_with(version, 0)[:64]) for version in versions]
        sent = states if len(states) in (1, 4) else [*states, *[bytes(32)] * (4 - len(states))]
        return midstate_job(job.header[64:76], sent, job_id, count=len(states))

    def withdraw_all(self) -> None:
        """A new block: whatever is still reported for jobs so far is stale, before the new job goes out."""
        self._entries.clear()

    def check(self, reply: NonceReply, ticket: int, chips: int) -> CheckedNonce:
        """Look the job up, rebuild the header, hash it."""
        model = self._model
        chip, core = model.chip_of(reply.nonce, chips), model.core_of(reply.nonce)
        nonce, _quality, tag, version_field = reply
        sub_core = tag & model.sub_core_mask
        entry = self._entries.get(model.job_id_of(tag))
        if entry is None:
            return CheckedNonce(Outcome.STALE, nonce, 0, 0, None, chip, core, sub_core)
        job = entry.job
        version = job.rolled(sub_core) if version_field is None else job.version | version_field << 13
        number = hash_number(header_hash(job.header_with(version, nonce)))
        zeros = 256 - number.bit_length()
        asked = self._zero_bits + min(ticket, entry.ticket).bit_length() - 1
        outcome = Outcome.GOOD
        if zeros < self._zero_bits or version & ~job.version_mask != job.version:
            outcome = Outcome.WRONG
        elif (key := version << 32 | nonce) in entry.seen:
            outcome = Outcome.DUPLICATE
        else:
            if len(entry.seen) < _SEEN_LIMIT:
                entry.seen.add(key)
            if zeros < asked:
                outcome = Outcome.BELOW_TICKET
        return CheckedNonce(outcome, nonce, version, number, job, chip, core, sub_core)


def split_versions(
    versions: Sequence[int], header: bytes, largest: int, rollable: int, owner: object = None
) -> Iterator[ChainJob]:
    """Versions, all different, as jobs of at most `largest` each (a power of two), each job a set that a mask within
    `rollable` describes, and each made when it is wanted. Versions that form no pattern go one by one. Together the
    jobs hold each version once."""
    if isinstance(versions, Versions):
        yield from _split_run(versions, header, largest, rollable, owner)
        return
    at = 0
    while at < len(versions):
        size = min(largest, 1 << (len(versions) - at).bit_length() - 1)
        while True:
            common, mask = _pattern(versions[at : at + size])
            if mask.bit_count() == size.bit_length() - 1 and not mask & ~rollable:
                break
            size //= 2
        yield ChainJob(header, common, mask, owner)
        at += size


def _split_run(run: Versions, header: bytes, largest: int, rollable: int, owner: object) -> Iterator[ChainJob]:
    """Numbers 2^k·n to 2^k·(n + 1) - 1 of a run are all settings of the mask's k lowest bits."""
    number, end = run.first, run.first + len(run)
    while number < end:
        size = min(largest, 1 << (end - number).bit_length() - 1, number & -number or 1 << 32)
        while (mask := run.spread(size - 1)) & ~rollable:
            size //= 2
        yield ChainJob(header, (run.base ^ run.spread(number)) & ~mask, mask, owner)
        number += size


def _pattern(group: Sequence[int]) -> tuple[int, int]:
    """Bits that all versions have, and bits in which they differ."""
    common = functools.reduce(operator.and_, group) & MASK
    return common, functools.reduce(operator.or_, group) & MASK ^ common
