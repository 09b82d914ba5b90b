"""What a signature and a public key must look like, apart from being valid: BIP66, BIP62 and policy.

Mirrors CheckSignatureEncoding and CheckPubKeyEncoding in Bitcoin Core's ``script/interpreter.cpp``.
"""

from __future__ import annotations

from chain.crypto.der import HALF_ORDER, ORDER, is_strict_der
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags

_STRICTENC, _LOW_S = int(ScriptFlags.STRICTENC), int(ScriptFlags.LOW_S)
_ANY_DER = int(ScriptFlags.DERSIG | ScriptFlags.LOW_S | ScriptFlags.STRICTENC)
_WITNESS_PUBKEYTYPE = int(ScriptFlags.WITNESS_PUBKEYTYPE)


def is_valid_signature_encoding(sig: bytes) -> bool:
    """BIP66: strict DER of two positive integers, followed by one hash-type byte."""
    return is_strict_der(sig[:-1])


def is_low_s(sig: bytes) -> bool:
    """Whether S is at most half the group order. `sig` must have passed `is_valid_signature_encoding`.

    A signature with R or S outside the group counts as low, because Core's parser turns it into zeros: it fails later,
    at verification.
    """
    s_at = 4 + sig[3] + 2
    s = int.from_bytes(sig[s_at : s_at + sig[s_at - 1]], "big")
    if s <= HALF_ORDER:
        return True
    return s >= ORDER or int.from_bytes(sig[4 : 4 + sig[3]], "big") >= ORDER


def is_defined_hashtype(sig: bytes) -> bool:
    """ALL, NONE or SINGLE, with or without ANYONECANPAY."""
    return bool(sig) and 1 <= sig[-1] & 0x7F <= 3


def check_signature_encoding(sig: bytes, flags: int) -> ScriptError:
    """What the flags demand of a signature with its hash-type byte; an empty one is always well formed. `flags` is a
    plain int for speed.
    """
    if not sig or not flags & _ANY_DER:
        return ScriptError.OK
    if not is_valid_signature_encoding(sig):
        return ScriptError.SIG_DER
    if flags & _LOW_S and not is_low_s(sig):
        return ScriptError.SIG_HIGH_S
    if flags & _STRICTENC and not is_defined_hashtype(sig):
        return ScriptError.SIG_HASHTYPE
    return ScriptError.OK


def is_compressed(pubkey: bytes) -> bool:
    """33 bytes beginning with 02 or 03."""
    return len(pubkey) == 33 and (pubkey[0] == 2 or pubkey[0] == 3)


def check_pubkey_encoding(pubkey: bytes, flags: int, segwit_v0: bool) -> ScriptError:
    """What the flags demand of a public key."""
    if flags & _STRICTENC and not is_compressed(pubkey) and not (len(pubkey) == 65 and pubkey[0] == 4):
        return ScriptError.PUBKEYTYPE
    if segwit_v0 and flags & _WITNESS_PUBKEYTYPE and not is_compressed(pubkey):
        return ScriptError.WITNESS_PUBKEYTYPE
    return ScriptError.OK


def has_pubkey_size(data: bytes) -> bool:
    """Whether the length fits the first byte: 33 for 02 and 03, 65 for 04, 06 and 07 (Core's CPubKey::ValidSize)."""
    if len(data) == 33:
        return data[0] == 2 or data[0] == 3
    return len(data) == 65 and data[0] in (4, 6, 7)
