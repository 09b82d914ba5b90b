"""What RPC methods can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chain.chainstate import Chainstate
from chain.mempool.pool import Mempool
from chain.params import NetworkParams
from node.chain_service import ChainService
from node.chain_worker import ChainWorker
from node.clock import Clock
from node.config import NodeConfig
from node.log import NodeLog

if TYPE_CHECKING:
    from node.rpc.server import RpcServer
    from p2p.manager import PeerManager


@dataclass(slots=True)
class RpcContext:
    """The running node. `chain`, `mempool` and `worker` belong to the writer thread: only plain (not async) methods may
    use them."""

    config: NodeConfig
    params: NetworkParams
    clock: Clock
    chain_service: ChainService
    log: NodeLog
    server: RpcServer
    stop: Callable[[], None]
    mock_scheduler: Callable[[int], None]
    peers: PeerManager | None = None
    log_path: Path | None = None

    @property
    def worker(self) -> ChainWorker:
        return self.chain_service.worker

    @property
    def chain(self) -> Chainstate:
        return self.chain_service.worker.chain

    @property
    def mempool(self) -> Mempool:
        return self.chain_service.worker.mempool
