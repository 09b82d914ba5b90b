"""`pickaxe up`: the command."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from miner.cli.numbers import Number
from miner.terminal import OutputConsole
from node.ending import take_no_more_signals
from node.up.demo import Demo, DemoOptions
from node.up.screen import LiveScreen, PlainScreen, summary


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--datadir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".pickaxe"),
    show_default=True,
    help="Where chain, wallets and logs are kept; safe to delete.",
)
@click.option("--blocks", type=click.IntRange(1), help="Stop after this many blocks and print a summary.")
@click.option(
    "--pace",
    "pace_s",
    type=Number(0, 600),
    default=2.0,
    show_default=True,
    help="Mean seconds between two blocks once coins can be spent; 0: as fast as they are found.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads that mine.")
@click.option("--plain", is_flag=True, help="Lines instead of a live screen [default where there is no terminal].")
def up(datadir: Path, blocks: int | None, pace_s: float, threads: int, plain: bool) -> None:
    """Run node, miner and wallets together on the dev network, with a live screen.

    The first hundred blocks come as fast as they are found, since coins that were mined can be spent only a hundred
    blocks later. From then on two wallets pay each other.
    """
    console = OutputConsole()
    options = DemoOptions(datadir.absolute(), blocks, pace_s, threads)
    screen = PlainScreen(console) if plain or not console.redraws else LiveScreen(console)
    demo = Demo(options, screen)
    with contextlib.suppress(KeyboardInterrupt):  # as the loop gives the signal back: the end is near already
        try:
            asyncio.run(demo.run())
        finally:
            take_no_more_signals()
    click.echo(summary(demo.state, str(datadir)))
