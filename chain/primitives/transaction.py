"""Transactions, parsed in one pass over the bytes they came in.

A `Transaction` keeps its fields as parallel lists (`prevouts[i]`, `script_sigs[i]`, … and `values[i]`, `scripts[i]`):
that is what the hot paths read, and it costs one slice per field. `inputs` and `outputs` build objects for those who
would rather have them. A transaction read with its block by compiled code has its fields taken apart when the first of
them is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from chain.primitives.errors import DecodeError
from chain.primitives.serialize import END_OF_DATA, read_compact_size_at, var_bytes, write_compact_size
from chain.primitives.types import NULL_OUTPOINT, Amount, OutPoint, Txid, Wtxid

WITNESS_SCALE_FACTOR = 4  #: BIP141: a non-witness byte weighs four
LOCKTIME_THRESHOLD = 500_000_000  #: nLockTime below it is a height, from it on a time
SEQUENCE_FINAL = 0xFFFFFFFF  #: an input that does not ask for nLockTime to be kept
SEQUENCE_LOCKTIME_DISABLE_FLAG = 1 << 31  #: BIP68: no relative lock
SEQUENCE_LOCKTIME_TYPE_FLAG = 1 << 22  #: BIP68: set, the lock counts 512-second units, else blocks
SEQUENCE_LOCKTIME_MASK = 0x0000FFFF  #: BIP68
SEQUENCE_LOCKTIME_GRANULARITY = 9  #: BIP68: time locks in units of 2**9 seconds

_NO_WITNESS: tuple[bytes, ...] = ()
_FIELDS = frozenset(("locktime", "prevouts", "script_sigs", "scripts", "sequences", "values", "version", "witnesses"))


class TxIn(NamedTuple):
    """One input: 36-byte outpoint, scriptSig, u32 sequence, witness stack."""

    prevout: OutPoint
    script_sig: bytes = b""
    sequence: int = SEQUENCE_FINAL
    witness: tuple[bytes, ...] = _NO_WITNESS


class TxOut(NamedTuple):
    """One output: satoshi and scriptPubKey."""

    value: Amount
    script_pubkey: bytes


class Transaction:
    """An immutable transaction.

    `version` and `locktime` are u32. `values` are signed 64-bit as on the wire: consensus, not parsing, refuses
    negative ones. `raw` is the full serialization (BIP144), `stripped` the one without witness.
    """

    __slots__ = (
        "_outputs",
        "_outputs_offset",
        "_txid",
        "_witness_offset",
        "_wtxid",
        "has_witness",
        "locktime",
        "prevouts",
        "raw",
        "script_sigs",
        "scripts",
        "sequences",
        "values",
        "version",
        "witnesses",
    )

    version: int
    locktime: int
    prevouts: list[OutPoint]
    script_sigs: list[bytes]
    sequences: list[int]
    witnesses: list[tuple[bytes, ...]]
    values: list[int]
    scripts: list[bytes]
    has_witness: bool
    raw: bytes
    _outputs_offset: int  # in raw, where the first output begins, after their count
    _witness_offset: int  # in raw, where the witness begins; unused without witness
    _txid: Txid | None
    _wtxid: Wtxid | None
    _outputs: tuple[TxOut, ...] | None

    @classmethod
    def parse(cls, data: bytes, *, allow_witness: bool = True) -> Transaction:
        """Parse a buffer that holds exactly one transaction; DecodeError otherwise."""
        tx, end = cls.parse_from(data, 0, allow_witness=allow_witness)
        if end != len(data):
            raise DecodeError(f"{len(data) - end} bytes after the transaction")
        return tx

    @classmethod
    def parse_from(cls, buf: bytes, start: int, *, allow_witness: bool = True) -> tuple[Transaction, int]:
        """Parse one transaction at `start`; returns it and where it ends. DecodeError if it is malformed or cut
        short."""
        tx = cls.__new__(cls)
        try:
            end = _parse(tx, buf, start, allow_witness)
        except IndexError:
            raise DecodeError(f"{END_OF_DATA}: the transaction ends too early") from None
        if end > len(buf):
            raise DecodeError(f"{END_OF_DATA}: the transaction ends too early")
        tx._txid = tx._wtxid = tx._outputs = None
        return tx, end

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Fields are missing only from a transaction of `unread_transactions`."""
            if name not in _FIELDS:
                raise AttributeError(f"'Transaction' object has no attribute '{name}'")
            _parse(self, self.raw, 0, True)
            return getattr(self, name)

    @classmethod
    def build(cls, version: int, inputs: Iterable[TxIn], outputs: Iterable[TxOut], locktime: int = 0) -> Transaction:
        """A transaction from its parts. The witness form is used exactly when some input has a witness."""
        tx = cls.__new__(cls)
        ins = tuple(inputs)
        outs = tuple(TxOut(*out) for out in outputs)
        tx.version = version
        tx.locktime = locktime
        tx.prevouts = [i.prevout for i in ins]
        tx.script_sigs = [i.script_sig for i in ins]
        tx.sequences = [i.sequence for i in ins]
        tx.witnesses = [tuple(i.witness) for i in ins]
        tx.values = [o.value for o in outs]
        tx.scripts = [o.script_pubkey for o in outs]
        tx.has_witness = any(tx.witnesses)
        parts = [version.to_bytes(4, "little"), b"\x00\x01" if tx.has_witness else b"", write_compact_size(len(ins))]
        parts += [i.prevout + var_bytes(i.script_sig) + i.sequence.to_bytes(4, "little") for i in ins]
        parts.append(write_compact_size(len(outs)))
        tx._outputs_offset = sum(map(len, parts))
        parts += [o.value.to_bytes(8, "little", signed=True) + var_bytes(o.script_pubkey) for o in outs]
        tx._witness_offset = sum(map(len, parts))
        if tx.has_witness:
            for witness in tx.witnesses:
                parts.append(write_compact_size(len(witness)))
                parts += map(var_bytes, witness)
        parts.append(locktime.to_bytes(4, "little"))
        tx.raw = b"".join(parts)
        tx._txid = tx._wtxid = tx._outputs = None
        return tx

    @property
    def inputs(self) -> tuple[TxIn, ...]:
        """The inputs as objects."""
        return tuple(map(TxIn, self.prevouts, self.script_sigs, self.sequences, self.witnesses))

    @property
    def outputs(self) -> tuple[TxOut, ...]:
        """The outputs as objects."""
        if self._outputs is None:
            self._outputs = tuple(
                TxOut(Amount(value), script) for value, script in zip(self.values, self.scripts, strict=True)
            )
        return self._outputs

    @property
    def stripped(self) -> bytes:
        """The serialization without marker, flag and witness: what the txid hashes."""
        raw = self.raw
        return raw[:4] + raw[6 : self._witness_offset] + raw[-4:] if self.has_witness else raw

    @property
    def serialized_outputs(self) -> bytes:
        """All outputs as serialized, without their count."""
        return self.raw[self._outputs_offset : self._witness_offset if self.has_witness else -4]

    @property
    def txid(self) -> Txid:
        """SHA-256d of the stripped serialization."""
        txid = self._txid
        if txid is None:
            raw = self.raw
            data = raw[:4] + raw[6 : self._witness_offset] + raw[-4:] if self.has_witness else raw
            txid = self._txid = Txid(sha256(sha256(data).digest()).digest())
        return txid

    @property
    def wtxid(self) -> Wtxid:
        """SHA-256d of the full serialization (BIP141); equals the txid without witness."""
        wtxid = self._wtxid
        if wtxid is None:
            wtxid = Wtxid(sha256(sha256(self.raw).digest()).digest()) if self.has_witness else Wtxid(self.txid)
            self._wtxid = wtxid
        return wtxid

    @property
    def total_size(self) -> int:
        """Bytes with witness."""
        return len(self.raw)

    @property
    def base_size(self) -> int:
        """Bytes without witness."""
        return self._witness_offset + 2 if self.has_witness else len(self.raw)

    @property
    def weight(self) -> int:
        """BIP141 weight units: three times the base size plus the total size."""
        return self.base_size * (WITNESS_SCALE_FACTOR - 1) + len(self.raw)

    @property
    def vsize(self) -> int:
        """Virtual bytes: weight / 4, rounded up."""
        return (self.weight + WITNESS_SCALE_FACTOR - 1) // WITNESS_SCALE_FACTOR

    @property
    def is_coinbase(self) -> bool:
        """Exactly one input, and that one spends the null outpoint."""
        return len(self.prevouts) == 1 and self.prevouts[0] == NULL_OUTPOINT

    def outpoint(self, index: int) -> OutPoint:
        """The outpoint of output `index`."""
        return OutPoint(self.txid + index.to_bytes(4, "little"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transaction) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        shape = f"{len(self.prevouts)} in, {len(self.values)} out, {len(self.raw)} bytes"
        return f"Transaction({self.txid[::-1].hex()}, {shape})"


def unread_transactions(data: bytes, places: Iterable[Sequence[int]], ids: bytes) -> list[Transaction]:
    """Transactions whose fields are taken apart when asked for. `data` holds them, well-formed, at `places`: where each
    begins, its outputs (after their count), what is behind them, its lock time; where it ends. `ids` are 64 bytes for
    each, txid and wtxid.
    """
    new = Transaction.__new__
    transactions = []
    at = 0
    for start, outputs, outputs_end, locktime, end in places:
        tx = new(Transaction)
        tx.raw = data[start:end]
        tx._outputs_offset = outputs - start
        tx._witness_offset = outputs_end - start
        tx.has_witness = outputs_end != locktime
        tx._txid = ids[at : at + 32]  # type: ignore[assignment]  # naming the type costs a call each
        at += 64
        tx._wtxid = ids[at - 32 : at]  # type: ignore[assignment]
        tx._outputs = None
        transactions.append(tx)
    return transactions


def _parse(tx: Transaction, buf: bytes, start: int, allow_witness: bool) -> int:
    """Fill in all but the ids; where the transaction ends.

    One pass, one cursor. Reading a length past the end raises IndexError; a slice past the end is caught by the caller,
    since then the cursor is past the end too. Loops over claimed counts end the same way, so nothing is allocated
    beyond what the buffer holds.
    """
    from_bytes = int.from_bytes
    pos = start + 4
    version = from_bytes(buf[start:pos], "little")
    marker = buf[pos]
    flags = 0
    if marker == 0 and allow_witness:
        flags = buf[pos + 1]
        pos += 2
        if flags:
            marker = buf[pos]
    prevouts: list[OutPoint] = []
    script_sigs: list[bytes] = []
    sequences: list[int] = []
    values: list[int] = []
    scripts: list[bytes] = []
    outputs_offset = pos - start
    if marker or not allow_witness or flags:
        if marker < 0xFD:
            count = marker
            pos += 1
        else:
            count, pos = read_compact_size_at(buf, pos)
        for _ in range(count):
            end = pos + 36
            prevouts.append(buf[pos:end])  # type: ignore[arg-type]  # an OutPoint; naming it costs a call each
            length = buf[end]
            if length < 0xFD:
                pos = end + 1
            else:
                length, pos = read_compact_size_at(buf, end)
            end = pos + length
            script_sigs.append(buf[pos:end])
            pos = end + 4
            sequences.append(from_bytes(buf[end:pos], "little"))
        count = buf[pos]
        if count < 0xFD:
            pos += 1
        else:
            count, pos = read_compact_size_at(buf, pos)
        outputs_offset = pos - start
        for _ in range(count):
            end = pos + 8
            values.append(from_bytes(buf[pos:end], "little", signed=True))
            length = buf[end]
            if length < 0xFD:
                pos = end + 1
            else:
                length, pos = read_compact_size_at(buf, end)
            end = pos + length
            scripts.append(buf[pos:end])
            pos = end
    witness_offset = pos - start
    if flags & 1:
        witnesses: list[tuple[bytes, ...]] = []
        empty = True
        for _ in prevouts:
            count = buf[pos]
            if count < 0xFD:
                pos += 1
            else:
                count, pos = read_compact_size_at(buf, pos)
            if not count:
                witnesses.append(_NO_WITNESS)
                continue
            empty = False
            stack = []
            for _ in range(count):
                length = buf[pos]
                if length < 0xFD:
                    pos += 1
                else:
                    length, pos = read_compact_size_at(buf, pos)
                end = pos + length
                stack.append(buf[pos:end])
                pos = end
            witnesses.append(tuple(stack))
        if empty:
            raise DecodeError("Superfluous witness record")
    else:
        witnesses = [_NO_WITNESS] * len(prevouts)
    if flags & ~1:
        raise DecodeError("Unknown transaction optional data")
    end = pos + 4
    tx.version = version
    tx.locktime = from_bytes(buf[pos:end], "little")
    tx.prevouts = prevouts
    tx.script_sigs = script_sigs
    tx.sequences = sequences
    tx.witnesses = witnesses
    tx.values = values
    tx.scripts = scripts
    tx.has_witness = flags != 0
    tx.raw = buf[start:end]
    tx._outputs_offset = outputs_offset
    tx._witness_offset = witness_offset
    return end
