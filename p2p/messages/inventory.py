"""inv, getdata and notfound: lists of (type, hash)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from chain.primitives.serialize import Reader, write_compact_size
from chain.primitives.types import hash_to_hex
from p2p.constants import MAX_INV_SIZE
from p2p.messages.counted import read_count

MSG_TX = 1
MSG_BLOCK = 2
MSG_FILTERED_BLOCK = 3
MSG_CMPCT_BLOCK = 4
MSG_WTX = 5  #: BIP339
MSG_WITNESS_FLAG = 1 << 30  #: BIP144: serialize with witness
MSG_WITNESS_TX = MSG_TX | MSG_WITNESS_FLAG
MSG_WITNESS_BLOCK = MSG_BLOCK | MSG_WITNESS_FLAG

_NAMES = {
    MSG_TX: "tx",
    MSG_BLOCK: "block",
    MSG_FILTERED_BLOCK: "merkleblock",
    MSG_CMPCT_BLOCK: "cmpctblock",
    MSG_WTX: "wtx",
}


class Inv(NamedTuple):
    """One entry: what it is, and its 32-byte hash (internal order)."""

    type: int
    hash: bytes

    @property
    def is_tx(self) -> bool:
        """A transaction, by txid or wtxid, with or without witness."""
        return self.type in (MSG_TX, MSG_WTX, MSG_WITNESS_TX)

    @property
    def is_block(self) -> bool:
        """A block in any of its forms."""
        return self.type in (MSG_BLOCK, MSG_FILTERED_BLOCK, MSG_CMPCT_BLOCK, MSG_WITNESS_BLOCK)

    def __str__(self) -> str:
        name = _NAMES.get(self.type & ~MSG_WITNESS_FLAG)
        if name is None:
            return f"0x{self.type:08x} {hash_to_hex(self.hash)}"
        return f"{'witness-' if self.type & MSG_WITNESS_FLAG else ''}{name} {hash_to_hex(self.hash)}"


@dataclass(frozen=True, slots=True)
class _InventoryMessage:
    command: ClassVar[str]
    max_size: ClassVar[int] = 9 + 36 * MAX_INV_SIZE

    items: tuple[Inv, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        count = read_count(reader, cls.command, MAX_INV_SIZE)
        body = reader.bytes(36 * count)
        return cls(
            tuple(
                Inv(int.from_bytes(body[i : i + 4], "little"), body[i + 4 : i + 36]) for i in range(0, 36 * count, 36)
            )
        )

    def encode(self) -> bytes:
        return write_compact_size(len(self.items)) + b"".join(i.type.to_bytes(4, "little") + i.hash for i in self.items)


@dataclass(frozen=True, slots=True)
class InvMessage(_InventoryMessage):
    """Announces transactions and blocks."""

    command: ClassVar[str] = "inv"


@dataclass(frozen=True, slots=True)
class GetData(_InventoryMessage):
    """Asks for transactions and blocks."""

    command: ClassVar[str] = "getdata"


@dataclass(frozen=True, slots=True)
class NotFound(_InventoryMessage):
    """Answers a getdata for what the sender does not have."""

    command: ClassVar[str] = "notfound"
