"""Descriptors as RPC uses them."""

from __future__ import annotations

from typing import Any

import pytest

from chain.params import network
from chain.script.addresses import decode_address
from chain.script.standard import p2wpkh
from node.rpc import descriptors
from node.rpc.errors import Code, RpcError
from wallet.descriptors import descriptor_checksum

REGTEST = network("regtest")
TPUB = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B"
COMPRESSED = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
UNCOMPRESSED = (
    "0408ef68c46d20596cc3f6ddf7c8794f71913add807f1dc55949fa805d764d191c"
    "0b7ce6894c126fce0babc6663042f3dde9b0cf76467ea315514e5a6731149c67"
)


def test_a_scan_object_names_the_key_it_found() -> None:
    """The descriptor text is Core's (rpc_scantxoutset)."""
    found = descriptors.scan_object({"desc": f"combo({TPUB}/1/1/*)", "range": [1500, 1500]}, REGTEST)
    key = "[0c5f9a1e/1/1/1500]03832901c250025da2aebae2bfb38d5c703a57ab66ad477f9c578bfbcd78abca6f"
    assert f"pkh({key})#vchwd07g" in found.values()
    assert len(found) == 4
    assert {text.partition("(")[0] for text in found.values()} == {"pk", "pkh", "wpkh", "sh"}


def test_combo_of_an_uncompressed_key_has_two_scripts() -> None:
    parsed = descriptors.parse(f"combo({UNCOMPRESSED})", REGTEST)
    assert len(parsed.parts) == 2
    assert descriptors.single_script(parsed) == decode_address("mkc9STceoCcjoXEXe6cm66iJbmjM6zR9B2", REGTEST.addresses)


def test_combo_of_a_compressed_key_pays_to_p2wpkh() -> None:
    script = descriptors.output_script(f"combo({COMPRESSED})", REGTEST)
    assert script == decode_address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", REGTEST.addresses)
    assert script == p2wpkh(script[2:])


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("1234", Code.INVALID_ADDRESS_OR_KEY, "Invalid address or descriptor"),
        (f"pkh({TPUB}/0/*)", Code.INVALID_PARAMETER, "Ranged descriptor not accepted."),
        (f"pkh({TPUB}/0'/0)", Code.INVALID_ADDRESS_OR_KEY, "Cannot derive script without private keys"),
        (f"pkh({TPUB}/<0;1>)", Code.INVALID_PARAMETER, "Multipath descriptor not accepted"),
    ],
)
def test_outputs_that_cannot_be_paid_to(text: str, code: Code, message: str) -> None:
    with pytest.raises(RpcError) as caught:
        descriptors.output_script(text, REGTEST)
    assert caught.value.code is code
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "End of range is too high"),
        ([-1, 10], "Range should be greater or equal than 0"),
        ([2, 1], "Range specified as [begin,end] must not have begin after end"),
        ([0, 1_000_001], "Range is too large"),
        ([0, 1, 2], "Range must be specified as end or as [begin,end]"),
        ("5", "Range must be specified as end or as [begin,end]"),
    ],
)
def test_ranges(value: Any, message: str) -> None:
    with pytest.raises(RpcError) as caught:
        descriptors.scan_object({"desc": "x", "range": value}, REGTEST)
    assert caught.value.message == message


def test_scripts_without_a_known_key_are_named_by_address_or_hex() -> None:
    anchor = bytes.fromhex("51024e73")
    assert descriptors.infer(anchor, REGTEST).startswith("addr(bcrt1p")
    assert descriptors.infer(b"\x55", REGTEST) == "raw(55)"
    key = bytes.fromhex(COMPRESSED)
    assert descriptors.infer(b"\x21" + key + b"\xac", REGTEST) == f"pk({COMPRESSED})"
    assert descriptors.infer(b"\x51\x20" + key[1:], REGTEST) == f"rawtr({COMPRESSED[2:]})"


def test_descriptor_info() -> None:
    info = descriptors.info(f"wpkh({COMPRESSED})", REGTEST)
    assert info["checksum"] == descriptor_checksum(f"wpkh({COMPRESSED})")
    assert info == {**info, "isrange": False, "issolvable": True, "hasprivatekeys": False}
    assert descriptors.info("raw(55)", REGTEST)["issolvable"] is False
