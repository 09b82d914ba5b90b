"""Payout texts: addresses and the two descriptors that stand for one script."""

from __future__ import annotations

import pytest

from chain.params import NETWORKS
from chain.primitives.errors import UserError
from chain.script.addresses import encode_address
from miner.work.payout import payout_script

REGTEST = NETWORKS["regtest"]
SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


@pytest.mark.parametrize("text", [ADDRESS, f" {ADDRESS}\n", f"addr({ADDRESS})", f"raw({SCRIPT.hex()})"])
def test_every_way_to_name_a_script(text: str) -> None:
    assert payout_script(text, REGTEST) == SCRIPT


def test_the_checksum_is_bip380s() -> None:
    assert payout_script("raw(deadbeef)#89f8spxm", REGTEST) == bytes.fromhex("deadbeef")


@pytest.mark.parametrize("position", range(8))
def test_a_wrong_checksum_is_refused(position: int) -> None:
    checksum = list("89f8spxm")
    checksum[position] = "q" if checksum[position] != "q" else "p"
    with pytest.raises(UserError, match="checksum"):
        payout_script(f"raw(deadbeef)#{''.join(checksum)}", REGTEST)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_addresses_of_other_networks_are_refused(network: str) -> None:
    address = encode_address(SCRIPT, NETWORKS[network].addresses)
    assert address is not None
    assert payout_script(address, NETWORKS[network]) == SCRIPT
    if NETWORKS[network].addresses.bech32_hrp != REGTEST.addresses.bech32_hrp:
        with pytest.raises(UserError, match="not an address of network 'regtest'"):
            payout_script(address, REGTEST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "raw()",
        "raw(0)",
        "raw(xyz)",
        "addr()",
        "wpkh(02aa)",
        "raw(51",
        "raw(51))",
        "raw(51)#",
        "é",
        "raw(é)#aaaaaaaa",
    ],
)
def test_nonsense_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        payout_script(text, REGTEST)
    assert "\n" not in str(caught.value)
