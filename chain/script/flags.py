"""Script verification flags: which rules a verification enforces.

Bit positions are Bitcoin Core's (``script/interpreter.h``). Every flag is a soft fork: what is valid under flags A | B
is valid under A.
"""

from __future__ import annotations

from enum import IntFlag


class ScriptFlags(IntFlag):
    """Rules that can be switched on for a verification."""

    NONE = 0
    P2SH = 1 << 0  #: BIP16
    STRICTENC = 1 << 1  #: policy: defined hash types, well-formed public keys, strict DER
    DERSIG = 1 << 2  #: BIP66
    LOW_S = 1 << 3  #: policy, BIP62 rule 5
    NULLDUMMY = 1 << 4  #: BIP147
    SIGPUSHONLY = 1 << 5  #: policy, BIP62 rule 2
    MINIMALDATA = 1 << 6  #: policy, BIP62 rules 3 and 4
    DISCOURAGE_UPGRADABLE_NOPS = 1 << 7  #: policy
    CLEANSTACK = 1 << 8  #: policy, BIP62 rule 6; only meaningful together with P2SH and WITNESS
    CHECKLOCKTIMEVERIFY = 1 << 9  #: BIP65
    CHECKSEQUENCEVERIFY = 1 << 10  #: BIP112
    WITNESS = 1 << 11  #: BIP141; only meaningful together with P2SH
    DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM = 1 << 12  #: policy
    MINIMALIF = 1 << 13  #: policy for segwit v0; consensus in tapscript whatever the flags
    NULLFAIL = 1 << 14  #: policy, BIP146
    WITNESS_PUBKEYTYPE = 1 << 15  #: policy: compressed keys in segwit v0
    CONST_SCRIPTCODE = 1 << 16  #: policy: no OP_CODESEPARATOR, no signature inside a legacy script
    TAPROOT = 1 << 17  #: BIP341 and BIP342
    DISCOURAGE_UPGRADABLE_TAPROOT_VERSION = 1 << 18  #: policy
    DISCOURAGE_OP_SUCCESS = 1 << 19  #: policy
    DISCOURAGE_UPGRADABLE_PUBKEYTYPE = 1 << 20  #: policy


#: Consensus rules of Bitcoin's tip (Core's MANDATORY_SCRIPT_VERIFY_FLAGS): a relayed transaction that breaks one is
#: invalid, not just unwanted.
MANDATORY_FLAGS = (
    ScriptFlags.P2SH
    | ScriptFlags.DERSIG
    | ScriptFlags.NULLDUMMY
    | ScriptFlags.CHECKLOCKTIMEVERIFY
    | ScriptFlags.CHECKSEQUENCEVERIFY
    | ScriptFlags.WITNESS
    | ScriptFlags.TAPROOT
)

#: What the mempool asks of a transaction (Core's STANDARD_SCRIPT_VERIFY_FLAGS).
STANDARD_FLAGS = (
    MANDATORY_FLAGS
    | ScriptFlags.STRICTENC
    | ScriptFlags.MINIMALDATA
    | ScriptFlags.DISCOURAGE_UPGRADABLE_NOPS
    | ScriptFlags.CLEANSTACK
    | ScriptFlags.MINIMALIF
    | ScriptFlags.NULLFAIL
    | ScriptFlags.LOW_S
    | ScriptFlags.DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM
    | ScriptFlags.WITNESS_PUBKEYTYPE
    | ScriptFlags.CONST_SCRIPTCODE
    | ScriptFlags.DISCOURAGE_UPGRADABLE_TAPROOT_VERSION
    | ScriptFlags.DISCOURAGE_OP_SUCCESS
    | ScriptFlags.DISCOURAGE_UPGRADABLE_PUBKEYTYPE
)
