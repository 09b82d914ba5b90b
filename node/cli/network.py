"""`pickaxe network`: the networks there are, and making one."""

from __future__ import annotations

import time
from pathlib import Path

import click

from chain.params import NETWORKS, NetworkParams, Retargeting
from chain.primitives.amount import format_amount, parse_amount
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.types import hash_to_hex
from node.config import default_datadir
from node.networks import FOLDER, own_networks, resolve

_DATADIR = click.option("--datadir", type=click.Path(path_type=Path), help="Data directory [default: ~/.pickaxe].")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def network() -> None:
    """List, show and create networks."""


@network.command("list")
@_DATADIR
def list_(datadir: Path | None) -> None:
    """All networks that --network takes by name."""
    for name, params in NETWORKS.items():
        click.echo(f"{name:<14} {_summary(params)}")
    for path in own_networks(_home(datadir)):
        try:
            click.echo(f"{path.stem:<14} {_summary(resolve(path.stem, _home(datadir)))}")
        except UserError as error:
            click.echo(f"{path.stem:<14} unusable: {error}")


def _summary(params: NetworkParams) -> str:
    return f"port {params.default_port:<6} RPC {params.rpc_port:<6} a block every {params.block_interval_s} s"


@network.command()
@click.argument("name")
@_DATADIR
def show(name: str, datadir: Path | None) -> None:
    """All about the network NAME."""
    params = resolve(name, _home(datadir))
    prefixes = params.addresses
    rows = {
        "name": params.name,
        "genesis": hash_to_hex(params.genesis_hash),
        "magic": params.magic.hex(),
        "ports": f"{params.default_port} for peers, {params.rpc_port} for RPC",
        "addresses": f"{prefixes.bech32_hrp}1…, base58 versions {prefixes.p2pkh} and {prefixes.p2sh}",
        "block interval": f"{params.block_interval_s} s",
        "retargeting": params.retargeting.value,
        "easiest target": f"{params.pow_limit_nbits:08x}",
        "subsidy": f"{format_amount(params.initial_subsidy)}, halved every {params.subsidy_halving_interval} blocks",
        "future drift": f"{params.max_future_drift_s} s",
        "BIP54 from": "never" if params.bip54_height is None else str(params.bip54_height),
    }
    for key, value in rows.items():
        click.echo(f"{key:<15} {value}")


@network.command()
@click.argument("name")
@_DATADIR
@click.option("--message", required=True, help="Text for the genesis block, such as a headline of the day.")
@click.option(
    "--block-interval", type=click.IntRange(1), default=120, show_default=True, help="Seconds between blocks."
)
@click.option(
    "--retargeting",
    type=click.Choice([kind.value for kind in Retargeting]),
    default=Retargeting.ASERT.value,
    show_default=True,
    help="How difficulty follows hash rate; none keeps the easiest target, for tests.",
)
@click.option("--target", default="1f00ffff", show_default=True, help="Easiest target, as nBits in hex.")
@click.option("--subsidy", default="10", show_default=True, help="Coins for the first blocks.")
@click.option("--halving-interval", type=click.IntRange(1), default=1_051_200, show_default=True, help="Blocks.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port for peers [default: drawn from the name].")
@click.option("--rpc-port", type=click.IntRange(1, 65535), help="Port for RPC [default: one below].")
@click.option("--address-prefix", help="Bech32 prefix [default: the name's first letters].")
@click.option("--out", type=click.Path(path_type=Path), help="File to write [default: DATADIR/networks/NAME.toml].")
def create(
    name: str,
    datadir: Path | None,
    message: str,
    block_interval: int,
    retargeting: str,
    target: str,
    subsidy: str,
    halving_interval: int,
    port: int | None,
    rpc_port: int | None,
    address_prefix: str | None,
    out: Path | None,
) -> None:
    """Mine a genesis block for a network of your own and write its file.

    Whoever joins uses the same file: put it into DATADIR/networks/ and say `--network NAME`, or give its path.
    """
    from chain.network_file import create_network

    try:
        limit = int(target, 16)
    except ValueError:
        raise UserError(f"--target {target}: expected nBits in hexadecimal, like 1f00ffff.") from None
    try:
        initial = parse_amount(subsidy)
    except DecodeError as error:
        raise UserError(f"--subsidy {subsidy}: {error}.") from error
    path = out or _home(datadir) / FOLDER / f"{name}.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be created: {error.strerror}.") from error
    params = create_network(
        path,
        name,
        message=message,
        time=int(time.time()),
        limit_nbits=limit,
        retargeting=Retargeting(retargeting),
        block_interval_s=block_interval,
        initial_subsidy=initial,
        halving_interval=halving_interval,
        port=port,
        rpc_port=rpc_port,
        bech32_prefix=address_prefix,
    )
    click.echo(f"Network {params.name} is in {path}; its genesis block is {hash_to_hex(params.genesis_hash)}.")


def _home(datadir: Path | None) -> Path:
    return (datadir or default_datadir()).expanduser()
