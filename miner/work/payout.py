"""Where the block reward goes: an address of the network, or a descriptor that stands for one script."""

from __future__ import annotations

import re

from chain.params import NetworkParams
from chain.primitives.errors import DecodeError, UserError
from chain.script.addresses import decode_address

_DESCRIPTOR = re.compile(r"(addr|raw)\(([^()]*)\)(?:#([^#]*))?")
# BIP380: the characters a descriptor may hold, in an order that gives each a 5-bit symbol and a group, and the
# checksum's alphabet
_INPUT_CHARSET = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
_CHECKSUM_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)


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
    if checksum is not None and checksum != descriptor_checksum(f"{kind}({body})"):
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


def descriptor_checksum(descriptor: str) -> str:
    """The eight characters that follow '#' (BIP380); UserError for characters no descriptor has."""
    symbols: list[int] = []
    groups: list[int] = []
    for character in descriptor:
        position = _INPUT_CHARSET.find(character)
        if position < 0:
            raise UserError(f"a descriptor cannot hold the character {character!r}")
        symbols.append(position & 31)
        groups.append(position >> 5)
        if len(groups) == 3:
            symbols.append(groups[0] * 9 + groups[1] * 3 + groups[2])
            groups = []
    if len(groups) == 1:
        symbols.append(groups[0])
    elif len(groups) == 2:
        symbols.append(groups[0] * 3 + groups[1])
    remainder = _polymod([*symbols, *[0] * 8]) ^ 1
    return "".join(_CHECKSUM_CHARSET[remainder >> 5 * (7 - index) & 31] for index in range(8))


def _polymod(symbols: list[int]) -> int:
    state = 1
    for symbol in symbols:
        top = state >> 35
        state = (state & 0x7FFFFFFFF) << 5 ^ symbol
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= generator
    return state


def _address_script(address: str, params: NetworkParams) -> bytes:
    try:
        return decode_address(address, params.addresses)
    except DecodeError as error:
        raise UserError(f"'{address[:100]}' is not an address of network '{params.name}': {error}") from None
