"""Core's notation for scripts and flags, and the transactions its script tests are run in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chain.crypto.secp256k1 import xonly_tweak_add
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.serialize import Reader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, PackedCoin
from chain.script.flags import ScriptFlags
from chain.script.interpreter import tapleaf_hash, taptweak_hash
from chain.script.opcodes import Opcode
from chain.script.script import push_data, push_int

ALL_FLAGS = ~ScriptFlags.NONE

#: BIP341's point with unknown discrete logarithm: the internal key of an output that only scripts can spend.
NUMS_KEY = bytes.fromhex("50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0")

_NUMBERS = {"0", "1NEGATE", *map(str, range(1, 17))}
_WORDS = {op.name[3:]: bytes((op,)) for op in Opcode if op.name[3:] not in _NUMBERS}


def flags_from_names(names: str) -> ScriptFlags:
    """Flags as Core's test data write them: "P2SH,WITNESS"; "" and "NONE" are no flags. KeyError names an unknown
    flag."""
    flags = ScriptFlags.NONE
    for name in filter(None, names.split(",")):
        flags |= ScriptFlags[name]
    return flags


def assemble(text: str) -> bytes:
    """A script from the words of Core's test data: numbers, 0x raw bytes, 'text' to push, opcode names."""
    script = b""
    for word in text.split():
        if re.fullmatch(r"-?\d+", word):
            script += push_int(int(word))
        elif word.startswith("0x"):
            script += bytes.fromhex(word[2:])
        elif len(word) >= 2 and word[0] == word[-1] == "'":
            script += push_data(word[1:-1].encode())
        else:
            script += _WORDS[word.removeprefix("OP_")]
    return script


def fill_flags(flags: ScriptFlags) -> ScriptFlags:
    """Add what the flags imply: CLEANSTACK needs WITNESS, WITNESS needs P2SH."""
    if flags & ScriptFlags.CLEANSTACK:
        flags |= ScriptFlags.WITNESS
    if flags & ScriptFlags.WITNESS:
        flags |= ScriptFlags.P2SH
    return flags


def trim_flags(flags: ScriptFlags) -> ScriptFlags:
    """Remove what lacks its premise."""
    if not flags & ScriptFlags.P2SH:
        flags &= ~ScriptFlags.WITNESS
    if not flags & ScriptFlags.WITNESS:
        flags &= ~ScriptFlags.CLEANSTACK
    return flags


def single_flags(flags: ScriptFlags) -> list[ScriptFlags]:
    """The flags one by one."""
    return [flag for flag in ScriptFlags if flag & flags]


class ScriptCase(NamedTuple):
    """One line of script_tests.json, made into a transaction that spends one coin."""

    spend: Transaction
    coin: PackedCoin
    flags: ScriptFlags
    expected: str


def script_case(row: list[Any]) -> ScriptCase:
    """Build a line's credit and spend transaction as Core's test does."""
    witness: list[bytes] = []
    amount = 0
    script_sig, script_pubkey, flag_names, expected = row[1:5] if isinstance(row[0], list) else row[:4]
    if isinstance(row[0], list):
        *items, value = row[0]
        amount = round(value * 100_000_000)
        for item in items:
            if item.startswith("#SCRIPT#"):
                witness.append(assemble(item.removeprefix("#SCRIPT#")))
            elif item == "#CONTROLBLOCK#":
                output, parity = xonly_tweak_add(NUMS_KEY, taptweak_hash(NUMS_KEY, tapleaf_hash(witness[-1])))
                witness.append(bytes((0xC0 | parity,)) + NUMS_KEY)
                script_pubkey = script_pubkey.replace("#TAPROOTOUTPUT#", "0x" + output.hex())
            else:
                witness.append(bytes.fromhex(item))
    flags = fill_flags(flags_from_names(flag_names))
    spend, coin = spend_of(assemble(script_pubkey), assemble(script_sig), tuple(witness), amount)
    return ScriptCase(spend, coin, flags, expected)


def spend_of(
    script_pubkey: bytes, script_sig: bytes = b"", witness: tuple[bytes, ...] = (), amount: int = 0
) -> tuple[Transaction, PackedCoin]:
    """A transaction that spends a coin with this script, and the coin; as in Core's script tests."""
    credit = Transaction.build(1, [TxIn(NULL_OUTPOINT, b"\0\0")], [TxOut(Amount(amount), script_pubkey)])
    spend = Transaction.build(
        1, [TxIn(credit.outpoint(0), script_sig, 0xFFFFFFFF, witness)], [TxOut(Amount(amount), b"")]
    )
    return spend, pack_coin(amount, script_pubkey, 0, True)


def read_block_with_coins(folder: Path, name: str) -> tuple[Block, list[list[PackedCoin]]]:
    """A block and, for each of its transactions but the first, the coins it spends."""
    block = Block.parse((folder / f"{name}.raw").read_bytes())
    coins = iter(_coins((folder / f"{name}-prevouts.raw").read_bytes()))
    return block, [[next(coins) for _ in tx.prevouts] for tx in block.transactions[1:]]


def _coins(data: bytes) -> Iterator[PackedCoin]:
    reader = Reader(data)
    while reader.remaining:
        value = reader.i64()
        yield pack_coin(value, reader.var_bytes(), 0, False)
