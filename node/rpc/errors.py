"""JSON-RPC failures: Bitcoin Core's codes (src/rpc/protocol.h) and, in one table, the texts that clients compare letter
by letter."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """Bitcoin Core's RPCErrorCode."""

    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INTERNAL_ERROR = -32603
    PARSE_ERROR = -32700
    MISC_ERROR = -1
    TYPE_ERROR = -3
    INVALID_ADDRESS_OR_KEY = -5
    OUT_OF_MEMORY = -7
    INVALID_PARAMETER = -8
    DATABASE_ERROR = -20
    DESERIALIZATION_ERROR = -22
    VERIFY_ERROR = -25
    VERIFY_REJECTED = -26
    VERIFY_ALREADY_IN_UTXO_SET = -27
    IN_WARMUP = -28
    METHOD_DEPRECATED = -32
    CLIENT_NOT_CONNECTED = -9
    CLIENT_IN_INITIAL_DOWNLOAD = -10
    CLIENT_NODE_ALREADY_ADDED = -23
    CLIENT_NODE_NOT_ADDED = -24
    CLIENT_NODE_NOT_CONNECTED = -29
    CLIENT_INVALID_IP_OR_SUBNET = -30
    CLIENT_P2P_DISABLED = -31
    CLIENT_NODE_CAPACITY_REACHED = -34
    CLIENT_MEMPOOL_DISABLED = -33


class RpcError(Exception):
    """One failed call; `code` and `message` are sent to the client as they are."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def as_json(self) -> dict[str, Any]:
        return {"code": int(self.code), "message": self.message}


class Text:
    """Messages that more than one method answers with, or that other software matches on."""

    BLOCK_NOT_FOUND = "Block not found"
    BLOCK_PRUNED = "Block not available (pruned data)"
    BLOCK_NOT_DOWNLOADED = "Block not available (not fully downloaded)"
    BLOCK_NOT_ON_DISK = "Block not found on disk"
    UNDO_UNREADABLE = (
        "Undo data expected but can't be read. This could be due to disk corruption or a conflict with a pruning event."
    )
    HEIGHT_OUT_OF_RANGE = "Block height out of range"
    TX_DECODE = "TX decode failed. Make sure the tx has at least one input."
    BLOCK_DECODE = "Block decode failed"
    HEADER_DECODE = "Block header decode failed"
    NOT_IN_MEMPOOL = "Transaction not in mempool"
    INVALID_ADDRESS = "Invalid address"
    NOT_A_NUMBER_OR_STRING = "Amount is not a number or string"
    INVALID_AMOUNT = "Invalid amount"
    AMOUNT_RANGE = "Amount out of range"
    INTEGER_RANGE = "JSON integer out of range"
    GENESIS_TX = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved"
    NO_TX = "No such mempool or blockchain transaction. Use gettransaction for wallet transactions."
    NO_TX_NO_INDEX = (
        "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries."
        " Use gettransaction for wallet transactions."
    )
    NO_TX_STILL_INDEXING = (
        "No such mempool transaction. Blockchain transactions are still in the process of being indexed."
        " Use gettransaction for wallet transactions."
    )
    NO_TX_IN_BLOCK = "No such transaction found in the provided block. Use gettransaction for wallet transactions."
    BLOCK_HASH_NOT_FOUND = "Block hash not found"
    NEGATIVE_TIMEOUT = "Negative timeout"
    GENERATE_REPLACED = (
        "generate\n\nhas been replaced by the -generate cli option. Refer to -help for more information.\n"
    )
    SEGWIT_RULE = 'getblocktemplate must be called with the segwit rule set (call with {"rules": ["segwit"]})'
    PREVIOUS_HEADER = "Must submit previous header ({hash_hex}) first"


def misc(message: str) -> RpcError:
    return RpcError(Code.MISC_ERROR, message)


def invalid_parameter(message: str) -> RpcError:
    return RpcError(Code.INVALID_PARAMETER, message)


def not_found(message: str) -> RpcError:
    return RpcError(Code.INVALID_ADDRESS_OR_KEY, message)


def undecodable(message: str) -> RpcError:
    return RpcError(Code.DESERIALIZATION_ERROR, message)


def type_error(message: str) -> RpcError:
    return RpcError(Code.TYPE_ERROR, message)
