"""`pickaxe index`: the optional indexes of a node that is not running. One that is switched off stays on disk, so that
it need not be built again; here it is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from chain.primitives.errors import LocalFault, UserError
from node.config import default_datadir


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def index() -> None:
    """List and remove the node's optional indexes."""


_NETWORK = click.option("--network", default="pickaxe", show_default=True, metavar="NAME", help="Network of the node.")
_DATADIR = click.option("--datadir", type=click.Path(path_type=Path), help="Its data directory [default: ~/.pickaxe].")


@index.command("list")
@_NETWORK
@_DATADIR
def list_indexes(network: str, datadir: Path | None) -> None:
    """Show each index on disk: its name, the height that it has reached and its size."""
    from chain.storage.index_store import read_mark

    rows = []
    for name, folder in _folders(network, datadir).items():
        try:
            files = list(folder.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror}") from error
        mark = read_mark(folder)
        size = sum(file.stat().st_size for file in files if file.suffix == ".mdb")
        height = "empty" if mark is None else f"height {mark.height}"
        rows.append(f"{name:<18}{height:<18}{size / (1 << 20):10.1f} MiB")
    click.echo("\n".join(rows) if rows else "There are no indexes.")


@index.command("remove")
@click.argument("name")
@_NETWORK
@_DATADIR
def remove_index(name: str, network: str, datadir: Path | None) -> None:
    """Delete the index NAME. The node must not be running; started with the index again, it builds a new one."""
    from chain.storage.lock import DirectoryLock

    folders = _folders(network, datadir)
    folder = folders.get(name)
    if folder is None:
        raise UserError(f"There is no index {name!r}: choose one of {', '.join(folders)}.")
    if not folder.is_dir():
        raise UserError(f"There is no index {name!r} in {folder.parent}.")
    lock = DirectoryLock(_home(network, datadir))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise LocalFault(f"{folder} could not be deleted: {error.strerror}") from error
    finally:
        lock.release()
    click.echo(f"Removed {name}.")


def _home(network: str, datadir: Path | None) -> Path:
    from node.networks import network_dir, resolve

    home = (datadir or default_datadir()).expanduser().absolute()
    if datadir is not None and not home.is_dir():
        raise UserError(f"--datadir {home}: there is no such folder")
    return network_dir(home, resolve(network, home))


def _folders(network: str, datadir: Path | None) -> dict[str, Path]:
    """The folder of each index, by the name of its option."""
    from chain.indexes.follow import INDEXES_DIR
    from node.indexes import INDEXES

    below = _home(network, datadir) / INDEXES_DIR
    return {kind.option: below / kind.folder for kind in INDEXES}
