"""Scripts as bytes: reading opcodes, writing pushes, disassembly and the counting of signature operations.

Behaviour follows Bitcoin Core's ``CScript`` (``script/script.h``), ``ScriptToAsmStr`` and ``GetTransactionSigOpCost``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chain.primitives.coin import MAX_SCRIPT_SIZE, SCRIPT_OFFSET
from chain.primitives.errors import DecodeError
from chain.primitives.transaction import WITNESS_SCALE_FACTOR, Transaction
from chain.script.flags import ScriptFlags
from chain.script.numbers import decode_number, encode_number
from chain.script.opcodes import OPCODE_NAMES, Opcode, small_int_opcode

MAX_PUBKEYS_PER_MULTISIG = 20

_PUSHDATA1, _PUSHDATA2, _PUSHDATA4 = int(Opcode.OP_PUSHDATA1), int(Opcode.OP_PUSHDATA2), int(Opcode.OP_PUSHDATA4)
_OP_16 = int(Opcode.OP_16)
_CHECKSIG, _CHECKSIGVERIFY = int(Opcode.OP_CHECKSIG), int(Opcode.OP_CHECKSIGVERIFY)
_CHECKMULTISIG, _CHECKMULTISIGVERIFY = int(Opcode.OP_CHECKMULTISIG), int(Opcode.OP_CHECKMULTISIGVERIFY)
_P2SH_AND_WITNESS = int(ScriptFlags.P2SH), int(ScriptFlags.WITNESS)


class TruncatedScript(DecodeError):
    """A push claims more bytes than the script has."""


def read_op(script: bytes, pos: int) -> tuple[int, bytes | None, int]:
    """(opcode, pushed bytes or None, next position) at `pos` < len(script). Raises TruncatedScript."""
    opcode = script[pos]
    pos += 1
    if opcode > _PUSHDATA4:
        return opcode, None, pos
    if opcode < _PUSHDATA1:
        size = opcode
    else:
        width = 1 << (opcode - _PUSHDATA1)
        if pos + width > len(script):
            raise TruncatedScript("the script ends inside the length of a push")
        size = int.from_bytes(script[pos : pos + width], "little")
        pos += width
    end = pos + size
    if end > len(script):
        raise TruncatedScript("the script ends inside a push")
    return opcode, script[pos:end], end


def iterate(script: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield (opcode, pushed bytes or None), one for each operation. Raises TruncatedScript where Core's GetOp would
    fail.
    """
    pos, end = 0, len(script)
    while pos < end:
        opcode, data, pos = read_op(script, pos)
        yield opcode, data


def push_data(data: bytes) -> bytes:
    """A push of these bytes with the shortest length prefix (Core's ``CScript << bytes``): what addresses, redeem
    scripts and signatures use.

    One byte is pushed as one byte; `push_minimal` uses OP_1 to OP_16 and OP_1NEGATE where MINIMALDATA asks for them.
    """
    size = len(data)
    if size < _PUSHDATA1:
        return bytes((size,)) + data
    if size <= 0xFF:
        return bytes((_PUSHDATA1, size)) + data
    if size <= 0xFFFF:
        return bytes((_PUSHDATA2,)) + size.to_bytes(2, "little") + data
    return bytes((_PUSHDATA4,)) + size.to_bytes(4, "little") + data


def push_minimal(data: bytes) -> bytes:
    """The shortest operation that pushes these bytes: the only one that MINIMALDATA accepts."""
    if len(data) == 1:
        if 1 <= data[0] <= 16:
            return bytes((small_int_opcode(data[0]),))
        if data[0] == 0x81:
            return bytes((Opcode.OP_1NEGATE,))
    return push_data(data)


def push_int(n: int) -> bytes:
    """The operation that pushes a number (Core's ``CScript << int64_t``): OP_0, OP_1NEGATE, OP_1 to OP_16, else its
    bytes.
    """
    return push_minimal(encode_number(n))


def is_minimal_push(opcode: int, data: bytes) -> bool:
    """Whether no shorter operation pushes the same bytes (Core's CheckMinimalPush). `opcode` <= OP_PUSHDATA4."""
    size = len(data)
    if size == 0:
        return opcode == 0
    if size == 1 and (1 <= data[0] <= 16 or data[0] == 0x81):
        return False
    if size < _PUSHDATA1:
        return opcode == size
    if size <= 0xFF:
        return opcode == _PUSHDATA1
    if size <= 0xFFFF:
        return opcode == _PUSHDATA2
    return True


def is_push_only(script: bytes, pos: int = 0) -> bool:
    """Whether everything from `pos` on pushes (opcodes up to OP_16, OP_RESERVED included) and nothing is cut short."""
    end = len(script)
    while pos < end:
        opcode = script[pos]
        if opcode < _PUSHDATA1:
            pos += opcode + 1
        elif opcode > _OP_16:
            return False
        else:
            try:
                _, _, pos = read_op(script, pos)
            except TruncatedScript:
                return False
    return pos == end


def is_p2sh(script: bytes) -> bool:
    """BIP16: OP_HASH160 <20 bytes> OP_EQUAL and nothing else."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """(version 0-16, program of 2 to 40 bytes) if the script is a witness program (BIP141), else None."""
    size = len(script)
    if not 4 <= size <= 42 or script[1] != size - 2:
        return None
    opcode = script[0]
    if opcode == 0:
        return 0, script[2:]
    if 0x51 <= opcode <= 0x60:
        return opcode - 0x50, script[2:]
    return None


def is_unspendable(script: bytes) -> bool:
    """Whether no input can ever spend it, so that it stays out of the coin set: OP_RETURN first, or longer than 10,000
    bytes.
    """
    return script[:1] == b"\x6a" or len(script) > MAX_SCRIPT_SIZE


def last_push(script: bytes) -> bytes | None:
    """What a push-only script pushes last (empty for opcodes that push a number), None if it is not push-only or
    malformed.
    """
    data: bytes | None = b""
    try:
        for opcode, data in iterate(script):  # noqa: B007 - the last one is wanted
            if opcode > _OP_16:
                return None
    except TruncatedScript:
        return None
    return data or b""


_SIGHASH_NAMES = {
    0x01: "ALL",
    0x81: "ALL|ANYONECANPAY",
    0x02: "NONE",
    0x82: "NONE|ANYONECANPAY",
    0x03: "SINGLE",
    0x83: "SINGLE|ANYONECANPAY",
}


def disassemble(script: bytes, *, decode_sighash: bool = False) -> str:
    """Text as Core's ScriptToAsmStr prints it: numbers up to four bytes in decimal, longer pushes in hex, "[error]" at
    a truncated push.

    `decode_sighash` names the hash type of what looks like a signature, as Core does for scriptSigs in decoded
    transactions.
    """
    from chain.script.signatures import is_defined_hashtype, is_valid_signature_encoding

    words: list[str] = []
    decode_sighash = decode_sighash and not is_unspendable(script)
    try:
        for opcode, data in iterate(script):
            if data is None:
                words.append(OPCODE_NAMES[opcode])
            elif len(data) <= 4:
                words.append(str(decode_number(data)))
            elif decode_sighash and is_valid_signature_encoding(data) and is_defined_hashtype(data):
                words.append(f"{data[:-1].hex()}[{_SIGHASH_NAMES[data[-1]]}]")
            else:
                words.append(data.hex())
    except TruncatedScript:
        words.append("[error]")
    return " ".join(words)


def sigop_count(script: bytes, accurate: bool) -> int:
    """Signature operations as Core's GetSigOpCount: a CHECKMULTISIG counts 20, or the OP_1 to OP_16 before it if
    `accurate`.

    Counting stops without error at a truncated push.
    """
    # Most scripts hold none of the four opcodes' bytes at all, and looking for bytes costs nothing beside walking.
    if not (b"\xac" in script or b"\xae" in script or b"\xad" in script or b"\xaf" in script):
        return 0
    count, last = 0, Opcode.OP_INVALIDOPCODE.value
    pos, end = 0, len(script)
    while pos < end:
        opcode = script[pos]
        if opcode < _PUSHDATA1:
            pos += opcode + 1
            if pos > end:
                break
        elif opcode <= _PUSHDATA4:
            try:
                _, _, pos = read_op(script, pos)
            except TruncatedScript:
                break
        else:
            pos += 1
            if opcode in (_CHECKSIG, _CHECKSIGVERIFY):
                count += 1
            elif opcode in (_CHECKMULTISIG, _CHECKMULTISIGVERIFY):
                count += last - 0x50 if accurate and 0x51 <= last <= _OP_16 else MAX_PUBKEYS_PER_MULTISIG
        last = opcode
    return count


def legacy_sigop_count(tx: Transaction) -> int:
    """Inaccurate count over all scriptSigs and scriptPubKeys of a transaction (Core's GetLegacySigOpCount)."""
    count = 0
    for script in tx.script_sigs:
        if script:
            count += sigop_count(script, False)
    for script in tx.scripts:
        size = len(script)
        if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
            count += 1
        elif not (
            (size == 22 and script[:2] == b"\0\x14")
            or (size == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87)
            or (size == 34 and script[1] == 0x20 and (script[0] == 0x51 or script[0] == 0))
        ):
            count += sigop_count(script, False)
    return count


def p2sh_sigop_count(script_sig: bytes, script_pubkey: bytes) -> int:
    """Accurate count in the redeem script of a P2SH spend, 0 for any other (Core's GetSigOpCount(scriptSig))."""
    if not is_p2sh(script_pubkey):
        return 0
    redeem_script = last_push(script_sig)
    return sigop_count(redeem_script, True) if redeem_script else 0


def witness_sigop_count(script_sig: bytes, script_pubkey: bytes, witness: Sequence[bytes]) -> int:
    """Signature operations in the witness of a spend (Core's CountWitnessSigOps): only version 0, bare or in P2SH, has
    any.
    """
    program = witness_program(script_pubkey)
    if program is None and is_p2sh(script_pubkey):
        redeem_script = last_push(script_sig)
        if redeem_script:
            program = witness_program(redeem_script)
    if program is None or program[0] != 0:
        return 0
    if len(program[1]) == 20:
        return 1
    if len(program[1]) == 32 and witness:
        return sigop_count(witness[-1], True)
    return 0


def sigop_cost(tx: Transaction, spent: Sequence[bytes], flags: ScriptFlags) -> int:
    """BIP141 signature-operation cost of a transaction: legacy and P2SH operations weigh four, witness operations one.

    `spent` holds the packed coin of each input; it is not read for a coinbase.
    """
    legacy = legacy_sigop_count(tx)
    if tx.is_coinbase:
        return legacy * WITNESS_SCALE_FACTOR
    bits = int(flags)
    p2sh, witness = bits & _P2SH_AND_WITNESS[0], bits & _P2SH_AND_WITNESS[1]
    witness_cost = 0
    for script_sig, stack, coin in zip(tx.script_sigs, tx.witnesses, spent, strict=True):
        size = len(coin) - SCRIPT_OFFSET
        if size == 22 and coin[12:14] == b"\0\x14":
            if witness:
                witness_cost += 1
        elif size == 23 and coin[12] == 0xA9:
            script_pubkey = coin[SCRIPT_OFFSET:]
            if p2sh:
                legacy += p2sh_sigop_count(script_sig, script_pubkey)
                if witness:
                    witness_cost += witness_sigop_count(script_sig, script_pubkey, stack)
        elif size == 34 and coin[12:14] == b"\0\x20" and witness:
            witness_cost += witness_sigop_count(script_sig, coin[SCRIPT_OFFSET:], stack)
    return legacy * WITNESS_SCALE_FACTOR + witness_cost
