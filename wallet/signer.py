"""Signing PSBTs, offline: nothing here reads a file or opens a socket.

Signs P2PKH, P2WPKH, P2SH-P2WPKH, multisig (bare, P2SH, P2WSH, P2SH-P2WSH) and the taproot key path. Every finished
input is run through the script interpreter under all standard rules before it is let out, so a defect here costs an
error message and not coins.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Protocol

from chain.crypto.hashes import hash160, sha256, tagged_hash
from chain.crypto.secp256k1 import (
    pubkey_from_secret,
    secret_negate,
    secret_tweak_add,
    sign_ecdsa,
    sign_schnorr,
    xonly_from_secret,
)
from chain.primitives.coin import pack_coin
from chain.primitives.transaction import Transaction, TxOut
from chain.primitives.types import PackedCoin
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import STANDARD_FLAGS
from chain.script.script import push_data
from chain.script.sighash import (
    SIGHASH_ALL,
    SIGHASH_DEFAULT,
    TxData,
    legacy_sighash,
    segwit_v0_sighash,
    taproot_sighash,
)
from chain.script.standard import ScriptType, classify, p2pkh
from wallet.descriptors import taproot_output_key
from wallet.keys import ExtendedKeyError, ExtendedPrivateKey
from wallet.psbt import In, Psbt, PsbtError, PsbtInput


class SigningError(PsbtError):
    """An input that cannot be signed safely. One line: which and why."""


class KeySource(Protocol):
    """Where secrets come from."""

    def secret_for(self, pubkey: bytes, fingerprint: bytes, path: tuple[int, ...]) -> bytes | None:
        """The 32-byte secret of a public key (33 or 65 bytes, or 32 x-only), or None if it is not ours."""


class MasterKeySource:
    """Secrets below one BIP32 master key. A PSBT's claims about paths are checked against the key they lead to."""

    def __init__(self, master: ExtendedPrivateKey) -> None:
        self._master = master
        self._fingerprint = master.fingerprint
        self._branches: dict[tuple[int, ...], ExtendedPrivateKey] = {}

    def secret_for(self, pubkey: bytes, fingerprint: bytes, path: tuple[int, ...]) -> bytes | None:
        if fingerprint != self._fingerprint or not path:
            return None
        parent = self._branches.get(path[:-1])
        try:
            if parent is None:
                parent = self._branches[path[:-1]] = self._master.derive_path(path[:-1])
            child = parent.derive(path[-1])
        except ExtendedKeyError:
            return None
        found = xonly_from_secret(child.secret) if len(pubkey) == 32 else child.pubkey
        return child.secret if found == pubkey else None


def sign_psbt(psbt: Psbt, keys: KeySource, *, trust_amounts: bool = False) -> int:
    """Add the signatures that `keys` can make; the number of inputs that got one.

    A segwit v0 input must carry its whole previous transaction: else a PSBT that lies about the amounts of two such
    inputs gets two signatures that together pay a huge fee (BIP174). `trust_amounts` waives that for PSBTs from a
    trusted maker.
    """
    spent = [psbt.spent_output(i) for i in range(len(psbt.inputs))]
    coins = _coins(spent)
    txdata = TxData(psbt.tx, coins)
    signed = 0
    for index, (entry, out) in enumerate(zip(psbt.inputs, spent, strict=True)):
        if out is None or entry.is_final:
            continue
        signed += _InputSigner(index, entry, out, txdata, keys, trust_amounts).sign()
    return signed


def finalize_psbt(psbt: Psbt) -> bool:
    """Turn signatures into finished inputs where there are enough; whether all inputs are finished. SigningError if one
    does not verify."""
    for index, entry in enumerate(psbt.inputs):
        out = psbt.spent_output(index)
        if entry.is_final or out is None:
            continue
        final = _final_parts(entry, out.script_pubkey)
        if final is not None:
            entry.set_final(*final)
    if not all(entry.is_final for entry in psbt.inputs):
        return False
    verify_signed(psbt)
    return True


def verify_signed(psbt: Psbt) -> Transaction:
    """The finished transaction, every input of it checked by the script interpreter. SigningError names the first that
    fails."""
    tx = psbt.extract()
    coins = _coins([psbt.spent_output(i) for i in range(len(psbt.inputs))])
    if coins is None:
        raise SigningError("the PSBT does not carry all spent outputs: it cannot be checked")
    txdata = TxData(tx, coins)
    for index, coin in enumerate(coins):
        error = verify_input(tx, index, coin, STANDARD_FLAGS, txdata)
        if error is not ScriptError.OK:
            raise SigningError(f"input {index} does not satisfy its script ({error.message}): nothing was released")
    return tx


class _InputSigner:
    def __init__(
        self, index: int, entry: PsbtInput, out: TxOut, txdata: TxData, keys: KeySource, trust_amounts: bool
    ) -> None:
        self.index = index
        self.entry = entry
        self.out = out
        self.txdata = txdata
        self.keys = keys
        self.trust_amounts = trust_amounts

    def sign(self) -> bool:
        """Add what signatures can be made; whether any was."""
        script = self.out.script_pubkey
        kind, data = classify(script)
        if kind is ScriptType.WITNESS_V1_TAPROOT:
            return self._sign_taproot(data[0])
        segwit = False
        if kind is ScriptType.SCRIPTHASH:
            redeem = self.entry.get(In.REDEEM_SCRIPT)
            if redeem is None:
                return False
            if hash160(redeem) != data[0]:
                raise SigningError(f"the redeem script of input {self.index} is not the one its output commits to")
            script = redeem
            kind, data = classify(script)
        if kind is ScriptType.WITNESS_V0_SCRIPTHASH:
            witness_script = self.entry.get(In.WITNESS_SCRIPT)
            if witness_script is None:
                return False
            if sha256(witness_script) != data[0]:
                raise SigningError(f"the witness script of input {self.index} is not the one its output commits to")
            script, segwit = witness_script, True
            kind, data = classify(script)
        elif kind is ScriptType.WITNESS_V0_KEYHASH:
            segwit = True
            script = p2pkh(data[0])  # BIP143: the script code of P2WPKH
            kind = ScriptType.PUBKEYHASH
        if kind is ScriptType.PUBKEYHASH:
            wanted = [key for key in self.entry.derivations if hash160(key) == data[0]]
        elif kind is ScriptType.MULTISIG:
            wanted = data[1:-1]
        elif kind is ScriptType.PUBKEY:
            wanted = data[:1]
        else:
            return False
        return self._sign_ecdsa(wanted, script, segwit)

    def _sign_ecdsa(self, pubkeys: Iterable[bytes], script_code: bytes, segwit: bool) -> bool:
        found: list[tuple[bytes, bytes]] = []
        for pubkey in pubkeys:
            fingerprint, path = self.entry.derivations.get(pubkey, (bytes(4), ()))
            secret = self.keys.secret_for(pubkey, fingerprint, path)
            if secret is not None:
                found.append((pubkey, secret))
        if not found:
            return False
        hash_type = self.entry.sighash_type
        if hash_type not in (None, SIGHASH_ALL):
            raise SigningError(f"input {self.index} asks for signature type {hash_type}: only ALL is signed here")
        if self.entry.non_witness_utxo is None and not (segwit and self.trust_amounts):
            raise SigningError(
                f"input {self.index} lacks its previous transaction, without which its amount cannot be trusted: "
                "ask for a PSBT that includes it"
            )
        if segwit:
            digest = segwit_v0_sighash(self.txdata, self.index, script_code, self.out.value, SIGHASH_ALL)
        else:
            digest = legacy_sighash(self.txdata, self.index, script_code, SIGHASH_ALL)
        for pubkey, secret in found:
            signature = sign_ecdsa(secret, digest) + bytes([SIGHASH_ALL])
            self.entry.set(In.PARTIAL_SIG, signature, pubkey)
        return True

    def _sign_taproot(self, output_key: bytes) -> bool:
        internal = self.entry.get(In.TAP_INTERNAL_KEY)
        merkle_root = self.entry.get(In.TAP_MERKLE_ROOT) or b""
        if internal is None:
            return False
        try:
            matches = taproot_output_key(internal, merkle_root) == output_key
        except ValueError as error:
            raise SigningError(f"the internal key of input {self.index} is not a public key") from error
        if not matches:
            return False
        _, fingerprint, path = self.entry.tap_derivations.get(internal, ((), bytes(4), ()))
        secret = self.keys.secret_for(internal, fingerprint, path)
        if secret is None:
            return False
        if self.entry.sighash_type not in (None, SIGHASH_DEFAULT, SIGHASH_ALL):
            raise SigningError(
                f"input {self.index} asks for signature type {self.entry.sighash_type}: only ALL is signed here"
            )
        if self.txdata.spent is None:
            raise SigningError("a taproot input is signed over all spent outputs, and the PSBT lacks some")
        hash_type = self.entry.sighash_type or SIGHASH_DEFAULT
        digest = taproot_sighash(self.txdata, self.index, hash_type)
        if digest is None:
            raise SigningError(f"input {self.index} cannot be signed with signature type {hash_type}")
        signature = sign_schnorr(taproot_secret(secret, merkle_root), digest, secrets.token_bytes(32))
        self.entry.set(In.TAP_KEY_SIG, signature + (bytes([hash_type]) if hash_type else b""))
        return True


def taproot_secret(secret: bytes, merkle_root: bytes = b"") -> bytes:
    """BIP341: the secret of the output key of an internal key."""
    internal = xonly_from_secret(secret)
    if pubkey_from_secret(secret)[0] == 3:  # the x-only key stands for the even point
        secret = secret_negate(secret)
    return secret_tweak_add(secret, tagged_hash("TapTweak", internal + merkle_root))


def _coins(spent: list[TxOut | None]) -> list[PackedCoin] | None:
    """Packed coins of all inputs, or None if one is unknown. Height does not matter to scripts."""
    coins = [pack_coin(out.value, out.script_pubkey, 0, False) for out in spent if out is not None]
    return coins if len(coins) == len(spent) else None


def _final_parts(entry: PsbtInput, script: bytes) -> tuple[bytes, list[bytes]] | None:
    """(scriptSig, witness) of an input with enough signatures, else None."""
    kind, data = classify(script)
    if kind is ScriptType.WITNESS_V1_TAPROOT:
        signature = entry.get(In.TAP_KEY_SIG)
        return (b"", [signature]) if signature is not None else None
    script_sig = b""
    nested = False
    if kind is ScriptType.SCRIPTHASH:
        redeem = entry.get(In.REDEEM_SCRIPT)
        if redeem is None:
            return None
        script_sig, nested = push_data(redeem), True
        kind, data = classify(redeem)
    if kind is ScriptType.WITNESS_V0_SCRIPTHASH:
        witness_script = entry.get(In.WITNESS_SCRIPT)
        if witness_script is None:
            return None
        stack = _stack(entry.partial_sigs, *classify(witness_script))
        return (script_sig, [*stack, witness_script]) if stack is not None else None
    witness = kind is ScriptType.WITNESS_V0_KEYHASH
    stack = _stack(entry.partial_sigs, ScriptType.PUBKEYHASH if witness else kind, data)
    if stack is None:
        return None
    if witness:
        return script_sig, stack
    pushes = b"".join(push_data(item) if item else b"\0" for item in stack)
    return pushes + (script_sig if nested else b""), []


def _stack(signatures: Mapping[bytes, bytes], kind: ScriptType, data: list[bytes]) -> list[bytes] | None:
    """The stack that satisfies a template, or None while signatures are missing."""
    if kind is ScriptType.PUBKEYHASH:
        for pubkey, signature in signatures.items():
            if hash160(pubkey) == data[0]:
                return [signature, pubkey]
    if kind is ScriptType.PUBKEY and data[0] in signatures:
        return [signatures[data[0]]]
    if kind is ScriptType.MULTISIG:
        threshold = data[0][0]
        have = [signatures[pubkey] for pubkey in data[1:-1] if pubkey in signatures]
        if len(have) >= threshold:
            return [b"", *have[:threshold]]  # the empty element: CHECKMULTISIG pops one too many
    return None
