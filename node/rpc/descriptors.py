"""Descriptors as RPC uses them: expanding what a client scans for, and saying which descriptor a script has (Core's
InferDescriptor)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import is_valid_pubkey
from chain.params import NetworkParams
from chain.primitives.errors import UserError
from chain.script.addresses import decode_address, encode_address
from chain.script.standard import ScriptType, classify
from node.rpc import jsonio
from node.rpc.errors import invalid_parameter, not_found
from node.rpc.jsonio import JSON
from wallet.descriptors import (
    DerivedKey,
    Descriptor,
    DescriptorError,
    add_checksum,
    descriptor_checksum,
    parse_multipath,
)
from wallet.descriptors.checksum import strip_checksum
from wallet.keys import format_path

DEFAULT_RANGE = (0, 1000)
MAX_RANGE = 1_000_000
_COMBO = re.compile(r"combo\((.*)\)", re.DOTALL)


@dataclass(slots=True)
class KnownKeys:
    """What an expansion revealed: keys by their hash, scripts by theirs, taproot internal keys by output key."""

    keys: dict[bytes, DerivedKey] = field(default_factory=dict)
    scripts: dict[bytes, bytes] = field(default_factory=dict)
    taproot: dict[bytes, DerivedKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParsedDescriptor:
    """One or more descriptors behind one text (combo() and <a;b> stand for several)."""

    body: str
    parts: tuple[Descriptor, ...]
    is_combo: bool

    @property
    def is_ranged(self) -> bool:
        return any(part.is_ranged for part in self.parts)

    @property
    def has_private(self) -> bool:
        return any(part.has_private for part in self.parts)

    def scripts(self, index: int, known: KnownKeys | None = None) -> list[bytes]:
        """The output scripts at one index; -5 when only a private key could derive them."""
        found: list[bytes] = []
        for part in self.parts:
            try:
                expansion = part.expand(index)
            except DescriptorError as error:
                raise not_found(f"Cannot derive script without private keys: '{self.body}'") from error
            found.append(expansion.script_pubkey)
            if known is None:
                continue
            for key in expansion.keys:
                known.keys[hash160(key.pubkey)] = key
            for script in (expansion.redeem_script, expansion.witness_script):
                if script is not None:
                    known.scripts[hash160(script)] = script
                    known.scripts[sha256(script)] = script
            if expansion.internal_key is not None:
                known.taproot[expansion.script_pubkey[2:]] = expansion.keys[0]
        return found

    def public_text(self) -> str:
        """Canonical, without private keys, with checksum."""
        if not self.is_combo:
            return self.parts[0].to_text()
        key = self.parts[0].to_text().partition("#")[0].removeprefix("pk(").removesuffix(")")
        return add_checksum(f"combo({key})")


def parse(text: str, params: NetworkParams, *, require_checksum: bool = False) -> ParsedDescriptor:
    """DescriptorError says what is wrong."""
    body = strip_checksum(text, required=require_checksum)
    combo = _COMBO.fullmatch(body)
    if combo is None:
        return ParsedDescriptor(body, tuple(parse_multipath(body, params.addresses)), False)
    key = combo.group(1)
    parts: list[Descriptor] = []
    for form in (f"pk({key})", f"pkh({key})"):
        parts += parse_multipath(form, params.addresses)
    for form in (f"wpkh({key})", f"sh(wpkh({key}))"):
        try:
            parts += parse_multipath(form, params.addresses)
        except DescriptorError:  # an uncompressed key: combo() has two scripts then
            break
    return ParsedDescriptor(body, tuple(parts), True)


def parse_or_error(text: str, params: NetworkParams, *, require_checksum: bool = False) -> ParsedDescriptor:
    """As `parse`, with RPC error -5."""
    if require_checksum and "#" not in text:
        raise not_found("Missing checksum")
    try:
        return parse(text, params, require_checksum=require_checksum)
    except DescriptorError as error:
        raise not_found(str(error)) from error


def parse_range(value: JSON) -> tuple[int, int]:
    """[begin, end] of derivation indexes, both inclusive, with Core's errors."""
    if isinstance(value, int) and not isinstance(value, bool):
        low, high = 0, value
    elif isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value):
        low, high = value
        if low > high:
            raise invalid_parameter("Range specified as [begin,end] must not have begin after end")
    else:
        raise invalid_parameter("Range must be specified as end or as [begin,end]")
    if low < 0:
        raise invalid_parameter("Range should be greater or equal than 0")
    if high >> 31:
        raise invalid_parameter("End of range is too high")
    if high >= low + MAX_RANGE:
        raise invalid_parameter("Range is too large")
    return low, high


def scan_object(value: JSON, params: NetworkParams) -> dict[bytes, str]:
    """Output script to inferred descriptor, for one scan object: a descriptor, or {"desc", "range"}
    (EvalDescriptorStringOrObject)."""
    span = DEFAULT_RANGE
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict):
        given = value.get("desc")
        if given is None:
            raise invalid_parameter("Descriptor needs to be provided in scan object")
        if not isinstance(given, str):
            raise jsonio.wrong_type(given, "string")
        text = given
        if value.get("range") is not None:
            span = parse_range(value["range"])
    else:
        raise invalid_parameter("Scan object needs to be either a string or an object")
    parsed = parse_or_error(text, params)
    first, last = span if parsed.is_ranged else (0, 0)
    found: dict[bytes, str] = {}
    for index in range(first, last + 1):
        known = KnownKeys()
        for script in parsed.scripts(index, known):
            found[script] = add_checksum(infer(script, params, known))
    return found


def output_script(text: str, params: NetworkParams) -> bytes:
    """The script that `generateblock` and friends pay to: a descriptor of one script, or an address."""
    try:
        parsed = parse(text, params)
    except DescriptorError:
        try:
            return decode_address(text, params.addresses)
        except (ValueError, UserError):
            raise not_found("Invalid address or descriptor") from None
    return single_script(parsed)


def single_script(parsed: ParsedDescriptor) -> bytes:
    """Core's getScriptFromDescriptor: of combo()'s four scripts the third (P2WPKH), of its two the second (P2PKH)."""
    if len(parsed.parts) > 1 and not parsed.is_combo:
        raise invalid_parameter("Multipath descriptor not accepted")
    if parsed.is_ranged:
        raise invalid_parameter("Ranged descriptor not accepted. Maybe pass through deriveaddresses first?")
    try:
        scripts = [part.expand(0).script_pubkey for part in parsed.parts]
    except DescriptorError as error:
        raise not_found("Cannot derive script without private keys") from error
    return scripts[{1: 0, 4: 2}.get(len(scripts), 1)]


def infer(script: bytes, params: NetworkParams, known: KnownKeys | None = None, *, inner: bool = False) -> str:
    """The most telling descriptor of a script, without checksum; addr() or raw() where nothing is known of its keys."""
    known = known or KnownKeys()
    kind, solutions = classify(script)
    text: str | None = None
    if kind is ScriptType.PUBKEY and is_valid_pubkey(solutions[0]):
        text = f"pk({_key_text(solutions[0], known)})"
    elif kind is ScriptType.MULTISIG and all(is_valid_pubkey(key) for key in solutions[1:-1]):
        keys = ",".join(_key_text(key, known) for key in solutions[1:-1])
        text = f"multi({solutions[0][0]},{keys})"
    elif kind in (ScriptType.PUBKEYHASH, ScriptType.WITNESS_V0_KEYHASH):
        key = known.keys.get(solutions[0])
        if key is not None:
            text = f"{'pkh' if kind is ScriptType.PUBKEYHASH else 'wpkh'}({_key_text(key.pubkey, known)})"
    elif kind in (ScriptType.SCRIPTHASH, ScriptType.WITNESS_V0_SCRIPTHASH):
        inside = known.scripts.get(solutions[0])
        if inside is not None:
            name = "sh" if kind is ScriptType.SCRIPTHASH else "wsh"
            text = f"{name}({infer(inside, params, known, inner=True)})"
    elif kind is ScriptType.WITNESS_V1_TAPROOT:
        internal = known.taproot.get(solutions[0])
        if internal is not None:
            text = f"tr({_origin(internal)}{internal.xonly.hex()})"
        elif is_valid_pubkey(b"\x02" + solutions[0]):
            text = f"rawtr({solutions[0].hex()})"
    if text is not None:
        return text
    address = None if inner else encode_address(script, params.addresses)
    return f"addr({address})" if address is not None else f"raw({script.hex()})"


def _key_text(pubkey: bytes, known: KnownKeys) -> str:
    key = known.keys.get(hash160(pubkey))
    return f"{_origin(key) if key is not None else ''}{pubkey.hex()}"


def _origin(key: DerivedKey) -> str:
    steps = f"/{format_path(key.path)}" if key.path else ""
    return f"[{key.fingerprint.hex()}{steps}]"


def info(text: str, params: NetworkParams) -> dict[str, JSON]:
    """getdescriptorinfo."""
    parsed = parse_or_error(text, params)
    solvable = not parsed.body.startswith(("addr(", "raw("))
    out: dict[str, JSON] = {"descriptor": parsed.public_text()}
    if len(parsed.parts) > 1 and not parsed.is_combo:
        out["multipath_expansion"] = [part.to_text() for part in parsed.parts]
    out |= {
        "checksum": descriptor_checksum(parsed.body),
        "isrange": parsed.is_ranged,
        "issolvable": solvable,
        "hasprivatekeys": parsed.has_private,
    }
    return out
