"""getheaders and getblocks: what follows the last block that we have in common?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from chain.primitives.serialize import Reader, write_compact_size
from chain.primitives.types import ZERO_HASH, BlockHash
from p2p.constants import MAX_LOCATOR_SIZE, PROTOCOL_VERSION
from p2p.errors import PeerDropped

NO_STOP = BlockHash(ZERO_HASH)


@dataclass(frozen=True, slots=True)
class _LocatorMessage:
    command: ClassVar[str]
    #: Core disconnects over the limit without discouraging; some thousands of entries are still read so that it is the
    #: count that is refused
    max_size: ClassVar[int] = 200_000

    locator: tuple[BlockHash, ...]
    stop: BlockHash = NO_STOP
    version: int = PROTOCOL_VERSION

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        version, count = reader.i32(), reader.compact_size()
        if count > MAX_LOCATOR_SIZE:
            raise PeerDropped(f"{cls.command} locator size {count} > {MAX_LOCATOR_SIZE}")
        locator = tuple(BlockHash(reader.bytes(32)) for _ in range(count))
        return cls(locator, BlockHash(reader.bytes(32)), version)

    def encode(self) -> bytes:
        count = write_compact_size(len(self.locator))
        return self.version.to_bytes(4, "little", signed=True) + count + b"".join(self.locator) + self.stop


@dataclass(frozen=True, slots=True)
class GetHeaders(_LocatorMessage):
    """Asks for up to 2,000 headers after the locator's fork point, to `stop` or (zero) as far as there are any.

    An empty locator asks for the header `stop` alone.
    """

    command: ClassVar[str] = "getheaders"


@dataclass(frozen=True, slots=True)
class GetBlocks(_LocatorMessage):
    """Asks for an inv of up to 500 blocks after the locator's fork point."""

    command: ClassVar[str] = "getblocks"
