"""PSBT key types and what each may hold (BIP174, 371, 373): one table a map, checked when a PSBT is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.crypto.secp256k1 import is_valid_pubkey
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.serialize import Reader
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import Amount
from chain.script.signatures import is_defined_hashtype, is_valid_signature_encoding


class PsbtError(UserError):
    """A PSBT that cannot be read or used. One line: what is wrong."""


class Global:
    """Types of the PSBT's global map (BIP174)."""

    UNSIGNED_TX = 0x00
    XPUB = 0x01
    VERSION = 0xFB


class In:
    """Types of an input's map (BIP174, BIP371, BIP373)."""

    NON_WITNESS_UTXO = 0x00
    WITNESS_UTXO = 0x01
    PARTIAL_SIG = 0x02
    SIGHASH_TYPE = 0x03
    REDEEM_SCRIPT = 0x04
    WITNESS_SCRIPT = 0x05
    BIP32_DERIVATION = 0x06
    FINAL_SCRIPT_SIG = 0x07
    FINAL_SCRIPT_WITNESS = 0x08
    RIPEMD160 = 0x0A
    SHA256 = 0x0B
    HASH160 = 0x0C
    HASH256 = 0x0D
    TAP_KEY_SIG = 0x13
    TAP_SCRIPT_SIG = 0x14
    TAP_LEAF_SCRIPT = 0x15
    TAP_BIP32_DERIVATION = 0x16
    TAP_INTERNAL_KEY = 0x17
    TAP_MERKLE_ROOT = 0x18
    MUSIG2_PARTICIPANTS = 0x1A
    MUSIG2_PUB_NONCE = 0x1B
    MUSIG2_PARTIAL_SIG = 0x1C


class Out:
    """Types of an output's map (the same)."""

    REDEEM_SCRIPT = 0x00
    WITNESS_SCRIPT = 0x01
    BIP32_DERIVATION = 0x02
    TAP_INTERNAL_KEY = 0x05
    TAP_TREE = 0x06
    TAP_BIP32_DERIVATION = 0x07
    MUSIG2_PARTICIPANTS = 0x08


@dataclass(frozen=True)
class Field:
    """One key type: its name in messages, allowed sizes of the data after the type byte, and a check of (key data,
    value)."""

    name: str
    key_sizes: frozenset[int] | None
    check: Callable[[bytes, bytes], None]


def parse_derivation(value: bytes) -> tuple[bytes, tuple[int, ...]]:
    """(master fingerprint, path) of a BIP32 derivation value."""
    if len(value) < 4 or len(value) % 4:
        raise PsbtError("a BIP32 derivation has an invalid length")
    steps = tuple(int.from_bytes(value[i : i + 4], "little") for i in range(4, len(value), 4))
    return value[:4], steps


def parse_tap_derivation(value: bytes) -> tuple[tuple[bytes, ...], bytes, tuple[int, ...]]:
    """(leaf hashes, master fingerprint, path) of a taproot BIP32 derivation value (BIP371)."""
    reader = Reader(value)
    try:
        leaves = tuple(reader.bytes(32) for _ in range(reader.compact_size(reader.remaining // 32)))
        return leaves, *parse_derivation(reader.bytes(reader.remaining))
    except (DecodeError, PsbtError) as error:
        raise PsbtError("Taproot BIP32 keypath has an invalid length") from error


def parse_output(value: bytes) -> TxOut:
    """A serialized transaction output."""
    reader = Reader(value)
    out = TxOut(Amount(reader.i64()), reader.var_bytes())
    reader.finish()
    return out


def parse_witness(value: bytes) -> tuple[bytes, ...]:
    """A serialized witness stack."""
    reader = Reader(value)
    stack = tuple(reader.var_bytes() for _ in range(reader.compact_size(reader.remaining)))
    reader.finish()
    return stack


def _anything(key: bytes, value: bytes) -> None:
    return None


def _sized(*sizes: int) -> Callable[[bytes, bytes], None]:
    def check(key: bytes, value: bytes) -> None:
        if len(value) not in sizes:
            raise PsbtError(f"value is not {' or '.join(map(str, sizes))} bytes")

    return check


def _pubkey_key(then: Callable[[bytes, bytes], None]) -> Callable[[bytes, bytes], None]:
    def check(key: bytes, value: bytes) -> None:
        if not is_valid_pubkey(key):
            raise PsbtError("Invalid pubkey")
        then(key, value)

    return check


def _transaction(key: bytes, value: bytes) -> None:
    Transaction.parse(value)


def _output(key: bytes, value: bytes) -> None:
    parse_output(value)


def _witness(key: bytes, value: bytes) -> None:
    parse_witness(value)


def _derivation(key: bytes, value: bytes) -> None:
    parse_derivation(value)


def _tap_derivation(key: bytes, value: bytes) -> None:
    parse_tap_derivation(value)


def _leaf_script(key: bytes, value: bytes) -> None:
    if (len(key) - 33) % 32 or len(key) < 33:
        raise PsbtError("Taproot leaf script control block size is not valid")
    if not value:
        raise PsbtError("Taproot leaf script must be at least 1 byte")


def _signature(key: bytes, value: bytes) -> None:
    if not (is_valid_signature_encoding(value) and is_defined_hashtype(value)):
        raise PsbtError("Signature is not a valid encoding")


def _participants(key: bytes, value: bytes) -> None:
    if not is_valid_pubkey(key):
        raise PsbtError("musig2 aggregate pubkey is invalid")
    for i in range(0, len(value) - len(value) % 33, 33):
        if not is_valid_pubkey(value[i : i + 33]):
            raise PsbtError("musig2 participant pubkey is invalid")
    if len(value) % 33:
        raise PsbtError("musig2 participants pubkeys value size is not a multiple of 33")


def _musig_signer(name: str, size: int, size_error: str) -> Callable[[bytes, bytes], None]:
    def check(key: bytes, value: bytes) -> None:
        if len(key) not in (66, 98):
            raise PsbtError(f"{name} key is not expected size")
        if not is_valid_pubkey(key[:33]):
            raise PsbtError("musig2 participant pubkey is invalid")
        if not is_valid_pubkey(key[33:66]):
            raise PsbtError("musig2 aggregate pubkey is invalid")
        if len(value) != size:
            raise PsbtError(size_error)

    return check


def _tap_tree(key: bytes, value: bytes) -> None:
    """Depth-first (depth, leaf version, script) entries that make one complete binary tree of depth at most 128."""
    if not value:
        raise PsbtError("Taproot tree must not be empty")
    reader = Reader(value)
    open_depths: list[int] = []
    while reader.remaining:
        depth, leaf_version = reader.u8(), reader.u8()
        reader.var_bytes()
        if depth > 128:
            raise PsbtError("Taproot tree has as leaf greater than Taproot maximum depth")
        if leaf_version & 1:
            raise PsbtError("Taproot tree has a leaf with an invalid leaf version")
        if open_depths and depth < open_depths[-1]:
            raise PsbtError("Taproot tree is malformed")
        open_depths.append(depth)
        while len(open_depths) > 1 and open_depths[-1] == open_depths[-2]:
            open_depths.pop()
            open_depths[-1] -= 1
    if open_depths != [0]:
        raise PsbtError("Taproot tree is malformed")


def _xpub(key: bytes, value: bytes) -> None:
    path = parse_derivation(value)[1]
    if len(path) != key[4]:
        raise PsbtError("the path length does not match the depth")
    if not is_valid_pubkey(key[45:]):
        raise PsbtError("Invalid pubkey")


def _version(key: bytes, value: bytes) -> None:
    if len(value) != 4:
        raise PsbtError("the version has an invalid length")
    if int.from_bytes(value, "little") != 0:
        raise PsbtError("only PSBT version 0 is supported")


def _field(name: str, *key_sizes: int, check: Callable[[bytes, bytes], None] = _anything) -> Field:
    return Field(name, frozenset(key_sizes), check)


GLOBAL_FIELDS: dict[int, Field] = {
    Global.UNSIGNED_TX: _field("unsigned tx", 0),
    Global.XPUB: _field("xpub", 78, check=_xpub),
    Global.VERSION: _field("version", 0, check=_version),
}

INPUT_FIELDS: dict[int, Field] = {
    In.NON_WITNESS_UTXO: _field("non-witness utxo", 0, check=_transaction),
    In.WITNESS_UTXO: _field("witness utxo", 0, check=_output),
    In.PARTIAL_SIG: _field("partial signature", 33, 65, check=_pubkey_key(_signature)),
    In.SIGHASH_TYPE: _field("sighash type", 0, check=_sized(4)),
    In.REDEEM_SCRIPT: _field("redeem script", 0),
    In.WITNESS_SCRIPT: _field("witness script", 0),
    In.BIP32_DERIVATION: _field("BIP32 derivation", 33, 65, check=_pubkey_key(_derivation)),
    In.FINAL_SCRIPT_SIG: _field("final scriptSig", 0),
    In.FINAL_SCRIPT_WITNESS: _field("final witness", 0, check=_witness),
    In.RIPEMD160: _field("ripemd160 preimage", 20),
    In.SHA256: _field("sha256 preimage", 32),
    In.HASH160: _field("hash160 preimage", 20),
    In.HASH256: _field("hash256 preimage", 32),
    In.TAP_KEY_SIG: _field("Taproot key signature", 0, check=_sized(64, 65)),
    In.TAP_SCRIPT_SIG: _field("Taproot script signature", 64, check=_sized(64, 65)),
    In.TAP_LEAF_SCRIPT: Field("Taproot leaf script", None, _leaf_script),
    In.TAP_BIP32_DERIVATION: _field("Taproot BIP32 keypath", 32, check=_tap_derivation),
    In.TAP_INTERNAL_KEY: _field("Taproot internal key", 0, check=_sized(32)),
    In.TAP_MERKLE_ROOT: _field("Taproot merkle root", 0, check=_sized(32)),
    In.MUSIG2_PARTICIPANTS: _field("musig2 participants", 33, check=_participants),
    In.MUSIG2_PUB_NONCE: Field(
        "musig2 pubnonce", None, _musig_signer("musig2 pubnonce", 66, "musig2 pubnonce value is not 66 bytes")
    ),
    In.MUSIG2_PARTIAL_SIG: Field(
        "musig2 partial sig", None, _musig_signer("musig2 partial sig", 32, "Size of value was not the stated size")
    ),
}

OUTPUT_FIELDS: dict[int, Field] = {
    Out.REDEEM_SCRIPT: _field("redeem script", 0),
    Out.WITNESS_SCRIPT: _field("witness script", 0),
    Out.BIP32_DERIVATION: _field("BIP32 derivation", 33, 65, check=_pubkey_key(_derivation)),
    Out.TAP_INTERNAL_KEY: _field("Taproot internal key", 0, check=_sized(32)),
    Out.TAP_TREE: _field("Taproot tree", 0, check=_tap_tree),
    Out.TAP_BIP32_DERIVATION: _field("Taproot BIP32 keypath", 32, check=_tap_derivation),
    Out.MUSIG2_PARTICIPANTS: _field("musig2 participants", 33, check=_participants),
}
