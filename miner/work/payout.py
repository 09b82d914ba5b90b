"""Where the block reward goes: an address of the network, or a descriptor that stands for one script."""

from __future__ import annotations

import re

from chain.params import NetworkParams
from chain.primitives.errors import DecodeError, UserError
from chain.script.addresses import decode_address
from chain.script.descriptor_checksum import descriptor_checksum

_DESCRIPTOR = re.compile(r"(addr|raw)\(([^()]*)\)(?:#([^#]*))?")


def payout_script(text: str, params: NetworkParams) -> bytes:
    """The scriptPubKey to pay: from an address, addr(ADDRESS) or raw(HEX), the last two with or without checksum.
    Raises UserError."""
    text = text.strip()
    match = _DESCRIPTOR.fullmatch(text)
    if match is None:
        if "(" in text:
            kind = text.split("(", 1)[0]
            raise UserError(f"'{kind}(…)' cannot be mined to: give an address, addr(ADDRESS) or raw(HEX SCRIPT)")
        return _address_script(text, params)
    kind, body, checksum = match.groups()
    if checksum is not None and checksum != _checksum(f"{kind}({body})"):
        raise UserError(f"the descriptor's checksum '{checksum[:16]}' is wrong: copy it again, or leave '#…' off")
    if kind == "addr":
        return _address_script(body, params)
    try:
        script = bytes.fromhex(body)
    except ValueError:
        script = b""
    if not script:
        raise UserError(f"raw({body[:40]}) does not hold a script in hexadecimal")
    return script


def _checksum(descriptor: str) -> str:
    try:
        return descriptor_checksum(descriptor)
    except DecodeError as error:
        raise UserError(f"{error}") from None


def _address_script(address: str, params: NetworkParams) -> bytes:
    try:
        return decode_address(address, params.addresses)
    except DecodeError as error:
        raise UserError(f"'{address[:100]}' is not an address of network '{params.name}': {error}") from None
