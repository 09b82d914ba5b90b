"""RPC: what waits for a block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chain.consensus.errors import ConsensusError
from chain.mempool.entries import MempoolEntry
from chain.mempool.errors import MissingInputs, TransactionRefused
from chain.mempool.packages import MAX_PACKAGE_COUNT, PackageTx
from chain.mempool.rbf import signals_rbf
from chain.primitives.errors import LocalFault
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, hash_to_hex
from chain.script.machine import MAX_ELEMENT_SIZE
from chain.script.opcodes import Opcode
from chain.script.script import is_unspendable, iterate
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, Text, invalid_parameter, misc, not_found
from node.rpc.jsonio import JSON, money, parse_money, wrong_type
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import decode_transaction, parse_hash, parse_txid

_CATEGORY = "Blockchain"
DEFAULT_MAX_FEE_RATE = 10_000_000  #: satoshi per kvB: 0.10 coins, Core's guard against a mistyped fee
MEMPOOL_FILE = "mempool.dat"


def mempool_path(context: RpcContext) -> Path:
    from node.networks import network_dir

    return network_dir(context.config.datadir, context.params) / MEMPOOL_FILE


@rpc("getmempoolinfo", _CATEGORY, help="Totals of the mempool.")
def getmempoolinfo(context: RpcContext) -> JSON:
    info = context.mempool.info()
    policy = context.mempool.policy
    return {
        "loaded": info.loaded,
        "size": info.size,
        "bytes": info.bytes,
        "usage": info.usage,
        "total_fee": money(info.total_fee),
        "maxmempool": info.max_mempool,
        "mempoolminfee": money(info.mempool_min_fee),
        "minrelaytxfee": money(info.min_relay_fee),
        "incrementalrelayfee": money(info.incremental_relay_fee),
        "unbroadcastcount": info.unbroadcast_count,
        "fullrbf": True,
        "permitbaremultisig": policy.permit_bare_multisig,
        "maxdatacarriersize": policy.max_datacarrier_bytes or 0,
        "limitclustercount": policy.limits.cluster_count,
        "limitclustersize": policy.limits.cluster_vsize,
        "optimal": True,
    }


def entry_json(context: RpcContext, entry: MempoolEntry) -> dict[str, JSON]:
    """Core's entryToJSON."""
    mempool = context.mempool
    ancestors, descendants = mempool.ancestors(entry), mempool.descendants(entry)
    chunk = next(chunk for chunk in mempool.cluster(entry) if entry in chunk.entries)
    return {
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": int(entry.time),
        "height": entry.height,
        "descendantcount": len(descendants) + 1,
        "descendantsize": sum(d.vsize for d in descendants) + entry.vsize,
        "ancestorcount": len(ancestors) + 1,
        "ancestorsize": sum(a.vsize for a in ancestors) + entry.vsize,
        "chunkweight": chunk.size,
        "wtxid": hash_to_hex(entry.wtxid),
        "fees": {
            "base": money(entry.fee),
            "modified": money(entry.modified_fee),
            "ancestor": money(sum(a.modified_fee for a in ancestors) + entry.modified_fee),
            "descendant": money(sum(d.modified_fee for d in descendants) + entry.modified_fee),
            "chunk": money(chunk.fee),
        },
        "depends": sorted(hash_to_hex(parent.txid) for parent in entry.parents),
        "spentby": [hash_to_hex(child.txid) for child in sorted(entry.children, key=lambda c: c.txid)],
        "bip125-replaceable": _replaceable(entry, ancestors),
        "unbroadcast": entry.txid in mempool.unbroadcast,
    }


def _replaceable(entry: MempoolEntry, ancestors: set[MempoolEntry]) -> bool:
    return any(signals_rbf(e.tx.sequences) for e in (entry, *ancestors))


def _find(context: RpcContext, txid: str) -> MempoolEntry:
    entry = context.mempool.get(parse_txid(txid))
    if entry is None:
        raise not_found(Text.NOT_IN_MEMPOOL)
    return entry


def _listing(context: RpcContext, entries: list[MempoolEntry], verbose: bool) -> JSON:
    if verbose:
        return {hash_to_hex(entry.txid): entry_json(context, entry) for entry in entries}
    return [hash_to_hex(entry.txid) for entry in entries]


@rpc(
    "getrawmempool",
    _CATEGORY,
    Arg("verbose", Kind.BOOL, False, help="true for an object with all about each"),
    Arg("mempool_sequence", Kind.BOOL, False, help="add the mempool sequence; not with verbose"),
    help="The txids in the mempool.",
)
def getrawmempool(context: RpcContext, verbose: bool, mempool_sequence: bool) -> JSON:
    mempool = context.mempool
    if verbose:
        if mempool_sequence:
            raise invalid_parameter("Verbose results cannot contain mempool sequence values.")
        return _listing(context, list(mempool.entries.values()), True)
    txids = _listing(context, mempool.mining_order(), False)
    return {"txids": txids, "mempool_sequence": mempool.sequence} if mempool_sequence else txids


@rpc(
    "getmempoolentry", _CATEGORY, Arg("txid", Kind.HEX, help="the transaction"), help="One transaction in the mempool."
)
def getmempoolentry(context: RpcContext, txid: str) -> JSON:
    return entry_json(context, _find(context, txid))


@rpc(
    "getmempoolancestors",
    _CATEGORY,
    Arg("txid", Kind.HEX, help="the transaction"),
    Arg("verbose", Kind.BOOL, False, help="true for an object with all about each"),
    help="The unconfirmed ancestors of a transaction.",
)
def getmempoolancestors(context: RpcContext, txid: str, verbose: bool) -> JSON:
    entry = _find(context, txid)
    return _listing(context, sorted(context.mempool.ancestors(entry), key=lambda e: e.sequence), verbose)


@rpc(
    "getmempooldescendants",
    _CATEGORY,
    Arg("txid", Kind.HEX, help="the transaction"),
    Arg("verbose", Kind.BOOL, False, help="true for an object with all about each"),
    help="The unconfirmed descendants of a transaction.",
)
def getmempooldescendants(context: RpcContext, txid: str, verbose: bool) -> JSON:
    entry = _find(context, txid)
    return _listing(context, sorted(context.mempool.descendants(entry), key=lambda e: e.sequence), verbose)


@rpc("getmempoolcluster", _CATEGORY, Arg("txid", Kind.HEX, help="a member"), help="The cluster of a transaction.")
def getmempoolcluster(context: RpcContext, txid: str) -> JSON:
    entry = _find(context, txid)
    chunks = context.mempool.cluster(entry)
    return {
        "clusterweight": sum(chunk.size for chunk in chunks),
        "txcount": sum(len(chunk.entries) for chunk in chunks),
        "chunks": [
            {
                "chunkfee": money(chunk.fee),
                "chunkweight": chunk.size,
                "txs": [hash_to_hex(member.txid) for member in chunk.entries],
            }
            for chunk in chunks
        ],
    }


@rpc(
    "gettxspendingprevout",
    _CATEGORY,
    Arg("outputs", Kind.ARR, help='[{"txid": hex, "vout": n}, ...]'),
    help="Which transactions in the mempool spend these outputs.",
)
def gettxspendingprevout(context: RpcContext, outputs: list[JSON]) -> JSON:
    if not outputs:
        raise invalid_parameter("Invalid parameter, outputs are missing")
    answer = []
    for item in outputs:
        if not isinstance(item, dict):
            raise wrong_type(item, "object")
        txid, vout = item.get("txid"), item.get("vout")
        if not isinstance(txid, str):
            raise wrong_type(txid, "string")
        if isinstance(vout, bool) or not isinstance(vout, int):
            raise wrong_type(vout, "number")
        if vout < 0:
            raise invalid_parameter("Invalid parameter, vout cannot be negative")
        outpoint = OutPoint(parse_txid(txid) + vout.to_bytes(4, "little"))
        one: dict[str, JSON] = {"txid": txid, "vout": vout}
        spender = context.mempool.spender(outpoint)
        if spender is not None:
            one["spendingtxid"] = hash_to_hex(spender.txid)
        answer.append(one)
    return answer


def max_fee_rate(value: JSON) -> int | None:
    """`maxfeerate` in satoshi per kvB; None for 0, which switches the guard off."""
    if value is None:
        return DEFAULT_MAX_FEE_RATE
    rate = parse_money(value)
    if rate >= 100_000_000:
        raise invalid_parameter("Fee rates larger than or equal to 1BTC/kvB are not accepted")
    return rate or None


@rpc(
    "sendrawtransaction",
    "Rawtransactions",
    Arg("hexstring", Kind.HEX, help="the signed transaction"),
    Arg("maxfeerate", Kind.AMOUNT, None, help="refuse higher fee rates (coins per kvB); 0 for any"),
    Arg("maxburnamount", Kind.AMOUNT, None, help="refuse unspendable outputs above this value"),
    help="Take a transaction into the mempool and announce it. Returns its txid.",
)
def sendrawtransaction(context: RpcContext, hexstring: str, maxfeerate: JSON, maxburnamount: JSON) -> JSON:
    limit = max_fee_rate(maxfeerate)
    burn = parse_money(maxburnamount) if maxburnamount is not None else 0
    tx = decode_transaction(hexstring)
    check_burn(tx, burn)
    mempool, chain = context.mempool, context.chain
    known = mempool.get(tx.txid)
    if known is not None:
        context.worker.announce_again(known)
        return hash_to_hex(tx.txid)
    if any(chain.get_coin(tx.outpoint(n)) is not None for n in range(len(tx.values))):
        raise RpcError(Code.VERIFY_ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set")
    try:
        context.worker.accept(tx, max_fee_rate_sat_per_kvb=limit, local=True)
    except TransactionRefused as error:
        if error.reason == "max feerate exceeded":
            message = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)"
            raise RpcError(Code.VERIFY_ERROR, message) from error
        code = Code.VERIFY_ERROR if isinstance(error, MissingInputs) else Code.VERIFY_REJECTED
        raise RpcError(code, error.reason if isinstance(error, MissingInputs) else str(error)) from error
    except ConsensusError as error:
        raise RpcError(Code.VERIFY_REJECTED, str(error)) from error
    return hash_to_hex(tx.txid)


def check_burn(tx: Transaction, limit: int) -> None:
    """Refuse to throw coins away by mistake."""
    for value, script in zip(tx.values, tx.scripts, strict=True):
        if value <= limit:
            continue
        if is_unspendable(script) or not _has_valid_ops(script):
            raise RpcError(Code.VERIFY_ERROR, "Unspendable output exceeds maximum configured by user (maxburnamount)")


def _has_valid_ops(script: bytes) -> bool:
    """Core's HasValidOps: it parses, every opcode exists and no push exceeds 520 bytes."""
    try:
        return all(
            opcode <= Opcode.OP_NOP10 and len(data or b"") <= MAX_ELEMENT_SIZE for opcode, data in iterate(script)
        )
    except ValueError:
        return False


@rpc(
    "testmempoolaccept",
    "Rawtransactions",
    Arg("rawtxs", Kind.ARR, help="transactions in hex, parents first"),
    Arg("maxfeerate", Kind.AMOUNT, None, help="refuse higher fee rates (coins per kvB); 0 for any"),
    help="Whether the mempool would take these transactions.",
)
def testmempoolaccept(context: RpcContext, rawtxs: list[JSON], maxfeerate: JSON) -> JSON:
    if not 1 <= len(rawtxs) <= MAX_PACKAGE_COUNT:
        raise invalid_parameter(f"Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions.")
    limit = max_fee_rate(maxfeerate)
    txs = [
        decode_transaction(text, f"TX decode failed: {text} Make sure the tx has at least one input.")
        for text in rawtxs
    ]
    result = context.mempool.test_accept(txs, max_fee_rate_sat_per_kvb=limit)
    answer = []
    stop = False
    for tx in txs:
        one: dict[str, JSON] = {"txid": hash_to_hex(tx.txid), "wtxid": hash_to_hex(tx.wtxid)}
        if result.policy_error:
            one["package-error"] = result.error
        found = result.transactions.get(tx.wtxid)
        if not stop and found is not None:
            stop = _test_result(one, found)
        answer.append(one)
    return answer


def _test_result(one: dict[str, JSON], found: PackageTx) -> bool:
    """Fill in one member's outcome; whether the following members go unreported, as in Core."""
    if found.accepted is not None:
        accepted = found.accepted
        one["allowed"] = True
        one["vsize"] = accepted.vsize
        one["fees"] = {
            "base": money(accepted.fee),
            "effective-feerate": money(accepted.effective_fee_rate_sat_per_kvb),
            "effective-includes": [hash_to_hex(wtxid) for wtxid in accepted.effective_wtxids],
        }
        return False
    one["allowed"] = False
    refused = found.refused
    if isinstance(refused, MissingInputs):
        one["reject-reason"] = "missing-inputs"
    elif refused is not None:
        if refused.reason == "max feerate exceeded":
            one["reject-reason"] = "max-fee-exceeded"
            return True
        one["reject-reason"] = refused.reason
        one["reject-details"] = str(refused)
    return False


@rpc(
    "submitpackage",
    "Rawtransactions",
    Arg("package", Kind.ARR, help="a child and its parents, in hex, child last"),
    Arg("maxfeerate", Kind.AMOUNT, None, help="refuse higher fee rates (coins per kvB); 0 for any"),
    Arg("maxburnamount", Kind.AMOUNT, None, help="refuse unspendable outputs above this value"),
    help="Take transactions into the mempool whose fees are weighed together.",
)
def submitpackage(context: RpcContext, package: list[JSON], maxfeerate: JSON, maxburnamount: JSON) -> JSON:
    if not 1 <= len(package) <= MAX_PACKAGE_COUNT:
        raise invalid_parameter(f"Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions.")
    limit = max_fee_rate(maxfeerate)
    burn = parse_money(maxburnamount) if maxburnamount is not None else 0
    txs = []
    for text in package:
        tx = decode_transaction(text, f"TX decode failed: {text} Make sure the tx has at least one input.")
        check_burn(tx, burn)
        txs.append(tx)
    if len(txs) > 1 and not _is_child_with_parents_tree(txs):
        raise RpcError(
            Code.VERIFY_ERROR, "package topology disallowed. not child-with-parents or parents depend on each other."
        )
    result = context.worker.submit_package(txs, max_fee_rate_sat_per_kvb=limit)
    results: dict[str, JSON] = {}
    replaced: set[str] = {hash_to_hex(gone.entry.txid) for gone in result.replaced}
    for tx in txs:
        results[hash_to_hex(tx.wtxid)] = _package_result(tx, result.transactions.get(tx.wtxid))
    message = "success" if not result.error else result.error
    return {"package_msg": message, "tx-results": results, "replaced-transactions": sorted(replaced)}


def _package_result(tx: Transaction, found: PackageTx | None) -> dict[str, JSON]:
    one: dict[str, JSON] = {"txid": hash_to_hex(tx.txid)}
    if found is None:
        one["error"] = "package-not-validated"
    elif found.other_witness is not None:
        one["other-wtxid"] = hash_to_hex(found.other_witness.wtxid)
    elif found.known is not None:
        one["vsize"] = found.known.vsize
        one["fees"] = {"base": money(found.known.fee)}
    elif found.accepted is not None:
        accepted = found.accepted
        one["vsize"] = accepted.vsize
        one["fees"] = {
            "base": money(accepted.fee),
            "effective-feerate": money(accepted.effective_fee_rate_sat_per_kvb),
            "effective-includes": [hash_to_hex(wtxid) for wtxid in accepted.effective_wtxids],
        }
    elif found.refused is not None:
        one["error"] = str(found.refused)
    return one


def _is_child_with_parents_tree(txs: list[Transaction]) -> bool:
    """Core's IsChildWithParentsTree: the last spends all others, which do not spend each other."""
    *parents, child = txs
    spent = {outpoint[:32] for outpoint in child.prevouts}
    if any(parent.txid not in spent for parent in parents):
        return False
    ids = {parent.txid for parent in parents}
    return not any(outpoint[:32] in ids for parent in parents for outpoint in parent.prevouts)


@rpc("savemempool", _CATEGORY, help="Write the mempool to disk.")
def savemempool(context: RpcContext) -> JSON:
    if not context.mempool.loaded:
        raise misc("The mempool was not loaded yet")
    path = mempool_path(context)
    try:
        context.worker.save_mempool(path)
    except LocalFault as error:
        raise misc("Unable to dump mempool to disk") from error
    return {"filename": str(path)}


@rpc(
    "importmempool",
    _CATEGORY,
    Arg("filepath", Kind.STR, help="a mempool.dat"),
    Arg("options", Kind.OBJ, None, help="use_current_time, apply_fee_delta_priority, apply_unbroadcast_set"),
    help="Take in a mempool.dat.",
)
def importmempool(context: RpcContext, filepath: str, options: dict[str, Any] | None) -> JSON:
    if context.worker.is_initial_block_download():
        message = "Can only import the mempool after the block download and sync is done."
        raise RpcError(Code.CLIENT_IN_INITIAL_DOWNLOAD, message)
    chosen = options or {}
    try:
        result = context.worker.load_mempool(
            Path(filepath),
            use_current_time=bool(chosen.get("use_current_time", True)),
            apply_fee_deltas=bool(chosen.get("apply_fee_delta_priority", False)),
            apply_unbroadcast=bool(chosen.get("apply_unbroadcast_set", False)),
        )
    except ValueError:  # no file system takes such a name
        result = False
    if not result:
        raise misc("Unable to import mempool file, see debug log for details.")
    return {}


@rpc(
    "prioritisetransaction",
    "Mining",
    Arg("txid", Kind.HEX, help="the transaction"),
    Arg("dummy", Kind.FLOAT, None, help="0 or null"),
    Arg("fee_delta", Kind.INT, help="satoshi to add to what it counts as paying"),
    help="Make a transaction count as paying more or less, for this node's templates and limits.",
)
def prioritisetransaction(context: RpcContext, txid: str, dummy: JSON, fee_delta: int) -> JSON:
    identifier = parse_hash(txid, "txid")
    if dummy is not None and float(dummy) != 0:
        message = "Priority is no longer supported, dummy argument to prioritisetransaction must be 0."
        raise invalid_parameter(message)
    entry = context.mempool.get(identifier)
    policy = context.mempool.policy
    if entry is not None:
        from chain.mempool.policy import dust_outputs

        if policy.require_standard and dust_outputs(entry.tx, policy.dust_relay_fee_rate):
            raise invalid_parameter("Priority is not supported for transactions with dust outputs.")
    context.mempool.prioritise(identifier, fee_delta)
    return True


@rpc("getprioritisedtransactions", "Mining", help="All fee deltas that prioritisetransaction made.")
def getprioritisedtransactions(context: RpcContext) -> JSON:
    mempool = context.mempool
    answer: dict[str, JSON] = {}
    for txid, delta in sorted(mempool.deltas.items()):
        entry = mempool.get(txid)
        one: dict[str, JSON] = {"fee_delta": delta, "in_mempool": entry is not None}
        if entry is not None:
            one["modified_fee"] = entry.modified_fee
        answer[hash_to_hex(txid)] = one
    return answer
