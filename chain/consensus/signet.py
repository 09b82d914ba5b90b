"""Signet block solutions (BIP325): a block counts only with a script solution to the network's challenge, carried in
the witness commitment's output.
"""

from __future__ import annotations

from chain.consensus.constants import MIN_WITNESS_COMMITMENT_SIZE, WITNESS_COMMITMENT_HEADER
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import Reader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, make_outpoint
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import ScriptFlags
from chain.script.script import TruncatedScript, iterate, push_data
from chain.script.sighash import TxData

SIGNET_HEADER = bytes.fromhex("ecc7daa2")  #: begins the push that holds the solution
SIGNET_FLAGS = ScriptFlags.P2SH | ScriptFlags.WITNESS | ScriptFlags.DERSIG | ScriptFlags.NULLDUMMY

_OP_0 = b"\x00"
_OP_RETURN = b"\x6a"


def _split_solution(script: bytes) -> tuple[bytes, bytes]:
    """The output's script with the solution cut out of its push, and the solution (empty where there is none)."""
    replacement = bytearray()
    solution: bytes | None = None
    try:
        for opcode, data in iterate(script):
            if not data:
                replacement.append(opcode)
                continue
            if solution is None and len(data) > len(SIGNET_HEADER) and data.startswith(SIGNET_HEADER):
                solution = data[len(SIGNET_HEADER) :]
                data = SIGNET_HEADER
            replacement += push_data(data)
    except TruncatedScript:
        pass  # Core stops at the first operation that it cannot read
    return (script, b"") if solution is None else (bytes(replacement), solution)


def signet_transactions(block: Block, challenge: bytes) -> tuple[Transaction, Transaction] | None:
    """BIP325's two virtual transactions: the one to spend, which commits to the block without its solution, and the one
    that spends it.

    None where the block has no witness commitment or its solution cannot be read. What a signer of blocks signs is the
    second.
    """
    if not block.transactions:
        return None
    coinbase = block.transactions[0]
    index = None
    for i, script in enumerate(coinbase.scripts):
        if script[:6] == WITNESS_COMMITMENT_HEADER and len(script) >= MIN_WITNESS_COMMITMENT_SIZE:
            index = i
    if index is None:
        return None
    script, solution = _split_solution(coinbase.scripts[index])
    script_sig, witness = b"", []
    if solution:
        try:
            reader = Reader(solution)
            script_sig = reader.var_bytes()
            witness = [reader.var_bytes() for _ in range(reader.compact_size())]
            reader.finish()
        except DecodeError:
            return None
    outputs = list(coinbase.outputs)
    outputs[index] = TxOut(outputs[index].value, script)
    modified = Transaction.build(coinbase.version, coinbase.inputs, outputs, coinbase.locktime)
    root = merkle_root([modified.txid, *[tx.txid for tx in block.transactions[1:]]])[0]
    raw = block.header.raw
    commitment = raw[:36] + root + raw[68:72]  # version, previous hash, modified root, time
    to_spend = Transaction.build(
        0, [TxIn(NULL_OUTPOINT, _OP_0 + push_data(commitment), 0)], [TxOut(Amount(0), challenge)], 0
    )
    to_sign = Transaction.build(
        0, [TxIn(make_outpoint(to_spend.txid, 0), script_sig, 0, tuple(witness))], [TxOut(Amount(0), _OP_RETURN)], 0
    )
    return to_spend, to_sign


def check_signet_solution(block: Block, params: NetworkParams) -> bool:
    """Whether the block solves the network's challenge. Genesis does by definition."""
    challenge = params.signet_challenge
    if challenge is None or block.hash == params.genesis_hash:
        return True
    pair = signet_transactions(block, challenge)
    if pair is None:
        return False
    coin = pack_coin(0, challenge, 0, False)
    return verify_input(pair[1], 0, coin, SIGNET_FLAGS, TxData(pair[1], [coin])) is ScriptError.OK
