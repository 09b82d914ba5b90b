"""Signature hashes: the original one, BIP143 for segwit v0, BIP341/342 for taproot.

`TxData` keeps what all inputs of one transaction share, so that an input's hash costs one concatenation and one
SHA-256d whatever the size of the transaction (the original algorithm excepted: it hashes the whole transaction for each
input by design).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hashlib import sha256
from struct import pack

from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.serialize import var_bytes, write_compact_size
from chain.primitives.transaction import Transaction
from chain.script.opcodes import Opcode
from chain.script.script import TruncatedScript, push_data, read_op

SIGHASH_DEFAULT = 0  #: taproot: as ALL, with a 64-byte signature
SIGHASH_ALL = 1
SIGHASH_NONE = 2
SIGHASH_SINGLE = 3
SIGHASH_ANYONECANPAY = 0x80

NO_CODESEPARATOR = 0xFFFFFFFF

#: What SIGHASH_SINGLE without a matching output signs in the original algorithm: the number one. An old bug, now
#: consensus.
SINGLE_BUG_DIGEST = b"\x01" + bytes(31)

_MASK = 0x1F  # how the original algorithm and BIP143 read the output part of a hash type
_TAPROOT_TYPES = frozenset({0, 1, 2, 3, 0x81, 0x82, 0x83})
_SHORT_COIN = SCRIPT_OFFSET + 0xFD
_SHORT_SIZES = [bytes((max(size - SCRIPT_OFFSET, 0),)) for size in range(_SHORT_COIN)]  # of scripts, by coins' sizes
_LONG = 16  # inputs from which on keeping the hash state of the common prefix pays


def _tag(name: bytes) -> bytes:
    return sha256(name).digest() * 2


TAPSIGHASH_TAG = _tag(b"TapSighash")
_EMPTY_OUTPUT = b"\xff" * 8 + b"\0"  # value -1, no script: what SINGLE puts in place of the outputs before its own


class TxData:
    """A transaction, the coins it spends, and the parts of signature hashes that its inputs share (built when first
    needed).

    `spent` holds one packed coin for each input. It may be None where no taproot input is to be signed or verified.
    Safe to use from several threads: a part computed twice is the same part.
    """

    __slots__ = (
        "_digests",
        "_legacy",
        "_legacy_state",
        "_outputs",
        "_segwit",
        "_taproot",
        "locktime",
        "spent",
        "tx",
        "version",
    )

    def __init__(self, tx: Transaction, spent: Sequence[bytes] | None = None) -> None:
        self.tx = tx
        self.spent = spent
        self.version = tx.version.to_bytes(4, "little")
        self.locktime = tx.locktime.to_bytes(4, "little")
        self._outputs: bytes | None = None
        self._legacy: tuple[bytes, int, bytes] | None = None
        self._legacy_state: tuple[int, hashlib._Hash] | None = None
        self._segwit: dict[int, tuple[bytes, bytes]] = {}
        self._taproot: dict[int, bytes] = {}
        self._digests: dict[str, bytes] = {}

    def output(self, index: int) -> bytes:
        """Output `index` as serialized."""
        return self.tx.values[index].to_bytes(8, "little", signed=True) + var_bytes(self.tx.scripts[index])

    def outputs(self) -> bytes:
        """All outputs as serialized, without their count."""
        if self._outputs is None:
            self._outputs = self.tx.serialized_outputs
        return self._outputs

    def sequences(self) -> bytes:
        """All input sequences, four bytes each."""
        sequences = self.tx.sequences
        return pack(f"<{len(sequences)}I", *sequences)

    def legacy_parts(self) -> tuple[bytes, int, bytes]:
        """For SIGHASH_ALL: (version, count and the inputs with empty scripts; where its first input begins; the
        rest).
        """
        parts = self._legacy
        if parts is None:
            tx = self.tx
            head = self.version + write_compact_size(len(tx.prevouts))
            blank = b"".join(
                [
                    prevout + b"\0" + sequence.to_bytes(4, "little")
                    for prevout, sequence in zip(tx.prevouts, tx.sequences, strict=True)
                ]
            )
            rest = write_compact_size(len(tx.values)) + self.outputs() + self.locktime + b"\x01\0\0\0"
            parts = self._legacy = (head + blank + rest, len(head), rest)
        return parts

    def segwit_parts(self, hash_type: int) -> tuple[bytes, bytes]:
        """What stands before the outpoint and after the sequence in a BIP143 message; for SINGLE the second part lacks
        the outputs' hash.
        """
        parts = self._segwit.get(hash_type)
        if parts is None:
            base = hash_type & _MASK
            anyone = hash_type & SIGHASH_ANYONECANPAY
            prevouts = bytes(32) if anyone else sha256(self.prevouts_hash()).digest()
            sequences = (
                bytes(32)
                if anyone or base in (SIGHASH_NONE, SIGHASH_SINGLE)
                else sha256(self.sequences_hash()).digest()
            )
            tail = self.locktime + (hash_type & 0xFFFFFFFF).to_bytes(4, "little")
            if base == SIGHASH_NONE:
                tail = bytes(32) + tail
            elif base != SIGHASH_SINGLE:
                tail = sha256(self.outputs_hash()).digest() + tail
            parts = self._segwit[hash_type] = (self.version + prevouts + sequences, tail)
        return parts

    def taproot_prefix(self, hash_type: int) -> bytes:
        """Tag and message of BIP341 up to and without the spend type; needs the spent coins."""
        prefix = self._taproot.get(hash_type)
        if prefix is None:
            prefix = TAPSIGHASH_TAG + b"\0" + bytes((hash_type,)) + self.version + self.locktime
            if not hash_type & SIGHASH_ANYONECANPAY:
                prefix += (
                    self.prevouts_hash() + self.spent_values_hash() + self.spent_scripts_hash() + self.sequences_hash()
                )
            if hash_type & 3 not in (SIGHASH_NONE, SIGHASH_SINGLE):
                prefix += self.outputs_hash()
            self._taproot[hash_type] = prefix
        return prefix

    # Single SHA-256 of each part: BIP341 uses them as they are, BIP143 hashes them once more.

    def prevouts_hash(self) -> bytes:
        """SHA-256 of all outpoints."""
        digest = self._digests.get("prevouts")
        if digest is None:
            digest = self._digests["prevouts"] = sha256(b"".join(self.tx.prevouts)).digest()
        return digest

    def sequences_hash(self) -> bytes:
        """SHA-256 of all sequences."""
        digest = self._digests.get("sequences")
        if digest is None:
            digest = self._digests["sequences"] = sha256(self.sequences()).digest()
        return digest

    def outputs_hash(self) -> bytes:
        """SHA-256 of all outputs."""
        digest = self._digests.get("outputs")
        if digest is None:
            digest = self._digests["outputs"] = sha256(self.outputs()).digest()
        return digest

    def spent_values_hash(self) -> bytes:
        """SHA-256 of all spent values, eight bytes each."""
        digest = self._digests.get("values")
        if digest is None:
            digest = self._digests["values"] = sha256(b"".join([coin[:8] for coin in self.spent_coins()])).digest()
        return digest

    def spent_scripts_hash(self) -> bytes:
        """SHA-256 of all spent scriptPubKeys with their lengths."""
        digest = self._digests.get("scripts")
        if digest is None:
            scripts = b"".join(
                [
                    _SHORT_SIZES[len(coin)] + coin[SCRIPT_OFFSET:]
                    if len(coin) < _SHORT_COIN
                    else var_bytes(coin[SCRIPT_OFFSET:])
                    for coin in self.spent_coins()
                ]
            )
            digest = self._digests["scripts"] = sha256(scripts).digest()
        return digest

    def spent_coins(self) -> Sequence[bytes]:
        """The spent coins; ValueError if they were not given or do not match the inputs."""
        if self.spent is None or len(self.spent) != len(self.tx.prevouts):
            raise ValueError("a taproot signature hash needs the coin that each input spends")
        return self.spent


def legacy_sighash(txdata: TxData, index: int, script_code: bytes, hash_type: int) -> bytes:
    """The original signature hash. `hash_type` is 32 bits, signed or not; OP_CODESEPARATORs are left out of
    `script_code` here.

    The caller removes signatures from the script code first (see `find_and_delete`).
    """
    tx = txdata.tx
    base = hash_type & _MASK
    if base == SIGHASH_SINGLE and index >= len(tx.values):
        return SINGLE_BUG_DIGEST
    code = _legacy_script_code(script_code)
    if hash_type == SIGHASH_ALL:
        if len(tx.prevouts) < _LONG:
            return sha256(sha256(legacy_message(txdata, index, code)).digest()).digest()
        message, first, _ = txdata.legacy_parts()
        at = first + 41 * index + 36  # the empty script of this input
        state = _long_prefix(txdata, message, at)
        state.update(code)
        state.update(memoryview(message)[at + 1 :])
        return sha256(state.digest()).digest()
    parts = [txdata.version]
    if hash_type & SIGHASH_ANYONECANPAY:
        parts += [b"\x01", tx.prevouts[index], code, tx.sequences[index].to_bytes(4, "little")]
    else:
        parts.append(write_compact_size(len(tx.prevouts)))
        foreign = base in (SIGHASH_NONE, SIGHASH_SINGLE)  # these let the others change their sequence
        for n, (prevout, sequence) in enumerate(zip(tx.prevouts, tx.sequences, strict=True)):
            if n == index:
                parts += [prevout, code, sequence.to_bytes(4, "little")]
            else:
                parts += [prevout, b"\0", b"\0\0\0\0" if foreign else sequence.to_bytes(4, "little")]
    if base == SIGHASH_NONE:
        parts.append(b"\0")
    elif base == SIGHASH_SINGLE:
        parts += [write_compact_size(index + 1), _EMPTY_OUTPUT * index, txdata.output(index)]
    else:
        parts += [write_compact_size(len(tx.values)), txdata.outputs()]
    parts += [txdata.locktime, (hash_type & 0xFFFFFFFF).to_bytes(4, "little")]
    return sha256(sha256(b"".join(parts)).digest()).digest()


def legacy_message(txdata: TxData, index: int, code: bytes) -> bytes:
    """What a SIGHASH_ALL signature of the original algorithm hashes; `code` is the script code with its length."""
    message, first, _ = txdata.legacy_parts()
    at = first + 41 * index + 36  # the empty script of this input
    return message[:at] + code + message[at + 1 :]


def _long_prefix(txdata: TxData, message: bytes, at: int) -> hashlib._Hash:
    """The hash state after message[:at], continued from the last input's: inputs come in order, so each byte of prefix
    is hashed once.
    """
    kept = txdata._legacy_state
    if kept is not None and kept[0] <= at:
        state = kept[1].copy()
        state.update(memoryview(message)[kept[0] : at])
    else:
        state = sha256(memoryview(message)[:at])
    txdata._legacy_state = (at, state.copy())
    return state


def _legacy_script_code(script: bytes) -> bytes:
    """Length and script without its OP_CODESEPARATORs.

    Core writes the full length but stops at a push cut short, so that such a script signs fewer bytes than it
    announces; so do we.
    """
    if b"\xab" not in script and len(script) < 0x4C and script[:3] == b"\x76\xa9\x14":
        return bytes((len(script),)) + script
    pieces, separators = [], 0
    pos = begin = 0
    end = len(script)
    while pos < end:
        opcode = script[pos]
        try:
            _, _, pos = read_op(script, pos)
        except TruncatedScript:
            pos = _after_truncated_length(script, pos)
            break
        if opcode == Opcode.OP_CODESEPARATOR:
            separators += 1
            pieces.append(script[begin : pos - 1])
            begin = pos
    pieces.append(script[begin:pos])
    return write_compact_size(end - separators) + b"".join(pieces)


def _after_truncated_length(script: bytes, pos: int) -> int:
    """Where Core's cursor stands after a push that fails: past the opcode, and past its length bytes if they are
    there.
    """
    opcode = script[pos]
    width = 1 << (opcode - Opcode.OP_PUSHDATA1) if opcode >= Opcode.OP_PUSHDATA1 else 0
    return pos + 1 + width if pos + 1 + width <= len(script) else pos + 1


def find_and_delete(script: bytes, sig: bytes) -> tuple[bytes, int]:
    """Remove every push of `sig` that stands at an opcode boundary (Core's FindAndDelete); returns the script and how
    many were removed.
    """
    needle = push_data(sig)
    if needle not in script:
        return script, 0
    size, end = len(needle), len(script)
    pieces, found = [], 0
    begin = pos = 0
    while True:
        pieces.append(script[begin:pos])
        while script[pos : pos + size] == needle:
            pos += size
            found += 1
        begin = pos
        if pos >= end:
            break
        try:
            _, _, pos = read_op(script, pos)
        except TruncatedScript:
            break
    if not found:
        return script, 0
    pieces.append(script[begin:])
    return b"".join(pieces), found


def segwit_v0_sighash(txdata: TxData, index: int, script_code: bytes, value: int, hash_type: int) -> bytes:
    """BIP143 signature hash. `value` is the spent amount in satoshi; `script_code` is without its length."""
    tx = txdata.tx
    head, tail = txdata.segwit_parts(hash_type)
    if hash_type & _MASK == SIGHASH_SINGLE:
        outputs = sha256(sha256(txdata.output(index)).digest()).digest() if index < len(tx.values) else bytes(32)
        tail = outputs + tail
    message = b"".join(
        (
            head,
            tx.prevouts[index],
            var_bytes(script_code),
            value.to_bytes(8, "little", signed=True),
            tx.sequences[index].to_bytes(4, "little"),
            tail,
        )
    )
    return sha256(sha256(message).digest()).digest()


def taproot_sighash(
    txdata: TxData,
    index: int,
    hash_type: int,
    *,
    annex_hash: bytes | None = None,
    leaf_hash: bytes | None = None,
    codeseparator_pos: int = NO_CODESEPARATOR,
) -> bytes | None:
    """BIP341 signature hash; with `leaf_hash` that of BIP342 (script path, key version 0). None if the hash type is not
    allowed here.

    `annex_hash` is SHA-256 of the annex with its length (see `hash_annex`). ValueError if `txdata` lacks the spent
    coins.
    """
    tx = txdata.tx
    if hash_type not in _TAPROOT_TYPES:
        return None
    single = hash_type & 3 == SIGHASH_SINGLE
    if single and index >= len(tx.values):
        return None
    spend_type = (2 if leaf_hash is not None else 0) | (1 if annex_hash is not None else 0)
    parts = [txdata.taproot_prefix(hash_type), bytes((spend_type,))]
    if hash_type & SIGHASH_ANYONECANPAY:
        coin = txdata.spent_coins()[index]
        parts += [
            tx.prevouts[index],
            coin[:8],
            var_bytes(coin[SCRIPT_OFFSET:]),
            tx.sequences[index].to_bytes(4, "little"),
        ]
    else:
        parts.append(index.to_bytes(4, "little"))
    if annex_hash is not None:
        parts.append(annex_hash)
    if single:
        parts.append(sha256(txdata.output(index)).digest())
    if leaf_hash is not None:
        parts += [leaf_hash, b"\0", codeseparator_pos.to_bytes(4, "little")]
    return sha256(b"".join(parts)).digest()


def hash_annex(annex: bytes) -> bytes:
    """SHA-256 of an annex (with its 0x50) and its length, as BIP341 signs it."""
    return sha256(var_bytes(annex)).digest()
