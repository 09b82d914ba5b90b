"""RPC: making blocks: templates, submissions, and the in-node mining that tests and the dev network use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from chain.consensus.deployments import ThresholdState, VersionBits
from chain.consensus.errors import ConsensusError
from chain.consensus.pow import next_nbits
from chain.index import VALID_SCRIPTS, BlockIndexEntry
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.header import HEADER_SIZE, BlockHeader
from chain.primitives.target import difficulty, target_from_nbits
from chain.primitives.transaction import Transaction
from chain.primitives.types import hash_to_hex
from chain.script.addresses import decode_address
from chain.templates.assembler import assemble, assemble_exact
from chain.templates.template import BlockTemplate
from node.rpc import descriptors
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, Text, invalid_parameter, misc, not_found, undecodable
from node.rpc.format import target_hex
from node.rpc.jsonio import JSON, money
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import is_hex, parse_hash

_CATEGORY = "Mining"
DEFAULT_MAX_TRIES: Final = 1_000_000
LONGPOLL_FIRST_S: Final = 60.0  #: how long new transactions alone do not end a long poll
LONGPOLL_AGAIN_S: Final = 10.0
EASY_TARGET: Final = 1 << 246  #: a thousand hashes or fewer: not worth another thread
_CHUNK: Final = 1 << 16


# ---------------------------------------------------------------------- templates


#: OP_0 after the height in the coinbases of `generate*`, as Core has it: with the same clock, the same blocks
_DUMMY_EXTRANONCE: Final = b"\0"


class TemplateSource:
    """Templates for getblocktemplate, made anew only when tip or mempool changed. Belongs to the writer thread."""

    def __init__(self, context: RpcContext) -> None:
        self._context = context
        self.bits = VersionBits(context.params)
        self.last_weight: int | None = None
        self.last_count: int | None = None
        self._template: BlockTemplate | None = None

    def current(self) -> BlockTemplate:
        context = self._context
        known = self._template
        now = int(context.clock())
        stale = (
            known is None
            or known.prev is not context.chain.tip
            or known.mempool_updates != context.mempool.transactions_updated
            or now < known.time - 1
        )
        if stale or known is None:
            known = self._template = self.make(b"\x51")
        return known.at(now, context.params)

    def make(self, script: bytes) -> BlockTemplate:
        """A fresh template that pays to `script`."""
        context, config = self._context, self._context.config
        template = assemble(
            context.chain,
            context.mempool,
            script,
            max_weight=config.block_max_weight,
            reserved_weight=config.block_reserved_weight,
            min_fee_rate_sat_per_kvb=config.block_min_fee,
            now=int(context.clock()),
            coinbase_extra=_DUMMY_EXTRANONCE,
            version_bits=self.bits,
        )
        self.last_count = len(template.transactions)
        self.last_weight = config.block_reserved_weight + sum(item.weight for item in template.transactions)
        return template


def templates(context: RpcContext) -> TemplateSource:
    source = context.worker.extras.get("templates")
    if not isinstance(source, TemplateSource):
        source = context.worker.extras["templates"] = TemplateSource(context)
    return source


@rpc(
    "getblocktemplate",
    _CATEGORY,
    Arg("template_request", Kind.OBJ, help='{"rules": ["segwit"], "mode", "longpollid", "data", "capabilities"}'),
    help="What to hash next (BIP22, BIP23, BIP145); with mode proposal, whether a block would do.",
)
async def getblocktemplate(context: RpcContext, template_request: dict[str, JSON]) -> JSON:
    mode = template_request.get("mode", "template")
    if mode is None:
        mode = "template"
    if not isinstance(mode, str) or mode not in ("template", "proposal"):
        raise invalid_parameter("Invalid mode")
    service = context.chain_service
    if mode == "proposal":
        return await service.call(_proposal, context, template_request.get("data"))
    params = context.params
    if not params.is_test_chain and params.dns_seeds:
        _check_ready(context)
    rules = _rules(template_request.get("rules"))
    longpollid = template_request.get("longpollid")
    if longpollid is not None:
        await _long_poll(context, longpollid)
    if params.signet_challenge is not None and "signet" not in rules:
        message = 'getblocktemplate must be called with the signet rule set (call with {"rules": ["segwit", "signet"]})'
        raise invalid_parameter(message)
    if "segwit" not in rules:
        raise invalid_parameter(Text.SEGWIT_RULE)
    return await service.call(_template_json, context)


def _check_ready(context: RpcContext) -> None:
    if context.peers is None:
        raise RpcError(Code.CLIENT_P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled")
    if sum(context.peers.connection_counts()) == 0:
        raise RpcError(Code.CLIENT_NOT_CONNECTED, "Pickaxe is not connected!")
    if context.chain_service.is_initial_block_download():
        raise RpcError(Code.CLIENT_IN_INITIAL_DOWNLOAD, "Pickaxe is in initial sync and waiting for blocks...")


def _rules(value: JSON) -> set[str]:
    return {str(rule) for rule in value} if isinstance(value, list) else set()


def _proposal(context: RpcContext, data: JSON) -> JSON:
    if not isinstance(data, str):
        raise RpcError(Code.TYPE_ERROR, "Missing data String key for proposal")
    block = decode_block(data)
    known = context.chain.index.get(block.hash)
    if known is not None:
        if known.is_valid(VALID_SCRIPTS):
            return "duplicate"
        return "duplicate-invalid" if known.failed else "duplicate-inconclusive"
    try:
        context.chain.test_block_validity(block)
    except ConsensusError as error:
        return error.reason
    return None


async def _long_poll(context: RpcContext, longpollid: JSON) -> None:
    service = context.chain_service
    if isinstance(longpollid, str):
        if len(longpollid) < 64:
            raise invalid_parameter(f"longpollid must be of length 64 (not {len(longpollid)}, for '{longpollid}')")
        watched = parse_hash(longpollid[:64], "longpollid")
        counter = longpollid[64:]
        updates = int(counter) if counter.isdigit() else 0
    else:
        watched = service.tip().hash
        updates = service.worker.mempool.transactions_updated
    wait_s = LONGPOLL_FIRST_S
    while not service.closing:
        tip = await service.wait_for_tip(lambda tip: tip.hash != watched, wait_s)
        if tip.hash != watched or service.worker.mempool.transactions_updated != updates:
            return
        wait_s = LONGPOLL_AGAIN_S
    raise RpcError(Code.CLIENT_NOT_CONNECTED, "Shutting down")


def _template_json(context: RpcContext) -> JSON:
    source = templates(context)
    template = source.current()
    params, config = context.params, context.config
    prev = template.prev
    segwit = template.height >= params.segwit_height
    scale = 1 if segwit else 4
    transactions = []
    for item in template.transactions:
        transactions.append(
            {
                "data": item.tx.raw.hex(),
                "txid": hash_to_hex(item.tx.txid),
                "hash": hash_to_hex(item.tx.wtxid),
                "depends": list(item.depends),
                "fee": item.fee,
                "sigops": item.sigop_cost // scale,
                "weight": item.weight,
            }
        )
    rules, available = _signalled(source, template, prev)
    if params.signet_challenge is not None:
        rules.append("!signet")
    version = config.block_version if config.block_version is not None and params.is_mockable else template.version
    out: dict[str, JSON] = {
        "capabilities": ["proposal"],
        "version": version,
        "rules": rules,
        "vbavailable": available,
        "vbrequired": 0,
        "previousblockhash": hash_to_hex(prev.hash),
        "transactions": transactions,
        "coinbaseaux": {},
        "coinbasevalue": template.coinbase_value,
        "longpollid": f"{hash_to_hex(prev.hash)}{template.mempool_updates}",
        "target": target_hex(template.nbits),
        "mintime": template.min_time,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": template.sigop_limit // scale,
        "sizelimit": template.size_limit // scale,
    }
    if segwit:
        out["weightlimit"] = template.weight_limit
    out["curtime"] = template.time
    out["bits"] = f"{template.nbits:08x}"
    out["height"] = template.height
    if params.signet_challenge is not None:
        out["signet_challenge"] = params.signet_challenge.hex()
    if template.witness_commitment is not None:
        out["default_witness_commitment"] = template.witness_commitment.hex()
    return out


def _signalled(
    source: TemplateSource, template: BlockTemplate, prev: BlockIndexEntry
) -> tuple[list[JSON], dict[str, JSON]]:
    params = source.bits.params
    rules: list[JSON] = ["csv"]
    if template.height >= params.segwit_height:
        rules.append("!segwit")
    if template.height >= params.taproot_height:
        rules.append("taproot")
    available: dict[str, JSON] = {}
    states = source.bits.template_states(prev)
    for state, names in states.items():
        for deployment in names:
            shown = deployment.name if deployment.gbt_optional else f"!{deployment.name}"
            if state is ThresholdState.ACTIVE:
                rules.append(shown)
            else:
                available[shown] = deployment.bit
    return rules, available


# ---------------------------------------------------------------------- submissions


def decode_block(text: JSON) -> Block:
    if not isinstance(text, str) or not is_hex(text):
        raise undecodable(Text.BLOCK_DECODE)
    try:
        return Block.parse(bytes.fromhex(text), allow_trailing=True)
    except DecodeError as error:
        raise undecodable(Text.BLOCK_DECODE) from error


@rpc(
    "submitblock",
    _CATEGORY,
    Arg("hexdata", Kind.HEX, help="the block"),
    Arg("dummy", Kind.ANY, None, help="ignored (BIP22)"),
    help="Offer a block to the network. null when it was taken, else why not (BIP22).",
)
def submitblock(context: RpcContext, hexdata: str, dummy: JSON) -> JSON:
    worker = context.worker
    block = worker.add_witness_nonce(decode_block(hexdata))
    known = context.chain.index.get(block.hash)
    had_data = known is not None and known.have_data
    error = worker.submit(block)
    if error is not None:
        return error.reason or "rejected"
    if had_data:
        return "duplicate"
    return None if block.hash in worker.connected_now else "inconclusive"


@rpc("submitheader", _CATEGORY, Arg("hexdata", Kind.HEX, help="80 bytes"), help="Offer a header.")
def submitheader(context: RpcContext, hexdata: str) -> JSON:
    if not is_hex(hexdata) or len(hexdata) < 2 * HEADER_SIZE:
        raise undecodable(Text.HEADER_DECODE)
    header = BlockHeader.parse(bytes.fromhex(hexdata)[:HEADER_SIZE])
    if header.prev_hash not in context.chain.index:
        hash_hex = hash_to_hex(header.prev_hash)
        raise RpcError(Code.VERIFY_ERROR, Text.PREVIOUS_HEADER.format(hash_hex=hash_hex))
    try:
        context.chain.accept_headers([header])
    except ConsensusError as error:
        raise RpcError(Code.VERIFY_ERROR, error.reason) from error
    finally:
        context.worker.follow(context.chain.drain_events())
    return None


# ---------------------------------------------------------------------- mining here


def search(header: BlockHeader, target: int, start: int, count: int) -> int | None:
    """The first nonce in [start, start + count) whose header meets the target; None without one. Pure, bounded."""
    middle = sha256(header.raw[:64])
    tail = header.raw[64:76]
    for nonce in range(start, min(start + count, 1 << 32)):
        attempt = middle.copy()
        attempt.update(tail + nonce.to_bytes(4, "little"))
        if int.from_bytes(sha256(attempt.digest()).digest(), "little") <= target:
            return nonce
    return None


async def _solve(context: RpcContext, block: Block, tries: int) -> tuple[Block | None, int]:
    """(the block with a nonce that meets its target or None, tries left)."""
    target = target_from_nbits(block.header.nbits) or 0
    start = 0
    while tries > 0 and start < 1 << 32 and not context.chain_service.closing:
        count = min(_CHUNK, tries)
        if target >= EASY_TARGET:
            nonce = search(block.header, target, start, count)
        else:
            nonce = await asyncio.to_thread(search, block.header, target, start, count)
        if nonce is not None:
            header = BlockHeader(block.header.raw[:76] + nonce.to_bytes(4, "little"))
            return Block.build(header, block.transactions), tries - (nonce - start)
        start += count
        tries -= count
    return None, tries


async def generate_blocks(context: RpcContext, count: int, script: bytes, max_tries: int) -> list[str]:
    """Mine up to `count` blocks on the tip, within `max_tries` hashes; the hashes of those found."""
    hashes: list[str] = []
    service = context.chain_service
    while len(hashes) < count and max_tries > 0 and not service.closing:
        template = await service.call(templates(context).make, script)
        version = context.config.block_version if context.params.is_mockable else None
        block = template.block if version is None else template.build_block(version=version)
        solved, max_tries = await _solve(context, block, max_tries)
        if solved is None:
            break
        await _process(context, solved)
        hashes.append(hash_to_hex(solved.hash))
    return hashes


async def _process(context: RpcContext, block: Block) -> None:
    error = await context.chain_service.call(context.worker.submit, block)
    if error is not None:
        raise RpcError(Code.INTERNAL_ERROR, f"ProcessNewBlock, block not accepted: {error}")


@rpc(
    "generatetoaddress",
    "hidden",
    Arg("nblocks", Kind.INT, help="how many blocks"),
    Arg("address", Kind.STR, help="who gets the reward"),
    Arg("maxtries", Kind.INT, DEFAULT_MAX_TRIES, help="how many hashes at most"),
    help="Mine blocks at once. Returns their hashes.",
)
async def generatetoaddress(context: RpcContext, nblocks: int, address: str, maxtries: int) -> JSON:
    try:
        script = decode_address(address, context.params.addresses)
    except (ValueError, UserError):
        raise not_found("Error: Invalid address") from None
    return await generate_blocks(context, nblocks, script, maxtries)


@rpc(
    "generatetodescriptor",
    "hidden",
    Arg("num_blocks", Kind.INT, help="how many blocks"),
    Arg("descriptor", Kind.STR, help="who gets the reward"),
    Arg("maxtries", Kind.INT, DEFAULT_MAX_TRIES, help="how many hashes at most"),
    help="Mine blocks at once. Returns their hashes.",
)
async def generatetodescriptor(context: RpcContext, num_blocks: int, descriptor: str, maxtries: int) -> JSON:
    parsed = descriptors.parse_or_error(descriptor, context.params)
    return await generate_blocks(context, num_blocks, descriptors.single_script(parsed), maxtries)


@rpc("generate", "hidden", help=Text.GENERATE_REPLACED)
def generate(context: RpcContext) -> JSON:
    raise RpcError(Code.METHOD_NOT_FOUND, Text.GENERATE_REPLACED)


@rpc(
    "generateblock",
    "hidden",
    Arg("output", Kind.STR, help="address or descriptor that gets the reward"),
    Arg("transactions", Kind.ARR, help="txids of the mempool, or raw transactions, in order"),
    Arg("submit", Kind.BOOL, True, help="false to only return the block"),
    help="Mine a block with exactly these transactions.",
)
async def generateblock(context: RpcContext, output: str, transactions: list[JSON], submit: bool) -> JSON:
    script = descriptors.output_script(output, context.params)
    block = await context.chain_service.call(_exact_block, context, script, transactions)
    solved, _ = await _solve(context, block, DEFAULT_MAX_TRIES)
    if solved is None:
        raise misc("Failed to make block.")
    out: dict[str, JSON] = {"hash": hash_to_hex(solved.hash)}
    if submit:
        await _process(context, solved)
    else:
        out["hex"] = solved.raw.hex()
    return out


def _exact_block(context: RpcContext, script: bytes, wanted: Sequence[JSON]) -> Block:
    from node.rpc.rawtransactions import decode_guess

    found: list[Transaction] = []
    for text in wanted:
        name = str(text)
        if len(name) == 64 and is_hex(name):
            entry = context.mempool.get(bytes.fromhex(name)[::-1])
            if entry is None:
                raise not_found(f"Transaction {name} not in mempool.")
            found.append(entry.tx)
        else:
            message = f"Transaction decode failed for {name}. Make sure the tx has at least one input."
            found.append(decode_guess(name, None, message))
    source = templates(context)
    template = assemble_exact(
        context.chain,
        found,
        script,
        now=int(context.clock()),
        coinbase_extra=_DUMMY_EXTRANONCE,
        version_bits=source.bits,
    )
    version = context.config.block_version if context.params.is_mockable else None
    block = template.block if version is None else template.build_block(version=version)
    try:
        context.chain.test_block_validity(block)
    except ConsensusError as error:
        raise RpcError(Code.VERIFY_ERROR, f"TestBlockValidity failed: {error}") from error
    return block


# ---------------------------------------------------------------------- figures


def network_hash_rate(context: RpcContext, lookup: int, height: int) -> float:
    """Hashes a second, from the work of the last `lookup` blocks before `height` (-1: the tip) and the time that they
    took."""
    index = context.chain.index
    if lookup < -1 or lookup == 0:
        raise invalid_parameter("Invalid nblocks. Must be a positive number or -1.")
    if height < -1 or height > index.height:
        raise invalid_parameter("Block does not exist at specified height")
    entry = context.chain.tip if height == -1 else index.active[height]
    if entry.height == 0:
        return 0.0
    if lookup == -1:
        lookup = entry.height % context.params.retarget_interval + 1
    lookup = min(lookup, entry.height)
    first = entry
    lowest = highest = entry.time
    for _ in range(lookup):
        if first.prev is None:
            break
        first = first.prev
        lowest = min(lowest, first.time)
        highest = max(highest, first.time)
    if lowest == highest:
        return 0.0
    return (entry.chainwork - first.chainwork) / (highest - lowest)


@rpc(
    "getnetworkhashps",
    _CATEGORY,
    Arg("nblocks", Kind.INT, 120, help="blocks to average over, -1 for those since the last retargeting"),
    Arg("height", Kind.INT, -1, help="as of this height"),
    help="The network's estimated hash rate.",
)
def getnetworkhashps(context: RpcContext, nblocks: int, height: int) -> JSON:
    return _number(network_hash_rate(context, nblocks, height))


def _number(value: float) -> JSON:
    return int(value) if value == int(value) else value


@rpc("getmininginfo", _CATEGORY, help="Where mining stands.")
def getmininginfo(context: RpcContext) -> JSON:
    chain = context.chain
    tip = chain.tip
    source = templates(context)
    out: dict[str, JSON] = {"blocks": tip.height}
    if source.last_weight is not None:
        out["currentblockweight"] = source.last_weight
        out["currentblocktx"] = source.last_count
    nbits = next_nbits(tip, max(int(context.clock()), tip.time + 1), context.params)
    out |= {
        "bits": f"{tip.nbits:08x}",
        "difficulty": difficulty(tip.nbits),
        "target": target_hex(tip.nbits),
        "networkhashps": _number(network_hash_rate(context, 120, -1)),
        "pooledtx": len(context.mempool),
        "blockmintxfee": money(context.config.block_min_fee),
        "chain": context.params.chain_name,
        "next": {
            "height": tip.height + 1,
            "bits": f"{nbits:08x}",
            "difficulty": difficulty(nbits),
            "target": target_hex(nbits),
        },
    }
    if context.params.signet_challenge is not None:
        out["signet_challenge"] = context.params.signet_challenge.hex()
    out["warnings"] = context.worker.warnings()
    return out
