"""The selectors: each takes candidates by effective value and a target, and returns a set that reaches it, or None.

A coin's effective value is what it adds once its own input is paid for. Values here are satoshi; fees of inputs are
rounded up, so a set that reaches the target always pays the rate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wallet.coin_selection.types import Candidate

MAX_TRIES = 100_000  #: branch-and-bound steps before giving up (Core TOTAL_TRIES)
KNAPSACK_ROUNDS = 1_000


@dataclass(frozen=True, slots=True)
class Priced:
    """A candidate with its effective value and what spending it now, rather than later, wastes."""

    coin: Candidate
    effective: int
    waste: int


@dataclass(frozen=True, slots=True)
class Goal:
    """`exact` is what an answer without change must reach, up to `exact + tolerance`; `with_change` what one with
    change must reach."""

    exact: int
    tolerance: int
    with_change: int


Selector = Callable[[Sequence[Priced], Goal, random.Random], list[Priced] | None]


def branch_and_bound(pool: Sequence[Priced], goal: Goal, rng: random.Random) -> list[Priced] | None:
    """A set with no need of change: depth-first over the largest coins first, the least waste wins (Erhardt 2016)."""
    coins = sorted(pool, key=lambda c: (-c.effective, c.waste))
    remaining = sum(c.effective for c in coins)
    if remaining < goal.exact:
        return None
    upper = goal.exact + goal.tolerance
    best: list[int] | None = None
    best_waste = 0
    chosen: list[int] = []
    total = waste = 0
    waste_grows = all(c.waste >= 0 for c in coins)
    index = 0
    for _ in range(MAX_TRIES):
        hopeless = best is not None and waste_grows and waste > best_waste
        reached = goal.exact <= total <= upper
        if reached and (best is None or waste + total - goal.exact < best_waste):
            best, best_waste = list(chosen), waste + total - goal.exact
        if reached or hopeless or total > upper or total + remaining < goal.exact:
            if not chosen:
                break
            last = chosen.pop()
            for skipped in range(index - 1, last, -1):  # coins passed over since then are available again
                remaining += coins[skipped].effective
            total -= coins[last].effective
            waste -= coins[last].waste
            index = last + 1
            continue
        coin = coins[index]
        remaining -= coin.effective
        twin_skipped = (
            index > 0
            and (not chosen or chosen[-1] != index - 1)
            and coins[index - 1].effective == coin.effective
            and coins[index - 1].waste == coin.waste
        )
        if not twin_skipped:  # a coin like one just left out leads to a set already seen
            chosen.append(index)
            total += coin.effective
            waste += coin.waste
        index += 1
    return [coins[i] for i in best] if best is not None else None


def single_random_draw(pool: Sequence[Priced], goal: Goal, rng: random.Random) -> list[Priced] | None:
    """Coins in random order until there is enough: leaks little, and its change is of useful size."""
    coins = list(pool)
    rng.shuffle(coins)
    return _take_until(coins, goal.with_change)


def knapsack(pool: Sequence[Priced], goal: Goal, rng: random.Random) -> list[Priced] | None:
    """The smallest sum of small coins that is enough, by random passes; or the smallest single coin that is."""
    target = goal.with_change
    smaller = [c for c in pool if c.effective < target]
    larger = min((c for c in pool if c.effective >= target), key=lambda c: c.effective, default=None)
    total = sum(c.effective for c in smaller)
    if total < target:
        return [larger] if larger is not None else None
    smaller.sort(key=lambda c: -c.effective)
    best, best_total = list(smaller), total
    for _ in range(min(KNAPSACK_ROUNDS, 200_000 // max(len(smaller), 1) + 1)):
        if best_total == target:
            break
        included: set[int] = set()
        current = 0
        for passes in range(2):
            for i, coin in enumerate(smaller):
                if i in included or (passes == 0 and rng.random() < 0.5):
                    continue
                included.add(i)
                current += coin.effective
                if current >= target:
                    if current < best_total:
                        best, best_total = [smaller[j] for j in sorted(included)], current
                    included.discard(i)
                    current -= coin.effective
            if current >= target:
                break
    if larger is not None and larger.effective <= best_total:
        return [larger]
    return best


def largest_first(pool: Sequence[Priced], goal: Goal, rng: random.Random) -> list[Priced] | None:
    """The fewest inputs: cheapest when fees are high."""
    return _take_until(sorted(pool, key=lambda c: -c.effective), goal.with_change)


def largest_first_exact(pool: Sequence[Priced], goal: Goal, rng: random.Random) -> list[Priced] | None:
    """The last resort: enough for the payment though not for change."""
    return _take_until(sorted(pool, key=lambda c: -c.effective), goal.exact)


def _take_until(coins: Sequence[Priced], target: int) -> list[Priced] | None:
    taken: list[Priced] = []
    total = 0
    for coin in coins:
        if total >= target and taken:
            break
        taken.append(coin)
        total += coin.effective
    return taken if total >= target else None


#: tried in this order; the answer with the least waste wins, the earlier one on a tie.
SELECTORS: dict[str, Selector] = {
    "branch-and-bound": branch_and_bound,
    "knapsack": knapsack,
    "single-random-draw": single_random_draw,
    "largest-first": largest_first,
    "largest-first-exact": largest_first_exact,
}
