"""RPC: transactions as bytes: decode, build, look up, prove."""

from __future__ import annotations

from chain.crypto.hashes import hash160, sha256
from chain.index import BlockIndexEntry
from chain.indexes.transactions import TransactionIndex
from chain.primitives.coin import coin_height
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint, hash_to_hex
from chain.script.addresses import decode_address, encode_address
from chain.script.opcodes import OP_SUCCESS, Opcode
from chain.script.script import disassemble, iterate
from chain.script.standard import ScriptType, classify, nulldata, p2sh, p2wpkh, p2wsh
from node.rpc.blockchain import read_block, read_undo
from node.rpc.context import RpcContext
from node.rpc.descriptors import infer
from node.rpc.errors import Code, RpcError, Text, invalid_parameter, not_found, undecodable
from node.rpc.format import script_json, transaction_json
from node.rpc.jsonio import JSON, pairs_of, parse_money, wrong_type
from node.rpc.merkle_proof import MerkleProof
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import find_block, is_hex, parse_hash, parse_hex, parse_txid, parse_verbosity
from wallet.descriptors import add_checksum

_CATEGORY = "Rawtransactions"
MAX_SEQUENCE = 0xFFFFFFFF
SEQUENCE_NONFINAL = 0xFFFFFFFE
SEQUENCE_RBF = 0xFFFFFFFD
MAX_OUTPUTS_PROBED = 1000  #: when looking for an unspent output of a transaction whose block is not known


@rpc(
    "getrawtransaction",
    _CATEGORY,
    Arg("txid", Kind.HEX, help="the transaction"),
    Arg("verbosity|verbose", Kind.ANY, 0, help="0 hex, 1 decoded, 2 with fee and coins spent"),
    Arg("blockhash", Kind.HEX, None, help="the block that holds it"),
    help="A transaction of the mempool, of a given block, or of any block with -txindex.",
)
def getrawtransaction(context: RpcContext, txid: str, verbosity: JSON, blockhash: str | None) -> JSON:
    identifier = parse_hash(txid, "parameter 1")
    level = parse_verbosity(verbosity, default=0)
    chain = context.chain
    genesis = context.params.genesis
    if identifier == genesis.transactions[0].txid:
        raise not_found(Text.GENESIS_TX)
    entry: BlockIndexEntry | None = None
    if blockhash is not None:
        entry = chain.index.get(parse_hash(blockhash, "parameter 3"))
        if entry is None:
            raise not_found(Text.BLOCK_HASH_NOT_FOUND)
    tx, entry = _look_up(context, identifier, entry)
    if level <= 0:
        return tx.raw.hex()
    out: dict[str, JSON] = {}
    if blockhash is not None and entry is not None:
        out["in_active_chain"] = chain.index.in_active(entry)
    spent = None
    if level >= 2 and entry is not None and not tx.is_coinbase:
        undo = read_undo(context, entry)
        if undo is not None:
            block = read_block(context, entry)
            position = next(i for i, other in enumerate(block.transactions) if other.txid == tx.txid)
            spent = undo[position - 1]
    out |= transaction_json(tx, context.params, spent=spent, with_prevouts=level >= 2)
    if entry is not None:
        out["blockhash"] = hash_to_hex(entry.hash)
        if chain.index.in_active(entry):
            out["confirmations"] = chain.tip.height - entry.height + 1
            out["time"] = entry.time
            out["blocktime"] = entry.time
        else:
            out["confirmations"] = 0
    return out


def _look_up(
    context: RpcContext, txid: bytes, entry: BlockIndexEntry | None
) -> tuple[Transaction, BlockIndexEntry | None]:
    if entry is not None:
        if not entry.have_data:
            raise RpcError(Code.MISC_ERROR, "Block not available")
        for tx in read_block(context, entry).transactions:
            if tx.txid == txid:
                return tx, entry
        raise not_found(Text.NO_TX_IN_BLOCK)
    waiting = context.mempool.get(txid)
    if waiting is not None:
        return waiting.tx, None
    index = context.worker.indexes.find(TransactionIndex)
    if index is None:
        raise not_found(Text.NO_TX_NO_INDEX)
    synced = context.worker.indexes.until_synced(index)
    found = index.find(txid)
    if found is not None:
        return found
    raise not_found(Text.NO_TX if synced else Text.NO_TX_STILL_INDEXING)


@rpc(
    "decoderawtransaction",
    _CATEGORY,
    Arg("hexstring", Kind.HEX, help="the transaction"),
    Arg("iswitness", Kind.BOOL, None, help="whether it is in witness encoding; both are tried without"),
    help="A transaction as JSON.",
)
def decoderawtransaction(context: RpcContext, hexstring: str, iswitness: bool | None) -> JSON:
    tx = decode_guess(hexstring, iswitness)
    return transaction_json(tx, context.params, with_hex=False)


def decode_guess(text: str, is_witness: bool | None, message: str = "TX decode failed") -> Transaction:
    """Core's DecodeHexTx: both encodings are tried unless told; the one whose scripts make sense wins."""
    if not is_hex(text):
        raise undecodable(message)
    raw = bytes.fromhex(text)
    found: list[Transaction] = []
    for allow_witness in (True, False):
        if is_witness is not None and allow_witness != is_witness:
            continue
        try:
            found.append(Transaction.parse(raw, allow_witness=allow_witness))
        except DecodeError:
            continue
    if not found:
        raise undecodable(message)
    if len(found) == 2 and not _is_sane(found[0]) and _is_sane(found[1]):
        return found[1]
    return found[0]


def _is_sane(tx: Transaction) -> bool:
    """Whether all its scripts parse: tells the two encodings apart where both are possible (CheckTxScriptsSanity)."""
    scripts = list(tx.scripts)
    if not tx.is_coinbase:
        scripts += tx.script_sigs
    return all(len(s) <= 10_000 and "[error]" not in disassemble(s) for s in scripts)


@rpc("decodescript", _CATEGORY, Arg("hexstring", Kind.HEX, help="the script"), help="A script as JSON.")
def decodescript(context: RpcContext, hexstring: str) -> JSON:
    script = parse_hex(hexstring, "argument") if hexstring else b""
    params = context.params
    out = script_json(script, params, with_hex=False)
    kind, solutions = classify(script)
    parses = "[error]" not in out["asm"]
    can_wrap = kind in (
        ScriptType.MULTISIG,
        ScriptType.NONSTANDARD,
        ScriptType.PUBKEY,
        ScriptType.PUBKEYHASH,
        ScriptType.WITNESS_V0_KEYHASH,
        ScriptType.WITNESS_V0_SCRIPTHASH,
    )
    if not can_wrap or not parses or len(script) > 10_000 or script[:1] == b"\x6a" or _has_op_success(script):
        return out
    out["p2sh"] = encode_address(p2sh(hash160(script)), params.addresses)
    if kind in (ScriptType.WITNESS_V0_KEYHASH, ScriptType.WITNESS_V0_SCRIPTHASH):
        return out
    if kind is ScriptType.PUBKEY and len(solutions[0]) == 65:
        return out
    if kind is ScriptType.MULTISIG and any(len(key) == 65 for key in solutions[1:-1]):
        return out
    if kind is ScriptType.PUBKEY:
        wrapped = p2wpkh(hash160(solutions[0]))
    elif kind is ScriptType.PUBKEYHASH:
        wrapped = p2wpkh(solutions[0])
    else:
        wrapped = p2wsh(sha256(script))
    segwit = script_json(wrapped, params)
    segwit["p2sh-segwit"] = encode_address(p2sh(hash160(wrapped)), params.addresses)
    if kind not in (ScriptType.PUBKEY, ScriptType.PUBKEYHASH):
        inner = infer(script, params, inner=True)
        if not inner.startswith(("raw(", "addr(")):
            segwit["desc"] = add_checksum(f"wsh({inner})")
    out["segwit"] = segwit
    return out


def _has_op_success(script: bytes) -> bool:
    """Opcodes that mean something in tapscript only: such a script is not meant to be wrapped."""
    return any(opcode == Opcode.OP_CHECKSIGADD or opcode in OP_SUCCESS for opcode, _ in iterate(script))


@rpc(
    "createrawtransaction",
    _CATEGORY,
    Arg("inputs", Kind.ARR, help='[{"txid": hex, "vout": n, "sequence": n}, ...]'),
    Arg(
        "outputs",
        Kind.ANY,
        help='[{address: amount}, {"data": hex}, ...] or one object',
        oneline="[{address:amount,...},...]",
    ),
    Arg("locktime", Kind.INT, 0, help="block height or Unix time"),
    Arg("replaceable", Kind.BOOL, None, help="signal BIP125 replaceability; by default yes"),
    Arg("version", Kind.INT, 2, help="transaction version"),
    help="An unsigned transaction in hex.",
)
def createrawtransaction(
    context: RpcContext, inputs: list[JSON], outputs: JSON, locktime: int, replaceable: bool | None, version: int
) -> JSON:
    return build_transaction(context, inputs, outputs, locktime, replaceable, version).raw.hex()


def build_transaction(
    context: RpcContext, inputs: list[JSON], outputs: JSON, locktime: int, replaceable: bool | None, version: int
) -> Transaction:
    """Core's ConstructTransaction."""
    if not 0 <= locktime <= MAX_SEQUENCE:
        raise invalid_parameter("Invalid parameter, locktime out of range")
    if not 1 <= version <= 3:
        raise invalid_parameter("Invalid parameter, version out of range(1~3)")
    rbf = True if replaceable is None else replaceable
    tx_inputs = [_build_input(item, rbf, locktime) for item in inputs]
    tx_outputs = _build_outputs(context, outputs)
    if replaceable and tx_inputs and all(i.sequence >= SEQUENCE_NONFINAL for i in tx_inputs):
        message = "Invalid parameter combination: Sequence number(s) contradict replaceable option"
        raise invalid_parameter(message)
    return Transaction.build(version, tx_inputs, tx_outputs, locktime)


def _build_input(item: JSON, rbf: bool, locktime: int) -> TxIn:
    if not isinstance(item, dict):
        raise wrong_type(item, "object")
    txid = parse_txid(item.get("txid"))
    vout = item.get("vout")
    if isinstance(vout, bool) or not isinstance(vout, int):
        raise invalid_parameter("Invalid parameter, missing vout key")
    if vout < 0:
        raise invalid_parameter("Invalid parameter, vout cannot be negative")
    if vout > 0xFFFFFFFF:
        raise RpcError(Code.MISC_ERROR, Text.INTEGER_RANGE)
    if rbf:
        sequence = SEQUENCE_RBF
    else:
        sequence = SEQUENCE_NONFINAL if locktime else MAX_SEQUENCE
    chosen = item.get("sequence")
    if chosen is not None and isinstance(chosen, int) and not isinstance(chosen, bool):
        if not 0 <= chosen <= MAX_SEQUENCE:
            raise invalid_parameter("Invalid parameter, sequence number is out of range")
        sequence = chosen
    return TxIn(OutPoint(txid + vout.to_bytes(4, "little")), b"", sequence)


def _build_outputs(context: RpcContext, outputs: JSON) -> list[TxOut]:
    pairs: list[tuple[str, JSON]] = []
    if isinstance(outputs, dict):
        pairs = pairs_of(outputs)
    elif isinstance(outputs, list):
        for item in outputs:
            if not isinstance(item, dict):
                raise invalid_parameter("Invalid parameter, key-value pair not an object as expected")
            if len(pairs_of(item)) != 1:
                raise invalid_parameter("Invalid parameter, key-value pair must contain exactly one key")
            pairs += pairs_of(item)
    else:
        raise wrong_type(outputs, "array")
    built: list[TxOut] = []
    seen: set[bytes] = set()
    has_data = False
    for name, value in pairs:
        if name == "data":
            if has_data:
                raise invalid_parameter("Invalid parameter, duplicate key: data")
            has_data = True
            built.append(TxOut(Amount(0), nulldata(parse_hex(value, "Data"))))
            continue
        try:
            script = decode_address(name, context.params.addresses)
        except (ValueError, UserError):
            raise not_found(f"Invalid Bitcoin address: {name}") from None
        if script in seen:
            raise invalid_parameter(f"Invalid parameter, duplicated address: {name}")
        seen.add(script)
        built.append(TxOut(Amount(parse_money(value)), script))
    return built


@rpc(
    "gettxoutproof",
    "Blockchain",
    Arg("txids", Kind.ARR, help="transactions of one block"),
    Arg("blockhash", Kind.HEX, None, help="the block that holds them"),
    help="A proof that transactions are in a block.",
)
def gettxoutproof(context: RpcContext, txids: list[JSON], blockhash: str | None) -> JSON:
    wanted: list[bytes] = []
    for item in txids:
        txid = parse_txid(item)
        if txid in wanted:
            raise invalid_parameter(f"Invalid parameter, duplicated txid: {item}")
        wanted.append(txid)
    if not wanted:
        raise invalid_parameter("Parameter 'txids' cannot be empty")
    if blockhash is not None:
        entry = find_block(context, blockhash)
    else:
        entry = _block_of(context, wanted)
    block = read_block(context, entry)
    ids = [tx.txid for tx in block.transactions]
    found = sum(1 for txid in ids if txid in wanted)
    if found != len(wanted):
        raise not_found("Not all transactions found in specified or retrieved block")
    return MerkleProof.build(block.header.raw, ids, set(wanted)).serialize().hex()


def _block_of(context: RpcContext, txids: list[bytes]) -> BlockIndexEntry:
    """The block of a transaction: told by any of its unspent outputs, or by the index."""
    chain = context.chain
    for txid in txids:
        for n in range(MAX_OUTPUTS_PROBED):
            coin = chain.get_coin(OutPoint(txid + n.to_bytes(4, "little")))
            if coin is not None:
                return chain.index.active[coin_height(coin)]
    index = context.worker.indexes.find(TransactionIndex)
    if index is not None:
        context.worker.indexes.until_synced(index)
        found = index.find(txids[0])
        if found is not None:
            return found[1]
    raise not_found("Transaction not yet in block")


@rpc(
    "verifytxoutproof",
    "Blockchain",
    Arg("proof", Kind.HEX, help="what gettxoutproof gave"),
    help="The txids that a proof commits to; an empty list if it is not valid.",
)
def verifytxoutproof(context: RpcContext, proof: str) -> JSON:
    try:
        parsed = MerkleProof.parse(parse_hex(proof, "proof"))
    except DecodeError as error:
        raise undecodable(str(error)) from error
    root, matched = parsed.extract()
    if root is None or root != parsed.header[36:68]:
        return []
    entry = context.chain.index.get(parsed.block_hash)
    if entry is None or not context.chain.index.in_active(entry) or not entry.tx_count:
        raise not_found("Block not found in chain")
    if entry.tx_count != parsed.total:
        return []
    return [hash_to_hex(txid) for _, txid in matched]
