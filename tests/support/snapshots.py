"""A short chain with spends, a UTXO snapshot from the middle of it, and a network whose table has that snapshot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chain.chainstate import Chainstate
from chain.events import Event
from chain.params import AssumeUtxo, NetworkParams
from chain.primitives.block import Block
from chain.snapshot.dump import DumpResult
from chain.snapshot.format import read_metadata
from chain.utxo_stats import UtxoTotals
from tests.support.regtest import RegtestNode

BASE_HEIGHT = 112
TIP_HEIGHT = 124


@dataclass(frozen=True)
class History:
    """`blocks[h - 1]` has height h; `totals[h]` are the coins there."""

    params: NetworkParams  #: regtest with the snapshot in its table
    blocks: Sequence[Block]
    snapshot: bytes
    totals: dict[int, UtxoTotals]

    @property
    def base(self) -> Block:
        return self.blocks[BASE_HEIGHT - 1]

    def with_table(self, *lines: AssumeUtxo) -> NetworkParams:
        return replace(self.params, assumeutxo=lines)


def make_history(folder: Path) -> History:
    """Mine it in `folder`. From height 101 on every block spends coins, some with many outputs."""
    blocks: list[Block] = []
    totals: dict[int, UtxoTotals] = {}
    with RegtestNode(folder) as node:
        blocks += node.mine(100, empty=True)
        while node.chain.tip.height < TIP_HEIGHT:
            coins = node.mature()[:1]
            outputs = 300 if node.chain.tip.height == 103 else 3
            blocks.append(node.mine_transactions([node.transfer(coins, 1000, outputs=outputs)]))
            totals[node.chain.tip.height] = node.chain.utxo_stats()
        snapshot, result = dump(node.chain, BASE_HEIGHT)
    line = AssumeUtxo(BASE_HEIGHT, result.base.hash, result.digest, result.chain_tx_count)
    params = replace(node.params, assumeutxo=(line,))
    return History(params, blocks, snapshot, totals)


def dump(chain: Chainstate, height: int, scratch_dir: Path | None = None) -> tuple[bytes, DumpResult]:
    """The snapshot of the active chain's block at `height`."""
    file = io.BytesIO()
    steps = list(chain.dump_snapshot(chain.index.active[height], file, scratch_dir=scratch_dir))
    result = steps[-1]
    assert isinstance(result, DumpResult)
    return file.getvalue(), result


def load(chain: Chainstate, snapshot: bytes) -> list[Event]:
    """Load it to the end."""
    file = io.BytesIO(snapshot)
    for _ in chain.load_snapshot(file, read_metadata(file, chain.params)):
        pass
    return chain.drain_events()


def validate(chain: Chainstate) -> None:
    """Let the background chain go as far as it can."""
    while chain.background is not None and chain.background.can_advance:
        chain.advance_background()
