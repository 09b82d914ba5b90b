"""`pickaxe mine`, `pickaxe devices` and `pickaxe bench`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from chain.params import NETWORKS, NetworkParams, load_network, network
from chain.primitives.errors import UserError
from chain.primitives.target import target_of_difficulty

if TYPE_CHECKING:
    from miner.device import HashDevice
    from miner.work.rpc import Endpoint
    from miner.work.source import SourceFactory

_SMALLEST_REPORTED_RATE = 1e-9


@click.command()
@click.option("--network", "network_name", default="pickaxe", show_default=True, help="Network to mine.")
@click.option("--address", help="Where a node's rewards go: an address, addr(ADDRESS) or raw(HEX SCRIPT).")
@click.option("--url", "pool_urls", multiple=True, metavar="URL", help="A pool; repeat for spare ones, in order.")
@click.option("--user", help="Who you are at the pool: often an address, or ACCOUNT.WORKER.")
@click.option("--password", envvar="PICKAXE_POOL_PASSWORD", help="The pool's password, where it wants one.")
@click.option(
    "--suggest-difficulty",
    type=click.FloatRange(min=0, min_open=True),
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
    "device_kind",
    type=click.Choice(["cpu", "asic"]),
    default="cpu",
    show_default=True,
    help="This machine's processor, or boards on serial ports.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Processor cores to mine on; all by default.")
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
@click.option("--frequency", type=click.FloatRange(min=1), metavar="MHZ", help="Clock of the boards' chips.")
@click.option("--zero-bits", type=click.IntRange(0, 32), default=32, help="For emulated boards: what they printed.")
@click.option("--blocks", type=click.IntRange(min=1), metavar="N", help="Stop after N accepted blocks.")
@click.option(
    "--pace",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Least time between two blocks, for networks without difficulty.",
)
@click.option(
    "--min-difficulty",
    type=click.FloatRange(min=0, min_open=True),
    metavar="D",
    help="Offer no block easier than this, on networks that would take one.",
)
@click.option("--no-version-rolling", is_flag=True, help="Leave the header's version bits (BIP320) alone: slower.")
@click.option("--quiet", is_flag=True, help="Log lines instead of the live screen.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON instead: counters twice a second, and messages.")
def mine(
    network_name: str,
    address: str | None,
    pool_urls: Sequence[str],
    user: str | None,
    password: str | None,
    suggest_difficulty: float | None,
    tls_ca: Path | None,
    follow_redirects: bool,
    rpc_urls: Sequence[str],
    rpc_cookie: Path | None,
    rpc_user: str | None,
    rpc_password: str | None,
    datadir: Path | None,
    device_kind: str,
    threads: int | None,
    ports: Sequence[str],
    boards: Sequence[str],
    model: str | None,
    frequency: float | None,
    zero_bits: int,
    blocks: int | None,
    pace: float,
    min_difficulty: float | None,
    no_version_rolling: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Mine with this machine's processor or with boards on serial ports: at pools (--url), or on a node's
    getblocktemplate, ours or Bitcoin Core's (--address)."""
    from miner.json_display import JsonDisplay
    from miner.screen import LiveDisplay, LogDisplay, summary
    from miner.work.rpc import Endpoint

    folder = datadir or _default_datadir()
    params = _network(network_name, folder)
    easiest_target = None if min_difficulty is None else target_of_difficulty(min_difficulty)
    if pool_urls:
        if rpc_urls:
            raise UserError("work comes from pools (--url) or from nodes (--rpc-url), not from both")
        wishes = PoolWishes(
            version_rolling=not no_version_rolling,
            minimum_difficulty=min_difficulty,
            suggested_difficulty=suggest_difficulty,
            certificates=tls_ca,
            follow_redirects=follow_redirects,
        )
        source = _pool_source(params, pool_urls, user or address, password, wishes)
        title = f"pools, as {(user or address or '')[:64]}"
    elif address is None:
        raise UserError("say where to mine: --address for a node's rewards, or --url and --user for a pool")
    else:
        cookie = rpc_cookie or folder / params.data_folder / ".cookie"
        urls = rpc_urls or [f"http://127.0.0.1:{_local_rpc_port(params, folder)}"]
        endpoints = [Endpoint(url, None if rpc_user is not None else cookie, rpc_user, rpc_password) for url in urls]
        source = _node_source(params, endpoints, address, not no_version_rolling, easiest_target)
        title = f"paying {address[:64]}"

    console = Console()
    display: LiveDisplay | LogDisplay | JsonDisplay
    if as_json:
        display = JsonDisplay()
    elif quiet or not console.is_terminal:
        display = LogDisplay(console)
    else:
        display = LiveDisplay(console, f"pickaxe mine: network {params.name}, {title}")

    from miner.app import MiningOptions, run_miner

    devices = _devices(device_kind, threads, ports, boards, model, frequency, zero_bits)
    options = MiningOptions(
        source=source,
        max_blocks=blocks,
        pace_s=pace,
    )

    async def run() -> None:
        report = await run_miner(options, devices, display)
        if not as_json:
            console.print(summary(report), markup=False, highlight=False, soft_wrap=True)

    with contextlib.suppress(KeyboardInterrupt):  # before the loop takes the signal over
        asyncio.run(run())


def _devices(
    kind: str,
    threads: int | None,
    ports: Sequence[str],
    boards: Sequence[str],
    model: str | None,
    frequency_mhz: float | None,
    zero_bits: int,
) -> Sequence[HashDevice]:
    """The devices that the options name; UserError where they do not fit together."""
    if kind == "cpu":
        if ports or boards or model or frequency_mhz:
            raise UserError("--port, --board, --model and --frequency are for boards: add --device asic")
        from miner.cpu import cpu_devices

        return cpu_devices(threads)
    if threads is not None:
        raise UserError("--threads is for the processor: leave it out with --device asic")
    if not ports:
        raise UserError("say where the board is: --port /dev/ttyACM0 (`pickaxe asic scan` lists the ports)")
    from miner.asic.device import asic_devices

    return asic_devices(ports, model, frequency_mhz, zero_bits, boards)


@click.command()
def devices() -> None:
    """List what can mine here, and why something cannot."""
    from miner.cpu.features import ALL_VARIANTS, host_processor, usable_cores, usable_variants
    from miner.cpu.tuner import tuned
    from miner.hashrate import format_rate

    processor = host_processor()
    console = Console()
    choice = tuned()
    table = Table("kernel", "lanes", "state")
    usable = usable_variants(processor)
    for variant, needs in ALL_VARIANTS:
        if variant not in usable:
            state = f"not usable: this processor lacks {needs}"
        elif variant == choice.variant:
            state = (
                f"in use, {choice.versions} versions share a message schedule:"
                f" {format_rate(choice.rate)} a core when tuned"
            )
        else:
            state = "usable"
        table.add_row(str(variant), str(variant.width), state)
    console.print(f"CPU: {processor.name}, {len(usable_cores())} usable cores", markup=False, highlight=False)
    console.print(table)


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, help="Time for each row.")
def bench(seconds: float) -> None:
    """Measure this machine's hash rate and compare with earlier runs."""
    from miner.bench import History, cpu_set, measure, measure_hashlib
    from miner.cpu.features import usable_cores
    from miner.cpu.kernels import cache_folder
    from miner.cpu.tuner import tuned
    from miner.hashrate import format_rate

    choice = tuned()
    history = History(cache_folder() / "bench.json")
    earlier = history.load()
    table = Table("what", "hash rate", "a core", "against hashlib", "against the last run")
    for heading in table.columns[1:]:
        heading.justify = "right"
    baseline = measure_hashlib(seconds)
    results = {"hashlib, 1 thread": baseline}
    cores = len(usable_cores())
    threads_of = {"hashlib, 1 thread": 1}
    for threads in sorted({1, cores}):
        name = f"kernel {choice.variant}, {choice.versions} versions, {threads} thread{'s' if threads > 1 else ''}"
        results[name] = measure(cpu_set(choice.variant, choice.versions, threads), choice.versions, seconds)
        threads_of[name] = threads
    for name, rate in results.items():
        before = earlier.get(name, 0.0)
        change = f"{(rate / before - 1) * 100:+.1f} %" if before > _SMALLEST_REPORTED_RATE else "-"
        table.add_row(name, format_rate(rate), format_rate(rate / threads_of[name]), f"{rate / baseline:.1f}", change)
    history.save(results)
    Console().print(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWishes:
    """What the command line says about pools."""

    version_rolling: bool
    minimum_difficulty: float | None
    suggested_difficulty: float | None
    certificates: Path | None
    follow_redirects: bool


def _node_source(
    params: NetworkParams,
    endpoints: Sequence[Endpoint],
    address: str,
    version_rolling: bool,
    easiest_target: int | None,
) -> SourceFactory:
    from miner.work.getblocktemplate import TemplateSource
    from miner.work.payout import payout_script

    return functools.partial(
        TemplateSource,
        endpoints,
        params,
        payout_script(address, params),
        version_rolling=version_rolling,
        easiest_target=easiest_target,
    )


def _pool_source(
    params: NetworkParams, urls: Sequence[str], user: str | None, password: str | None, wishes: PoolWishes
) -> SourceFactory:
    from miner.work.job import VERSION_ROLLING_MASK
    from miner.work.stratum.address import PoolAddress, parse_pool_url
    from miner.work.stratum.client import EASIEST_SHARE_TARGET, ClientOptions
    from miner.work.stratum.source import StratumSource

    easiest_share = EASIEST_SHARE_TARGET
    if wishes.minimum_difficulty is not None:
        easiest_share = min(easiest_share, target_of_difficulty(wishes.minimum_difficulty))

    def options_for(pool: PoolAddress) -> ClientOptions:
        return ClientOptions(
            user=pool.user,
            password=pool.password,
            version_mask=VERSION_ROLLING_MASK if wishes.version_rolling else 0,
            easiest_target=params.pow_limit,
            easiest_share_target=easiest_share,
            minimum_difficulty=wishes.minimum_difficulty,
            suggested_difficulty=wishes.suggested_difficulty,
        )

    tls = None
    if wishes.certificates is not None:
        tls = ssl.create_default_context()
        try:
            tls.load_verify_locations(wishes.certificates)
        except (OSError, ssl.SSLError):
            raise UserError(f"{wishes.certificates} holds no certificates (PEM is expected)") from None
    return functools.partial(
        StratumSource,
        [parse_pool_url(url, user, password) for url in urls],
        options_for,
        tls=tls,
        may_redirect=wishes.follow_redirects,
    )


def _default_datadir() -> Path:
    chosen = os.environ.get("PICKAXE_DATADIR")
    return Path(chosen) if chosen else Path.home() / ".pickaxe"


def _local_rpc_port(params: NetworkParams, datadir: Path) -> int:
    """The port that a node on this data directory wrote down when it started, else the network's usual one."""
    try:
        port = int((datadir / params.data_folder / "rpc.port").read_text())
    except (OSError, ValueError):
        return params.rpc_port
    return port if 0 < port < 65536 else params.rpc_port


def _network(name: str, datadir: Path) -> NetworkParams:
    """A built-in network, or one that `pickaxe network create` wrote below the datadir."""
    own = datadir / "networks" / f"{name}.toml"
    if name not in NETWORKS and own.is_file():
        return load_network(own)
    return network(name)
