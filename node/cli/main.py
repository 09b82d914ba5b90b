"""The `pickaxe` command. Subcommands are imported when they are called, so that `pickaxe --help` is instant."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click

#: name -> (module, attribute, what `pickaxe --help` says)
COMMANDS: Final = {
    "up": ("node.up", "up", "Run node, miner and wallet together on the dev network, with a live screen."),
    "node": ("node.cli.node", "node", "Run a full node."),
    "mine": ("miner.cli", "mine", "Mine on processor, graphics cards and ASIC boards."),
    "wallet": ("wallet.cli", "wallet", "Keep keys, receive and send coins."),
    "rpc": ("node.cli.rpc", "rpc", "Call a running node's JSON-RPC, as bitcoin-cli does."),
    "devices": ("miner.cli", "devices", "List the devices that can mine."),
    "asic": ("miner.asic.cli", "asic", "Find, test and emulate ASIC boards on serial ports."),
    "bench": ("miner.cli", "bench", "Measure this machine's hash rate."),
    "index": ("node.cli.index", "index", "List and remove the node's optional indexes."),
    "network": ("node.cli.network", "network", "List, show and create networks."),
}

INTERRUPTED: Final = 128 + signal.SIGINT  #: exit status, as shells count it


class LazyGroup(click.Group):
    """Knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # For all commands: an unset shell variable would have them work in whatever folder is the current one.
        for word, value in zip(args, [*args[1:], None], strict=True):
            if word == "--datadir=" or (word == "--datadir" and value == ""):
                from chain.primitives.errors import UserError

                raise UserError("--datadir is empty: name a folder, or leave it out for the usual one.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would say "Aborted!" of what the user has just asked for
            raise SystemExit(INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pickaxe", prog_name="pickaxe")
def cli() -> None:
    """Pickaxe: a proof-of-work chain to run, mine and spend on."""


def main() -> None:
    """Entry point: a user sees one line that says what is wrong, never a traceback."""
    from chain.primitives.errors import LocalFault, UserError

    _write_whatever_comes()
    _have_a_home()
    try:
        cli()
    except (UserError, LocalFault) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        # What no command foresaw of files that are closed to this user, disks that are full and the like.
        if not error.strerror:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        advice = (
            ": check its owner and mode, and those of the folders above" if isinstance(error, PermissionError) else ""
        )
        click.echo(f"Error: {place}{error.strerror}{advice}", err=True)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done: nothing is left to break off but its end


def _write_whatever_comes() -> None:
    """Characters that the terminal's encoding lacks, and stray bytes of file names and arguments, become question
    marks: a name that cannot be shown must not end the program that has it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _have_a_home() -> None:
    """For a user without an account and without HOME, as in containers: the root, as container runtimes say. What is
    kept there by default can then be named elsewhere, or is missed with a line that says where it was sought."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep


if __name__ == "__main__":
    main()
