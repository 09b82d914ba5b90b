"""`pickaxe mine`: the options, the configuration file, and how they become a run."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from chain.primitives.errors import UserError
from miner.cli.hardware import make_devices
from miner.cli.numbers import Number
from miner.cli.sources import Logins, benchmark_source, default_datadir, find_network, make_source
from miner.config import (
    API_PORT,
    DEVICE_KINDS,
    HTTP_PORT,
    NodeSettings,
    PoolSettings,
    Settings,
    dump_settings,
    load_settings,
    parse_listen,
    resolve_secret,
)

_CONFIG_NAME = "miner.toml"

#: option -> (table of the settings or "", field)
_PLACES = {
    "network_name": ("", "network"),
    "address": ("", "address"),
    "user": ("", "user"),
    "datadir": ("", "datadir"),
    "device_kinds": ("", "devices"),
    "blocks": ("", "blocks"),
    "pace": ("", "pace_s"),
    "min_difficulty": ("", "min_difficulty"),
    "suggest_difficulty": ("", "suggest_difficulty"),
    "version_rolling": ("", "version_rolling"),
    "tls_ca": ("", "tls_ca"),
    "follow_redirects": ("", "follow_redirects"),
    "threads": ("cpu", "threads"),
    "idle": ("cpu", "idle"),
    "idle_load": ("cpu", "idle_load"),
    "gpus": ("gpu", "use"),
    "ports": ("asic", "ports"),
    "boards": ("asic", "boards"),
    "model": ("asic", "model"),
    "frequency": ("asic", "frequency_mhz"),
    "tune": ("asic", "tune"),
    "zero_bits": ("asic", "zero_bits"),
    "tariff": ("energy", "tariff"),
    "currency": ("energy", "currency"),
    "http_listen": ("http", "listen"),
    "http_token": ("http", "token"),
    "api_listen": ("api", "listen"),
    "api_write": ("api", "write"),
    "api_allow": ("api", "allow"),
}


@click.command()
@click.option("--config", metavar="FILE", help="Settings to start from; by default miner.toml of the data folder.")
@click.option("--write-config", type=click.Path(path_type=Path), help="Write these settings to a file and end.")
@click.option("--network", "network_name", default="pickaxe", show_default=True, help="Network to mine.")
@click.option("--address", help="Where a node's rewards go: an address, addr(ADDRESS) or raw(HEX SCRIPT).")
@click.option("--url", "pool_urls", multiple=True, metavar="URL", help="A pool; repeat for spare ones, in order.")
@click.option("--user", help="Who you are at the pool: often an address, or ACCOUNT.WORKER.")
@click.option("--password", envvar="PICKAXE_POOL_PASSWORD", help="The pool's password, where it wants one.")
@click.option(
    "--suggest-difficulty",
    type=Number(min=0, min_open=True),
    metavar="D",
    help="Difficulty of shares to ask the pool for.",
)
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificates to trust in a pool's TLS (stratum+ssl://), besides the usual ones.",
)
@click.option("--follow-redirects", is_flag=True, help="Let a pool send us to another host.")
@click.option("--rpc-url", "rpc_urls", multiple=True, metavar="URL", help="The node; repeat for spare ones, in order.")
@click.option("--rpc-cookie", type=click.Path(path_type=Path, dir_okay=False), help="The node's cookie file.")
@click.option("--rpc-user", help="User name, where the node has one.")
@click.option("--rpc-password", envvar="PICKAXE_RPC_PASSWORD", help="Its password; better in PICKAXE_RPC_PASSWORD.")
@click.option("--datadir", type=click.Path(path_type=Path, file_okay=False), help="Where the node keeps its cookie.")
@click.option(
    "--device",
    "device_kinds",
    multiple=True,
    type=click.Choice(DEVICE_KINDS),
    default=("cpu",),
    show_default=True,
    help="The processor, graphics cards, boards on serial ports, or whatever is found; repeat for several.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Processor cores to mine on; all by default.")
@click.option("--idle/--no-idle", help="Lowest scheduling class; rest on battery and while others need the processor.")
@click.option(
    "--idle-load",
    type=Number(1, 100),
    default=25.0,
    show_default=True,
    metavar="PERCENT",
    help="With --idle: the use of the processor by others at which mining rests.",
)
@click.option("--gpu", "gpus", multiple=True, metavar="WHICH", help="A card by number, name or PCI address; repeat.")
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="DATA[,CONTROL]",
    help="A board's serial port, and its control port where it is not found by itself; repeat for more boards.",
)
@click.option(
    "--board",
    "boards",
    multiple=True,
    metavar="NAME|FILE.toml",
    help="Which board it is, so that its supply, fan and sensors are looked after; one for all ports, or one for each.",
)
@click.option("--model", help="The boards' chip, where it should not be asked for: bm1370.")
@click.option("--frequency", type=Number(min=1), metavar="MHZ", help="Clock of the boards' chips.")
@click.option(
    "--tune", metavar="GOAL", help="Find the boards' clock for max, a hash rate (1.1TH/s), watts (15W) or 16J/TH."
)
@click.option("--zero-bits", type=click.IntRange(0, 32), default=32, help="For emulated boards: what they printed.")
@click.option("--blocks", type=click.IntRange(min=1), metavar="N", help="Stop after N accepted blocks.")
@click.option(
    "--pace",
    type=Number(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Least time between two blocks, for networks without difficulty.",
)
@click.option(
    "--min-difficulty",
    type=Number(min=0, min_open=True),
    metavar="D",
    help="Offer no block easier than this, on networks that would take one.",
)
@click.option(
    "--version-rolling/--no-version-rolling",
    default=True,
    help="Vary the header's version bits (BIP320), or leave them alone: slower.",
)
@click.option("--watts", multiple=True, metavar="[NAME=]W", help="What devices draw: 120, cpu=65, asic0=18; repeat.")
@click.option("--tariff", type=Number(min=0), metavar="PRICE", help="Price of a kilowatt-hour.")
@click.option("--currency", default="", metavar="NAME", help="Of the tariff: EUR.")
@click.option(
    "--http", "http_listen", metavar="HOST:PORT", help="Serve a status page and metrics, e.g. 127.0.0.1:8078."
)
@click.option("--http-token", envvar="PICKAXE_HTTP_TOKEN", help="Ask the page's readers for it; always beyond here.")
@click.option("--api", "api_listen", metavar="HOST:PORT", help="Serve the cgminer API, e.g. 127.0.0.1:4028.")
@click.option("--api-write", is_flag=True, help="Let the API change pools and devices, and end the run.")
@click.option("--api-allow", multiple=True, metavar="NETWORK", help="Who may use the API besides this machine; repeat.")
@click.option("--benchmark", is_flag=True, help="Mine invented blocks: no node, no pool, nothing sent anywhere.")
@click.option("--quiet", is_flag=True, help="Log lines instead of the live screen.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON instead: counters twice a second, and messages.")
@click.pass_context
def mine(
    ctx: click.Context,
    /,
    config: str | None,
    write_config: Path | None,
    benchmark: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Mine with this machine's processor, its graphics cards or boards on serial ports: at pools (--url), or on a
    node's getblocktemplate, ours or Bitcoin Core's (--address)."""
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name)
        in (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    }
    file = _config_file(config, given.get("datadir"))
    settings = override(load_settings(file) if file is not None else Settings(), given)
    if write_config is not None:
        _write_config(write_config, _with_logins(settings, given))
        return
    _run(settings, given, file, benchmark=benchmark, quiet=quiet, as_json=as_json)


def override(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The settings with the options that were given in their place; UserError where they contradict each other."""
    for name, value in given.items():
        table, item = _PLACES.get(name, (None, ""))
        if table == "":
            settings = replace(settings, **{item: value})
        elif table is not None:
            settings = replace(settings, **{table: replace(getattr(settings, table), **{item: value})})
    if given.get("watts"):
        from miner.energy.monitor import parse_watts

        settings = replace(settings, energy=replace(settings.energy, watts=parse_watts(given["watts"])))
    if "http_token" in given:
        settings = replace(settings, http=replace(settings.http, token_env=None, token_file=None))
    for text in settings.api.allow:
        _network(text)
    return _override_places(settings, given)


def _override_places(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """Pools or nodes of the command line stand in the place of all those of the file."""
    pool_urls, rpc_urls = given.get("pool_urls"), given.get("rpc_urls")
    if pool_urls and rpc_urls:
        raise UserError("work comes from pools (--url) or from nodes (--rpc-url), not from both")
    if pool_urls:
        return replace(settings, pool=tuple(PoolSettings(url=url) for url in pool_urls), node=())
    if rpc_urls:
        return replace(settings, node=tuple(NodeSettings(url=url) for url in rpc_urls), pool=())
    return settings


def _with_logins(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """With the command line's user or cookie at the nodes that have none of their own."""
    user, cookie = given.get("rpc_user"), given.get("rpc_cookie")
    if settings.pool or (user is None and cookie is None):
        return settings
    login = {"cookie": cookie} if user is None else {"user": user}
    nodes = settings.node or (NodeSettings(),)
    return replace(
        settings,
        node=tuple(replace(node, **login) if node.user is None and node.cookie is None else node for node in nodes),
    )


def _run(
    settings: Settings,
    given: Mapping[str, Any],
    file: Path | None,
    *,
    benchmark: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from miner.app import MiningOptions, run_miner
    from miner.energy.monitor import EnergyOptions, figure_remarks
    from miner.json_display import JsonDisplay
    from miner.screen import LiveDisplay, LogDisplay, summary
    from miner.terminal import OutputConsole, standard_output

    params = find_network(settings.network, settings.datadir or default_datadir())
    logins = Logins(given.get("password"), given.get("rpc_cookie"), given.get("rpc_user"), given.get("rpc_password"))
    source, title = benchmark_source(settings) if benchmark else make_source(settings, params, logins)
    output = standard_output()
    console = OutputConsole(file=output)
    display: LiveDisplay | LogDisplay | JsonDisplay
    if as_json:
        display = JsonDisplay(output)
    elif quiet or not console.redraws:
        display = LogDisplay(console)
    else:
        display = LiveDisplay(console, f"pickaxe mine: network {params.name}, {title}")
    if file is not None:
        display.message(f"settings from {file}")
    devices, remarks = make_devices(settings, frozenset(given))
    remarks += figure_remarks(settings.energy.watts, {device.name: device.kind for device in devices})
    for remark in remarks:
        display.message(remark)
    options = MiningOptions(
        source=source,
        max_blocks=settings.blocks,
        pace_s=settings.pace_s,
        network=params.name,
        version=_version(),
        energy=EnergyOptions(
            watts=settings.energy.watts,
            tariff=settings.energy.tariff,
            currency=settings.energy.currency,
            sensors=settings.energy.sensors,
        ),
        http=_http_options(settings),
        api=_api_options(settings),
        idle_load=settings.cpu.idle_load if settings.cpu.idle else None,
    )

    async def run() -> bool:
        outcome = await run_miner(options, devices, display)
        if not as_json:
            console.print(summary(outcome.status), markup=False, highlight=False, soft_wrap=True)
        return outcome.restart

    restart = False
    with contextlib.suppress(KeyboardInterrupt):  # before the loop takes the signal over, or as it gives it back
        try:
            restart = asyncio.run(run())
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the summary is out: a second Ctrl-C has nothing to end
    if restart:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored stays so in the new program
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # ourselves, as we were called


def _http_options(settings: Settings) -> Any:
    from miner.api.service import HttpOptions

    http = settings.http
    if http.listen is None:
        return None
    host, port = parse_listen(http.listen, HTTP_PORT)
    return HttpOptions(host=host, port=port, token=resolve_secret("token", http.token, http.token_env, http.token_file))


def _api_options(settings: Settings) -> Any:
    from miner.api.cgminer.server import ApiAccess
    from miner.api.service import ApiOptions

    api = settings.api
    if api.listen is None:
        return None
    host, port = parse_listen(api.listen, API_PORT)
    allowed = tuple(_network(text) for text in api.allow)
    return ApiOptions(host=host, port=port, access=ApiAccess(write=api.write, allowed=allowed))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise UserError(f"--api-allow {text}: write networks like 192.168.1.0/24") from None


def _config_file(named: str | None, datadir: Path | None) -> Path | None:
    if named is not None:
        return None if named == "none" else Path(named)
    usual = (datadir or default_datadir()) / _CONFIG_NAME
    return usual if usual.exists() else None  # a folder in its place is refused, not passed over


def _write_config(path: Path, settings: Settings) -> None:
    """Into a new file for its owner's eyes alone: there may be passwords in it."""
    try:
        data = dump_settings(settings).encode()
    except UnicodeEncodeError as error:
        where = error.object[max(0, error.start - 20) : error.end + 20]
        raise UserError(f"cannot write {path}: there are characters that are no text in {where!a}") from None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(f"{path} exists already: choose another name, or remove it") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"wrote {path}; passwords of the command line and the environment are not in it")


def _version() -> str:
    try:
        return importlib.metadata.version("pickaxe")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
