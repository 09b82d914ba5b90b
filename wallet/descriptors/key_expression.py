"""BIP380 key expressions: where a descriptor's public keys come from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from chain.crypto.hashes import hash160
from chain.crypto.secp256k1 import is_valid_pubkey, pubkey_from_secret
from chain.primitives.errors import UserError
from chain.script.addresses import AddressPrefixes, decode_wif, encode_wif
from wallet.descriptors.checksum import DescriptorError
from wallet.keys import (
    HARDENED,
    ExtendedKey,
    ExtendedKeyError,
    ExtendedPrivateKey,
    ExtendedPublicKey,
    extended_key_from_text,
    format_path,
    parse_step,
)

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_FINGERPRINT = re.compile(r"[0-9a-fA-F]{8}")
_HARDENED_MARKS = "'h"


@dataclass(frozen=True)
class KeyOrigin:
    """The master key's fingerprint and the path from it to the key that follows."""

    fingerprint: bytes
    path: tuple[int, ...]

    def to_text(self) -> str:
        """'[d34db33f/84h/0h/0h]'."""
        steps = f"/{format_path(self.path)}" if self.path else ""
        return f"[{self.fingerprint.hex()}{steps}]"


@dataclass(frozen=True)
class DerivedKey:
    """One public key of an expanded descriptor, with what a signer needs to find its secret."""

    pubkey: bytes  #: 33 or 65 bytes
    fingerprint: bytes
    path: tuple[int, ...]
    secret: bytes | None = field(default=None, repr=False)

    @property
    def xonly(self) -> bytes:
        """The 32-byte x coordinate (BIP340)."""
        return self.pubkey[1:33]


@dataclass(frozen=True)
class PlainKey:
    """A single public key, or a private key in WIF."""

    pubkey: bytes
    secret: bytes | None = field(default=None, repr=False)
    xonly: bool = False  #: written as 32 bytes


@dataclass(frozen=True)
class KeyExpression:
    """One KEY of a descriptor."""

    key: PlainKey | ExtendedKey
    origin: KeyOrigin | None = None
    path: tuple[int, ...] = ()
    wildcard: str = ""  #: '', '*' or '*h'

    @property
    def is_ranged(self) -> bool:
        return bool(self.wildcard)

    @property
    def has_private(self) -> bool:
        return isinstance(self.key, ExtendedPrivateKey) or (
            isinstance(self.key, PlainKey) and self.key.secret is not None
        )

    def derive(self, index: int) -> DerivedKey:
        """The key at `index` (ignored when not ranged). DescriptorError where a hardened step meets a public key."""
        key = self.key
        if isinstance(key, PlainKey):
            origin = self.origin or KeyOrigin(hash160(key.pubkey)[:4], ())
            return DerivedKey(key.pubkey, origin.fingerprint, origin.path, key.secret)
        child, tail = self._parent, self.path
        if self.wildcard:
            step = index + (HARDENED if self.wildcard == "*h" else 0)
            try:
                child = child.derive(step)
            except ExtendedKeyError as error:
                raise DescriptorError(f"the descriptor cannot be expanded at {index}: {error}") from error
            tail = (*tail, step)
        origin = self.origin or KeyOrigin(key.fingerprint, ())
        secret = child.secret if isinstance(child, ExtendedPrivateKey) else None
        return DerivedKey(child.pubkey, origin.fingerprint, (*origin.path, *tail), secret)

    @cached_property
    def _parent(self) -> ExtendedKey:
        """The extended key just above the last step."""
        if isinstance(self.key, PlainKey):
            raise DescriptorError("a single key has no path")
        try:
            return self.key.derive_path(self.path)
        except ExtendedKeyError as error:
            raise DescriptorError(f"the descriptor cannot be expanded: {error}") from error

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        """The expression again. Without `private`, hardened steps move into the origin as BIP380 asks."""
        origin = self.origin.to_text() if self.origin else ""
        key = self.key
        if isinstance(key, PlainKey):
            if private and key.secret is not None:
                return origin + encode_wif(key.secret, prefixes, compressed=len(key.pubkey) == 33)
            return origin + (key.pubkey[1:33] if key.xonly else key.pubkey).hex()
        tail = "".join(f"/{step}" for step in (format_path(self.path), self.wildcard) if step)
        if isinstance(key, ExtendedPublicKey):
            return origin + key.to_text(prefixes) + tail
        if private:
            return origin + key.to_text(prefixes) + tail
        return self._normalized_public(key).to_text(prefixes, private=False)

    def _normalized_public(self, key: ExtendedPrivateKey) -> KeyExpression:
        hardened = max((i + 1 for i, step in enumerate(self.path) if step >= HARDENED), default=0)
        top = key.derive_path(self.path[:hardened])
        origin = self.origin
        if hardened:
            base = self.origin or KeyOrigin(key.fingerprint, ())
            origin = KeyOrigin(base.fingerprint, (*base.path, *self.path[:hardened]))
        return KeyExpression(top.neuter(), origin, self.path[hardened:], self.wildcard)


def parse_key(text: str, prefixes: AddressPrefixes, *, allow_uncompressed: bool, allow_xonly: bool) -> KeyExpression:
    """Parse KEY. DescriptorError says what is wrong with it."""
    origin: KeyOrigin | None = None
    body = text
    if text.startswith("["):
        inner, closed, body = text[1:].partition("]")
        if not closed:
            raise DescriptorError("a key origin lacks its closing ']'")
        origin = _parse_origin(inner)
    if "[" in body or "]" in body:
        raise DescriptorError("a key has more than one origin")
    head, *steps = body.split("/")
    if not head:
        raise DescriptorError("a key is missing")
    if _HEX.fullmatch(head) and len(head) in (64, 66, 130):
        plain: PlainKey | None = _parse_hex_key(bytes.fromhex(head), allow_uncompressed, allow_xonly)
    else:
        plain = _parse_wif(head, prefixes, allow_uncompressed)
    if plain is not None:
        if steps:
            raise DescriptorError("a single key cannot be followed by a path")
        return KeyExpression(plain, origin)
    try:
        extended = extended_key_from_text(head, prefixes)
        wildcard = ""
        if steps and steps[-1] in ("*", "*h", "*'"):
            wildcard = "*h" if len(steps.pop()) == 2 else "*"
        path = tuple(parse_step(step, _HARDENED_MARKS) for step in steps)
    except ExtendedKeyError as error:
        raise DescriptorError(str(error)) from error
    return KeyExpression(extended, origin, path, wildcard)


def _parse_origin(text: str) -> KeyOrigin:
    fingerprint, *steps = text.split("/")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise DescriptorError(f"'{fingerprint[:16]}' is not a key fingerprint: it has 8 hex digits")
    try:
        return KeyOrigin(bytes.fromhex(fingerprint), tuple(parse_step(step, _HARDENED_MARKS) for step in steps))
    except ExtendedKeyError as error:
        raise DescriptorError(f"in a key origin: {error}") from error


def _parse_hex_key(raw: bytes, allow_uncompressed: bool, allow_xonly: bool) -> PlainKey:
    if len(raw) == 32:
        if not allow_xonly:
            raise DescriptorError("a 32-byte key is allowed in tr() only")
        raw, xonly = b"\2" + raw, True
    else:
        xonly = False
    if len(raw) == 65 and not allow_uncompressed:
        raise DescriptorError("uncompressed keys are not allowed here")
    if not is_valid_pubkey(raw) or raw[0] in (6, 7):
        raise DescriptorError(f"'{raw.hex()[:16]}…' is not a public key")
    return PlainKey(raw, None, xonly)


def _parse_wif(text: str, prefixes: AddressPrefixes, allow_uncompressed: bool) -> PlainKey | None:
    try:
        secret, compressed = decode_wif(text, prefixes)
    except (ValueError, UserError):
        return None
    if not compressed and not allow_uncompressed:
        raise DescriptorError("uncompressed keys are not allowed here")
    return PlainKey(pubkey_from_secret(secret, compressed), secret)
