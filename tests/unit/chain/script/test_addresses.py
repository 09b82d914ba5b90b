"""Standard outputs, addresses and keys, with Core's words for what is wrong."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.params import network
from chain.primitives.errors import DecodeError
from chain.script import base58, bech32, standard
from chain.script.addresses import (
    AddressError,
    AddressPrefixes,
    decode_address,
    decode_wif,
    encode_address,
    encode_wif,
)
from chain.script.standard import ScriptType, classify
from tests.support.scripts import assemble

REGTEST = AddressPrefixes(111, 196, 239, b"\x04\x35\x87\xcf", b"\x04\x35\x83\x94", "bcrt")
MAIN = AddressPrefixes(0, 5, 128, b"\x04\x88\xb2\x1e", b"\x04\x88\xad\xe4", "bc")
KEY = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
LONG_KEY = bytes.fromhex(
    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)
UNKNOWN = "Invalid or unsupported Segwit (Bech32) or Base58 encoding."
BASE58_CHECKSUM = "Invalid checksum or length of Base58 address (P2PKH or P2SH)"


@pytest.mark.parametrize(
    ("text", "message", "positions"),
    [
        (
            "bcrt1s0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav25430mtr",
            "Invalid Bech32 address program size (41 bytes)",
            [],
        ),
        ("bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7k7grplx", UNKNOWN, []),
        (
            "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqdmchcc",
            "Version 1+ witness address must use Bech32m checksum",
            [],
        ),
        (
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7k35mrzd",
            "Version 0 witness address must use Bech32 checksum",
            [],
        ),
        (
            "bcrt130xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqynjegk",
            "Invalid Bech32 address witness version",
            [],
        ),
        (
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kqqq5k3my",
            "Invalid Bech32 v0 address program size (21 bytes), per BIP141",
            [],
        ),
        ("bcrt1q" + "049edschfnwystcqnsvyfpj23mpsg3jcedq9xv" * 3, "Bech32 string too long", list(range(90, 120))),
        ("bcrt1q049edschfnwystcqnsvyfpj23mpsg3jcedq9xv", "Invalid Bech32 checksum", [9]),
        ("bcrt1qax9suht3qv95sw33xavx8crpxduefdrsvgsklu", "Invalid Bech32 checksum", [22, 43]),
        ("BCRT1QPLMTZKC2XHARPPZDLNPAQL78RSHJ68U32RAH7R", "Invalid Bech32 checksum", [38]),
        ("bcrtq049ldschfnwystcqnsvyfpj23mpsg3jcedq9xv", "Missing separator", []),
        ("bcrt1q04oldschfnwystcqnsvyfpj23mpsg3jcedq9xv", "Invalid Base 32 character", [8]),
        ("bcrt1qdg3myrgvzw7ml8q0ejxhlkyxn7vl9r56yzkfgvzclrf4hkpx9yfqhpsuks", "Invalid Bech32 checksum", [19, 30]),
        ("bcrt1ptmp74ayg7p24uslctssvjm06q5phz4yrxucgnv", "Invalid Bech32 checksum", [5]),
        ("17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhem", "Invalid or unsupported Base58-encoded address.", []),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJJfn", BASE58_CHECKSUM, []),
        ("2VKf7XKMrp4bVNVmuRbyCewkP8FhGLP2E54LHDPakr9Sq5mtU2", BASE58_CHECKSUM, []),
        ("asfah14i8fajz0123f", UNKNOWN, []),
        ("1q049ldschfnwystcqnsvyfpj23mpsg3jcedq9xv", UNKNOWN, []),
        ("", BASE58_CHECKSUM, []),  # nothing is valid base58 of nothing
        ("bcrt1Qw508d6qejxtdg4y5r3zarvary0c5xw7k35mrzd", "Invalid character or mixed case", [5]),
    ],
)
def test_what_is_wrong_with_an_address(text: str, message: str, positions: list[int]) -> None:
    """The cases and texts of Core's rpc_invalid_address_message."""
    with pytest.raises(AddressError) as caught:
        decode_address(text, REGTEST)
    assert str(caught.value) == message
    assert caught.value.positions == positions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bc1gmk9yu", "Empty Bech32 data section"),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
            "Invalid padding in Bech32 data section",
        ),
        ("bc1rw5uspcuh", "Version 1+ witness address must use Bech32m checksum"),
        ("bc1pw5dgrnzv", "Invalid Bech32 address program size (1 byte)"),
        ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "Invalid Bech32 v0 address program size (16 bytes), per BIP141"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", UNKNOWN),
    ],
)
def test_what_is_wrong_with_a_main_address(text: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        decode_address(text, MAIN)
    assert str(caught.value) == message


def test_an_address_of_another_network_with_the_same_beginning() -> None:
    """ "bcrt" begins with "bc": main refuses it for its prefix, as Core does."""
    text = encode_address(standard.p2wpkh(bytes(20)), REGTEST)
    assert text is not None
    with pytest.raises(AddressError, match=r"prefix for Segwit \(Bech32\) address \(expected bc, got bcrt\)"):
        decode_address(text, MAIN)


@pytest.mark.parametrize("name", ["pickaxe", "pickaxe-test", "dev", "bitcoin", "testnet4", "regtest"])
def test_addresses_round_trip(rng: random.Random, name: str) -> None:
    prefixes = network(name).addresses
    scripts = [
        standard.p2pkh(rng.randbytes(20)),
        standard.p2sh(rng.randbytes(20)),
        standard.p2wpkh(rng.randbytes(20)),
        standard.p2wsh(rng.randbytes(32)),
        standard.p2tr(rng.randbytes(32)),
        standard.ANCHOR_SCRIPT,
        *(standard.witness_output(rng.randint(1, 16), rng.randbytes(size)) for size in (2, 20, 33, 40)),
    ]
    for script in scripts:
        text = encode_address(script, prefixes)
        assert text is not None
        assert decode_address(text, prefixes) == script
        if text.startswith(prefixes.bech32_hrp + "1"):
            assert decode_address(text.upper(), prefixes) == script
        # One wrong character is found in Bech32, and refused in base58.
        place = rng.randrange(len(prefixes.bech32_hrp) + 1, len(text))
        other = rng.choice([c for c in bech32.CHARSET if c != text[place].lower()])
        with pytest.raises(AddressError) as caught:
            decode_address(text[:place] + other + text[place + 1 :], prefixes)
        if text.startswith(prefixes.bech32_hrp + "1"):
            assert caught.value.positions == [place]
    assert encode_address(standard.p2pk(KEY), prefixes) is None
    assert encode_address(b"\0\x03abc", prefixes) is None


def test_two_wrong_characters_are_found(rng: random.Random) -> None:
    found = 0
    for _ in range(10):
        text = encode_address(standard.p2tr(rng.randbytes(32)), MAIN) or ""
        places = sorted(rng.sample(range(3, len(text)), 2))
        letters = list(text)
        for place in places:
            letters[place] = rng.choice([c for c in bech32.CHARSET if c != text[place]])
        with pytest.raises(bech32.Bech32Error) as caught:
            bech32.decode("".join(letters))
        assert len(caught.value.positions) <= 2
        found += caught.value.positions == places
    assert found >= 8  # by chance (1 in 650), two errors in Bech32m are one or two others away from Bech32


@given(st.binary(max_size=60))
def test_base58_and_words_round_trip(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data
    assert base58.decode(" \t" + base58.encode(data) + "\n") == data
    assert base58.decode_check(base58.encode_check(data)) == data
    assert bech32.from_words(bech32.to_words(data)) == data


def test_base58_limits() -> None:
    text = base58.encode(b"\xff" * 50)
    assert base58.decode(text, 50) == b"\xff" * 50
    for size in (49, 10, 0):
        with pytest.raises(DecodeError):
            base58.decode(text, size)
    with pytest.raises(DecodeError):
        base58.decode("z" * 1_000_000)  # refused before the costly conversion
    with pytest.raises(DecodeError):
        base58.decode("1" * 22, 21)
    for wrong in ("0", "O", "I", "l", "a b", "\0", "é"):
        with pytest.raises(DecodeError):
            base58.decode(wrong)
    with pytest.raises(DecodeError):
        base58.decode_check("1")


@pytest.mark.parametrize("words", [[1], [0, 0, 1], [31, 31, 31], [0]])
def test_padding_of_words(words: list[int]) -> None:
    with pytest.raises(DecodeError):
        bech32.from_words(words)


def test_wif(rng: random.Random) -> None:
    secret = bytes(31) + b"\x01"
    assert encode_wif(secret, MAIN) == "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn"
    assert encode_wif(secret, MAIN, compressed=False) == "5HpHagT65TZzG1PH3CSu63k8DbpvD8s5ip4nEB3kEsreAnchuDf"
    assert decode_wif("5HpHagT65TZzG1PH3CSu63k8DbpvD8s5ip4nEB3kEsreAnchuDf", MAIN) == (secret, False)
    with pytest.raises(ValueError, match="32 bytes"):
        encode_wif(b"short", MAIN)
    bad = [
        base58.encode_check(b"\x80" + bytes(32)),  # zero is no key
        base58.encode_check(b"\x80" + b"\xff" * 32),
        base58.encode_check(b"\x80" + secret + b"\x02"),
        base58.encode_check(b"\x81" + secret),
        encode_wif(secret, REGTEST),
        "5HpHagT65TZzG1PH3CSu63k8DbpvD8s5ip4nEB3kEsreAnchuDg",
        "",
    ]
    for text in bad:
        with pytest.raises(DecodeError, match="Invalid private key encoding"):
            decode_wif(text, MAIN)


@pytest.mark.parametrize(
    ("script", "kind", "parts"),
    [
        (standard.p2pk(KEY), ScriptType.PUBKEY, [KEY]),
        (standard.p2pk(LONG_KEY), ScriptType.PUBKEY, [LONG_KEY]),
        (standard.p2pkh(bytes(20)), ScriptType.PUBKEYHASH, [bytes(20)]),
        (standard.p2sh(bytes(20)), ScriptType.SCRIPTHASH, [bytes(20)]),
        (standard.p2wpkh(bytes(20)), ScriptType.WITNESS_V0_KEYHASH, [bytes(20)]),
        (standard.p2wsh(bytes(32)), ScriptType.WITNESS_V0_SCRIPTHASH, [bytes(32)]),
        (standard.p2tr(bytes(32)), ScriptType.WITNESS_V1_TAPROOT, [bytes(32)]),
        (standard.ANCHOR_SCRIPT, ScriptType.ANCHOR, []),
        (standard.witness_output(16, b"ab"), ScriptType.WITNESS_UNKNOWN, [b"\x10", b"ab"]),
        (b"\0\x03abc", ScriptType.NONSTANDARD, []),
        (standard.nulldata(b"hello"), ScriptType.NULLDATA, []),
        (b"\x6a", ScriptType.NULLDATA, []),
        (b"\x6a\x61", ScriptType.NONSTANDARD, []),
        (b"\x6a\x05", ScriptType.NONSTANDARD, []),
        (standard.multisig(1, [KEY, LONG_KEY]), ScriptType.MULTISIG, [b"\x01", KEY, LONG_KEY, b"\x02"]),
        (standard.multisig(17, [KEY] * 20), ScriptType.MULTISIG, [b"\x11", *[KEY] * 20, b"\x14"]),
        (assemble("2") + b"\x21" + KEY + assemble("1 CHECKMULTISIG"), ScriptType.NONSTANDARD, []),
        (assemble("0") + b"\x21" + KEY + assemble("1 CHECKMULTISIG"), ScriptType.NONSTANDARD, []),
        (assemble("1") + b"\x21" + KEY + assemble("2 CHECKMULTISIG"), ScriptType.NONSTANDARD, []),
        (assemble("1") + b"\x21" + KEY + assemble("0x01 0x01 CHECKMULTISIG"), ScriptType.NONSTANDARD, []),
        (assemble("1") + b"\x21" + KEY + assemble("1 CHECKMULTISIG CHECKMULTISIG"), ScriptType.NONSTANDARD, []),
        (b"\xae", ScriptType.NONSTANDARD, []),
        (b"\x51\xae", ScriptType.NONSTANDARD, []),
        (b"\x21" + b"\x05" + bytes(32) + b"\xac", ScriptType.NONSTANDARD, []),
        (b"", ScriptType.NONSTANDARD, []),
    ],
)
def test_classification(script: bytes, kind: ScriptType, parts: list[bytes]) -> None:
    assert classify(script) == (kind, parts)


def test_builders_refuse_wrong_sizes() -> None:
    for builder in (standard.p2pkh, standard.p2sh, standard.p2wpkh, standard.p2wsh, standard.p2tr):
        with pytest.raises(ValueError, match="bytes wanted"):
            builder(b"short")
    for required, keys in ((0, [KEY]), (2, [KEY]), (1, []), (1, [KEY] * 21)):
        with pytest.raises(ValueError, match="multisig"):
            standard.multisig(required, keys)
    with pytest.raises(ValueError, match="2 to 40"):
        standard.witness_output(1, b"a")
