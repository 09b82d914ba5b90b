"""Which network a name means: a built-in one, one that `pickaxe network create` wrote below the datadir, or a TOML file
by its path."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chain.params import (
    NETWORKS,
    SIGNET,
    NetworkParams,
    load_network,
    network,
    signet_with_challenge,
    with_test_activation_heights,
    with_vbparams,
)
from chain.primitives.errors import UserError
from chain.storage.layout import BLOCKS_DIR

if TYPE_CHECKING:
    from node.config import NodeConfig

FOLDER = "networks"  #: below the datadir; one NAME.toml each


def resolve(name: str, datadir: Path) -> NetworkParams:
    """UserError listing the known names when `name` is none of them."""
    own = datadir / FOLDER / f"{name}.toml"
    if name not in NETWORKS and own.is_file():
        return load_network(own)
    return network(name)


def network_dir(datadir: Path, params: NetworkParams) -> Path:
    """Where a network's files are: the datadir itself for Bitcoin's main chain, as in Core, a folder of it for every
    other."""
    return datadir / params.data_folder if params.data_folder else datadir


def blocks_dir(config: NodeConfig, params: NetworkParams) -> Path | None:
    """Where the block files are, if not below `network_dir`. UserError, in Core's words, if the folder chosen for them
    is not there: a disk may not be mounted."""
    if not config.blocks_dir:
        return None
    base = config.datadir / Path(config.blocks_dir).expanduser()
    if not base.is_dir():
        raise UserError(f'Specified blocks directory "{config.blocks_dir}" does not exist.')
    return network_dir(base, params) / BLOCKS_DIR


def own_networks(datadir: Path) -> list[Path]:
    folder = datadir / FOLDER
    return sorted(folder.glob("*.toml")) if folder.is_dir() else []


def params_for(config: NodeConfig) -> NetworkParams:
    """The network of a configuration with its challenge of a signet and its test options applied. UserError in Core's
    words for a bad one."""
    params = resolve(config.network, config.datadir)
    if params is SIGNET and config.signet_challenge:
        params = _signet_of_its_own(config)
    testing = config.test_activation_height or config.vb_params or config.test_option
    if testing and not params.is_mockable:
        raise UserError("-testactivationheight, -vbparams and -test are for regtest and dev only.")
    params = with_test_activation_heights(params, list(config.test_activation_height))
    params = with_vbparams(params, list(config.vb_params))
    for option in config.test_option:
        if option == "bip94":
            params = replace(params, enforce_bip94=True)
        elif option not in ("addrman", "reindex_after_failure_noninteractive_yes"):
            raise UserError(f'Unrecognised option "{option}" provided in -test=<option>.')
    return params


def _signet_of_its_own(config: NodeConfig) -> NetworkParams:
    if len(config.signet_challenge) > 1:
        raise UserError("-signetchallenge cannot be multiple values.")
    (text,) = config.signet_challenge
    if not text or not re.fullmatch("(?:[0-9a-fA-F]{2})*", text):
        raise UserError(f"-signetchallenge must be hex, not '{text}'.")
    return signet_with_challenge(bytes.fromhex(text), config.signet_seed_node)
