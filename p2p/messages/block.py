"""block: a whole block, as bytes. The chain parses it, in its own thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.serialize import write_compact_size
from p2p.constants import MAX_MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class BlockMessage:
    """A serialized block (BIP144); only its header has been looked at."""

    command: ClassVar[str] = "block"
    max_size: ClassVar[int] = MAX_MESSAGE_SIZE

    raw: bytes

    @classmethod
    def decode(cls, payload: bytes) -> BlockMessage:
        if len(payload) <= HEADER_SIZE:
            raise DecodeError(f"a block has more than {HEADER_SIZE} bytes, not {len(payload)}")
        return cls(payload)

    def encode(self) -> bytes:
        return self.raw

    @property
    def header(self) -> BlockHeader:
        """The first 80 bytes."""
        return BlockHeader(self.raw[:HEADER_SIZE])


def without_witnesses(raw: bytes) -> bytes:
    """A block as peers without segwit asked for it (BIP144)."""
    block = Block.parse(raw)
    count = write_compact_size(len(block.transactions))
    return b"".join([block.header.raw, count, *[tx.stripped for tx in block.transactions]])
