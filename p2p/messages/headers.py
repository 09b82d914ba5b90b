"""headers: an answer to getheaders, or the announcement of new blocks (BIP130)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.serialize import Reader, write_compact_size
from p2p.constants import MAX_HEADERS_RESULTS
from p2p.messages.counted import read_count


@dataclass(frozen=True, slots=True)
class Headers:
    """Up to 2,000 headers; each is followed on the wire by a transaction count of zero."""

    command: ClassVar[str] = "headers"
    max_size: ClassVar[int] = 9 + (HEADER_SIZE + 9) * MAX_HEADERS_RESULTS

    headers: tuple[BlockHeader, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Headers:
        reader = Reader(payload)
        count = read_count(reader, cls.command, MAX_HEADERS_RESULTS)
        headers = []
        for _ in range(count):
            headers.append(BlockHeader(reader.bytes(HEADER_SIZE)))
            reader.compact_size()  # the transaction count: nobody looks at it
        return cls(tuple(headers))

    def encode(self) -> bytes:
        return write_compact_size(len(self.headers)) + b"".join(h.raw + b"\0" for h in self.headers)
