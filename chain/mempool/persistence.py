"""mempool.dat in Bitcoin Core's format, so that either node reads the other's (node/mempool_persist.cpp).

Version 2: u64 LE 2; an 8-byte XOR key behind its CompactSize length; and then, with each byte XORed by the key byte
of its position in the file: u64 LE count; per transaction its BIP144 bytes, i64 time, i64 fee delta; the deltas of
transactions that are not here (CompactSize count, then txid and i64 each); the txids still to be broadcast
(CompactSize count, then txids). Version 1 is the same without key and XOR.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chain.consensus.errors import ConsensusError
from chain.mempool.accept import Options, accept_single
from chain.mempool.entries import AcceptResult
from chain.mempool.errors import TransactionRefused
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import MAX_U64, Reader, write_compact_size
from chain.primitives.transaction import Transaction
from chain.primitives.types import Txid

if TYPE_CHECKING:
    from chain.mempool.pool import Mempool

VERSION_WITHOUT_KEY: Final = 1
VERSION: Final = 2
KEY_SIZE: Final = 8
_TXS_PER_STEP: Final = 64


@dataclass(slots=True)
class LoadResult:
    """How loading went. `error` is empty when the whole file was read; what came before an error stays. `results` are
    those of the accepted."""

    error: str = ""
    total: int = 0
    tried: int = 0
    failed: int = 0
    expired: int = 0
    already_there: int = 0
    unbroadcast: int = 0
    results: list[AcceptResult] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many are in the mempool for it."""
        return len(self.results)


def save(pool: Mempool, path: Path) -> int:
    """See Mempool.save."""
    deltas = dict(pool.deltas)
    order = pool.mining_order()
    body = [len(order).to_bytes(8, "little")]
    for entry in order:
        deltas.pop(entry.txid, None)
        body += (
            entry.tx.raw,
            entry.time.to_bytes(8, "little", signed=True),
            entry.fee_delta.to_bytes(8, "little", signed=True),
        )
    body.append(write_compact_size(len(deltas)))
    body += (txid + deltas[txid].to_bytes(8, "little", signed=True) for txid in sorted(deltas))
    body.append(write_compact_size(len(pool.unbroadcast)))
    body += sorted(pool.unbroadcast)
    if pool.policy.persist_v1:
        data = VERSION_WITHOUT_KEY.to_bytes(8, "little") + b"".join(body)
    else:
        key = os.urandom(KEY_SIZE)
        head = VERSION.to_bytes(8, "little") + write_compact_size(KEY_SIZE) + key
        data = head + _xor(b"".join(body), key, len(head))
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return len(order)


def load_steps(
    pool: Mempool,
    path: Path,
    *,
    use_current_time: bool = False,
    apply_fee_deltas: bool = True,
    apply_unbroadcast: bool = True,
) -> Iterator[LoadResult]:
    """Load a file in steps of some ten milliseconds, so that the thread can do other work in between; yields the
    same, growing result."""
    result = LoadResult()
    try:
        reader = _open(path)
        result.total = reader.u64()
        now = int(pool.clock())
        for _ in range(result.total):
            tx, reader.pos = Transaction.parse_from(reader.buf, reader.pos)
            time, delta = reader.i64(), reader.i64()
            result.tried += 1
            if delta and apply_fee_deltas:
                pool.prioritise(tx.txid, delta)
            _offer(pool, tx, now if use_current_time else time, now, result)
            if result.tried % _TXS_PER_STEP == 0:
                yield result
        for _ in range(reader.compact_size()):
            txid, delta = Txid(reader.bytes(32)), reader.i64()
            if apply_fee_deltas:
                pool.prioritise(txid, delta)
        for _ in range(reader.compact_size()):
            txid = Txid(reader.bytes(32))
            if apply_unbroadcast and txid in pool.entries:
                pool.unbroadcast.add(txid)
                result.unbroadcast += 1
    except FileNotFoundError:
        result.error = f"{path} does not exist"
    except OSError as error:
        result.error = f"{path} cannot be read: {error.strerror}"
    except DecodeError as error:
        result.error = f"{path} is not a whole mempool file: {error}"
    yield result


def _offer(pool: Mempool, tx: Transaction, time: int, now: int, result: LoadResult) -> None:
    if time <= now - pool.policy.expiry_s:
        result.expired += 1
        return
    try:
        result.results.append(accept_single(pool, tx, Options(entry_time=time)))
    except (ConsensusError, TransactionRefused):
        if tx.txid in pool.entries:
            result.already_there += 1
        else:
            result.failed += 1


def _open(path: Path) -> Reader:
    """A reader over the file's plain bytes, after version and key."""
    data = path.read_bytes()
    reader = Reader(data)
    version = reader.u64()
    if version == VERSION_WITHOUT_KEY:
        return reader
    if version != VERSION:
        raise DecodeError(f"its version is {version}, known are {VERSION_WITHOUT_KEY} and {VERSION}")
    size = reader.compact_size(MAX_U64)
    if size != KEY_SIZE:
        raise DecodeError(f"its key has {size} bytes, not {KEY_SIZE}")
    key = reader.bytes(KEY_SIZE)
    return Reader(_xor(data[reader.pos :], key, reader.pos))


def _xor(data: bytes, key: bytes, position: int) -> bytes:
    """XOR bytes that stand at `position` of the file."""
    size = len(data)
    offset = position % KEY_SIZE
    turned = key[offset:] + key[:offset]
    mask = (turned * (size // KEY_SIZE + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
