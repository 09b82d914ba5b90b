"""RPC: the chain as it is."""

from __future__ import annotations

from typing import Any

from chain.consensus.deployments import Deployment, VersionBits, activation_height, block_script_flags
from chain.index import VALID_CHAIN, BlockIndexEntry
from chain.interfaces import HeaderInfo
from chain.params import NEVER_ACTIVE
from chain.primitives.block import Block
from chain.primitives.coin import coin_height, coin_is_coinbase, coin_script, coin_value
from chain.primitives.errors import LocalFault
from chain.primitives.target import difficulty
from chain.primitives.types import hash_to_hex, make_outpoint
from chain.script.flags import ScriptFlags
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, Text, invalid_parameter, misc, not_found
from node.rpc.format import block_json, header_json, script_json, target_hex
from node.rpc.jsonio import JSON, money, wrong_type
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import (
    block_at,
    find_block,
    parse_block_hash,
    parse_hash,
    parse_timeout,
    parse_txid,
    parse_verbosity,
)
from p2p.errors import RequestRefused

_CATEGORY = "Blockchain"


@rpc("getblockcount", _CATEGORY, help="The height of the active chain's tip; genesis has 0.")
def getblockcount(context: RpcContext) -> JSON:
    return context.chain.index.height


@rpc("getbestblockhash", _CATEGORY, help="The hash of the active chain's tip.")
def getbestblockhash(context: RpcContext) -> JSON:
    return hash_to_hex(context.chain.tip.hash)


@rpc(
    "getblockhash",
    _CATEGORY,
    Arg("height", Kind.INT, help="height in the active chain"),
    help="The hash of the block at this height of the active chain.",
)
def getblockhash(context: RpcContext, height: int) -> JSON:
    if not 0 <= height <= context.chain.index.height:
        raise invalid_parameter(Text.HEIGHT_OUT_OF_RANGE)
    return hash_to_hex(context.chain.index.active[height].hash)


@rpc(
    "getblockheader",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    Arg("verbose", Kind.BOOL, True, help="false for the 80 bytes in hex"),
    help="One header.",
)
def getblockheader(context: RpcContext, blockhash: str, verbose: bool) -> JSON:
    entry = context.chain.index.get(parse_hash(blockhash, "hash"))
    if entry is None:
        raise not_found(Text.BLOCK_NOT_FOUND)
    return header_json(entry, context.chain) if verbose else entry.raw.hex()


def read_block(context: RpcContext, entry: BlockIndexEntry) -> Block:
    """The block from disk, or Core's reason why there is none."""
    _check_available(entry)
    try:
        return context.chain.read_block(entry)
    except LocalFault as error:
        raise misc(Text.BLOCK_NOT_ON_DISK) from error


def _check_available(entry: BlockIndexEntry) -> None:
    if not entry.have_data:
        pruned = entry.tx_count > 0
        raise misc(Text.BLOCK_PRUNED if pruned else Text.BLOCK_NOT_DOWNLOADED)


def read_undo(context: RpcContext, entry: BlockIndexEntry) -> list[list[Any]] | None:
    """The coins that a block spent; None where it was never connected."""
    if not entry.have_undo:
        return [] if entry.prev is None else None
    try:
        return context.chain.read_undo(entry)
    except LocalFault as error:
        raise RpcError(Code.INTERNAL_ERROR, Text.UNDO_UNREADABLE) from error


@rpc(
    "getblock",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    Arg("verbosity|verbose", Kind.ANY, 1, help="0 hex, 1 txids, 2 transactions with fees, 3 with the coins spent"),
    help="One block.",
)
def getblock(context: RpcContext, blockhash: str, verbosity: JSON) -> JSON:
    entry = find_block(context, blockhash)
    level = parse_verbosity(verbosity, default=1)
    if level <= 0:
        _check_available(entry)
        try:
            return context.chain.read_block_raw(entry).hex()
        except LocalFault as error:
            raise misc(Text.BLOCK_NOT_ON_DISK) from error
    _check_available(entry)
    undo = read_undo(context, entry) if level >= 2 else None
    block = read_block(context, entry)
    return block_json(block, entry, context.chain, verbosity=min(level, 3), undo=undo)


@rpc("getblockchaininfo", _CATEGORY, help="Where the chain stands.")
def getblockchaininfo(context: RpcContext) -> JSON:
    chain, config = context.chain, context.config
    tip = chain.tip
    out: dict[str, JSON] = {
        "chain": context.params.chain_name,
        "blocks": tip.height,
        "headers": chain.index.best_header.height,
        "bestblockhash": hash_to_hex(tip.hash),
        "bits": f"{tip.nbits:08x}",
        "target": target_hex(tip.nbits),
        "difficulty": difficulty(tip.nbits),
        "time": tip.time,
        "mediantime": tip.median_time_past(),
        "verificationprogress": context.worker.verification_progress(tip),
        "initialblockdownload": context.worker.is_initial_block_download(),
    }
    background = chain.background
    if background is not None:
        out["backgroundvalidation"] = {
            "snapshotheight": background.base.height,
            "blocks": background.tip.height,
            "bestblockhash": hash_to_hex(background.tip.hash),
            "mediantime": background.tip.median_time_past(),
            "chainwork": f"{background.tip.chainwork:064x}",
            "verificationprogress": background.progress,
        }
    out |= {
        "chainwork": f"{tip.chainwork:064x}",
        "size_on_disk": chain.files.size_on_disk(),
        "pruned": bool(config.prune_mib),
    }
    if config.prune_mib:
        out["pruneheight"] = context.worker.prune_height()
        out["automatic_pruning"] = config.prune_mib != 1
        if config.prune_mib != 1:
            out["prune_target_size"] = config.prune_mib << 20
    if context.params.signet_challenge is not None:
        out["signet_challenge"] = context.params.signet_challenge.hex()
    out["warnings"] = context.worker.warnings()
    return out


@rpc("getdifficulty", _CATEGORY, help="The difficulty of the tip, as a multiple of Bitcoin's easiest.")
def getdifficulty(context: RpcContext) -> JSON:
    return difficulty(context.chain.tip.nbits)


@rpc("getchaintips", _CATEGORY, help="All known ends of the header tree, the active one among them.")
def getchaintips(context: RpcContext) -> JSON:
    index = context.chain.index
    out = []
    for entry in index.tips():
        fork = index.fork_point(entry)
        if index.in_active(entry):
            status = "active"
        elif entry.failed:
            status = "invalid"
        elif not entry.chain_tx_count:
            status = "headers-only"
        elif entry.is_valid(VALID_CHAIN + 1):
            status = "valid-fork"
        else:
            status = "valid-headers"
        out.append(
            {
                "height": entry.height,
                "hash": hash_to_hex(entry.hash),
                "branchlen": entry.height - (fork.height if fork is not None else 0),
                "status": status,
            }
        )
    return out


@rpc(
    "getchaintxstats",
    _CATEGORY,
    Arg("nblocks", Kind.INT, None, help="window size, one month of blocks by default"),
    Arg("blockhash", Kind.HEX, None, help="the window's last block, the tip by default"),
    help="How many transactions the chain holds and how fast they come.",
)
def getchaintxstats(context: RpcContext, nblocks: int | None, blockhash: str | None) -> JSON:
    index = context.chain.index
    if blockhash is None:
        entry = context.chain.tip
    else:
        entry = find_block(context, blockhash)
        if not index.in_active(entry):
            raise invalid_parameter("Block is not in main chain")
    count = 30 * 24 * 3600 // context.params.block_interval_s
    if nblocks is None:
        count = max(0, min(count, entry.height - 1))
    else:
        count = nblocks
        if count < 0 or (count > 0 and count >= entry.height):
            raise invalid_parameter("Invalid block count: should be between 0 and the block's height - 1")
    past = entry.ancestor(entry.height - count)
    if past is None:
        raise invalid_parameter("Invalid block count: should be between 0 and the block's height - 1")
    interval = entry.median_time_past() - past.median_time_past()
    out: dict[str, JSON] = {"time": entry.time}
    if entry.chain_tx_count:
        out["txcount"] = entry.chain_tx_count
    out["window_final_block_hash"] = hash_to_hex(entry.hash)
    out["window_final_block_height"] = entry.height
    out["window_block_count"] = count
    if count:
        out["window_interval"] = interval
        if entry.chain_tx_count and past.chain_tx_count:
            transactions = entry.chain_tx_count - past.chain_tx_count
            out["window_tx_count"] = transactions
            if interval > 0:
                out["txrate"] = transactions / interval
    return out


@rpc(
    "gettxout",
    _CATEGORY,
    Arg("txid", Kind.STR, help="the transaction"),
    Arg("n", Kind.INT, help="the output's index"),
    Arg("include_mempool", Kind.BOOL, True, help="count what waits in the mempool as done"),
    help="One unspent output; null when it is spent or unknown.",
)
def gettxout(context: RpcContext, txid: str, n: int, include_mempool: bool) -> JSON:
    outpoint = make_outpoint(parse_txid(txid), n & 0xFFFFFFFF)
    chain, mempool = context.chain, context.mempool
    if include_mempool:
        coin = None if mempool.spender(outpoint) is not None else mempool.get_coin(outpoint)
        unconfirmed = coin is not None and mempool.get(outpoint[:32]) is not None
    else:
        coin, unconfirmed = chain.get_coin(outpoint), False
    if coin is None:
        return None
    return {
        "bestblock": hash_to_hex(chain.tip.hash),
        "confirmations": 0 if unconfirmed else chain.tip.height - coin_height(coin) + 1,
        "value": money(coin_value(coin)),
        "scriptPubKey": script_json(coin_script(coin), context.params),
        "coinbase": coin_is_coinbase(coin),
    }


@rpc(
    "getdeploymentinfo",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, None, help="as of this block, the tip by default"),
    help="Which soft forks bind the next block.",
)
def getdeploymentinfo(context: RpcContext, blockhash: str | None) -> JSON:
    entry = context.chain.tip if blockhash is None else find_block(context, blockhash)
    params = context.params
    deployments: dict[str, JSON] = {}
    for buried in Deployment:
        height = activation_height(buried, params)
        deployments[buried.value] = {"type": "buried", "active": entry.height + 1 >= height, "height": height}
    if params.bip54_height is not None:
        active = entry.height + 1 >= params.bip54_height
        deployments["bip54"] = {"type": "buried", "active": active, "height": params.bip54_height}
    bits = VersionBits(params)
    for deployment in params.deployments:
        if deployment.start_time == NEVER_ACTIVE:
            continue
        info = bits.info(deployment.name, entry)
        bip9: dict[str, JSON] = {}
        if info.stats is not None:
            bip9["bit"] = deployment.bit
        bip9 |= {
            "start_time": deployment.start_time,
            "timeout": deployment.timeout,
            "min_activation_height": deployment.min_activation_height,
            "status": info.state.value,
            "since": info.since,
            "status_next": info.next_state.value,
        }
        if info.stats is not None:
            stats: dict[str, JSON] = {
                "period": info.stats.period,
                "elapsed": info.stats.elapsed,
                "count": info.stats.count,
            }
            if info.stats.threshold:
                stats["threshold"] = info.stats.threshold
                stats["possible"] = info.stats.possible
            bip9["statistics"] = stats
            bip9["signalling"] = "".join("#" if signals else "-" for signals in info.signalling)
        one: dict[str, JSON] = {"type": "bip9"}
        if info.active_since is not None:
            one["height"] = info.active_since
        one["active"] = info.next_state.value == "active"
        one["bip9"] = bip9
        deployments[deployment.name] = one
    flags = block_script_flags(entry.hash, entry.height, params)
    names = sorted(flag.name for flag in ScriptFlags if flag in flags and flag.name and flag)
    return {"hash": hash_to_hex(entry.hash), "height": entry.height, "script_flags": names, "deployments": deployments}


@rpc(
    "verifychain",
    _CATEGORY,
    Arg("checklevel", Kind.INT, None, help="how thoroughly, 0 to 4"),
    Arg("nblocks", Kind.INT, None, help="how many blocks, 0 for all"),
    help="Check the blocks on disk again.",
)
def verifychain(context: RpcContext, checklevel: int | None, nblocks: int | None) -> JSON:
    level = context.config.check_level if checklevel is None else checklevel
    blocks = context.config.check_blocks if nblocks is None else nblocks
    return context.worker.verify_chain(level, blocks)


@rpc(
    "pruneblockchain",
    _CATEGORY,
    Arg("height", Kind.INT, help="delete blocks up to this height, or older than this Unix time"),
    help="Delete old block files. Needs -prune=1 or more.",
)
def pruneblockchain(context: RpcContext, height: int) -> JSON:
    if not context.config.prune_mib:
        raise misc("Cannot prune blocks because node is not in prune mode.")
    if height < 0:
        raise invalid_parameter("Negative block height.")
    index = context.chain.index
    if height > 1_000_000_000:
        found = index.find_earliest_at_least(height - 7200)
        if found is None:
            raise invalid_parameter("Could not find block with at least the specified timestamp.")
        height = found.height
    if index.height < context.params.prune_after_height and not context.config.fast_prune:
        raise misc("Blockchain is too short for pruning.")
    if height > index.height:
        raise invalid_parameter("Blockchain is shorter than the attempted prune height.")
    return context.worker.prune(height)


@rpc("invalidateblock", "hidden", Arg("blockhash", Kind.HEX), help="Treat a block as invalid.")
def invalidateblock(context: RpcContext, blockhash: str) -> JSON:
    entry = find_block(context, blockhash)
    if entry.prev is None:
        raise RpcError(Code.DATABASE_ERROR, "genesis block cannot be invalidated")
    context.worker.invalidate(entry.hash)
    return None


@rpc("reconsiderblock", "hidden", Arg("blockhash", Kind.HEX), help="Take back invalidateblock.")
def reconsiderblock(context: RpcContext, blockhash: str) -> JSON:
    context.worker.reconsider(find_block(context, blockhash).hash)
    return None


@rpc(
    "preciousblock",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    help="Treat a block as if it had come before others with the same work.",
)
def preciousblock(context: RpcContext, blockhash: str) -> JSON:
    context.worker.precious(find_block(context, blockhash).hash)
    return None


def _where(tip: HeaderInfo) -> JSON:
    return {"hash": hash_to_hex(tip.hash), "height": tip.height}


@rpc(
    "waitfornewblock",
    _CATEGORY,
    Arg("timeout", Kind.INT, 0, help="milliseconds, 0 for none"),
    Arg("current_tip", Kind.HEX, None, help="wait until the tip is another than this"),
    help="Wait for the tip to change.",
)
async def waitfornewblock(context: RpcContext, timeout_ms: int, current_tip: str | None) -> JSON:
    limit = parse_timeout(timeout_ms)
    service = context.chain_service
    known = service.tip().hash if current_tip is None else parse_block_hash(current_tip, "current_tip")
    return _where(await service.wait_for_tip(lambda tip: tip.hash != known, limit))


@rpc(
    "waitforblock",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    Arg("timeout", Kind.INT, 0, help="milliseconds, 0 for none"),
    help="Wait for this block to be the tip.",
)
async def waitforblock(context: RpcContext, blockhash: str, timeout_ms: int) -> JSON:
    wanted = parse_block_hash(blockhash)
    limit = parse_timeout(timeout_ms)
    return _where(await context.chain_service.wait_for_tip(lambda tip: tip.hash == wanted, limit))


@rpc(
    "waitforblockheight",
    _CATEGORY,
    Arg("height", Kind.INT, help="the height"),
    Arg("timeout", Kind.INT, 0, help="milliseconds, 0 for none"),
    help="Wait for the chain to reach a height.",
)
async def waitforblockheight(context: RpcContext, height: int, timeout_ms: int) -> JSON:
    limit = parse_timeout(timeout_ms)
    return _where(await context.chain_service.wait_for_tip(lambda tip: tip.height >= height, limit))


@rpc(
    "syncwithvalidationinterfacequeue",
    "hidden",
    help="Wait until everything that happened so far has been told to all parts of the node.",
)
async def syncwithvalidationinterfacequeue(context: RpcContext) -> JSON:
    def sync() -> None:
        for index in context.worker.indexes:
            context.worker.indexes.until_synced(index)

    await context.chain_service.call(sync)
    return None


@rpc(
    "getblockfrompeer",
    _CATEGORY,
    Arg("blockhash", Kind.HEX, help="the block"),
    Arg("peer_id", Kind.INT, help="the peer"),
    help="Ask one peer for a block whose header is known.",
)
async def getblockfrompeer(context: RpcContext, blockhash: str, peer_id: int) -> JSON:
    header = context.chain_service.header(parse_hash(blockhash, "hash"))
    if header is None:
        raise misc("Block header missing")
    if context.params.genesis_hash != header.hash and context.config.prune_mib:
        tip = context.chain_service.tip()
        if header.height > tip.height:
            raise misc(
                "In prune mode, only blocks that the node has already synced previously can be fetched from a peer"
            )
    if header.have_data:
        raise misc("Block already downloaded")
    if context.peers is None:
        raise RpcError(Code.CLIENT_P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled")
    try:
        context.peers.fetch_block(header, peer_id)
    except RequestRefused as error:
        raise misc(str(error)) from error
    return {}


@rpc(
    "getblockstats",
    _CATEGORY,
    Arg("hash_or_height", Kind.ANY, help="the block", oneline="hash_or_height"),
    Arg("stats", Kind.ARR, None, help="only these values", oneline="stats"),
    help="Statistics of one block. Amounts are in satoshi.",
)
def getblockstats(context: RpcContext, hash_or_height: JSON, stats: list[JSON] | None) -> JSON:
    entry = block_at(context, hash_or_height)
    block = read_block(context, entry)
    undo = read_undo(context, entry)
    if undo is None:
        raise misc("Undo data not available")
    from node.rpc.block_stats import block_statistics

    values = block_statistics(block, entry, undo, context.params)
    if not stats:
        return values
    for name in stats:
        if not isinstance(name, str):
            raise wrong_type(name, "string")
        if name not in values:
            raise invalid_parameter(f"Invalid selected statistic '{name}'")
    return {name: values[name] for name in values if name in stats}
