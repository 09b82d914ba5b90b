"""User-made networks: made, read back, and every wrong field refused with one line that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chain.consensus.block import check_block, contextual_check_block
from chain.index import HeaderIndex
from chain.network_file import create_network, load_network
from chain.params import PICKAXE, Retargeting, network
from chain.primitives.amount import COIN
from chain.primitives.errors import UserError
from tests.support.blocks import coinbase, make_block

TIME = 1_795_219_200
EASY = 0x207FFFFF
WRITTEN = (
    "name chain_name data_folder magic default_port rpc_port addresses pow_limit retargeting block_interval_s "
    "retarget_timespan_s asert_half_life_s max_future_drift_s initial_subsidy subsidy_halving_interval bip54_height "
    "chain_tx_data allow_min_difficulty is_test_chain segwit_height"
)


def make(path: Path, **options: object) -> None:
    settings: dict[str, object] = {"message": 'A "test" chain\\', "time": TIME, "limit_nbits": EASY} | options
    create_network(path, str(settings.pop("name", "mychain")), **settings)  # type: ignore[arg-type]


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_network(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_created_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mychain.toml"
    made = create_network(
        path,
        "mychain",
        message='Grüße, "world" \\ \t',
        time=TIME,
        limit_nbits=0x1F7FFFFF,
        retargeting=Retargeting.BITCOIN,
        block_interval_s=60,
        initial_subsidy=123 * COIN // 10,
        halving_interval=1000,
    )
    for params in (load_network(path), network(str(path))):
        assert params.genesis.raw == made.genesis.raw
        for name in WRITTEN.split():
            assert getattr(params, name) == getattr(made, name), name
    assert made.initial_subsidy == 1_230_000_000
    assert made.retarget_interval == 2016
    assert made.addresses.bech32_hrp == "mychai"
    assert made.magic != PICKAXE.magic
    assert b"Gr\xc3\xbc\xc3\x9fe" in made.genesis.raw


def test_a_chain_can_grow_on_it(tmp_path: Path) -> None:
    make(tmp_path / "n.toml")
    params = load_network(tmp_path / "n.toml")
    check_block(params.genesis, params)
    index = HeaderIndex(params)
    block = make_block(index.genesis, params, [coinbase(1)])
    check_block(block, params)
    contextual_check_block(block, index.genesis, params)
    assert index.add(block.header).height == 1
    assert index.best_header.chainwork == 2 * index.genesis.chainwork


def test_two_names_hardly_share_magic_and_port(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, name=name)
    a, b = load_network(tmp_path / "a"), load_network(tmp_path / "b")
    assert a.magic != b.magic
    assert a.default_port != b.default_port


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        make(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "My Chain"}, "network.name must be a lower-case word"),
        ({"name": "bitcoin"}, "the name 'bitcoin' belongs to another network"),
        ({"message": ""}, "genesis.message must be a text of 1 to 90 bytes"),
        ({"message": "x" * 91}, "genesis.message must be a text of 1 to 90 bytes"),
        ({"time": 0}, "genesis.time must be a whole number from 1 to"),
        ({"limit_nbits": 0x217FFFFF}, "proof_of_work.limit must be a compact target"),
        ({"limit_nbits": 0x1D80FFFF}, "proof_of_work.limit must be a compact target"),
        ({"block_interval_s": 0}, "proof_of_work.block_interval_s must be a whole number from 1 to 86400, not 0"),
        ({"half_life_s": 0}, "proof_of_work.half_life_s must be"),
        ({"halving_interval": 0}, "subsidy.halving_interval must be"),
        ({"port": 70_000}, "network.port must be a whole number from 1 to 65535"),
        ({"port": 5, "rpc_port": 5}, "network.port and network.rpc_port are both 5"),
        ({"bech32_prefix": "Pick"}, "addresses.bech32_prefix must be a lower-case word"),
    ],
)
def test_nothing_is_written_where_a_setting_is_wrong(tmp_path: Path, options: dict[str, object], error: str) -> None:
    path = tmp_path / "n.toml"
    with pytest.raises(UserError) as caught:
        make(path, **options)
    assert error in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("pattern", "replacement", "error"),
    [
        (r"^name = .*", "name = 7", "network.name must be a lower-case word of letters, digits and '-', not 7."),
        (r"^name = .*\n", "", "network.name is missing."),
        (r"^magic = .*", 'magic = "f9beb4d9"', "network.magic is that of 'bitcoin'; choose four other bytes."),
        (r"^magic = .*", 'magic = "xyz"', "network.magic must be 8 hexadecimal digits in quotes"),
        (r"^port = .*", "port = true", "network.port must be a whole number from 1 to 65535, not True."),
        (r"^port = .*", 'port = "1"', "network.port must be a whole number from 1 to 65535, not '1'."),
        (r"^dns_seeds = .*", "dns_seeds = [1]", "network.dns_seeds must be a list of host names"),
        (r"^nonce = (\d+)", r"nonce = \g<1>9", "the genesis fields give a block with hash"),
        (r"^hash = .*", 'hash = "00"', "genesis.hash must be 64 hexadecimal digits"),
        (r"^nbits = .*", 'nbits = "1d00ffff"', "the genesis fields give a block with hash"),
        (r"^limit = .*", 'limit = "1d00ffff"', "genesis.nbits is an easier target than proof_of_work.limit."),
        (r"^retargeting = .*", 'retargeting = "lwma"', "must be one of bitcoin, asert, none, not 'lwma'."),
        (r"^timespan_s = .*", "timespan_s = 130", "proof_of_work.timespan_s must be at least two block intervals, 240"),
        (
            r"^allow_min.*",
            "allow_min_difficulty = 1",
            "proof_of_work.allow_min_difficulty must be true or false, not 1.",
        ),
        (r"^initial = .*", "initial = 10", "subsidy.initial must be an amount of coins in quotes"),
        (r"^initial = .*", 'initial = "-1"', "subsidy.initial must be an amount of coins in quotes"),
        (r"^p2sh = .*", "p2sh = 55", "addresses.p2pkh, p2sh and wif must be three different numbers."),
        (r"^p2sh = .*", "p2sh = 256", "addresses.p2sh must be a whole number from 0 to 255, not 256."),
        (r"^bip32_private = .*", 'bip32_private = "01da950e"', "addresses.bip32_public and bip32_private must differ."),
        (r"^bip54 = .*", 'bip54 = "yes"', "rules.bip54 must be true or false, not 'yes'."),
        (r"^bip54 = .*", "bip54 = true\nbip99 = true", "there is no rules.bip99; [rules] has bip54."),
        (r"^\[rules\]", "[roles]", "there is no section [roles]; the sections are network, genesis"),
        (r"^\[rules\]\nbip54 = true", "[[rules]]\nbip54 = true", "rules must be a section, [rules]."),
        (r"^\[network\]", "[network", "is not TOML"),
    ],
)
def test_each_wrong_field_is_named(tmp_path: Path, pattern: str, replacement: str, error: str) -> None:
    path = tmp_path / "n.toml"
    make(path)
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)
    assert error in error_of(path)
    assert str(path) in error_of(path)


def test_optional_fields_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    make(path)
    text = path.read_text()
    for key in ("dns_seeds", "half_life_s", "timespan_s", "allow_min_difficulty", "max_future_drift_s", "bip54"):
        text = re.sub(rf"^{key} = .*\n", "", text, count=1, flags=re.MULTILINE)
    path.write_text(text)
    params = load_network(path)
    assert (params.asert_half_life_s, params.max_future_drift_s, params.bip54_height) == (34_560, 600, 1)


def test_no_work_in_the_genesis_block(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    make(path)
    text = path.read_text()
    for nonce in range(20):  # half of all nonces fail even the easiest target
        path.write_text(re.sub(r"^nonce = \d+", f"nonce = {nonce}", text, flags=re.MULTILINE))
        error = error_of(path) if nonce != load_nonce(text) else ""
        found = re.search("block with hash ([0-9a-f]{64})", error)
        if found and found[1] >= "80":
            wrong = re.sub(r"^hash = .*", f'hash = "{found[1]}"', path.read_text(), flags=re.MULTILINE)
            path.write_text(wrong)
            assert "genesis.nonce is no proof of work for genesis.nbits" in error_of(path)
            return
    raise AssertionError("no nonce without work among twenty")


def load_nonce(text: str) -> int:
    found = re.search(r"^nonce = (\d+)", text, flags=re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "There is no network file" in error_of(tmp_path / "none.toml")
    assert "cannot be read" in error_of(tmp_path)
    path = tmp_path / "n.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not TOML" in error_of(path)
    path.write_text("network = 5")
    assert "network must be a section" in error_of(path)
    path.write_text("")
    assert "network.name is missing" in error_of(path)


SNAPSHOT = """
[[assumeutxo]]
base_height = 200
base_hash = "{0}"
txoutset_hash = "{1}"
nchaintx = 321
"""


def test_a_table_of_snapshots(tmp_path: Path) -> None:
    """Each is what dumptxoutset said of it; they are sorted by height."""
    path = tmp_path / "mychain.toml"
    make(path)
    assert load_network(path).assumeutxo == ()
    one = SNAPSHOT.format("01" + 31 * "00", "02" + 31 * "00")
    path.write_text(path.read_text() + one + one.replace("200", "100").replace("321", "101"))
    first, second = load_network(path).assumeutxo
    assert (first.height, second.height) == (100, 200)
    assert second.block_hash == bytes(31) + b"\x01"
    assert second.hash_serialized == bytes(31) + b"\x02"
    assert second.chain_tx_count == 321
    assert network(str(path)).assumed_utxo(bytes(31) + b"\x01") == first


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("base_height = 0", "assumeutxo.base_height must be a whole number from 1 to 4294967295, not 0"),
        ('base_hash = "00"', "assumeutxo.base_hash must be 64 hexadecimal digits in quotes"),
        ("nchaintx = 200", "assumeutxo.nchaintx must be a whole number from 201"),
        ("nchaintx = 400\ncoins = 3", "there is no assumeutxo.coins; [[assumeutxo]] has base_height, base_hash"),
    ],
)
def test_a_wrong_line_in_the_table(tmp_path: Path, wrong: str, text: str) -> None:
    path = tmp_path / "mychain.toml"
    make(path)
    key = wrong.split(" ")[0]
    snapshot = re.sub(rf"^{key} = .*$", wrong, SNAPSHOT.format(64 * "1", 64 * "2"), flags=re.M)
    path.write_text(path.read_text() + snapshot)
    assert text in error_of(path)


def test_snapshots_must_be_a_list_of_different_heights(tmp_path: Path) -> None:
    path = tmp_path / "mychain.toml"
    make(path)
    good = path.read_text()
    path.write_text(good + SNAPSHOT.format(64 * "1", 64 * "2") * 2)
    assert "two snapshots have base_height 200" in error_of(path)
    path.write_text(good + SNAPSHOT.format(64 * "1", 64 * "2").replace("[[assumeutxo]]", "[assumeutxo]"))
    assert "each UTXO snapshot is a section [[assumeutxo]] of its own" in error_of(path)
