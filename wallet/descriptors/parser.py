"""Parser of output descriptors: BIP380 to 386 as far as wallets here need, BIP389 multipath."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from chain.primitives.errors import UserError
from chain.script.addresses import AddressPrefixes, decode_address
from wallet.descriptors.checksum import DescriptorError, strip_checksum
from wallet.descriptors.key_expression import PlainKey, parse_key
from wallet.descriptors.nodes import (
    Descriptor,
    FixedScript,
    Multi,
    Node,
    ScriptHash,
    SingleKey,
    WitnessScriptHash,
)

MAX_BARE_MULTISIG_KEYS = 3  #: more is non-standard (Core MAX_BARE_MULTISIG)
MAX_MULTISIG_KEYS = 20  #: CHECKMULTISIG's limit
MAX_REDEEM_SCRIPT_SIZE = 520  #: a larger push cannot be spent
MAX_DESCRIPTOR_LENGTH = 100_000
_CALL = re.compile(r"([a-z_]+)\((.*)\)", re.DOTALL)
_MULTIPATH = re.compile(r"<([^<>]*)>")


class _Context(Enum):
    TOP = "at top level"
    SH = "inside sh()"
    WSH = "inside wsh()"


def parse_descriptor(text: str, prefixes: AddressPrefixes, *, require_checksum: bool = False) -> Descriptor:
    """One descriptor. DescriptorError says what is wrong. A multipath one (<0;1>) needs parse_multipath."""
    body = strip_checksum(text.strip(), required=require_checksum)
    if len(body) > MAX_DESCRIPTOR_LENGTH:
        raise DescriptorError("the descriptor is too long")
    if "<" in body or ">" in body:
        raise DescriptorError("a multipath descriptor (<0;1>) stands for several: only one is expected here")
    return Descriptor(_parse_node(body, _Context.TOP, prefixes), prefixes)


def parse_multipath(text: str, prefixes: AddressPrefixes, *, require_checksum: bool = False) -> list[Descriptor]:
    """BIP389: all the descriptors that a text with <a;b;…> steps stands for, in order; one for a plain text."""
    body = strip_checksum(text.strip(), required=require_checksum)
    groups = [match.group(1).split(";") for match in _MULTIPATH.finditer(body)]
    if not groups:
        return [parse_descriptor(body, prefixes)]
    for part in re.split(r"[(),]", body):
        if len(_MULTIPATH.findall(part)) > 1:
            raise DescriptorError("one key has two <a;b> steps: only one is allowed")
    if re.search(r"\[[^\]]*<", body):
        raise DescriptorError("<a;b> is not allowed in a key origin")
    for group in groups:
        if len(group) < 2:
            raise DescriptorError("a <a;b> step needs at least two alternatives")
        if len({step.replace("'", "h") for step in group}) != len(group):
            raise DescriptorError("a <a;b> step repeats an alternative")
        if len(group) != len(groups[0]):
            raise DescriptorError("all <a;b> steps of a descriptor need the same number of alternatives")
    if re.search(r"[^/]<|>[^/,)]", body):
        raise DescriptorError("<a;b> stands for one whole path step")
    found = []
    for i in range(len(groups[0])):
        alternatives = iter(groups)
        single = _MULTIPATH.sub(lambda _: next(alternatives)[i], body)  # noqa: B023 - used at once
        found.append(parse_descriptor(single, prefixes))
    return found


def _parse_node(text: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    match = _CALL.fullmatch(text)
    if match is None:
        raise DescriptorError(f"'{text[:24]}' is not a script expression like wpkh(KEY)")
    name, argument = match.groups()
    rule = _FUNCTIONS.get(name)
    if rule is None:
        raise DescriptorError(f"{name}() is not supported: use one of {', '.join(_FUNCTIONS)}")
    if context not in rule.contexts:
        raise DescriptorError(f"{name}() is not allowed {context.value}")
    return rule.parse(name, argument, context, prefixes)


def _single_key(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    taproot = name in ("tr", "rawtr")
    if "," in argument:
        raise DescriptorError(f"{name}() takes one key" + ("; script trees are not supported" if name == "tr" else ""))
    legacy = context is not _Context.WSH and name in ("pk", "pkh")
    return SingleKey(name, parse_key(argument, prefixes, allow_uncompressed=legacy, allow_xonly=taproot))


def _multi(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    threshold_text, *key_texts = argument.split(",")
    if not re.fullmatch(r"[0-9]{1,3}", threshold_text):
        raise DescriptorError(f"'{threshold_text[:16]}' is not a multisig threshold")
    threshold = int(threshold_text)
    limit = MAX_BARE_MULTISIG_KEYS if context is _Context.TOP else MAX_MULTISIG_KEYS
    if not 1 <= len(key_texts) <= limit:
        raise DescriptorError(f"{name}() {context.value} takes 1 to {limit} keys, not {len(key_texts)}")
    if not 1 <= threshold <= len(key_texts):
        raise DescriptorError(f"a threshold of {threshold} is not possible with {len(key_texts)} keys")
    legacy = context is not _Context.WSH
    keys = tuple(parse_key(key, prefixes, allow_uncompressed=legacy, allow_xonly=False) for key in key_texts)
    return Multi(threshold, keys, name == "sortedmulti")


def _sh(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    inner = _parse_node(argument, _Context.SH, prefixes)
    if isinstance(inner, Multi):
        uncompressed = sum(isinstance(k.key, PlainKey) and len(k.key.pubkey) == 65 for k in inner.members)
        size = 3 + 34 * len(inner.members) + 32 * uncompressed
        if size > MAX_REDEEM_SCRIPT_SIZE:
            raise DescriptorError(f"this multisig script has {size} bytes: more than 520 cannot be spent through sh()")
    return ScriptHash(inner)


def _wsh(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    return WitnessScriptHash(_parse_node(argument, _Context.WSH, prefixes))


def _addr(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    try:
        return FixedScript(f"addr({argument})", decode_address(argument, prefixes))
    except (ValueError, UserError) as error:
        raise DescriptorError(f"'{argument[:24]}' is not an address of this network: {error}") from error


def _raw(name: str, argument: str, context: _Context, prefixes: AddressPrefixes) -> Node:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", argument):
        raise DescriptorError("raw() takes a script in hex")
    return FixedScript(f"raw({argument.lower()})", bytes.fromhex(argument))


@dataclass(frozen=True)
class _Function:
    parse: Callable[[str, str, _Context, AddressPrefixes], Node]
    contexts: frozenset[_Context]


_TOP_ONLY = frozenset({_Context.TOP})
_LEGACY = frozenset({_Context.TOP, _Context.SH})
_ANYWHERE = frozenset(_Context)

_FUNCTIONS: dict[str, _Function] = {
    "pk": _Function(_single_key, _ANYWHERE),
    "pkh": _Function(_single_key, _ANYWHERE),
    "wpkh": _Function(_single_key, _LEGACY),
    "tr": _Function(_single_key, _TOP_ONLY),
    "rawtr": _Function(_single_key, _TOP_ONLY),
    "sh": _Function(_sh, _TOP_ONLY),
    "wsh": _Function(_wsh, _LEGACY),
    "multi": _Function(_multi, _ANYWHERE),
    "sortedmulti": _Function(_multi, _ANYWHERE),
    "addr": _Function(_addr, _TOP_ONLY),
    "raw": _Function(_raw, _TOP_ONLY),
}
