"""Blocks, transactions and scripts as the JSON objects that Bitcoin Core answers with, field for field."""

from __future__ import annotations

from collections.abc import Sequence

from chain.chainstate import Chainstate
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.coin import coin_height, coin_is_coinbase, coin_script, coin_value
from chain.primitives.target import decode_nbits, difficulty
from chain.primitives.transaction import Transaction
from chain.primitives.types import PackedCoin, hash_to_hex
from chain.script.addresses import encode_address
from chain.script.script import disassemble
from chain.script.standard import ScriptType, classify
from node.rpc.descriptors import infer
from node.rpc.jsonio import JSON, money
from wallet.descriptors import add_checksum


def target_hex(nbits: int) -> str:
    """A target as 64 hex digits."""
    return f"{decode_nbits(nbits)[0]:064x}"


def script_json(
    script: bytes, params: NetworkParams, *, with_hex: bool = True, with_address: bool = True
) -> dict[str, JSON]:
    """Core's ScriptToUniv for an output script."""
    kind, _ = classify(script)
    out: dict[str, JSON] = {"asm": disassemble(script)}
    if with_address:
        out["desc"] = add_checksum(infer(script, params))
    if with_hex:
        out["hex"] = script.hex()
    if with_address and kind is not ScriptType.PUBKEY:
        address = encode_address(script, params.addresses)
        if address is not None:
            out["address"] = address
    out["type"] = str(kind)
    return out


def transaction_json(
    tx: Transaction,
    params: NetworkParams,
    *,
    spent: Sequence[PackedCoin] | None = None,
    with_prevouts: bool = False,
    with_hex: bool = True,
) -> dict[str, JSON]:
    """Core's TxToUniv. `spent` (in input order) adds the fee and, with `with_prevouts`, each input's coin."""
    out: dict[str, JSON] = {
        "txid": hash_to_hex(tx.txid),
        "hash": hash_to_hex(tx.wtxid),
        "version": tx.version,
        "size": tx.total_size,
        "vsize": tx.vsize,
        "weight": tx.weight,
        "locktime": tx.locktime,
    }
    coinbase = tx.is_coinbase
    vin: list[JSON] = []
    for position, item in enumerate(tx.inputs):
        entry: dict[str, JSON] = {}
        if coinbase:
            entry["coinbase"] = item.script_sig.hex()
        else:
            entry["txid"] = hash_to_hex(item.prevout[:32])
            entry["vout"] = int.from_bytes(item.prevout[32:], "little")
            entry["scriptSig"] = {
                "asm": disassemble(item.script_sig, decode_sighash=True),
                "hex": item.script_sig.hex(),
            }
        if item.witness:
            entry["txinwitness"] = [element.hex() for element in item.witness]
        if spent is not None and with_prevouts and not coinbase:
            coin = spent[position]
            entry["prevout"] = {
                "generated": coin_is_coinbase(coin),
                "height": coin_height(coin),
                "value": money(coin_value(coin)),
                "scriptPubKey": script_json(coin_script(coin), params),
            }
        entry["sequence"] = item.sequence
        vin.append(entry)
    out["vin"] = vin
    out["vout"] = [
        {"value": money(value), "n": n, "scriptPubKey": script_json(script, params)}
        for n, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True))
    ]
    if spent is not None and not coinbase:
        out["fee"] = money(sum(coin_value(coin) for coin in spent) - sum(tx.values))
    if with_hex:
        out["hex"] = tx.raw.hex()
    return out


def header_json(entry: BlockIndexEntry, chain: Chainstate) -> dict[str, JSON]:
    """Core's blockheaderToJSON."""
    index = chain.index
    active = index.in_active(entry)
    out: dict[str, JSON] = {
        "hash": hash_to_hex(entry.hash),
        "confirmations": chain.tip.height - entry.height + 1 if active else -1,
        "height": entry.height,
        "version": entry.version,
        "versionHex": f"{entry.version & 0xFFFFFFFF:08x}",
        "merkleroot": hash_to_hex(entry.merkle_root),
        "time": entry.time,
        "mediantime": entry.median_time_past(),
        "nonce": entry.nonce,
        "bits": f"{entry.nbits:08x}",
        "target": target_hex(entry.nbits),
        "difficulty": difficulty(entry.nbits),
        "chainwork": f"{entry.chainwork:064x}",
        "nTx": entry.tx_count,
    }
    if entry.prev is not None:
        out["previousblockhash"] = hash_to_hex(entry.prev.hash)
    following = index.next_in_active(entry)
    if following is not None:
        out["nextblockhash"] = hash_to_hex(following.hash)
    return out


def coinbase_json(tx: Transaction) -> dict[str, JSON]:
    """getblock's `coinbase_tx`: what miners decide."""
    only = tx.inputs[0]
    out: dict[str, JSON] = {
        "version": tx.version,
        "locktime": tx.locktime,
        "sequence": only.sequence,
        "coinbase": only.script_sig.hex(),
    }
    if only.witness:
        out["witness"] = only.witness[0].hex()
    return out


def block_json(
    block: Block,
    entry: BlockIndexEntry,
    chain: Chainstate,
    *,
    verbosity: int,
    undo: Sequence[Sequence[PackedCoin]] | None = None,
) -> dict[str, JSON]:
    """Core's blockToJSON for verbosity 1 (txids), 2 (transactions, fees from `undo`) and 3 (with the coins spent)."""
    out = header_json(entry, chain)
    out["strippedsize"] = block.base_size
    out["size"] = block.total_size
    out["weight"] = block.weight
    out["coinbase_tx"] = coinbase_json(block.transactions[0])
    if verbosity == 1:
        out["tx"] = [hash_to_hex(tx.txid) for tx in block.transactions]
        return out
    out["tx"] = [
        transaction_json(
            tx,
            chain.params,
            spent=undo[position - 1] if undo is not None and position else None,
            with_prevouts=verbosity >= 3,
        )
        for position, tx in enumerate(block.transactions)
    ]
    return out
