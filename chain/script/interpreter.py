"""The script interpreter: legacy, P2SH, segwit version 0 and tapscript, with every rule that a flag can switch on.

Verdicts and errors are those of EvalScript and VerifyScript in Bitcoin Core's ``script/interpreter.cpp``, in the same
order of checks. Opcodes are functions in a table of 256 (`chain.script.operations`); this file holds the loop and what
surrounds it. See ``docs/add-an-opcode.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from chain.crypto.secp256k1 import check_tap_tweak
from chain.primitives.coin import MAX_SCRIPT_SIZE
from chain.primitives.serialize import var_bytes, write_compact_size
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.machine import (
    MAX_ELEMENT_SIZE,
    MAX_OPS_PER_SCRIPT,
    MAX_STACK_SIZE,
    Machine,
    ScriptFailure,
    SignatureChecker,
    SigVersion,
    TaprootContext,
)
from chain.script.numbers import is_true
from chain.script.opcodes import DISABLED_OPCODES, OP_SUCCESS, Opcode
from chain.script.operations import HANDLERS
from chain.script.script import (
    TruncatedScript,
    is_minimal_push,
    is_p2sh,
    is_push_only,
    push_data,
    read_op,
    witness_program,
)
from chain.script.sighash import NO_CODESEPARATOR, hash_annex

ANNEX_TAG = 0x50  #: BIP341: first byte of a last witness element that is an annex
TAPROOT_LEAF_MASK = 0xFE
TAPSCRIPT_LEAF_VERSION = 0xC0
CONTROL_BASE_SIZE, CONTROL_NODE_SIZE, CONTROL_MAX_NODES = 33, 32, 128
VALIDATION_WEIGHT_OFFSET = 50  #: BIP342: free budget for signature checks, in weight units

_P2SH, _WITNESS, _TAPROOT = int(ScriptFlags.P2SH), int(ScriptFlags.WITNESS), int(ScriptFlags.TAPROOT)
_SIGPUSHONLY, _CLEANSTACK = int(ScriptFlags.SIGPUSHONLY), int(ScriptFlags.CLEANSTACK)
_CONST_SCRIPTCODE = int(ScriptFlags.CONST_SCRIPTCODE)
_DISCOURAGE_WITNESS_PROGRAM = int(ScriptFlags.DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM)
_DISCOURAGE_TAPROOT_VERSION = int(ScriptFlags.DISCOURAGE_UPGRADABLE_TAPROOT_VERSION)
_DISCOURAGE_OP_SUCCESS = int(ScriptFlags.DISCOURAGE_OP_SUCCESS)

OK = ScriptError.OK


def eval_script(
    stack: list[bytes],
    script: bytes,
    flags: int,
    checker: SignatureChecker,
    sigversion: int,
    context: TaprootContext | None = None,
    *,
    final: bool = False,
) -> ScriptError:
    """Run one script on `stack`, which it changes (Core's EvalScript).

    `final` promises that the caller fails the verification if the script ends with a false on top; it widens what a
    checker may defer.
    """
    if sigversion <= SigVersion.WITNESS_V0 and len(script) > MAX_SCRIPT_SIZE:
        return ScriptError.SCRIPT_SIZE
    machine = Machine(stack, script, int(flags), checker, sigversion, context or TaprootContext(), final)
    machine.context.codeseparator_pos = NO_CODESEPARATOR
    try:
        _run(machine)
    except ScriptFailure as failure:
        return failure.error
    return OK


def _run(machine: Machine) -> None:
    stack, altstack = machine.stack, machine.altstack
    script = machine.script
    handlers, constants = HANDLERS, _CONSTANTS
    pushes_minimal = machine.minimal
    tapscript = machine.sigversion == SigVersion.TAPSCRIPT
    no_separator = machine.sigversion == SigVersion.BASE and machine.flags & _CONST_SCRIPTCODE
    push = stack.append
    from_bytes = int.from_bytes
    pc, end, number = 0, len(script), -1
    while pc < end:
        opcode = script[pc]
        pc += 1
        number += 1
        if opcode <= 0x4E:
            if opcode < 0x4C:
                size = opcode
            else:
                width = 1 << (opcode - 0x4C)
                if pc + width > end:
                    raise ScriptFailure(ScriptError.BAD_OPCODE)
                size = from_bytes(script[pc : pc + width], "little")
                pc += width
            data = script[pc : pc + size]
            pc += size
            if pc > end:
                raise ScriptFailure(ScriptError.BAD_OPCODE)
            if size > MAX_ELEMENT_SIZE:
                raise ScriptFailure(ScriptError.PUSH_SIZE)
            if machine.skipping:
                continue
            if pushes_minimal and not is_minimal_push(opcode, data):
                raise ScriptFailure(ScriptError.MINIMALDATA)
            push(data)
        else:
            if opcode > 0x60 and not tapscript:
                machine.op_count += 1
                if machine.op_count > MAX_OPS_PER_SCRIPT:
                    raise ScriptFailure(ScriptError.OP_COUNT)
                if opcode in _DISABLED:
                    raise ScriptFailure(ScriptError.DISABLED_OPCODE)
                if opcode == 0xAB and no_separator:
                    raise ScriptFailure(ScriptError.OP_CODESEPARATOR)
            if machine.skipping and not 0x63 <= opcode <= 0x68:
                continue
            constant = constants[opcode]
            if constant is not None:
                push(constant)
            else:
                machine.pc = pc
                machine.opcode = opcode
                machine.opcode_pos = number
                handlers[opcode](machine, stack)
        if len(stack) + len(altstack) > MAX_STACK_SIZE:
            raise ScriptFailure(ScriptError.STACK_SIZE)
    if machine.conditions:
        raise ScriptFailure(ScriptError.UNBALANCED_CONDITIONAL)


def verify_script(
    script_sig: bytes,
    script_pubkey: bytes,
    witness: Sequence[bytes],
    flags: ScriptFlags | int,
    checker: SignatureChecker,
) -> ScriptError:
    """Whether `script_sig` and `witness` satisfy `script_pubkey` under the flags (Core's VerifyScript). OK or the
    reason.
    """
    bits = int(flags)
    if bits & _SIGPUSHONLY and not is_push_only(script_sig):
        return ScriptError.SIG_PUSHONLY
    if not script_sig and bits & _WITNESS:
        program = witness_program(script_pubkey)
        if program is not None:
            # Run as a script, a program only pushes two elements, and nothing can go wrong but that the upper is false.
            if not is_true(program[1]):
                return ScriptError.EVAL_FALSE
            return verify_witness_program(witness, *program, bits, checker, is_p2sh=False)
    stack: list[bytes] = []
    p2sh = bits & _P2SH and is_p2sh(script_pubkey)
    if script_sig:
        error = eval_script(stack, script_sig, bits, checker, SigVersion.BASE)
        if error is not OK:
            return error
    before = stack.copy() if p2sh else stack
    error = eval_script(stack, script_pubkey, bits, checker, SigVersion.BASE, final=True)
    if error is not OK:
        return error
    if not stack or not is_true(stack[-1]):
        return ScriptError.EVAL_FALSE

    if bits & _WITNESS and witness_program(script_pubkey) is not None:
        return ScriptError.WITNESS_MALLEATED  # there is a scriptSig, or we would not be here

    had_witness = False
    if p2sh:
        if not is_push_only(script_sig):
            return ScriptError.SIG_PUSHONLY
        stack = before
        redeem_script = stack.pop()
        error = eval_script(stack, redeem_script, bits, checker, SigVersion.BASE, final=True)
        if error is not OK:
            return error
        if not stack or not is_true(stack[-1]):
            return ScriptError.EVAL_FALSE
        if bits & _WITNESS:
            program = witness_program(redeem_script)
            if program is not None:
                had_witness = True
                if script_sig != push_data(redeem_script):
                    return ScriptError.WITNESS_MALLEATED_P2SH
                error = verify_witness_program(witness, *program, bits, checker, is_p2sh=True)
                if error is not OK:
                    return error
                del stack[1:]  # what is left of the program is not the script's doing: CLEANSTACK must not see it

    if bits & _CLEANSTACK and len(stack) != 1:
        return ScriptError.CLEANSTACK
    if bits & _WITNESS and not had_witness and witness:
        return ScriptError.WITNESS_UNEXPECTED
    return OK


def verify_witness_program(
    witness: Sequence[bytes], version: int, program: bytes, flags: int, checker: SignatureChecker, *, is_p2sh: bool
) -> ScriptError:
    """BIP141 and BIP341: run the program that a script or a redeem script turned out to be."""
    if version == 0:
        return _verify_v0(witness, program, flags, checker)
    if version == 1 and len(program) == 32 and not is_p2sh:
        return _verify_taproot(witness, program, flags, checker) if flags & _TAPROOT else OK
    if version == 1 and program == b"\x4e\x73" and not is_p2sh:  # pay to anchor
        return OK
    return ScriptError.DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM if flags & _DISCOURAGE_WITNESS_PROGRAM else OK


def _verify_v0(witness: Sequence[bytes], program: bytes, flags: int, checker: SignatureChecker) -> ScriptError:
    if len(program) == 32:
        if not witness:
            return ScriptError.WITNESS_PROGRAM_WITNESS_EMPTY
        script = witness[-1]
        if sha256(script).digest() != program:
            return ScriptError.WITNESS_PROGRAM_MISMATCH
        return _execute_witness(list(witness[:-1]), script, flags, checker, SigVersion.WITNESS_V0, TaprootContext())
    if len(program) == 20:
        if len(witness) != 2:
            return ScriptError.WITNESS_PROGRAM_MISMATCH
        script = b"\x76\xa9\x14" + program + b"\x88\xac"
        return _execute_witness(list(witness), script, flags, checker, SigVersion.WITNESS_V0, TaprootContext())
    return ScriptError.WITNESS_PROGRAM_WRONG_LENGTH


def _verify_taproot(witness: Sequence[bytes], program: bytes, flags: int, checker: SignatureChecker) -> ScriptError:
    if not witness:
        return ScriptError.WITNESS_PROGRAM_WITNESS_EMPTY
    context = TaprootContext()
    stack = list(witness)
    if len(stack) >= 2 and stack[-1] and stack[-1][0] == ANNEX_TAG:
        context.annex_hash = hash_annex(stack.pop())
    if len(stack) == 1:
        return checker.check_schnorr(stack[0], program, context)
    control = stack.pop()
    script = stack.pop()
    size = len(control) - CONTROL_BASE_SIZE
    if size < 0 or size % CONTROL_NODE_SIZE or size > CONTROL_NODE_SIZE * CONTROL_MAX_NODES:
        return ScriptError.TAPROOT_WRONG_CONTROL_SIZE
    leaf_version = control[0] & TAPROOT_LEAF_MASK
    leaf = tapleaf_hash(script, leaf_version)
    if not verify_taproot_commitment(control, program, leaf):
        return ScriptError.WITNESS_PROGRAM_MISMATCH
    if leaf_version == TAPSCRIPT_LEAF_VERSION:
        context.leaf_hash = leaf
        context.weight_left = witness_size(witness) + VALIDATION_WEIGHT_OFFSET
        return _execute_witness(stack, script, flags, checker, SigVersion.TAPSCRIPT, context)
    return ScriptError.DISCOURAGE_UPGRADABLE_TAPROOT_VERSION if flags & _DISCOURAGE_TAPROOT_VERSION else OK


def _execute_witness(
    stack: list[bytes], script: bytes, flags: int, checker: SignatureChecker, sigversion: int, context: TaprootContext
) -> ScriptError:
    if sigversion == SigVersion.TAPSCRIPT:
        pos, end = 0, len(script)
        while pos < end:
            try:
                opcode, _, pos = read_op(script, pos)
            except TruncatedScript:
                return ScriptError.BAD_OPCODE
            if opcode in OP_SUCCESS:
                return ScriptError.DISCOURAGE_OP_SUCCESS if flags & _DISCOURAGE_OP_SUCCESS else OK
        if len(stack) > MAX_STACK_SIZE:
            return ScriptError.STACK_SIZE
    for element in stack:
        if len(element) > MAX_ELEMENT_SIZE:
            return ScriptError.PUSH_SIZE
    error = eval_script(stack, script, flags, checker, sigversion, context, final=True)
    if error is not OK:
        return error
    if len(stack) != 1:
        return ScriptError.CLEANSTACK
    return OK if is_true(stack[0]) else ScriptError.EVAL_FALSE


def witness_size(witness: Sequence[bytes]) -> int:
    """Serialized size of a witness stack in bytes, count included."""
    size = len(write_compact_size(len(witness)))
    for element in witness:
        size += len(element) + len(write_compact_size(len(element)))
    return size


def tapleaf_hash(script: bytes, leaf_version: int = TAPSCRIPT_LEAF_VERSION) -> bytes:
    """BIP341 leaf hash."""
    return sha256(_TAPLEAF_TAG + bytes((leaf_version,)) + var_bytes(script)).digest()


def tapbranch_hash(a: bytes, b: bytes) -> bytes:
    """BIP341 branch hash of two 32-byte nodes in either order."""
    return sha256(_TAPBRANCH_TAG + (a + b if a < b else b + a)).digest()


def taptweak_hash(internal_key: bytes, merkle_root: bytes = b"") -> bytes:
    """BIP341 tweak of a 32-byte internal key; an output without script tree has an empty root."""
    return sha256(_TAPTWEAK_TAG + internal_key + merkle_root).digest()


def verify_taproot_commitment(control: bytes, program: bytes, leaf: bytes) -> bool:
    """Whether the control block proves that the output key commits to the leaf. The control block's size must have been
    checked.
    """
    node = leaf
    for pos in range(CONTROL_BASE_SIZE, len(control), CONTROL_NODE_SIZE):
        node = tapbranch_hash(node, control[pos : pos + CONTROL_NODE_SIZE])
    internal_key = control[1:CONTROL_BASE_SIZE]
    return check_tap_tweak(program, control[0] & 1, internal_key, taptweak_hash(internal_key, node))


def _tag(name: bytes) -> bytes:
    return sha256(name).digest() * 2


_TAPLEAF_TAG, _TAPBRANCH_TAG, _TAPTWEAK_TAG = _tag(b"TapLeaf"), _tag(b"TapBranch"), _tag(b"TapTweak")
_DISABLED = frozenset(map(int, DISABLED_OPCODES))

#: What an operation that only pushes a number pushes; None for all others.
_CONSTANTS: list[bytes | None] = [None] * 256
_CONSTANTS[Opcode.OP_1NEGATE] = b"\x81"
for _n in range(1, 17):
    _CONSTANTS[0x50 + _n] = bytes((_n,))
