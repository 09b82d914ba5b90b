"""The output scripts that wallets make, and telling them apart (Bitcoin Core's ``script/solver.cpp``)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from chain.script.numbers import decode_number, is_minimal_number
from chain.script.opcodes import Opcode, small_int_opcode
from chain.script.script import (
    MAX_PUBKEYS_PER_MULTISIG,
    TruncatedScript,
    is_minimal_push,
    is_p2sh,
    is_push_only,
    push_data,
    push_int,
    read_op,
    witness_program,
)
from chain.script.signatures import has_pubkey_size

ANCHOR_SCRIPT = b"\x51\x02\x4e\x73"  #: pay to anchor: anyone may spend it, to attach a fee


class ScriptType(StrEnum):
    """Kinds of output; the values are the names that Core's RPC prints."""

    PUBKEY = "pubkey"
    PUBKEYHASH = "pubkeyhash"
    SCRIPTHASH = "scripthash"
    MULTISIG = "multisig"
    NULLDATA = "nulldata"
    ANCHOR = "anchor"
    WITNESS_V0_KEYHASH = "witness_v0_keyhash"
    WITNESS_V0_SCRIPTHASH = "witness_v0_scripthash"
    WITNESS_V1_TAPROOT = "witness_v1_taproot"
    WITNESS_UNKNOWN = "witness_unknown"
    NONSTANDARD = "nonstandard"


def classify(script: bytes) -> tuple[ScriptType, list[bytes]]:
    """The kind of an output script and what it pays to.

    The list holds the hash, program or public key; for multisig the required count (one byte), the keys, the key count
    (one byte); for witness_unknown the version (one byte) and the program; nothing for nulldata, anchor and
    nonstandard.
    """
    if is_p2sh(script):
        return ScriptType.SCRIPTHASH, [script[2:22]]
    program = witness_program(script)
    if program is not None:
        return _classify_witness(*program)
    if script[:1] == b"\x6a" and is_push_only(script, 1):
        return ScriptType.NULLDATA, []
    size = len(script)
    if (
        size in (35, 67)
        and script[0] == size - 2
        and script[-1] == Opcode.OP_CHECKSIG
        and has_pubkey_size(script[1:-1])
    ):
        return ScriptType.PUBKEY, [script[1:-1]]
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return ScriptType.PUBKEYHASH, [script[3:23]]
    multi = parse_multisig(script)
    if multi is not None:
        required, keys = multi
        return ScriptType.MULTISIG, [bytes((required,)), *keys, bytes((len(keys),))]
    return ScriptType.NONSTANDARD, []


def _classify_witness(version: int, program: bytes) -> tuple[ScriptType, list[bytes]]:
    if version == 0:
        if len(program) == 20:
            return ScriptType.WITNESS_V0_KEYHASH, [program]
        if len(program) == 32:
            return ScriptType.WITNESS_V0_SCRIPTHASH, [program]
        return ScriptType.NONSTANDARD, []
    if version == 1 and len(program) == 32:
        return ScriptType.WITNESS_V1_TAPROOT, [program]
    if version == 1 and program == ANCHOR_SCRIPT[2:]:
        return ScriptType.ANCHOR, []
    return ScriptType.WITNESS_UNKNOWN, [bytes((version,)), program]


def parse_multisig(script: bytes) -> tuple[int, list[bytes]] | None:
    """(required signatures, public keys) of a bare multisig script with up to 20 keys, else None."""
    if not script or script[-1] != Opcode.OP_CHECKMULTISIG:
        return None
    try:
        opcode, data, pos = read_op(script, 0)
        required = _script_count(opcode, data, 1)
        if required is None:
            return None
        keys: list[bytes] = []
        while True:
            if pos >= len(script):
                return None
            opcode, data, pos = read_op(script, pos)
            if not data or not has_pubkey_size(data):
                break
            keys.append(data)
    except TruncatedScript:
        return None
    total = _script_count(opcode, data, required)
    if total != len(keys) or pos + 1 != len(script):
        return None
    return required, keys


def _script_count(opcode: int, data: bytes | None, minimum: int) -> int | None:
    """The number pushed, minimally, by one operation, if it lies between `minimum` and 20."""
    if 0x51 <= opcode <= 0x60:
        count = opcode - 0x50
    elif data and len(data) <= 4 and is_minimal_push(opcode, data) and is_minimal_number(data):
        count = decode_number(data)
    else:
        return None
    return count if minimum <= count <= MAX_PUBKEYS_PER_MULTISIG else None


def p2pk(pubkey: bytes) -> bytes:
    """Pay to a public key (33 or 65 bytes)."""
    return push_data(pubkey) + bytes((Opcode.OP_CHECKSIG,))


def p2pkh(key_hash: bytes) -> bytes:
    """Pay to a public key's hash160 (20 bytes)."""
    return b"\x76\xa9\x14" + _sized(key_hash, 20) + b"\x88\xac"


def p2sh(script_hash: bytes) -> bytes:
    """Pay to a redeem script's hash160 (20 bytes, BIP16)."""
    return b"\xa9\x14" + _sized(script_hash, 20) + b"\x87"


def p2wpkh(key_hash: bytes) -> bytes:
    """Pay to a compressed public key's hash160 (20 bytes, BIP141)."""
    return b"\0\x14" + _sized(key_hash, 20)


def p2wsh(script_hash: bytes) -> bytes:
    """Pay to a witness script's SHA-256 (32 bytes, BIP141)."""
    return b"\0\x20" + _sized(script_hash, 32)


def p2tr(output_key: bytes) -> bytes:
    """Pay to a taproot output key (32 bytes x-only, already tweaked; BIP341)."""
    return b"\x51\x20" + _sized(output_key, 32)


def witness_output(version: int, program: bytes) -> bytes:
    """Any witness program: version 0 to 16, 2 to 40 bytes."""
    if not 2 <= len(program) <= 40:
        raise ValueError(f"a witness program has 2 to 40 bytes, not {len(program)}")
    return bytes((small_int_opcode(version),)) + push_data(program)


def multisig(required: int, pubkeys: Sequence[bytes]) -> bytes:
    """Bare multisig of 1 to 20 keys in the given order."""
    if not 1 <= required <= len(pubkeys) <= MAX_PUBKEYS_PER_MULTISIG:
        raise ValueError(f"{required} of {len(pubkeys)} keys is no multisig: 1 to 20 keys, at least one signature")
    keys = b"".join(map(push_data, pubkeys))
    return push_int(required) + keys + push_int(len(pubkeys)) + bytes((Opcode.OP_CHECKMULTISIG,))


def nulldata(data: bytes) -> bytes:
    """An unspendable output that carries bytes."""
    return bytes((Opcode.OP_RETURN,)) + push_data(data)


def _sized(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"{size} bytes wanted, not {len(data)}")
    return data
