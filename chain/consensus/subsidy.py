"""What a block may create."""

from __future__ import annotations

from chain.params import NetworkParams
from chain.primitives.types import Amount


def block_subsidy(height: int, params: NetworkParams) -> Amount:
    """New coins, in satoshi, that the block at `height` may claim beside its fees. Halves by a right shift; 0 from the
    64th halving on.
    """
    halvings = height // params.subsidy_halving_interval
    return Amount(params.initial_subsidy >> halvings if halvings < 64 else 0)


def total_subsidy(height: int, params: NetworkParams) -> Amount:
    """All that the blocks 0 to `height` may create, the genesis block's own unspendable subsidy included."""
    total = 0
    start = 0
    while start <= height:
        subsidy = block_subsidy(start, params)
        if not subsidy:
            break
        end = min(start + params.subsidy_halving_interval, height + 1)
        total += subsidy * (end - start)
        start = end
    return Amount(total)
