"""The state of a running script and what it may ask about its transaction; shared by the interpreter's loop and the
operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.sighash import NO_CODESEPARATOR

MAX_ELEMENT_SIZE = 520  #: bytes of one stack element
MAX_OPS_PER_SCRIPT = 201  #: non-push operations; legacy and segwit v0
MAX_STACK_SIZE = 1_000  #: elements, both stacks together
VALIDATION_WEIGHT_PER_SIGOP = 50  #: BIP342: what a signature check costs of the budget, in weight units

_MINIMALDATA = int(ScriptFlags.MINIMALDATA)


class SigVersion(IntEnum):
    """The rules under which a script runs and signs."""

    BASE = 0  # bare and P2SH scripts
    WITNESS_V0 = 1
    TAPROOT = 2  # key path; runs no script
    TAPSCRIPT = 3


class ScriptFailure(Exception):
    """Raised by an operation to end the script; never leaves this package."""

    def __init__(self, error: ScriptError) -> None:
        super().__init__(error.message)
        self.error = error


class TaprootContext:
    """What a taproot signature commits to besides the transaction, and the budget for checking signatures."""

    __slots__ = ("annex_hash", "codeseparator_pos", "leaf_hash", "weight_left")

    def __init__(self) -> None:
        self.annex_hash: bytes | None = None
        self.leaf_hash: bytes | None = None
        self.codeseparator_pos = NO_CODESEPARATOR
        self.weight_left = 0


class SignatureChecker(Protocol):
    """Answers the questions a script asks about the transaction that spends it.

    `fatal` says that a False makes the whole verification fail, so that a checker may answer True now and check later.
    """

    def check_ecdsa(self, sig: bytes, pubkey: bytes, script_code: bytes, sigversion: int, fatal: bool) -> bool:
        """Whether `sig` (with its hash-type byte) signs the transaction."""

    def defer_multisig(
        self, sigs: Sequence[bytes], pubkeys: Sequence[bytes], script_code: bytes, sigversion: int
    ) -> bool:
        """Whether the checker will see to it, later, that each signature belongs to one of the keys in the same order.
        Asked only where failure is fatal and no encoding offends; otherwise the pairs are asked for one by one.
        """

    def check_schnorr(self, sig: bytes, pubkey: bytes, context: TaprootContext) -> ScriptError:
        """OK or why the taproot signature is refused; a refusal always fails the script."""

    def check_lock_time(self, lock_time: int) -> bool:
        """BIP65."""

    def check_sequence(self, sequence: int) -> bool:
        """BIP112."""


class Machine:
    """The state of one running script."""

    __slots__ = (
        "altstack",
        "checker",
        "code_start",
        "conditions",
        "context",
        "final",
        "flags",
        "minimal",
        "op_count",
        "opcode",
        "opcode_pos",
        "pc",
        "script",
        "sigversion",
        "skipping",
        "stack",
    )

    def __init__(
        self,
        stack: list[bytes],
        script: bytes,
        flags: int,
        checker: SignatureChecker,
        sigversion: int,
        context: TaprootContext,
        final: bool,
    ) -> None:
        self.stack = stack
        self.altstack: list[bytes] = []
        self.script = script
        self.flags = flags
        self.minimal = bool(flags & _MINIMALDATA)
        self.checker = checker
        self.sigversion = sigversion
        self.context = context
        self.final = final  # whether a false left on top by this script fails the verification
        self.pc = 0  # of the operation after the current one
        self.opcode = 0
        self.opcode_pos = 0  # the current operation's number, as BIP342 counts
        self.code_start = 0  # after the last OP_CODESEPARATOR
        self.op_count = 0
        self.conditions: list[bool] = []
        self.skipping = 0  # how many of the conditions are false

    def last_operation(self) -> bool:
        """Whether nothing but OP_ENDIF follows, so that what is now on top of the stack stays there."""
        script, pc = self.script, self.pc
        return pc == len(script) or script.count(b"\x68", pc) == len(script) - pc
