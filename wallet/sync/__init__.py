"""The wallet's link to a node: JSON-RPC, blocks, mempool. The only part of the wallet that uses the network."""

from __future__ import annotations

from wallet.sync.rpc import NodeAddress, NodeError, RpcClient, RpcError
from wallet.sync.synchronizer import Synchronizer, SyncReport

__all__ = ["NodeAddress", "NodeError", "RpcClient", "RpcError", "SyncReport", "Synchronizer"]
