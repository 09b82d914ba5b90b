"""BIP32: trees of keys from one seed, public and private, and their xpub/xprv text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chain.crypto.hashes import hash160, hmac_sha512
from chain.crypto.secp256k1 import (
    is_valid_pubkey,
    is_valid_secret,
    pubkey_from_secret,
    pubkey_tweak_add,
    secret_tweak_add,
)
from chain.script.addresses import AddressPrefixes
from chain.script.base58 import decode_check, encode_check

HARDENED = 1 << 31
MAX_DEPTH = 255  #: the depth is one byte
_STEP = re.compile(r"(\d{1,10})(['hH]?)", re.ASCII)


class ExtendedKeyError(ValueError):
    """An extended key, path or seed that BIP32 does not allow."""


@dataclass(frozen=True, slots=True)
class ExtendedPublicKey:
    """A public key of the tree: 33-byte key, 32-byte chain code, place in the tree."""

    pubkey: bytes
    chain_code: bytes
    depth: int = 0
    parent_fingerprint: bytes = bytes(4)
    child_number: int = 0

    @property
    def fingerprint(self) -> bytes:
        """First four bytes of HASH160 of the public key."""
        return hash160(self.pubkey)[:4]

    def derive(self, index: int) -> ExtendedPublicKey:
        """The child at an unhardened `index`. ExtendedKeyError for a hardened one: that needs the private key."""
        if index >= HARDENED or index < 0:
            raise ExtendedKeyError("a hardened step needs the private key")
        if self.depth >= MAX_DEPTH:
            raise ExtendedKeyError("the path is longer than 255 steps")
        digest = hmac_sha512(self.chain_code, self.pubkey + index.to_bytes(4, "big"))
        try:
            child = pubkey_tweak_add(self.pubkey, digest[:32])
        except ValueError as error:  # probability below 2^-127
            raise ExtendedKeyError(f"index {index} has no key: use the next") from error
        return ExtendedPublicKey(child, digest[32:], self.depth + 1, self.fingerprint, index)

    def derive_path(self, path: Iterable[int]) -> ExtendedPublicKey:
        """The descendant along `path`."""
        key = self
        for index in path:
            key = key.derive(index)
        return key

    def to_text(self, prefixes: AddressPrefixes) -> str:
        """Base58check with the network's public version bytes (xpub…, tpub…)."""
        return encode_check(_serialize(prefixes.bip32_public, self, self.pubkey))


@dataclass(frozen=True, slots=True)
class ExtendedPrivateKey:
    """A private key of the tree. Never shown by repr, never logged."""

    secret: bytes = field(repr=False)
    chain_code: bytes = field(repr=False)
    depth: int = 0
    parent_fingerprint: bytes = bytes(4)
    child_number: int = 0

    @classmethod
    def from_seed(cls, seed: bytes) -> ExtendedPrivateKey:
        """The master key of a seed of 16 to 64 bytes."""
        if not 16 <= len(seed) <= 64:
            raise ExtendedKeyError("a seed is 16 to 64 bytes")
        digest = hmac_sha512(b"Bitcoin seed", seed)
        if not is_valid_secret(digest[:32]):  # probability below 2^-127
            raise ExtendedKeyError("this seed has no master key: use another")
        return cls(digest[:32], digest[32:])

    @property
    def pubkey(self) -> bytes:
        """Compressed public key, 33 bytes."""
        return pubkey_from_secret(self.secret)

    @property
    def fingerprint(self) -> bytes:
        """First four bytes of HASH160 of the public key."""
        return hash160(self.pubkey)[:4]

    def derive(self, index: int) -> ExtendedPrivateKey:
        """The child at `index`; add HARDENED for a hardened one."""
        if not 0 <= index < 2 * HARDENED:
            raise ExtendedKeyError("an index is below 2^31, hardened or not")
        if self.depth >= MAX_DEPTH:
            raise ExtendedKeyError("the path is longer than 255 steps")
        pubkey = self.pubkey
        data = b"\0" + self.secret if index >= HARDENED else pubkey
        digest = hmac_sha512(self.chain_code, data + index.to_bytes(4, "big"))
        try:
            child = secret_tweak_add(self.secret, digest[:32])
        except ValueError as error:  # probability below 2^-127
            raise ExtendedKeyError(f"index {index} has no key: use the next") from error
        return ExtendedPrivateKey(child, digest[32:], self.depth + 1, hash160(pubkey)[:4], index)

    def derive_path(self, path: Iterable[int]) -> ExtendedPrivateKey:
        """The descendant along `path`."""
        key = self
        for index in path:
            key = key.derive(index)
        return key

    def neuter(self) -> ExtendedPublicKey:
        """The public side."""
        return ExtendedPublicKey(self.pubkey, self.chain_code, self.depth, self.parent_fingerprint, self.child_number)

    def to_text(self, prefixes: AddressPrefixes) -> str:
        """Base58check with the network's private version bytes (xprv…, tprv…)."""
        return encode_check(_serialize(prefixes.bip32_private, self, b"\0" + self.secret))


ExtendedKey = ExtendedPublicKey | ExtendedPrivateKey


def _serialize(version: bytes, key: ExtendedKey, payload: bytes) -> bytes:
    place = bytes([key.depth]) + key.parent_fingerprint + key.child_number.to_bytes(4, "big")
    return version + place + key.chain_code + payload


def extended_key_from_text(text: str, prefixes: AddressPrefixes) -> ExtendedKey:
    """Parse an xpub or xprv of this network with all of BIP32's checks (test vector 5)."""
    try:
        raw = decode_check(text)
    except ValueError as error:
        raise ExtendedKeyError(f"the extended key '{text[:8]}…' has a typing error (checksum)") from error
    if len(raw) != 78:
        raise ExtendedKeyError("an extended key is 78 bytes")
    version, depth, parent, number = raw[:4], raw[4], raw[5:9], int.from_bytes(raw[9:13], "big")
    chain_code, payload = raw[13:45], raw[45:]
    if depth == 0 and (parent != bytes(4) or number):
        raise ExtendedKeyError("a master key has no parent and no index")
    if version == prefixes.bip32_private:
        if payload[0] or not is_valid_secret(payload[1:]):
            raise ExtendedKeyError("the extended private key holds no valid key")
        return ExtendedPrivateKey(payload[1:], chain_code, depth, parent, number)
    if version == prefixes.bip32_public:
        if payload[0] not in (2, 3) or not is_valid_pubkey(payload):
            raise ExtendedKeyError("the extended public key holds no valid key")
        return ExtendedPublicKey(payload, chain_code, depth, parent, number)
    raise ExtendedKeyError(f"the extended key '{text[:8]}…' is of another network")


def parse_step(step: str, markers: str = "'hH") -> int:
    """One path step: '84h' is 84 + HARDENED."""
    match = _STEP.fullmatch(step)
    if match is None or (match.group(2) and match.group(2) not in markers):
        raise ExtendedKeyError(f"'{step[:16]}' is not a path step: write a number, with h when hardened")
    number = int(match.group(1))
    if number >= HARDENED:
        raise ExtendedKeyError(f"path step {number} is too large: the largest is 2147483647")
    return number + (HARDENED if match.group(2) else 0)


def format_path(path: Sequence[int]) -> str:
    """'84h/0h/0h/0/5', without m/ (empty for an empty path)."""
    return "/".join(f"{i - HARDENED}h" if i >= HARDENED else str(i) for i in path)
