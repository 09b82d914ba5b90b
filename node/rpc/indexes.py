"""RPC: what the optional indexes know of blocks and coins (transactions are in rawtransactions)."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator
from dataclasses import dataclass, field
from typing import Final

from chain.block_filter import filter_matches
from chain.index import VALID_SCRIPTS, BlockIndexEntry
from chain.indexes.coin_stats import CoinStats, CoinStatsIndex
from chain.indexes.filters import BlockFilterIndex
from chain.primitives.coin import coin_script
from chain.primitives.types import hash_to_hex
from chain.utxo_stats import UtxoHash, totals_in_steps
from node.rpc import descriptors
from node.rpc.blockchain import read_block, read_undo
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc, not_found
from node.rpc.jsonio import JSON, money
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import block_at, find_block

_CATEGORY = "Blockchain"
_FILTER_TYPES: Final = ("basic",)
_STILL_INDEXING: Final = "Filter not found. Block filters are still in the process of being indexed."
_HASH_TYPES: Final = tuple(kind.value for kind in UtxoHash)
_SCAN_SLICE_S: Final = 0.02  #: of the chain's thread


@rpc(
    "getindexinfo",
    "Util",
    Arg("index_name", Kind.STR, None, help="only this one"),
    help="The optional indexes: whether each has reached the tip since the start, and the last block it took.",
)
def getindexinfo(context: RpcContext, index_name: str | None) -> JSON:
    return {
        index.title: {"synced": index.ready, "best_block_height": max(index.height, 0)}
        for index in context.worker.indexes
        if index_name in (None, "", index.title)
    }


# Coin statistics


@rpc(
    "gettxoutsetinfo",
    _CATEGORY,
    Arg("hash_type", Kind.STR, "hash_serialized_3", help="hash_serialized_3, muhash or none"),
    Arg("hash_or_height", Kind.ANY, None, help="the block to report on; only with -coinstatsindex"),
    Arg("use_index", Kind.BOOL, True, help="use the coin statistics index if there is one"),
    help="Totals over all unspent outputs. Takes a while on a large chain without -coinstatsindex.",
)
async def gettxoutsetinfo(context: RpcContext, hash_type: str, hash_or_height: JSON, use_index: bool) -> JSON:
    service = context.chain_service
    found = await service.call(_known_totals, context, hash_type, hash_or_height, use_index)
    if found is not None:
        return found
    steps = _scanned_totals(context, UtxoHash(hash_type))
    try:
        while (found := await service.call(next, steps)) is None:
            if service.closing:
                raise RpcError(Code.INTERNAL_ERROR, "The node is stopping")
    finally:
        await service.call(steps.close)
    return found


def _known_totals(context: RpcContext, hash_type: str, hash_or_height: JSON, use_index: bool) -> dict[str, JSON] | None:
    """What the index has; None if all coins have to be read."""
    if hash_type not in _HASH_TYPES:
        raise invalid_parameter(f"'{hash_type}' is not a valid hash_type")
    index = context.worker.indexes.find(CoinStatsIndex)
    entry = context.chain.tip
    if hash_or_height is not None:
        if index is None:
            raise invalid_parameter("Querying specific block heights requires coinstatsindex")
        if hash_type == UtxoHash.HASH_SERIALIZED_3:
            raise invalid_parameter("hash_serialized_3 hash type cannot be queried for a specific block")
        if not use_index:
            raise invalid_parameter("Cannot set use_index to false when querying for a specific block")
        entry = block_at(context, hash_or_height)
    if index is None or not use_index or hash_type == UtxoHash.HASH_SERIALIZED_3:
        return None
    if not context.worker.indexes.until_synced(index) and entry.height > index.height:
        raise RpcError(
            Code.INTERNAL_ERROR,
            f"Unable to get data because coinstatsindex is still syncing. Current height: {max(index.height, 0)}",
        )
    stats = index.stats(entry)
    if stats is None:
        raise RpcError(Code.INTERNAL_ERROR, "Unable to read UTXO set")
    return _indexed_totals(entry, stats, with_hash=hash_type == UtxoHash.MUHASH)


def _scanned_totals(context: RpcContext, kind: UtxoHash) -> Generator[dict[str, JSON] | None, None, None]:
    """The totals of the coins as they are at the first step, at last; None after each step before."""
    tip = context.chain.tip
    coins = context.chain.frozen_coins()
    try:
        for totals in totals_in_steps(coins, kind):
            if totals is None:
                yield None
                continue
            out: dict[str, JSON] = {
                "height": tip.height,
                "bestblock": hash_to_hex(tip.hash),
                "txouts": totals.outputs,
                "bogosize": totals.bogo_size,
            }
            if kind is not UtxoHash.NONE:
                out[kind.value] = hash_to_hex(totals.digest)
            out["total_amount"] = money(totals.total_amount)
            out["transactions"] = totals.transactions
            out["disk_size"] = context.chain.coins_on_disk()[1]
            yield out
    finally:
        coins.close()


def _indexed_totals(entry: BlockIndexEntry, stats: CoinStats, *, with_hash: bool) -> dict[str, JSON]:
    out: dict[str, JSON] = {
        "height": entry.height,
        "bestblock": hash_to_hex(entry.hash),
        "txouts": stats.outputs,
        "bogosize": stats.bogo_size,
    }
    if with_hash:
        out["muhash"] = hash_to_hex(stats.muhash)
    out["total_amount"] = money(stats.total_amount)
    out["total_unspendable_amount"] = money(stats.total_unspendable)
    out["block_info"] = {
        "prevout_spent": money(stats.prevout_spent),
        "coinbase": money(stats.coinbase),
        "new_outputs_ex_coinbase": money(stats.new_outputs_ex_coinbase),
        "unspendable": money(stats.unspendable),
        "unspendables": {
            "genesis_block": money(stats.genesis),
            "bip30": money(stats.bip30),
            "scripts": money(stats.scripts),
            "unclaimed_rewards": money(stats.unclaimed),
        },
    }
    return out


# Block filters


def _filter_index(context: RpcContext, filter_type: str) -> BlockFilterIndex:
    if filter_type not in _FILTER_TYPES:
        raise not_found("Unknown filtertype")
    index = context.worker.indexes.find(BlockFilterIndex)
    if index is None:
        raise misc(f"Index is not enabled for filtertype {filter_type}")
    return index


@rpc(
    "getblockfilter",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    Arg("filtertype", Kind.STR, "basic", help="basic is the only one"),
    help="The compact filter of a block (BIP157, BIP158) and its header. Needs -blockfilterindex.",
)
def getblockfilter(context: RpcContext, blockhash: str, filtertype: str) -> JSON:
    index = _filter_index(context, filtertype)
    entry = find_block(context, blockhash)
    synced = context.worker.indexes.until_synced(index)
    encoded, header = index.filter(entry), index.header(entry)
    if encoded is not None and header is not None:
        return {"filter": encoded.hex(), "header": hash_to_hex(header.header)}
    if not entry.is_valid(VALID_SCRIPTS):
        raise not_found("Filter not found. Block was not connected to active chain.")
    if not synced:
        raise misc(_STILL_INDEXING)
    raise RpcError(Code.INTERNAL_ERROR, "Filter not found. This error is unexpected and indicates index corruption.")


@dataclass(slots=True)
class _Scan:
    """One scanblocks under way."""

    first: int
    stop: BlockIndexEntry
    scripts: frozenset[bytes]
    exact: bool
    next_height: int
    found: list[BlockIndexEntry] = field(default_factory=list)
    aborted: bool = False

    @property
    def done(self) -> bool:
        return self.next_height > self.stop.height

    def status(self) -> JSON:
        todo = self.stop.height + 1 - self.first
        return {
            "progress": 100 * (self.next_height - self.first) // todo,
            "current_height": max(self.next_height - 1, self.first),
        }


_SCAN: Final = "scanblocks"  #: key of the scan under way in worker.extras


@rpc(
    "scanblocks",
    _CATEGORY,
    Arg("action", Kind.STR, help="start, abort or status"),
    Arg("scanobjects", Kind.ARR, None, help='descriptors, or {"desc": text, "range": end or [begin, end]}'),
    Arg("start_height", Kind.INT, None, help="the first block to look at, genesis by default"),
    Arg("stop_height", Kind.INT, None, help="the last, the tip by default"),
    Arg("filtertype", Kind.STR, "basic", help="basic is the only one"),
    Arg("options", Kind.OBJ, None, help='{"filter_false_positives": true} looks into each block that matches'),
    help="Find the blocks that may concern descriptors, by their compact filters. Needs -blockfilterindex.",
)
async def scanblocks(
    context: RpcContext,
    action: str,
    scanobjects: list[JSON] | None,
    start_height: int | None,
    stop_height: int | None,
    filtertype: str,
    options: dict[str, JSON] | None,
) -> JSON:
    extras = context.worker.extras
    running = extras.get(_SCAN)
    if action == "status":
        return running.status() if isinstance(running, _Scan) else None
    if action == "abort":
        if not isinstance(running, _Scan):
            return False
        running.aborted = True
        return True
    if action != "start":
        raise invalid_parameter(f"Invalid action '{action}'")
    if isinstance(running, _Scan):
        raise invalid_parameter('Scan already in progress, use action "abort" or "status"')
    if scanobjects is None:
        raise misc("scanobjects argument is required for the start action")
    exact = (options or {}).get("filter_false_positives", False)
    if not isinstance(exact, bool):
        raise invalid_parameter("filter_false_positives must be true or false")
    call = context.chain_service.call
    scan = await call(_begin_scan, context, scanobjects, start_height, stop_height, filtertype, exact)
    if _SCAN in extras:
        raise invalid_parameter('Scan already in progress, use action "abort" or "status"')
    extras[_SCAN] = scan
    try:
        while not scan.done and not scan.aborted and not context.chain_service.closing:
            await call(_scan_slice, context, scan, filtertype)
    finally:
        del extras[_SCAN]
    return {
        "from_height": scan.first,
        "to_height": max(scan.next_height - 1, scan.first),
        "relevant_blocks": [hash_to_hex(entry.hash) for entry in scan.found],
        "completed": scan.done,
    }


def _begin_scan(
    context: RpcContext,
    scanobjects: list[JSON],
    start_height: int | None,
    stop_height: int | None,
    filter_type: str,
    exact: bool,
) -> _Scan:
    index = _filter_index(context, filter_type)
    context.worker.indexes.until_synced(index)
    active = context.chain.index.active
    first = 0 if start_height is None else start_height
    if not 0 <= first < len(active):
        raise misc("Invalid start_height")
    last = len(active) - 1 if stop_height is None else stop_height
    if not first <= last < len(active):
        raise misc("Invalid stop_height")
    wanted: dict[bytes, str] = {}
    for scan_object in scanobjects:
        wanted |= descriptors.scan_object(scan_object, context.params)
    return _Scan(first, active[last], frozenset(wanted), exact, first)


def _scan_slice(context: RpcContext, scan: _Scan, filter_type: str) -> None:
    index = _filter_index(context, filter_type)
    deadline = time.monotonic() + _SCAN_SLICE_S
    while not scan.done and time.monotonic() < deadline:
        entry = scan.stop.ancestor(scan.next_height)
        encoded = None if entry is None else index.filter(entry)
        if entry is None or encoded is None:
            raise misc(_STILL_INDEXING)
        if filter_matches(encoded, entry.hash, scan.scripts) and (
            not scan.exact or _concerns(context, entry, scan.scripts)
        ):
            scan.found.append(entry)
        scan.next_height += 1


def _concerns(context: RpcContext, entry: BlockIndexEntry, scripts: Collection[bytes]) -> bool:
    """Whether the block itself pays to, or spends from, any of the scripts."""
    if any(script in scripts for tx in read_block(context, entry).transactions for script in tx.scripts):
        return True
    undo = read_undo(context, entry) or []
    return any(coin_script(coin) in scripts for spent in undo for coin in spent)
