"""Verification of one input by the interpreter: with all its signatures, or with the curve arithmetic set aside.

`defer_input` runs the script with a checker that sets aside a signature check whenever a false answer is sure to fail
the input, and answers the rest at once. What is set aside is verified in batches; `chain.script.spends` has the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from chain.crypto.batch import SignatureBatch
from chain.crypto.secp256k1 import verify_ecdsa, verify_schnorr
from chain.primitives.coin import SCRIPT_OFFSET
from chain.primitives.transaction import (
    LOCKTIME_THRESHOLD,
    SEQUENCE_FINAL,
    SEQUENCE_LOCKTIME_DISABLE_FLAG,
    SEQUENCE_LOCKTIME_MASK,
    SEQUENCE_LOCKTIME_TYPE_FLAG,
    Transaction,
)
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.interpreter import verify_script
from chain.script.machine import SigVersion, TaprootContext
from chain.script.sighash import TxData, legacy_sighash, segwit_v0_sighash, taproot_sighash
from chain.script.signatures import has_pubkey_size

_BASE = int(SigVersion.BASE)
Tag = TypeVar("Tag")


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
        if tx.version < 2 or own & SEQUENCE_LOCKTIME_DISABLE_FLAG:
            return False
        if (own ^ sequence) & SEQUENCE_LOCKTIME_TYPE_FLAG:
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


def defer_input(
    tx: Transaction,
    index: int,
    coin: bytes,
    flags: ScriptFlags | int,
    txdata: TxData,
    batch: SignatureBatch[Tag],
    tag: Tag,
) -> ScriptError:
    """Verify one input but for the signatures that go into `batch` under `tag`.

    OK, or the exact error if the input is invalid whatever the signatures in the batch; then none is added. The input
    is valid exactly if this is OK and the batch finds the tag's signatures valid.
    """
    checker = DeferringChecker(txdata, index, int.from_bytes(coin[:8], "little", signed=True))
    error = verify_script(tx.script_sigs[index], coin[SCRIPT_OFFSET:], tx.witnesses[index], flags, checker)
    if error is not ScriptError.OK:
        if checker.deferred or checker.multisigs:  # one of them may have been the first to fail
            error = verify_input(tx, index, coin, flags, txdata)
        return error
    for schnorr, pubkey, signature, digest in checker.deferred:
        if schnorr:
            batch.add_schnorr(pubkey, signature, digest, tag)
        else:
            batch.add_ecdsa(pubkey, signature, digest, tag)
    for pubkeys, signatures, digests in checker.multisigs:
        batch.add_multisig(pubkeys, signatures, digests, tag)
    return ScriptError.OK
