"""The messages of the peer protocol, one file per message or tight family; `registry` is their table."""

from __future__ import annotations

from p2p.messages.addr import Addr, AddrV2
from p2p.messages.base import Message
from p2p.messages.block import BlockMessage
from p2p.messages.compact import BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct
from p2p.messages.feefilter import FeeFilter
from p2p.messages.filters import CFCheckpt, CFHeaders, CFilter, GetCFCheckpt, GetCFHeaders, GetCFilters
from p2p.messages.headers import Headers
from p2p.messages.inventory import GetData, Inv, InvMessage, NotFound
from p2p.messages.locators import GetBlocks, GetHeaders
from p2p.messages.ping import Ping, Pong
from p2p.messages.registry import KNOWN_COMMANDS, MESSAGES
from p2p.messages.signals import FilterClear, GetAddr, MemPool, SendAddrV2, SendHeaders, VerAck, WtxidRelay
from p2p.messages.tx import TxMessage
from p2p.messages.version import Version

__all__ = [
    "KNOWN_COMMANDS",
    "MESSAGES",
    "Addr",
    "AddrV2",
    "BlockMessage",
    "BlockTxn",
    "CFCheckpt",
    "CFHeaders",
    "CFilter",
    "CmpctBlock",
    "FeeFilter",
    "FilterClear",
    "GetAddr",
    "GetBlockTxn",
    "GetBlocks",
    "GetCFCheckpt",
    "GetCFHeaders",
    "GetCFilters",
    "GetData",
    "GetHeaders",
    "Headers",
    "Inv",
    "InvMessage",
    "MemPool",
    "Message",
    "NotFound",
    "Ping",
    "Pong",
    "SendAddrV2",
    "SendCmpct",
    "SendHeaders",
    "TxMessage",
    "VerAck",
    "Version",
    "WtxidRelay",
]
