"""Many signature checks in one call that holds no GIL.

A block holds thousands of signatures, and libsecp256k1 takes about 33 µs for each. Called one by one from Python
threads, each check would have to win the interpreter lock back before the next. A `SignatureBatch` instead collects
plain bytes and hands all of them to one compiled loop (Numba, over the addresses of libsecp256k1's functions), so that
worker threads verify while Python goes on reading the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from chain.crypto import secp256k1

Tag = TypeVar("Tag")

_ECDSA, _SCHNORR = b"\0", b"\1"
_SHORT = [bytes([n]) for n in range(256)]

#: (records) -> number of the first invalid one, or -1
_Verifier = Callable[[bytearray], int]
_verifier: _Verifier | None = None


class SignatureBatch(Generic[Tag]):
    """Signature checks to be done together. Fill it in one thread, then verify it in any."""

    __slots__ = ("_hopeless", "_records", "_tags")

    def __init__(self) -> None:
        self._records = bytearray()
        self._tags: list[Tag] = []
        self._hopeless: int | None = None  # number of the first check that needs no arithmetic to fail

    def __len__(self) -> int:
        return len(self._tags)

    def add_ecdsa(self, pubkey: bytes, der_signature: bytes, digest: bytes, tag: Tag) -> None:
        """Check a lax-DER signature (without its hash-type byte) over 32 bytes; as `secp256k1.verify_ecdsa` does."""
        size = len(der_signature)
        if size > 255 or len(pubkey) > 65:  # no signature on the chain is; the format of a record need not carry it
            valid = secp256k1.verify_ecdsa(pubkey, der_signature, digest)
            if not valid and self._hopeless is None:
                self._hopeless = len(self._tags)
            pubkey, size, der_signature, digest = b"", 0, b"", bytes(32)
        self._records += _ECDSA + _SHORT[len(pubkey)] + _SHORT[size] + digest + pubkey + der_signature
        self._tags.append(tag)

    def add_schnorr(self, xonly: bytes, signature: bytes, digest: bytes, tag: Tag) -> None:
        """Check a BIP340 signature (64 bytes) over a 32-byte message with a 32-byte key."""
        self._records += _SCHNORR + _SHORT[len(xonly)] + _SHORT[len(signature)] + digest + xonly + signature
        self._tags.append(tag)

    def add_multisig(
        self, pubkeys: Sequence[bytes], der_signatures: Sequence[bytes], digests: Sequence[bytes], tag: Tag
    ) -> None:
        """Check that each lax-DER signature over its digest belongs to one of the keys, in the same order
        (OP_CHECKMULTISIG). At most 20 keys of at most 65 bytes, and signatures of at most 255.
        """
        body = b"".join(
            (bytes(map(len, pubkeys)), bytes(map(len, der_signatures)), *digests, *pubkeys, *der_signatures)
        )
        self._records += b"\2%c%c%b%b" % (len(pubkeys), len(der_signatures), len(body).to_bytes(2, "big"), body)
        self._tags.append(tag)

    def verify(self) -> Tag | None:
        """The tag of the first check that fails, or None if all hold."""
        failed = verifier()(self._records) if self._records else -1
        if self._hopeless is not None and (failed < 0 or self._hopeless <= failed):
            failed = self._hopeless
        return None if failed < 0 else self._tags[failed]


def verifier() -> _Verifier:
    """The compiled loop, made at first use and kept on disk by Numba; a plain loop where libsecp256k1 is missing."""
    global _verifier
    if _verifier is None:
        if secp256k1.BACKEND_NAME == "libsecp256k1":
            from chain.crypto.batch_native import verify_records

            _verifier = verify_records
        else:
            _verifier = _verify_one_by_one
    return _verifier


def _verify_one_by_one(records: bytearray) -> int:
    """The compiled loop in Python; the format is described in `chain.crypto.batch_native`."""
    data, pos, number = bytes(records), 0, 0

    def take(size: int) -> bytes:
        nonlocal pos
        pos += size
        return data[pos - size : pos]

    while pos < len(data):
        kind, first, second = take(3)
        if kind == 2:
            take(2)
            key_sizes, signature_sizes = take(first), take(second)
            digests = [take(32) for _ in range(second)]
            keys = [take(size) for size in key_sizes]
            valid = _match(keys, [take(size) for size in signature_sizes], digests)
        else:
            digest, key, signature = take(32), take(first), take(second)
            check: Any = secp256k1.verify_schnorr if kind else secp256k1.verify_ecdsa
            valid = not key or check(key, signature, digest)
        if not valid:
            return number
        number += 1
    return -1


def _match(keys: list[bytes], signatures: list[bytes], digests: list[bytes]) -> bool:
    while signatures:
        if len(signatures) > len(keys):
            return False
        if secp256k1.verify_ecdsa(keys.pop(), signatures[-1], digests[-1]):
            signatures.pop()
            digests.pop()
    return True
