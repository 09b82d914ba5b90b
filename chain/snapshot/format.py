"""The file format of UTXO snapshots, Bitcoin Core's (node/utxo_snapshot.h), byte for byte.

Header (51 bytes): ``utxo\\xff``, u16 LE version 2, network magic, hash of the base block, u64 LE count of coins. Then
for each transaction, ascending by the bytes of its txid: txid, CompactSize count of its coins, and for each coin
CompactSize output index, VARINT(height << 1 | coinbase), VARINT(compressed amount), compressed script. A transaction's
coins stand in the order of Core's database keys, which end in VARINT(index). Errors are in Core's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from chain.params import NETWORKS, NetworkParams
from chain.primitives.amount import money_range
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import read_compact_size_at, write_compact_size
from chain.primitives.types import BlockHash, OutPoint, PackedCoin
from chain.storage.compression import (
    SPECIAL_SCRIPTS,
    compress_amount,
    compress_script,
    decompress_amount,
    decompress_script,
    read_varint,
    write_varint,
)
from chain.utxo_stats import serialize_coin

MAGIC = b"utxo\xff"
VERSION = 2
HEADER_SIZE = 51
_MAX_U32 = 0xFFFFFFFF
_CHUNK = 1 << 20  # bytes read at a time
_MARGIN = 1 << 15  # no group header or coin is longer: a script has at most 10,000 bytes


class SnapshotError(Exception):
    """A snapshot that cannot be loaded or made; the text is Core's."""


class MetadataError(SnapshotError):
    """A file that does not begin like a snapshot of this network."""


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """What a snapshot's header says: the block whose coins it holds, and how many they are."""

    base_hash: BlockHash
    coins_count: int

    def encode(self, magic: bytes) -> bytes:
        """The header, for the network of that message magic."""
        return MAGIC + VERSION.to_bytes(2, "little") + magic + self.base_hash + self.coins_count.to_bytes(8, "little")


def read_metadata(file: BinaryIO, params: NetworkParams) -> SnapshotMetadata:
    """Read the header of a snapshot; MetadataError if it is none, or one of another network."""
    data = file.read(HEADER_SIZE)

    def need(size: int) -> None:
        if len(data) < size:
            raise MetadataError("AutoFile::read: end of file")

    need(5)
    if data[:5] != MAGIC:
        raise MetadataError(
            "Invalid UTXO set snapshot magic bytes. Please check if this is indeed a snapshot file or if you are using"
            " an outdated snapshot format."
        )
    need(7)
    version = int.from_bytes(data[5:7], "little")
    if version != VERSION:
        raise MetadataError(f"Version of snapshot {version} does not match any of the supported versions.")
    need(11)
    if data[7:11] != params.magic:
        for other in NETWORKS.values():
            if other.magic == data[7:11]:
                raise MetadataError(
                    f"The network of the snapshot ({other.chain_name}) does not match the network of this node"
                    f" ({params.chain_name})."
                )
        raise MetadataError(
            "This snapshot has been created for an unrecognized network. This could be a custom signet, a new testnet"
            " or possibly caused by data corruption."
        )
    need(HEADER_SIZE)
    return SnapshotMetadata(BlockHash(data[11:43]), int.from_bytes(data[43:], "little"))


def encode_group(txid: bytes, coins: list[tuple[OutPoint, PackedCoin]]) -> bytes:
    """The record of one transaction's coins, given in any order."""
    parts = [txid, write_compact_size(len(coins))]
    if len(coins) > 1:
        coins = sorted(coins, key=lambda item: write_varint(int.from_bytes(item[0][32:], "little")))
    for outpoint, coin in coins:
        parts.append(write_compact_size(int.from_bytes(outpoint[32:], "little")))
        parts.append(write_varint(int.from_bytes(coin[8:SCRIPT_OFFSET], "little")))
        parts.append(write_varint(compress_amount(int.from_bytes(coin[:8], "little"))))
        parts.append(compress_script(coin[SCRIPT_OFFSET:]))
    return b"".join(parts)


def groups(coins: Iterable[tuple[OutPoint, PackedCoin]]) -> Iterator[tuple[bytes, list[tuple[OutPoint, PackedCoin]]]]:
    """(txid, its coins) of coins whose outpoints ascend as bytes."""
    txid = b""
    group: list[tuple[OutPoint, PackedCoin]] = []
    for item in coins:
        if item[0][:32] != txid:
            if group:
                yield txid, group
            txid, group = item[0][:32], []
        group.append(item)
    if group:
        yield txid, group


class SetHash:
    """hash_serialized_3 of a set of coins, taken in piece by piece."""

    def __init__(self) -> None:
        self.count = 0
        self._inner = sha256()
        self._txid = b""
        self._group: list[tuple[OutPoint, PackedCoin]] = []

    def update(self, coins: Iterable[tuple[OutPoint, PackedCoin]]) -> None:
        """Coins whose outpoints ascend as bytes, all above those of earlier calls."""
        for item in coins:
            if item[0][:32] != self._txid:
                self._close_group()
                self._txid = item[0][:32]
            self._group.append(item)

    def digest(self) -> bytes:
        """The hash, 32 bytes in internal order. Nothing can be added afterwards."""
        self._close_group()
        return sha256(self._inner.digest()).digest()

    def _close_group(self) -> None:
        group = self._group
        if not group:
            return
        self.count += len(group)
        if len(group) > 1:  # an index is little-endian, so byte order is not its order from 256 outputs on
            group.sort(key=lambda item: int.from_bytes(item[0][32:], "little"))
        self._inner.update(b"".join([serialize_coin(outpoint, coin) for outpoint, coin in group]))
        group.clear()


def read_coins(
    file: BinaryIO, coins_count: int, base_height: int, *, batch: int
) -> Iterator[list[tuple[OutPoint, PackedCoin]]]:
    """The coins that follow the header, some `batch` at a time, in the order of the file. Reads the file to its end.

    SnapshotError if they are not exactly `coins_count` coins that a chain of that height can hold.
    """
    data, pos, refill_at, found, done = b"", 0, -1, [], 0
    while done < coins_count:
        if pos > refill_at:
            data, pos, refill_at = _refill(file, data, pos)
        try:
            txid = data[pos : pos + 32]
            in_group, pos = _compact_size(data, pos + 32)
        except (IndexError, DecodeError):
            raise _bad_format(done) from None
        if in_group > coins_count - done:
            raise SnapshotError("Mismatch in coins count in snapshot metadata and actual snapshot data")
        for _ in range(in_group):
            if pos > refill_at:
                data, pos, refill_at = _refill(file, data, pos)
            try:
                index, pos = _compact_size(data, pos)
                code, pos = read_varint(data, pos)
                amount, pos = read_varint(data, pos)
                kind = data[pos]
                if SPECIAL_SCRIPTS <= kind < 0x80 and pos + kind < len(data):  # plain and short, as most are
                    script = data[pos + 1 : pos + 1 + kind - SPECIAL_SCRIPTS]
                    pos += 1 + kind - SPECIAL_SCRIPTS
                else:
                    script, pos = decompress_script(data, pos)
            except (IndexError, DecodeError):
                raise _bad_format(done) from None
            if code > _MAX_U32:
                raise _bad_format(done)
            if code >> 1 > base_height:
                raise SnapshotError(f"Bad snapshot data after deserializing {done} coins")
            value = decompress_amount(amount)
            if not money_range(value):
                raise SnapshotError(f"Bad snapshot data after deserializing {done} coins - bad tx out value")
            found.append((txid + index.to_bytes(4, "little"), (value | code << 64).to_bytes(12, "little") + script))
            done += 1
            if done % batch == 0:
                yield found  # type: ignore[misc]  # naming each an OutPoint and a PackedCoin would cost a call
                found = []
    if found:
        yield found  # type: ignore[misc]
    if pos < len(data) or file.read(1):
        raise SnapshotError(f"Bad snapshot - coins left over after deserializing {coins_count} coins")


def _refill(file: BinaryIO, data: bytes, pos: int) -> tuple[bytes, int, int]:
    """What of the file is in memory, from where, and up to where a whole record surely follows."""
    more = file.read(_CHUNK)
    data = data[pos:] + more
    return data, 0, len(data) - _MARGIN if more else len(data)


def _compact_size(data: bytes, pos: int) -> tuple[int, int]:
    first = data[pos]
    return (first, pos + 1) if first < 0xFD else read_compact_size_at(data, pos)


def _bad_format(done: int) -> SnapshotError:
    return SnapshotError(f"Bad snapshot format or truncated snapshot after deserializing {done} coins")
