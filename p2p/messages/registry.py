"""The one table of messages that we understand; every other name is ignored, as Core does."""

from __future__ import annotations

from p2p.messages.addr import Addr, AddrV2
from p2p.messages.base import Message
from p2p.messages.block import BlockMessage
from p2p.messages.compact import BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct
from p2p.messages.feefilter import FeeFilter
from p2p.messages.filters import GetCFCheckpt, GetCFHeaders, GetCFilters
from p2p.messages.headers import Headers
from p2p.messages.inventory import GetData, InvMessage, NotFound
from p2p.messages.locators import GetBlocks, GetHeaders
from p2p.messages.ping import Ping, Pong
from p2p.messages.signals import FilterClear, GetAddr, MemPool, SendAddrV2, SendHeaders, VerAck, WtxidRelay
from p2p.messages.tx import TxMessage
from p2p.messages.version import Version

MESSAGES: dict[str, type[Message]] = {
    message.command: message
    for message in (
        Version,
        VerAck,
        WtxidRelay,
        SendAddrV2,
        Ping,
        Pong,
        GetAddr,
        Addr,
        AddrV2,
        InvMessage,
        GetData,
        NotFound,
        GetHeaders,
        GetBlocks,
        Headers,
        SendHeaders,
        BlockMessage,
        TxMessage,
        MemPool,
        FeeFilter,
        SendCmpct,
        CmpctBlock,
        GetBlockTxn,
        BlockTxn,
        FilterClear,
        GetCFilters,
        GetCFHeaders,
        GetCFCheckpt,
    )
}

#: names that Core knows: bytes received under any other are counted together in getpeerinfo (``*other*``), so that
#: peers cannot grow our tables
KNOWN_COMMANDS = frozenset(MESSAGES) | {
    "merkleblock",
    "filterload",
    "filteradd",
    "cfilter",
    "cfheaders",
    "cfcheckpt",
    "sendtxrcncl",
}

OTHER = "*other*"

#: list messages begin with their count: when one is too long to buffer, the count alone says by how much
COUNTED_LIMITS: dict[str, type[Message]] = {
    m.command: m for m in (InvMessage, GetData, NotFound, Addr, AddrV2, Headers)
}


def max_size(command: str) -> int | None:
    """The longest payload of a message, or None for one that we do not understand (and never buffer)."""
    message = MESSAGES.get(command)
    return None if message is None else message.max_size
