"""Descriptors: BIP380 checksums and keys, BIP84/86 accounts, BIP67 sorting, BIP389 multipath, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.params import network
from chain.script.addresses import encode_address
from chain.script.descriptor_checksum import INPUT_CHARSET
from wallet.descriptors import DescriptorError, add_checksum, descriptor_checksum, parse_descriptor, parse_multipath
from wallet.descriptors.checksum import strip_checksum
from wallet.keys import ExtendedPrivateKey
from wallet.mnemonic import seed_from_mnemonic
from wallet.wallet import account_descriptors

BITCOIN = network("bitcoin")
MAIN = BITCOIN.addresses
WORDS = "abandon " * 11 + "about"
KEY = "0260b2003c386519fc9eadf2b5cf124dd8eea4c4e68d5e154050a9346ea98ce600"
LONG_KEY = (
    "04a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd"
    "5b8dec5235a0fa8722476c7709c02559e3aa73aa03918ba2d492eea75abea235"
)
XPUB = "xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL"
XPRV = "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc"
WIF = "L4rK1yDtCWekvXuE6oXD9jCYfFNV2cWRpVuPLBcCU2z8TrisoyY1"


def script(text: str, index: int = 0) -> str:
    return parse_descriptor(text, MAIN).expand(index).script_pubkey.hex()


def address(text: str, index: int = 0) -> str | None:
    return encode_address(bytes.fromhex(script(text, index)), MAIN)


def test_checksum_vectors() -> None:
    assert add_checksum("raw(deadbeef)") == "raw(deadbeef)#89f8spxm"
    assert strip_checksum("raw(deadbeef)#89f8spxm") == "raw(deadbeef)"
    assert strip_checksum("raw(deadbeef)") == "raw(deadbeef)"
    for bad in (
        "raw(deadbeef)#",
        "raw(deadbeef)#89f8spxmx",
        "raw(deadbeef)#89f8spx",
        "raw(deedbeef)#89f8spxm",
        "raw(deedbeef)##9f8spxm",
        "raw(Ü)#00000000",
    ):
        with pytest.raises(DescriptorError):
            strip_checksum(bad)
    with pytest.raises(DescriptorError, match="89f8spxm"):
        strip_checksum("raw(deadbeef)", required=True)


@given(st.text(alphabet=INPUT_CHARSET.replace("#", ""), min_size=1, max_size=80), st.data())
@settings(max_examples=60, deadline=None)
def test_one_changed_character_is_always_found(body: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.sampled_from([c for c in INPUT_CHARSET if c not in ("#", body[position])]))
    assert descriptor_checksum(body[:position] + other + body[position + 1 :]) != descriptor_checksum(body)


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        f"[deadbeef/0h/0h/0h]{KEY}",
        f"[deadbeef/0'/0h/0']{KEY}",
        WIF,
        XPUB,
        f"[deadbeef/0h/1h/2h]{XPUB}/3/4/5/*",
        XPRV,
        f"[deadbeef/0h/1h/2h]{XPRV}/3h/4h/5h/*h",
        f"{XPRV}/3h/4h/5h/*",
    ],
)
def test_valid_keys(key: str) -> None:
    descriptor = parse_descriptor(f"wpkh({key})", MAIN)
    assert descriptor.is_ranged == ("*" in key)
    again = parse_descriptor(descriptor.to_text(private=True), MAIN, require_checksum=True)
    assert again.expand(7) == descriptor.expand(7)
    public = parse_descriptor(descriptor.to_text(), MAIN)
    assert not public.has_private
    if "*h" not in key:
        assert public.expand(7).script_pubkey == descriptor.expand(7).script_pubkey
        assert public.expand(7).keys[0].path == descriptor.expand(7).keys[0].path


def test_uncompressed_keys_are_for_legacy_only() -> None:
    assert parse_descriptor(f"pkh({LONG_KEY})", MAIN).expand().keys[0].pubkey.hex() == LONG_KEY
    assert parse_descriptor("pkh(5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss)", MAIN).has_private
    for text in (f"wpkh({LONG_KEY})", f"sh(wpkh({LONG_KEY}))", f"wsh(multi(1,{LONG_KEY}))", f"tr({LONG_KEY})"):
        with pytest.raises(DescriptorError, match="uncompressed"):
            parse_descriptor(text, MAIN)


@pytest.mark.parametrize(
    "key",
    [
        f"[deadbeef/0h/0h/0h/*]{KEY}",
        f"[deadbeef/0h/0h/0h/]{KEY}",
        f"[deadbef/0h/0h/0h]{KEY}",
        f"[deadbeeef/0h/0h/0h]{KEY}",
        f"[deadbeef/0f/0f/0f]{KEY}",
        f"[deadbeef/0H/0H/0H]{KEY}",
        f"[deadbeef/-0/-0/-0]{KEY}",
        f"{WIF}/0",
        f"{WIF}/*",
        f"{XPRV}/2147483648",
        f"{XPRV}/1aa",
        f"[aaaaaaaa][aaaaaaaa]{XPRV}/2147483647'/0",
        f"aaaaaaaa]{XPRV}/2147483647'/0",
        f"[gaaaaaaa]{XPRV}/2147483647'/0",
        "[deadbeef]",
        "",
        KEY[:-2],
        "02" + "ff" * 32,
        XPUB[:-1] + "M",
        f"{XPUB}/*/0",
    ],
)
def test_invalid_keys(key: str) -> None:
    with pytest.raises(DescriptorError):
        parse_descriptor(f"pkh({key})", MAIN)


@pytest.mark.parametrize("steps", ["/3h/4h/5h/*", "/*h"])
def test_hardened_steps_below_an_xpub_parse_but_cannot_expand(steps: str) -> None:
    descriptor = parse_descriptor(f"wpkh({XPUB}{steps})", MAIN)
    with pytest.raises(DescriptorError, match="private key"):
        descriptor.expand(0)


def test_bip84_account() -> None:
    master = ExtendedPrivateKey.from_seed(seed_from_mnemonic(WORDS))
    receive, change = account_descriptors(master, "bip84", BITCOIN)
    assert receive.startswith(
        "wpkh([73c5da0a/84h/0h/0h]xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V/0/*)#"
    )
    assert address(receive, 0) == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    assert address(receive, 1) == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"
    assert address(change, 0) == "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el"


def test_bip86_account() -> None:
    master = ExtendedPrivateKey.from_seed(seed_from_mnemonic(WORDS))
    receive, change = account_descriptors(master, "bip86", BITCOIN)
    assert address(receive, 0) == "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    assert address(receive, 1) == "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"
    assert address(change, 0) == "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"
    expansion = parse_descriptor(receive, MAIN).expand(0)
    assert expansion.internal_key is not None
    assert expansion.internal_key.hex() == "cc8a4bc64d897bddc5fbc2f670f7a8ba0b386779106cf1223c6fc5d7cd6fc115"


def test_coin_types_keep_chains_apart() -> None:
    master = ExtendedPrivateKey.from_seed(seed_from_mnemonic(WORDS))
    for name, coin_type in (("bitcoin", 0), ("pickaxe", 1885954923), ("dev", 1), ("regtest", 1), ("testnet4", 1)):
        assert f"[73c5da0a/84h/{coin_type}h/0h]" in account_descriptors(master, "bip84", network(name))[0]


def test_fixed_scripts() -> None:
    assert script("raw(51)") == "51"
    assert script("raw()") == ""
    assert address("addr(1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2)") == "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"
    assert script(f"pk({KEY})") == f"21{KEY}ac"
    assert script(f"tr({KEY[2:]})") == script(f"tr({KEY})")
    assert script(f"rawtr({KEY[2:]})") == f"5120{KEY[2:]}"
    with pytest.raises(DescriptorError, match="32-byte"):
        parse_descriptor(f"wpkh({KEY[2:]})", MAIN)


def test_bip67_vectors(vectors: Path) -> None:
    regtest = network("regtest").addresses
    for case in json.loads((vectors / "core" / "rpc_bip67.json").read_text()):
        text = f"sh(sortedmulti(2,{','.join(case['keys'])}))"
        expansion = parse_descriptor(text, regtest).expand()
        assert expansion.redeem_script is not None
        assert expansion.redeem_script.hex() == case["script"]
        assert encode_address(expansion.script_pubkey, regtest) == case["address"]


def test_witness_multisig() -> None:
    expansion = parse_descriptor(f"wsh(multi(1,{KEY},{XPUB}/1/*))", MAIN).expand(5)
    assert expansion.witness_script is not None
    assert expansion.witness_script.startswith(bytes.fromhex(f"5121{KEY}21"))
    assert expansion.redeem_script is None
    nested = parse_descriptor(f"sh(wsh(multi(1,{KEY},{XPUB}/1/*)))", MAIN).expand(5)
    assert nested.witness_script == expansion.witness_script
    assert nested.redeem_script == expansion.script_pubkey


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wpkh", "script expression"),
        ("wpkh(", "script expression"),
        ("combo(x)", "not supported"),
        (f"sh(sh(pkh({KEY})))", "not allowed"),
        (f"wsh(wpkh({KEY}))", "not allowed"),
        (f"wsh(wsh(pkh({KEY})))", "not allowed"),
        (f"sh(tr({KEY}))", "not allowed"),
        (f"tr({KEY},pk({KEY}))", "one key"),
        (f"multi(0,{KEY})", "threshold"),
        (f"multi(2,{KEY})", "threshold"),
        (f"multi(a,{KEY})", "threshold"),
        (f"multi(1,{','.join([KEY] * 4)})", "1 to 3 keys"),
        (f"wsh(multi(1,{','.join([KEY] * 21)}))", "1 to 20 keys"),
        (f"sh(multi(1,{','.join([KEY] * 16)}))", "520"),
        ("raw(5)", "hex"),
        ("addr(tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx)", "address"),
        (f"wpkh({XPUB}/<0;1>/*)", "multipath"),
    ],
)
def test_errors_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(DescriptorError, match=message):
        parse_descriptor(text, MAIN)


def test_multipath() -> None:
    both = parse_multipath(f"wpkh([deadbeef/84h]{XPUB}/<0;1>/*)", MAIN)
    assert [d.expand(3) for d in both] == [
        parse_descriptor(f"wpkh([deadbeef/84h]{XPUB}/{i}/*)", MAIN).expand(3) for i in (0, 1)
    ]
    two_keys = parse_multipath(f"wsh(multi(2,{XPUB}/<0;1>/*,{XPRV}/<2h;3>/*))", MAIN)
    assert two_keys[0].to_text(private=True) == add_checksum(f"wsh(multi(2,{XPUB}/0/*,{XPRV}/2h/*))")
    assert len(parse_multipath(f"wpkh({XPUB}/*)", MAIN)) == 1


@pytest.mark.parametrize(
    "steps", ["/<0>/*", "/<0;0>/*", "/<0;1>/<2;3>/*", "/<0;>/*", "/<0;a>/*", "<0;1>/*", "/1<0;1>/*", "/<0;1/*"]
)
def test_bad_multipath(steps: str) -> None:
    with pytest.raises(DescriptorError):
        parse_multipath(f"wpkh({XPUB}{steps})", MAIN)


def test_multipath_lengths_must_match() -> None:
    with pytest.raises(DescriptorError, match="same number"):
        parse_multipath(f"wsh(multi(1,{XPUB}/<0;1>/*,{XPUB}/<0;1;2>/*))", MAIN)


@given(st.text(alphabet=INPUT_CHARSET, max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_parses_or_is_one_clear_error(text: str) -> None:
    message = ""
    try:
        parse_descriptor(text, MAIN)
    except DescriptorError as error:
        message = str(error)
    assert "\n" not in message
