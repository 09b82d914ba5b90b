"""Outputs of every common kind, and the signatures that spend them.

A `Lock` knows its scriptPubKey and how to unlock an input that spends it. Kinds are those that wallets make; odd
scripts are built by the tests that need them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chain.crypto import secp256k1
from chain.crypto.hashes import hash160, sha256, tagged_hash
from chain.primitives.coin import coin_value
from chain.primitives.transaction import SEQUENCE_FINAL, Transaction, TxIn, TxOut
from chain.primitives.types import OutPoint
from chain.script.script import push_data
from chain.script.sighash import TxData, legacy_sighash, segwit_v0_sighash, taproot_sighash

SIGHASH_ALL = 1
SIGHASH_DEFAULT = 0


@dataclass(frozen=True)
class Unlocked:
    """What goes into an input."""

    script_sig: bytes = b""
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Lock:
    """One way to hold coins. `sign(txdata, index, value)` gives the scriptSig and witness that spend them."""

    kind: str
    script: bytes
    sign: Callable[[TxData, int, int], Unlocked] = field(repr=False)


def _secret(seed: bytes, number: int = 0) -> bytes:
    return sha256(seed + number.to_bytes(4, "little"))


def p2pk(seed: bytes) -> Lock:
    """Pay to public key."""
    secret = _secret(seed)
    script = push_data(secp256k1.pubkey_from_secret(secret)) + b"\xac"

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        digest = legacy_sighash(txdata, index, script, SIGHASH_ALL)
        return Unlocked(push_data(secp256k1.sign_ecdsa(secret, digest, grind=False) + b"\x01"))

    return Lock("p2pk", script, sign)


def p2pkh(seed: bytes) -> Lock:
    """Pay to public key hash."""
    secret = _secret(seed)
    public = secp256k1.pubkey_from_secret(secret)
    script = b"\x76\xa9\x14" + hash160(public) + b"\x88\xac"

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        digest = legacy_sighash(txdata, index, script, SIGHASH_ALL)
        signature = secp256k1.sign_ecdsa(secret, digest, grind=False) + b"\x01"
        return Unlocked(push_data(signature) + push_data(public))

    return Lock("p2pkh", script, sign)


def p2wpkh(seed: bytes) -> Lock:
    """Pay to witness public key hash (BIP141)."""
    secret = _secret(seed)
    public = secp256k1.pubkey_from_secret(secret)
    code = b"\x76\xa9\x14" + hash160(public) + b"\x88\xac"

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        digest = segwit_v0_sighash(txdata, index, code, value, SIGHASH_ALL)
        return Unlocked(witness=(secp256k1.sign_ecdsa(secret, digest, grind=False) + b"\x01", public))

    return Lock("p2wpkh", b"\x00\x14" + hash160(public), sign)


def p2sh_p2wpkh(seed: bytes) -> Lock:
    """P2WPKH inside P2SH."""
    inner = p2wpkh(seed)

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        return Unlocked(push_data(inner.script), inner.sign(txdata, index, value).witness)

    return Lock("p2sh-p2wpkh", b"\xa9\x14" + hash160(inner.script) + b"\x87", sign)


def p2wsh_multisig(seed: bytes, required: int = 2, total: int = 3) -> Lock:
    """Multisig in P2WSH."""
    secrets = [_secret(seed, i) for i in range(total)]
    keys = b"".join(push_data(secp256k1.pubkey_from_secret(secret)) for secret in secrets)
    code = bytes([0x50 + required]) + keys + bytes([0x50 + total]) + b"\xae"

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        digest = segwit_v0_sighash(txdata, index, code, value, SIGHASH_ALL)
        signatures = [secp256k1.sign_ecdsa(secret, digest, grind=False) + b"\x01" for secret in secrets[:required]]
        return Unlocked(witness=(b"", *signatures, code))

    return Lock("p2wsh-multisig", b"\x00\x20" + sha256(code), sign)


def p2tr(seed: bytes) -> Lock:
    """Taproot key path without scripts (BIP86)."""
    secret = _secret(seed)
    internal = secp256k1.pubkey_from_secret(secret)
    if internal[0] == 3:
        secret = secp256k1.secret_negate(secret)
    tweaked = secp256k1.secret_tweak_add(secret, tagged_hash("TapTweak", internal[1:]))

    def sign(txdata: TxData, index: int, value: int) -> Unlocked:
        digest = taproot_sighash(txdata, index, SIGHASH_DEFAULT)
        if digest is None:
            raise ValueError("this input has no taproot signature hash")
        return Unlocked(witness=(secp256k1.sign_schnorr(tweaked, digest, bytes(32)),))

    return Lock("p2tr", b"\x51\x20" + secp256k1.xonly_from_secret(tweaked), sign)


KINDS: dict[str, Callable[[bytes], Lock]] = {
    "p2pk": p2pk,
    "p2pkh": p2pkh,
    "p2wpkh": p2wpkh,
    "p2sh-p2wpkh": p2sh_p2wpkh,
    "p2wsh-multisig": p2wsh_multisig,
    "p2tr": p2tr,
}


@dataclass(frozen=True)
class Spendable:
    """A coin with the means to spend it."""

    outpoint: OutPoint
    coin: bytes  #: packed, see chain.primitives.coin
    lock: Lock


def spend(
    coins: Sequence[Spendable],
    outputs: Sequence[TxOut],
    *,
    version: int = 2,
    locktime: int = 0,
    sequence: int = SEQUENCE_FINAL,
) -> Transaction:
    """A transaction that spends these coins, every input signed with SIGHASH_ALL."""
    bare = [TxIn(coin.outpoint, b"", sequence) for coin in coins]
    txdata = TxData(Transaction.build(version, bare, outputs, locktime), [coin.coin for coin in coins])
    signed = []
    for index, (coin, empty) in enumerate(zip(coins, bare, strict=True)):
        unlocked = coin.lock.sign(txdata, index, coin_value(coin.coin))
        signed.append(TxIn(empty.prevout, unlocked.script_sig, sequence, unlocked.witness))
    return Transaction.build(version, signed, outputs, locktime)
