"""What each opcode does: one function per opcode, entered in `HANDLERS` under its byte.

A handler gets the machine and its main stack. It raises ScriptFailure to end the script. Pushes and numbers (up to
OP_16) never get here: the interpreter's loop does them. A byte without a handler is an unknown opcode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from chain.crypto.hashes import hash160, ripemd160, sha1, sha256, sha256d
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.machine import (
    MAX_OPS_PER_SCRIPT,
    VALIDATION_WEIGHT_PER_SIGOP,
    Machine,
    ScriptFailure,
    SigVersion,
)
from chain.script.numbers import FALSE, MAX_NUMBER_SIZE, TRUE, decode_number, encode_number, is_minimal_number, is_true
from chain.script.opcodes import UPGRADABLE_NOPS, Opcode
from chain.script.script import MAX_PUBKEYS_PER_MULTISIG
from chain.script.sighash import find_and_delete
from chain.script.signatures import check_pubkey_encoding, check_signature_encoding

Handler = Callable[[Machine, list[bytes]], None]

_BASE, _WITNESS_V0, _TAPSCRIPT = int(SigVersion.BASE), int(SigVersion.WITNESS_V0), int(SigVersion.TAPSCRIPT)
_MINIMALIF, _NULLFAIL, _NULLDUMMY = int(ScriptFlags.MINIMALIF), int(ScriptFlags.NULLFAIL), int(ScriptFlags.NULLDUMMY)
_CONST_SCRIPTCODE, _DISCOURAGE_NOPS = int(ScriptFlags.CONST_SCRIPTCODE), int(ScriptFlags.DISCOURAGE_UPGRADABLE_NOPS)
_DISCOURAGE_PUBKEYTYPE = int(ScriptFlags.DISCOURAGE_UPGRADABLE_PUBKEYTYPE)
_CLTV, _CSV = int(ScriptFlags.CHECKLOCKTIMEVERIFY), int(ScriptFlags.CHECKSEQUENCEVERIFY)
_LOCKTIME_NUMBER_SIZE = 5  # BIP65: operands reach 2**39 - 1, past the u32 fields they are compared with
_SEQUENCE_DISABLE = 1 << 31  # BIP112: with this bit the operand asks for nothing

_TRUE_OR_FALSE = (FALSE, TRUE)


def _unknown(machine: Machine, stack: list[bytes]) -> None:
    raise ScriptFailure(ScriptError.BAD_OPCODE)


#: The operation for each byte.
HANDLERS: list[Handler] = [_unknown] * 256


def _op(*opcodes: Opcode) -> Callable[[Handler], Handler]:
    def enter(handler: Handler) -> Handler:
        for opcode in opcodes:
            HANDLERS[opcode] = handler
        return handler

    return enter


def _need(stack: list[bytes], count: int) -> None:
    if len(stack) < count:
        raise ScriptFailure(ScriptError.INVALID_STACK_OPERATION)


def _number(machine: Machine, data: bytes, max_size: int = MAX_NUMBER_SIZE) -> int:
    if len(data) > max_size or (machine.minimal and not is_minimal_number(data)):
        raise ScriptFailure(ScriptError.SCRIPTNUM)
    return decode_number(data)


# control


@_op(Opcode.OP_NOP)
def _nop(machine: Machine, stack: list[bytes]) -> None:
    pass


@_op(*UPGRADABLE_NOPS)
def _upgradable_nop(machine: Machine, stack: list[bytes]) -> None:
    if machine.flags & _DISCOURAGE_NOPS:
        raise ScriptFailure(ScriptError.DISCOURAGE_UPGRADABLE_NOPS)


@_op(Opcode.OP_IF, Opcode.OP_NOTIF)
def _if(machine: Machine, stack: list[bytes]) -> None:
    value = False
    if not machine.skipping:
        _need(stack, 1)
        top = stack[-1]
        if machine.sigversion == _TAPSCRIPT:
            if top not in _TRUE_OR_FALSE:
                raise ScriptFailure(ScriptError.TAPSCRIPT_MINIMALIF)
        elif machine.sigversion == _WITNESS_V0 and machine.flags & _MINIMALIF and top not in _TRUE_OR_FALSE:
            raise ScriptFailure(ScriptError.MINIMALIF)
        value = is_true(top) == (machine.opcode == Opcode.OP_IF)
        stack.pop()
    machine.conditions.append(value)
    if not value:
        machine.skipping += 1


@_op(Opcode.OP_ELSE)
def _else(machine: Machine, stack: list[bytes]) -> None:
    if not machine.conditions:
        raise ScriptFailure(ScriptError.UNBALANCED_CONDITIONAL)
    value = machine.conditions[-1] = not machine.conditions[-1]
    machine.skipping += -1 if value else 1


@_op(Opcode.OP_ENDIF)
def _endif(machine: Machine, stack: list[bytes]) -> None:
    if not machine.conditions:
        raise ScriptFailure(ScriptError.UNBALANCED_CONDITIONAL)
    if not machine.conditions.pop():
        machine.skipping -= 1


@_op(Opcode.OP_VERIFY)
def _verify(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    if not is_true(stack[-1]):
        raise ScriptFailure(ScriptError.VERIFY)
    stack.pop()


@_op(Opcode.OP_RETURN)
def _return(machine: Machine, stack: list[bytes]) -> None:
    raise ScriptFailure(ScriptError.OP_RETURN)


@_op(Opcode.OP_CHECKLOCKTIMEVERIFY)
def _checklocktimeverify(machine: Machine, stack: list[bytes]) -> None:
    if not machine.flags & _CLTV:
        return  # still OP_NOP2
    _need(stack, 1)
    lock_time = _number(machine, stack[-1], _LOCKTIME_NUMBER_SIZE)
    if lock_time < 0:
        raise ScriptFailure(ScriptError.NEGATIVE_LOCKTIME)
    if not machine.checker.check_lock_time(lock_time):
        raise ScriptFailure(ScriptError.UNSATISFIED_LOCKTIME)


@_op(Opcode.OP_CHECKSEQUENCEVERIFY)
def _checksequenceverify(machine: Machine, stack: list[bytes]) -> None:
    if not machine.flags & _CSV:
        return  # still OP_NOP3
    _need(stack, 1)
    sequence = _number(machine, stack[-1], _LOCKTIME_NUMBER_SIZE)
    if sequence < 0:
        raise ScriptFailure(ScriptError.NEGATIVE_LOCKTIME)
    if not sequence & _SEQUENCE_DISABLE and not machine.checker.check_sequence(sequence):
        raise ScriptFailure(ScriptError.UNSATISFIED_LOCKTIME)


# stack


@_op(Opcode.OP_TOALTSTACK)
def _toaltstack(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    machine.altstack.append(stack.pop())


@_op(Opcode.OP_FROMALTSTACK)
def _fromaltstack(machine: Machine, stack: list[bytes]) -> None:
    if not machine.altstack:
        raise ScriptFailure(ScriptError.INVALID_ALTSTACK_OPERATION)
    stack.append(machine.altstack.pop())


@_op(Opcode.OP_2DROP)
def _2drop(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    del stack[-2:]


@_op(Opcode.OP_2DUP)
def _2dup(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    stack += stack[-2:]


@_op(Opcode.OP_3DUP)
def _3dup(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 3)
    stack += stack[-3:]


@_op(Opcode.OP_2OVER)
def _2over(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 4)
    stack += stack[-4:-2]


@_op(Opcode.OP_2ROT)
def _2rot(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 6)
    pair = stack[-6:-4]
    del stack[-6:-4]
    stack += pair


@_op(Opcode.OP_2SWAP)
def _2swap(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 4)
    pair = stack[-4:-2]
    del stack[-4:-2]
    stack += pair


@_op(Opcode.OP_IFDUP)
def _ifdup(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    if is_true(stack[-1]):
        stack.append(stack[-1])


@_op(Opcode.OP_DEPTH)
def _depth(machine: Machine, stack: list[bytes]) -> None:
    stack.append(encode_number(len(stack)))


@_op(Opcode.OP_DROP)
def _drop(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    stack.pop()


@_op(Opcode.OP_DUP)
def _dup(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    stack.append(stack[-1])


@_op(Opcode.OP_NIP)
def _nip(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    del stack[-2]


@_op(Opcode.OP_OVER)
def _over(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    stack.append(stack[-2])


@_op(Opcode.OP_PICK, Opcode.OP_ROLL)
def _pick_or_roll(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    n = _number(machine, stack[-1])
    stack.pop()
    if not 0 <= n < len(stack):
        raise ScriptFailure(ScriptError.INVALID_STACK_OPERATION)
    stack.append(stack.pop(-n - 1) if machine.opcode == Opcode.OP_ROLL else stack[-n - 1])


@_op(Opcode.OP_ROT)
def _rot(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 3)
    stack.append(stack.pop(-3))


@_op(Opcode.OP_SWAP)
def _swap(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    stack.append(stack.pop(-2))


@_op(Opcode.OP_TUCK)
def _tuck(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    stack.insert(-2, stack[-1])


@_op(Opcode.OP_SIZE)
def _size(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 1)
    stack.append(encode_number(len(stack[-1])))


# comparison


@_op(Opcode.OP_EQUAL)
def _equal(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    stack.append(TRUE if stack.pop() == stack.pop() else FALSE)


@_op(Opcode.OP_EQUALVERIFY)
def _equalverify(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    if stack.pop() != stack.pop():
        raise ScriptFailure(ScriptError.EQUALVERIFY)


# numeric


def _unary(function: Callable[[int], int]) -> Handler:
    def handler(machine: Machine, stack: list[bytes]) -> None:
        _need(stack, 1)
        stack[-1] = encode_number(function(_number(machine, stack[-1])))

    return handler


def _binary(function: Callable[[int, int], int]) -> Handler:
    def handler(machine: Machine, stack: list[bytes]) -> None:
        _need(stack, 2)
        # Both operands are read before either is judged, lower one first, as Core does.
        a = _number(machine, stack[-2])
        b = _number(machine, stack[-1])
        stack.pop()
        stack[-1] = encode_number(function(a, b))

    return handler


_op(Opcode.OP_1ADD)(_unary(lambda a: a + 1))
_op(Opcode.OP_1SUB)(_unary(lambda a: a - 1))
_op(Opcode.OP_NEGATE)(_unary(operator.neg))
_op(Opcode.OP_ABS)(_unary(abs))
_op(Opcode.OP_NOT)(_unary(operator.not_))
_op(Opcode.OP_0NOTEQUAL)(_unary(bool))
_op(Opcode.OP_ADD)(_binary(operator.add))
_op(Opcode.OP_SUB)(_binary(operator.sub))
_op(Opcode.OP_BOOLAND)(_binary(lambda a, b: a != 0 and b != 0))
_op(Opcode.OP_BOOLOR)(_binary(lambda a, b: a != 0 or b != 0))
_op(Opcode.OP_NUMEQUAL)(_binary(operator.eq))
_op(Opcode.OP_NUMNOTEQUAL)(_binary(operator.ne))
_op(Opcode.OP_LESSTHAN)(_binary(operator.lt))
_op(Opcode.OP_GREATERTHAN)(_binary(operator.gt))
_op(Opcode.OP_LESSTHANOREQUAL)(_binary(operator.le))
_op(Opcode.OP_GREATERTHANOREQUAL)(_binary(operator.ge))
_op(Opcode.OP_MIN)(_binary(min))
_op(Opcode.OP_MAX)(_binary(max))


@_op(Opcode.OP_NUMEQUALVERIFY)
def _numequalverify(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    a = _number(machine, stack[-2])
    b = _number(machine, stack[-1])
    if a != b:
        raise ScriptFailure(ScriptError.NUMEQUALVERIFY)
    del stack[-2:]


@_op(Opcode.OP_WITHIN)
def _within(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 3)
    n = _number(machine, stack[-3])
    low = _number(machine, stack[-2])
    high = _number(machine, stack[-1])
    stack[-3:] = [TRUE if low <= n < high else FALSE]


# crypto


def _hash(function: Callable[[bytes], bytes]) -> Handler:
    def handler(machine: Machine, stack: list[bytes]) -> None:
        _need(stack, 1)
        stack[-1] = function(stack[-1])

    return handler


_op(Opcode.OP_RIPEMD160)(_hash(ripemd160))
_op(Opcode.OP_SHA1)(_hash(sha1))
_op(Opcode.OP_SHA256)(_hash(sha256))
_op(Opcode.OP_HASH160)(_hash(hash160))
_op(Opcode.OP_HASH256)(_hash(sha256d))


@_op(Opcode.OP_CODESEPARATOR)
def _codeseparator(machine: Machine, stack: list[bytes]) -> None:
    machine.code_start = machine.pc
    machine.context.codeseparator_pos = machine.opcode_pos


@_op(Opcode.OP_CHECKSIG)
def _checksig(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    valid = _check_signature(machine, stack[-2], stack[-1], False)
    stack.pop()
    stack[-1] = TRUE if valid else FALSE


@_op(Opcode.OP_CHECKSIGVERIFY)
def _checksigverify(machine: Machine, stack: list[bytes]) -> None:
    _need(stack, 2)
    if not _check_signature(machine, stack[-2], stack[-1], True):
        raise ScriptFailure(ScriptError.CHECKSIGVERIFY)
    del stack[-2:]


@_op(Opcode.OP_CHECKSIGADD)
def _checksigadd(machine: Machine, stack: list[bytes]) -> None:
    if machine.sigversion != _TAPSCRIPT:
        raise ScriptFailure(ScriptError.BAD_OPCODE)
    _need(stack, 3)
    sig, pubkey = stack[-3], stack[-1]
    number = _number(machine, stack[-2])
    valid = _check_signature_tapscript(machine, sig, pubkey)
    stack[-3:] = [encode_number(number + valid)]


def _check_signature(machine: Machine, sig: bytes, pubkey: bytes, verify: bool) -> bool:
    if machine.sigversion == _TAPSCRIPT:
        return _check_signature_tapscript(machine, sig, pubkey)
    flags = machine.flags
    script_code = machine.script[machine.code_start :] if machine.code_start else machine.script
    if machine.sigversion == _BASE:
        script_code, found = find_and_delete(script_code, sig)
        if found and flags & _CONST_SCRIPTCODE:
            raise ScriptFailure(ScriptError.SIG_FINDANDDELETE)
    _check_encodings(machine, sig, pubkey)
    if not sig:
        return False
    fatal = verify or flags & _NULLFAIL != 0 or (machine.final and machine.last_operation())
    if machine.checker.check_ecdsa(sig, pubkey, script_code, machine.sigversion, fatal):
        return True
    if flags & _NULLFAIL:
        raise ScriptFailure(ScriptError.NULLFAIL)
    return False


def _check_encodings(machine: Machine, sig: bytes, pubkey: bytes) -> None:
    error = check_signature_encoding(sig, machine.flags)
    if error is ScriptError.OK:
        error = check_pubkey_encoding(pubkey, machine.flags, machine.sigversion == _WITNESS_V0)
    if error is not ScriptError.OK:
        raise ScriptFailure(error)


def _check_signature_tapscript(machine: Machine, sig: bytes, pubkey: bytes) -> bool:
    context = machine.context
    if sig:
        context.weight_left -= VALIDATION_WEIGHT_PER_SIGOP
        if context.weight_left < 0:
            raise ScriptFailure(ScriptError.TAPSCRIPT_VALIDATION_WEIGHT)
    if not pubkey:
        raise ScriptFailure(ScriptError.TAPSCRIPT_EMPTY_PUBKEY)
    if len(pubkey) == 32:
        if sig:
            error = machine.checker.check_schnorr(sig, pubkey, context)
            if error is not ScriptError.OK:
                raise ScriptFailure(error)
    elif machine.flags & _DISCOURAGE_PUBKEYTYPE:
        raise ScriptFailure(ScriptError.DISCOURAGE_UPGRADABLE_PUBKEYTYPE)
    return bool(sig)


@_op(Opcode.OP_CHECKMULTISIG, Opcode.OP_CHECKMULTISIGVERIFY)
def _checkmultisig(machine: Machine, stack: list[bytes]) -> None:
    if machine.sigversion == _TAPSCRIPT:
        raise ScriptFailure(ScriptError.TAPSCRIPT_CHECKMULTISIG)
    flags = machine.flags
    verify = machine.opcode == Opcode.OP_CHECKMULTISIGVERIFY
    _need(stack, 1)
    key_count = _number(machine, stack[-1])
    if not 0 <= key_count <= MAX_PUBKEYS_PER_MULTISIG:
        raise ScriptFailure(ScriptError.PUBKEY_COUNT)
    machine.op_count += key_count
    if machine.op_count > MAX_OPS_PER_SCRIPT:
        raise ScriptFailure(ScriptError.OP_COUNT)
    _need(stack, key_count + 2)
    sig_count = _number(machine, stack[-key_count - 2])
    if not 0 <= sig_count <= key_count:
        raise ScriptFailure(ScriptError.SIG_COUNT)
    size = key_count + sig_count + 3  # keys and signatures, their two counts, and the dummy that an old bug pops
    _need(stack, size)
    keys = stack[-key_count - 1 : -1]
    sigs = stack[-size + 1 : -key_count - 2]

    script_code = machine.script[machine.code_start :] if machine.code_start else machine.script
    if machine.sigversion == _BASE:
        for sig in reversed(sigs):
            script_code, found = find_and_delete(script_code, sig)
            if found and flags & _CONST_SCRIPTCODE:
                raise ScriptFailure(ScriptError.SIG_FINDANDDELETE)

    success = _match_signatures(machine, sigs, keys, script_code, verify)
    if not success and flags & _NULLFAIL and any(sigs):
        raise ScriptFailure(ScriptError.NULLFAIL)
    if flags & _NULLDUMMY and stack[-size]:
        raise ScriptFailure(ScriptError.SIG_NULLDUMMY)
    del stack[-size:]
    if not verify:
        stack.append(TRUE if success else FALSE)
    elif not success:
        raise ScriptFailure(ScriptError.CHECKMULTISIGVERIFY)


def _match_signatures(machine: Machine, sigs: list[bytes], keys: list[bytes], script_code: bytes, verify: bool) -> bool:
    """Whether each signature belongs to one of the keys, in the same order; tried from the last of both. Pops from
    neither list's original.
    """
    sig_at, key_at = len(sigs), len(keys)
    failure_fatal = verify or machine.flags & _NULLFAIL != 0 or (machine.final and machine.last_operation())
    if (
        failure_fatal
        and 0 < sig_at < key_at
        and all(sigs)
        and _are_well_formed(machine, sigs, keys)
        and machine.checker.defer_multisig(sigs, keys, script_code, machine.sigversion)
    ):
        return True
    while sig_at:
        sig, pubkey = sigs[sig_at - 1], keys[key_at - 1]
        _check_encodings(machine, sig, pubkey)
        # Once there are no more keys than signatures, each has to match the one opposite.
        fatal = failure_fatal and sig_at == key_at
        if sig and machine.checker.check_ecdsa(sig, pubkey, script_code, machine.sigversion, fatal):
            sig_at -= 1
        key_at -= 1
        if sig_at > key_at:
            return False
    return True


def _are_well_formed(machine: Machine, sigs: list[bytes], keys: list[bytes]) -> bool:
    """Whether no pair of them could fail for its encoding."""
    flags, v0 = machine.flags, machine.sigversion == _WITNESS_V0
    return not any(check_signature_encoding(sig, flags) is not ScriptError.OK for sig in sigs) and not any(
        check_pubkey_encoding(key, flags, v0) is not ScriptError.OK for key in keys
    )
