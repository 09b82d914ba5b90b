"""What a parsed descriptor is made of, and how it becomes scripts."""

from __future__ import annotations

from dataclasses import dataclass

from chain.crypto.hashes import hash160, sha256, tagged_hash
from chain.crypto.secp256k1 import xonly_tweak_add
from chain.script import standard
from chain.script.addresses import AddressPrefixes
from wallet.descriptors.checksum import add_checksum
from wallet.descriptors.key_expression import DerivedKey, KeyExpression


@dataclass(frozen=True)
class Expansion:
    """The output script of a descriptor at one index, and all that a signer needs to spend it."""

    script_pubkey: bytes
    redeem_script: bytes | None = None
    witness_script: bytes | None = None
    keys: tuple[DerivedKey, ...] = ()
    internal_key: bytes | None = None  #: x-only, for taproot outputs


class Node:
    """One script expression."""

    @property
    def keys(self) -> tuple[KeyExpression, ...]:
        return ()

    def expand(self, index: int) -> Expansion:
        """The script at `index`. For an inner expression, `script_pubkey` is the script that the outer one commits
        to."""
        raise TypeError("abstract")

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        raise TypeError("abstract")


@dataclass(frozen=True)
class SingleKey(Node):
    """pk(KEY), pkh(KEY), wpkh(KEY), tr(KEY), rawtr(KEY)."""

    name: str
    key: KeyExpression

    @property
    def keys(self) -> tuple[KeyExpression, ...]:
        return (self.key,)

    def expand(self, index: int) -> Expansion:
        derived = self.key.derive(index)
        if self.name == "tr":
            internal = derived.xonly
            return Expansion(standard.p2tr(taproot_output_key(internal)), keys=(derived,), internal_key=internal)
        if self.name == "rawtr":
            return Expansion(standard.p2tr(derived.xonly), keys=(derived,))
        if self.name == "pk":
            return Expansion(standard.p2pk(derived.pubkey), keys=(derived,))
        key_hash = hash160(derived.pubkey)
        script = standard.p2wpkh(key_hash) if self.name == "wpkh" else standard.p2pkh(key_hash)
        return Expansion(script, keys=(derived,))

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        return f"{self.name}({self.key.to_text(prefixes, private=private)})"


@dataclass(frozen=True)
class Multi(Node):
    """multi(k,KEY,…) and sortedmulti(k,KEY,…) (BIP383)."""

    threshold: int
    members: tuple[KeyExpression, ...]
    is_sorted: bool

    @property
    def keys(self) -> tuple[KeyExpression, ...]:
        return self.members

    def expand(self, index: int) -> Expansion:
        derived = tuple(key.derive(index) for key in self.members)
        pubkeys = [key.pubkey for key in derived]
        return Expansion(
            standard.multisig(self.threshold, sorted(pubkeys) if self.is_sorted else pubkeys), keys=derived
        )

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        name = "sortedmulti" if self.is_sorted else "multi"
        return (
            f"{name}({','.join([str(self.threshold), *(k.to_text(prefixes, private=private) for k in self.members)])})"
        )


@dataclass(frozen=True)
class ScriptHash(Node):
    """sh(SCRIPT)."""

    inner: Node

    @property
    def keys(self) -> tuple[KeyExpression, ...]:
        return self.inner.keys

    def expand(self, index: int) -> Expansion:
        inside = self.inner.expand(index)
        redeem = inside.script_pubkey
        return Expansion(standard.p2sh(hash160(redeem)), redeem, inside.witness_script, inside.keys)

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        return f"sh({self.inner.to_text(prefixes, private=private)})"


@dataclass(frozen=True)
class WitnessScriptHash(Node):
    """wsh(SCRIPT)."""

    inner: Node

    @property
    def keys(self) -> tuple[KeyExpression, ...]:
        return self.inner.keys

    def expand(self, index: int) -> Expansion:
        inside = self.inner.expand(index)
        return Expansion(standard.p2wsh(sha256(inside.script_pubkey)), None, inside.script_pubkey, inside.keys)

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        return f"wsh({self.inner.to_text(prefixes, private=private)})"


@dataclass(frozen=True)
class FixedScript(Node):
    """addr(ADDRESS) and raw(HEX): nothing to derive."""

    text: str
    script: bytes

    def expand(self, index: int) -> Expansion:
        return Expansion(self.script)

    def to_text(self, prefixes: AddressPrefixes, *, private: bool) -> str:
        return self.text


@dataclass(frozen=True)
class Descriptor:
    """A whole descriptor. `expand(i)` gives the script at index i; text carries its checksum."""

    node: Node
    prefixes: AddressPrefixes

    @property
    def is_ranged(self) -> bool:
        """Whether it describes a script for each index rather than one."""
        return any(key.is_ranged for key in self.node.keys)

    @property
    def has_private(self) -> bool:
        """Whether it was written with private keys."""
        return any(key.has_private for key in self.node.keys)

    def expand(self, index: int = 0) -> Expansion:
        """The script and keys at `index` (0 to 2^31-1). DescriptorError when a private key is missing for it."""
        return self.node.expand(index)

    def to_text(self, *, private: bool = False) -> str:
        """Canonical text with checksum; public unless `private`."""
        return add_checksum(self.node.to_text(self.prefixes, private=private))

    def __repr__(self) -> str:
        return f"Descriptor({self.to_text()})"


def taproot_output_key(internal_key: bytes, merkle_root: bytes = b"") -> bytes:
    """BIP341: the x-only output key of an x-only internal key."""
    return xonly_tweak_add(internal_key, tagged_hash("TapTweak", internal_key + merkle_root))[0]
