"""`pickaxe mine`, `pickaxe devices` and `pickaxe bench`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from chain.params import NETWORKS, NetworkParams, load_network, network
from chain.primitives.target import target_of_difficulty

_SMALLEST_REPORTED_RATE = 1e-9


@click.command()
@click.option("--network", "network_name", default="pickaxe", show_default=True, help="Network to mine.")
@click.option("--address", required=True, help="Where rewards go: an address, addr(ADDRESS) or raw(HEX SCRIPT).")
@click.option("--rpc-url", "rpc_urls", multiple=True, metavar="URL", help="The node; repeat for spare ones, in order.")
@click.option("--rpc-cookie", type=click.Path(path_type=Path, dir_okay=False), help="The node's cookie file.")
@click.option("--rpc-user", help="User name, where the node has one.")
@click.option("--rpc-password", envvar="PICKAXE_RPC_PASSWORD", help="Its password; better in PICKAXE_RPC_PASSWORD.")
@click.option("--datadir", type=click.Path(path_type=Path, file_okay=False), help="Where the node keeps its cookie.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Processor cores to mine on; all by default.")
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
    address: str,
    rpc_urls: Sequence[str],
    rpc_cookie: Path | None,
    rpc_user: str | None,
    rpc_password: str | None,
    datadir: Path | None,
    threads: int | None,
    blocks: int | None,
    pace: float,
    min_difficulty: float | None,
    no_version_rolling: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Mine with this machine's processor on a node's getblocktemplate, ours or Bitcoin Core's."""
    from miner.json_display import JsonDisplay
    from miner.screen import LiveDisplay, LogDisplay, summary
    from miner.work.payout import payout_script
    from miner.work.rpc import Endpoint

    folder = datadir or _default_datadir()
    params = _network(network_name, folder)
    payout = payout_script(address, params)
    cookie = rpc_cookie or folder / params.data_folder / ".cookie"
    urls = rpc_urls or [f"http://127.0.0.1:{_local_rpc_port(params, folder)}"]
    endpoints = [Endpoint(url, None if rpc_user is not None else cookie, rpc_user, rpc_password) for url in urls]

    console = Console()
    display: LiveDisplay | LogDisplay | JsonDisplay
    if as_json:
        display = JsonDisplay()
    elif quiet or not console.is_terminal:
        display = LogDisplay(console)
    else:
        display = LiveDisplay(console, f"pickaxe mine: network {params.name}, paying {address[:64]}")

    from miner.app import MiningOptions, run_miner
    from miner.cpu import cpu_devices

    devices = cpu_devices(threads)
    options = MiningOptions(
        params=params,
        endpoints=endpoints,
        payout=payout,
        max_blocks=blocks,
        pace_s=pace,
        easiest_target=None if min_difficulty is None else target_of_difficulty(min_difficulty),
        version_rolling=not no_version_rolling,
    )

    async def run() -> None:
        report = await run_miner(options, devices, display)
        if not as_json:
            console.print(summary(report), markup=False, highlight=False, soft_wrap=True)

    with contextlib.suppress(KeyboardInterrupt):  # before the loop takes the signal over
        asyncio.run(run())


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
