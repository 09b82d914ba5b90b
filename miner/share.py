"""The host's own look at every nonce a device returns: hashed again with hashlib before it counts for anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from miner.device import Candidate
from miner.kernels.reference import hash_number, header_hash
from miner.work.job import WorkUnit

_DIFFICULTY_1 = 0xFFFF << 208  #: the target of difficulty 1


class Finding(Enum):
    """What a candidate turned out to be."""

    BLOCK = "block"
    SHARE = "share"
    NEAR_MISS = "near miss"  #: right top word, but above the share target: devices compare only that word
    HARDWARE_ERROR = "hardware error"  #: the device's arithmetic, or its memory, was wrong
    OUT_OF_RANGE = "out of range"  #: a version the unit does not have: the device's bookkeeping was wrong


@dataclass(frozen=True, slots=True)
class Share:
    """A checked candidate. `difficulty` is that of its hash; `device`: the name of the one that found it."""

    unit: WorkUnit
    candidate: Candidate
    finding: Finding
    header: bytes
    hash: bytes
    difficulty: float
    device: str = ""

    @property
    def worth(self) -> float:
        """The difficulty that was asked for: what a pool credits for it."""
        return difficulty_of_target(self.unit.job.share_target)


def check_candidate(unit: WorkUnit, candidate: Candidate, device: str = "") -> Share:
    """Hash a candidate's header and say what it is."""
    header = unit.hash_job.header_for(candidate.version, candidate.nonce)
    digest = header_hash(header)
    number = hash_number(digest)
    if candidate.version not in unit.hash_job.versions:
        finding = Finding.OUT_OF_RANGE
    elif number <= unit.job.target:
        finding = Finding.BLOCK
    elif number <= unit.job.share_target:
        finding = Finding.SHARE
    elif number >> 224 <= unit.job.share_target >> 224:
        finding = Finding.NEAR_MISS
    else:
        finding = Finding.HARDWARE_ERROR
    return Share(unit, candidate, finding, header, digest, _DIFFICULTY_1 / max(number, 1), device)


def difficulty_of_target(target: int) -> float:
    """How many times harder than difficulty 1 a target is."""
    return _DIFFICULTY_1 / max(target, 1)
