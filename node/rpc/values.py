"""Arguments out of JSON: hashes, scripts, transactions, amounts, each with Bitcoin Core's error for what is not one."""

from __future__ import annotations

from chain.index import BlockIndexEntry
from chain.primitives.errors import DecodeError
from chain.primitives.transaction import Transaction
from chain.primitives.types import BlockHash, Txid
from node.rpc import jsonio
from node.rpc.context import RpcContext
from node.rpc.errors import Text, invalid_parameter, misc, not_found, type_error, undecodable
from node.rpc.jsonio import JSON
from node.rpc.registry import integer


def parse_hash(value: JSON, name: str) -> bytes:
    """32 bytes, internal order, from display hex (Core's ParseHashV)."""
    if not isinstance(value, str):
        raise jsonio.wrong_type(value, "string")
    if len(value) != 64:
        raise invalid_parameter(f"{name} must be of length 64 (not {len(value)}, for '{value}')")
    if not is_hex(value):
        raise invalid_parameter(f"{name} must be hexadecimal string (not '{value}')")
    return bytes.fromhex(value)[::-1]


def parse_txid(value: JSON, name: str = "txid") -> Txid:
    return Txid(parse_hash(value, name))


def parse_block_hash(value: JSON, name: str = "blockhash") -> BlockHash:
    return BlockHash(parse_hash(value, name))


def is_hex(text: str) -> bool:
    """Even number of hexadecimal digits, at least two (Core's IsHex)."""
    if not text or len(text) % 2:
        return False
    try:
        return len(bytes.fromhex(text)) * 2 == len(text)
    except ValueError:
        return False


def parse_hex(value: JSON, name: str) -> bytes:
    """Core's ParseHexV."""
    if not isinstance(value, str):
        raise jsonio.wrong_type(value, "string")
    if value and not is_hex(value):
        raise invalid_parameter(f"{name} must be hexadecimal string (not '{value}')")
    return bytes.fromhex(value)


def decode_transaction(text: JSON, message: str = Text.TX_DECODE) -> Transaction:
    """A transaction in either encoding; deserialization error -22 with `message` otherwise."""
    if not isinstance(text, str):
        raise jsonio.wrong_type(text, "string")
    if not is_hex(text):
        raise undecodable(message)
    raw = bytes.fromhex(text)
    for allow_witness in (True, False):
        try:
            return Transaction.parse(raw, allow_witness=allow_witness)
        except DecodeError:
            continue
    raise undecodable(message)


def find_block(
    context: RpcContext, value: JSON, name: str = "blockhash", message: str = Text.BLOCK_NOT_FOUND
) -> BlockIndexEntry:
    """The header entry that display hex names; -5 with `message` when there is none."""
    entry = context.chain.index.get(parse_block_hash(value, name))
    if entry is None:
        raise not_found(message)
    return entry


def block_at(context: RpcContext, value: JSON) -> BlockIndexEntry:
    """An active block by height or by hash (Core's ParseHashOrHeight)."""
    index = context.chain.index
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise invalid_parameter(f"Target block height {value} is negative")
        if value > index.height:
            raise invalid_parameter(f"Target block height {value} after current tip {index.height}")
        return index.active[value]
    entry = find_block(context, value, "hash_or_height")
    return entry


def parse_timeout(value: int) -> float | None:
    """Milliseconds to seconds; 0 is no limit."""
    if value < 0:
        raise misc(Text.NEGATIVE_TIMEOUT)
    return value / 1000 if value else None


def parse_verbosity(value: JSON, *, default: int, allow_bool: bool = True) -> int:
    """Core's ParseVerbosity: a number, or a boolean that means 0 or 1."""
    if value is None:
        return default
    if isinstance(value, bool):
        if not allow_bool:
            raise type_error("Verbosity was boolean but only integer allowed")
        return int(value)
    return integer(value)
