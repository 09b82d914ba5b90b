"""`pickaxe-bitcoind`: the node behind Bitcoin Core's command line, files and exit codes, so that software written for
Core can drive it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from chain.primitives.errors import LocalFault, UserError
from node.bitcoin_conf import Arguments, load, parse_command_line
from node.config import OPTIONS
from p2p.config import CLIENT_VERSION

_BANNER = f"Pickaxe daemon version v{CLIENT_VERSION} bitcoind"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: exit status 0 after a clean stop, 1 after `Error: …` on stderr. Where a node ran, the process ends
    here.
    """
    try:
        arguments = parse_command_line(sys.argv[1:] if argv is None else argv)
        if arguments.flag("h"):
            print(help_text())
            return 0
        if arguments.flag("version"):
            print(f"{_BANNER}\nMIT licence; a full node in Python, exact to Bitcoin's rules.")
            return 0
        _run(arguments)
    except (UserError, LocalFault) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _run(arguments: Arguments) -> NoReturn:
    loaded = load(arguments)
    if arguments.flag("daemon"):
        _daemonize()
    from node.app import run_node
    from node.warm_up import end_process

    # Core 31 still takes these two options, but what it limits is clusters.
    config = replace(loaded.config, limit_ancestor_count=0, limit_descendant_count=0)
    end_process(run_node(config, core_layout=True, warnings=loaded.warnings))


def _daemonize() -> None:
    """Leave the terminal: the parent exits at once, the child carries on in a session of its own."""
    if os.fork():
        print("Pickaxe starting")
        sys.stdout.flush()
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def help_text() -> str:
    """Core's form: one option a paragraph, under 'Options:'."""
    lines = [_BANNER, "", "Usage:  pickaxe-bitcoind [options]", "", "Options:", ""]
    fixed = (
        ("?", "Print this help message and exit (also -h or -help)"),
        ("version", "Print version and exit"),
        ("datadir=<dir>", "Specify data directory"),
        ("conf=<file>", "Specify path to configuration file (default: bitcoin.conf in the data directory)"),
        ("chain=<chain>", "Use the chain <chain>: main, test, testnet4, signet, regtest, pickaxe, pickaxe-test, dev"),
        ("regtest", "Same as -chain=regtest; also -testnet, -testnet4, -signet"),
    )
    for name, text in fixed:
        lines += [f"  -{name}", f"       {text}", ""]
    for option in OPTIONS:
        lines += [f"  -{option.core}", f"       {option.help[0].upper()}{option.help[1:]}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
