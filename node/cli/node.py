"""`pickaxe node`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from chain import collector
from chain.primitives.errors import UserError
from node.config import CONFIG_FILE, OPTIONS, build, default_datadir, load_toml
from node.networks import resolve


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--network", metavar="NAME", help="Network to join [default: pickaxe]; `pickaxe network list` shows them."
)
@click.option("--datadir", type=click.Path(path_type=Path), help="Data directory [default: ~/.pickaxe].")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="TOML file [default: DATADIR/pickaxe.toml]."
)
@click.option(
    "--blocksdir", "blocks_dir", type=click.Path(), help="Keep block files below this folder [default: DATADIR]."
)
@click.option(
    "--loadblock", multiple=True, type=click.Path(), help="Import blocks from FILE at start; may be repeated."
)
@click.option("--connect", multiple=True, metavar="HOST[:PORT]", help="Connect to these peers only; may be repeated.")
@click.option(
    "--addnode", multiple=True, metavar="HOST[:PORT]", help="Keep a connection to this peer; may be repeated."
)
@click.option("--listen/--no-listen", default=None, help="Accept connections from peers.")
@click.option("--bind", multiple=True, metavar="HOST[:PORT]", help="Address to listen on; may be repeated.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port for peers.")
@click.option("--rpc-port", type=click.IntRange(1, 65535), help="Port for JSON-RPC.")
@click.option("--rpc-bind", multiple=True, metavar="HOST[:PORT]", help="Address for JSON-RPC [default: loopback].")
@click.option("--rpc-allow-ip", multiple=True, metavar="IP[/BITS]", help="Who else may call; needed with --rpc-bind.")
@click.option("--rpc-user", help="RPC user [default: a cookie].")
@click.option("--rpc-password", envvar="PICKAXE_RPC_PASSWORD", help="RPC password.")
@click.option("--dbcache", "dbcache_mib", type=click.IntRange(4), help="Memory for coins not yet on disk, MiB.")
@click.option("--threads", "script_threads", type=click.IntRange(0), help="Signature check threads; 0 is one a core.")
@click.option(
    "--prune", "prune_mib", type=click.IntRange(0), help="Delete old blocks above this many MiB (550 or more)."
)
@click.option("--txindex/--no-txindex", "tx_index", default=None, help="Keep an index of all transactions.")
@click.option(
    "--blockfilterindex/--no-blockfilterindex", "filters", default=None, help="Keep compact filters of all blocks."
)
@click.option(
    "--peerblockfilters/--no-peerblockfilters",
    "peer_block_filters",
    default=None,
    help="Serve compact filters to peers (BIP157).",
)
@click.option(
    "--coinstatsindex/--no-coinstatsindex",
    "coin_stats_index",
    default=None,
    help="Keep the coins' totals and MuHash for every block.",
)
@click.option(
    "--addressindex/--no-addressindex", "address_index", default=None, help="Keep the history of every address."
)
@click.option(
    "--assumevalid", "assume_valid", metavar="HASH", help="Skip script checks below this block; 0 checks all."
)
@click.option(
    "--minimum-chain-work",
    metavar="HEX",
    help="Least work of a chain to sync to; 0 for a copy of a chain's first blocks.",
)
@click.option("--reindex", is_flag=True, default=None, help="Rebuild everything from the block files.")
@click.option("--reindex-chainstate", is_flag=True, default=None, help="Rebuild the coins from the block files.")
@click.option("--stop-at-height", type=click.IntRange(0), help="Stop when the tip reaches this height.")
@click.option("--mocktime", type=click.IntRange(0), hidden=True)
@click.option("--whitelist", multiple=True, metavar="[PERMISSIONS@]IP", help="Peers to trust; may be repeated.")
@click.option("--max-connections", type=click.IntRange(0), help="Most connections to peers.")
@click.option("--debug", multiple=True, metavar="CATEGORY", help="Log this category in detail; 'all' for all.")
@click.option("--quiet", is_flag=True, help="Log to the file only.")
def node(config_file: Path | None, datadir: Path | None, quiet: bool, filters: bool | None, **options: Any) -> None:
    """Run a full node until Ctrl-C or `pickaxe rpc stop`.

    Settings come from the command line, then DATADIR/pickaxe.toml, then the defaults.
    """
    home = (datadir or default_datadir()).expanduser().absolute()
    values: dict[str, Any] = {"datadir": home}
    chosen = config_file or home / CONFIG_FILE
    if config_file is not None or chosen.exists():  # a folder in its place is refused, not passed over
        values |= load_toml(chosen)
    renamed = {"loadblock": "load_block", "stop_at_height": "stop_at_height"}
    for name, value in options.items():
        if value is None or value == ():
            continue
        values[renamed.get(name, name)] = value
    if filters is not None:
        values["block_filter_index"] = "basic" if filters else ""
    if options["blocks_dir"] is not None:
        if not options["blocks_dir"]:
            raise UserError("--blocksdir is empty: name a folder, or leave it out to keep the blocks in the datadir.")
        values["blocks_dir"] = str(Path(options["blocks_dir"]).expanduser().absolute())
    if quiet:
        values["print_to_console"] = False
    if values.get("connect"):
        values.setdefault("dns_seeds", False)
    for path in values.get("load_block", ()):
        if not Path(path).is_file():
            raise UserError(f"--loadblock {path}: there is no such file.")
    try:
        home.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--datadir {home} cannot be created: a file is in its place.") from error
    except OSError as error:
        raise UserError(f"--datadir {home} cannot be created: {error.strerror}.") from error
    config = build(values)
    _check_texts(values, lambda name: f"--{name.replace('_', '-')}" if options.get(name) else f"{chosen}: {_key(name)}")
    if not config.bind and not config.whitebind and resolve(config.network, config.datadir).is_mockable:
        # Anyone can mine a longer chain there: only for peers on this machine unless asked.
        config = replace(config, bind=("127.0.0.1",))

    collector.tune()  # the node is mostly modules until it is up
    from node.app import run_node
    from node.warm_up import end_process

    end_process(run_node(config))


def _check_texts(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """UserError for an address or log category that can never work; `pickaxe-bitcoind` only logs it, as Core does.
    `where`: how the user wrote a field."""
    from node.log import CATEGORIES, CategoryFilter
    from p2p.netaddress import split_host_port

    for name in ("addnode", "connect", "seednode", "rpc_bind"):
        for text in values.get(name, ()):
            if name == "connect" and text == "0":
                continue  # to nobody
            any_port = name == "rpc_bind" and text.endswith(":0")
            try:
                host, _ = split_host_port(text[:-2] if any_port else text, 1)
            except ValueError:
                raise UserError(
                    f"{where(name)} {text}: write HOST or HOST:PORT, with a port from 1 to 65535."
                ) from None
            if not host:
                raise UserError(f"{where(name)} needs a host: write HOST or HOST:PORT.")
    for name in ("debug", "debug_exclude"):
        unknown = CategoryFilter().switch(values.get(name, ()), True)
        if unknown is not None:
            known = ", ".join(CATEGORIES)
            raise UserError(f"{where(name)} {unknown}: there is no such log category; choose from all, {known}.")


def _key(name: str) -> str:
    return next((option.toml for option in OPTIONS if option.field == name), name)
