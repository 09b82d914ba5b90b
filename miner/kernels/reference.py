"""SHA-256d by hashlib: what every kernel is checked against, and a device of its own for machines where Numba does not
run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from miner.device import Candidate, DeviceDetails, HashJob, SearchResult, never

_SLICE = 2_000  #: hashes between two looks at `cancelled`: under 5 ms


def header_hash(header: bytes) -> bytes:
    """SHA-256d of 80 bytes, in internal byte order."""
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()


def hash_number(digest: bytes) -> int:
    """A block hash as the number that is compared with a target."""
    return int.from_bytes(digest, "little")


class ReferenceDevice:
    """HashDevice over hashlib; candidates are exact, so only nonces that meet the whole target are returned."""

    kind = "reference"
    preferred_versions = 1

    def __init__(self, name: str = "hashlib") -> None:
        self.name = name

    def open(self) -> None:
        """Nothing to bind."""

    def idle(self) -> None:
        """Nothing to look after."""

    def close(self) -> None:
        """Nothing to give back."""

    def details(self) -> DeviceDetails | None:
        """Nothing to tell."""
        return None

    def search(self, job: HashJob, start: int, count: int, cancelled: Callable[[], bool] = never) -> SearchResult:
        """See HashDevice.search; stops at the first nonce that finds something."""
        per_slice = max(1, _SLICE // len(job.versions))
        limit = job.target.to_bytes(33, "little")[:32] if job.target < 1 << 256 else b"\xff" * 32
        reversed_limit = limit[::-1]
        prefixes = [(version, hashlib.sha256(job.header_for(version, 0)[:64])) for version in job.versions]
        tail = job.header[64:76]
        for done in range(count):
            if done % per_slice == 0 and cancelled():
                return SearchResult(done, [])
            nonce = (start + done) & 0xFFFFFFFF
            second_block = tail + nonce.to_bytes(4, "little")
            found = []
            for version, prefix in prefixes:
                first = prefix.copy()
                first.update(second_block)
                if hashlib.sha256(first.digest()).digest()[::-1] <= reversed_limit:
                    found.append(Candidate(version, nonce))
            if found:
                return SearchResult(done + 1, found)
        return SearchResult(count, [])
