"""Commands that make, list and keep wallets."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from chain.primitives.errors import UserError
from wallet.cli.options import (
    Settings,
    ask_secret,
    common_options,
    confirm,
    emit,
    note,
    read_secret,
    run,
    settings,
)
from wallet.mnemonic import WORD_COUNTS, complete_words, entropy_from_mnemonic, generate
from wallet.sync import NodeError, RpcClient, RpcError
from wallet.wallet import GAP_LIMIT, Wallet, parse_exported

REORG_MARGIN = 100  #: a new wallet scans this many blocks before the tip, in case the tip is reorganised away
MAX_WORDS_BYTES = 2_000
MAX_EXPORT_BYTES = 20_000


@click.command()
@click.option(
    "--words", "word_count", type=click.Choice([str(n) for n in WORD_COUNTS]), default="12", show_default=True
)
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="File with a BIP39 passphrase (a 13th word).")
@common_options
def create(word_count: str, passphrase_file: Path | None) -> None:
    """Make a new wallet and show the words that back it up."""
    options = settings()
    path = options.path()
    if path.exists():
        raise UserError(f"a wallet '{options.name}' exists already ({path}): choose another name with --wallet")
    password = options.new_password()
    passphrase = read_secret(passphrase_file) if passphrase_file else ""
    words = generate(int(word_count))
    birthday = _node_height(options)
    with Wallet.create(
        path,
        options.params(),
        password,
        words,
        passphrase=passphrase,
        birthday_height=max(0, birthday - REORG_MARGIN),
    ) as made:
        if options.as_json:
            emit({"wallet": options.name, "path": str(path), "network": made.params.name, "words": words})
            return
    click.echo(_numbered(words))
    note(
        f"Wallet '{options.name}' is in {path}.\n"
        "Write these words down, in order, on paper. Whoever has them has the coins; without them, a lost file or a "
        "forgotten password means lost coins."
    )


@click.command()
@click.option(
    "--words-file", type=click.Path(path_type=Path), help="File with the words [default: typed, or standard input]."
)
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="File with the BIP39 passphrase, if there is one."
)
@click.option(
    "--birthday", type=click.IntRange(0), default=0, help="First block that can concern the wallet [default: 0]."
)
@click.option(
    "--gap-limit",
    type=click.IntRange(20, 100_000),
    default=GAP_LIMIT,
    show_default=True,
    help="Addresses watched ahead.",
)
@common_options
def restore(words_file: Path | None, passphrase_file: Path | None, birthday: int, gap_limit: int) -> None:
    """Make a wallet from the words of its backup."""
    options = settings()
    path = options.path()
    if path.exists():
        raise UserError(f"a wallet '{options.name}' exists already ({path}): choose another name with --wallet")
    words = complete_words(_read_words(words_file))
    entropy_from_mnemonic(words)
    passphrase = read_secret(passphrase_file) if passphrase_file else ""
    password = options.new_password()
    with Wallet.create(
        path,
        options.params(),
        password,
        words,
        passphrase=passphrase,
        birthday_height=birthday,
        gap_limit=gap_limit,
    ) as made:
        if options.as_json:
            emit({"wallet": options.name, "path": str(path), "network": made.params.name})
    note(f"Wallet '{options.name}' is in {path}. `pickaxe wallet sync` finds its coins.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--birthday", type=click.IntRange(0), default=0, help="First block that can concern it [default: 0].")
@common_options
def watch(file: Path, birthday: int) -> None:
    """Make a wallet without keys from FILE, what `export` printed ('-' for standard input). It sees all and cannot
    sign."""
    options = settings()
    path = options.path()
    exported = _read_text(None if str(file) == "-" else file, MAX_EXPORT_BYTES)
    if path.exists():
        raise UserError(f"a wallet '{options.name}' exists already ({path}): choose another name with --wallet")
    parse_exported(exported, options.params())
    password = options.new_password()
    Wallet.create_watching(path, options.params(), password, exported, birthday_height=birthday).close()
    if options.as_json:
        emit({"wallet": options.name, "path": str(path), "network": options.params().name})
    note(f"Wallet '{options.name}' is in {path}. It watches; `send --unsigned` drafts what the keys' own wallet signs.")


@click.command("list")
@common_options
def list_wallets() -> None:
    """List the wallets of the data directory."""
    options = settings()
    root = options.home / "wallets"
    wanted = options.network
    found = []
    if options.datadir is not None and not options.home.is_dir():
        raise UserError(f"--datadir {options.home}: there is no such folder")
    for file in _wallet_files(root):
        if wanted is None or file.parent.name == options.params().name:
            found.append({"wallet": file.stem, "network": file.parent.name, "path": str(file)})
    if options.as_json:
        emit(found)
        return
    for item in found:
        click.echo(f"{item['wallet']:<20} {item['network']:<14} {item['path']}")
    if not found:
        note(f"There is no wallet below {root}. `pickaxe wallet create` makes one.")


@click.command("change-password")
@click.option("--new-password-file", type=click.Path(path_type=Path), help="File with the new password.")
@common_options
def change_password(new_password_file: Path | None) -> None:
    """Encrypt the wallet under another password."""
    options = settings()
    old = options.password("Present password")
    path = options.path()
    with Wallet.open(path, options.params(), old) as opened:
        if new_password_file is not None:
            new = read_secret(new_password_file)
        else:
            new = ask_secret("New password", "give the new one with --new-password-file")
            if ask_secret("The same again") != new:
                raise UserError("the two passwords differ: nothing was changed")
        opened.store.change_password(old, new)
    note("The password was changed. Copies of the file made before still open with the old one.")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask first.")
@common_options
def words(yes: bool) -> None:
    """Show the wallet's words again."""
    options = settings()
    with options.open_wallet() as opened:
        if not yes:
            confirm("The words are the coins: is nobody looking?")
        text = opened.words()
        if options.as_json:
            emit({"wallet": options.name, "words": text})
        else:
            click.echo(_numbered(text))


@click.command()
@common_options
def export() -> None:
    """Print the public descriptors: for watching the wallet elsewhere. They show all of its history, and spend
    nothing."""
    options = settings()
    with options.open_wallet() as opened:
        accounts = opened.descriptors()
        if options.as_json:
            emit({kind: {"receive": receive, "change": change} for kind, (receive, change) in accounts.items()})
            return
        for receive, change in accounts.values():
            click.echo(receive)
            click.echo(change)


def _wallet_files(root: Path) -> list[Path]:
    """All below the folder of wallets, none where that does not exist; Path.glob would pass over a closed folder."""
    files = []
    try:
        for folder in sorted(root.iterdir()) if root.exists() else ():
            if folder.is_dir():
                files += sorted(file for file in folder.iterdir() if file.suffix == ".sqlite")
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    return files


def _numbered(text: str) -> str:
    items = [f"{number:>2} {word:<10}" for number, word in enumerate(text.split(), 1)]
    return "\n".join("  ".join(items[i : i + 4]).rstrip() for i in range(0, len(items), 4))


def _read_words(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        return str(click.prompt("The words of the backup, in order", default="", show_default=False, err=True))
    return _read_text(file, MAX_WORDS_BYTES)


def _read_text(file: Path | None, limit: int) -> str:
    """A small file, or standard input for None."""
    try:
        if file is None:
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(limit + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if len(raw) > limit:
        raise UserError(f"{file or 'standard input'} holds too much text for that")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file or 'standard input'} is not UTF-8 text") from error


def _node_height(options: Settings) -> int:
    """The node's height, 0 if there is none to ask or it is not of this network: then all blocks are scanned. UserError
    for an address or a cookie that can never work."""

    async def ask() -> int:
        try:
            async with RpcClient(options.node_address()) as rpc:
                genesis = await rpc.call("getblockhash", 0)
                if genesis != options.params().genesis.hash[::-1].hex():
                    return 0
                return int(await rpc.call("getblockcount"))
        except (NodeError, RpcError):
            return 0

    return run(ask())
