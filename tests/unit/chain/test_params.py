"""Networks: the values that Bitcoin fixed, ours, and the options that change regtest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chain.genesis import build_genesis, mine_genesis
from chain.params import (
    BITCOIN,
    DEV,
    GENESIS_MESSAGES_AND_TIMES,
    NETWORKS,
    PICKAXE,
    PICKAXE_TEST,
    REGTEST,
    SIGNET,
    Retargeting,
    network,
    signet_with_challenge,
    with_test_activation_heights,
    with_vbparams,
)
from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex

GENESIS = {
    "bitcoin": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "testnet3": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "testnet4": "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    "pickaxe": "000000b61dd8d80f485132287761b67f80ba9f044a6f0f7be7e2f38cb06ad84f",
    "pickaxe-test": "000000ace7193591bc86c06d191b257ccd69f710e4fbee26d7c967c489aa0a1f",
    "dev": "1111313c1b3059749b0655ee8c1e04f27a951492d321168272204b2da6a8b14d",
}
MAGIC = {
    "bitcoin": "f9beb4d9",
    "testnet3": "0b110907",
    "testnet4": "1c163f28",
    "signet": "0a03cf40",
    "regtest": "fabfb5da",
}
PORTS = {
    "bitcoin": (8333, 8332),
    "testnet3": (18333, 18332),
    "testnet4": (48333, 48332),
    "signet": (38333, 38332),
    "regtest": (18444, 18443),
}


def test_genesis_blocks() -> None:
    assert {name: hash_to_hex(params.genesis_hash) for name, params in NETWORKS.items()} == GENESIS
    merkle = {name: hash_to_hex(params.genesis.header.merkle_root) for name, params in NETWORKS.items()}
    satoshi = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert [merkle[name] for name in ("bitcoin", "testnet3", "signet", "regtest")] == [satoshi] * 4
    assert merkle["testnet4"] == "7aa0a7ae1e223414cb807e40cd57e667b718e42aaf9306db9102fe28912b7b4e"


def test_magics_ports_and_prefixes_do_not_collide() -> None:
    for name, magic in MAGIC.items():
        assert NETWORKS[name].magic.hex() == magic
        assert (NETWORKS[name].default_port, NETWORKS[name].rpc_port) == PORTS[name]
    assert len({params.magic for params in NETWORKS.values()}) == len(NETWORKS)
    ports = [port for params in NETWORKS.values() for port in (params.default_port, params.rpc_port)]
    assert len(set(ports)) == len(ports)
    assert len({params.data_folder for params in NETWORKS.values()}) == len(NETWORKS)
    for params in (PICKAXE, PICKAXE_TEST, DEV):
        with pytest.raises(UnicodeDecodeError):
            params.magic.decode()
    ours = [PICKAXE, PICKAXE_TEST, DEV]
    assert [params.addresses.bech32_hrp for params in ours] == ["pick", "tpick", "dpick"]
    for field in ("p2pkh", "p2sh", "wif", "bip32_public", "bip32_private"):
        assert len({getattr(params.addresses, field) for params in [BITCOIN, REGTEST, *ours]}) == 5, field


def test_our_networks_are_as_designed() -> None:
    for params in (PICKAXE, PICKAXE_TEST, DEV):
        assert params.block_interval_s == 120
        assert params.max_future_drift_s == 600
        assert params.subsidy_halving_interval == 1_051_200
        assert params.initial_subsidy == 1_000_000_000
        assert params.bip54_height == 1
        assert params.genesis.transactions[0].values == [0]
        heights = {
            params.bip34_height,
            params.bip65_height,
            params.bip66_height,
            params.csv_height,
            params.segwit_height,
        }
        assert heights == {1}
    assert PICKAXE.retargeting is Retargeting.ASERT
    assert PICKAXE.asert_half_life_s == 288 * 120
    assert PICKAXE.pow_limit_nbits == PICKAXE.genesis.header.nbits == 0x1E00FFFF
    assert DEV.retargeting is Retargeting.NONE
    assert DEV.pow_limit_nbits == 0x207FFFFF


def test_dev_genesis_can_be_mined_again() -> None:
    assert mine_genesis(*GENESIS_MESSAGES_AND_TIMES["dev"], DEV.pow_limit_nbits).raw == DEV.genesis.raw


def test_genesis_search_finds_the_lowest_nonce() -> None:
    seen: list[int] = []
    block = mine_genesis(b"hello", 1_800_000_000, 0x1F7FFFFF, progress=seen.append)
    target = 0x7FFFFF << 224
    for nonce in range(block.header.nonce):
        raw = build_genesis(b"hello", 1_800_000_000, 0x1F7FFFFF, nonce).hash
        assert int.from_bytes(raw, "little") > target
    assert int.from_bytes(block.hash, "little") <= target
    with pytest.raises(ValueError, match="no target"):
        mine_genesis(b"hello", 1, 0)


def test_the_tool_that_mines_them_agrees() -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "tools/mine_genesis.py", "dev"]
    done = subprocess.run(command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"dev: nonce 1 hash {GENESIS['dev']} as defined\n"


def test_networks_by_name() -> None:
    assert network("pickaxe") is PICKAXE
    assert network("main") is BITCOIN
    with pytest.raises(UserError) as caught:
        network("bitcion")
    assert str(caught.value).startswith(
        "There is no network 'bitcion'. Use one of pickaxe, pickaxe-test, dev, bitcoin,"
    )


def test_signets_of_ones_own() -> None:
    params = signet_with_challenge(b"\x51", ("seed.example.org",))
    assert params.magic.hex() == "54d26fbd"  # sha256d of the challenge with its length before it
    assert params.genesis_hash == SIGNET.genesis_hash
    assert (params.minimum_chain_work, params.assumevalid, params.dns_seeds) == (0, None, ("seed.example.org",))


def test_activation_heights_for_tests() -> None:
    params = with_test_activation_heights(REGTEST, ["segwit@10", "bip34@2", "dersig@3", "cltv@4", "csv@5"])
    heights = (params.segwit_height, params.bip34_height, params.bip66_height, params.bip65_height, params.csv_height)
    assert heights == (10, 2, 3, 4, 5)
    assert with_test_activation_heights(REGTEST, []) is REGTEST
    for option, error in (
        ("segwit", "Invalid format (segwit) for -testactivationheight=name@height."),
        ("segwit@x", "Invalid height value (segwit@x) for -testactivationheight=name@height."),
        ("segwit@-1", "Invalid height value (segwit@-1) for -testactivationheight=name@height."),
        ("segwit@2147483647", "Invalid height value (segwit@2147483647) for -testactivationheight=name@height."),
        ("segwit@", "Invalid height value (segwit@) for -testactivationheight=name@height."),
        ("taproot@1", "Invalid name (taproot@1) for -testactivationheight=name@height."),
    ):
        with pytest.raises(UserError) as caught:
            with_test_activation_heights(REGTEST, [option])
        assert str(caught.value) == error


def test_version_bits_for_tests() -> None:
    deployment = with_vbparams(REGTEST, ["testdummy:5:-1:700"]).deployments[0]
    assert (deployment.start_time, deployment.timeout, deployment.min_activation_height) == (5, -1, 700)
    assert with_vbparams(REGTEST, ["testdummy:0:9"]).deployments[0].min_activation_height == 0
    for option, error in (
        ("testdummy:1", "Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]"),
        ("testdummy:x:1", "Invalid nStartTime (x)"),
        ("testdummy:1:", "Invalid nTimeout ()"),
        ("testdummy:1:2:z", "Invalid min_activation_height (z)"),
        ("taproot:1:2", "Invalid deployment (taproot)"),
        ("testdummy:9223372036854775808:2", "Invalid nStartTime (9223372036854775808)"),
    ):
        with pytest.raises(UserError) as caught:
            with_vbparams(REGTEST, [option])
        assert str(caught.value) == error
