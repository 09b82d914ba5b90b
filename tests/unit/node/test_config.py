"""The TOML file and bitcoin.conf: what they set, and the one line for what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import node
from chain.params import REGTEST, SIGNET, signet_with_challenge
from chain.primitives.errors import UserError
from node.bitcoin_conf import load, parse_command_line
from node.config import BY_CORE, OPTIONS, NodeConfig, build, load_toml, user_agent
from node.networks import blocks_dir, params_for
from node.peers import build_peer_config
from p2p.config import P2PConfig


def _toml(folder: Path, text: str) -> Path:
    path = folder / "pickaxe.toml"
    path.write_text(text)
    return path


def test_a_toml_file_sets_fields(tmp_path: Path) -> None:
    path = _toml(
        tmp_path,
        'network = "dev"\n[peers]\nlisten = false\nconnect = ["a:1", "b"]\n'
        '[mempool]\nmin_relay_fee = "0.00002"\n[rpc]\nport = 5\n',
    )
    values = load_toml(path)
    assert values == {
        "network": "dev",
        "listen": False,
        "connect": ("a:1", "b"),
        "min_relay_fee": 2000,
        "rpc_port": 5,
    }
    assert build(values).rpc_port == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[peers]\nlistn = true\n", "unknown key peers.listn"),
        ("[peers]\nlisten = 1\n", "peers.listen must be true or false"),
        ('[rpc]\nport = "80"\n', "rpc.port must be a whole number"),
        ("[rpc]\nport = 0\n", "rpc.port must be at least 1, not 0"),
        ("[peers]\nport = 0\n", "peers.port must be at least 1, not 0"),
        ("[rpc]\nport = 70000\n", "rpc.port must be at most 65535, not 70000"),
        ("[chain]\ndbcache_mib = 1\n", "chain.dbcache_mib must be at least 4, not 1"),
        ('[peers]\nconnect = "a"\n', "peers.connect must be a list of strings"),
        ('[mempool]\nmin_relay_fee = "-1"\n', "mempool.min_relay_fee must be a fee rate"),
        ('[mempool]\nmin_relay_fee = "0.000000001"\n', "mempool.min_relay_fee must be a fee rate"),
        ("network = 3\n", "network must be a string"),
        ("x = \n", "not valid TOML"),
    ],
)
def test_a_bad_toml_file_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = _toml(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_toml(path)
    message = str(caught.value)
    assert complaint in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_toml(tmp_path / "no.toml")


def _conf(folder: Path, text: str, *arguments: str) -> NodeConfig:
    (folder / "bitcoin.conf").write_text(text)
    return load(parse_command_line([f"-datadir={folder}", *arguments])).config


def test_sections_apply_to_their_network_only(tmp_path: Path) -> None:
    text = "regtest=1\nmaxconnections=9\nport=1\n[regtest]\nport=2\nrpcport=3\n[main]\nrpcport=4\n"
    config = _conf(tmp_path, text)
    assert (config.network, config.port, config.rpc_port, config.max_connections) == ("regtest", 2, 3, 9)


def test_network_options_outside_a_section_count_for_main_only(tmp_path: Path) -> None:
    assert _conf(tmp_path, "port=1\n").port == 1
    assert _conf(tmp_path, "port=1\n", "-regtest").port == 0


def test_the_command_line_wins_and_lists_are_joined(tmp_path: Path) -> None:
    config = _conf(tmp_path, "regtest=1\npar=2\nuacomment=a\n", "-par=3", "-uacomment=b")
    assert config.script_threads == 3
    assert config.user_agent_comment == ("b", "a")


def test_negation(tmp_path: Path) -> None:
    config = _conf(tmp_path, "regtest=1\n", "-nolisten", "-nopersistmempool", "-nodebug")
    assert not config.listen
    assert not config.persist_mempool
    assert config.debug == ()


def test_connect_zero_means_no_connections_of_our_own(tmp_path: Path) -> None:
    config = _conf(tmp_path, "regtest=1\n[regtest]\nconnect=0\nbind=127.0.0.1\n")
    assert config.connect == ("0",)
    assert config.listen
    assert not config.dns_seeds


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(path.read_text() for path in Path(node.__file__).parent.rglob("*.py"))
    unread = [option.field for option in OPTIONS if not re.search(rf"config\.{option.field}\b", code)]
    assert not unread


def test_options_of_cores_without_effect_are_named_where_they_matter(tmp_path: Path) -> None:
    (tmp_path / "bitcoin.conf").write_text("regtest=1\nmaxuploadtarget=1G\n[regtest]\nrest=0\nprintpriority=1\n")
    loaded = load(parse_command_line([f"-datadir={tmp_path}", "-externalip=192.0.2.1", "-nopeerbloomfilters"]))
    assert loaded.warnings == (
        "-externalip has no effect in this version.",
        "-maxuploadtarget has no effect in this version.",
    )


def test_buffers_timeouts_and_addresses_in_the_log_reach_the_peers(tmp_path: Path) -> None:
    def peers(*arguments: str) -> P2PConfig:
        return build_peer_config(_conf(tmp_path, "regtest=1\n", *arguments), REGTEST, tmp_path)

    found = peers("-timeout=250", "-maxreceivebuffer=7", "-maxsendbuffer=8", "-logips")
    assert (found.connect_timeout_s, found.max_receive_buffer, found.max_send_buffer) == (0.25, 7_000, 8_000)
    assert found.log_ips
    found, usual = peers(), P2PConfig()
    for name in ("connect_timeout_s", "max_receive_buffer", "max_send_buffer", "log_ips"):
        assert getattr(found, name) == getattr(usual, name)


def test_a_signet_with_a_challenge_of_its_own(tmp_path: Path) -> None:
    text = "signet=1\n[signet]\nsignetchallenge=51\nsignetseednode=seed.example\n"
    params = params_for(_conf(tmp_path, text))
    assert (params.signet_challenge, params.dns_seeds) == (b"\x51", ("seed.example",))
    assert params.magic == signet_with_challenge(b"\x51").magic != SIGNET.magic
    assert params_for(_conf(tmp_path, "signet=1\n")).signet_challenge == SIGNET.signet_challenge
    assert params_for(_conf(tmp_path, "signetchallenge=51\n", "-regtest")).name == "regtest"
    for values, complaint in (
        (["51", "52"], "-signetchallenge cannot be multiple values."),
        (["5"], "-signetchallenge must be hex, not '5'."),
        ([""], "-signetchallenge must be hex, not ''."),
    ):
        config = _conf(tmp_path, "", "-signet", *(f"-signetchallenge={value}" for value in values))
        with pytest.raises(UserError, match=complaint):
            params_for(config)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-fakearg"], "Error parsing command line arguments: Invalid parameter -fakearg"),
        (["word"], "Command line contains unexpected token 'word'"),
        (["-regtest", "-signet"], "Invalid combination of -regtest, -signet"),
        (["-chain=moon"], "Unknown chain moon"),
        (["-regtest", "-blockmaxweight=4000001"], "Specified -blockmaxweight (4000001) exceeds consensus maximum"),
        (["-regtest", "-blockreservedweight=1999"], "is lower than minimum safety value of (2000)"),
        (["-regtest", "-uacomment=/"], "User Agent comment (/) contains unsafe characters."),
        (["-regtest", f"-uacomment={'a' * 256}"], "exceeds maximum length (256)"),
        (["-regtest", "-prune=100"], "Prune configured below the minimum"),
        (["-regtest", "-prune=1", "-reindex-chainstate"], "Prune mode is incompatible with -reindex-chainstate"),
        (["-regtest", "-peertimeout=0"], "peertimeout must be a positive integer."),
        (["-regtest", "-minrelaytxfee=x"], "Invalid amount for -minrelaytxfee"),
        (["-regtest", "-proxy=127.0.0.1:9050"], "-proxy is not supported"),
        (["-regtest", "-port=99999"], "Invalid port specified in -port: '99999'"),
    ],
)
def test_bad_command_lines(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        _conf(tmp_path, "", *arguments)
    assert complaint in str(caught.value)


def test_numbers_too_small_to_work_are_raised_as_in_core(tmp_path: Path) -> None:
    arguments = ("-rpcthreads=-100", "-rpcworkqueue=0", "-rpcservertimeout=-1", "-dbcache=-5", "-mempoolexpiry=-1")
    config = _conf(tmp_path, "", "-regtest", *arguments)
    assert (config.rpc_threads, config.rpc_work_queue, config.rpc_timeout_s) == (1, 1, 1)
    assert (config.dbcache_mib, config.mempool_expiry_h) == (4, 1)


def test_blocks_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "blocks disk").mkdir()
    config = _conf(tmp_path, "", "-regtest", f"-blocksdir={tmp_path / 'blocks disk'}")
    assert blocks_dir(config, params_for(config)) == tmp_path / "blocks disk" / "regtest" / "blocks"
    (tmp_path / "pickaxe.toml").write_text('[chain]\nblocks_dir = "blocks disk"\n')
    config = build({"network": "dev", "datadir": tmp_path, **load_toml(tmp_path / "pickaxe.toml")})
    assert blocks_dir(config, params_for(config)) == tmp_path / "blocks disk" / "dev" / "blocks"
    config = _conf(tmp_path, "", "-regtest", f"-blocksdir={tmp_path / 'no'}")
    with pytest.raises(UserError, match=r'Specified blocks directory ".*/no" does not exist.'):
        blocks_dir(config, params_for(config))


def test_a_missing_datadir_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load(parse_command_line([f"-datadir={tmp_path / 'no'}"]))


@pytest.mark.parametrize("line", ["-regtest=1", "nodebug", "justaword"])
def test_a_bad_line_in_bitcoin_conf_is_named_by_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match="parse error on line 2"):
        _conf(tmp_path, f"regtest=1\n{line}\n")


def test_every_option_names_a_field_of_its_type() -> None:
    fields = NodeConfig.__dataclass_fields__
    for option in BY_CORE.values():
        assert option.field in fields, option


def test_the_user_agent_carries_comments() -> None:
    assert user_agent(build({"user_agent_comment": ("a", "b")})) == "/Pickaxe:0.1.0(a; b)/"
