"""RPC: finding the unspent outputs of descriptors. Errors are in Bitcoin Core's words."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Final

from chain.chainstate import Chainstate
from chain.index import BlockIndexEntry
from chain.primitives.coin import coin_height, coin_is_coinbase, coin_script, coin_value
from chain.primitives.types import OutPoint, PackedCoin, hash_to_hex, split_outpoint
from node.rpc import descriptors
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc
from node.rpc.jsonio import JSON, money
from node.rpc.registry import Arg, Kind, rpc

_SCAN: Final = "scantxoutset"  #: key of the scan under way in worker.extras
_STEP_COINS: Final = 20_000  #: looked at before the chain's thread may do something else


@dataclass(slots=True)
class _Scan:
    """One scantxoutset under way."""

    tip: BlockIndexEntry | None = None
    coins: int = 0  #: looked at
    percent: int = 0
    found: list[tuple[OutPoint, PackedCoin]] = field(default_factory=list)
    aborted: bool = False
    completed: bool = False

    def steps(self, chain: Chainstate, scripts: Mapping[bytes, str]) -> Generator[int, None, None]:
        """Look at the coins as they are at the first step; the number of those seen after each."""
        self.tip = chain.tip
        frozen = chain.frozen_coins()
        try:
            for outpoint, coin in frozen:
                self.coins += 1
                if coin_script(coin) in scripts:
                    self.found.append((outpoint, coin))
                if not self.coins % _STEP_COINS:
                    self.percent = _percent(outpoint)
                    yield self.coins
            self.completed = True
        finally:
            frozen.close()


def _percent(outpoint: bytes) -> int:
    """How far through all outpoints this one is (Core's way: txids are spread evenly)."""
    return int(int.from_bytes(outpoint[:2], "big") * 100 / 65536 + 0.5)


@rpc(
    "scantxoutset",
    "Blockchain",
    Arg("action", Kind.STR, help="start, abort or status"),
    Arg("scanobjects", Kind.ARR, None, help='descriptors, or {"desc": text, "range": end or [begin, end]}'),
    help="Find the unspent outputs of descriptors. One scan at a time; the node goes on meanwhile, and another call can"
    " ask for its progress or abort it.",
)
async def scantxoutset(context: RpcContext, action: str, scanobjects: list[JSON] | None) -> JSON:
    extras = context.worker.extras
    running = extras.get(_SCAN)
    if action == "status":
        return {"progress": running.percent} if isinstance(running, _Scan) else None
    if action == "abort":
        if not isinstance(running, _Scan):
            return False
        running.aborted = True
        return True
    if action != "start":
        raise invalid_parameter(f"Invalid action '{action}'")
    if running is not None:
        raise invalid_parameter('Scan already in progress, use action "abort" or "status"')
    if scanobjects is None:
        raise misc("scanobjects argument is required for the start action")
    scan = extras[_SCAN] = _Scan()
    try:
        wanted = await asyncio.to_thread(_scripts, context, scanobjects)
        await _run(context, scan, wanted)
    finally:
        del extras[_SCAN]
    return _result(scan, wanted)


def _scripts(context: RpcContext, scanobjects: list[JSON]) -> dict[bytes, str]:
    """Output scripts and their descriptors; a range of keys takes a while."""
    wanted: dict[bytes, str] = {}
    for scan_object in scanobjects:
        wanted |= descriptors.scan_object(scan_object, context.params)
    return wanted


async def _run(context: RpcContext, scan: _Scan, wanted: Mapping[bytes, str]) -> None:
    service = context.chain_service
    steps = scan.steps(context.chain, wanted)
    try:
        while await service.call(next, steps, None) is not None and not scan.aborted:
            if service.closing:
                raise RpcError(Code.INTERNAL_ERROR, "The node is stopping")
    finally:
        await service.call(steps.close)


def _result(scan: _Scan, wanted: Mapping[bytes, str]) -> JSON:
    tip = scan.tip
    if tip is None:
        raise misc("The scan has not begun")
    unspents: list[JSON] = []
    total = 0
    for outpoint, coin in scan.found:
        txid, index = split_outpoint(outpoint)
        height = coin_height(coin)
        block = tip.ancestor(height)
        total += coin_value(coin)
        unspents.append(
            {
                "txid": hash_to_hex(txid),
                "vout": index,
                "scriptPubKey": coin_script(coin).hex(),
                "desc": wanted[coin_script(coin)],
                "amount": money(coin_value(coin)),
                "coinbase": coin_is_coinbase(coin),
                "height": height,
                "blockhash": hash_to_hex(block.hash) if block is not None else "",
                "confirmations": tip.height - height + 1,
            }
        )
    return {
        "success": scan.completed,
        "txouts": scan.coins,
        "height": tip.height,
        "bestblock": hash_to_hex(tip.hash),
        "unspents": unspents,
        "total_amount": money(total),
    }
