"""What all wallet commands share: options, where things are, passwords, talking to the node."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from chain.params import NETWORKS, NetworkParams, load_network, network
from chain.primitives.errors import UserError
from wallet.sync import NodeAddress, NodeError, RpcClient, RpcError, Synchronizer, SyncReport, unsent
from wallet.wallet import Wallet, wallet_path

PASSWORD_VARIABLE = "PICKAXE_WALLET_PASSWORD"  # noqa: S105 - the name of a variable
NODE_PORT_FILE = "rpc.port"  #: in the node's network folder
MAX_SECRET_FILE_BYTES = 4096
SHOW_PROGRESS_FROM_BLOCKS = 100
DEFAULT_NETWORK = "pickaxe"
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The shared options, as given; None where not."""

    network: str | None = None
    datadir: Path | None = None
    wallet: str | None = None
    rpc_url: str | None = None
    rpc_cookie: Path | None = None
    rpc_user: str | None = None
    rpc_password: str | None = None
    password_file: Path | None = None
    as_json: bool | None = None

    @property
    def home(self) -> Path:
        """The data directory."""
        return (self.datadir or Path("~/.pickaxe")).expanduser().absolute()

    @property
    def name(self) -> str:
        """The wallet's name."""
        return self.wallet or "default"

    def params(self) -> NetworkParams:
        """The network: a built-in one, one made with `pickaxe network create`, or a TOML file."""
        name = self.network or DEFAULT_NETWORK
        own = self.home / "networks" / f"{name}.toml"
        if name not in NETWORKS and own.is_file():
            return load_network(own)
        return network(name)

    def path(self) -> Path:
        """The wallet's file."""
        return wallet_path(self.home, self.params().name, self.name)

    def node_address(self) -> NodeAddress:
        """Where to find the node and how to log in."""
        params = self.params()
        folder = self.home / params.data_folder if params.data_folder else self.home
        url = self.rpc_url or f"http://127.0.0.1:{_node_port(folder) or params.rpc_port}"
        if self.rpc_user is not None:
            return NodeAddress(url, user=self.rpc_user, password=self.rpc_password)
        return NodeAddress(url, cookie=self.rpc_cookie or folder / ".cookie")

    def password(self, prompt: str = "Password") -> str:
        """The wallet's password: from --password-file, the environment, or the keyboard."""
        given = self._given_password()
        return given if given is not None else ask_secret(prompt)

    def new_password(self) -> str:
        """A password for a new wallet, typed twice when typed."""
        given = self._given_password()
        if given is not None:
            return given
        first = ask_secret("New password (it encrypts the wallet file)")
        if ask_secret("The same again") != first:
            raise UserError("the two passwords differ: nothing was made, try again")
        return first

    def _given_password(self) -> str | None:
        if self.password_file is not None:
            return read_secret(self.password_file)
        return os.environ.get(PASSWORD_VARIABLE)

    def open_wallet(self) -> Wallet:
        """Open the wallet that the options name. UserError says why not."""
        params, path = self.params(), self.path()
        if not path.is_file():
            raise UserError(
                f"there is no wallet '{self.name}' on {params.name} ({path}): make one with "
                f"`pickaxe wallet create --network {params.name} --wallet {self.name}`, "
                "or look with `pickaxe wallet list`"
            )
        return Wallet.open(path, params, self.password(f"Password of wallet '{self.name}'"))


_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("--network",), {"metavar": "NAME", "help": f"The network [default: {DEFAULT_NETWORK}]."}),
    (("--datadir",), {"type": click.Path(path_type=Path), "help": "Data directory [default: ~/.pickaxe]."}),
    (("--wallet",), {"metavar": "NAME", "help": "Which wallet [default: default]."}),
    (("--rpc-url",), {"metavar": "URL", "help": "The node's JSON-RPC [default: this machine, the network's port]."}),
    (("--rpc-cookie",), {"type": click.Path(path_type=Path), "help": "The node's cookie file [default: in DATADIR]."}),
    (("--rpc-user",), {"help": "RPC user, instead of a cookie."}),
    (("--rpc-password",), {"envvar": "PICKAXE_RPC_PASSWORD", "help": "RPC password; better in PICKAXE_RPC_PASSWORD."}),
    (
        ("--password-file",),
        {"type": click.Path(path_type=Path), "help": f"File with the wallet's password; or set {PASSWORD_VARIABLE}."},
    ),
    (("--json", "as_json"), {"is_flag": True, "default": None, "help": "Print JSON."}),
]


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command. They may stand before or after the command's name; the latter wins."""
    for names, attributes in reversed(_OPTIONS):
        command = click.option(*names, expose_value=False, callback=_remember, **attributes)(command)
    return command


def settings() -> Settings:
    """The shared options of the command that runs."""
    found = click.get_current_context().find_root().meta.get("pickaxe.wallet")
    return found if isinstance(found, Settings) else Settings()


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is None:
        return
    meta = ctx.find_root().meta
    current = meta.get("pickaxe.wallet", Settings())
    name = str(param.name)
    if name in {field.name for field in fields(Settings)}:
        meta["pickaxe.wallet"] = replace(current, **{name: value})


def _node_port(folder: Path) -> int | None:
    """The port that a node of this data directory wrote down, if it listens elsewhere than usual."""
    try:
        text = (folder / NODE_PORT_FILE).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536 else None


def read_secret(path: Path) -> str:
    """The first line of a small file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_SECRET_FILE_BYTES:
        raise UserError(f"{path} is too large to hold a password")
    try:
        lines = raw.decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error
    return lines[0] if lines else ""


def ask_secret(prompt: str, without_keyboard: str = f"set {PASSWORD_VARIABLE} or give --password-file") -> str:
    """Text typed without being shown. `without_keyboard`: what a program does that cannot type. Raises UserError."""
    if not sys.stdin.isatty():
        raise UserError(f"a password is needed and there is no keyboard: {without_keyboard}")
    return str(click.prompt(prompt, hide_input=True, default="", show_default=False, err=True))


def confirm(question: str) -> None:
    """Go on only on a typed yes."""
    if not sys.stdin.isatty():
        raise UserError("this needs a confirmation and there is no keyboard: add --yes")
    if not click.confirm(question, default=False, err=True):
        raise UserError("nothing was done")


def emit(value: object) -> None:
    """Print JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """A remark for the person, beside the result."""
    click.echo(text, err=True)


def run(work: Awaitable[T]) -> T:
    """Run network work; the node's own errors become one line."""

    async def body() -> T:
        return await work

    try:
        return asyncio.run(body())
    except RpcError as error:
        raise UserError(f"the node refused {error.method}: {error.message}") from error


async def synchronize(wallet: Wallet, rpc: RpcClient, *, mempool: bool = True) -> SyncReport:
    """Bring the wallet up to date, with a bar on the terminal when it takes long."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("Reading blocks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task: Any = None

        def progress(height: int, tip: int) -> None:
            nonlocal task
            if task is None and tip - height > SHOW_PROGRESS_FROM_BLOCKS:
                task = bar.add_task("blocks", total=tip, completed=height)
            if task is not None:
                bar.update(task, completed=height, total=tip)

        report = await Synchronizer(wallet, rpc, progress).sync(mempool=mempool)
    if report.reorganised_from is not None:
        note(f"Note: the chain was reorganised below block {report.reorganised_from}; confirmations may have changed.")
    if report.node_is_syncing:
        note("Note: the node is still downloading the chain; newer payments are not visible yet.")
    waiting = len(unsent(wallet)) if mempool else 0
    if waiting:
        note(f"Note: the node lacks {waiting} of your payments; `pickaxe wallet rebroadcast` sends them again.")
    return report


def synchronize_or_note(options: Settings, wallet: Wallet) -> bool:
    """Synchronize if the node answers; else say how old the figures are. Whether it did."""

    async def work() -> None:
        async with RpcClient(options.node_address()) as rpc:
            await synchronize(wallet, rpc)

    try:
        run(work())
    except NodeError as error:
        seen = f"block {wallet.tip_height}" if wallet.tip_height >= 0 else "no block at all"
        note(f"Note: {error}. What follows is as of {seen}.")
        return False
    return True
