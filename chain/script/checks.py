"""Verification of transaction inputs: one at a time with the exact error, or whole transactions with the curve
arithmetic set aside.

`collect_checks` separates an input's script from its signatures. Spends of the common templates are recognised and
reduced to (scheme, public keys, digest or message, signatures) without running a script. All others run the
interpreter with a checker that sets aside a signature check whenever a false answer is sure to fail the input, and
answers the rest at once. Either way the input is valid exactly when nothing failed here and every signature put in the
batch is valid; `tests/property/test_script_checks.py` holds that against `verify_input`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from chain.crypto.batch import SignatureBatch
from chain.crypto.hashes import hash160
from chain.crypto.secp256k1 import verify_ecdsa, verify_schnorr
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.transaction import SEQUENCE_FINAL, Transaction
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.interpreter import verify_script
from chain.script.machine import SigVersion, TaprootContext
from chain.script.numbers import is_true
from chain.script.sighash import SIGHASH_ALL, TxData, legacy_message, legacy_sighash, segwit_v0_sighash, taproot_sighash
from chain.script.signatures import has_pubkey_size, is_low_s, is_valid_signature_encoding

LOCKTIME_THRESHOLD = 500_000_000  #: below it a lock time is a height, from it on a UNIX time
SEQUENCE_LOCKTIME_DISABLE = 1 << 31  #: BIP68
SEQUENCE_LOCKTIME_IS_TIME = 1 << 22  #: BIP68: units of 512 s instead of blocks
SEQUENCE_LOCKTIME_MASK = 0xFFFF

_BASE = int(SigVersion.BASE)
_P2SH, _WITNESS, _TAPROOT, _LOW_S, _DERSIG = (
    int(f) for f in (ScriptFlags.P2SH, ScriptFlags.WITNESS, ScriptFlags.TAPROOT, ScriptFlags.LOW_S, ScriptFlags.DERSIG)
)
_DEFINED_TYPES = frozenset({1, 2, 3, 0x81, 0x82, 0x83})
_COMPRESSED = frozenset({2, 3})
_MIN_TEMPLATE_SIG = 60  # shorter signatures are valid but rare: the interpreter takes them
_SHORT_INPUTS, _SHORT_SIZE = 8, 1000  # up to these the batch hashes a whole transaction as fast as hashlib does
_ENDS = [bytes((0x50 + n, 0xAE)) for n in range(17)]  # of a multisig script with n keys


class TransactionChecker:
    """Answers a script's questions about one input of a transaction, at once."""

    __slots__ = ("_digests", "_index", "_txdata", "_value")

    def __init__(self, txdata: TxData, index: int, value: int) -> None:
        self._txdata = txdata
        self._index = index
        self._value = value
        self._digests: dict[tuple[bytes, int, int], bytes] = {}

    def ecdsa_digest(self, script_code: bytes, hash_type: int, sigversion: int) -> bytes:
        """The digest that a signature in `script_code` signs; kept, because the signatures of a multisig mostly share
        it.
        """
        key = script_code, hash_type, sigversion
        digest = self._digests.get(key)
        if digest is None:
            if sigversion == _BASE:
                digest = legacy_sighash(self._txdata, self._index, script_code, hash_type)
            else:
                digest = segwit_v0_sighash(self._txdata, self._index, script_code, self._value, hash_type)
            self._digests[key] = digest
        return digest

    def check_ecdsa(self, sig: bytes, pubkey: bytes, script_code: bytes, sigversion: int, fatal: bool) -> bool:
        if not sig or not has_pubkey_size(pubkey):
            return False
        return self.accept_ecdsa(pubkey, sig[:-1], self.ecdsa_digest(script_code, sig[-1], sigversion), fatal)

    def defer_multisig(
        self, sigs: Sequence[bytes], pubkeys: Sequence[bytes], script_code: bytes, sigversion: int
    ) -> bool:
        """Never: this checker answers at once."""
        return False

    def check_schnorr(self, sig: bytes, pubkey: bytes, context: TaprootContext) -> ScriptError:
        hash_type = 0
        if len(sig) != 64:
            if len(sig) != 65:
                return ScriptError.SCHNORR_SIG_SIZE
            hash_type = sig[64]
            if not hash_type:
                return ScriptError.SCHNORR_SIG_HASHTYPE
        digest = taproot_sighash(
            self._txdata,
            self._index,
            hash_type,
            annex_hash=context.annex_hash,
            leaf_hash=context.leaf_hash,
            codeseparator_pos=context.codeseparator_pos,
        )
        if digest is None:
            return ScriptError.SCHNORR_SIG_HASHTYPE
        return ScriptError.OK if self.accept_schnorr(pubkey, sig[:64], digest) else ScriptError.SCHNORR_SIG

    def accept_ecdsa(self, pubkey: bytes, der_signature: bytes, digest: bytes, fatal: bool) -> bool:
        """Whether the signature is valid."""
        return verify_ecdsa(pubkey, der_signature, digest)

    def accept_schnorr(self, xonly: bytes, signature: bytes, digest: bytes) -> bool:
        """Whether the signature is valid."""
        return verify_schnorr(xonly, signature, digest)

    def check_lock_time(self, lock_time: int) -> bool:
        tx = self._txdata.tx
        if (lock_time < LOCKTIME_THRESHOLD) != (tx.locktime < LOCKTIME_THRESHOLD) or lock_time > tx.locktime:
            return False
        # A final sequence switches the transaction's lock time off, so it must not satisfy the opcode.
        return tx.sequences[self._index] != SEQUENCE_FINAL

    def check_sequence(self, sequence: int) -> bool:
        tx = self._txdata.tx
        own = tx.sequences[self._index]
        if tx.version < 2 or own & SEQUENCE_LOCKTIME_DISABLE:
            return False
        if (own ^ sequence) & SEQUENCE_LOCKTIME_IS_TIME:
            return False
        return sequence & SEQUENCE_LOCKTIME_MASK <= own & SEQUENCE_LOCKTIME_MASK


class DeferringChecker(TransactionChecker):
    """Sets signature checks aside where a false answer is sure to fail the input, and says true meanwhile.

    A run under these answers is the real run if every deferred signature is valid, and the input is invalid if one is
    not. A Schnorr signature is always of that kind: BIP342 fails a script at the first invalid one that is not empty.
    """

    __slots__ = ("deferred", "multisigs")

    def __init__(self, txdata: TxData, index: int, value: int) -> None:
        super().__init__(txdata, index, value)
        self.deferred: list[tuple[bool, bytes, bytes, bytes]] = []  # (is Schnorr, public key, signature, digest)
        self.multisigs: list[tuple[Sequence[bytes], list[bytes], list[bytes]]] = []  # public keys, signatures, digests

    def accept_ecdsa(self, pubkey: bytes, der_signature: bytes, digest: bytes, fatal: bool) -> bool:
        if not fatal:
            return verify_ecdsa(pubkey, der_signature, digest)
        self.deferred.append((False, pubkey, der_signature, digest))
        return True

    def defer_multisig(
        self, sigs: Sequence[bytes], pubkeys: Sequence[bytes], script_code: bytes, sigversion: int
    ) -> bool:
        if max(map(len, pubkeys)) > 65 or max(map(len, sigs)) > 255:  # more than a record of the batch can hold
            return False
        digests = [self.ecdsa_digest(script_code, sig[-1], sigversion) for sig in sigs]
        self.multisigs.append((pubkeys, [sig[:-1] for sig in sigs], digests))
        return True

    def accept_schnorr(self, xonly: bytes, signature: bytes, digest: bytes) -> bool:
        self.deferred.append((True, xonly, signature, digest))
        return True


def verify_input(tx: Transaction, index: int, coin: bytes, flags: ScriptFlags | int, txdata: TxData) -> ScriptError:
    """Verify one input, with all its signatures, in the interpreter. `coin` is the packed coin it spends; OK or the
    exact error.
    """
    checker = TransactionChecker(txdata, index, int.from_bytes(coin[:8], "little", signed=True))
    return verify_script(tx.script_sigs[index], coin[SCRIPT_OFFSET:], tx.witnesses[index], flags, checker)


def collect_checks(
    tx: Transaction,
    txdata: TxData,
    spent: Sequence[bytes],
    flags: ScriptFlags | int,
    batch: SignatureBatch[Any],
    position: int = 0,
) -> tuple[int, ScriptError] | None:
    """Verify all inputs of a transaction but for the signatures that go into `batch`, tagged (position, input index).

    Returns the first input that is invalid whatever its signatures, with its exact error, or None. The transaction's
    scripts are valid exactly if that is None and the batch verifies. A tag that fails there is an invalid input:
    `verify_input` gives its error.
    """
    bits = int(flags)
    for index, coin in enumerate(spent):
        template = _TEMPLATES.get(len(coin))
        if template is not None and template(tx, txdata, index, coin, bits, batch, position):
            continue
        value = int.from_bytes(coin[:8], "little", signed=True)
        script = coin[SCRIPT_OFFSET:]
        checker = DeferringChecker(txdata, index, value)
        error = verify_script(tx.script_sigs[index], script, tx.witnesses[index], bits, checker)
        if error is not ScriptError.OK:
            if checker.deferred or checker.multisigs:  # one of them may have been the first to fail
                error = verify_input(tx, index, coin, bits, txdata)
            return index, error
        tag = (position, index)
        for schnorr, pubkey, signature, digest in checker.deferred:
            if schnorr:
                batch.add_schnorr(pubkey, signature, digest, tag)
            else:
                batch.add_ecdsa(pubkey, signature, digest, tag)
        for pubkeys, signatures, digests in checker.multisigs:
            batch.add_multisig(pubkeys, signatures, digests, tag)
    return None


# Templates. Each puts the signatures of a spend into the batch, or returns False where the spend is not beyond doubt
# valid but for them; then the interpreter judges it. No flag may object to what they accept.


def _p2wpkh(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    if coin[12:14] != b"\0\x14" or tx.script_sigs[index] or not flags & _WITNESS:
        return False
    return _v0_key_hash(tx, txdata, index, coin, coin[14:], flags, batch, position)


def _p2sh_p2wpkh(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    script_sig = tx.script_sigs[index]
    if len(script_sig) != 23 or script_sig[:3] != b"\x16\0\x14" or not flags & _P2SH or not flags & _WITNESS:
        return False
    if coin[12:14] != b"\xa9\x14" or coin[34] != 0x87 or hash160(script_sig[1:]) != coin[14:34]:
        return False
    return _v0_key_hash(tx, txdata, index, coin, script_sig[3:], flags, batch, position)


def _v0_key_hash(
    tx: Transaction,
    txdata: TxData,
    index: int,
    coin: bytes,
    program: bytes,
    flags: int,
    batch: SignatureBatch[Any],
    position: int,
) -> bool:
    witness = tx.witnesses[index]
    if len(witness) != 2:
        return False
    sig, pubkey = witness
    if len(pubkey) != 33 or pubkey[0] not in _COMPRESSED or not _may_be_plain_signature(sig, flags):
        return False
    hash_type = sig[-1]
    if hash_type == SIGHASH_ALL:
        # The batch also checks the key's hash: a program that is false on the stack is no key's.
        head, tail = txdata.segwit_parts(SIGHASH_ALL)
        message = b"%b%b\x19\x76\xa9\x14%b\x88\xac%b%b%b" % (
            head,
            tx.prevouts[index],
            program,
            coin[:8],
            tx.sequences[index].to_bytes(4, "little"),
            tail,
        )
        batch.add_key_hash(program, message, pubkey, sig[:-1], (position, index))
        return True
    if not is_valid_signature_encoding(sig) or hash160(pubkey) != program:
        return False
    code = b"\x76\xa9\x14" + program + b"\x88\xac"
    digest = segwit_v0_sighash(txdata, index, code, int.from_bytes(coin[:8], "little", signed=True), hash_type)
    batch.add_ecdsa(pubkey, sig[:-1], digest, (position, index))
    return True


def _p2pkh(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    script_sig = tx.script_sigs[index]
    if coin[12:15] != b"\x76\xa9\x14" or coin[35:] != b"\x88\xac" or tx.witnesses[index] or not script_sig:
        return False
    split = script_sig[0] + 1
    sig = script_sig[1:split]
    if not _MIN_TEMPLATE_SIG <= len(sig) <= 73 or len(script_sig) <= split:
        return False
    pubkey = script_sig[split + 1 :]
    if len(pubkey) != script_sig[split]:
        return False
    if not (len(pubkey) == 33 and pubkey[0] in _COMPRESSED) and not (len(pubkey) == 65 and pubkey[0] == 4):
        return False
    if not _may_be_plain_signature(sig, flags):
        return False
    # The signature is longer than anything the script pushes: FindAndDelete has nothing to find.
    if sig[-1] == SIGHASH_ALL and len(tx.prevouts) < _SHORT_INPUTS and len(tx.raw) < _SHORT_SIZE:
        message = legacy_message(txdata, index, b"\x19" + coin[12:])
        batch.add_key_hash(coin[15:35], message, pubkey, sig[:-1], (position, index))
        return True
    if not is_valid_signature_encoding(sig) or hash160(pubkey) != coin[15:35]:
        return False
    digest = legacy_sighash(txdata, index, coin[12:], sig[-1])
    batch.add_ecdsa(pubkey, sig[:-1], digest, (position, index))
    return True


def _witness_32(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    template = _p2tr_key if coin[12] == 0x51 else _p2wsh_multisig
    return template(tx, txdata, index, coin, flags, batch, position)


def _p2wsh_multisig(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    witness = tx.witnesses[index]
    if coin[12:14] != b"\0\x20" or len(witness) < 3 or tx.script_sigs[index] or not flags & _WITNESS:
        return False
    script = witness[-1]
    size = len(script)
    required, total = script[0] - 0x50 if size else 0, (size - 3) // 34
    if (
        size != 34 * total + 3
        or not 1 <= required <= total <= 16
        or script[-2:] != _ENDS[total]
        or len(witness) != required + 2
        or witness[0]
    ):
        return False
    keys = [script[at : at + 33] for at in range(2, size - 2, 34)]
    for key in keys:
        if key[0] not in _COMPRESSED:
            return False
    if script[1 : size - 2 : 34] != b"\x21" * total or sha256(script).digest() != coin[14:]:
        return False
    value = int.from_bytes(coin[:8], "little", signed=True)
    signatures, digests = [], []
    hash_type, digest = -1, b""
    for sig in witness[1:-1]:
        if not _may_be_plain_signature(sig, flags) or not is_valid_signature_encoding(sig):
            return False
        if sig[-1] != hash_type:
            hash_type = sig[-1]
            digest = segwit_v0_sighash(txdata, index, script, value, hash_type)
        signatures.append(sig[:-1])
        digests.append(digest)
    batch.add_multisig(keys, signatures, digests, (position, index))
    return True


def _p2tr_key(
    tx: Transaction, txdata: TxData, index: int, coin: bytes, flags: int, batch: SignatureBatch[Any], position: int
) -> bool:
    witness = tx.witnesses[index]
    if coin[12:14] != b"\x51\x20" or len(witness) != 1 or tx.script_sigs[index]:
        return False
    if not flags & _TAPROOT or not flags & _WITNESS:
        return False
    if not coin[14] and not is_true(coin[14:]):  # a program of zeros is a false on the stack
        return False
    sig = witness[0]
    hash_type = 0
    if len(sig) == 65:
        hash_type = sig[64]
        sig = sig[:64]
        if hash_type not in _DEFINED_TYPES:
            return False
    elif len(sig) != 64:
        return False
    if hash_type <= SIGHASH_ALL:
        digest = sha256(txdata.taproot_prefix(hash_type) + b"\0" + index.to_bytes(4, "little")).digest()
    else:
        full = taproot_sighash(txdata, index, hash_type)
        if full is None:
            return False
        digest = full
    batch.add_schnorr(coin[14:], sig, digest, (position, index))
    return True


def _may_be_plain_signature(sig: bytes, flags: int) -> bool:
    """Whether the size and the hash type are usual and no flag objects to the signature if it is strict DER, which is
    left to be checked: the batch does where it can. Where no flag demands strict DER it is checked here, because what
    is not may be valid all the same.
    """
    if not _MIN_TEMPLATE_SIG <= len(sig) <= 73 or sig[-1] not in _DEFINED_TYPES:
        return False
    if flags & _LOW_S or not flags & _DERSIG:
        return is_valid_signature_encoding(sig) and (not flags & _LOW_S or is_low_s(sig))
    return True


#: By the length of a packed coin: which template its script may be.
_TEMPLATES: dict[int, Callable[[Transaction, TxData, int, bytes, int, SignatureBatch[Any], int], bool]] = {
    SCRIPT_OFFSET + 22: _p2wpkh,
    SCRIPT_OFFSET + 23: _p2sh_p2wpkh,
    SCRIPT_OFFSET + 25: _p2pkh,
    SCRIPT_OFFSET + 34: _witness_32,
}
