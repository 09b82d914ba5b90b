"""What a node can be told, in one table: the field, its key in the TOML file, its name in Bitcoin Core, its type and
what it does.

`load_toml` reads `pickaxe node`'s file, `node.bitcoin_conf` reads Core's; both end in one frozen `NodeConfig`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from chain.consensus.constants import MAX_BLOCK_WEIGHT
from chain.primitives.errors import UserError

MINIMUM_RESERVED_WEIGHT: Final = 2_000
CONFIG_FILE: Final = "pickaxe.toml"


def default_datadir() -> Path:
    """`~/.pickaxe`, or where PICKAXE_DATADIR points."""
    chosen = os.environ.get("PICKAXE_DATADIR")
    return Path(chosen) if chosen else Path.home() / ".pickaxe"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node's settings. Fees are satoshi per 1000 virtual bytes; sizes carry their unit in the name."""

    network: str = "pickaxe"
    datadir: Path = field(default_factory=default_datadir)
    # chain
    blocks_dir: str = ""
    dbcache_mib: int = 450
    script_threads: int = 0
    prune_mib: int = 0
    fast_prune: bool = False
    assume_valid: str = ""
    minimum_chain_work: str = ""
    load_block: tuple[str, ...] = ()
    stop_at_height: int = 0
    check_blocks: int = 6
    check_level: int = 3
    reindex: bool = False
    reindex_chainstate: bool = False
    tx_index: bool = False
    block_filter_index: str = ""
    coin_stats_index: bool = False
    address_index: bool = False
    test_activation_height: tuple[str, ...] = ()
    test_option: tuple[str, ...] = ()
    vb_params: tuple[str, ...] = ()
    signet_challenge: tuple[str, ...] = ()
    signet_seed_node: tuple[str, ...] = ()
    mocktime: int = 0
    max_tip_age_s: int = 24 * 3600
    # peers
    listen: bool = True
    port: int = 0
    bind: tuple[str, ...] = ()
    whitebind: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    addnode: tuple[str, ...] = ()
    seednode: tuple[str, ...] = ()
    dns_seeds: bool = True
    max_connections: int = 125
    user_agent_comment: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    v2_transport: bool = True
    peer_timeout_s: int = 60
    connect_timeout_ms: int = 0
    max_receive_buffer_kb: int = 5_000
    max_send_buffer_kb: int = 1_000
    blocks_only: bool = False
    peer_block_filters: bool = False
    ban_time_s: int = 86_400
    network_active: bool = True
    # rpc
    rpc_server: bool = True
    rpc_port: int = 0
    rpc_bind: tuple[str, ...] = ()
    rpc_allow_ip: tuple[str, ...] = ()
    rpc_user: str = ""
    rpc_password: str = ""
    rpc_auth: tuple[str, ...] = ()
    rpc_cookie_file: str = ""
    rpc_threads: int = 16
    rpc_work_queue: int = 64
    rpc_timeout_s: int = 30
    # mempool
    max_mempool_mb: int = 300
    mempool_expiry_h: int = 336
    persist_mempool: bool = True
    min_relay_fee: int = 100
    incremental_relay_fee: int = 100
    dust_relay_fee: int = 3_000
    accept_nonstandard: bool | None = None
    permit_bare_multisig: bool = True
    data_carrier: bool = True
    data_carrier_bytes: int = 100_000
    limit_ancestor_count: int = 25
    limit_descendant_count: int = 25
    limit_cluster_count: int = 64
    limit_cluster_kvb: int = 101
    bytes_per_sigop: int = 20
    # block templates
    block_max_weight: int = MAX_BLOCK_WEIGHT
    block_reserved_weight: int = 8_000
    block_min_fee: int = 1
    block_version: int | None = None
    # log
    debug: tuple[str, ...] = ()
    debug_exclude: tuple[str, ...] = ()
    log_ips: bool = False
    log_file: str = "debug.log"
    print_to_console: bool = True
    shrink_log: bool = False
    pid_file: str = ""


class Kind(Enum):
    """What a setting holds, as the error says it that refuses another."""

    BOOL = "true or false"
    INT = "a whole number"
    STR = "a string"
    LIST = "a list of strings"
    FEE = "a fee rate in coins per 1000 virtual bytes"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its field, TOML key, Core name and type. `local` ones count in bitcoin.conf only inside their
    network's section."""

    field: str
    toml: str
    core: str
    kind: Kind
    help: str
    local: bool = False
    minimum: int | None = None
    maximum: int | None = None


_B, _I, _S, _L, _F = Kind.BOOL, Kind.INT, Kind.STR, Kind.LIST, Kind.FEE

OPTIONS: Final[tuple[Option, ...]] = (
    Option("blocks_dir", "chain.blocks_dir", "blocksdir", _S, "keep block files below this folder"),
    Option("dbcache_mib", "chain.dbcache_mib", "dbcache", _I, "memory for coins not yet on disk, MiB", minimum=4),
    Option("script_threads", "chain.script_threads", "par", _I, "signature check threads; 0 means one a core"),
    Option("prune_mib", "chain.prune_mib", "prune", _I, "delete old blocks above this size; 1 means on request"),
    Option("fast_prune", "", "fastprune", _B, "small block files, for tests of pruning"),
    Option(
        "assume_valid", "chain.assume_valid", "assumevalid", _S, "skip script checks below this block; 0 checks all"
    ),
    Option(
        "minimum_chain_work", "chain.minimum_chain_work", "minimumchainwork", _S, "least work of a chain to trust, hex"
    ),
    Option("load_block", "chain.load_block", "loadblock", _L, "import blocks from this file at start"),
    Option("stop_at_height", "chain.stop_at_height", "stopatheight", _I, "stop when the tip reaches this height"),
    Option("check_blocks", "chain.check_blocks", "checkblocks", _I, "how many blocks to verify at start; 0 is all"),
    Option("check_level", "chain.check_level", "checklevel", _I, "how thoroughly, 0 to 4"),
    Option("reindex", "", "reindex", _B, "rebuild everything from the block files"),
    Option("reindex_chainstate", "", "reindex-chainstate", _B, "rebuild the coins from the block files"),
    Option("tx_index", "chain.tx_index", "txindex", _B, "keep an index of all transactions"),
    Option("block_filter_index", "chain.block_filter_index", "blockfilterindex", _S, "keep compact filters (BIP157)"),
    Option("coin_stats_index", "chain.coin_stats_index", "coinstatsindex", _B, "keep coin statistics per block"),
    Option("address_index", "chain.address_index", "addressindex", _B, "keep each script's history (not in Core)"),
    Option("test_activation_height", "", "testactivationheight", _L, "NAME@HEIGHT of a soft fork, regtest only"),
    Option("test_option", "", "test", _L, "test-only option, regtest only"),
    Option("vb_params", "", "vbparams", _L, "version-bits parameters, regtest only"),
    Option(
        "signet_challenge", "", "signetchallenge", _L, "challenge script, in hex, of another signet than the public one"
    ),
    Option("signet_seed_node", "", "signetseednode", _L, "seed node of a signet with a challenge of its own"),
    Option("mocktime", "", "mocktime", _I, "pretend that it is this Unix time, for tests", minimum=0),
    Option("max_tip_age_s", "chain.max_tip_age_s", "maxtipage", _I, "a tip older than this means initial download"),
    Option("listen", "peers.listen", "listen", _B, "accept connections"),
    Option("port", "peers.port", "port", _I, "port for peers", local=True, minimum=1, maximum=65_535),
    Option("bind", "peers.bind", "bind", _L, "listen on this address[:port]", local=True),
    Option("whitebind", "peers.whitebind", "whitebind", _L, "listen here and give permissions", local=True),
    Option("connect", "peers.connect", "connect", _L, "connect to these peers only; 0 to none", local=True),
    Option("addnode", "peers.addnode", "addnode", _L, "keep a connection to this peer", local=True),
    Option("seednode", "peers.seednode", "seednode", _L, "ask this peer for addresses"),
    Option("dns_seeds", "peers.dns_seeds", "dnsseed", _B, "ask DNS seeds for addresses"),
    Option("max_connections", "peers.max_connections", "maxconnections", _I, "most connections", minimum=0),
    Option("user_agent_comment", "peers.user_agent_comment", "uacomment", _L, "comment in the user agent"),
    Option("whitelist", "peers.whitelist", "whitelist", _L, "[permissions@]IP or subnet to trust"),
    Option("v2_transport", "peers.v2_transport", "v2transport", _B, "offer the encrypted transport (BIP324)"),
    Option("peer_timeout_s", "peers.timeout_s", "peertimeout", _I, "drop a peer that is silent this long", minimum=1),
    Option(
        "connect_timeout_ms",
        "peers.connect_timeout_ms",
        "timeout",
        _I,
        "milliseconds to open a connection, 0 for the default",
        minimum=0,
    ),
    Option(
        "max_receive_buffer_kb",
        "peers.max_receive_buffer_kb",
        "maxreceivebuffer",
        _I,
        "bytes received and not yet handled, per peer, times 1000",
        minimum=1,
    ),
    Option(
        "max_send_buffer_kb",
        "peers.max_send_buffer_kb",
        "maxsendbuffer",
        _I,
        "bytes waiting to be sent, per peer, times 1000",
        minimum=1,
    ),
    Option("blocks_only", "peers.blocks_only", "blocksonly", _B, "do not take part in transaction relay"),
    Option("peer_block_filters", "peers.block_filters", "peerblockfilters", _B, "serve compact filters"),
    Option("ban_time_s", "peers.ban_time_s", "bantime", _I, "how long a manual ban lasts", minimum=1),
    Option("network_active", "peers.active", "networkactive", _B, "use the network at all"),
    Option("rpc_server", "rpc.enabled", "server", _B, "serve RPC"),
    Option("rpc_port", "rpc.port", "rpcport", _I, "port for RPC", local=True, minimum=1, maximum=65_535),
    Option("rpc_bind", "rpc.bind", "rpcbind", _L, "serve RPC on this address[:port] too", local=True),
    Option("rpc_allow_ip", "rpc.allow_ip", "rpcallowip", _L, "who may reach a non-loopback RPC address"),
    Option("rpc_user", "rpc.user", "rpcuser", _S, "user name (a cookie is used without)"),
    Option("rpc_password", "rpc.password", "rpcpassword", _S, "password"),
    Option("rpc_auth", "rpc.auth", "rpcauth", _L, "USER:SALT$HASH"),
    Option("rpc_cookie_file", "rpc.cookie_file", "rpccookiefile", _S, "where the cookie is"),
    Option("rpc_threads", "rpc.threads", "rpcthreads", _I, "calls served at once", minimum=1),
    Option("rpc_work_queue", "rpc.work_queue", "rpcworkqueue", _I, "calls that may wait", minimum=1),
    Option("rpc_timeout_s", "rpc.timeout_s", "rpcservertimeout", _I, "close idle connections after", minimum=1),
    Option("max_mempool_mb", "mempool.max_mb", "maxmempool", _I, "memory of waiting transactions, MB", minimum=1),
    Option("mempool_expiry_h", "mempool.expiry_h", "mempoolexpiry", _I, "forget transactions after hours", minimum=1),
    Option("persist_mempool", "mempool.persist", "persistmempool", _B, "keep waiting transactions over restarts"),
    Option("min_relay_fee", "mempool.min_relay_fee", "minrelaytxfee", _F, "least fee rate to relay"),
    Option("incremental_relay_fee", "mempool.incremental_fee", "incrementalrelayfee", _F, "fee rate of a replacement"),
    Option("dust_relay_fee", "mempool.dust_fee", "dustrelayfee", _F, "fee rate that defines dust"),
    Option("accept_nonstandard", "mempool.accept_nonstandard", "acceptnonstdtxn", _B, "relay nonstandard transactions"),
    Option("permit_bare_multisig", "mempool.bare_multisig", "permitbaremultisig", _B, "relay bare multisig outputs"),
    Option("data_carrier", "mempool.data_carrier", "datacarrier", _B, "relay data carrier outputs"),
    Option("data_carrier_bytes", "mempool.data_carrier_bytes", "datacarriersize", _I, "most data carrier bytes"),
    Option("limit_ancestor_count", "mempool.ancestors", "limitancestorcount", _I, "most unconfirmed ancestors"),
    Option("limit_descendant_count", "mempool.descendants", "limitdescendantcount", _I, "most descendants"),
    Option("limit_cluster_count", "mempool.cluster_count", "limitclustercount", _I, "most transactions in a cluster"),
    Option("limit_cluster_kvb", "mempool.cluster_kvb", "limitclustersize", _I, "most kvB in a cluster"),
    Option("bytes_per_sigop", "mempool.bytes_per_sigop", "bytespersigop", _I, "virtual size of one sigop"),
    Option("block_max_weight", "mining.max_weight", "blockmaxweight", _I, "most weight of a block template"),
    Option("block_reserved_weight", "mining.reserved_weight", "blockreservedweight", _I, "weight left to the coinbase"),
    Option("block_min_fee", "mining.min_fee", "blockmintxfee", _F, "least fee rate in a template"),
    Option("block_version", "", "blockversion", _I, "version of templates, regtest only"),
    Option("debug", "log.categories", "debug", _L, "log these categories in detail; 1 or all for all"),
    Option("debug_exclude", "log.exclude", "debugexclude", _L, "but not these"),
    Option("log_ips", "log.ips", "logips", _B, "show peers' addresses"),
    Option("log_file", "log.file", "debuglogfile", _S, "log file; 0 for none"),
    Option("print_to_console", "log.console", "printtoconsole", _B, "log to standard output too"),
    Option("shrink_log", "log.shrink", "shrinkdebugfile", _B, "cut the log file at start"),
    Option("pid_file", "", "pid", _S, "write the process id here"),
)

BY_CORE: Final = {o.core: o for o in OPTIONS}
BY_TOML: Final = {o.toml: o for o in OPTIONS if o.toml}


def load_toml(path: Path) -> dict[str, Any]:
    """The fields that a TOML file sets. UserError names the file and the key of the first thing that is wrong."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}.") from error
    found: dict[str, Any] = {}
    for key, value in _flatten(document):
        if key == "network":
            if not isinstance(value, str):
                raise UserError(f"{path}: network must be a string.")
            found["network"] = value
            continue
        option = BY_TOML.get(key)
        if option is None:
            raise UserError(f"{path}: unknown key {key}; docs/node.md lists them.")
        found[option.field] = _checked(option, value, f"{path}: {key}")
    return found


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            pairs += _flatten(value, f"{name}.")
        else:
            pairs.append((name, value))
    return pairs


def _checked(option: Option, value: Any, where: str) -> Any:
    kind = option.kind
    if kind is Kind.BOOL and isinstance(value, bool):
        return value
    if kind is Kind.STR and isinstance(value, str):
        return value
    if kind is Kind.LIST and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind is Kind.INT and isinstance(value, int) and not isinstance(value, bool):
        return check_range(option, value, where)
    if kind is Kind.FEE and isinstance(value, str | int | float) and not isinstance(value, bool):
        return parse_fee(str(value) if not isinstance(value, float) else f"{value:.8f}", where)
    raise UserError(f"{where} must be {kind.value}.")


def check_range(option: Option, value: int, where: str) -> int:
    if option.minimum is not None and value < option.minimum:
        raise UserError(f"{where} must be at least {option.minimum}, not {value}.")
    if option.maximum is not None and value > option.maximum:
        raise UserError(f"{where} must be at most {option.maximum}, not {value}.")
    return value


def parse_fee(text: str, where: str) -> int:
    """A fee rate in satoshi per 1000 virtual bytes from its decimal text in coins."""
    whole, point, part = text.partition(".")
    if not (whole + part).isascii() or not (whole + part).isdigit() or len(part) > 8 or (point and not part):
        raise UserError(f"{where} must be {Kind.FEE.value}, not {text!r}.")
    return int(whole or "0") * 100_000_000 + int(part.ljust(8, "0") or "0")


def build(values: Mapping[str, Any], base: NodeConfig | None = None) -> NodeConfig:
    """A NodeConfig from fields, checked against each other. UserError with Core's texts where Core has the same
    check."""
    known = {f.name for f in fields(NodeConfig)}
    unknown = set(values) - known
    if unknown:
        raise UserError(f"unknown setting {sorted(unknown)[0]}")
    config = replace(base or NodeConfig(), **values)
    _check(config)
    return config


def _check(config: NodeConfig) -> None:
    for name, weight in (
        ("blockmaxweight", config.block_max_weight),
        ("blockreservedweight", config.block_reserved_weight),
    ):
        if weight > MAX_BLOCK_WEIGHT:
            raise UserError(f"Specified -{name} ({weight}) exceeds consensus maximum block weight ({MAX_BLOCK_WEIGHT})")
    if config.block_reserved_weight < MINIMUM_RESERVED_WEIGHT:
        raise UserError(
            f"Specified -blockreservedweight ({config.block_reserved_weight}) is lower than minimum safety value of"
            f" ({MINIMUM_RESERVED_WEIGHT})"
        )
    user_agent(config)
    if config.peer_timeout_s <= 0:
        raise UserError("peertimeout must be a positive integer.")
    if config.prune_mib < 0:
        raise UserError("Prune cannot be configured with a negative value.")
    if 1 < config.prune_mib < 550:
        raise UserError("Prune configured below the minimum of 550 MiB.  Please use a higher number.")
    if config.prune_mib and config.tx_index:
        raise UserError("Prune mode is incompatible with -txindex.")
    if config.prune_mib and config.address_index:
        raise UserError("Prune mode is incompatible with -addressindex.")
    if config.prune_mib and config.reindex_chainstate:
        raise UserError("Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.")
    if config.block_filter_index not in ("", "basic"):
        raise UserError(f"Unknown -blockfilterindex value {config.block_filter_index}.")
    if config.peer_block_filters and not config.block_filter_index:
        raise UserError("Cannot set -peerblockfilters without -blockfilterindex.")
    if config.rpc_password and not config.rpc_user and not config.rpc_auth:
        raise UserError("rpc.password is set but rpc.user is not: set both, or neither to use the cookie.")


def user_agent(config: NodeConfig) -> str:
    """The BIP14 user agent, `/Pickaxe:0.1.0(comment; comment)/`. UserError for comments that cannot stand in it."""
    from p2p import config as p2p_config  # not for `--help`

    return p2p_config.user_agent(config.user_agent_comment)
