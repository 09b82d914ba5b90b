"""RPC: the history and the coins of addresses, from the address index. Bitcoin Core has none of these; names and
answers are those of the Bitcore (Insight) node, with pages added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from chain.indexes.addresses import AddressIndex, ScriptCoin, ScriptDelta, script_hash_of
from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex, split_outpoint
from chain.script.addresses import decode_address, encode_address
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc, not_found
from node.rpc.jsonio import JSON
from node.rpc.registry import Arg, Kind, integer, rpc
from node.rpc.values import parse_hex

_CATEGORY = "Blockchain"
MAX_ADDRESSES: Final = 1_000
MAX_ENTRIES: Final = 10_000  #: in one answer
_WHICH: Final = 'an address, or {"addresses": [...], "scripts": [hex, ...]}'
_PAGES: Final = '; with "limit" and "cursor" page by page, for one address'
_NOT_ENABLED: Final = "Address index is not enabled. Start the node with --addressindex."


Found = TypeVar("Found", ScriptDelta, ScriptCoin)


class _Wanted(NamedTuple):
    """One script that is asked about."""

    name: str  #: its address, or its hex where it has none
    script: bytes
    hash: bytes


class _Request(NamedTuple):
    entries: AddressIndex
    scripts: list[_Wanted]
    start: int
    end: int
    chain_info: bool
    limit: int | None
    cursor: bytes


def _parse(context: RpcContext, value: JSON) -> _Request:
    index = context.worker.indexes.find(AddressIndex)
    if index is None:
        raise misc(_NOT_ENABLED)
    options: dict[str, Any] = {"addresses": [value]} if isinstance(value, str) else value
    if not isinstance(options, dict):
        raise invalid_parameter(f"Expected {_WHICH}")
    unknown = set(options) - {"addresses", "scripts", "start", "end", "chainInfo", "limit", "cursor"}
    if unknown:
        raise invalid_parameter(f"Unknown key {min(unknown)}")
    scripts = [_by_address(context, text) for text in _list(options, "addresses")]
    scripts += [_by_script(context, text) for text in _list(options, "scripts")]
    if not 1 <= len(scripts) <= MAX_ADDRESSES:
        raise invalid_parameter(f"Expected 1 to {MAX_ADDRESSES} addresses, not {len(scripts)}")
    scripts = list({wanted.script: wanted for wanted in scripts}.values())
    start = integer(options.get("start", 0))
    end = integer(options.get("end", 0)) or 0xFFFFFFFF
    if not 0 <= start <= end <= 0xFFFFFFFF:
        raise invalid_parameter("Start height must not be negative, nor above the end height")
    limit: int | None = None
    if "limit" in options:
        limit = integer(options["limit"])
        if not 1 <= limit <= MAX_ENTRIES:
            raise invalid_parameter(f"limit must be 1 to {MAX_ENTRIES}")
        if len(scripts) != 1:
            raise invalid_parameter("Pages are of one address: limit takes no more")
    cursor = parse_hex(options.get("cursor", ""), "cursor")
    if cursor and limit is None:
        raise invalid_parameter("cursor needs limit")
    if not context.worker.indexes.until_synced(index):
        raise RpcError(
            Code.INTERNAL_ERROR,
            f"Unable to get data because addressindex is still syncing. Current height: {max(index.height, 0)}",
        )
    return _Request(index, scripts, start, end, options.get("chainInfo") is True, limit, cursor)


def _list(options: dict[str, Any], key: str) -> list[Any]:
    found = options.get(key, [])
    if not isinstance(found, list):
        raise invalid_parameter(f"{key} must be an array")
    return found


def _by_address(context: RpcContext, text: JSON) -> _Wanted:
    try:
        script = decode_address(str(text), context.params.addresses)
    except (ValueError, UserError):
        raise not_found(f"Invalid address: {text}") from None
    return _Wanted(str(text), script, script_hash_of(script))


def _by_script(context: RpcContext, text: JSON) -> _Wanted:
    script = parse_hex(text, "script")
    return _Wanted(encode_address(script, context.params.addresses) or script.hex(), script, script_hash_of(script))


def _deltas(request: _Request) -> list[tuple[_Wanted, ScriptDelta]]:
    """The history of all scripts, in the order of the chain."""

    def history(script_hash: bytes, room: int) -> list[ScriptDelta]:
        return request.entries.history(script_hash, room, after=request.cursor, start=request.start, end=request.end)

    return _collect(request, history, lambda delta: delta[:4])


def _coins(request: _Request) -> list[tuple[_Wanted, ScriptCoin]]:
    """The unspent coins of all scripts, oldest first."""

    def unspent(script_hash: bytes, room: int) -> list[ScriptCoin]:
        return request.entries.unspent(script_hash, room, after=request.cursor)

    return _collect(request, unspent, lambda coin: coin.height)


def _collect(
    request: _Request, read: Callable[[bytes, int], Iterable[Found]], order: Callable[[Found], Any]
) -> list[tuple[_Wanted, Found]]:
    """What `read` finds for each script's hash, with room for so many entries; one page of it, or all there is."""
    found: list[tuple[_Wanted, Found]] = []
    for wanted in request.scripts:
        room = (request.limit or MAX_ENTRIES + 1) - len(found)
        found += [(wanted, entry) for entry in read(wanted.hash, room)]
        if request.limit is None and len(found) > MAX_ENTRIES:
            raise invalid_parameter(
                f"More than {MAX_ENTRIES} entries: narrow start and end, or ask page by page with limit and cursor"
            )
    if len(request.scripts) > 1:
        found.sort(key=lambda item: order(item[1]))
    return found


def _answer(
    context: RpcContext, request: _Request, key: str, rows: list[JSON], found: Sequence[tuple[_Wanted, Found]]
) -> JSON:
    """The rows made of what was found: a plain list; an object where pages or chainInfo are asked for."""
    if request.limit is None and not request.chain_info:
        return rows
    out: dict[str, JSON] = {key: rows}
    if request.limit is not None:  # where the next page begins; empty if this was the last one
        out["cursor"] = found[-1][1].cursor.hex() if len(found) == request.limit else ""
    if request.chain_info:
        tip = context.chain.tip
        out["hash"] = hash_to_hex(tip.hash)
        out["height"] = tip.height
    return out


@rpc(
    "getaddressbalance",
    _CATEGORY,
    Arg("addresses", Kind.ANY, help=_WHICH),
    help="What addresses hold and have received, together, confirmed, in satoshi. Needs --addressindex.",
)
def getaddressbalance(context: RpcContext, addresses: JSON) -> JSON:
    request = _parse(context, addresses)
    totals = [request.entries.totals(wanted.hash) for wanted in request.scripts]
    return {
        "balance": sum(each.balance for each in totals),
        "received": sum(each.received for each in totals),
        "utxos": sum(each.unspent for each in totals),
        "deltas": sum(each.deltas for each in totals),
    }


@rpc(
    "getaddresstxids",
    _CATEGORY,
    Arg("addresses", Kind.ANY, help=_WHICH + ' and "start", "end" heights' + _PAGES),
    help="The confirmed transactions of addresses, in the order of the chain. Needs --addressindex.",
)
def getaddresstxids(context: RpcContext, addresses: JSON) -> JSON:
    request = _parse(context, addresses)
    found = _deltas(request)
    txids: list[JSON] = list(dict.fromkeys(hash_to_hex(delta.txid) for _, delta in found))
    return _answer(context, request, "txids", txids, found)


@rpc(
    "getaddressdeltas",
    _CATEGORY,
    Arg("addresses", Kind.ANY, help=_WHICH + ' and "start", "end" heights, "chainInfo"' + _PAGES),
    help="Every confirmed output to and input from addresses, in the order of the chain. Needs --addressindex.",
)
def getaddressdeltas(context: RpcContext, addresses: JSON) -> JSON:
    request = _parse(context, addresses)
    found = _deltas(request)
    rows: list[JSON] = [
        {
            "satoshis": delta.value,
            "txid": hash_to_hex(delta.txid),
            "index": delta.n,
            "blockindex": delta.position,
            "height": delta.height,
            "address": wanted.name,
        }
        for wanted, delta in found
    ]
    return _answer(context, request, "deltas", rows, found)


@rpc(
    "getaddressutxos",
    _CATEGORY,
    Arg("addresses", Kind.ANY, help=_WHICH + ' and "chainInfo"' + _PAGES),
    help="The confirmed unspent outputs of addresses, oldest first. Needs --addressindex.",
)
def getaddressutxos(context: RpcContext, addresses: JSON) -> JSON:
    request = _parse(context, addresses)
    found = _coins(request)
    rows: list[JSON] = []
    for wanted, coin in found:
        txid, n = split_outpoint(coin.outpoint)
        rows.append(
            {
                "address": wanted.name,
                "txid": hash_to_hex(txid),
                "outputIndex": n,
                "script": wanted.script.hex(),
                "satoshis": coin.value,
                "height": coin.height,
                "coinbase": coin.coinbase,
            }
        )
    return _answer(context, request, "utxos", rows, found)
