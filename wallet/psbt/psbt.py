"""Partially signed transactions, version 0 (BIP174): read, write, combine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator

from chain.crypto.hashes import hash160
from chain.primitives.amount import money_range
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import Reader, read_compact_size_at, var_bytes, write_compact_size
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import split_outpoint
from wallet.psbt.fields import (
    GLOBAL_FIELDS,
    INPUT_FIELDS,
    OUTPUT_FIELDS,
    Field,
    In,
    Out,
    PsbtError,
    parse_derivation,
    parse_output,
    parse_tap_derivation,
    parse_witness,
)

MAGIC = b"psbt\xff"
MAX_PSBT_SIZE = 100_000_000  #: Core MAX_FILE_SIZE_PSBT


class PsbtMap:
    """One key-value map. Keys are bytes: CompactSize type, then key data."""

    def __init__(self, entries: dict[bytes, bytes] | None = None) -> None:
        self.entries = entries if entries is not None else {}

    def get(self, key_type: int, key_data: bytes = b"") -> bytes | None:
        """The value under a type and key data."""
        return self.entries.get(write_compact_size(key_type) + key_data)

    def set(self, key_type: int, value: bytes, key_data: bytes = b"") -> None:
        """Put a value."""
        self.entries[write_compact_size(key_type) + key_data] = value

    def all(self, key_type: int) -> Iterator[tuple[bytes, bytes]]:
        """(key data, value) for every entry of a type."""
        prefix = write_compact_size(key_type)
        for key, value in self.entries.items():
            if key.startswith(prefix):
                yield key[len(prefix) :], value

    def remove(self, *key_types: int) -> None:
        """Drop all entries of these types."""
        for key_type in key_types:
            for key_data, _ in list(self.all(key_type)):
                del self.entries[write_compact_size(key_type) + key_data]


class PsbtInput(PsbtMap):
    """The map of one input, with names for its common fields."""

    @property
    def non_witness_utxo(self) -> Transaction | None:
        raw = self.get(In.NON_WITNESS_UTXO)
        return Transaction.parse(raw) if raw is not None else None

    @property
    def witness_utxo(self) -> TxOut | None:
        raw = self.get(In.WITNESS_UTXO)
        return parse_output(raw) if raw is not None else None

    @property
    def sighash_type(self) -> int | None:
        raw = self.get(In.SIGHASH_TYPE)
        return int.from_bytes(raw, "little") if raw is not None else None

    @property
    def partial_sigs(self) -> dict[bytes, bytes]:
        """Public key to signature with its hash-type byte."""
        return dict(self.all(In.PARTIAL_SIG))

    @property
    def derivations(self) -> dict[bytes, tuple[bytes, tuple[int, ...]]]:
        """Public key to (master fingerprint, path)."""
        return {key: parse_derivation(value) for key, value in self.all(In.BIP32_DERIVATION)}

    @property
    def tap_derivations(self) -> dict[bytes, tuple[tuple[bytes, ...], bytes, tuple[int, ...]]]:
        """X-only key to (leaf hashes, master fingerprint, path)."""
        return {key: parse_tap_derivation(value) for key, value in self.all(In.TAP_BIP32_DERIVATION)}

    @property
    def final_script_sig(self) -> bytes | None:
        return self.get(In.FINAL_SCRIPT_SIG)

    @property
    def final_witness(self) -> tuple[bytes, ...] | None:
        raw = self.get(In.FINAL_SCRIPT_WITNESS)
        return parse_witness(raw) if raw is not None else None

    @property
    def is_final(self) -> bool:
        return self.final_script_sig is not None or self.final_witness is not None

    def set_witness_utxo(self, out: TxOut) -> None:
        """The output being spent."""
        self.set(In.WITNESS_UTXO, out.value.to_bytes(8, "little", signed=True) + var_bytes(out.script_pubkey))

    def set_final(self, script_sig: bytes, witness: Iterable[bytes]) -> None:
        """Record the finished spend and drop what only led to it (BIP174's finalizer role)."""
        kept = {In.NON_WITNESS_UTXO, In.WITNESS_UTXO}
        self.remove(*(key_type for key_type in INPUT_FIELDS if key_type not in kept))
        stack = list(witness)
        if script_sig:
            self.set(In.FINAL_SCRIPT_SIG, script_sig)
        if stack or not script_sig:
            self.set(In.FINAL_SCRIPT_WITNESS, write_compact_size(len(stack)) + b"".join(map(var_bytes, stack)))


class PsbtOutput(PsbtMap):
    """The map of one output."""

    @property
    def derivations(self) -> dict[bytes, tuple[bytes, tuple[int, ...]]]:
        """Public key to (master fingerprint, path)."""
        return {key: parse_derivation(value) for key, value in self.all(Out.BIP32_DERIVATION)}


class Psbt:
    """An unsigned transaction and a map for each of its inputs and outputs."""

    def __init__(
        self, tx: Transaction, global_map: PsbtMap, inputs: list[PsbtInput], outputs: list[PsbtOutput]
    ) -> None:
        self.tx = tx
        self.global_map = global_map
        self.inputs = inputs
        self.outputs = outputs

    @classmethod
    def create(cls, tx: Transaction) -> Psbt:
        """BIP174's creator: empty maps around an unsigned transaction."""
        if tx.has_witness or any(tx.script_sigs):
            raise PsbtError("the transaction is signed already")
        return cls(tx, PsbtMap(), [PsbtInput() for _ in tx.prevouts], [PsbtOutput() for _ in tx.values])

    @classmethod
    def parse(cls, data: bytes) -> Psbt:
        """From bytes. PsbtError says what is wrong."""
        if data[:5] != MAGIC:
            raise PsbtError("this is not a PSBT: it does not begin with 'psbt'")
        if len(data) > MAX_PSBT_SIZE:
            raise PsbtError("the PSBT is too large")
        reader = Reader(data, len(MAGIC))
        try:
            global_map = PsbtMap(_read_map(reader, GLOBAL_FIELDS, "Global"))
            raw_tx = global_map.entries.pop(b"\0", None)
            if raw_tx is None:
                raise PsbtError("the PSBT has no unsigned transaction")
            tx = Transaction.parse(raw_tx, allow_witness=False)
            if any(tx.script_sigs):
                raise PsbtError("the transaction in the PSBT has scriptSigs: it must be unsigned")
            inputs = [PsbtInput(_read_map(reader, INPUT_FIELDS, "Input")) for _ in tx.prevouts]
            outputs = [PsbtOutput(_read_map(reader, OUTPUT_FIELDS, "Output")) for _ in tx.values]
            reader.finish()
        except DecodeError as error:
            raise PsbtError(f"the PSBT is cut short or malformed: {error}") from error
        for prevout, entry in zip(tx.prevouts, inputs, strict=True):
            txid, index = split_outpoint(prevout)
            previous = entry.non_witness_utxo
            if previous is not None and previous.txid != txid:
                raise PsbtError("Non-witness UTXO does not match outpoint hash")
            if previous is not None and index >= len(previous.values):
                raise PsbtError("Input specifies output index that does not exist")
        return cls(tx, global_map, inputs, outputs)

    @classmethod
    def from_base64(cls, text: str) -> Psbt:
        """From base64 text, as users pass it around."""
        try:
            return cls.parse(base64.b64decode(text.strip(), validate=True))
        except binascii.Error as error:
            raise PsbtError("the PSBT is not valid base64: copy it whole") from error

    def to_bytes(self) -> bytes:
        """Canonical serialization: types in order, key data in Core's order within each."""
        global_entries = {b"\0": self.tx.stripped, **self.global_map.entries}
        maps = [global_entries, *(m.entries for m in self.inputs), *(m.entries for m in self.outputs)]
        first_input, last_input = 1, len(self.inputs)
        parts = [MAGIC]
        for number, entries in enumerate(maps):
            sort_key = _input_order if first_input <= number <= last_input else _plain_order
            for key in sorted(entries, key=sort_key):
                parts += [var_bytes(key), var_bytes(entries[key])]
            parts.append(b"\0")
        return b"".join(parts)

    def to_base64(self) -> str:
        """Base64 of `to_bytes`."""
        return base64.b64encode(self.to_bytes()).decode()

    def spent_output(self, index: int) -> TxOut | None:
        """The output which input `index` spends, when the PSBT carries it. PsbtError when it carries two that
        differ."""
        entry = self.inputs[index]
        claimed = entry.witness_utxo
        previous = entry.non_witness_utxo
        if claimed is not None and not money_range(claimed.value):
            raise PsbtError(f"the output that input {index} spends has an impossible amount")
        if previous is None:
            return claimed
        out = previous.outputs[split_outpoint(self.tx.prevouts[index])[1]]
        if claimed is not None and claimed != out:
            raise PsbtError(f"input {index} of the PSBT carries two different spent outputs")
        if not money_range(out.value):
            raise PsbtError(f"the output that input {index} spends has an impossible amount")
        return out

    def extract(self) -> Transaction:
        """The network transaction. PsbtError while an input is not final."""
        inputs = []
        for number, (prevout, sequence, entry) in enumerate(
            zip(self.tx.prevouts, self.tx.sequences, self.inputs, strict=True)
        ):
            if not entry.is_final:
                raise PsbtError(f"input {number} is not signed yet")
            inputs.append(TxIn(prevout, entry.final_script_sig or b"", sequence, entry.final_witness or ()))
        return Transaction.build(self.tx.version, inputs, self.tx.outputs, self.tx.locktime)


def combine(psbts: list[Psbt]) -> Psbt:
    """BIP174's combiner: all entries of PSBTs for one transaction; of conflicting values the first stays."""
    if not psbts:
        raise PsbtError("there is nothing to combine")
    first = psbts[0]
    merged = Psbt.parse(first.to_bytes())
    for other in psbts[1:]:
        if other.tx.stripped != first.tx.stripped:
            raise PsbtError("these PSBTs are of different transactions")
        pairs: list[tuple[PsbtMap, PsbtMap]] = [(merged.global_map, other.global_map)]
        pairs += zip(merged.inputs, other.inputs, strict=True)
        pairs += zip(merged.outputs, other.outputs, strict=True)
        for mine, theirs in pairs:
            for key, value in theirs.entries.items():
                mine.entries.setdefault(key, value)
    return merged


def _read_map(reader: Reader, fields: dict[int, Field], name: str) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    while True:
        key = reader.var_bytes()
        if not key:
            return entries
        value = reader.var_bytes()
        if key in entries:
            raise PsbtError(f"Duplicate Key, {name.lower()} map: key {key[:8].hex()}… provided twice")
        key_type, start = read_compact_size_at(key, 0)
        field = fields.get(key_type)
        if field is not None:
            key_data = key[start:]
            if field.key_sizes is not None and len(key_data) not in field.key_sizes:
                if field.name == "musig2 participants":
                    raise PsbtError(f"{name} musig2 participants pubkeys aggregate key is not 34 bytes")
                raise PsbtError(f"{name} {field.name} key has an invalid length")
            try:
                field.check(key_data, value)
            except PsbtError as error:
                raise PsbtError(f"{name} {error}") from error
            except DecodeError as error:
                raise PsbtError(f"{name} {field.name} is malformed: {error}") from error
        entries[key] = value


def _plain_order(key: bytes) -> tuple[int, bytes]:
    key_type, start = read_compact_size_at(key, 0)
    return key_type, key[start:]


def _input_order(key: bytes) -> tuple[int, bytes]:
    key_type, data = _plain_order(key)
    return key_type, hash160(data) if key_type == In.PARTIAL_SIG else data  # Core keeps these by key hash
