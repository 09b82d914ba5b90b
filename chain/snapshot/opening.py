"""Opening the chain's database, or the two of a chain that stands on a UTXO snapshot, and reading the header tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from chain import collector
from chain.coins import CoinsCache
from chain.index import VALID_SCRIPTS, HeaderIndex
from chain.params import AssumeUtxo, NetworkParams
from chain.primitives.errors import LocalFault
from chain.primitives.types import BlockHash, hash_to_hex
from chain.snapshot import folders
from chain.snapshot.background import BackgroundChain
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


def restore_tree(index: HeaderIndex, stores: Stores, dbcache_bytes: int) -> tuple[bool, BackgroundChain | None]:
    """Fill the header tree from the stores, with the tip of their last commit (genesis in new ones); whether they knew
    no block at all, and the chain that validates the snapshot.

    LocalFault if blocks are missing in the tree.
    """
    main, assumed = stores.main, stores.assumed
    background = None
    try:
        with collector.kept():
            rows = main.load_index()
            is_new = not rows
            index.restore(rows, None if assumed is None else (assumed.block_hash, assumed.chain_tx_count))
            del rows
        tip_hash = stores.coins.tip
        tip = index.entries[tip_hash] if tip_hash is not None else None
        if assumed is not None:
            background = BackgroundChain(
                CoinsCache(main, dbcache_bytes),
                main,
                index.entries[main.tip or index.genesis.hash],
                index.entries[assumed.block_hash],
                assumed,
            )
    except KeyError as error:
        raise LocalFault(f"The block index in {main.path} has a gap; start with --reindex to rebuild it") from error
    index.finish_restore(tip)
    if tip is None:
        index.genesis.raise_validity(VALID_SCRIPTS)
        index.set_tip(index.genesis)
        index.rebuild_candidates()
    return is_new, background


def _table_line(params: NetworkParams, base: BlockHash) -> AssumeUtxo:
    line = params.assumed_utxo(base)
    if line is None:
        raise LocalFault(
            "A fatal internal error occurred, see debug.log for details: Assumeutxo data not found for the given"
            f" blockhash '{hash_to_hex(base)}'."
        )
    return line
