"""RPC: addresses, descriptors, messages, fees: what needs no chain."""

from __future__ import annotations

import base64
import binascii

from chain.crypto.hashes import hash160, sha256, sha256d
from chain.crypto.secp256k1 import is_valid_pubkey, recover, sign_recoverable
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.serialize import var_bytes
from chain.script.addresses import AddressError, decode_address, decode_wif, encode_address
from chain.script.script import witness_program
from chain.script.standard import ScriptType, classify, multisig, p2pkh, p2sh, p2wsh
from node.rpc import descriptors
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, not_found
from node.rpc.jsonio import JSON
from node.rpc.registry import Arg, Kind, rpc
from wallet.descriptors import DescriptorError, add_checksum

_CATEGORY = "Util"
_MESSAGE_MAGIC = b"Bitcoin Signed Message:\n"


@rpc(
    "validateaddress",
    _CATEGORY,
    Arg("address", Kind.STR, help="the address"),
    help="Return information about the given bitcoin address.",
)
def validateaddress(context: RpcContext, address: str) -> JSON:
    try:
        script = decode_address(address, context.params.addresses)
    except (ValueError, UserError) as error:
        positions = list(error.positions) if isinstance(error, AddressError) else []
        return {"isvalid": False, "error_locations": positions, "error": str(error)}
    out: dict[str, JSON] = {
        "isvalid": True,
        "address": encode_address(script, context.params.addresses),
        "scriptPubKey": script.hex(),
    }
    kind, _ = classify(script)
    program = witness_program(script)
    if kind not in (ScriptType.ANCHOR, ScriptType.WITNESS_UNKNOWN):
        out["isscript"] = kind in (
            ScriptType.SCRIPTHASH,
            ScriptType.WITNESS_V0_SCRIPTHASH,
            ScriptType.WITNESS_V1_TAPROOT,
        )
    out["iswitness"] = program is not None
    if program is not None:
        out["witness_version"] = program[0]
        out["witness_program"] = program[1].hex()
    return out


@rpc(
    "deriveaddresses",
    _CATEGORY,
    Arg("descriptor", Kind.STR, help="the descriptor, with checksum"),
    Arg("range", Kind.ANY, None, help="end or [begin, end] of a ranged descriptor"),
    help="The addresses of a descriptor.",
)
def deriveaddresses(context: RpcContext, descriptor: str, range_: JSON) -> JSON:
    span = (0, 1)
    if range_ is not None:
        span = descriptors.parse_range(range_)
    parsed = descriptors.parse_or_error(descriptor, context.params, require_checksum=True)
    if not parsed.is_ranged and range_ is not None:
        raise invalid_parameter("Range should not be specified for an un-ranged descriptor")
    if parsed.is_ranged and range_ is None:
        raise invalid_parameter("Range must be specified for a ranged descriptor")
    first, last = span if parsed.is_ranged else (0, 0)
    groups = []
    parts = [parsed.parts] if parsed.is_combo else [(part,) for part in parsed.parts]
    for group in parts:
        addresses = []
        for index in range(first, last + 1):
            for part in group:
                try:
                    script = part.expand(index).script_pubkey
                except DescriptorError as error:
                    raise not_found("Cannot derive script without private keys") from error
                address = encode_address(script, context.params.addresses)
                if address is None:
                    if parsed.is_combo:
                        continue
                    raise not_found("Descriptor does not have a corresponding address")
                addresses.append(address)
        groups.append(addresses)
    return groups[0] if len(groups) == 1 else groups


@rpc("getdescriptorinfo", _CATEGORY, Arg("descriptor", Kind.STR, help="the descriptor"), help="All about a descriptor.")
def getdescriptorinfo(context: RpcContext, descriptor: str) -> JSON:
    return descriptors.info(descriptor, context.params)


@rpc(
    "createmultisig",
    _CATEGORY,
    Arg("nrequired", Kind.INT, help="how many must sign"),
    Arg("keys", Kind.ARR, help="public keys in hex"),
    Arg("address_type", Kind.STR, "legacy", help="legacy, p2sh-segwit or bech32"),
    help="A multisig address.",
)
def createmultisig(context: RpcContext, nrequired: int, keys: list[JSON], address_type: str) -> JSON:
    if address_type not in ("legacy", "p2sh-segwit", "bech32"):
        if address_type == "bech32m":
            raise not_found("createmultisig cannot create bech32m multisig addresses")
        raise not_found(f"Unknown address type '{address_type}'")
    pubkeys: list[bytes] = []
    for text in keys:
        key = _pubkey(text)
        pubkeys.append(key)
    if nrequired < 1:
        raise invalid_parameter("a multisignature address must require at least one key to redeem")
    if len(pubkeys) < nrequired:
        message = f"not enough keys supplied (got {len(pubkeys)} keys, but need at least {nrequired} to redeem)"
        raise invalid_parameter(message)
    if len(pubkeys) > 20:
        raise invalid_parameter(
            "Number of keys involved in the multisignature address creation > 20\nReduce the number"
        )
    script = multisig(nrequired, pubkeys)
    warnings: list[JSON] = []
    form = address_type
    if form != "legacy" and any(len(key) == 65 for key in pubkeys):
        form = "legacy"
        warnings.append("Unable to make chosen address type, please ensure no uncompressed public keys are present.")
    if form == "legacy" and len(script) > 520:
        raise invalid_parameter(f"redeemScript exceeds size limit: {len(script)} > 520")
    inner = f"multi({nrequired},{','.join(key.hex() for key in pubkeys)})"
    if form == "legacy":
        output, text = p2sh(hash160(script)), f"sh({inner})"
    elif form == "bech32":
        output, text = p2wsh(sha256(script)), f"wsh({inner})"
    else:
        output, text = p2sh(hash160(p2wsh(sha256(script)))), f"sh(wsh({inner}))"
    out: dict[str, JSON] = {
        "address": encode_address(output, context.params.addresses),
        "redeemScript": script.hex(),
        "descriptor": add_checksum(text),
    }
    if warnings:
        out["warnings"] = warnings
    return out


def _pubkey(text: JSON) -> bytes:
    try:
        key = bytes.fromhex(str(text))
    except ValueError:
        raise not_found(f'Pubkey "{text}" must be a hex string') from None
    if len(key) not in (33, 65):
        raise not_found(f'Pubkey "{text}" must have a length of either 33 or 65 bytes')
    if not is_valid_pubkey(key):
        raise not_found(f'Pubkey "{text}" must be cryptographically valid.')
    return key


def _message_hash(message: str) -> bytes:
    return sha256d(var_bytes(_MESSAGE_MAGIC) + var_bytes(message.encode()))


@rpc(
    "signmessagewithprivkey",
    _CATEGORY,
    Arg("privkey", Kind.STR, help="WIF"),
    Arg("message", Kind.STR, help="the text"),
    help="Sign a text with a key.",
)
def signmessagewithprivkey(context: RpcContext, privkey: str, message: str) -> JSON:
    try:
        secret, compressed = decode_wif(privkey, context.params.addresses)
    except (DecodeError, ValueError):
        raise not_found("Invalid private key") from None
    recid, signature = sign_recoverable(secret, _message_hash(message))
    return base64.b64encode(bytes([27 + recid + (4 if compressed else 0)]) + signature).decode()


@rpc(
    "verifymessage",
    _CATEGORY,
    Arg("address", Kind.STR, help="who signed"),
    Arg("signature", Kind.STR, help="base64"),
    Arg("message", Kind.STR, help="the text"),
    help="Whether a signed text is genuine.",
)
def verifymessage(context: RpcContext, address: str, signature: str, message: str) -> JSON:
    try:
        script = decode_address(address, context.params.addresses)
    except (ValueError, UserError):
        raise not_found("Invalid address") from None
    if classify(script)[0] is not ScriptType.PUBKEYHASH:
        raise RpcError(Code.TYPE_ERROR, "Address does not refer to key")
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise RpcError(Code.TYPE_ERROR, "Malformed base64 encoding") from None
    if len(raw) != 65 or not 27 <= raw[0] < 35:
        return False
    try:
        pubkey = recover((raw[0] - 27) & 3, raw[1:], _message_hash(message), compressed=bool((raw[0] - 27) & 4))
    except ValueError:
        return False
    return p2pkh(hash160(pubkey)) == script


@rpc(
    "estimatesmartfee",
    _CATEGORY,
    Arg("conf_target", Kind.INT, help="blocks, 1 to 1008"),
    Arg("estimate_mode", Kind.STR, "economical", help="unset, economical or conservative"),
    help="What fee rate to pay. This node keeps no fee statistics yet and says so.",
)
def estimatesmartfee(context: RpcContext, conf_target: int, estimate_mode: str) -> JSON:
    if not 1 <= conf_target <= 1008:
        raise invalid_parameter("Invalid conf_target, must be between 1 and 1008")
    if estimate_mode.lower() not in ("unset", "economical", "conservative"):
        message = 'Invalid estimate_mode parameter, must be one of: "unset", "economical", "conservative"'
        raise invalid_parameter(message)
    return {"errors": ["Insufficient data or no feerate found"], "blocks": conf_target}
