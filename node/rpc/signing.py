"""RPC: signing with keys that the caller gives. The node keeps none; wallets sign for themselves."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from chain.crypto.hashes import hash160, sha256
from chain.crypto.secp256k1 import pubkey_from_secret, sign_ecdsa, sign_schnorr, verify_ecdsa, xonly_from_secret
from chain.mempool.policy import push_values
from chain.primitives.coin import coin_script, coin_value, pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.transaction import Transaction, TxIn
from chain.primitives.types import OutPoint, PackedCoin, hash_to_hex
from chain.script.addresses import decode_wif
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import STANDARD_FLAGS
from chain.script.script import disassemble, push_data
from chain.script.sighash import TxData, legacy_sighash, segwit_v0_sighash, taproot_sighash
from chain.script.standard import ScriptType, classify, p2pkh, p2sh, p2wsh
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, not_found, type_error, undecodable
from node.rpc.jsonio import JSON, parse_money, wrong_type
from node.rpc.rawtransactions import decode_guess
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import parse_hex, parse_txid
from wallet.descriptors import taproot_output_key
from wallet.signer import taproot_secret

_HASH_TYPES = {
    "DEFAULT": 0,
    "ALL": 1,
    "NONE": 2,
    "SINGLE": 3,
    "ALL|ANYONECANPAY": 0x81,
    "NONE|ANYONECANPAY": 0x82,
    "SINGLE|ANYONECANPAY": 0x83,
}


@dataclass(slots=True)
class Keyring:
    """Secrets by public key, by its hash and by taproot output key; scripts by their hashes."""

    by_pubkey: dict[bytes, bytes] = field(default_factory=dict)
    by_hash: dict[bytes, bytes] = field(default_factory=dict)  #: hash160 to public key
    by_output_key: dict[bytes, bytes] = field(default_factory=dict)  #: x-only output key to tweaked secret
    scripts: dict[bytes, bytes] = field(default_factory=dict)
    signatures: dict[int, list[bytes]] = field(default_factory=dict)  #: made by others, by input

    def learn(self, index: int, item: TxIn) -> None:
        """Take in what an input already carries: scripts, public keys and signatures of other signers."""
        for element in (*(push_values(item.script_sig) or ()), *item.witness):
            self.add_script(element)
            if len(element) in (33, 65):
                self.by_hash.setdefault(hash160(element), element)
            if 9 <= len(element) <= 73 and element[0] == 0x30:
                self.signatures.setdefault(index, []).append(element)

    def add_secret(self, secret: bytes, compressed: bool) -> None:
        pubkey = pubkey_from_secret(secret, compressed)
        self.by_pubkey[pubkey] = secret
        self.by_hash[hash160(pubkey)] = pubkey
        if compressed:
            self.by_output_key[taproot_output_key(xonly_from_secret(secret))] = taproot_secret(secret)

    def add_script(self, script: bytes) -> None:
        self.scripts[hash160(script)] = script
        self.scripts[sha256(script)] = script


@rpc(
    "signrawtransactionwithkey",
    "Rawtransactions",
    Arg("hexstring", Kind.STR, help="the transaction"),
    Arg("privkeys", Kind.ARR, help="private keys (WIF)"),
    Arg(
        "prevtxs", Kind.ARR, None, help='[{"txid", "vout", "scriptPubKey", "redeemScript", "witnessScript", "amount"}]'
    ),
    Arg("sighashtype", Kind.STR, "DEFAULT", help="DEFAULT, ALL, NONE, SINGLE, each also with |ANYONECANPAY"),
    help="Sign a transaction's inputs with the keys given.",
)
def signrawtransactionwithkey(
    context: RpcContext, hexstring: str, privkeys: list[JSON], prevtxs: list[JSON] | None, sighashtype: str
) -> JSON:
    message = "TX decode failed. Make sure the tx has at least one input."
    tx = decode_guess(hexstring, None, message)
    keyring = Keyring()
    for text in privkeys:
        if not isinstance(text, str):
            raise wrong_type(text, "string")
        try:
            keyring.add_secret(*decode_wif(text, context.params.addresses))
        except (DecodeError, ValueError):
            raise not_found("Invalid private key") from None
    if sighashtype not in _HASH_TYPES:
        raise invalid_parameter(f"'{sighashtype}' is not a valid sighash parameter.")
    coins: dict[bytes, PackedCoin] = {}
    for outpoint in tx.prevouts:
        coin = context.mempool.get_coin(outpoint)
        if coin is not None:
            coins[outpoint] = coin
    for item in prevtxs or []:
        _take_prevtx(item, coins, keyring)
    for index, item in enumerate(tx.inputs):
        keyring.learn(index, item)
    return sign_transaction(tx, coins, keyring, _HASH_TYPES[sighashtype])


@rpc(
    "combinerawtransaction",
    "Rawtransactions",
    Arg("txs", Kind.ARR, help="transactions in hex that differ in their signatures"),
    help="Join the signatures of several copies of one transaction.",
)
def combinerawtransaction(context: RpcContext, txs: list[JSON]) -> JSON:
    if not txs:
        raise undecodable("Missing transactions")
    keyring = Keyring()
    first: Transaction | None = None
    for position, text in enumerate(txs):
        message = f"TX decode failed for tx {position}. Make sure the tx has at least one input."
        tx = decode_guess(str(text), None, message)
        first = first or tx
        for index, item in enumerate(tx.inputs):
            keyring.learn(index, item)
    if first is None:
        raise undecodable("Missing transactions")
    coins: dict[bytes, PackedCoin] = {}
    for outpoint in first.prevouts:
        coin = context.mempool.get_coin(outpoint)
        if coin is None:
            raise RpcError(Code.VERIFY_ERROR, "Input not found or already spent")
        coins[outpoint] = coin
    return sign_transaction(first, coins, keyring, 1)["hex"]


def _take_prevtx(item: JSON, coins: dict[bytes, PackedCoin], keyring: Keyring) -> None:
    if not isinstance(item, dict):
        raise undecodable('expected object with {"txid\'","vout","scriptPubKey"}')
    for name in ("txid", "scriptPubKey"):
        if not isinstance(item.get(name), str):
            raise type_error(f"Missing {name}") if item.get(name) is None else wrong_type(item[name], "string")
    vout = item.get("vout")
    if isinstance(vout, bool) or not isinstance(vout, int):
        raise type_error("Missing vout") if vout is None else wrong_type(vout, "number")
    if vout < 0:
        raise undecodable("vout cannot be negative")
    outpoint = OutPoint(parse_txid(item["txid"]) + vout.to_bytes(4, "little"))
    script = parse_hex(item["scriptPubKey"], "scriptPubKey")
    known = coins.get(outpoint)
    if known is not None and coin_script(known) != script:
        raise undecodable(
            f"Previous output scriptPubKey mismatch:\n{disassemble(coin_script(known))}\nvs:\n{disassemble(script)}"
        )
    amount = parse_money(item["amount"]) if item.get("amount") is not None else None
    if amount is None:
        amount = coin_value(known) if known is not None else 2_100_000_000_000_000
    coins[outpoint] = pack_coin(amount, script, 1, False)
    kind, _ = classify(script)
    if kind in (ScriptType.SCRIPTHASH, ScriptType.WITNESS_V0_SCRIPTHASH):
        _take_scripts(item, script, keyring)


def _take_scripts(item: dict[str, JSON], script: bytes, keyring: Keyring) -> None:
    """The scripts that a P2SH or P2WSH output commits to; either field may carry either, as Core allows."""
    redeem_hex, witness_hex = item.get("redeemScript"), item.get("witnessScript")
    if redeem_hex is None and witness_hex is None:
        raise invalid_parameter("Missing redeemScript/witnessScript")
    if witness_hex is not None:
        inner = parse_hex(witness_hex, "witnessScript")
    else:
        inner = parse_hex(redeem_hex, "redeemScript")
    wrapped = p2wsh(sha256(inner))
    keyring.add_script(inner)
    keyring.add_script(wrapped)
    both = redeem_hex is not None and witness_hex not in (None, redeem_hex)
    if both and parse_hex(redeem_hex, "redeemScript") != wrapped:
        raise invalid_parameter("redeemScript does not correspond to witnessScript")
    if script not in (p2sh(hash160(inner)), p2sh(hash160(wrapped)), wrapped):
        raise invalid_parameter("redeemScript/witnessScript does not match scriptPubKey")


def sign_transaction(tx: Transaction, coins: dict[bytes, PackedCoin], keyring: Keyring, hash_type: int) -> JSON:
    """Core's SignTransaction: sign what can be signed, then check every input. {"hex", "complete", "errors"}."""
    spent = [coins.get(outpoint) for outpoint in tx.prevouts]
    known = [coin for coin in spent if coin is not None]
    txdata = TxData(tx, known if len(known) == len(spent) else None)
    inputs = []
    for index, (item, coin) in enumerate(zip(tx.inputs, spent, strict=True)):
        if coin is None:
            inputs.append(item)
            continue
        produced = _Signer(txdata, index, coin, keyring, hash_type).sign()
        inputs.append(item if produced is None else TxIn(item.prevout, produced[0], item.sequence, tuple(produced[1])))
    signed = Transaction.build(tx.version, inputs, tx.outputs, tx.locktime)
    checked = TxData(signed, known if len(known) == len(spent) else None)
    errors = []
    for index, (item, coin) in enumerate(zip(signed.inputs, spent, strict=True)):
        problem = _problem(signed, index, coin, checked)
        if problem is not None:
            errors.append(
                {
                    "txid": hash_to_hex(item.prevout[:32]),
                    "vout": int.from_bytes(item.prevout[32:], "little"),
                    "witness": [element.hex() for element in item.witness],
                    "scriptSig": item.script_sig.hex(),
                    "sequence": item.sequence,
                    "error": problem,
                }
            )
    out: dict[str, JSON] = {"hex": signed.raw.hex(), "complete": not errors}
    if errors:
        out["errors"] = errors
    return out


def _problem(tx: Transaction, index: int, coin: PackedCoin | None, txdata: TxData) -> str | None:
    if coin is None:
        return "Input not found or already spent"
    error = verify_input(tx, index, coin, STANDARD_FLAGS, txdata)
    if error is ScriptError.OK:
        return None
    if error is ScriptError.INVALID_STACK_OPERATION:
        return "Unable to sign input, invalid stack size (possibly missing key)"
    if error is ScriptError.NULLFAIL:
        return "CHECK(MULTI)SIG failing with non-zero signature (possibly need more signatures)"
    return error.message


class _Signer:
    """Signs one input. None from `sign` where its script is of no kind that can be signed here."""

    def __init__(self, txdata: TxData, index: int, coin: PackedCoin, keyring: Keyring, hash_type: int) -> None:
        self.txdata = txdata
        self.index = index
        self.value = coin_value(coin)
        self.script = coin_script(coin)
        self.keyring = keyring
        self.hash_type = hash_type

    def sign(self) -> tuple[bytes, list[bytes]] | None:
        kind, data = classify(self.script)
        if kind is ScriptType.WITNESS_V1_TAPROOT:
            return self._taproot(data[0])
        script, tail = self.script, b""
        if kind is ScriptType.SCRIPTHASH:
            redeem = self.keyring.scripts.get(data[0])
            if redeem is None:
                redeem = self._nested_key_script(data[0])
            if redeem is None:
                return None
            script, tail = redeem, push_data(redeem)
            kind, data = classify(script)
        if kind is ScriptType.WITNESS_V0_KEYHASH:
            stack = self._stack(ScriptType.PUBKEYHASH, data, p2pkh(data[0]), segwit=True)
            return None if stack is None else (tail, stack)
        if kind is ScriptType.WITNESS_V0_SCRIPTHASH:
            inner = self.keyring.scripts.get(data[0])
            if inner is None:
                return None
            stack = self._stack(*classify(inner), inner, segwit=True)
            return None if stack is None else (tail, [*stack, inner])
        stack = self._stack(kind, data, script, segwit=False)
        if stack is None:
            return None
        return b"".join(push_data(item) if item else b"\x00" for item in stack) + tail, []

    def _nested_key_script(self, script_hash: bytes) -> bytes | None:
        """P2SH-P2WPKH of a key that we have needs no redeem script from the caller."""
        for key_hash in self.keyring.by_hash:
            candidate = b"\x00\x14" + key_hash
            if hash160(candidate) == script_hash:
                return candidate
        return None

    def _stack(self, kind: ScriptType, data: list[bytes], code: bytes, *, segwit: bool) -> list[bytes] | None:
        if kind is ScriptType.PUBKEY:
            signature = self._ecdsa(data[0], code, segwit)
            return None if signature is None else [signature]
        if kind is ScriptType.PUBKEYHASH:
            pubkey = self.keyring.by_hash.get(data[0])
            signature = self._ecdsa(pubkey, code, segwit) if pubkey is not None else None
            return None if signature is None or pubkey is None else [signature, pubkey]
        if kind is ScriptType.MULTISIG:
            threshold = data[0][0]
            made = [self._ecdsa(pubkey, code, segwit) for pubkey in data[1:-1]]
            signatures = [signature for signature in made if signature is not None][:threshold]
            return [b"", *signatures, *[b""] * (threshold - len(signatures))] if signatures else None
        return None

    def _ecdsa(self, pubkey: bytes, code: bytes, segwit: bool) -> bytes | None:
        secret = self.keyring.by_pubkey.get(pubkey)
        if secret is None:
            made = self.keyring.signatures.get(self.index, ())
            return next((s for s in made if verify_ecdsa(pubkey, s[:-1], self._digest(code, s[-1], segwit))), None)
        hash_type = self.hash_type or 1
        return sign_ecdsa(secret, self._digest(code, hash_type, segwit)) + bytes([hash_type])

    def _digest(self, code: bytes, hash_type: int, segwit: bool) -> bytes:
        if segwit:
            return segwit_v0_sighash(self.txdata, self.index, code, self.value, hash_type)
        return legacy_sighash(self.txdata, self.index, code, hash_type)

    def _taproot(self, output_key: bytes) -> tuple[bytes, list[bytes]] | None:
        secret = self.keyring.by_output_key.get(output_key)
        if secret is None or self.txdata.spent is None:
            return None
        digest = taproot_sighash(self.txdata, self.index, self.hash_type)
        if digest is None:
            raise RpcError(Code.VERIFY_ERROR, "Unable to sign input, no matching output for SIGHASH_SINGLE")
        signature = sign_schnorr(secret, digest, secrets.token_bytes(32))
        return b"", [signature + (bytes([self.hash_type]) if self.hash_type else b"")]
