"""Opening the chain's database, or the two of a chain that stands on a UTXO snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from chain.params import AssumeUtxo, NetworkParams
from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, hash_to_hex
from chain.snapshot import folders
from chain.storage.layout import CHAINSTATE_DIR, SNAPSHOT_DIR
from chain.storage.store import ChainStore


@dataclass(slots=True)
class Stores:
    """`main` has the header tree and the coins of the chain that was validated from genesis on; `coins` those of the
    active chain, the same store unless it stands on the snapshot `assumed`. `remarks` are for the operator.
    """

    main: ChainStore
    coins: ChainStore
    assumed: AssumeUtxo | None = None
    remarks: list[str] = field(default_factory=list)


def open_stores(datadir: Path, params: NetworkParams, *, map_size: int, recreate: bool, drop_snapshot: bool) -> Stores:
    """Open them; a snapshot that has been validated takes the place of the main store first.

    With `recreate` what the main store held is deleted, with `drop_snapshot` a snapshot. LocalFault if the disk fails
    or the network's table does not have the snapshot any more.
    """
    base, remarks = folders.settle(datadir, drop=drop_snapshot)
    path, genesis = datadir / CHAINSTATE_DIR, params.genesis_hash
    main = ChainStore(path, genesis, map_size=map_size, recreate=recreate, without_coins=drop_snapshot)
    if base is None:
        return Stores(main, main, None, remarks)
    try:
        if main.snapshot_validated != base:
            assumed = _table_line(params, base)
            return Stores(main, ChainStore(datadir / SNAPSHOT_DIR, genesis, map_size=map_size), assumed, remarks)
        coins = ChainStore(datadir / SNAPSHOT_DIR, genesis, map_size=map_size)
        try:
            coins.take_index(main)
        finally:
            coins.close()
    except BaseException:
        main.close()
        raise
    main.close()
    folders.exchange(datadir)
    remarks.append("[snapshot] cleaning up unneeded background chainstate, then reinitializing")
    main = ChainStore(path, genesis, map_size=map_size)
    return Stores(main, main, None, remarks)


def _table_line(params: NetworkParams, base: BlockHash) -> AssumeUtxo:
    line = params.assumed_utxo(base)
    if line is None:
        raise LocalFault(
            "A fatal internal error occurred, see debug.log for details: Assumeutxo data not found for the given"
            f" blockhash '{hash_to_hex(base)}'."
        )
    return line
