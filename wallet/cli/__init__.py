"""`pickaxe wallet`: the commands, in the order in which help lists them."""

from __future__ import annotations

import click

from wallet.cli import money, pay, setup
from wallet.cli.options import common_options


class _Ordered(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@common_options
def wallet() -> None:
    """Keep keys, receive and send coins. Keys never leave this process and its encrypted file."""


for command in (
    setup.create,
    setup.restore,
    setup.watch,
    setup.list_wallets,
    money.address,
    money.balance,
    money.history,
    pay.send,
    pay.bumpfee,
    pay.rebroadcast_command,
    pay.abandon,
    money.sync,
    money.rescan,
    pay.sign,
    pay.broadcast_command,
    setup.export,
    setup.words,
    setup.change_password,
):
    wallet.add_command(command)

__all__ = ["wallet"]
