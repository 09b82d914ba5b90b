"""Where work comes from, as the settings say."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chain.params import NETWORKS, NetworkParams, load_network, network
from chain.primitives.errors import UserError
from chain.primitives.target import target_of_difficulty
from miner.config import NodeSettings, PoolSettings, Settings, resolve_secret

if TYPE_CHECKING:
    from miner.work.rpc import Endpoint
    from miner.work.source import SourceFactory
    from miner.work.stratum.address import PoolAddress
    from miner.work.stratum.client import ClientOptions

Place = TypeVar("Place", PoolSettings, NodeSettings)


@dataclass(frozen=True, slots=True)
class Logins:
    """From the command line or the environment, for the places that have none of their own."""

    pool_password: str | None = None
    rpc_cookie: Path | None = None
    rpc_user: str | None = None
    rpc_password: str | None = None


def make_source(settings: Settings, params: NetworkParams, logins: Logins) -> tuple[SourceFactory, str]:
    """The source of a run, and a few words about it."""
    user = settings.user or settings.address
    if settings.pool:
        return _pools(settings, params, logins), f"pools, as {(user or '')[:64]}" if user else "pools"
    if settings.address is None:
        raise UserError("say where to mine: --address for a node's rewards, or --url and --user for a pool")
    return _nodes(settings, settings.address, params, logins), f"paying {settings.address[:64]}"


def benchmark_source(settings: Settings) -> tuple[SourceFactory, str]:
    """Invented blocks."""
    from miner.work.benchmark import BenchmarkSource

    return functools.partial(BenchmarkSource, version_rolling=settings.version_rolling), "benchmark"


def default_datadir() -> Path:
    """Where nodes keep their data unless told otherwise."""
    chosen = os.environ.get("PICKAXE_DATADIR")
    return Path(chosen) if chosen else Path.home() / ".pickaxe"


def find_network(name: str, datadir: Path) -> NetworkParams:
    """A built-in network, or one that `pickaxe network create` wrote below the datadir."""
    own = datadir / "networks" / f"{name}.toml"
    if name not in NETWORKS and own.is_file():
        return load_network(own)
    return network(name)


def _nodes(settings: Settings, address: str, params: NetworkParams, logins: Logins) -> SourceFactory:
    from miner.work.getblocktemplate import TemplateSource
    from miner.work.payout import payout_script

    folder = settings.datadir or default_datadir()
    endpoints = [_endpoint(node, params, folder, logins) for node in _in_order(settings.node or (NodeSettings(),))]
    easiest = None if settings.min_difficulty is None else target_of_difficulty(settings.min_difficulty)
    return functools.partial(
        TemplateSource,
        endpoints,
        params,
        payout_script(address, params),
        version_rolling=settings.version_rolling,
        easiest_target=easiest,
    )


def _endpoint(node: NodeSettings, params: NetworkParams, folder: Path, logins: Logins) -> Endpoint:
    from miner.work.rpc import Endpoint

    url = node.url or f"http://127.0.0.1:{_local_rpc_port(params, folder)}"
    own = resolve_secret("node's password", node.password, node.password_env, node.password_file)
    user = node.user or (logins.rpc_user if node.cookie is None else None)
    if user is not None:
        return Endpoint(url, None, user, own if own is not None else logins.rpc_password)
    return Endpoint(url, node.cookie or logins.rpc_cookie or folder / params.data_folder / ".cookie")


def _local_rpc_port(params: NetworkParams, datadir: Path) -> int:
    """The port that a node on this data directory wrote down when it started, else the network's usual one."""
    try:
        port = int((datadir / params.data_folder / "rpc.port").read_text())
    except (OSError, ValueError):
        return params.rpc_port
    return port if 0 < port < 65536 else params.rpc_port


def _pools(settings: Settings, params: NetworkParams, logins: Logins) -> SourceFactory:
    from miner.work.stratum.address import parse_pool_url
    from miner.work.stratum.source import StratumSource

    addresses = []
    for pool in _in_order(settings.pool):
        own = resolve_secret("pool's password", pool.password, pool.password_env, pool.password_file)
        user = pool.user or settings.user or settings.address
        addresses.append(parse_pool_url(pool.url, user, own if own is not None else logins.pool_password))
    return functools.partial(
        StratumSource,
        addresses,
        functools.partial(_client_options, settings, params),
        tls=_trust(settings.tls_ca),
        may_redirect=settings.follow_redirects,
    )


def _client_options(settings: Settings, params: NetworkParams, pool: PoolAddress) -> ClientOptions:
    """What to ask of a pool."""
    from miner.work.job import VERSION_ROLLING_MASK
    from miner.work.stratum.client import EASIEST_SHARE_TARGET, ClientOptions

    easiest_share = EASIEST_SHARE_TARGET
    if settings.min_difficulty is not None:
        easiest_share = min(easiest_share, target_of_difficulty(settings.min_difficulty))
    return ClientOptions(
        user=pool.user,
        password=pool.password,
        version_mask=VERSION_ROLLING_MASK if settings.version_rolling else 0,
        easiest_target=params.pow_limit,
        easiest_share_target=easiest_share,
        minimum_difficulty=settings.min_difficulty,
        suggested_difficulty=settings.suggest_difficulty,
    )


def _trust(certificates: Path | None) -> ssl.SSLContext | None:
    if certificates is None:
        return None
    tls = ssl.create_default_context()
    try:
        tls.load_verify_locations(certificates)
    except (OSError, ssl.SSLError):
        raise UserError(f"{certificates} holds no certificates (PEM is expected)") from None
    return tls


def _in_order(places: Sequence[Place]) -> list[Place]:
    return sorted(places, key=lambda place: place.priority)  # stable: else as written
