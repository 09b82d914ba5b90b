"""The wallet's link to a node: JSON-RPC, blocks, mempool, sending. The only part of the wallet that uses the
network."""

from __future__ import annotations

from wallet.sync.broadcast import Refused, broadcast, rebroadcast, suggest_fee_rate, unsent
from wallet.sync.rpc import NodeAddress, NodeError, RpcClient, RpcError
from wallet.sync.synchronizer import Synchronizer, SyncReport

__all__ = [
    "NodeAddress",
    "NodeError",
    "Refused",
    "RpcClient",
    "RpcError",
    "SyncReport",
    "Synchronizer",
    "broadcast",
    "rebroadcast",
    "suggest_fee_rate",
    "unsent",
]
