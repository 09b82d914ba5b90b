"""Addresses and WIF keys: text for output scripts and secrets, with each network's prefixes.

Errors carry the texts of Bitcoin Core's ``key_io.cpp``, which ``validateaddress`` and the wallet RPCs print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.primitives.errors import DecodeError
from chain.script import base58, bech32
from chain.script.script import is_p2sh, witness_program
from chain.script.standard import p2pkh, p2sh, witness_output

MAX_WITNESS_PROGRAM = 40


@dataclass(frozen=True)
class AddressPrefixes:
    """What marks a network's addresses and keys: base58 version bytes, BIP32 versions, and the Bech32 prefix (lower
    case).
    """

    p2pkh: int
    p2sh: int
    wif: int
    bip32_public: bytes
    bip32_private: bytes
    bech32_hrp: str


class AddressError(DecodeError):
    """Not an address of this network. The text is Core's; `positions` are the characters that seem wrong, if they can
    be told.
    """

    def __init__(self, message: str, positions: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.positions = list(positions)


def encode_address(script_pubkey: bytes, prefixes: AddressPrefixes) -> str | None:
    """The address of an output script, or None if its kind has none (bare keys, multisig, data, odd scripts)."""
    if len(script_pubkey) == 25 and script_pubkey[:3] == b"\x76\xa9\x14" and script_pubkey[23:] == b"\x88\xac":
        return base58.encode_check(bytes((prefixes.p2pkh,)) + script_pubkey[3:23])
    if is_p2sh(script_pubkey):
        return base58.encode_check(bytes((prefixes.p2sh,)) + script_pubkey[2:22])
    witness = witness_program(script_pubkey)
    if witness is None or (witness[0] == 0 and len(witness[1]) not in (20, 32)):
        return None
    version, program = witness
    encoding = bech32.Encoding.BECH32M if version else bech32.Encoding.BECH32
    return bech32.encode(encoding, prefixes.bech32_hrp, [version, *bech32.to_words(program)])


def decode_address(text: str, prefixes: AddressPrefixes) -> bytes:
    """The output script that an address stands for. AddressError (a ValueError) with Core's text otherwise."""
    if text[: len(prefixes.bech32_hrp)].lower() == prefixes.bech32_hrp:
        return _decode_bech32(text, prefixes)
    try:
        data = base58.decode_check(text, 21)
    except DecodeError:
        try:
            base58.decode(text, 100)
        except DecodeError:
            raise AddressError("Invalid or unsupported Segwit (Bech32) or Base58 encoding.") from None
        raise AddressError("Invalid checksum or length of Base58 address (P2PKH or P2SH)") from None
    if len(data) == 21 and data[0] == prefixes.p2pkh:
        return p2pkh(data[1:])
    if len(data) == 21 and data[0] == prefixes.p2sh:
        return p2sh(data[1:])
    if data[:1] in (bytes((prefixes.p2pkh,)), bytes((prefixes.p2sh,))):
        raise AddressError("Invalid length for Base58 address (P2PKH or P2SH)")
    raise AddressError("Invalid or unsupported Base58-encoded address.")


def _decode_bech32(text: str, prefixes: AddressPrefixes) -> bytes:
    try:
        encoding, hrp, words = bech32.decode(text)
    except bech32.Bech32Error as error:
        raise AddressError(str(error), error.positions) from None
    if not words:
        raise AddressError("Empty Bech32 data section")
    if hrp != prefixes.bech32_hrp:
        expected = prefixes.bech32_hrp
        raise AddressError(
            f"Invalid or unsupported prefix for Segwit (Bech32) address (expected {expected}, got {hrp})."
        )
    version = words[0]
    if version == 0 and encoding is not bech32.Encoding.BECH32:
        raise AddressError("Version 0 witness address must use Bech32 checksum")
    if version != 0 and encoding is not bech32.Encoding.BECH32M:
        raise AddressError("Version 1+ witness address must use Bech32m checksum")
    try:
        program = bech32.from_words(words[1:])
    except DecodeError as error:
        raise AddressError(str(error)) from None
    size = f"({len(program)} {'byte' if len(program) == 1 else 'bytes'})"
    if version == 0 and len(program) not in (20, 32):
        raise AddressError(f"Invalid Bech32 v0 address program size {size}, per BIP141")
    if version > 16:
        raise AddressError("Invalid Bech32 address witness version")
    if not 2 <= len(program) <= MAX_WITNESS_PROGRAM:
        raise AddressError(f"Invalid Bech32 address program size {size}")
    return witness_output(version, program)


def encode_wif(secret: bytes, prefixes: AddressPrefixes, *, compressed: bool = True) -> str:
    """A 32-byte secret as wallet import format; `compressed` says which public key it stands for."""
    if len(secret) != 32:
        raise ValueError(f"a secret key has 32 bytes, not {len(secret)}")
    return base58.encode_check(bytes((prefixes.wif,)) + secret + (b"\x01" if compressed else b""))


def decode_wif(text: str, prefixes: AddressPrefixes) -> tuple[bytes, bool]:
    """(secret of 32 bytes, whether its public key is compressed). DecodeError if malformed, of another network or out
    of range.
    """
    from chain.crypto.secp256k1 import is_valid_secret

    try:
        data = base58.decode_check(text, 34)
    except DecodeError:
        raise DecodeError("Invalid private key encoding") from None
    compressed = len(data) == 34 and data[33] == 1
    if not (len(data) == 33 or compressed) or data[0] != prefixes.wif or not is_valid_secret(data[1:33]):
        raise DecodeError("Invalid private key encoding")
    return data[1:33], compressed
