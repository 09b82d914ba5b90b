"""What may be created, height by height and in all."""

from __future__ import annotations

from chain.consensus.subsidy import block_subsidy, total_subsidy
from chain.params import BITCOIN, NETWORKS, PICKAXE, REGTEST
from chain.primitives.amount import COIN, format_amount


def test_bitcoin_halvings() -> None:
    assert block_subsidy(0, BITCOIN) == 50 * COIN
    assert block_subsidy(209_999, BITCOIN) == 50 * COIN
    assert block_subsidy(210_000, BITCOIN) == 25 * COIN
    assert block_subsidy(840_000, BITCOIN) == 312_500_000
    assert block_subsidy(32 * 210_000, BITCOIN) == 1
    assert block_subsidy(33 * 210_000, BITCOIN) == 0
    assert block_subsidy(64 * 210_000, BITCOIN) == 0
    assert block_subsidy(1 << 40, BITCOIN) == 0


def test_pickaxe_halvings() -> None:
    assert block_subsidy(1, PICKAXE) == 10 * COIN
    assert block_subsidy(1_051_199, PICKAXE) == 10 * COIN
    assert block_subsidy(1_051_200, PICKAXE) == 5 * COIN
    assert block_subsidy(30 * 1_051_200, PICKAXE) == 0
    assert block_subsidy(150, REGTEST) == 25 * COIN


def test_totals() -> None:
    assert format_amount(total_subsidy(10**9, BITCOIN)) == "20999999.97690000"
    # 21,024,000 less what halving rounds away
    assert format_amount(total_subsidy(10**9, PICKAXE)) == "21023999.86334400"
    assert total_subsidy(10**9, PICKAXE) == 1_051_200 * sum(10**9 // 2**halving for halving in range(64))
    assert 21_024_000 * COIN - total_subsidy(10**9, PICKAXE) < COIN
    for params in NETWORKS.values():
        for height in (0, 1, 149, 150, 151, 1000):
            assert total_subsidy(height, params) == sum(block_subsidy(h, params) for h in range(height + 1))
